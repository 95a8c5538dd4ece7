"""Colour spaces against published values and scikit-image."""

import numpy as np
import pytest
import torch
from skimage import color as oracle

from fidelity.imaging import color

# Sharma, Wu and Dalal 2005, table 1: L1 a1 b1 L2 a2 b2 dE00.
SHARMA = [
    (50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425),
    (50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615),
    (50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412),
    (50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000),
    (50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669),
    (50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195),
    (50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045),
    (50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461),
    (50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065),
    (50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492),
    (50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977),
    (50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030),
    (50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000),
    (50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
]


@pytest.mark.parametrize("row", SHARMA)
def test_ciede2000_gives_the_published_difference_of_each_sharma_pair(row):
    lab_a, lab_b = (torch.tensor(row[i : i + 3], dtype=torch.float64).reshape(1, 3, 1, 1) for i in (0, 3))
    assert color.ciede2000(lab_a, lab_b).item() == pytest.approx(row[6], abs=1e-4)
    assert color.ciede2000(lab_b, lab_a).item() == pytest.approx(row[6], abs=1e-4)


def test_all_34_sharma_pairs_are_there():
    assert len(SHARMA) == len({row[:6] for row in SHARMA}) == 34


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-3)])
def test_delta_e_agrees_with_scikit_image_on_random_images(random_image, dtype, tolerance):
    first, second = random_image(1, 3, 40, 50, seed=1).double(), random_image(1, 3, 40, 50, seed=2).double()
    labs = (oracle.rgb2lab(image[0].permute(1, 2, 0).numpy()) for image in (first, second))
    expected = oracle.deltaE_ciede2000(*labs)
    ours = color.delta_e(first.to(dtype), second.to(dtype))[0, 0].double().numpy()
    assert np.abs(ours - expected).max() < tolerance


def test_lab_agrees_with_scikit_image(random_image):
    image = random_image(1, 3, 30, 20).double()
    expected = oracle.rgb2lab(image[0].permute(1, 2, 0).numpy())
    assert np.abs(color.rgb_to_lab(image)[0].permute(1, 2, 0).numpy() - expected).max() < 1e-10


def test_equal_images_differ_by_nothing(random_image):
    image = random_image(2, 3, 9, 7)
    assert color.delta_e(image, image).abs().max() == 0


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_ycbcr_round_trip_is_exact_to_a_millionth(random_image, matrix):
    image = random_image(2, 3, 33, 21)
    assert (color.ycbcr_to_rgb(color.rgb_to_ycbcr(image, matrix), matrix) - image).abs().max() <= 1e-6


def test_bt601_agrees_with_pillow_within_rounding(random_image):
    from PIL import Image

    samples = (random_image(1, 3, 20, 20) * 255).round().to(torch.uint8)
    expected = np.asarray(Image.fromarray(samples[0].permute(1, 2, 0).numpy()).convert("YCbCr")).astype(float)
    ours = color.rgb_to_ycbcr(samples.float() / 255)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(ours - expected).max() <= 1.0


def test_bt709_has_the_published_luma_of_the_primaries():
    primaries = torch.eye(3).reshape(3, 3, 1, 1)
    assert color.rgb_to_luma(primaries, "bt709").flatten().tolist() == pytest.approx([0.2126, 0.7152, 0.0722])


def test_linear_light_round_trip(random_image):
    image = random_image(1, 3, 16, 16)
    assert (color.linear_to_srgb(color.srgb_to_linear(image)) - image).abs().max() <= 1e-6


def test_mid_grey_is_about_a_fifth_of_the_light():
    assert color.srgb_to_linear(torch.full((1, 1, 1, 1), 0.5)).item() == pytest.approx(0.21404, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("function", [color.rgb_to_ycbcr, color.rgb_to_lab, color.srgb_to_linear, color.rgb_to_luma])
def test_dtype_is_kept_and_the_input_untouched(random_image, function, dtype):
    image = random_image(1, 3, 8, 8, dtype=dtype)
    before = image.clone()
    assert function(image).dtype == dtype
    assert torch.equal(image, before)


def test_grey_is_told_from_colour(random_image):
    grey = random_image(1, 1, 5, 5)
    assert color.is_grey(grey)
    assert color.is_grey(grey.repeat(1, 3, 1, 1))
    tinted = grey.repeat(1, 3, 1, 1)
    tinted[0, 2, 3, 3] += 1e-6
    assert not color.is_grey(tinted)


def test_images_of_two_sizes_are_refused(random_image):
    with pytest.raises(ValueError, match=r"\(4, 4\) and \(4, 5\).*wanted the same size"):
        color.delta_e(random_image(1, 3, 4, 4), random_image(1, 3, 4, 5))


def test_an_image_without_batch_is_refused(random_image):
    with pytest.raises(ValueError, match=r"shape \(3, 4, 4\); wanted"):
        color.rgb_to_ycbcr(random_image(3, 4, 4))
