"""What colors are held to where the source is damaged."""

import pytest
import torch

from fidelity.imaging.drift import measure_drift
from fidelity.imaging.resample import resize
from fidelity.imaging.rows import TensorRows, maps_in_memory, read_all
from fidelity.steps import reference
from fidelity.steps.reference import estimate_reference


def estimate(raw, source, restored):
    made = estimate_reference(*map(TensorRows, (raw, source, restored)), maps_in_memory(raw.device))
    return read_all(made)


def enlarge(image):
    return resize(image, (image.shape[2] * 4, image.shape[3] * 4)).clamp(0, 1)


def test_where_nothing_was_restored_the_source_alone_counts(photo):
    drifted = (enlarge(photo) * 0.8).clamp(0, 1)
    assert torch.allclose(estimate(drifted, photo, photo), photo, atol=1e-4)


def test_what_restoration_changed_is_shared_with_the_network_by_its_power(photo):
    truth = photo * 0.5 + 0.2
    source, restored, guess = truth + 0.04, truth + 0.02, truth - 0.04
    made = estimate(enlarge(guess), source, restored)
    # In luma d = 0.06, and u² = 4 (0.02² + 0.02² / (4 π 1.5²)).
    middle = (..., slice(20, -20), slice(20, -20))
    assert (made - guess)[middle].mean().item() == pytest.approx(0.06 * 0.0036 / (0.0036 + 0.0016 * 1.03537), abs=5e-4)


def test_each_place_has_its_own_share(photo):
    restored = photo.clone()
    source = photo.clone()
    source[..., : photo.shape[3] // 2] += 0.1
    made = estimate(enlarge(photo - 0.05), source, restored)
    assert (made - restored)[..., -20:].abs().max() < 0.002
    assert (made - restored)[..., :20].mean().item() < -0.04


def test_errors_that_are_independent_are_averaged_out(photo):
    generator = torch.Generator().manual_seed(3)

    def err(size):
        coarse = torch.randn((1, 3, 12, 14), generator=generator) * 0.05
        return resize(coarse, size)

    size = photo.shape[2:]
    truth = photo * 0.6 + 0.2
    error = err(size)
    source, restored, guess = truth + 2 * error, truth + error, truth + err(size)
    made = estimate(enlarge(guess).clamp(0, 1), source, restored)
    alone = [measure_drift(truth, one).mean for one in (restored, guess)]
    assert measure_drift(truth, made).mean < 0.95 * min(alone)


def test_grey_stays_grey_and_alpha_stays(photo):
    grey = photo.mean(dim=1, keepdim=True)
    raw = enlarge(grey.repeat(1, 3, 1, 1) + torch.tensor([0.05, 0, -0.05]).reshape(1, 3, 1, 1))
    made = estimate(raw, grey.repeat(1, 3, 1, 1) + 0.1, grey.repeat(1, 3, 1, 1))
    assert torch.equal(made[:, 0], made[:, 1])
    one = estimate(raw[:, :1], grey + 0.1, grey)
    assert one.shape == grey.shape
    alpha = torch.rand(grey.shape, generator=torch.Generator().manual_seed(0))
    clear = estimate(torch.cat((raw, enlarge(alpha)), dim=1), *(torch.cat((photo + k, alpha), dim=1) for k in (0.1, 0)))
    assert torch.equal(clear[:, 3:], alpha)


def test_bands_and_the_whole_are_the_same(photo, monkeypatch):
    args = enlarge(photo - 0.05), photo + 0.02 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(1)), photo
    whole = estimate(*args)
    bands = [
        (slice(top, top + 16), slice(max(0, top - reference._REACH_PX), min(96, top + 16 + reference._REACH_PX)))
        for top in range(0, 96, 16)
    ]
    around = [(rows, wide, slice(rows.start - wide.start, rows.stop - wide.start)) for rows, wide in bands]
    monkeypatch.setattr(reference, "band_rows_around", lambda rows, reach: around)
    assert torch.allclose(estimate(*args), whole, atol=1e-5)


def test_an_output_smaller_than_its_source_changes_nothing(photo):
    assert torch.equal(estimate(photo[..., ::2, ::2].contiguous(), photo + 0.1, photo), photo)
