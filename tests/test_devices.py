"""What the engine does to an image it does on any device, and gives what it gives on the CPU."""

import pytest
import torch

from fidelity.decide.damage import measure_conditions
from fidelity.decide.domain import classify
from fidelity.imaging import color, drift, filters, metrics, planes, resample, smoothing
from fidelity.steps.alpha import bleed_colors
from fidelity.steps.balance import Balance, balance
from fidelity.steps.cleanup import clean
from fidelity.steps.consistency import project
from fidelity.steps.deband import deband
from fidelity.steps.enhance import enhance
from fidelity.steps.gate import GateLimits, gate, paint_heat_map
from fidelity.steps.upscale import merge_chroma
from tests.elsewhere import ELSEWHERE, Elsewhere

DEVICES = ["elsewhere", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request):
    """A device other than the CPU: a real GPU where there is one, and one that only refuses to mix."""
    if request.param == "elsewhere":
        with Elsewhere():
            yield ELSEWHERE
    else:
        yield torch.device(request.param)


def large(image):
    return torch.nn.functional.interpolate(image, scale_factor=2, mode="nearest")


def with_alpha(image):
    return torch.cat((image, image[:, :1] * 0.5 + 0.25), dim=1)


STEPS = {
    "rgb_to_lab": color.rgb_to_lab,
    "rgb_to_ycbcr": color.rgb_to_ycbcr,
    "srgb_to_linear": color.srgb_to_linear,
    "delta_e": lambda image: color.delta_e(image, image.flip(3)),
    "resize": lambda image: resample.resize(image, (50, 31)),
    "gaussian_blur": lambda image: filters.gaussian_blur(image, 1.5),
    "local_range": lambda image: filters.local_range(image, 5)[1],
    "drift_map": lambda image: drift.drift_map(image, large(image)),
    "drift_map of alpha": lambda image: drift.drift_map(with_alpha(image), large(image)),
    "overshoot": lambda image: drift.overshoot_percent(image, large(image) * 1.2),
    "sharpness": drift.sharpness,
    "flat_texture": lambda image: drift.flat_texture(image, image * 0.9)[0],
    "psnr": lambda image: metrics.psnr(image, image * 0.9, luma=True),
    "ssim": lambda image: metrics.ssim(image, image * 0.9),
    "split and merge": lambda image: planes.merge_planes(*planes.split_planes(image)),
    "median": lambda image: smoothing.median_filter(image, 1),
    "antialias": lambda image: smoothing.smooth_along_edges(image[:, :1], 1.5),
    "bleed_colors": lambda image: bleed_colors(with_alpha(image)),
    "project color": lambda image: project(large(image) * 0.9, image),
    "project full": lambda image: project(large(image) * 0.9, image, "full"),
    "project alpha": lambda image: project(large(image), with_alpha(image)),
    "gate": lambda image: gate(large(image) * 0.8, image, "blend", GateLimits(0.5, 2.0)).image,
    "heat map": lambda image: paint_heat_map(drift.drift_map(image, large(image) * 0.8)),
    "deband": deband,
    "bilateral": lambda image: clean(image, "bilateral"),
    "guided": lambda image: clean(image, "guided", channels="rgb"),
    "unsharp": lambda image: clean(image, "unsharp"),
    "enhance": lambda image: enhance(image).image,
    "balance": lambda image: balance(image, Balance("auto", "grey_world"))[0],
    "merge_chroma": lambda image: merge_chroma(large(image[:, :1]), image),
    "conditions": lambda image: measure_conditions(image).softness,
    "classify": lambda image: classify(image).confidence,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_stays_on_the_device_of_its_image_and_gives_what_the_cpu_gives(photo, device, name):
    expected = STEPS[name](photo)
    result = STEPS[name](photo.to(device))
    if isinstance(expected, torch.Tensor):
        assert result.device == device
        result = result.cpu()
    assert torch.allclose(torch.as_tensor(result), torch.as_tensor(expected), atol=2e-4)


def test_the_stand_in_refuses_what_a_gpu_would_refuse():
    with Elsewhere():
        there = torch.ones(3, device=ELSEWHERE)
        assert (there + 1).device == ELSEWHERE
        assert there.cpu().device.type == there.to("cpu").device.type == "cpu"
        assert (there * torch.tensor(2.0)).device == ELSEWHERE  # a number without dimensions may lie anywhere
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            there + torch.ones(3)
