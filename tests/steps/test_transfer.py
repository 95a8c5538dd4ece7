"""What others do to colors, as named methods to compare with."""

import pytest
import torch

from fidelity.errors import RefusedError
from fidelity.imaging.drift import measure_drift
from fidelity.imaging.resample import resize
from fidelity.steps.consistency import project
from fidelity.steps.transfer import transfer_colors


def tinted(photo):
    large = resize(photo, (192, 224)).clamp(0, 1)
    return (0.15 + 0.7 * large * torch.tensor([1.0, 0.9, 0.8])[:, None, None]).clamp(0, 1)


def test_adain_gives_each_channel_the_mean_and_spread_of_the_source(photo):
    made = transfer_colors(tinted(photo) * 0.5 + 0.2, photo * 0.5 + 0.25, "adain")
    for moment in (torch.mean, torch.std):
        assert torch.allclose(moment(made, dim=(2, 3)), moment(photo * 0.5 + 0.25, dim=(2, 3)), atol=2e-3)


def test_wavelet_takes_low_frequencies_from_the_source_and_keeps_detail(photo):
    image, source = tinted(photo), photo * 0.6 + 0.2
    made = transfer_colors(image, source, "wavelet")
    assert measure_drift(source, made).mean < 0.5 * measure_drift(source, image).mean
    fine = [one - torch.nn.functional.avg_pool2d(one, 3, 1, 1) for one in (image, made)]
    assert (fine[0] - fine[1])[..., 8:-8, 8:-8].abs().mean() < 0.1 * fine[0].abs().mean()


@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_the_projection_holds_colors_better(photo, method):
    image = tinted(photo)
    assert measure_drift(photo, project(image, photo)).mean < measure_drift(photo, transfer_colors(image, photo, method)).mean


@pytest.mark.parametrize("method", ["adain", "wavelet"])
def test_an_image_with_its_sources_colors_stays_and_so_does_transparency(photo, method):
    image = torch.cat((photo, photo[:, :1]), dim=1)
    assert torch.allclose(transfer_colors(image, photo, method), image, atol=1e-5)
    assert transfer_colors(image.half(), photo[:, :1], method).dtype == torch.float16
    flat = torch.full((2, 1, 8, 8), 0.5)
    assert torch.allclose(transfer_colors(flat, torch.full((1, 1, 4, 4), 0.25), method), flat / 2, atol=1e-6)


def test_what_does_not_match_is_refused(photo):
    with pytest.raises(RefusedError, match="method is 'lab'; wanted adain or wavelet"):
        transfer_colors(photo, photo, "lab")
    with pytest.raises(RefusedError, match="the reference has 2 images; wanted 1 or 3"):
        transfer_colors(photo.expand(3, -1, -1, -1), photo.expand(2, -1, -1, -1), "adain")
    with pytest.raises(RefusedError, match="the reference has 3 channels of color; wanted 1"):
        transfer_colors(photo[:, :1], photo, "adain")
