"""The input that sets the size of the result."""

from typing import Any

from comfy_api.latest import io

from ..fidelity.choices import AUTO_SCALE
from ..fidelity.decide.target import PrintSize, Target
from ..fidelity.errors import RefusedError
from ..fidelity.steps.upscale import MAX_SIDE_PX


def target_input(auto_scale: int = AUTO_SCALE) -> io.DynamicCombo.Input:
    """Makes the input, with one option per way to give a size.

    Args:
        auto_scale: Factor if neither a size nor a model is chosen.
    """
    side = {"min": 1, "max": MAX_SIDE_PX, "step": 1}
    sheet = {"min": 0.1, "max": 1000.0, "step": 0.1}
    scale = io.Float.Input(
        "scale", default=float(auto_scale), min=0.01, max=64.0, step=0.01, tooltip="Factor on both width and height."
    )
    size = [
        io.Int.Input("width", default=3840, tooltip="Width of the result in pixels.", **side),
        io.Int.Input("height", default=2160, tooltip="Height of the result in pixels.", **side),
    ]
    long_edge = io.Int.Input("long_edge", default=4096, tooltip="Longer side in pixels; the aspect ratio is kept.", **side)
    megapixels = io.Float.Input(
        "megapixels",
        default=16.0,
        min=0.01,
        max=1000.0,
        step=0.01,
        tooltip="Size of the result in millions of pixels; the aspect ratio is kept.",
    )
    print_size = [
        io.Float.Input("width_cm", default=30.0, tooltip="One side of the sheet in centimeters.", **sheet),
        io.Float.Input(
            "height_cm",
            default=20.0,
            tooltip="The other side in centimeters; the sheet takes the image's orientation, and nothing is cropped.",
            **sheet,
        ),
        io.Float.Input(
            "dpi", default=PrintSize.dpi, min=10.0, max=2400.0, step=1.0, tooltip="Print resolution in dots per inch."
        ),
    ]
    return io.DynamicCombo.Input(
        "target",
        tooltip="Size of the result, met to the pixel. "
        f"model scale: one pass of the model; {auto_scale} times if auto chooses the model.",
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
    """Reads the target from the input.

    Raises:
        RefusedError: If the host did not know the option and dropped it, as it does with prompts from another version.
    """
    if choice is None:
        raise RefusedError("target is not one of this node's options; choose it again")
    size = (choice["height"], choice["width"]) if choice["target"] == "size" else None
    sheet = PrintSize(choice["height_cm"], choice["width_cm"], choice["dpi"]) if choice["target"] == "print size" else None
    return Target(choice.get("scale"), size, choice.get("long_edge"), choice.get("megapixels"), sheet)
