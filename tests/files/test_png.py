"""PNG written in bands is what other programs read."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.files import png
from fidelity.files.png import make_chunk, write_png
from fidelity.files.sixteen_bit import decode_deep
from fidelity.imaging.rows import TensorRows


def encoded(image, bits, chunks=()):
    file = io.BytesIO()
    write_png(file, TensorRows(image), bits, chunks)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("band", [50, 1000, 2**20])
def test_pillow_reads_every_sample(random_image, monkeypatch, channels, band):
    monkeypatch.setattr(png, "_BAND_BYTES", band)
    image = random_image(1, channels, 37, 23)
    read = np.asarray(Image.open(io.BytesIO(encoded(image, 8)))).reshape(37, 23, channels)
    assert np.array_equal(read, (image[0] * 255).round().byte().movedim(0, -1).numpy())


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_ffmpeg_reads_every_sample_of_sixteen_bits(random_image, monkeypatch, channels):
    monkeypatch.setattr(png, "_BAND_BYTES", 700)
    image = random_image(1, channels, 37, 23)
    expected = (image[0].double() * 65535).round().movedim(0, -1).numpy()
    assert np.abs(decode_deep(encoded(image, 16), "png") - expected).max() <= 1


def test_chunks_come_before_the_pixels(random_image):
    content = encoded(random_image(1, 3, 8, 8), 8, [make_chunk(b"tEXt", b"Title\0a name")])
    assert content.index(b"tEXt") < content.index(b"IDAT")
    assert Image.open(io.BytesIO(content)).text == {"Title": "a name"}


@pytest.mark.parametrize("kind", ["smooth", "pixel art"])
def test_files_are_no_larger_than_pillows(random_image, kind):
    draw = torch.Generator().manual_seed(0)
    if kind == "smooth":
        image = torch.linspace(0, 1, 400).expand(1, 3, 300, 400) * 0.9 + random_image(1, 3, 300, 400) * 0.05
    else:
        image = torch.rand((1, 3, 8, 8), generator=draw).repeat(1, 1, 40, 40)
    samples = (image[0] * 255).round().byte().movedim(0, -1).numpy()
    pillow = io.BytesIO()
    Image.fromarray(samples).save(pillow, "PNG", compress_level=4)
    assert len(encoded(image, 8)) < 1.05 * len(pillow.getvalue()) + 200
