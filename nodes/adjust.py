"""Nodes that prepare an image before upscaling, and that clean up, enhance and grade it afterwards."""

from typing import Any

from comfy_api.latest import io

from ..fidelity.choices import Domain
from ..fidelity.decide.damage import measure_conditions
from ..fidelity.decide.decision import find_telling
from ..fidelity.decide.domain import DOMAINS
from ..fidelity.decide.recipes import choose_cleanup
from ..fidelity.errors import RefusedError
from ..fidelity.networks.compute import AUTO_COMPUTE
from ..fidelity.preparation import Preparation, prepare
from ..fidelity.steps.balance import Balance, Grade, grade
from ..fidelity.steps.cleanup import CleanupMethod, CleanupSettings, clean
from ..fidelity.steps.enhance import EnhanceSettings, enhance
from ..fidelity.steps.gate import GateLimits
from ..fidelity.steps.geometry import KNOWN_LENSES, WHOLE, Corners, Lens
from . import host
from .restoration import read_strength, restoration_inputs

_BALANCE, _CLEANUP, _ENHANCE, _GRADE, _PREPARE = Balance(), CleanupSettings(), EnhanceSettings(), Grade(), Preparation()
_LENS = Lens()
_ANY = "any"
_CORNERS = " ".join(f"{x:g},{y:g}" for x, y in WHOLE)


def _number(name: str, default: float, low: float, high: float, step: float, tooltip: str, advanced: bool = False) -> io.Input:
    return io.Float.Input(name, default=default, min=low, max=high, step=step, tooltip=tooltip, advanced=advanced)


class FidelityPrepare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityPrepare",
            display_name="Prepare (Fidelity)",
            category=host.CATEGORY,
            description="Prepares an image for upscaling: removes noise and JPEG damage and smooths banding where it "
            "measures them; corrects exposure, white balance, lens distortion and perspective only if you ask. The report "
            "lists what was done.",
            search_aliases=[
                *("denoise", "deblock", "deband", "jpeg artifacts", "restore photo"),
                *("white balance", "exposure", "lens distortion", "perspective"),
            ],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="Grey, RGB or RGBA. For a batch, damage is measured on the first image, light on all of them.",
                ),
                *restoration_inputs("with a connected or installed 1x model or else the shipped one"),
                io.Combo.Input(
                    "deband",
                    options=["auto", "off", "on"],
                    default=_PREPARE.deband,
                    tooltip="Smooths banding in gradients. auto: only if banding is measured.",
                ),
                io.Boolean.Input("auto_exposure", default=False, tooltip="Brings the scene to middle grey, by at most 1 EV."),
                _number("exposure_ev", 0.0, -8, 8, 0.05, "Exposure in stops, in linear light; used without auto_exposure."),
                io.Combo.Input(
                    "white_balance",
                    options=["off", "grey_world", "percentile"],
                    default=_BALANCE.white,
                    tooltip="grey_world: makes the scene's average neutral. percentile: makes its brightest unclipped areas "
                    "neutral.",
                ),
                _number(
                    "white_strength", _BALANCE.strength, 0, 1, 0.05, "How much of the white balance to apply, 0 to 1.", True
                ),
                _number("white_limit", _BALANCE.max_gain, 1, 4, 0.05, "Largest gain or cut of a channel, as a factor.", True),
                io.Combo.Input(
                    "lens",
                    options=["by k1 and k2", *KNOWN_LENSES],
                    default="by k1 and k2",
                    advanced=True,
                    tooltip="A phone whose raw photographs need distortion correction, or any lens by its coefficients.",
                ),
                _number(
                    *("lens_k1", _LENS.k1, -0.3, 1, 0.005),
                    "Radial distortion, with r = 1 in the corners; values below 0 correct barrel distortion.",
                    True,
                ),
                _number("lens_k2", _LENS.k2, -0.3, 1, 0.005, "Fourth-power term of the radial distortion.", True),
                io.String.Input(
                    "corners",
                    default=_CORNERS,
                    advanced=True,
                    tooltip="x,y of the top left, top right, bottom right and bottom left corners of the area that should fill "
                    "the image, as fractions of width and height.",
                ),
                io.Combo.Input(
                    "domain",
                    options=list(DOMAINS),
                    default=_PREPARE.domain,
                    optional=True,
                    tooltip="Type of image; its recipe decides what auto restores and debands.",
                ),
                io.UpscaleModel.Input("restore_model", optional=True, tooltip="A 1x model to restore with."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The prepared image, at the same size."),
                io.String.Output(
                    display_name="report", tooltip="What was done and why, one step per line; empty if nothing was done."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        restore: Any,
        restore_strength: float,
        deband: Any,
        auto_exposure: bool,
        exposure_ev: float,
        white_balance: Any,
        white_strength: float,
        white_limit: float,
        lens: str,
        lens_k1: float,
        lens_k2: float,
        corners: str,
        domain: Domain = _PREPARE.domain,
        restore_model: Any = None,
    ) -> io.NodeOutput:
        pixels = host.to_engine(image)
        light = Balance("auto" if auto_exposure else exposure_ev, white_balance, white_strength, max_gain=white_limit)
        bent = KNOWN_LENSES.get(lens) or Lens(lens_k1, lens_k2)
        wanted = Preparation(restore, read_strength(restore_strength), deband, light, bent, _read_corners(corners), domain)
        wired = restore_model if restore != "off" else None
        model, compute = host.prepare_model(wired, pixels) if wired else (None, AUTO_COMPUTE)
        result = prepare(
            pixels,
            wanted,
            host.choose_models("auto"),
            model,
            lambda found: compute.device or host.make_room([found], pixels),
            compute,
            progress=host.track_progress(),
        )
        return io.NodeOutput(host.to_host(result.image), "\n".join(result.done))


class FidelityCleanup(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        radius = io.Int.Input("radius", default=_CLEANUP.radius_px, min=1, max=16, tooltip="Radius of the window, in pixels.")
        spread = _number(
            *("range", _CLEANUP.value_range * 255, 0.5, 255, 0.5),
            "How much neighbors may differ and still be averaged, in 8-bit levels.",
        )
        unsharp = [
            _number("sigma", _CLEANUP.unsharp_sigma_px, 0.1, 8, 0.1, "Sigma of the blur, in pixels."),
            _number("amount", _CLEANUP.unsharp_amount, 0, 5, 0.05, "Fraction of the detail to add."),
            _number(
                *("threshold", _CLEANUP.unsharp_threshold * 255, 0, 50, 0.5),
                "Detail below this is not sharpened, in 8-bit levels. Raise it to leave grain alone.",
            ),
            _number(
                *("halo", _CLEANUP.unsharp_halo * 255, 0, 100, 0.5),
                "How far a pixel may overshoot its neighbors, in 8-bit levels.",
            ),
        ]
        return io.Schema(
            node_id="FidelityCleanup",
            display_name="Cleanup (Fidelity)",
            category=host.CATEGORY,
            description="Reduces ringing and swirls, smooths jagged lines, or sharpens soft edges; on luma or on all channels, "
            "at any image size. auto filters only what it measures.",
            search_aliases=["bilateral", "guided filter", "median", "antialias", "jaggies", "sharpen", "denoise", "ringing"],
            inputs=[
                io.Image.Input("image", tooltip="Grey, RGB or RGBA. For a batch, auto measures the first image."),
                io.DynamicCombo.Input(
                    "method",
                    tooltip="auto: by the domain's recipe if ringing, jagged lines or softness are measured; else nothing.",
                    options=[
                        io.DynamicCombo.Option("auto", []),
                        io.DynamicCombo.Option(
                            "bilateral",
                            [
                                radius,
                                _number("sigma", _CLEANUP.sigma_px, 0.1, 16, 0.1, "Sigma of the blur, in pixels."),
                                spread,
                            ],
                        ),
                        io.DynamicCombo.Option("guided", [radius, spread]),
                        io.DynamicCombo.Option(
                            "median",
                            [
                                io.Int.Input(
                                    "radius",
                                    default=_CLEANUP.median_radius_px,
                                    min=1,
                                    max=4,
                                    tooltip="Radius of the window, in pixels; 1 is 3 x 3.",
                                )
                            ],
                        ),
                        io.DynamicCombo.Option(
                            "antialias", [_number("along", _CLEANUP.along_px, 0.5, 8, 0.1, "Sigma along a line, in pixels.")]
                        ),
                        io.DynamicCombo.Option("unsharp", unsharp),
                    ],
                ),
                io.Combo.Input(
                    "channels",
                    options=["luma", "rgb"],
                    default="luma",
                    tooltip="luma: leaves chroma as it is. rgb: filters all channels.",
                ),
                _number("strength", 1.0, 0, 1, 0.05, "Strength of the effect, from 0 (none) to 1 (full)."),
                io.Combo.Input(
                    "domain",
                    options=[_ANY, *DOMAINS],
                    default=_ANY,
                    optional=True,
                    tooltip="Type of image; its recipe decides what auto does. any: bilateral or antialias, as measured.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="Strength of the effect per pixel; must match the image's size."),
                io.Image.Input(
                    "guide",
                    optional=True,
                    tooltip="bilateral and guided preserve the edges of this image; must match the image's size.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The cleaned image."),
                io.String.Output(display_name="report", tooltip="What was done, and why."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        channels: Any,
        strength: float,
        method: dict[str, Any] | None = None,
        domain: Any = _ANY,
        mask: io.Mask.Type | None = None,
        guide: io.Image.Type | None = None,
    ) -> io.NodeOutput:
        pixels, where = host.to_engine(image), host.mask_to_engine(mask)
        like = host.to_engine(guide, "guide")[:, :3] if guide is not None else None
        kind, settings, reason = _read_method(method, pixels, None if domain == _ANY else domain)
        if kind is None:
            return io.NodeOutput(host.to_host(pixels), reason)
        result = clean(pixels, kind, strength, 0.0, settings, channels, where, like, host.track_progress())
        return io.NodeOutput(host.to_host(result), reason)


class FidelityEnhance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        e = _ENHANCE
        return io.Schema(
            node_id="FidelityEnhance",
            display_name="Enhance (Fidelity)",
            category=host.CATEGORY,
            description="Makes edges slightly crisper in luma, with a strength adapted to the image, and only if no color "
            "visibly shifts (CIEDE2000); otherwise returns the image unchanged.",
            search_aliases=["sharpen", "luma enhancement", "adaptive sharpen", "unsharp"],
            inputs=[
                io.Image.Input("image", tooltip="Grey, RGB or RGBA; a batch is judged as one image."),
                _number("strength", e.strength, 0, 2, 0.01, "Fraction of the detail to add, before adapting it to the image."),
                _number("min_strength", e.min_strength, 0, 2, 0.01, "Smallest fraction of the detail to add.", True),
                _number("max_strength", e.max_strength, 0, 2, 0.01, "Largest fraction of the detail to add.", True),
                _number(
                    "sigma",
                    e.sigma_px,
                    0.1,
                    1.9,
                    0.1,
                    "Sigma of the blur in pixels; the detail is the image minus its blur.",
                    True,
                ),
                _number(
                    "edge_threshold",
                    e.edge_threshold,
                    0.001,
                    1,
                    0.005,
                    "Sobel magnitude above which a pixel is an edge; at most 0.71.",
                    True,
                ),
                _number(
                    "max_chroma_variance",
                    e.max_chroma_variance,
                    1,
                    16000,
                    10,
                    "Chroma variance of a very colorful image, on the 0-255 scale.",
                    True,
                ),
                _number(
                    "min_edge_density",
                    e.min_edge_density,
                    0.001,
                    1,
                    0.005,
                    "Fraction of edge pixels below which an image is smooth.",
                    True,
                ),
                _number(
                    "min_chroma_factor", e.min_chroma_factor, 0, 1, 0.05, "Factor on strength for very colorful images.", True
                ),
                _number("min_edge_factor", e.min_edge_factor, 0, 1, 0.05, "Factor on strength for images without edges.", True),
                _number("mean_limit", e.limits.mean, 0, 20, 0.1, "Mean CIEDE2000 must stay below this.", True),
                _number("max_limit", e.limits.max, 0, 50, 0.1, "CIEDE2000 of every pixel must stay below this.", True),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The enhanced image, or the image unchanged."),
                io.Boolean.Output(display_name="applied", tooltip="Whether the image was enhanced."),
                io.String.Output(display_name="report", tooltip="Why or why not, with the measurements."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        strength: float,
        min_strength: float,
        max_strength: float,
        sigma: float,
        edge_threshold: float,
        max_chroma_variance: float,
        min_edge_density: float,
        min_chroma_factor: float,
        min_edge_factor: float,
        mean_limit: float,
        max_limit: float,
    ) -> io.NodeOutput:
        settings = EnhanceSettings(
            *(strength, min_strength, max_strength, sigma, edge_threshold),
            *(max_chroma_variance, min_edge_density, min_chroma_factor, min_edge_factor),
            GateLimits(mean_limit, max_limit),
        )
        result = enhance(host.to_engine(image), settings, host.track_progress())
        measured = f"chroma variance {result.chroma_variance:.0f}, edge density {result.edge_density:.3f}"
        return io.NodeOutput(host.to_host(result.image), result.applied, f"{result.reason} ({measured})")


class FidelityGrade(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityGrade",
            display_name="Grade (Fidelity)",
            category=host.CATEGORY,
            description="Adjusts levels, contrast and saturation. The default settings change nothing, bit for bit.",
            search_aliases=["levels", "contrast", "saturation", "brightness", "color grading", "color correction", "gamma"],
            inputs=[
                io.Image.Input("image", tooltip="Grey, RGB or RGBA."),
                _number("black", _GRADE.black, 0, 0.99, 0.005, "Encoded value that becomes black."),
                _number("white", _GRADE.white, 0.01, 1, 0.005, "Encoded value that becomes white."),
                _number("gamma", _GRADE.gamma, 0.1, 10, 0.05, "Values above 1 lighten the midtones."),
                _number("contrast", _GRADE.contrast, 0.1, 4, 0.05, "Slope at middle grey; black and white stay fixed."),
                _number(
                    "saturation",
                    _GRADE.saturation,
                    0,
                    4,
                    0.05,
                    "Saturation in linear light; 0 gives grey of the same luminance.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The graded image.")],
        )

    @classmethod
    def execute(
        cls, image: io.Image.Type, black: float, white: float, gamma: float, contrast: float, saturation: float
    ) -> io.NodeOutput:
        return io.NodeOutput(host.to_host(grade(host.to_engine(image), Grade(black, white, gamma, contrast, saturation))))


def _read_corners(text: str) -> Corners:
    try:
        first, second, third, fourth = (tuple(float(value) for value in pair.split(",")) for pair in text.split())
        corners: Any = (first, second, third, fourth)
        if any(len(corner) != 2 for corner in corners):
            raise ValueError
    except ValueError as error:
        raise RefusedError(f"corners is {text!r}; wanted four pairs as in {_CORNERS}") from error
    return corners


def _read_method(
    choice: dict[str, Any] | None, image: Any, domain: Domain | None
) -> tuple[CleanupMethod | None, CleanupSettings, str]:
    if choice is None:
        raise RefusedError("method is not one of this node's options; choose it again")
    kind: Any = choice["method"]
    if kind == "auto":
        place = find_telling(image)
        found, reason = choose_cleanup(measure_conditions(image[place : place + 1]), domain)
        return found, _CLEANUP, reason
    values = {
        "median_radius_px" if kind == "median" else "radius_px": choice.get("radius"),
        "unsharp_sigma_px" if kind == "unsharp" else "sigma_px": choice.get("sigma"),
        "value_range": choice["range"] / 255 if "range" in choice else None,
        "along_px": choice.get("along"),
        "unsharp_amount": choice.get("amount"),
        "unsharp_threshold": choice["threshold"] / 255 if "threshold" in choice else None,
        "unsharp_halo": choice["halo"] / 255 if "halo" in choice else None,
    }
    given = {name: value for name, value in values.items() if value is not None}
    return kind, CleanupSettings(**given), f"{kind}: chosen by the user"
