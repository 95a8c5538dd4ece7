"""The library in three functions: whatever type an image comes in, and what is told of it."""

import io
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

import fidelity
from fidelity.errors import RefusedError
from fidelity.files.read import read_image
from fidelity.networks.compute import Compute

ROOT = Path(__file__).parents[1]


BLACK = np.zeros((8, 8, 3), np.uint8)


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


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F"]
)
def test_pil_images_of_every_mode_look_as_they_did(mode):
    made = {
        "I": lambda: np.full((16, 20), 25_700, np.int32),
        "I;16": lambda: np.full((16, 20), 25_700, np.uint16),
        "F": lambda: np.full((16, 20), 100 / 255, np.float32),
    }
    if mode in made:
        picture = Image.fromarray(made[mode]())
    else:
        by_way = {"La": "LA", "PA": "LA", "RGBa": "RGBA", "LAB": "LAB"}.get(mode, mode)
        picture = Image.new("L", (20, 16), 255 if mode == "1" else 100)
        if mode == "LAB":
            srgb, lab = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
            picture = ImageCms.profileToProfile(picture.convert("RGB"), srgb, lab, outputMode="LAB")
        else:
            picture = picture.convert(by_way).convert(mode)
    result = fidelity.upscale(picture, 2, settings=fidelity.Settings(domain="photo"))
    assert result.image.size == (40, 32)
    assert result.tensor[:, :3].mean().item() * 255 == pytest.approx(255 if mode == "1" else 100, abs=2)
    assert result.tensor.shape[1] < 4 or result.tensor[:, 3].min() == 1


@pytest.mark.parametrize(("mode", "samples"), [("I", np.int32(70_000)), ("I", np.int32(-5000)), ("F", np.float32(3.0))])
def test_pil_images_beyond_the_range_of_their_mode_are_refused(mode, samples):
    with pytest.raises(fidelity.RefusedError, match="image: "):
        fidelity.upscale(Image.fromarray(np.full((16, 20), samples)), 2)


def test_a_pil_image_keeps_what_its_file_would(image_file, tmp_path, display_p3):
    turned = Image.Exif()
    turned[0x0112], turned[0x010F] = 6, "Maker"
    path = image_file("turned.jpg", icc_profile=display_p3, exif=turned.tobytes())
    from_file, from_picture = fidelity.upscale(path, 2), fidelity.upscale(Image.open(path), 2)
    assert torch.equal(from_file.tensor, from_picture.tensor)
    assert from_picture.image.size == (36, 48)
    assert from_picture.image.info["icc_profile"] == from_file.image.info["icc_profile"] == display_p3
    saved = [Image.open(result.save(tmp_path / name)) for result, name in ((from_file, "a.png"), (from_picture, "b.png"))]
    assert saved[1].info["icc_profile"] == display_p3
    assert dict(saved[1].getexif()) == dict(saved[0].getexif()) and saved[1].getexif()[0x010F] == "Maker"


def test_what_a_file_says_of_its_origin_counts_whatever_it_comes_as(tmp_path):
    notes = PngInfo()
    notes.add_text("parameters", "1girl, anime\nSteps: 20, Sampler: Euler a, CFG scale: 7, Model: animagine-xl")
    path = tmp_path / "made.png"
    Image.new("RGB", (64, 64), "teal").save(path, pnginfo=notes)
    verdicts = [fidelity.classify(one) for one in (path, path.read_bytes(), io.BytesIO(path.read_bytes()), Image.open(path))]
    assert len({(verdict.label, verdict.confidence) for verdict in verdicts}) == 1
    assert verdicts[0] != fidelity.classify(path, ignore_metadata=True)


def test_a_tiff_opened_by_pillow_looks_as_its_file(tmp_path):
    path = tmp_path / "inverted.tif"
    samples = np.linspace(0, 65535, 24 * 20).reshape(20, 24).astype(np.uint16)
    Image.fromarray(samples).save(path, tiffinfo={262: 0, 271: "Maker"})
    from_file, from_picture = fidelity.upscale(path, 2), fidelity.upscale(Image.open(path), 2)
    assert (from_file.tensor - from_picture.tensor).abs().max() < 2 / 65535


def test_a_closed_file_is_refused(image_file):
    with image_file("a.png").open("rb") as opened:
        pass
    with pytest.raises(fidelity.RefusedError, match="cannot be read"):
        fidelity.upscale(opened, 2)


def test_the_content_of_a_file_is_taken_as_the_file(image_file):
    path = image_file("wide.png")
    expected = fidelity.upscale(path, 2)
    with path.open("rb") as opened:
        for content in (path.read_bytes(), io.BytesIO(path.read_bytes()), opened):
            assert torch.equal(fidelity.upscale(content, 2).tensor, expected.tensor)
    with path.open("rb") as opened:
        assert fidelity.upscale(opened, 2).report.input.path == str(path)
    with pytest.raises(fidelity.RefusedError, match="open as text; wanted one open in binary mode"):
        fidelity.upscale(io.StringIO("text"), 2)


@pytest.mark.parametrize(
    ("samples", "bits"),
    [
        (np.full((12, 12, 3), 30_000, np.uint16), 16),
        (np.full((12, 12, 3), 0.1234, np.float32), 16),
        (np.full((12, 12, 3), 100 / 255, np.float32), 8),
        (np.full((12, 12, 3), 100, np.uint8), 8),
    ],
)
def test_a_result_is_saved_with_as_many_bits_as_its_samples_need(samples, bits, tmp_path):
    result = fidelity.upscale(samples, 2)
    assert read_image(result.save(tmp_path / "a.png")).bits == bits
    assert read_image(result.save(tmp_path / "b.png", bits=16)).bits == 16
    with pytest.raises(fidelity.RefusedError, match="JPEG stores 8 bits"):
        result.save(tmp_path / "c.jpg", bits=16)


def test_quality_is_chosen_when_saving(photo, tmp_path):
    result = fidelity.upscale(photo, 2)
    for suffix in ("jpg", "webp"):
        best, least = (result.save(tmp_path / f"{quality}.{suffix}", quality=quality).stat().st_size for quality in (95, 30))
        assert least < best / 2
    with pytest.raises(fidelity.RefusedError, match="quality is 101; wanted 1 to 100"):
        result.save(tmp_path / "a.jpg", quality=101)
    with pytest.raises(fidelity.RefusedError, match="a path of type BytesIO; wanted a string or a path"):
        result.save(io.BytesIO())


def test_the_report_is_json(photo):
    result = fidelity.upscale(photo, 2)
    told = json.loads(json.dumps(result.report.to_dict()))
    assert told["drift"]["held"]["mean"] == result.report.held_drift.mean


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            lambda: fidelity.upscale(BLACK, settings={"domain": "photo"}),
            "settings is {'domain': 'photo'}, of type dict; wanted Settings",
        ),
        (lambda: fidelity.upscale(BLACK, compute="cpu"), "compute is 'cpu', of type str; wanted Compute"),
        (lambda: fidelity.Session("photo.jpg"), "settings is 'photo.jpg', of type str; wanted Settings"),
        (lambda: fidelity.Settings(target=2), "target is 2, of type int; wanted Target"),
        (lambda: fidelity.Settings(restore_strength="much"), "restore_strength is 'much'; wanted a number from 0 to 1"),
        (lambda: fidelity.Compute(device="tpu9"), "device is 'tpu9'; wanted cpu, cuda or mps"),
        (lambda: fidelity.upscale(BLACK, compute=fidelity.Compute(device="cuda:99")), "device cuda:99 is not available; this"),
        (lambda: fidelity.Compute(memory_bytes="4GB"), "memory_bytes is '4GB', of type str; wanted int"),
        (lambda: fidelity.Compute(precision="fp8"), "precision is 'fp8'; wanted auto, fp32"),
        (lambda: fidelity.upscale(BLACK, True), "scale is True; wanted a number"),
        (lambda: fidelity.upscale(""), "an empty path; wanted that of a file"),
        (lambda: fidelity.upscale("https://example.com/a.jpg"), "https://example.com/a.jpg: an address; wanted a file"),
        (lambda: fidelity.upscale(BLACK, models_dir="/nowhere"), "models_dir is /nowhere, which is no folder"),
    ],
)
def test_wrong_values_are_refused_in_words(wrong, words):
    with pytest.raises(fidelity.RefusedError, match=re.escape(words)):
        wrong()


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
    assert max((first - second).abs().max() for first, second in zip(alone, together, strict=True)) < 1e-3  # sums may be split


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
    with pytest.raises(RefusedError, match=r"size is .*; wanted \(height, width\) in pixels"):
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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg.png", "b.jpg.png"]
    assert known["report"].drift.color.mean == known["output"].color_drift.mean
    assert known["output"].image.shape[2:] == (96, 128)


def test_what_filters_leave_beyond_the_range_and_gradients_are_no_obstacle():
    bar = torch.zeros(1, 3, 60, 60)
    bar[..., 20:40] = 1
    below = torch.nn.functional.interpolate(bar, scale_factor=0.7, mode="bicubic")
    assert below.min() < -0.05
    below.requires_grad_(True)
    assert fidelity.upscale(below, 2).image.shape == (1, 3, 84, 84)
    assert fidelity.classify(below).label
    assert fidelity.Session(fidelity.Settings(fidelity.Target(2))).run(below).image.shape == (1, 3, 84, 84)
    assert fidelity.measure(below, below)["identical"]


def test_numbers_of_numpy_are_numbers(image_file):
    made = fidelity.upscale(image_file(), np.float32(2), settings=fidelity.Settings(domain="photo"))
    assert json.dumps(made.report.to_dict())
    assert fidelity.Target(size=np.array([10, 20])) == fidelity.Target(size=(10, 20))
    assert fidelity.Target(long_edge=np.int64(640)).long_edge == 640
    with pytest.raises(fidelity.RefusedError, match="wanted a number"):
        fidelity.Target(scale=np.bool_(True))


def test_notes_on_contents_are_in_the_report_and_results_can_be_compared(tmp_path):
    Image.new("CMYK", (40, 30), (10, 90, 20, 5)).save(tmp_path / "cmyk.jpg")
    by_path, by_bytes = (fidelity.upscale(one, 2) for one in (tmp_path / "cmyk.jpg", (tmp_path / "cmyk.jpg").read_bytes()))
    assert by_path.report.input and by_bytes.report.input
    assert by_bytes.report.input.path is None and by_bytes.report.input.notes == by_path.report.input.notes != ()
    assert by_path != by_bytes and len({by_path, by_bytes}) == 2


def test_more_of_what_callers_get_wrong_is_refused_in_words(image_file, tmp_path):
    with image_file().open("rb") as file:
        file.read()
        with pytest.raises(fidelity.RefusedError, match=r"seek\(0\)"):
            fidelity.upscale(file, 2)
    with pytest.raises(fidelity.RefusedError, match="null character"):
        fidelity.upscale("a\0b.jpg")
    with pytest.raises(fidelity.RefusedError, match="wanted a function"):
        fidelity.upscale(image_file(), 2, progress=3)
    with pytest.raises(fidelity.RefusedError, match=r"wanted a fidelity\.PrintSize"):
        fidelity.Target(print_size="a4")
    made = fidelity.upscale(image_file(), 2, settings=fidelity.Settings(domain="photo"))
    for quality in ("90", 90.5, True):
        with pytest.raises(fidelity.RefusedError, match="wanted a whole number"):
            made.save(tmp_path / "x.jpg", quality=quality)
