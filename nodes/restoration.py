"""The inputs that choose what is restored before an image is enlarged, and how strongly."""

from typing import get_args

from comfy_api.latest import io

from ..fidelity.choices import RestoreChoice


def restoration_inputs(by: str, advanced: bool = False) -> list[io.Input]:
    """Returns the inputs *restore* and *restore_strength*; see `read_strength`.

    Args:
        by: What restores, for the tooltip.
        advanced: Whether the inputs are folded away.
    """
    return [
        io.Combo.Input(
            "restore",
            options=list(get_args(RestoreChoice)),
            default="auto",
            advanced=advanced,
            tooltip=f"Restores the source first, {by}. auto: in proportion to the measured damage; "
            "a clean image is left alone.",
        ),
        io.Float.Input(
            "restore_strength",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=advanced,
            tooltip="Share of the restored image in the blend, up to 1; lower it if texture looks too smooth. "
            "0: automatic (by the measured damage if restore is auto, otherwise full strength).",
        ),
    ]


def read_strength(restore_strength: float) -> float | None:
    """Returns the strength that the user chose; None for 0, which leaves it to the measured damage."""
    return restore_strength or None
