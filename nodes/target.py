"""The input that says how large a result is to be."""

from typing import Any

from comfy_api.latest import io

from ..fidelity.choices import AUTO_SCALE
from ..fidelity.decide.target import PrintSize, Target
from ..fidelity.steps.upscale import MAX_SIDE_PX


def target_input() -> io.DynamicCombo.Input:
    """The input."""
    side = {"min": 1, "max": MAX_SIDE_PX, "step": 1}
    sheet = {"min": 0.1, "max": 1000.0, "step": 0.1}
    scale = io.Float.Input("scale", default=float(AUTO_SCALE), min=0.01, max=64.0, step=0.01, tooltip="Factor on both sides.")
    size = [
        io.Int.Input("width", default=3840, tooltip="Width of the result in pixels.", **side),
        io.Int.Input("height", default=2160, tooltip="Height of the result in pixels.", **side),
    ]
    long_edge = io.Int.Input("long_edge", default=4096, tooltip="Longer side in pixels; the aspect is kept.", **side)
    megapixels = io.Float.Input(
        "megapixels", default=16.0, min=0.01, max=1000.0, step=0.01, tooltip="Millions of pixels; the aspect is kept."
    )
    print_size = [
        io.Float.Input("width_cm", default=30.0, tooltip="One side of the sheet in centimetres.", **sheet),
        io.Float.Input(
            "height_cm",
            default=20.0,
            tooltip="The other side; the sheet is turned as the image is, nothing is cropped.",
            **sheet,
        ),
        io.Float.Input("dpi", default=PrintSize.dpi, min=10.0, max=2400.0, step=1.0, tooltip="Dots to an inch."),
    ]
    return io.DynamicCombo.Input(
        "target",
        tooltip="How large the result is to be. The size is met exactly, to the pixel. "
        f"model scale: one pass of the network; {AUTO_SCALE} times where the network is chosen by auto.",
        options=[
            io.DynamicCombo.Option("model scale", []),
            io.DynamicCombo.Option("scale by", [scale]),
            io.DynamicCombo.Option("size", size),
            io.DynamicCombo.Option("long edge", [long_edge]),
            io.DynamicCombo.Option("megapixels", [megapixels]),
            io.DynamicCombo.Option("print size", print_size),
        ],
    )


def read_target(choice: dict[str, Any] | None) -> Target:
    """The target that the input was set to.

    Raises:
        ValueError: If the host knew no such option and left it out, as it does with prompts written for another version.
    """
    if choice is None:
        raise ValueError("target is not one of this node's options; choose it anew")
    size = (choice["height"], choice["width"]) if choice["target"] == "size" else None
    sheet = PrintSize(choice["height_cm"], choice["width_cm"], choice["dpi"]) if choice["target"] == "print size" else None
    return Target(choice.get("scale"), size, choice.get("long_edge"), choice.get("megapixels"), sheet)
