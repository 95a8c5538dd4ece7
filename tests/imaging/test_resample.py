"""Resizing against Pillow, and the laws of separable operators."""

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.resample import apply_separable, compose_weights, gaussian_weights, resize, resize_weights

PILLOW = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
SIZES = [(11, 19), (148, 212), (50, 21), (1, 1), (200, 7), (37, 54), (36, 53)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", ["bicubic", "lanczos"])
def test_resize_agrees_with_pillow_in_float(random_image, size, kernel):
    image = random_image(1, 1, 37, 53)
    expected = np.asarray(Image.fromarray(image[0, 0].numpy(), "F").resize(size[::-1], PILLOW[kernel]))
    assert np.abs(resize(image, size, kernel)[0, 0].numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos"])
def test_resize_agrees_with_pillow_in_8_bits_within_one_step(photo, kernel):
    picture = Image.fromarray((photo[0].permute(1, 2, 0) * 255).round().byte().numpy())
    expected = np.asarray(picture.resize((70, 41), PILLOW[kernel])).astype(float)
    ours = resize(photo, (41, 70), kernel)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(ours - expected).max() <= 1.0


def test_the_same_size_gives_an_equal_copy(random_image):
    image = random_image(1, 3, 5, 6)
    result = resize(image, (5, 6))
    assert torch.equal(result, image)
    assert result.data_ptr() != image.data_ptr()


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos"])
@pytest.mark.parametrize(("before", "after"), [(7, 31), (64, 9), (5, 5), (1, 8), (100, 1), (3000, 17)])
def test_weights_sum_to_one_so_that_flat_stays_flat(kernel, before, after):
    weights = resize_weights(before, after, kernel)
    assert torch.allclose(weights.weights.sum(dim=1), torch.ones(after, dtype=torch.float64))
    assert weights.first.min() >= 0
    assert weights.first.max() + weights.weights.shape[1] <= before


def test_composing_two_operators_equals_their_matrix_product():
    down, up = resize_weights(148, 37), resize_weights(37, 148)
    expected = down.to_matrix() @ up.to_matrix()
    assert torch.allclose(compose_weights(down, up).to_matrix(), expected, atol=1e-14)


def test_operators_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="takes 10 samples, inner returns 12; wanted the same number"):
        compose_weights(resize_weights(10, 5), resize_weights(6, 12))


def test_a_gaussian_is_its_own_transpose():
    matrix = gaussian_weights(23, 2.1).to_matrix()
    assert torch.allclose(matrix, matrix.T, atol=1e-15)


def test_blocks_give_what_the_dense_matrices_give(random_image):
    image = random_image(1, 2, 150, 333).double()
    rows, columns = resize_weights(150, 401), resize_weights(333, 90)
    expected = rows.to_matrix() @ image @ columns.to_matrix().T
    assert torch.allclose(apply_separable(image, rows, columns), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float_and_returned_in_half(random_image, dtype):
    image = random_image(1, 3, 20, 20, dtype=dtype)
    result = resize(image, (31, 13))
    assert result.dtype == dtype
    assert torch.equal(result, resize(image.float(), (31, 13)).to(dtype))


def test_a_size_of_zero_is_refused(random_image):
    with pytest.raises(ValueError, match="target size is 5x0; wanted at least 1x1"):
        resize(random_image(1, 3, 4, 4), (0, 5))


@pytest.mark.parametrize("size", [(300, 600), (75, 150), (150, 300)])
def test_parts_of_larger_images_are_resized_like_copies(random_image, size):
    image = random_image(2, 3, 160, 320)
    for part in (
        image[:, :, 5:155, 10:310],
        image[:, 1:2, :150, 20:],
        image.movedim(1, -1).contiguous().movedim(-1, 1)[:, :, 10:, 20:],
    ):
        assert torch.allclose(resize(part, size), resize(part.contiguous().clone(), size), atol=1e-6)
        assert torch.allclose(gaussian_blur(part, 2.0), gaussian_blur(part.contiguous().clone(), 2.0), atol=1e-6)
