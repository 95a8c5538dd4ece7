"""Grain is measured, and added back with the same statistics."""

import math

import pytest
import torch

from fidelity.imaging.color import rgb_to_luma
from fidelity.imaging.drift import measure_drift
from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.resample import resize
from fidelity.imaging.rows import TensorRows, maps_in_memory
from fidelity.steps import grain as grain_module
from fidelity.steps.grain import fit_grain, lay_grain

HEIGHT, WIDTH = 300, 400


def film_frame():
    """A frame without its grain and with it: strongest in the midtones, a pixel and a half wide, mostly in luma."""
    generator = torch.Generator().manual_seed(1)
    brightness = torch.linspace(0.08, 0.92, WIDTH).expand(1, 1, HEIGHT, WIDTH)
    clean = brightness * torch.tensor([1.0, 0.9, 0.75]).reshape(1, 3, 1, 1)
    noise = gaussian_blur(torch.randn((1, 4, HEIGHT, WIDTH), generator=generator), 0.7)
    noise = noise / noise.std()
    strength = 0.03 * 4 * brightness * (1 - brightness)
    return clean, clean + strength * (0.9 * noise[:, :1] + 0.3 * noise[:, 1:])


def watercolor():
    """A wash on paper without the paper's grain and with it: fibers of two sizes, in 8 bits."""
    generator = torch.Generator().manual_seed(2)
    wash = gaussian_blur(torch.rand((1, 3, HEIGHT, WIDTH), generator=generator), 30)
    wash = 0.45 + 0.4 * (wash - wash.amin()) / (wash.amax() - wash.amin())
    fine, coarse = torch.randn((2, 1, 1, HEIGHT, WIDTH), generator=generator)
    coarse = gaussian_blur(coarse, 0.9)
    paper = 0.95 * coarse / coarse.std() + 0.3 * fine
    return wash, ((wash * (1 - 0.03 * paper)).clamp(0, 1) * 255).round() / 255


PICTURES = {"film": film_frame, "watercolor": watercolor}


def laid(clean, source, scale):
    size = round(clean.shape[2] * scale), round(clean.shape[3] * scale)
    output = resize(clean, size).clamp(0, 1)
    rows = TensorRows(output)
    grain = fit_grain(TensorRows(source), TensorRows(clean))
    lay_grain(rows, TensorRows(source), TensorRows(clean), grain, maps_in_memory(output.device))
    return rows.image, grain


def spectrum_db(image):
    """Power in eight rings of frequency, in dB."""
    side = 64
    window = torch.hann_window(side)[:, None] * torch.hann_window(side)
    places = [(top, left) for top in range(0, HEIGHT - side, 32) for left in range(0, WIDTH - side, 32)]
    patches = torch.stack([image[0, 0, top : top + side, left : left + side] for top, left in places])
    patches = (patches - patches.mean(dim=(1, 2), keepdim=True)) * window
    power = torch.fft.fft2(patches).abs().square().mean(dim=0)
    axis = torch.fft.fftfreq(side)
    radius = (axis[:, None].square() + axis.square()).sqrt()
    rings = [power[(radius >= low) & (radius < low + 0.06)].mean() for low in torch.arange(0.02, 0.46, 0.06)]
    return torch.tensor([10 * math.log10(ring) for ring in rings])


@pytest.mark.parametrize("scale", [4, 2, 3.3])
@pytest.mark.parametrize("name", PICTURES)
def test_level_and_spectrum_are_the_sources_at_its_own_scale(name, scale):
    clean, source = PICTURES[name]()
    result, grain = laid(clean, source, scale)
    back = resize(result, (HEIGHT, WIDTH))
    before, after = (rgb_to_luma(image - clean) for image in (source, back))
    assert after.std().item() == pytest.approx(before.std().item(), rel=0.05)
    assert (spectrum_db(after) - spectrum_db(before)).abs().max() < 1
    assert grain.unevenness < 0.2


def test_the_level_follows_brightness():
    clean, source = film_frame()
    result, grain = laid(clean, source, 4)
    back = resize(result, (HEIGHT, WIDTH))
    for left in range(40, WIDTH - 40, 64):
        part = (..., slice(left, left + 64))
        levels = [rgb_to_luma(image - clean)[part].std().item() for image in (source, back)]
        assert levels[1] == pytest.approx(levels[0], rel=0.1)
    assert grain.shadow_share < 0.9


def test_channels_are_correlated_as_the_sources_are():
    clean, source = film_frame()
    result, _ = laid(clean, source, 2)
    back = resize(result, (HEIGHT, WIDTH))
    wanted, made = (torch.corrcoef((image - clean)[0].flatten(1)) for image in (source, back))
    assert (wanted - made).abs().max() < 0.05


def test_new_grain_is_sharp_but_hardly_stronger_at_the_outputs_scale():
    clean, source = film_frame()
    result, _ = laid(clean, source, 4)
    added = rgb_to_luma(result - resize(clean, result.shape[2:]).clamp(0, 1))
    blurred = rgb_to_luma(resize(source - clean, result.shape[2:]))
    assert added.std() < 1.4 * (source - clean).std()
    assert added.diff(dim=3).std() > 1.2 * blurred.diff(dim=3).std()


def test_colors_come_nearer_to_the_source():
    clean, source = film_frame()
    result, _ = laid(clean, source, 4)
    without = resize(clean, result.shape[2:]).clamp(0, 1)
    assert measure_drift(source, result).mean < 0.6 * measure_drift(source, without).mean


def test_the_same_picture_gives_the_same_grain_and_bands_do_not_show(monkeypatch):
    clean, source = film_frame()
    result, _ = laid(clean, source, 2)
    again, _ = laid(clean, source, 2)
    assert torch.equal(result, again)
    monkeypatch.setattr(grain_module, "band_rows", lambda rows: (slice(top, min(top + 37, 600)) for top in range(0, 600, 37)))
    assert torch.allclose(laid(clean, source, 2)[0], result, atol=1e-5)


def test_grey_stays_grey_and_alpha_stays():
    clean, source = (image.mean(dim=1, keepdim=True) for image in film_frame())
    result, _ = laid(clean.expand(-1, 3, -1, -1), source.expand(-1, 3, -1, -1), 2)
    assert torch.equal(result[:, 0], result[:, 1])
    assert laid(clean, source, 2)[0].shape[1] == 1
    alpha = torch.rand((1, 1, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(3))
    rows = TensorRows(torch.cat((film_frame()[0], alpha), dim=1))
    grain = fit_grain(TensorRows(film_frame()[1]), TensorRows(film_frame()[0]))
    lay_grain(rows, TensorRows(film_frame()[1]), TensorRows(film_frame()[0]), grain, maps_in_memory(rows.device))
    assert torch.equal(rows.image[:, 3:], alpha)


def test_what_is_transparent_does_not_count():
    clean, source = film_frame()
    alpha = torch.ones(1, 1, HEIGHT, WIDTH)
    alpha[:, :, : HEIGHT // 2] = 0
    shown = [torch.where(alpha > 0, image, torch.full_like(image, 0.5)) for image in (source, clean)]
    grain = fit_grain(TensorRows(shown[0]), TensorRows(shown[1]), TensorRows(alpha))
    whole = fit_grain(TensorRows(source), TensorRows(clean))
    assert grain.deviation == pytest.approx(whole.deviation, rel=0.15)
    assert grain.unevenness < 0.2


def test_what_shows_no_flat_area_tells_nothing(random_image):
    noise = random_image(1, 3, 96, 96)
    assert fit_grain(TensorRows(noise), TensorRows(noise)) is None
    small = torch.full((1, 3, 20, 20), 0.5)
    assert fit_grain(TensorRows(small), TensorRows(small)) is None
