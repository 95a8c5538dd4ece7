"""The library in three functions: whatever type an image comes in, and what is told of it."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fidelity
from fidelity.errors import RefusedError
from fidelity.files.read import read_image
from fidelity.networks.compute import Compute

ROOT = Path(__file__).parents[1]


def test_a_path_gives_a_pil_image_and_saves_with_what_the_file_carries(image_file, tmp_path, display_p3):
    result = fidelity.upscale(image_file("wide.png", icc_profile=display_p3), scale=2)
    assert isinstance(result.image, Image.Image)
    assert result.image.size == (48, 36)
    assert result.report.input.width == 24
    saved = result.save(tmp_path / "out" / "big.png")
    with Image.open(saved) as opened:
        assert opened.info["icc_profile"] == display_p3
        assert "driftMean" in opened.info["XML:com.adobe.xmp"]
    assert (read_image(saved).image - result.tensor).abs().max() <= 0.51 / 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(18, 24), (18, 24, 1), (18, 24, 3), (18, 24, 4)])
def test_an_array_gives_an_array_of_its_dtype_and_channels(dtype, shape):
    samples = np.random.default_rng(0).random(shape)
    array = samples.astype(dtype) if np.issubdtype(dtype, np.floating) else (samples * np.iinfo(dtype).max).astype(dtype)
    result = fidelity.upscale(array, size=(40, 50)).image
    assert (result.dtype, result.shape) == (array.dtype, (40, 50, *shape[2:]))


def test_the_same_picture_in_any_type_gives_the_same(photo):
    array = (photo[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
    results = [
        fidelity.upscale(array, 2).tensor,
        fidelity.upscale(Image.fromarray(array), 2).tensor,
        fidelity.upscale(torch.from_numpy(array).movedim(-1, 0)[None].float() / 255, 2).tensor,
    ]
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_a_tensor_stays_on_its_device_and_anything_else_gets_the_best_one(photo, monkeypatch):
    bound = []
    real = fidelity.api.Session

    def session(settings, compute, models):
        bound.append(compute.device)
        return real(settings, replace(compute, device=None), models)

    monkeypatch.setattr(fidelity.api, "Session", session)
    monkeypatch.setattr(fidelity.api, "choose_device", lambda: torch.device("cuda", 7))
    fidelity.upscale(photo[..., :16, :16], 2)
    fidelity.upscale(np.zeros((16, 16), np.uint8), 2)
    fidelity.upscale(np.zeros((16, 16), np.uint8), 2, compute=Compute(torch.device("cpu")))
    assert bound == [None, torch.device("cuda", 7), torch.device("cpu")]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_pil_images_of_any_mode_are_taken(mode):
    picture = Image.new("L", (20, 16), 90) if mode != "I;16" else Image.fromarray(np.full((16, 20), 30_000, np.uint16))
    assert fidelity.upscale(picture if mode == "I;16" else picture.convert(mode), 2).image.size == (40, 32)


def test_a_batch_is_enlarged_together_and_refused_where_one_is_wanted(random_image, tmp_path):
    batch = random_image(2, 3, 16, 16)
    result = fidelity.upscale(batch, 2)
    assert result.image.shape == (2, 3, 32, 32)
    with pytest.raises(fidelity.RefusedError, match="2 images; wanted one to save"):
        result.save(tmp_path / "two.png")
    with pytest.raises(fidelity.RefusedError, match="2 images in one tensor"):
        fidelity.measure(batch, batch)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((4, 4, 3), np.int32), "an array of int32; wanted uint8"),
        (np.zeros(5, np.float32), r"an array of shape \(5,\); wanted"),
        (np.zeros((4, 4, 2), np.uint8), "image has 2 channels"),
        (np.full((4, 4, 3), np.nan), "48 samples that are not finite"),
        (torch.zeros(3, 8, 8), "wanted \\(batch, channels, height, width\\)"),
        ("/nowhere/at/all.png", "no such file"),
        (7, "a picture of type int; wanted a path"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(picture, words):
    with pytest.raises(fidelity.RefusedError, match=words):
        fidelity.upscale(picture)


def test_settings_hold_but_for_the_target_that_is_given(photo):
    settings = fidelity.Settings(fidelity.Target(scale=3), domain="painting", cleanup="off")
    assert fidelity.upscale(photo, settings=settings).tensor.shape[2:] == (288, 336)
    result = fidelity.upscale(photo, 2, settings=settings)
    assert (result.tensor.shape[2:], result.report.domain.label) == ((192, 224), "painting")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"domain": "sculpture"}, "domain is 'sculpture'; wanted photo, anime_flux"),
        ({"gate": "maybe"}, "gate is 'maybe'; wanted auto, blend"),
        ({"restore": "on"}, "restore is 'on'"),
    ],
)
def test_a_wrong_setting_is_told_when_it_is_made(wrong, words):
    with pytest.raises(fidelity.RefusedError, match=re.escape(words)):
        fidelity.Settings(**wrong)


def test_threads_get_what_each_would_alone(photo):
    session = fidelity.Session(fidelity.Settings(fidelity.Target(scale=2), domain="photo"))
    pictures = [photo.roll(shift, dims=3) for shift in range(0, 60, 10)]
    alone = [session.run(picture).image for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda picture: session.run(picture).image, pictures))
    assert all(torch.equal(first, second) for first, second in zip(alone, together, strict=True))


def test_a_file_is_classified_by_what_it_says_unless_told_not_to(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "1girl, solo\nNegative prompt: x\nSteps: 20, Model: animagine-xl, Version: v1.10")
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "a.png", pnginfo=info)
    assert fidelity.classify(tmp_path / "a.png").label == "anime_sd"
    assert not any("animagine" in why for why in fidelity.classify(tmp_path / "a.png", ignore_metadata=True).evidence)


def test_two_pictures_are_measured(photo):
    assert fidelity.measure(photo, photo)["identical"] is True
    assert fidelity.measure(photo, fidelity.upscale(photo, 2).tensor)["color"]["mean"] < 0.3


def test_importing_the_library_imports_no_torch():
    code = "import sys, fidelity; assert 'torch' not in sys.modules and fidelity.__version__; fidelity.nothing"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "AttributeError: module 'fidelity' has no attribute 'nothing'" in ended.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["upscale", "--help"], ["upscale", "--gate", "x"]])
def test_help_and_wrong_usage_need_no_torch(arguments):
    code = "import sys\nfrom fidelity.cli import app\ntry:\n    app()\nfinally:\n    print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.stdout.strip().endswith("False"), ended.stdout + ended.stderr


def test_the_readmes_example_runs(image_file, tmp_path, monkeypatch):
    (example,) = re.findall(
        r"```python\n(import fidelity\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    image_file("photo.jpg", size=(40, 30))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert Image.open(tmp_path / "photo-x4.png").size == (160, 120)


@pytest.mark.parametrize(
    ("factor", "offset", "told"), [(255, 0, "divide by the value of white"), (2, -1, r"\(image \+ 1\) / 2")]
)
def test_samples_in_another_range_are_refused(photo, factor, offset, told):
    with pytest.raises(RefusedError, match=f"values from .* to .*; wanted 0 to 1: .*{told}"):
        fidelity.upscale(photo * factor + offset, 2)
    with pytest.raises(RefusedError, match="wanted 0 to 1"):
        fidelity.Session(fidelity.Settings(fidelity.Target(2))).run(photo * factor + offset)
    assert fidelity.upscale(photo * 1.04, 1).image.max() <= 1


def test_wrong_types_are_refused_in_words(photo):
    with pytest.raises(RefusedError, match=r"of type str; wanted a tensor \(B, C, H, W\): fidelity.upscale takes the others"):
        fidelity.Session().run("photo.jpg")
    with pytest.raises(RefusedError, match="scale is '2'; wanted a number"):
        fidelity.upscale(photo, "2")
    with pytest.raises(RefusedError, match=r"size is .*; wanted a number for each side"):
        fidelity.Target(size=("a", 3))


def test_what_is_public_is_listed_and_results_show_what_they_are(photo):
    assert set(fidelity.__all__) <= set(dir(fidelity))
    made = fidelity.upscale(photo, 2, settings=fidelity.Settings(domain="photo"))
    assert re.fullmatch(r"<Upscaled 224x192, 3 channels, natural-x2.safetensors, color drift [\d.]+>", repr(made))


def test_the_examples_of_the_page_on_python_run(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = (photo[0, :, :48, :64].movedim(0, -1) * 255).byte().numpy()
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/a.jpg", "photos/b.jpg"):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "photos/bad.jpg").write_bytes(b"no image")
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    known = {"tensor": photo[..., :48, :64]}
    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(example.replace("long_edge=3840", "long_edge=128"), "python.md", "exec"), known)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert known["report"].drift.color.mean == known["made"].color_drift.mean
    assert known["made"].image.shape[2:] == (96, 128)
