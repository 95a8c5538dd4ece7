"""Light is changed by bounded factors, and grading changes nothing unless told."""

import numpy as np
import pytest
import torch
from skimage.exposure import adjust_gamma

from fidelity.imaging.color import linear_to_srgb, srgb_to_linear
from fidelity.steps.balance import MIDDLE_GREY, Balance, Grade, balance, grade


def light(image):
    return srgb_to_linear(image[:, :3]).mean(dim=(0, 2, 3))


def cast(photo, gains):
    return linear_to_srgb(srgb_to_linear(photo * 0.7 + 0.05) * torch.tensor(gains).reshape(1, 3, 1, 1))


def test_one_stop_doubles_linear_light(random_image):
    image = random_image(1, 3, 20, 20) * 0.5
    result, gains = balance(image, Balance(exposure_ev=1.0))
    assert gains == (2, 2, 2)
    assert torch.allclose(srgb_to_linear(result), 2 * srgb_to_linear(image), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_nothing_asked_is_the_same_image(random_image, channels):
    image = random_image(1, channels, 9, 9)
    assert balance(image, Balance())[0] is image
    assert grade(image, Grade()) is image


def test_grey_world_makes_the_mean_grey_and_keeps_its_luminance(photo):
    tinted = cast(photo, (1.2, 1.0, 0.8))
    result, gains = balance(tinted, Balance(white="grey_world", max_gain=4))
    mean = light(result)
    assert mean.max() / mean.min() < 1.05
    weights = torch.tensor([0.2126, 0.7152, 0.0722])
    assert (mean * weights).sum() == pytest.approx((light(tinted) * weights).sum().item(), rel=0.03)
    assert gains[2] > gains[1] > gains[0]


def test_percentile_undoes_a_cast_of_a_scene_with_a_white(random_image):
    scene = random_image(1, 3, 64, 64) * torch.tensor([0.2, 0.6, 0.3]).reshape(1, 3, 1, 1)  # green all over, with a white card
    scene[..., :20, :20] = 0.9
    tinted = linear_to_srgb(srgb_to_linear(scene) * torch.tensor([1.0, 0.85, 0.75]).reshape(1, 3, 1, 1))
    result, _ = balance(tinted, Balance(white="percentile"))
    card = result[..., 5:15, 5:15].mean(dim=(0, 2, 3))
    assert card.max() - card.min() < 0.01
    world, _ = balance(tinted, Balance(white="grey_world"))
    assert world[..., 5:15, 5:15].mean(dim=(0, 2, 3)).std() > 0.05


def test_gains_are_bounded_and_strength_is_a_share(photo):
    tinted = cast(photo, (1.0, 1.0, 0.1))
    _, gains = balance(tinted, Balance(white="grey_world", max_gain=1.5))
    assert max(gains) <= 1.5 and min(gains) >= 1 / 1.5
    assert balance(tinted, Balance(white="grey_world", strength=0))[0] is tinted


@pytest.mark.parametrize("factor", [0.3, 0.6])
def test_automatic_exposure_brings_a_scene_toward_middle_grey_but_blows_nothing_out(photo, factor):
    dark = linear_to_srgb(srgb_to_linear(photo) * factor)
    result, (gain, *_) = balance(dark, Balance("auto"))
    assert 1 < gain <= 2
    assert (result >= 1).float().mean() < 0.003
    before, after = (srgb_to_linear(image).clamp(min=1e-4).log().mean().exp() for image in (dark, result))
    assert abs(after.log() - np.log(MIDDLE_GREY)) <= abs(before.log() - np.log(MIDDLE_GREY))


def test_what_is_transparent_does_not_count():
    image = torch.full((1, 4, 8, 8), 0.2)
    image[:, :3, :4], image[:, 3, :4], image[:, 3, 4:] = 1.0, 0.0, 1.0
    assert balance(image, Balance("auto"))[1] == balance(image[:, :, 4:], Balance("auto"))[1]


@pytest.mark.parametrize("shape", [(1, 3, 1, 300_000), (300, 1, 1, 1024)])
def test_thin_images_are_measured_too(shape, random_image):
    assert balance(random_image(*shape), Balance("auto", "grey_world"))[0].shape == shape


def test_a_bright_scene_is_taken_down(random_image):
    _, gains = balance(random_image(1, 1, 30, 30) * 0.1 + 0.85, Balance("auto"))
    assert gains[0] == pytest.approx(0.5)


def test_levels_and_gamma_are_those_of_scikit_image(random_image):
    image = random_image(1, 3, 20, 20)
    expected = adjust_gamma(((image - 0.1) / 0.7).clamp(0, 1).numpy().astype(np.float64), 1 / 1.5)
    assert np.abs(grade(image, Grade(black=0.1, white=0.8, gamma=1.5)).numpy() - expected).max() < 1e-5


def test_contrast_has_its_slope_at_middle_grey_and_keeps_black_and_white():
    image = torch.tensor([0, 0.499, 0.5, 0.501, 1]).reshape(1, 1, 1, 5)
    result = grade(image, Grade(contrast=1.5)).flatten()
    assert result[[0, 2, 4]].tolist() == pytest.approx([0, 0.5, 1])
    assert (result[3] - result[1]) / 0.002 == pytest.approx(1.5, rel=0.01)


def test_saturation_keeps_luminance_and_none_is_grey(photo):
    weights = torch.tensor([0.2126, 0.7152, 0.0722]).reshape(1, 3, 1, 1)
    image = photo * 0.5 + 0.25
    for amount in (0.0, 0.5, 1.3):
        result = grade(image, Grade(saturation=amount))
        assert torch.allclose((srgb_to_linear(result) * weights).sum(1), (srgb_to_linear(image) * weights).sum(1), atol=2e-3)
    grey = grade(image, Grade(saturation=0))
    assert (grey.amax(dim=1) - grey.amin(dim=1)).max() < 1e-4


def test_alpha_stays(random_image):
    image = random_image(1, 4, 9, 9)
    assert torch.equal(balance(image, Balance(1.0))[0][:, 3], image[:, 3])
    assert torch.equal(grade(image, Grade(contrast=2))[:, 3], image[:, 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Balance(9), "exposure is 9 EV; wanted -8 to 8"),
        (lambda: Balance(strength=2), "strength is 2; wanted 0 to 1"),
        (lambda: Balance(max_gain=0.5), "a gain of 0.5"),
        (lambda: Grade(black=0.5, white=0.5), "black below white"),
        (lambda: Grade(gamma=0), "gamma 0"),
    ],
)
def test_what_means_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
