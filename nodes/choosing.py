"""The inputs that choose how images are treated: their domain and the model."""

from comfy_api.latest import io

from ..fidelity.decide.domain import DOMAINS
from . import host


def choosing_inputs(domain_tooltip: str) -> list[io.Input]:
    """Returns the inputs *domain* and *model_name*, both automatic by default.

    Args:
        domain_tooltip: What the domain is of, and how it is detected.
    """
    return [
        io.Combo.Input("domain", options=["auto", *DOMAINS], default="auto", tooltip=domain_tooltip),
        io.Combo.Input(
            "model_name",
            options=["auto", *host.list_upscale_models()],
            default="auto",
            tooltip="The upscale model. auto: the best one installed for the domain and scale.",
        ),
    ]
