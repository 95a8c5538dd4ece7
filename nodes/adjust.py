"""What is done to an image between its file and its enlargement, and after it."""

from typing import Any

from comfy_api.latest import io

from ..fidelity.choices import Domain
from ..fidelity.decide.damage import measure_conditions
from ..fidelity.decide.domain import DOMAINS
from ..fidelity.decide.recipes import choose_cleanup
from ..fidelity.preparation import Preparation, prepare
from ..fidelity.steps.balance import Balance, Grade, grade
from ..fidelity.steps.cleanup import CleanupMethod, CleanupSettings, clean
from ..fidelity.steps.enhance import EnhanceSettings, enhance
from ..fidelity.steps.gate import GateLimits
from ..fidelity.steps.geometry import KNOWN_LENSES, WHOLE, Corners, Lens
from . import host

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
            description="For photographs before they are enlarged: noise and JPEG damage mended and bands evened out where "
            "they are measured; exposure, white balance, lens distortion, perspective only if asked for. The report tells.",
            search_aliases=["denoise", "deblock", "deband", "white balance", "exposure", "lens distortion", "perspective"],
            inputs=[
                io.Image.Input("image", tooltip="Grey, RGB or RGBA. Damage is measured on the first of a batch, light on all."),
                io.Combo.Input(
                    "restore",
                    options=["auto", "off", "denoise", "deblock"],
                    default=_PREPARE.restore,
                    tooltip="Mends by the network at x1 wired or installed, else by a filter. auto: where damage is measured.",
                ),
                _number("restore_strength", _PREPARE.restore_strength, 0, 1, 0.05, "Share of the mended image, 0 to 1."),
                io.Combo.Input(
                    "deband",
                    options=["auto", "off", "on"],
                    default=_PREPARE.deband,
                    tooltip="Evens out the stairs of gradients. auto: where banding is measured.",
                ),
                io.Boolean.Input("auto_exposure", default=False, tooltip="Brings a scene to middle grey, by 1 EV at most."),
                _number("exposure_ev", 0.0, -8, 8, 0.05, "Stops, in linear light; without auto_exposure."),
                io.Combo.Input(
                    "white_balance",
                    options=["off", "grey_world", "percentile"],
                    default=_BALANCE.white,
                    tooltip="grey_world: the scene's mean becomes grey. percentile: its lightest unclipped places do.",
                ),
                _number("white_strength", _BALANCE.strength, 0, 1, 0.05, "Share of the white balance, 0 to 1.", True),
                _number("white_limit", _BALANCE.max_gain, 1, 4, 0.05, "Most that a channel is multiplied by.", True),
                io.Combo.Input(
                    "lens",
                    options=["by k1 and k2", *KNOWN_LENSES],
                    default="by k1 and k2",
                    advanced=True,
                    tooltip="A phone whose raw photographs are to be straightened, or any lens by its coefficients.",
                ),
                _number("lens_k1", _LENS.k1, -0.3, 1, 0.005, "Radial distortion, r = 1 in corners; below 0 for barrels.", True),
                _number("lens_k2", _LENS.k2, -0.3, 1, 0.005, "The same of the fourth power.", True),
                io.String.Input(
                    "corners",
                    default=_CORNERS,
                    advanced=True,
                    tooltip="x,y of top left, top right, bottom right and bottom left of what is to fill the picture, "
                    "as shares of width and height.",
                ),
                io.Combo.Input(
                    "domain",
                    options=list(DOMAINS),
                    default=_PREPARE.domain,
                    optional=True,
                    tooltip="The kind of image: its recipe says from which damage on auto mends.",
                ),
                io.UpscaleModel.Input("restore_model", optional=True, tooltip="A network at x1 to mend with."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The prepared image, of the same size."),
                io.String.Output(display_name="report", tooltip="What was done and why, as lines; empty if nothing was."),
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
        wanted = Preparation(restore, restore_strength, deband, light, bent, _read_corners(corners), domain)
        wired = restore_model if restore != "off" else None
        model, device = host.prepare_model(wired, pixels) if wired else (None, None)
        result = prepare(
            pixels,
            wanted,
            host.choose_models("auto"),
            model,
            lambda found: device or host.make_room([found], pixels),
            progress=host.track_progress(),
        )
        return io.NodeOutput(host.to_host(result.image), "\n".join(result.done))


class FidelityCleanup(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        radius = io.Int.Input("radius", default=_CLEANUP.radius_px, min=1, max=16, tooltip="Of the window, in pixels.")
        spread = _number("range", _CLEANUP.value_range * 255, 0.5, 255, 0.5, "Differences evened out, in steps of 8 bits.")
        unsharp = [
            _number("sigma", _CLEANUP.unsharp_sigma_px, 0.1, 8, 0.1, "Of the blur, in pixels."),
            _number("amount", _CLEANUP.unsharp_amount, 0, 5, 0.05, "Share of the detail that is added."),
            _number("threshold", _CLEANUP.unsharp_threshold * 255, 0, 50, 0.5, "Detail left alone, in steps of 8 bits."),
            _number("halo", _CLEANUP.unsharp_halo * 255, 0, 100, 0.5, "How far beyond its neighbours, in steps of 8 bits."),
        ]
        return io.Schema(
            node_id="FidelityCleanup",
            display_name="Cleanup (Fidelity)",
            category=host.CATEGORY,
            description="Evens out ringing and swirls, takes the stairs out of lines, or steepens soft edges; on luma or on "
            "all colours, in bands, at any size. auto acts only on what is measured.",
            search_aliases=["bilateral", "guided filter", "median", "antialias", "jaggies", "unsharp mask", "ringing"],
            inputs=[
                io.Image.Input("image", tooltip="Grey, RGB or RGBA. Of a batch, the first image is measured for auto."),
                io.DynamicCombo.Input(
                    "method",
                    tooltip="auto: by the domain's recipe, where ringing, jagged lines or softness are measured; else nothing.",
                    options=[
                        io.DynamicCombo.Option("auto", []),
                        io.DynamicCombo.Option(
                            "bilateral", [radius, _number("sigma", _CLEANUP.sigma_px, 0.1, 16, 0.1, "In pixels."), spread]
                        ),
                        io.DynamicCombo.Option("guided", [radius, spread]),
                        io.DynamicCombo.Option(
                            "median",
                            [io.Int.Input("radius", default=_CLEANUP.median_radius_px, min=1, max=4, tooltip="1 is 3 x 3.")],
                        ),
                        io.DynamicCombo.Option(
                            "antialias", [_number("along", _CLEANUP.along_px, 0.5, 8, 0.1, "Sigma along a line, in pixels.")]
                        ),
                        io.DynamicCombo.Option("unsharp", unsharp),
                    ],
                ),
                io.Combo.Input(
                    "channels", options=["luma", "rgb"], default="luma", tooltip="luma leaves colour differences as they are."
                ),
                _number("strength", 1.0, 0, 1, 0.05, "0 for nothing, 1 for the whole effect."),
                io.Combo.Input(
                    "domain",
                    options=[_ANY, *DOMAINS],
                    default=_ANY,
                    optional=True,
                    tooltip="The kind of image, whose recipe says what auto does; any: bilateral or antialias, where measured.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="How much of the effect each place gets; of the image's size."),
                io.Image.Input("guide", optional=True, tooltip="Whose edges bilateral and guided keep; of the image's size."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The cleaned image."),
                io.String.Output(display_name="report", tooltip="What was done and why."),
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
        pixels = host.to_engine(image)
        kind, settings, reason = _read_method(method, pixels, None if domain == _ANY else domain)
        if kind is None:
            return io.NodeOutput(image, reason)
        where = host.mask_to_engine(mask)
        like = host.to_engine(guide)[:, :3] if guide is not None else None
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
            description="Makes the luma of edges a little crisper, by a strength that suits the image, and only if no colour "
            "moves visibly (CIEDE2000); else the image is returned as it was.",
            search_aliases=["sharpen", "luma enhancement", "adaptive sharpen", "unsharp"],
            inputs=[
                io.Image.Input("image", tooltip="Grey, RGB or RGBA; a batch is judged as one image."),
                _number("strength", e.strength, 0, 2, 0.01, "Share of the detail that is added, before it is adapted."),
                _number("min_strength", e.min_strength, 0, 2, 0.01, "The least that is added.", True),
                _number("max_strength", e.max_strength, 0, 2, 0.01, "The most that is added.", True),
                _number("sigma", e.sigma_px, 0.1, 1.9, 0.1, "Of the blur whose difference is the detail, in pixels.", True),
                _number("edge_threshold", e.edge_threshold, 0.001, 1, 0.005, "Sobel magnitude of an edge; 0.71 at most.", True),
                _number("max_chroma_variance", e.max_chroma_variance, 1, 16000, 10, "Of very colourful images, 0-255.", True),
                _number("min_edge_density", e.min_edge_density, 0.001, 1, 0.005, "Share of edges of smooth images.", True),
                _number("min_chroma_factor", e.min_chroma_factor, 0, 1, 0.05, "Of the strength, if very colourful.", True),
                _number("min_edge_factor", e.min_edge_factor, 0, 1, 0.05, "Of the strength, without edges.", True),
                _number("mean_limit", e.limits.mean, 0, 20, 0.1, "Mean CIEDE2000 that passes, below this.", True),
                _number("max_limit", e.limits.max, 0, 50, 0.1, "CIEDE2000 of any pixel that passes, below this.", True),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The enhanced image, or the image as it was."),
                io.Boolean.Output(display_name="applied", tooltip="Whether it was enhanced."),
                io.String.Output(display_name="report", tooltip="Why or why not, with what was measured."),
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
            description="Levels, contrast and saturation. As it stands it changes nothing, to the bit.",
            search_aliases=["levels", "contrast", "saturation", "color grading", "gamma"],
            inputs=[
                io.Image.Input("image", tooltip="Grey, RGB or RGBA."),
                _number("black", _GRADE.black, 0, 0.99, 0.005, "Encoded value that becomes black."),
                _number("white", _GRADE.white, 0.01, 1, 0.005, "Encoded value that becomes white."),
                _number("gamma", _GRADE.gamma, 0.1, 10, 0.05, "Above 1 lightens the middle tones."),
                _number("contrast", _GRADE.contrast, 0.1, 4, 0.05, "Slope at middle grey; black and white stay."),
                _number("saturation", _GRADE.saturation, 0, 4, 0.05, "In linear light; 0 is grey of the same luminance."),
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
        raise ValueError(f"corners is {text!r}; wanted four pairs as in {_CORNERS}") from error
    return corners


def _read_method(
    choice: dict[str, Any] | None, image: Any, domain: Domain | None
) -> tuple[CleanupMethod | None, CleanupSettings, str]:
    if choice is None:
        raise ValueError("method is not one of this node's options; choose it anew")
    kind: Any = choice["method"]
    if kind == "auto":
        found, reason = choose_cleanup(measure_conditions(image[:1]), domain)
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
    return kind, CleanupSettings(**given), f"{kind}: as asked"
