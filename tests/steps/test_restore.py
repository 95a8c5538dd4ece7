"""Mending takes damage away and leaves the picture, its colours and its transparency."""

import pytest
import torch

from fidelity.imaging import bands
from fidelity.imaging.drift import measure_drift
from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from fidelity.steps.deband import DEBAND_RANGE, deband
from fidelity.steps.restore import restore


@pytest.fixture
def scene(photo):
    return resize(photo, (200, 240)).clamp(0, 1)


def with_noise(image, sigma):
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image + noise * sigma / 255).clamp(0, 1)


@pytest.mark.parametrize(("sigma", "gain"), [(6, 1), (15, 3), (30, 4)])
def test_the_filter_takes_noise_away(scene, sigma, gain):
    spoilt = with_noise(scene, sigma)
    mended = restore(spoilt, None, 0.67 * sigma)
    assert psnr(scene, mended) > psnr(scene, spoilt) + gain
    assert measure_drift(spoilt, mended).mean < 1.5


def test_a_network_is_used_where_there_is_one(faulty, scene):
    model = faulty(scale=1)
    mended = restore(scene, model, 0)
    assert model.descriptor.model.calls
    assert (mended - scene).abs().max() < 1e-3  # that network changes nothing


def test_without_damage_nothing_changes(scene):
    assert (restore(scene, None, 0) - scene).abs().max() < 1 / 255


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kind_and_transparency_are_kept(random_image, channels, dtype):
    image = random_image(2, channels, 30, 26, dtype=dtype)
    before = image.clone()
    mended = restore(image, None, 5)
    assert mended.shape == image.shape
    assert mended.dtype == dtype
    assert torch.equal(mended[:, 3:], image[:, 3:])
    assert torch.equal(image, before)


def test_bands_leave_no_trace_and_are_counted(scene, monkeypatch):
    whole = restore(scene, None, 5)
    monkeypatch.setattr(bands, "iterate_bands", lambda height, *_: (slice(y, min(y + 7, height)) for y in range(0, height, 7)))
    seen = []
    assert torch.equal(restore(scene, None, 5, progress=lambda done, total: seen.append((done, total))), whole)
    assert seen[-1] == (200, 200)


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        restore(torch.full((1, 3, 8, 8), torch.nan), None, 1)


def test_strength_takes_a_share_of_what_was_mended(scene):
    whole, half = restore(scene, None, 8), restore(scene, None, 8, strength=0.5)
    assert torch.allclose(half, (scene + whole) / 2, atol=1e-6)


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
