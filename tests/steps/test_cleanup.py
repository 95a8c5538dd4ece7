"""What cleaning changes, and what it leaves alone."""

from typing import get_args

import pytest
import torch

from fidelity.imaging.color import rgb_to_ycbcr
from fidelity.steps.cleanup import CleanupMethod, CleanupSettings, clean

METHODS = get_args(CleanupMethod)


@pytest.mark.parametrize("method", METHODS)
def test_colours_and_alpha_stay_and_only_luma_changes(random_image, method):
    image = random_image(1, 4, 40, 30) * 0.4 + 0.3
    before = image.clone()
    result = clean(image, method)
    assert torch.equal(image, before)
    assert torch.equal(result[:, 3], image[:, 3])
    assert not torch.equal(result, image)
    assert torch.allclose(rgb_to_ycbcr(result[:, :3])[:, 1:], rgb_to_ycbcr(image[:, :3])[:, 1:], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_bands_leave_no_trace(random_image, method, monkeypatch):
    image = random_image(2, 3, 61, 50)
    whole = clean(image, method)
    monkeypatch.setattr("fidelity.steps.cleanup.BAND_BYTES", 10_000)
    assert torch.allclose(clean(image, method), whole, atol=1e-5 if method == "antialias" else 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_strength_blends_and_none_changes_nothing(random_image, method):
    image = random_image(1, 1, 20, 20) * 0.5 + 0.25
    half, whole = clean(image, method, 0.5), clean(image, method)
    assert torch.allclose(clean(image, method, 0.0), image)
    assert torch.allclose(half, (image + whole) / 2, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 9), (1, 4, 2, 2)])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_any_size_and_dtype_is_kept(random_image, shape, method, dtype):
    image = random_image(*shape, dtype=dtype)
    result = clean(image, method)
    assert result.shape == image.shape
    assert result.dtype == dtype


def test_what_cannot_be_cleaned_is_refused(random_image):
    with pytest.raises(ValueError, match="method is 'blur'; wanted bilateral, guided, median, antialias, unsharp"):
        clean(random_image(1, 3, 8, 8), "blur")
    with pytest.raises(ValueError, match="strength is 2; wanted 0 to 1"):
        clean(random_image(1, 3, 8, 8), "median", 2)
    with pytest.raises(ValueError, match="not finite"):
        clean(torch.full((1, 3, 8, 8), torch.nan), "median")


def test_progress_counts_rows_of_all_images(random_image):
    seen = []
    clean(random_image(2, 3, 20, 10), "median", progress=lambda done, total: seen.append(done / total))
    assert seen == [0.5, 1]


def test_colours_are_filtered_too_if_asked(random_image):
    image = random_image(1, 3, 30, 30) * 0.1 + 0.4
    for method in ("bilateral", "guided", "median", "antialias"):
        result = clean(image, method, channels="rgb")
        assert rgb_to_ycbcr(result)[:, 1:].std() < 0.95 * rgb_to_ycbcr(image)[:, 1:].std(), method


def test_a_mask_says_where(random_image):
    image, mask = random_image(2, 3, 20, 30), torch.zeros(1, 1, 20, 30)
    mask[..., 15:] = 1
    result = clean(image, "median", mask=mask)
    assert torch.equal(result[..., :15], image[..., :15])
    assert torch.equal(result[..., 15:], clean(image, "median")[..., 15:])


def test_each_of_a_batch_has_its_own_mask_and_guide(random_image):
    image, guide = random_image(2, 3, 20, 30), random_image(2, 3, 20, 30, seed=1)
    mask = torch.stack((torch.zeros(1, 20, 30), torch.ones(1, 20, 30)))
    result = clean(image, "bilateral", mask=mask, guide=guide)
    assert torch.equal(result[0], image[0])
    assert torch.equal(result[1:], clean(image[1:], "bilateral", guide=guide[1:]))


def test_noise_widens_what_the_bilateral_filter_evens_out(random_image):
    image = random_image(1, 1, 30, 30) * 0.2 + 0.4
    assert clean(image, "bilateral", noise_sigma=12).std() < 0.9 * clean(image, "bilateral").std()


def test_a_grey_image_takes_a_coloured_guide(random_image):
    image, guide = random_image(1, 1, 20, 20), random_image(1, 3, 20, 20, seed=1)
    for method in ("bilateral", "guided"):
        assert clean(image, method, channels="rgb", guide=guide).shape == image.shape


@pytest.mark.parametrize("method", ["bilateral", "guided"])
def test_the_edges_of_a_guide_are_kept_in_place_of_its_own(method):
    guide = torch.zeros(1, 1, 24, 24)
    guide[..., 12:] = 1
    noisy = guide * 0.04 + torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.4
    settings = CleanupSettings(radius_px=4, sigma_px=3, value_range=0.2)
    own, guided = clean(noisy, method, settings=settings), clean(noisy, method, settings=settings, guide=guide)
    steps = [(result[..., 12].mean() - result[..., 11].mean()).item() for result in (own, guided)]
    assert steps[1] > 0.03 > steps[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": torch.ones(1, 1, 3, 3)}, r"mask has shape \(1, 1, 3, 3\); wanted the size of the image"),
        ({"guide": torch.ones(3, 1, 20, 20)}, r"guide has shape \(3, 1, 20, 20\)"),
    ],
)
def test_a_mask_or_guide_that_does_not_fit_is_refused(random_image, options, message):
    with pytest.raises(ValueError, match=message):
        clean(random_image(1, 3, 20, 20), "median", **options)


@pytest.mark.parametrize("options", [{"radius_px": 0}, {"sigma_px": 0}, {"unsharp_amount": -1}, {"median_radius_px": 9}])
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match=r"wanted|outside"):
        CleanupSettings(**options)
