"""Images of any kind and size come out exactly as large as asked, and as grey and as clear as they were."""

import pytest
import torch
from torch.nn import functional

from fidelity.imaging.drift import measure_drift
from fidelity.networks.compute import Compute
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.steps.upscale import MAX_SIDE_PX, count_passes, upscale


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 2), (33, 51)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["luma", "rgb"])
def test_any_size_and_channels_are_enlarged(compact, random_image, size, channels, mode):
    image = random_image(2, channels, *size)
    before = image.clone()
    result = upscale(image, compact(), channels=mode).image
    assert result.shape == (2, channels, 2 * size[0], 2 * size[1])
    assert torch.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1
    assert torch.equal(image, before)


@pytest.mark.parametrize("target", [(1, 1), (7, 200), (20, 30), (61, 91), (83, 120), (100, 151), (241, 361)])
def test_the_target_is_met_exactly(compact, random_image, target):
    result = upscale(random_image(1, 3, 20, 30), compact(), target)
    assert result.image.shape == (1, 3, *target)


@pytest.mark.parametrize(
    ("target", "scale", "expected"),
    [
        ((10, 10), 4, 0),
        ((5, 9), 4, 0),
        ((11, 10), 4, 1),
        ((40, 40), 4, 1),
        ((60, 60), 4, 1),
        ((61, 61), 4, 2),
        ((160, 160), 4, 2),
        ((20, 20), 2, 1),
        ((80, 80), 2, 3),
        ((50, 50), 1, 1),
    ],
)
def test_passes_are_as_few_as_reach_the_target(target, scale, expected):
    assert count_passes((10, 10), target, scale) == expected


def test_the_passes_are_told(compact, random_image):
    passes = upscale(random_image(1, 3, 10, 10), compact(), (45, 45)).passes
    assert [(step.kind, step.scale) for step in passes] == [("network", 2), ("network", 2), ("resize", 1.125)]
    assert passes[0].precision == "fp32"


@pytest.mark.parametrize("mode", ["luma", "rgb"])
def test_grey_stays_grey_to_the_bit(compact, random_image, mode):
    grey = random_image(1, 1, 20, 22)
    result = upscale(grey.repeat(1, 3, 1, 1), compact(), channels=mode).image
    assert torch.equal(result[:, 0], result[:, 1])
    assert torch.equal(result[:, 0], result[:, 2])
    assert torch.equal(result[:, :1], upscale(grey, compact(), channels=mode).image)


def test_luma_mode_leaves_the_colour_differences_to_resampling(compact, photo):
    from fidelity.imaging.color import rgb_to_ycbcr
    from fidelity.imaging.resample import resize

    chroma = rgb_to_ycbcr(upscale(photo, compact(), channels="luma").image)[:, 1:]
    expected = resize(rgb_to_ycbcr(photo)[:, 1:], (192, 224))
    assert ((chroma - expected).abs() < 1e-3).float().mean() > 0.97  # the rest was clipped to [0, 1]


def test_a_grey_network_gives_luma_whatever_was_asked(compact, photo):
    model = compact(channels=1)
    assert torch.equal(upscale(photo, model, channels="rgb").image, upscale(photo, model, channels="luma").image)


def circle(size):
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 3) ** 2).float()[None, None]


@pytest.mark.parametrize("mode", ["luma", "rgb"])
def test_alpha_has_no_dark_fringe(faulty, mode):
    alpha = circle(48)
    image = torch.cat((torch.tensor([0.9, 0.7, 0.5]).reshape(1, 3, 1, 1) * alpha, alpha), dim=1)  # black where clear
    result = upscale(image, faulty(), channels=mode).image
    assert (result[:, :3] - torch.tensor([0.9, 0.7, 0.5]).reshape(1, 3, 1, 1)).abs().max() < 1e-3


def test_opaque_stays_opaque_and_clear_stays_clear(compact):
    alpha = circle(48)
    result = upscale(torch.cat((alpha, alpha, alpha, alpha), dim=1), compact()).image[:, 3]
    assert (result[:, 44:52, 44:52] == 1).all()
    assert (result[:, :8] == 0).all()
    assert measure_drift(alpha, result[:, None]).mean < 1


@pytest.mark.parametrize("scale", [2, 4])
def test_hard_alpha_gets_no_specks_outside_and_no_holes_inside(scale):
    """A disc and lines of one pixel, opaque or clear: nothing beyond the first clear pixels' centers, no dots before them."""
    alpha = (circle(32) > 0.5).float()
    alpha[..., 4, 2:20] = alpha[..., 3, 20:27] = 1
    model = load_model(SHIPPED_WEIGHTS / f"natural-x{scale}.safetensors")
    made = upscale(torch.cat((alpha, alpha, alpha, alpha), dim=1), model).image[:, 3:]
    near = functional.interpolate(alpha, made.shape[2:], mode="bilinear", align_corners=False)
    assert made[near == 0].max() == 0
    assert made[near == 1].min() == 1
    assert abs(made.mean() - alpha.mean()) < 0.01
    assert made[..., 4 * scale : 5 * scale, 6 * scale : 16 * scale].amax(dim=2).min() > 0.9


@pytest.mark.parametrize(("inner", "outer"), [(0.3, 0.0), (1.0, 0.7), (0.6, 0.5)])
def test_soft_alpha_stays_between_its_surroundings(inner, outer):
    alpha = torch.full((1, 1, 32, 32), outer)
    alpha[..., 8:24, 8:24] = inner
    model = load_model(SHIPPED_WEIGHTS / "natural-x2.safetensors")
    made = upscale(torch.cat((alpha, alpha, alpha, alpha), dim=1), model).image[:, 3]
    assert made.min() >= outer - 1e-4
    assert made.max() <= inner + 1e-4


def test_constant_alpha_is_kept_without_a_network(faulty, random_image):
    image = torch.cat((random_image(1, 3, 8, 8), torch.full((1, 1, 8, 8), 0.25)), dim=1)
    model = faulty()
    result = upscale(image, model)
    assert (result.image[:, 3] == 0.25).all()
    assert len(result.passes) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_keep_their_dtype(compact, random_image, dtype):
    result = upscale(random_image(1, 3, 12, 12, dtype=dtype), compact()).image
    assert result.dtype == dtype


def test_values_beyond_the_range_are_clipped_first(compact, random_image):
    image = random_image(1, 3, 12, 12) * 3 - 1
    assert torch.equal(upscale(image, compact()).image, upscale(image.clamp(0, 1), compact()).image)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_are_refused_with_their_count(compact, random_image, value):
    image = random_image(1, 3, 12, 12)
    image[0, 0, 3, :2] = value
    with pytest.raises(ValueError, match="image has 2 samples that are not finite"):
        upscale(image, compact())


@pytest.mark.parametrize(("target", "message"), [((0, 9), "9x0 px; wanted at least 1x1"), ((10, 70_000), "at most 65500")])
def test_a_target_that_cannot_be_made_is_refused(compact, random_image, target, message):
    with pytest.raises(ValueError, match=message):
        upscale(random_image(1, 3, 4, 4), compact(), target)
    assert max(target) < MAX_SIDE_PX or "at most" in message


def test_progress_runs_from_the_first_tile_to_all(compact, random_image):
    seen = []
    upscale(
        random_image(1, 4, 40, 40),
        compact(),
        (170, 170),
        compute=Compute(tile_px=32),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_target_of_the_same_size_is_a_copy(compact, random_image, channels):
    image = random_image(1, channels, 9, 9)
    result = upscale(image, compact(), (9, 9), channels="rgb").image
    assert torch.allclose(result, image)
    assert result.data_ptr() != image.data_ptr()


def test_a_grey_image_in_a_batch_of_coloured_ones_stays_grey(compact, random_image):
    grey, colored = random_image(1, 1, 12, 12).repeat(1, 3, 1, 1), random_image(1, 3, 12, 12, seed=1)
    result = upscale(torch.cat((grey, colored)), compact(), channels="rgb").image
    assert torch.equal(result[:1], upscale(grey, compact(), channels="rgb").image)
    assert torch.equal(result[1:], upscale(colored, compact(), channels="rgb").image)
