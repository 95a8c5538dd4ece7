"""Restoring removes damage and leaves the picture, its colors and its transparency."""

import pytest
import torch
from skimage import data

from fidelity.decide.model_choice import shipped_model, shipped_restorer
from fidelity.imaging import bands
from fidelity.imaging.drift import measure_drift
from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from fidelity.imaging.rows import FileRows, TensorRows, read_all
from fidelity.networks.loader import load_model
from fidelity.steps.deband import DEBAND_RANGE, deband
from fidelity.steps.restore import HalfSize, restore, restore_rows
from fidelity.steps.upscale import upscale
from tools.benchmarks.restoring import as_jpeg


@pytest.fixture
def scene(photo):
    return resize(photo, (200, 240)).clamp(0, 1)


def with_noise(image, sigma):
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image + noise * sigma / 255).clamp(0, 1)


@pytest.fixture(scope="module")
def shipped():
    return load_model(shipped_restorer("natural"))


@pytest.mark.parametrize(("sigma", "gain"), [(10, 2), (20, 4), (30, 5)])
def test_the_shipped_network_removes_noise(scene, shipped, sigma, gain):
    noisy = with_noise(scene, sigma)
    restored = restore(noisy, shipped, sigma, keeps_colors=False)
    assert psnr(scene, restored) > psnr(scene, noisy) + gain
    assert measure_drift(scene, restored).mean < measure_drift(scene, noisy).mean


@pytest.mark.parametrize(("quality", "gain"), [(30, 0.6), (50, 0.6)])
def test_the_shipped_network_removes_what_jpeg_did(shipped, quality, gain):
    truth = torch.from_numpy(data.astronaut()[:256, 100:356].copy()).movedim(-1, 0)[None].float() / 255
    compressed = as_jpeg(truth, quality)
    restored = restore(compressed, shipped, 5, keeps_colors=False)
    assert psnr(truth, restored, luma=True) > psnr(truth, compressed, luma=True) + gain


def test_colors_are_kept_to_the_source_where_that_is_asked_for(scene, compact):
    shifting = compact(scale=1)
    kept, free = restore(scene, shifting, 0), restore(scene, shifting, 0, keeps_colors=False)
    assert measure_drift(scene, kept).mean < 0.5 * measure_drift(scene, free).mean


def test_a_network_that_enlarges_is_refused(scene, compact):
    with pytest.raises(ValueError, match="enlarges 2 times; wanted a network of scale 1"):
        restore(scene, compact(scale=2), 5)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_type_and_transparency_are_kept(random_image, faulty, channels, dtype):
    image = random_image(2, channels, 30, 26, dtype=dtype)
    before = image.clone()
    restored = restore(image, faulty(scale=1), 5)
    assert restored.shape == image.shape
    assert restored.dtype == dtype
    assert torch.equal(restored[:, 3:], image[:, 3:])
    assert torch.equal(image, before)


def test_what_is_not_finite_is_refused(faulty):
    with pytest.raises(ValueError, match="not finite"):
        restore(torch.full((1, 3, 8, 8), torch.nan), faulty(scale=1), 1)


def test_strength_takes_a_share_of_the_restored_image(scene, compact):
    network = compact(scale=1)
    whole, half = restore(scene, network, 8), restore(scene, network, 8, strength=0.5)
    assert torch.allclose(half, (scene + whole) / 2, atol=1e-6)


@pytest.mark.parametrize("again", [False, True])
def test_a_source_restored_at_half_size_is_shrunk_restored_and_enlarged(random_image, faulty, again):
    image, network, enlarger = random_image(1, 3, 30, 26), faulty(scale=1), faulty(scale=2)
    small = upscale(resize(image, (15, 13)).clamp(0, 1), network, None, "rgb").image
    expected = upscale(small, enlarger, None, "luma").image
    if again:
        expected = upscale(expected, network, None, "rgb").image
    restored = restore(image, network, 0, keeps_colors=False, half=HalfSize(enlarger, 1.0, again))
    assert torch.allclose(restored, expected, atol=1e-6)


def test_the_share_at_half_size_is_blended_with_the_rest(random_image, faulty):
    image, network = random_image(2, 4, 31, 27), faulty(scale=1)
    ways = [restore(image, network, 0, False, half=half and HalfSize(faulty(scale=2), half)) for half in (None, 1.0, 0.25)]
    assert torch.allclose(ways[2], torch.lerp(ways[0], ways[1], 0.25), atol=1e-6)
    assert torch.equal(ways[1][:, 3:], image[:, 3:])


def test_half_size_in_rows_equals_tensors(random_image, faulty, tmp_path):
    image, network, half = random_image(1, 4, 61, 27), faulty(scale=1), HalfSize(faulty(scale=2), 0.7, True)
    output = FileRows(image.shape, folder=tmp_path)
    new_map = lambda shape: FileRows(shape, -1.0, 2.0, tmp_path)  # noqa: E731
    told = []
    restore_rows(
        TensorRows(image), output, network, 0, False, half=half, new_map=new_map, progress=lambda *step: told.append(step)
    )
    expected = restore(image, network, 0, False, half=half)
    assert (read_all(output) - expected).abs().max() < 4 / 65535
    shares = [done / total for done, total in told]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


def test_half_size_removes_coarse_damage_that_full_size_keeps(scene, shipped):
    half = HalfSize(load_model(shipped_model("natural", 2)), 1.0)
    noisy = resize(with_noise(resize(scene, (100, 120)).clamp(0, 1), 20), (200, 240)).clamp(0, 1)
    full, coarse = (restore(noisy, shipped, 0, keeps_colors=False, half=one) for one in (None, half))
    assert psnr(scene, coarse) > psnr(scene, full) + 1 > psnr(scene, noisy) + 1


def test_the_stairs_of_a_gradient_are_evened_out_and_detail_stays(photo):
    ramp = torch.linspace(0.3, 0.38, 200).expand(1, 3, 60, 200)
    stairs = (ramp * 255).round() / 255
    result = deband(stairs)
    inner = (..., slice(20, -20))
    assert (result - ramp)[inner].abs().mean() < 0.5 * (stairs - ramp)[inner].abs().mean()
    assert result[0, 0, 30].diff()[20:-20].max() < 0.6 / 255
    assert (result - stairs).abs().max() <= DEBAND_RANGE / 2 + 1e-6
    lively = (photo * 8).frac() * 0.8 + 0.1
    assert (deband(lively) == lively).float().mean() > 0.99


def test_a_place_that_is_lively_in_one_colour_alone_is_not_flat(random_image):
    image = torch.full((1, 3, 40, 40), 0.5)
    image[:, 0] = random_image(1, 1, 40, 40)[:, 0]
    assert torch.equal(deband(image), image)


def test_debanding_in_bands_leaves_no_trace(photo, monkeypatch):
    image = torch.nn.functional.interpolate(photo, scale_factor=2, mode="bilinear").clamp(0, 1)
    whole = deband(image)
    rows = lambda height, *_: (slice(y, min(y + 13, height)) for y in range(0, height, 13))  # noqa: E731
    monkeypatch.setattr(bands, "iterate_bands", rows)
    assert torch.allclose(deband(image), whole, atol=1e-6)
