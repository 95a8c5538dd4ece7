"""CCSR's way of sampling for any model: one estimate from pure noise, noised again, and sampled between two times only."""

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...fidelity.steps.diffusion import posterior_step, truncated_times
from .. import host

_STEPS, _START, _END = 15, 0.6667, 0.3333


class FidelityTruncatedSampling(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        share: dict[str, Any] = {"min": 0.0, "max": 1.0, "step": 0.0001}
        return io.Schema(
            node_id="FidelityTruncatedSampling",
            display_name="Truncated Sampling (Fidelity)",
            category=host.CATEGORY,
            description="CCSR's sampling for any model: a first estimate from pure noise sets the structure, is noised again "
            "to t_max and sampled to t_min only. The result varies less from seed to seed. Connect both outputs to core's "
            "SamplerCustom, with a ControlNet or SUPIR that shows the model the source, and an empty latent.",
            search_aliases=["ccsr", "truncated diffusion", "custom sampler", "restart", "content consistent super-resolution"],
            inputs=[
                io.Model.Input("model", tooltip="The model that will be sampled; its noise schedule is used."),
                io.Int.Input(
                    "steps",
                    default=_STEPS,
                    min=1,
                    max=1000,
                    tooltip="Evaluations of the model, the first estimate included. 1: only that estimate.",
                ),
                io.Float.Input(
                    "t_max",
                    default=_START,
                    tooltip="Where sampling begins, as a share of the schedule; 1 is pure noise, without a first estimate.",
                    **share,
                ),
                io.Float.Input(
                    "t_min",
                    default=_END,
                    tooltip="Where sampling ends: the estimate there is the result. It is soft: CCSR's own decoder, trained "
                    "for that, adds the texture. With any other VAE set 0, which samples to the end.",
                    **share,
                ),
            ],
            outputs=[
                io.Sampler.Output(tooltip="To SamplerCustom or SamplerCustomAdvanced, with the sigmas beside."),
                io.Sigmas.Output(tooltip="The noise levels of all steps."),
            ],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, steps: int, t_max: float, t_min: float) -> io.NodeOutput:
        times = truncated_times(steps, t_max, t_min)
        sigmas = torch.tensor([*(host.sigma_at(model, time) for time in times), 0.0])
        return io.NodeOutput(host.make_sampler(sample_truncated, {"restarts": t_max < 1}), sigmas)


def sample_truncated(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,
    disable: bool | None = None,  # noqa: ARG001  the host shows the progress
    restarts: bool = True,
) -> Tensor:
    """A sampler as the host calls it: restarts from the first estimate, then draws from the model's own posterior.

    Args:
        model: The host's model: (latent, sigma) to an estimate of the clean latent.
        x: The latent at the first sigma.
        sigmas: Noise levels of all steps, then 0.
        extra_args: Further arguments of the model, with the seed.
        callback: Told about every step.
        disable: Whether no progress is printed.
        restarts: Whether the first estimate is noised anew.
    """
    extra_args = extra_args or {}
    draw = host.noise_source(x, extra_args.get("seed"))
    signal_of = host.signal_of(model)
    batch = x.new_ones([x.shape[0]])
    for index, (sigma, following) in enumerate(zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False)):
        estimate = model(x, sigma * batch, **extra_args)
        if callback is not None:
            callback({"x": x, "i": index, "sigma": sigma, "sigma_hat": sigma, "denoised": estimate})
        if following == 0:
            return estimate
        noise = draw(sigma, following)
        then = (signal_of(following), following)
        if restarts and index == 0:
            x = then[0] * estimate + following * noise
        else:
            x = posterior_step(x, estimate, noise, (signal_of(sigma), sigma), then)
    return x
