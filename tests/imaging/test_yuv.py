import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr

from fidelity.errors import RefusedError
from fidelity.imaging.yuv import (
    FULL,
    LUMA_SHARES,
    PlaneFormat,
    Planes,
    levels_to_planes,
    planes_to_levels,
    planes_to_rgb,
    resample_chroma,
    rgb_to_planes,
)

BARS = torch.tensor(
    [[0.75, 0.75, 0.75], [0.75, 0.75, 0], [0, 0.75, 0.75], [0, 0.75, 0], [0.75, 0, 0.75], [0.75, 0, 0], [0, 0, 0.75], [0, 0, 0]]
)
"""Color bars of 75 %, from white to black."""
BT709_BARS = {
    8: [
        *((180, 128, 128), (168, 44, 136), (145, 147, 44), (133, 63, 52)),
        *((63, 193, 204), (51, 109, 212), (28, 212, 120), (16, 128, 128)),
    ],
    10: [
        *((721, 512, 512), (674, 176, 543), (581, 589, 176), (534, 253, 207)),
        *((251, 771, 817), (204, 435, 848), (111, 848, 481), (64, 512, 512)),
    ],
}
"""Levels of the bars in BT.709, as SMPTE RP 219 lists them for 10 bits."""


def bars(size=8):
    return BARS.T.reshape(3, 1, 8, 1).expand(3, size, 8, size).reshape(1, 3, size, 8 * size).contiguous()


@pytest.mark.parametrize("bits", [8, 10])
def test_color_bars_have_the_levels_of_the_standard(bits):
    form = PlaneFormat("bt709", False, bits, (1, 1))
    levels = planes_to_levels(rgb_to_planes(bars(1), form), form)
    assert [tuple(int(plane[0, place]) for plane in levels) for place in range(8)] == BT709_BARS[bits]


def test_bt601_agrees_with_scikit_image(random_image):
    image, form = random_image(1, 3, 9, 11), PlaneFormat("bt601", False, 8, (1, 1))
    expected = rgb2ycbcr(image[0].permute(1, 2, 0).numpy())
    levels = planes_to_levels(rgb_to_planes(image, form), form)
    assert max(np.abs(plane.numpy() - expected[..., place]).max() for place, plane in enumerate(levels)) < 0.51


@pytest.mark.parametrize("matrix", LUMA_SHARES)
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_planes_come_back_within_half_a_step(matrix, is_full, bits, random_image):
    form = PlaneFormat(matrix, is_full, bits, (1, 1))
    image = random_image(1, 3, 16, 16)
    levels = planes_to_levels(rgb_to_planes(image, form), form)
    assert all(plane.dtype == form.dtype for plane in levels)
    back = planes_to_rgb(levels_to_planes(levels, form), form)
    assert (back - image).abs().max() * (2**bits - 1) < 2.5
    again = planes_to_levels(levels_to_planes(levels, form), form)
    assert all(torch.equal(*pair) for pair in zip(levels, again, strict=True))


@pytest.mark.parametrize("siting", ["left", "center", "topleft", "top", "bottomleft", "bottom"])
@pytest.mark.parametrize("subsampling", [(2, 2), (1, 2), (2, 1), (1, 4), (4, 4)])
def test_chroma_samples_lie_where_their_siting_says(siting, subsampling):
    form = PlaneFormat("bt709", subsampling=subsampling, siting=siting)
    size = (48, 64)
    rows, columns = torch.meshgrid(torch.arange(48) / 48, torch.arange(64) / 64, indexing="ij")
    ramp = (0.3 * rows + 0.5 * columns)[None, None]
    small = resample_chroma(ramp, FULL, size, form, size)
    down, across = form.subsampling
    top = {"topleft": 0, "top": 0, "bottomleft": down - 1, "bottom": down - 1}.get(siting, (down - 1) / 2)
    left = 0 if siting in ("left", "topleft", "bottomleft") else (across - 1) / 2
    expected = (
        0.3 * (torch.arange(48 // down) * down + top)[:, None] / 48 + 0.5 * (torch.arange(64 // across) * across + left) / 64
    )
    inner = (slice(3, -3), slice(3, -3))
    assert torch.allclose(small[0, 0][inner], expected.to(small)[inner], atol=1e-5)
    back = resample_chroma(small, form, size, FULL, size)
    inner = (slice(4 * down, -4 * down), slice(4 * across, -4 * across))
    assert torch.allclose(back[0, 0][inner], ramp[0, 0][inner], atol=1e-5)


def test_chroma_keeps_its_place_in_an_enlargement():
    form = PlaneFormat("bt709", siting="left")
    ramp = (torch.arange(64) / 64).expand(1, 1, 48, 64)
    small = resample_chroma(ramp, FULL, (48, 64), form, (48, 64))
    large = resample_chroma(small, form, (48, 64), form, (96, 128))
    places = (torch.arange(64) * 2 + 0.5) / 2 - 0.5  # of the larger picture's chroma samples, in pixels of the ramp
    assert torch.allclose(large[0, 0, 20, 6:-6], (places / 64)[6:-6], atol=1e-5)


def test_what_lies_beyond_black_and_white_is_kept():
    form = PlaneFormat("bt709", False, 8, (1, 1))
    levels = [torch.tensor([[1, 16, 235, 254]], dtype=torch.uint8)] + [torch.full((1, 4), 128, dtype=torch.uint8)] * 2
    planes = levels_to_planes(levels, form)
    assert planes.luma.min() < 0 and planes.luma.max() > 1
    assert torch.equal(planes_to_levels(planes, form)[0], levels[0])


def test_grey_gets_neutral_chroma():
    form = PlaneFormat("bt709", True, 8, (1, 1), is_grey=True)
    planes = levels_to_planes([torch.tensor([[0, 128, 255]], dtype=torch.uint8)], form)
    rgb = planes_to_rgb(planes, form)
    assert torch.allclose(rgb[0, :, 0], torch.tensor([[0, 128 / 255, 1.0]]).expand(3, -1))
    assert len(planes_to_levels(planes, form)) == 1


def test_rgb_planes_are_green_blue_and_red(random_image):
    image, form = random_image(1, 3, 4, 5), PlaneFormat("rgb", True, 8, (1, 1))
    planes = rgb_to_planes(image, form)
    assert torch.equal(planes.luma, image[:, 1:2]) and torch.equal(planes.red, image[:, :1])
    assert torch.equal(planes_to_rgb(planes, form), image)


def test_odd_sizes_have_rounded_up_chroma(random_image):
    form = PlaneFormat("bt709")
    planes = rgb_to_planes(random_image(1, 3, 7, 9), form)
    assert planes.blue.shape == (1, 1, 4, 5)
    assert planes_to_rgb(planes, form).shape == (1, 3, 7, 9)


def test_the_input_is_untouched(random_image):
    image = random_image(1, 3, 8, 8)
    before = image.clone()
    planes = rgb_to_planes(image, PlaneFormat())
    kept = Planes(*(plane.clone() for plane in planes))
    planes_to_levels(planes, PlaneFormat())
    assert torch.equal(image, before)
    assert all(torch.equal(*pair) for pair in zip(planes, kept, strict=True))


def test_an_unknown_matrix_is_refused(random_image):
    with pytest.raises(RefusedError, match="matrix is ycgco"):
        rgb_to_planes(random_image(1, 3, 4, 4), PlaneFormat("ycgco"))
