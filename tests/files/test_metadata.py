"""Metadata are read from real files of each format, and bad files say nothing."""

import json

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from fidelity.files.metadata import read_provenance

GRAPH = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}},
    "2": {"class_type": "KSampler", "inputs": {"model": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
}
PARAMETERS = "1girl, solo\nNegative prompt: bad\nSteps: 20, Sampler: Euler, Model: counterfeit_v3, Version: v1.10"


@pytest.fixture
def picture():
    return Image.fromarray(np.full((16, 16, 3), 128, np.uint8))


def with_exif(**tags):
    exif = Image.Exif()
    for name, value in tags.items():
        exif[ExifTags.Base[name]] = value
    return exif


def test_png_text_is_read(picture, tmp_path):
    info = PngInfo()
    info.add_text("prompt", json.dumps(GRAPH))
    picture.save(tmp_path / "a.png", pnginfo=info)
    assert read_provenance(tmp_path / "a.png").family == "flux"


@pytest.mark.parametrize(
    ("code", "encoding"), [("UNICODE\0", "utf-16-be"), ("UNICODE\0", "utf-16-le"), ("ASCII\0\0\0", "ascii")]
)
@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_the_user_comment_is_read_in_each_encoding(picture, tmp_path, code, encoding, suffix):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = code.encode() + PARAMETERS.encode(encoding)
    path = tmp_path / f"a{suffix}"
    picture.save(path, exif=exif)
    found = read_provenance(path)
    assert (found.family, found.style) == ("sd", "drawn")


def test_comfyui_in_webp_is_read(picture, tmp_path):
    picture.save(tmp_path / "a.webp", exif=with_exif(Model=f"prompt:{json.dumps(GRAPH)}"))
    found = read_provenance(tmp_path / "a.webp")
    assert (found.family, found.camera) == ("flux", None)


def test_a_camera_is_read(picture, tmp_path):
    picture.save(tmp_path / "a.jpg", exif=with_exif(Make="NIKON CORPORATION", Model="NIKON D90"))
    assert read_provenance(tmp_path / "a.jpg").camera == "NIKON CORPORATION NIKON D90"


def test_content_credentials_are_noticed(picture, tmp_path):
    picture.save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"jumb....c2pa")
    assert read_provenance(tmp_path / "a.jpg").evidence == ("has content credentials (C2PA)",)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\x00\x10Exif"])
def test_a_bad_file_says_nothing(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    assert read_provenance(tmp_path / "bad.png").evidence == ()
    assert read_provenance(tmp_path / "missing.png").evidence == ()


def test_every_labelled_file_that_speaks_says_the_truth(test_data):
    """On the labelled images: what generated them is of the family of their label, and cameras took photos."""
    spoken = 0
    for entry in json.loads((test_data / "images/domains/manifest.json").read_text(encoding="utf-8")):
        found = read_provenance(test_data / "images/domains" / entry["file"])
        if found.family:
            spoken += 1
            assert entry["label"] == f"anime_{found.family}", entry["file"]
        if found.camera:
            spoken += 1
            assert entry["label"] == "photo", entry["file"]
    assert spoken >= 29
