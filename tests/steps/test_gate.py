"""The gate passes what is within the limits and acts where it is not."""

import pytest
import torch

from fidelity.imaging.drift import measure_drift
from fidelity.imaging.resample import resize
from fidelity.steps.gate import GateLimits, gate, paint_heat_map


@pytest.fixture
def good(photo):
    return resize(photo, (192, 224)).clamp(0, 1)


@pytest.fixture
def spoiled(good):
    """Faithful but for one corner, which turned red."""
    image = good.clone()
    image[:, 0, :64, :64] = (image[:, 0, :64, :64] + 0.3).clamp(0, 1)
    return image


def test_a_faithful_image_passes_untouched(photo, good):
    decision = gate(good, photo)
    assert (decision.action, decision.passed, decision.blended_share) == ("pass", True, 0)
    assert decision.image is good


def test_blending_mends_the_region_and_leaves_the_rest(photo, good, spoiled):
    decision = gate(spoiled, photo)
    assert (decision.action, decision.passed) == ("blend", False)
    assert decision.after.max <= 3
    assert decision.after.mean <= 1
    assert 0 < decision.blended_share < 0.5
    assert torch.equal(decision.image[..., 96:, 96:], spoiled[..., 96:, 96:])


def test_blending_goes_only_as_far_as_it_must(photo, good, spoiled):
    decision = gate(spoiled, photo)
    assert measure_drift(photo, decision.image).max > 1


def test_rejecting_returns_the_fallback(photo, good, spoiled):
    decision = gate(spoiled, photo, "reject", fallback=good)
    assert decision.action == "reject"
    assert torch.equal(decision.image, good)


def test_reporting_changes_nothing(photo, spoiled):
    decision = gate(spoiled, photo, "report")
    assert (decision.action, decision.passed) == ("report", False)
    assert decision.image is spoiled
    assert decision.after == decision.before


def test_a_mean_beyond_its_limit_is_blended_everywhere(photo, good):
    tinted = (good * torch.tensor([1.0, 1.0, 0.93]).reshape(1, 3, 1, 1)).clamp(0, 1)
    decision = gate(tinted, photo, limits=GateLimits(mean=0.5, max=10))
    assert decision.before.mean > 0.5 >= decision.after.mean


def test_only_the_failing_image_of_a_batch_is_changed(photo, good, spoiled):
    decision = gate(torch.cat((good, spoiled)), photo)
    assert torch.equal(decision.image[0], good[0])
    assert not torch.equal(decision.image[1], spoiled[0])


def test_limits_of_zero_give_the_fallback(photo, spoiled, good):
    decision = gate(spoiled, photo, limits=GateLimits(0, 0), fallback=good)
    assert (decision.image - good).abs().max() < 1e-6


def test_alpha_is_blended_too(photo, spoiled):
    source = torch.cat((photo, torch.ones_like(photo[:, :1])), dim=1)
    image = torch.cat((spoiled, torch.ones_like(spoiled[:, :1])), dim=1)
    decision = gate(image, source)
    assert decision.image.shape[1] == 4
    assert decision.after.max <= 3


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_sources_and_images_are_compared(photo, good, channels):
    decision = gate(good.mean(dim=1, keepdim=True), photo[:, :channels], "reject")
    assert decision.image.shape[1] == 1


def test_the_heat_map_runs_from_black_to_red(photo):
    painted = paint_heat_map(torch.tensor([0.0, 1.5, 3.0, 9.0]).reshape(1, 1, 1, 4), 3.0)
    assert painted.shape == (1, 3, 1, 4)
    assert painted[0, :, 0, 0].sum() == 0
    assert painted[0, 0, 0, 2] > 0.8 > painted[0, 1, 0, 2]
    assert torch.equal(painted[..., 2], painted[..., 3])


def test_an_image_that_lost_its_transparency_is_judged_by_its_colours(photo, good):
    alpha = torch.ones_like(photo[:, :1])
    alpha[..., 40:] = 0.2
    assert gate(good, torch.cat((photo, alpha), dim=1)).passed


@pytest.mark.parametrize(("images", "references"), [(1, 3), (3, 2)])
def test_batches_that_do_not_match_are_refused(photo, good, images, references):
    with pytest.raises(ValueError, match="wanted one, or one per image"):
        gate(good.repeat(images, 1, 1, 1), photo.repeat(references, 1, 1, 1))


def test_an_image_that_is_not_finite_is_refused(photo, good):
    spoiled = good.clone()
    spoiled[0, 1, 5, 5] = torch.inf
    with pytest.raises(ValueError, match="image has 1 samples that are not finite"):
        gate(spoiled, photo)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action": "mend"}, "action is 'mend'; wanted 'blend', 'reject' or 'report'"),
        ({"limits": GateLimits(-1, 3)}, "limits are -1 mean and 3 max; wanted 0 or more"),
        ({"fallback": torch.zeros(1, 3, 5, 5)}, r"fallback is \(1, 3, 5, 5\).*wanted equal shapes"),
    ],
)
def test_wrong_settings_are_refused(photo, good, changes, message):
    with pytest.raises(ValueError, match=message):
        gate(good, photo, **changes)
