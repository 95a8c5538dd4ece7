"""Which network is taken for which kind of image and scale, and what is said of it."""

import shutil
from dataclasses import replace

import pytest
import torch

from fidelity.decide.catalogue import KNOWN_MODELS
from fidelity.decide.model_choice import (
    ModelChooser,
    estimate_seconds,
    rank_models,
    scale_in_name,
    shipped_model,
    shipped_restorer,
)
from fidelity.decide.recipes import RECIPES
from fidelity.errors import ModelRefusedError
from fidelity.networks.compute import AUTO_COMPUTE, Compute
from fidelity.networks.loader import SHIPPED_WEIGHTS, list_models


@pytest.fixture
def install(tmp_path, compact_file):
    """Puts a small working network under each of some names."""

    def put(*names):
        for name in names:
            shutil.copy(compact_file(), tmp_path / name)
        return list_models([tmp_path])

    return put


def best(domain, scale, models):
    return next(rank_models(RECIPES[domain], scale, models))


@pytest.mark.parametrize(
    ("domain", "scale", "expected"),
    [
        ("photo", 4, "natural-x4"),
        ("photo", 2.01, "natural-x4"),
        ("photo", 2, "natural-x2"),
        ("painting", 1.5, "natural-x2"),
        ("anime_flux", 4, "drawn-x4"),
        ("anime_sd", 8, "drawn-x4"),
        ("line_art", 2, "drawn-x2"),
    ],
)
def test_kind_and_scale_pick_the_shipped_network(domain, scale, expected):
    choice = best(domain, scale, list_models([]))
    assert choice.path == SHIPPED_WEIGHTS / f"{expected}.safetensors"
    assert "shipped model" in choice.reason
    assert choice.better.startswith(f"{RECIPES[domain].models[0]}, https://")


def test_every_shipped_network_can_be_chosen():
    chosen = {shipped_model(recipe.shipped, scale) for recipe in RECIPES.values() for scale in (2, 4)}
    chosen |= {shipped_restorer(recipe.shipped) for recipe in RECIPES.values()}
    assert chosen == set(SHIPPED_WEIGHTS.glob("*.safetensors"))


def test_every_network_a_recipe_prefers_is_known_and_has_a_page():
    for recipe in RECIPES.values():
        for title in recipe.models:
            assert KNOWN_MODELS[title].page.startswith("https://")


@pytest.mark.parametrize(
    ("domain", "names", "expected"),
    [
        ("photo", ["RealESRGAN_x4plus.safetensors"], "RealESRGAN_x4plus.safetensors"),
        ("photo", ["realesrgan-x4plus.safetensors"], "realesrgan-x4plus.safetensors"),
        ("photo", ["RealESRGAN_x4plus_anime_6B.safetensors"], "natural-x4.safetensors"),
        ("photo", ["hatchet.safetensors", "4x-chat.safetensors"], "natural-x4.safetensors"),
        ("photo", ["Real_HAT_GAN_SRx4.safetensors"], "Real_HAT_GAN_SRx4.safetensors"),
        ("photo", ["005_colorDN_DFWB_s128w8_SwinIR-M_noise25.safetensors"], "natural-x4.safetensors"),
        ("photo", ["HAT_x4.safetensors", "003_realSR_SwinIR-M_x4.safetensors"], "003_realSR_SwinIR-M_x4.safetensors"),
        ("painting", ["RealESRGAN_x4plus.safetensors", "SwinIR_x4.safetensors"], "SwinIR_x4.safetensors"),
        ("anime_sd", ["4x-AnimeSharp.safetensors", "waifu2x-anime-x2.safetensors"], "4x-AnimeSharp.safetensors"),
        ("line_art", ["waifu2x-photo-x2.safetensors"], "drawn-x4.safetensors"),
        ("anime_flux", ["RealESRGAN_x4plus_anime_6B.safetensors"], "RealESRGAN_x4plus_anime_6B.safetensors"),
    ],
)
def test_an_installed_network_that_the_recipe_names_is_taken(install, domain, names, expected):
    assert best(domain, 4, install(*names)).path.name == expected


def test_among_equals_the_one_of_the_right_scale_is_taken(install):
    models = install("realcugan-up2x.safetensors", "realcugan-up4x.safetensors")
    assert best("anime_sd", 4, models).path.name == "realcugan-up4x.safetensors"
    assert best("anime_sd", 2, models).path.name == "realcugan-up2x.safetensors"


def test_one_that_is_too_small_comes_after_a_lesser_one_that_is_not(install):
    models = install("waifu2x-anime-x2.safetensors", "realcugan-up4x.safetensors")
    assert best("anime_sd", 4, models).path.name == "realcugan-up4x.safetensors"
    assert best("anime_sd", 2, models).path.name == "waifu2x-anime-x2.safetensors"


def test_a_stranger_of_a_strong_architecture_is_taken_if_its_name_fits(install, monkeypatch):
    models = install("4x_Foo.safetensors", "4x_AnimeFoo.safetensors", "1x_Foo.safetensors")
    assert best("photo", 4, models).path.name == "natural-x4.safetensors"  # Compact is not stronger than the shipped
    monkeypatch.setattr("fidelity.decide.model_choice.detect_architecture", lambda path: "DAT")
    assert best("photo", 4, models).path.name == "4x_Foo.safetensors"
    assert best("line_art", 4, models).path.name == "4x_AnimeFoo.safetensors"
    assert "DAT" in best("photo", 4, models).reason


def test_an_installed_file_that_is_no_network_is_passed_over_and_named(install, tmp_path):
    (tmp_path / "RealESRGAN_x4plus.pth").write_bytes(b"hello")
    model, choice = ModelChooser("auto", list_models([tmp_path])).choose(RECIPES["photo"], 4)
    assert model.name == "natural-x4.safetensors"
    assert "skipped: RealESRGAN_x4plus.pth: damaged" in choice.reason


def test_a_network_named_by_the_user_is_taken_whatever_the_kind(install):
    chooser = ModelChooser("mine", install("mine.safetensors", "4x-AnimeSharp.safetensors"))
    for domain in RECIPES:
        model, choice = chooser.choose(RECIPES[domain], 4)
        assert (model.name, choice.reason, choice.better) == ("mine.safetensors", "chosen by the user", None)
    assert chooser.fixed is model


def test_a_named_network_that_is_none_is_refused_at_once(tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"hello")
    with pytest.raises(ModelRefusedError, match=r"bad\.pth: damaged"):
        ModelChooser("bad", list_models([tmp_path]))
    with pytest.raises(FileNotFoundError, match="nothing: no such model"):
        ModelChooser("nothing", list_models([]))


@pytest.mark.parametrize(
    ("stem", "scale"),
    [
        ("4x-AnimeSharp", 4),
        ("RealESRGAN_x4plus", 4),
        ("realcugan-up2x-conservative", 2),
        ("waifu2x-upconv7-anime-x2", 2),
        ("waifu2x", None),
        ("SwinIR-M_x8", 8),
        ("model1024x1024", None),
        ("x264", None),
        ("mine", None),
    ],
)
def test_the_scale_is_read_from_the_name(stem, scale):
    assert scale_in_name(stem) == scale


def test_a_long_way_is_planned_with_both_shipped_networks():
    chooser = ModelChooser("auto", list_models([]))
    planned = chooser.plan(RECIPES["photo"], (64, 64), (512, 512), 2**33)
    assert [model.name for model in planned.models] == ["natural-x2.safetensors", "natural-x4.safetensors"]
    assert planned.choice.is_shipped
    assert chooser.plan(RECIPES["line_art"], (64, 64), (32, 32), 2**33).models == ()


def test_a_plan_holds_to_the_network_that_was_named(compact_file):
    path = compact_file(2)
    planned = ModelChooser(str(path), list_models([])).plan(RECIPES["photo"], (64, 64), (512, 512), 2**33)
    assert [model.name for model in planned.models] == [path.name] * 3
    assert planned.choice.reason == "chosen by the user"


def test_seconds_are_those_of_the_pixels_that_go_in(compact_file, monkeypatch):
    monkeypatch.setattr("fidelity.decide.model_choice.measure_seconds_per_pixel", lambda *_: 1e-6)
    planned = ModelChooser(str(compact_file(2)), list_models([])).plan(RECIPES["photo"], (100, 100), (400, 400), 2**33)
    assert estimate_seconds(planned, Compute(torch.device("cpu"))) == pytest.approx([0.01, 0.04])


def test_a_plan_counts_the_batch_and_prices_tiles_where_and_as_they_run(compact_file):
    chooser = ModelChooser(str(compact_file(2, features=64)), {})
    recipe = replace(RECIPES["photo"], passes="direct", restore="off", deband="off")

    def plan(batch=1, compute=AUTO_COMPUTE, size=(400, 400)):
        target = (size[0] * 2, size[1] * 2)
        return chooser.plan(recipe, size, target, 2**36, 3, batch, compute).plan

    assert plan(8, size=(1600, 1600)).peak_bytes > 4 * plan(1, size=(1600, 1600)).peak_bytes
    on_cpu, on_gpu = (plan(compute=Compute(torch.device(device))).passes[0].peak_bytes for device in ("cpu", "cuda"))
    assert on_gpu < on_cpu
