"""Work in bands gives what work on the whole would."""

import pytest
import torch

from fidelity.imaging import bands, tensors


def test_bands_cover_every_row_once():
    rows = [row for band in bands.iterate_bands(1000, 5000, band_bytes=64_000) for row in range(band.start, band.stop)]
    assert rows == list(range(1000))


def test_a_row_larger_than_a_band_is_a_band_of_its_own():
    assert [band.stop - band.start for band in bands.iterate_bands(3, 10**9)] == [1, 1, 1]


def test_mapping_in_bands_equals_mapping_the_whole(random_image, monkeypatch):
    image = random_image(2, 3, 37, 11)
    monkeypatch.setattr(bands.iterate_bands, "__defaults__", (1000,))
    assert torch.equal(bands.map_bands(lambda band: band * 2 + 1, image), image * 2 + 1)


def test_memory_format_of_the_host_is_kept(random_image):
    image = random_image(1, 6, 5, 3).movedim(-1, 1)
    assert bands.map_bands(torch.neg, image).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_is_found(value):
    image = torch.ones(1, 3, 50, 50, dtype=torch.float16)
    assert tensors.is_finite(image)
    image[0, 1, 20, 30] = value
    assert not tensors.is_finite(image)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((3, 4, 4), torch.float32, "wanted \\(batch, channels, height, width\\)"),
        ((1, 2, 4, 4), torch.float32, "has 2 channels; wanted 1 or 3 or 4"),
        ((1, 3, 0, 4), torch.float32, "at least one pixel"),
        ((1, 3, 4, 4), torch.uint8, "has dtype torch.uint8"),
    ],
)
def test_what_is_no_image_is_refused_with_what_was_seen(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        tensors.check_image(torch.zeros(shape, dtype=dtype))
