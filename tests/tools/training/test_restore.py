import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from tools.training.bank import SIDE_PX
from tools.training.restore import (
    Restorer,
    Settings,
    begin_from,
    load_teachers,
    luma_of,
    open_banks,
    save_checkpoint,
    save_weights,
    train,
)

SMALL = Settings(features=8, convolutions=1, fold=2, batch=2, patch_px=24)


@pytest.fixture
def banks(tmp_path):
    crops = np.random.default_rng(0).integers(0, 256, (2, SIDE_PX, SIDE_PX, 3), np.uint8)
    np.save(tmp_path / "generated-natural.npy", crops)
    return open_banks([tmp_path / "generated-natural.npy"])


@pytest.mark.parametrize("fold", [1, 2])
def test_the_heads_give_their_sizes_whatever_is_folded(fold, random_image):
    results = Restorer(8, 1, fold)(random_image(1, 3, 12, 16))
    assert {scale: tuple(result.shape[2:]) for scale, result in results.items()} == {1: (12, 16), 2: (24, 32), 4: (48, 64)}


def test_a_run_begins_from_a_checkpoint_where_it_was_written(tmp_path, banks):
    state, checkpoint = tmp_path / "state.pt", tmp_path / "half.safetensors"
    train(SMALL, banks, state, 2, scales=(1,), every=1)
    save_checkpoint(state, checkpoint)
    record = json.loads(checkpoint.with_suffix(".json").read_text())
    assert record["steps"] == 2 and record["settings"] == asdict(SMALL) and len(record["loss_curve"]) == 2
    begin_from(checkpoint, tmp_path / "new.pt", SMALL)
    old, new = (torch.load(path, weights_only=True) for path in (state, tmp_path / "new.pt"))
    for name, value in old["averaged"].items():
        assert torch.allclose(new["network"][name], value, atol=2e-3)
    _, told = train(SMALL, banks, tmp_path / "new.pt", 3, scales=(1,), every=1)
    assert told["steps"] == 3 and [step for step, _ in told["loss_curve"]] == [1, 2, 3]


def test_a_checkpoint_of_another_network_is_refused(tmp_path, banks):
    train(SMALL, banks, tmp_path / "state.pt", 1, scales=(1,), every=1)
    save_checkpoint(tmp_path / "state.pt", tmp_path / "half.safetensors")
    with pytest.raises(SystemExit, match="other settings"):
        begin_from(tmp_path / "half.safetensors", tmp_path / "new.pt", Settings())


def test_teachers_restore_by_their_mean_over_four_views(tmp_path, random_image):
    paths = []
    for name, fold in (("a", 1), ("b", 2)):
        torch.manual_seed(fold)
        network = Restorer(8, 1, fold)
        with torch.no_grad():
            for parameter in network.heads.parameters():
                parameter.normal_(std=0.1)
        save_weights(network, {"settings": asdict(replace(SMALL, fold=fold))}, tmp_path / name, (1,))
        paths.append(tmp_path / f"{name}-x1.safetensors")
    teachers, image = load_teachers(paths), random_image(2, 3, 12, 16)
    whole = [
        back(network(there(image).contiguous(), (1,))[1])
        for network in teachers.networks
        for there, back in (
            (lambda one: one, lambda one: one),
            (lambda one: one.mT, lambda one: one.mT),
            (lambda one: one.flip(2, 3), lambda one: one.flip(2, 3)),
            (lambda one: one.flip(2, 3).mT, lambda one: one.mT.flip(2, 3)),
        )
    ]
    first, second = (torch.stack(whole[start : start + 4]).mean(dim=0) for start in (0, 4))
    expected = first + luma_of((second - first) / 2)  # the second network counts in luma alone
    assert torch.allclose(teachers.restore(image), expected, atol=1e-5)


def test_a_run_begins_from_x1_weights_and_learns_from_teachers(tmp_path, banks):
    network, record = train(SMALL, banks, tmp_path / "state.pt", 1, scales=(1,), every=1)
    save_weights(network, record, tmp_path / "first", (1,))
    weights = tmp_path / "first-x1.safetensors"
    begin_from(weights, tmp_path / "new.pt", replace(SMALL, learning_rate=1e-3))
    begun = torch.load(tmp_path / "new.pt", weights_only=True)["network"]
    for name, value in network.weights_at(1).items():
        head = name.removeprefix(f"body.{len(network.body)}.")
        assert torch.allclose(begun[f"heads.1.{head}" if head in ("weight", "bias") else name], value, atol=2e-3)
    settings = replace(SMALL, learning_rate=1e-3)
    losses = {
        with_teachers: train(
            settings,
            banks,
            tmp_path / "new.pt",
            2,
            anneal=1,
            scales=(1,),
            teachers=load_teachers([weights]) if with_teachers else None,
        )[1]["loss_curve"][-1][1]
        for with_teachers in (False, True)
    }
    assert losses[True] < losses[False]  # a network is near to itself, and far from the truth of noise
