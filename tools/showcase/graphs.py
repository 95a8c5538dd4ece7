"""The shipped workflows, as graphs."""

from fidelity.choices import Domain
from fidelity.decide.recipes import RECIPES
from tools.showcase.diffusion_graphs import DIFFUSION_GRAPHS
from tools.showcase.graph import (
    ANIME_NETWORK,
    PHOTO_NETWORK,
    Graph,
    Link,
    Step,
    compare_step,
    finish_steps,
    frames_step,
    model_file,
    save_step,
    save_video_step,
    source_step,
    video_step,
)


def _by_network(name: str, domain: Domain, network: dict[str, str], note: str) -> Graph:
    image: Link = ("prepare", 0)
    first = {"source": source_step(), "prepare": Step("FidelityPrepare", {"image": ("source", 0), "domain": domain})}
    second = {
        "loader": Step("FidelityLoadUpscaleModel", {"domain": domain, "scale": 4.0}, models=(network,)),
        "upscale": Step("FidelityUpscale", {"upscale_model": ("loader", 0), "image": image}),
    }
    third = {"hold": Step("FidelityConsistency", {"image": ("upscale", 0), "reference": image})}
    finished: Link = ("hold", 0)
    if RECIPES[domain].cleanup != "off":
        third["cleanup"] = Step("FidelityCleanup", {"image": finished, "domain": domain})
        finished = ("cleanup", 0)
    groups = {
        "1 · Source": first,
        "2 · Upscale": second,
        "3 · Hold colors, clean" if "cleanup" in third else "3 · Hold colors": third,
        "4 · Check and save": finish_steps(name, finished, image),
    }
    better = (
        f"*auto* uses the best installed model; the pack ships its own. Better for this type of image: "
        f"[{network['name']}]({network['url']}) in `models/upscale_models`.\n\nSet *target* for an exact size."
    )
    judge = "A drift of about 1 is just noticeable. *blend* corrects only the regions that fail; *report* only measures."
    return Graph(groups, {"1 · Source": note, "2 · Upscale": better, "4 · Check and save": judge})


def _auto(name: str, networks: tuple[dict[str, str], ...], note: str) -> Graph:
    settings = {"image": ("source", 0), "source": ("source", 2), "target": "scale by", "target.scale": 4.0}
    groups = {
        "1 · Source": {"source": source_step()},
        "2 · Auto upscale": {
            "auto": Step("FidelityAutoUpscale", settings, models=networks),
        },
        "3 · Save": {"save": save_step(("auto", 0), name, ("auto", 2)), "compare": compare_step(("auto", 0))},
    }
    notes = {
        "1 · Source": (
            "**Choose your own picture above**: a photo, anime, line art, a painting. The file's metadata help detect which."
        ),
        "2 · Auto upscale": (
            "Detects the type of image, repairs measured damage, upscales, preserves colors, cleans up and "
            f"checks the result. Set *domain* if the type is wrong; *target* sets the size.\n\n{note}"
        ),
    }
    return Graph(groups, notes)


_MENDED = "Noise, JPEG damage and banding are removed as strongly as the measurements call for; the report lists what was done."

RIFE, FILM = (
    model_file(
        name,
        f"https://huggingface.co/Comfy-Org/frame_interpolation/resolve/main/frame_interpolation/{name}",
        "frame_interpolation",
    )
    for name in ("rife_v4.25.safetensors", "film_net_fp16.safetensors")
)


def _upscale_video(video: Link) -> Step:
    return Step("FidelityVideoUpscale", {"video": video, "target": "scale by", "target.scale": 2.0})


GRAPHS: dict[str, Graph] = {
    "auto": _auto("auto", (), "Nothing needs to be downloaded."),
    "auto-realesrgan": _auto(
        "auto-realesrgan",
        (PHOTO_NETWORK, ANIME_NETWORK),
        f"With Real-ESRGAN's networks, which redraw damaged pictures whole: [{PHOTO_NETWORK['name']}]({PHOTO_NETWORK['url']}) "
        f"for photos and paintings, [{ANIME_NETWORK['name']}]({ANIME_NETWORK['url']}) for drawings. ComfyUI offers to download "
        "what is missing.",
    ),
    "photo": _by_network("photo", "photo", PHOTO_NETWORK, _MENDED),
    "anime-flux": _by_network("anime-flux", "anime_flux", ANIME_NETWORK, f"Drawings by FLUX. {_MENDED}"),
    "anime-sd": _by_network("anime-sd", "anime_sd", ANIME_NETWORK, f"Drawings by Stable Diffusion. {_MENDED}"),
    "line-art": _by_network("line-art", "line_art", ANIME_NETWORK, f"Ink, comics, flat drawings by people. {_MENDED}"),
    "painting": _by_network("painting", "painting", PHOTO_NETWORK, f"Brushwork is preserved. {_MENDED}"),
    "two-pass-restore": Graph(
        {
            "1 · Source, restored": {
                "source": source_step(),
                "first": Step("FidelityPrepare", {"image": ("source", 0), "restore": "denoise"}),
            },
            "2 · Upscale 2x": {
                "loader": Step("FidelityLoadUpscaleModel", {"scale": 2.0}, models=(PHOTO_NETWORK,)),
                "double": Step("FidelityUpscale", {"upscale_model": ("loader", 0), "image": ("first", 0)}),
            },
            "3 · Restored again": {
                "second": Step("FidelityPrepare", {"image": ("double", 0), "restore": "denoise", "restore_strength": 0.5})
            },
            "4 · Upscale 2x again": {
                "redouble": Step("FidelityUpscale", {"upscale_model": ("loader", 0), "image": ("second", 0)}),
                "hold": Step("FidelityConsistency", {"image": ("redouble", 0), "reference": ("first", 0)}),
            },
            "5 · Check and save": finish_steps("two-pass-restore", ("hold", 0), ("first", 0)),
        },
        {
            "1 · Source, restored": (
                "For tiny or damaged pictures: thumbnails, old scans, screenshots of screenshots. A large 1x "
                "model restores best: SCUNet or NAFNet in `models/upscale_models`; without one, the shipped one "
                "is used."
            ),
            "3 · Restored again": "Removes what the first pass made of leftover damage before the second pass.",
        },
    ),
    "keep-colors-after-any-upscaler": Graph(
        {
            "1 · Source and model": {
                "source": source_step(),
                "loader": Step("FidelityLoadUpscaleModel", models=(PHOTO_NETWORK,)),
            },
            "2 · Upscale": {
                "upscale": Step("FidelityUpscale", {"upscale_model": ("loader", 0), "image": ("source", 0)}),
            },
            "3 · Hold the colors": {
                "hold": Step("FidelityConsistency", {"image": ("upscale", 0), "reference": ("source", 0)}),
            },
            "4 · Check the drift": {
                "gate": Step("FidelityDeltaEGate", {"image": ("hold", 0), "reference": ("source", 0)}),
                "report": Step("PreviewAny", {"source": ("gate", 2)}, "Drift report"),
            },
            "5 · Save and look": {
                "save": save_step(("gate", 0), "keep-colors", ("gate", 2)),
                "compare": compare_step(("gate", 0)),
            },
        },
        {
            "2 · Upscale": (
                "Use any upscaler here: a GAN, SUPIR, SeedVR2, a diffusion pass.\n\nIn this one, *target* sets "
                "the exact size; *luma* preserves colors, *rgb* also restores colors damaged by JPEG."
            ),
            "3 · Hold the colors": (
                "**Works after any upscaler**, at any ratio: its result goes into *image*, the original into *reference*."
            ),
            "4 · Check the drift": "A drift of about 1 is just noticeable. *blend* corrects only the regions that fail.",
        },
    ),
    "blend-two-models": Graph(
        {
            "1 · Source": {"source": source_step()},
            "2 · Two models": {
                "first": Step("FidelityLoadUpscaleModel", {"model_name": "natural-x4.safetensors", "scale": 4.0}),
                "second": Step("FidelityLoadUpscaleModel", {"model_name": "drawn-x4.safetensors", "scale": 4.0}),
                "one": Step("FidelityUpscale", {"upscale_model": ("first", 0), "image": ("source", 0)}, "70 %"),
                "two": Step("FidelityUpscale", {"upscale_model": ("second", 0), "image": ("source", 0)}, "30 %"),
            },
            "3 · Blend, correct the colors": {
                "blend": Step(
                    "ImageBlend",
                    {"image1": ("one", 0), "image2": ("two", 0), "blend_factor": 0.3, "blend_mode": "normal"},
                ),
                "hold": Step("FidelityConsistency", {"image": ("blend", 0), "reference": ("source", 0)}),
            },
            "4 · Check and save": finish_steps("blend-two-models", ("hold", 0), ("source", 0)),
        },
        {
            "2 · Two models": (
                "A faithful model and a crisp one, or two that err in different ways. Both must reach the same size: set the "
                "same *target* in both."
            ),
            "3 · Blend, correct the colors": (
                "*blend_factor* is the share of the second. Hold Colors runs once, after blending, and undoes the color "
                "shifts of both models."
            ),
        },
    ),
    "compare-models": Graph(
        {
            "1 · Source": {"source": source_step()},
            "2 · Models": {
                "compare": Step(
                    "FidelityCompareModels",
                    {
                        **{"image": ("source", 0), "target": "scale by", "target.scale": 4.0},
                        **{"model_1": "natural-x4.safetensors", "model_2": "drawn-x4.safetensors"},
                    },
                ),
                "report": Step("PreviewAny", {"source": ("compare", 1)}, "Metrics"),
            },
            "3 · Sheet": {"show": Step("PreviewImage", {"images": ("compare", 0)}, "Sheet")},
        },
        {
            "1 · Source": "Crop a large picture first: every model runs on all of it.",
            "2 · Models": (
                "Up to four models. Below each, a map of its color drift: black is none, red is 3 CIEDE2000 or "
                "more. The leftmost result is plain bicubic, for comparison."
            ),
        },
    ),
    "video": Graph(
        {
            "1 · Video": {"source": video_step()},
            "2 · Upscale": {"upscale": _upscale_video(("source", 0))},
            "3 · Save": {"save": save_video_step(("upscale", 0), "video")},
        },
        {
            "1 · Video": "A video of any length: it is read as a stream, never whole.",
            "2 · Upscale": (
                "Domain, model and restoration are chosen for each scene. Time stamps, color tags and sound are kept. For a "
                "preview, put core's *Trim Video* in between."
            ),
        },
    ),
    "video-interpolate": Graph(
        {
            "1 · Video": {"source": video_step(), "frames": frames_step()},
            "2 · Interpolate": {
                "model": Step("FrameInterpolationModelLoader", {"model_name": RIFE["name"]}, models=(RIFE, FILM)),
                "between": Step("FrameInterpolate", {"interp_model": ("model", 0), "images": ("frames", 0), "multiplier": 2}),
            },
            "3 · Twice the rate": {
                "rate": Step("ComfyMathExpression", {"expression": "2 * a", "values.a": ("frames", 2)}, "New frame rate"),
                "clip": Step("CreateVideo", {"images": ("between", 0), "fps": ("rate", 0), "audio": ("frames", 1)}),
            },
            "4 · Upscale and save": {
                "upscale": _upscale_video(("clip", 0)),
                "save": save_video_step(("upscale", 0), "video-interpolate"),
            },
        },
        {
            "1 · Video": (
                "Interpolation needs all frames in memory at once: cut a long video with core's *Trim Video* first. It also "
                "needs a constant frame rate."
            ),
            "2 · Interpolate": "RIFE is fast; FILM is better at large motion. *multiplier* 2 makes 60 frames per second of 30.",
            "3 · Twice the rate": "The rate times the multiplier, so that the sound stays in step.",
            "4 · Upscale and save": "Upscaling comes last, so that interpolation works on small frames.",
        },
        runs=False,
    ),
    **DIFFUSION_GRAPHS,
}
"""All shipped workflows by name."""
