"""Blocks put together give what whole images would, and never hold one in between."""

import math

import pytest
import torch

from fidelity.imaging.resample import resize
from fidelity.imaging.rows import FileRows, TensorRows, read_all
from fidelity.steps import chain
from fidelity.steps.chain import Between, Chain, plan_stretches
from fidelity.steps.cleanup import clean

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("length", "target", "scale", "block", "context", "expected"),
    [
        (10, 40, 4, 40, 2, [((0, 10), (0, 40), (0, 40))]),
        (10, 40, 4, 20, 2, [((0, 7), (0, 20), (0, 20)), ((3, 10), (8, 28), (20, 40))]),
        (10, 40, 4, 15, 1, [((0, 5), (0, 13), (0, 13)), ((2, 8), (5, 18), (13, 26)), ((5, 10), (6, 20), (26, 40))]),
    ],
)
def test_blocks_without_a_resize_are_cut_as_written(length, target, scale, block, context, expected):
    planned = plan_stretches(length, target, scale, block, context)
    assert [(one.window, one.drawn, one.target.core) for one in planned] == expected
    assert all(one.weights is None for one in planned)


@pytest.mark.parametrize("target", [37, 130, 190, 401])
@pytest.mark.parametrize(("block", "fade"), [(64, 0), (50, 9), (1000, 3)])
def test_blocks_cover_the_target_and_hold_what_their_resize_reads(target, block, fade):
    length, scale = 50, 4
    covered = torch.zeros(target)
    for one in plan_stretches(length, target, scale, block, 3, fade, multiple=2):
        weight = chain.fade_weights(one.target, 1)
        start, stop = one.target.core
        covered[start:stop] += 1 if weight is None else weight
        assert one.window[0] % 2 == 0
        assert 0 <= one.drawn[0] < one.drawn[1] <= (one.window[1] - one.window[0]) * scale
        assert one.weights.input_length == one.drawn[1] - one.drawn[0]
        assert one.weights.output_length == stop - start
        assert int(one.weights.first.min()) >= 0
    assert torch.allclose(covered, torch.ones(target))


@pytest.mark.parametrize("kind", ["image", "luma"])
@pytest.mark.parametrize("between", [None, Between("bilateral", 5.0)])
@pytest.mark.parametrize("target", [(148, 176), (131, 190), (60, 45), (190, 176)])
def test_blocks_give_what_the_whole_gives(compact, random_image, monkeypatch, kind, between, target):
    image = random_image(2, 1 if kind == "luma" else 3, 37, 44)
    models = [compact(2), compact(2)]
    first, _ = Chain(models[:1], (74, 88), kind, CPU).run(image)
    second, _ = Chain(models[:1], (148, 176), kind, CPU).run(
        clean(first, between.method, noise_sigma=5.0) if between else first
    )
    whole = resize(second, target).clamp(0, 1)
    monkeypatch.setattr(chain, "BLOCK_BYTES", 4 * 2 * image.shape[1] * 80 * 80)
    result, passes = Chain(models, target, kind, CPU, between=between).run(image)
    assert result.shape == (2, image.shape[1], *target)
    assert (result - whole).abs().max() < 1 / 1024
    kinds = ["network", *(["clean"] if between else []), "network", *(["resize"] if target != (148, 176) else [])]
    assert [step.kind for step in passes] == kinds
    assert all(step.seamless for step in passes)


def test_networks_that_look_everywhere_are_blended_without_a_seam(faulty, random_image, monkeypatch):
    model = faulty(spoil=lambda image, result: (result + image.mean() - 0.5).clamp(0, 1))
    ramp = torch.linspace(0.2, 0.8, 200).expand(1, 3, 90, 200)
    monkeypatch.setattr(chain, "BLOCK_BYTES", 4 * 3 * 150 * 150)
    result, passes = Chain([model], (270, 600), "image", CPU).run(ramp)
    cuts = plan_stretches(200, 600, 2, 225, 16, 48)
    assert len(cuts) > 2
    assert not passes[0].seamless
    assert result.diff(dim=3).abs().max() < 0.02  # blocks lie up to 0.2 apart in level, which a hard cut would show


def test_no_image_in_between_is_ever_whole(faulty, random_image, monkeypatch):
    monkeypatch.setattr(chain, "BLOCK_BYTES", 4 * 3 * 64 * 64)
    sizes = {}
    for side in (32, 64, 128):
        model = faulty()
        Chain([model, model], (side * 3, side * 3), "image", CPU).run(random_image(1, 3, side, side))
        sizes[side] = max(math.prod(shape[2:]) for shape, _ in model.descriptor.model.calls)
    assert sizes[128] == sizes[64] < 64 * 64 < (2 * 64) ** 2
    assert sizes[32] <= sizes[64]


def test_progress_counts_up_to_all_of_it(compact, random_image, monkeypatch):
    monkeypatch.setattr(chain, "BLOCK_BYTES", 4 * 3 * 64 * 64)
    seen = []
    Chain([compact(), compact()], (150, 150), "image", CPU).run(
        random_image(1, 3, 40, 40), progress=lambda done, total: seen.append(done / total)
    )
    assert seen == sorted(seen)
    assert len(seen) > 8
    assert seen[-1] == 1


@pytest.mark.parametrize("kind", ["image", "luma"])
@pytest.mark.parametrize("between", [None, Between("bilateral", 5.0)])
@pytest.mark.parametrize("target", [(148, 176), (131, 190), (60, 45)])
def test_strips_give_what_the_whole_gives(compact, random_image, monkeypatch, kind, between, target):
    image = random_image(1, 1 if kind == "luma" else 3, 37, 44)
    models = [compact(2), compact(2)]
    whole, _ = Chain(models, target, kind, CPU, between=between).run(image)
    monkeypatch.setattr(chain, "BLOCK_BYTES", 4 * image.shape[1] * 176 * 70)
    sink = FileRows((1, image.shape[1], *target))
    passes = Chain(models, target, kind, CPU, between=between).run_rows(TensorRows(image), sink)
    assert (read_all(sink) - whole).abs().max() < 1 / 1024
    assert all(step.seamless for step in passes)
    assert [step.kind for step in passes][:1] == ["network"]


def test_strips_of_networks_that_look_everywhere_are_blended_too(faulty, monkeypatch):
    model = faulty(spoil=lambda image, result: (result + image.mean() - 0.5).clamp(0, 1))
    ramp = torch.linspace(0.2, 0.8, 200)[:, None].expand(1, 3, 200, 90)
    monkeypatch.setattr(chain, "BLOCK_BYTES", 4 * 3 * 150 * 150)
    sink = FileRows((1, 3, 600, 270))
    passes = Chain([model], (600, 270), "image", CPU).run_rows(TensorRows(ramp), sink)
    assert not passes[0].seamless
    assert read_all(sink).diff(dim=2).abs().max() < 0.02


def test_strips_of_a_resize_alone_are_written(random_image):
    image = random_image(1, 3, 40, 30)
    sink = FileRows((1, 3, 55, 41))
    (step,) = Chain([], (55, 41), "image", CPU).run_rows(TensorRows(image), sink)
    assert step.kind == "resize"
    assert (read_all(sink) - resize(image, (55, 41)).clamp(0, 1)).abs().max() < 1e-4
