"""Loading and saving in a real ComfyUI: every bit, colour and tag goes through the graph."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from fidelity.files.read import read_image
from fidelity.files.tags import Extras
from fidelity.files.write import write_image
from fidelity.imaging.drift import measure_drift
from tests.deep import encode_deep


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


SAVING = {
    "filename_prefix": "out/a",
    "format": "png",
    "format.bits": "auto",
    "color_space": "srgb",
    "size_suffix": True,
    "keep_gps": True,
    "embed_workflow": True,
}


def passing(name, transparency="in image", **changes):
    """Load and save, with nothing in between."""
    return {
        "1": node("FidelityLoadImage", image=name, transparency=transparency),
        "2": node("FidelitySaveImage", images=["1", 0], source=["1", 2], **(SAVING | changes)),
        "3": node("PreviewAny", source=["2", 0]),
        "4": node("PreviewAny", source=["1", 3]),
    }


def saved(outputs):
    return Path(outputs["3"]["text"][0].splitlines()[0])


@pytest.mark.parametrize(("name", "kind"), [("deep.png", "png"), ("deep.tif", "tiff")])
@pytest.mark.parametrize("channels", [3, 4])
def test_every_bit_of_sixteen_goes_through_the_graph(host, tmp_path, name, kind, channels):
    samples = np.random.default_rng(0).integers(0, 65536, (12, 16, channels), np.uint16)
    stored = host.upload_file(encode_deep(samples, kind), f"{channels}{name}")
    changes = {"format": kind} | ({"format.compression": "lzw"} if kind == "tiff" else {})
    path = saved(host.run(passing(stored, **changes)))
    assert path.name == f"a_{path.name.split('_')[1]}_16x12{path.suffix}"
    result = read_image(path)
    assert result.bits == 16
    assert torch.equal((result.image * 65535).round()[0].movedim(0, -1), torch.from_numpy(samples.astype(np.float32)))


@pytest.mark.parametrize(
    ("changes", "suffix"),
    [
        ({"format": "jpeg", "format.quality": 90, "format.subsampling": "4:4:4"}, ".jpg"),
        ({"format": "webp lossless"}, ".webp"),
        ({"format": "webp", "format.quality": 90}, ".webp"),
        ({"format": "tiff", "format.bits": "8", "format.compression": "deflate"}, ".tif"),
        ({"format": "png", "format.bits": "16"}, ".png"),
    ],
)
def test_each_format_is_written_with_its_workflow(host, photo, changes, suffix):
    outputs = host.run(passing(host.upload(photo), **changes))
    path = saved(outputs)
    assert path.suffix == suffix
    assert measure_drift(photo, read_image(path).image).mean < 1
    assert "1" in json.loads(read_image(path).texts["prompt"])
    assert outputs["2"]["images"]


def test_no_workflow_is_written_if_none_is_wanted(host, photo):
    path = saved(host.run(passing(host.upload(photo), embed_workflow=False)))
    assert read_image(path).texts == {}


def test_camera_profile_and_place_are_carried_or_left_out(host, photo, tmp_path, display_p3):
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Maker", 6
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    write_image(tmp_path / "p3.jpg", photo * 0.8 + 0.1, Extras(display_p3, exif.tobytes()))
    name = host.upload_file((tmp_path / "p3.jpg").read_bytes(), "p3.jpg")
    kept = saved(host.run(passing(name, color_space="source")))
    bare = saved(host.run(passing(name, keep_gps=False)))
    original, first, second = read_image(tmp_path / "p3.jpg"), read_image(kept), read_image(bare)
    assert first.icc_profile == display_p3 and second.icc_profile is None
    assert (first.image - original.image).abs().max() < 1.1 / 255
    assert measure_drift(read_image(tmp_path / "p3.jpg", "srgb").image, second.image).mean < 0.2
    opened = [Image.open(path).getexif() for path in (kept, bare)]
    assert [found[ExifTags.Base.Make] for found in opened] == ["Maker", "Maker"]
    assert [bool(found.get_ifd(ExifTags.IFD.GPSInfo)) for found in opened] == [True, False]


def test_transparency_goes_into_image_or_mask(host, photo, tmp_path):
    alpha = torch.linspace(0, 1, photo.shape[3]).expand(1, 1, *photo.shape[2:])
    name = host.upload(torch.cat((photo, alpha), dim=1))
    assert read_image(saved(host.run(passing(name)))).image.shape[1] == 4
    graph = passing(name, transparency="in mask") | {
        "5": node("MaskToImage", mask=["1", 1]),
        "6": node("FidelitySaveImage", images=["5", 0], **SAVING),
        "7": node("PreviewAny", source=["6", 0]),
    }
    outputs = host.run(graph)
    assert read_image(saved(outputs)).image.shape[1] == 3
    mask = read_image(Path(outputs["7"]["text"][0])).image[:, :1]
    assert (mask - (1 - alpha)).abs().max() < 1.1 / 255


def test_the_report_of_an_enlargement_is_written_into_its_file_and_the_camera_is_believed(host, tmp_path, photo):
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon", "EOS 5D"
    write_image(tmp_path / "cam.jpg", photo, Extras(exif=exif.tobytes()))
    auto = {
        "target": "model scale",
        "domain": "auto",
        "model_name": "auto",
        "restore": "auto",
        "restore_strength": 0.0,
        "deband": "auto",
        "passes": "auto",
        "memory_gb": 0.0,
        "cleanup": "auto",
    }
    graph = {
        "1": node(
            "FidelityLoadImage", image=host.upload_file((tmp_path / "cam.jpg").read_bytes(), "cam.jpg"), transparency="in image"
        ),
        "5": node("FidelityAutoUpscale", image=["1", 0], source=["1", 2], **auto),
        "2": node("FidelitySaveImage", images=["5", 0], source=["1", 2], report=["5", 2], **SAVING),
        "3": node("PreviewAny", source=["2", 0]),
        "6": node("PreviewAny", source=["5", 2]),
    }
    outputs = host.run(graph)
    report = json.loads(outputs["6"]["text"][0])
    assert "taken with Canon EOS 5D, according to EXIF" in report["domain"]["evidence"]
    with Image.open(saved(outputs)) as opened:
        assert f'fidelity:model="{report["model"]["name"]}"' in opened.info["XML:com.adobe.xmp"]
        assert opened.getexif()[ExifTags.Base.Make] == "Canon"


def test_a_file_that_is_no_image_is_refused_in_one_line(host):
    name = host.upload_file(b"just words", "words.png")
    status, _, messages = host.wait(host.start(passing(name)))
    assert status == "error"
    assert "words.png: not an image, or an unknown format" in messages["execution_error"]["exception_message"]


def test_grey_is_saved_as_tiff_and_shown(host, photo):
    graph = {
        "1": node("FidelityLoadImage", image=host.upload(photo), transparency="in image"),
        "5": node("FidelitySplitYCbCr", image=["1", 0], matrix="bt601"),
        "2": node("FidelitySaveImage", images=["5", 0], **(SAVING | {"format": "tiff", "format.compression": "deflate"})),
        "3": node("PreviewAny", source=["2", 0]),
    }
    assert saved(host.run(graph)).suffix == ".tif"


def test_a_batch_is_saved_as_numbered_files(host, photo):
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "5": node("RepeatImageBatch", image=["1", 0], amount=3),
        "2": node("FidelitySaveImage", images=["5", 0], **(SAVING | {"filename_prefix": "batch"})),
        "3": node("PreviewAny", source=["2", 0]),
    }
    paths = [Path(line) for line in host.run(graph)["3"]["text"][0].splitlines()]
    assert [path.name for path in paths] == [f"batch_{number:05}_112x96.png" for number in (1, 2, 3)]
    assert all(torch.equal((read_image(path).image * 255).round(), (photo * 255).round()) for path in paths)


def test_transparency_in_a_jpeg_is_refused(host, photo):
    name = host.upload(torch.cat((photo, photo[:, :1]), dim=1))
    changes = {"format": "jpeg", "format.quality": 90, "format.subsampling": "4:4:4"}
    status, _, messages = host.wait(host.start(passing(name, **changes)))
    assert status == "error"
    assert "JPEG does not support transparency" in messages["execution_error"]["exception_message"]
