"""PSNR, SSIM and MS-SSIM against scikit-image, torchmetrics and published figures; seams where there are some."""

import math

import pytest
import torch
from skimage import metrics as oracle

from fidelity.imaging.metrics import ms_ssim, mse, psnr, seam_energy, ssim, studio_luma, worst_seam
from fidelity.imaging.resample import resize


def as_array(image):
    return image[0].permute(1, 2, 0).double().numpy()


@pytest.fixture
def pair(photo, random_image):
    return photo, (photo + 0.1 * (random_image(*photo.shape) - 0.5)).clamp(0, 1)


def test_psnr_agrees_with_scikit_image(pair):
    expected = oracle.peak_signal_noise_ratio(as_array(pair[0]), as_array(pair[1]), data_range=1)
    assert psnr(*pair) == pytest.approx(expected, abs=1e-5)


def test_ssim_agrees_with_scikit_image(pair):
    expected = oracle.structural_similarity(
        as_array(pair[0]), as_array(pair[1]), data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(*pair) == pytest.approx(expected, abs=1e-6)


def test_studio_luma_runs_from_16_to_235():
    ends = torch.stack((torch.zeros(3), torch.ones(3))).reshape(2, 3, 1, 1)
    assert (studio_luma(ends).flatten() * 255).tolist() == pytest.approx([16, 235], abs=1e-3)


def test_equal_images_have_infinite_psnr_and_ssim_of_one(photo):
    assert psnr(photo, photo) == math.inf
    assert ssim(photo, photo) == pytest.approx(1)


def test_the_crop_leaves_the_border_out(photo):
    spoiled = photo.clone()
    spoiled[..., :4, :] = 0
    assert psnr(photo, spoiled) < 30
    assert psnr(photo, spoiled, crop_px=4) == math.inf


@pytest.mark.parametrize(("scale", "expected"), [(2, 33.68), (4, 28.43)])
def test_bicubic_on_set5_gives_the_known_figure(test_data, read_rgb, scale, expected):
    figures = []
    for path in sorted((test_data / "images/set5/HR").glob("*.png")):
        truth, small = read_rgb(path), read_rgb(test_data / f"images/set5/LRx{scale}" / path.name)
        large = resize(small, tuple(truth.shape[2:])).clamp(0, 1)
        figures.append(psnr(truth, large, luma=True, crop_px=scale))
    assert sum(figures) / len(figures) == pytest.approx(expected, abs=0.01)


def test_two_shapes_are_refused(random_image):
    with pytest.raises(ValueError, match="wanted the same shape"):
        psnr(random_image(1, 3, 8, 8), random_image(1, 3, 8, 9))


def test_a_crop_that_leaves_nothing_is_refused(random_image):
    image = random_image(1, 3, 8, 8)
    with pytest.raises(ValueError, match="a crop of 4 px leaves nothing of 8x8"):
        psnr(image, image, crop_px=4)


def test_an_image_smaller_than_the_window_is_refused(random_image):
    image = random_image(1, 3, 10, 40)
    with pytest.raises(ValueError, match="wanted at least 11x11 pixels for SSIM"):
        ssim(image, image)


def test_mse_agrees_with_scikit_image(pair):
    assert mse(*pair) == pytest.approx(oracle.mean_squared_error(as_array(pair[0]), as_array(pair[1])), rel=1e-6)


@pytest.mark.parametrize(
    "spoil", [lambda image: image + 0.2 * (torch.rand_like(image) - 0.5), lambda image: image**1.3, lambda image: 1 - image]
)
def test_ms_ssim_agrees_with_torchmetrics_image_by_image(random_image, spoil):
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference

    torch.manual_seed(0)
    smooth = resize(random_image(2, 3, 24, 26), (192, 208)).clamp(0, 1).double()
    spoiled = spoil(smooth).clamp(0, 1)
    expected = reference(spoiled, smooth, data_range=1.0, kernel_size=11, sigma=1.5).item()
    assert ms_ssim(smooth, spoiled) == pytest.approx(expected, abs=3e-4)  # torchmetrics counts reflected borders once
    assert ms_ssim(smooth, smooth) == pytest.approx(1)


def test_ms_ssim_wants_room_for_five_scales(random_image):
    image = random_image(1, 3, 175, 200)
    with pytest.raises(ValueError, match="at least 176 pixels a side"):
        ms_ssim(image, image)


def test_a_seam_is_told_by_its_steps_and_only_where_it_is(random_image):
    image = 0.1 * random_image(1, 3, 40, 60)
    plain = seam_energy(image, rows=(20,), columns=(30,))
    image[..., 30:] += 0.2
    assert plain == pytest.approx(1, abs=0.3)
    assert seam_energy(image, columns=(30,)) > 10
    assert seam_energy(image, columns=(15,)) == pytest.approx(1, abs=0.3)
    assert worst_seam(image) == pytest.approx(seam_energy(image, columns=(30,)))


def test_flat_images_have_no_seam_or_nothing_but_one():
    flat = torch.zeros(1, 1, 20, 20)
    assert seam_energy(flat, rows=(10,)) == worst_seam(flat) == 1
    flat[:, :, 10:] = 1
    assert seam_energy(flat, rows=(10,)) == math.inf


@pytest.mark.parametrize(
    ("rows", "words"), [((), "no borders to measure"), ((0,), "a border at 0 of 20"), ((20,), "a border at 20 of 20")]
)
def test_borders_outside_the_image_are_refused(rows, words):
    with pytest.raises(ValueError, match=words):
        seam_energy(torch.zeros(1, 1, 20, 20), rows=rows)
