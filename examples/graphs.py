"""The workflows that ship, as graphs: what nodes, wired how, with what settings, in which group, and one note each.

A setting that is not given has the node's own default, which is the recipe's.
"""

from dataclasses import dataclass, field
from typing import Any

Link = tuple[str, int]
"""An output: the key of its node, and its place."""


@dataclass(frozen=True)
class Step:
    """A node."""

    kind: str
    """Its id."""
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    """Settings that differ from the defaults, and links as `Link`."""
    title: str | None = None
    """What it is called in the graph, if not by its own name."""
    models: tuple[dict[str, str], ...] = ()
    """Files that it wants or could use, for the dialog of missing models: name, url, directory."""


@dataclass(frozen=True)
class Graph:
    """A workflow."""

    groups: dict[str, dict[str, Step]]
    """Groups from left to right by title, each with its nodes from top to bottom by key."""
    notes: dict[str, str]
    """A note in Markdown for each group that has one."""
    runs: bool = True
    """Whether it runs with nothing but the pack, and so is tested by running."""


def _file(name: str, url: str, directory: str) -> dict[str, str]:
    return {"name": name, "url": url, "directory": directory}


_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_HUB = "https://huggingface.co"
PHOTO_NETWORK = _file("RealESRGAN_x4plus.pth", f"{_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth", "upscale_models")
ANIME_NETWORK = _file("RealESRGAN_x4plus_anime_6B.pth", f"{_ESRGAN}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth", "upscale_models")
SDXL = _file(
    "sd_xl_base_1.0.safetensors",
    f"{_HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    "checkpoints",
)
ANIMAGINE = _file(
    "animagine-xl-4.0.safetensors",
    f"{_HUB}/cagliostrolab/animagine-xl-4.0/resolve/main/animagine-xl-4.0.safetensors",
    "checkpoints",
)
TILE_CONTROL = _file(
    "diffusion_pytorch_model.safetensors",
    f"{_HUB}/xinsir/controlnet-tile-sdxl-1.0/resolve/main/diffusion_pytorch_model.safetensors",
    "controlnet",
)
SUPIR = _file(
    "SUPIR-v0Q_fp16.safetensors", f"{_HUB}/Kijai/SUPIR_pruned/resolve/main/SUPIR-v0Q_fp16.safetensors", "model_patches"
)
UPSCALER = _file(
    "x4-upscaler-ema.safetensors",
    f"{_HUB}/stabilityai/stable-diffusion-x4-upscaler/resolve/main/x4-upscaler-ema.safetensors",
    "checkpoints",
)


def _source(title: str = "Source") -> Step:
    return Step("FidelityLoadImage", {"image": "example.png"}, title)


def _save(image: Link, name: str, report: Link | None = None) -> Step:
    inputs: dict[str, Any] = {"images": image, "source": ("source", 2), "filename_prefix": f"fidelity/{name}"}
    return Step("FidelitySaveImage", inputs | ({"report": report} if report else {}), "Save")


def _compare(after: Link, before: Link = ("source", 0)) -> Step:
    return Step("ImageCompare", {"image_a": before, "image_b": after}, "Before and after")


def _finish(name: str, image: Link, source: Link = ("source", 0)) -> dict[str, Step]:
    return {
        "gate": Step("FidelityDeltaEGate", {"image": image, "reference": source}),
        "save": _save(("gate", 0), name, ("gate", 2)),
        "compare": _compare(("gate", 0)),
    }


def _by_network(name: str, domain: str, network: dict[str, str], note: str, mended: bool) -> Graph:
    first: dict[str, Step] = {"source": _source()}
    image: Link = ("source", 0)
    if mended:
        first["prepare"] = Step("FidelityPrepare", {"image": image})
        image = ("prepare", 0)
    second = {
        "loader": Step("FidelityLoadUpscaleModel", {"domain": domain, "scale": 4.0}, models=(network,)),
        "upscale": Step("FidelityUpscale", {"upscale_model": ("loader", 0), "image": image}),
    }
    third = {
        "hold": Step("FidelityConsistency", {"image": ("upscale", 0), "reference": image}),
        "cleanup": Step("FidelityCleanup", {"image": ("hold", 0)}),
    }
    groups = {
        "1 · Source": first,
        "2 · Enlarge": second,
        "3 · Hold colors, clean": third,
        "4 · Judge and save": _finish(name, ("cleanup", 0), image),
    }
    better = (
        f"*auto* takes the best network installed; four ship with the pack. Better for this kind of image: "
        f"[{network['name']}]({network['url']}) in `models/upscale_models`.\n\n"
        "Any size, exact: set *target*."
    )
    judge = "Drift below 1 is not seen. *blend* mends only regions that fail; *report* says what was found."
    return Graph(groups, {"1 · Source": note, "2 · Enlarge": better, "4 · Judge and save": judge})


def _prompts(positive: str, negative: str, clip: Link) -> dict[str, Step]:
    return {
        "positive": Step("CLIPTextEncode", {"clip": clip, "text": positive}, "What it shows"),
        "negative": Step("CLIPTextEncode", {"clip": clip, "text": negative}, "What it shall not show"),
    }


def _by_sdxl(
    name: str,
    checkpoint: dict[str, str],
    network: dict[str, str],
    texts: tuple[str, str],
    settings: dict[str, Any],
    domain: str,
) -> Graph:
    parts = {"model": ("checkpoint", 0), "vae": ("checkpoint", 2), "positive": ("positive", 0), "negative": ("negative", 0)}
    groups = {
        "1 · Source and models": {
            "source": _source(),
            "checkpoint": Step("CheckpointLoaderSimple", {"ckpt_name": checkpoint["name"]}, models=(checkpoint,)),
            "control": Step("ControlNetLoader", {"control_net_name": TILE_CONTROL["name"]}, models=(TILE_CONTROL,)),
            "loader": Step("FidelityLoadUpscaleModel", {"domain": domain, "scale": 2.0}, models=(network,)),
        },
        "2 · Words": _prompts(*texts, ("checkpoint", 1)),
        "3 · Diffusion passes": {
            "pass": Step(
                "FidelityDiffusionPass",
                {
                    **{"image": ("source", 0), "control_net": ("control", 0), "upscale_model": ("loader", 0)},
                    **parts,
                    **{"target": "scale by", "target.scale": 4.0},
                    **settings,
                },
            )
        },
        "4 · Save": {"save": _save(("pass", 0), name, ("pass", 1)), "compare": _compare(("pass", 0))},
    }
    notes = {
        "1 · Source and models": "A checkpoint of the picture's own style and a tile ControlNet. Loading this "
        "says what is missing and where to get it.",
        "2 · Words": "A few words of what is there help; none is needed.",
        "3 · Diffusion passes": "*denoise*: how much may be redrawn. *fidelity*: how closely the source is "
        "kept. Colours are held after every pass and judged at the end; *tile* 0 chooses by memory.",
    }
    return Graph(groups, notes, runs=False)


_PHOTO_WORDS = ("a sharp, detailed photograph", "painting, drawing, blur, noise, compression artifacts, oversharpened")
_ANIME_WORDS = (
    "anime illustration, clean lines, masterpiece, high score, absurdres",
    "lowres, jpeg artifacts, blurry, bad anatomy, text, watermark",
)

GRAPHS: dict[str, Graph] = {
    "auto": Graph(
        {
            "1 · Source": {"source": _source()},
            "2 · The whole way": {
                "auto": Step(
                    "FidelityAutoUpscale",
                    {"image": ("source", 0), "source": ("source", 2), "target": "scale by", "target.scale": 4.0},
                    models=(PHOTO_NETWORK, ANIME_NETWORK),
                ),
                "report": Step("PreviewAny", {"source": ("auto", 2)}, "What was decided and done"),
            },
            "3 · Save": {"save": _save(("auto", 0), "auto", ("auto", 2)), "compare": _compare(("auto", 0))},
        },
        {
            "1 · Source": "Any image: a photograph, anime, line art, a painting. The file's metadata help to tell which.",
            "2 · The whole way": "Tells the kind of image, mends what is measured, enlarges, holds the colours, "
            "cleans and judges. "
            "Set *domain* if it was told wrongly; *target* takes any size.",
        },
    ),
    "photo": _by_network(
        "photo", "photo", PHOTO_NETWORK, "Noise and JPEG damage are mended only where they are measured; the report says.", True
    ),
    "anime-flux": _by_network(
        "anime-flux", "anime_flux", ANIME_NETWORK, "Clean drawings, as FLUX makes them: nothing is mended first.", False
    ),
    "anime-sd": _by_network(
        "anime-sd",
        "anime_sd",
        ANIME_NETWORK,
        "Drawings by Stable Diffusion: bands and swirls are mended where they are measured.",
        True,
    ),
    "line-art": _by_network(
        "line-art", "line_art", ANIME_NETWORK, "Ink, comics, flat drawings, made by people: nothing is mended first.", False
    ),
    "painting": _by_network(
        "painting", "painting", PHOTO_NETWORK, "Brushwork is kept: only compression is mended, where it is measured.", True
    ),
    "two-pass-restore": Graph(
        {
            "1 · Source, mended": {
                "source": _source(),
                "first": Step("FidelityPrepare", {"image": ("source", 0), "restore": "denoise"}),
            },
            "2 · Twice as large": {
                "loader": Step("FidelityLoadUpscaleModel", {"scale": 2.0}, models=(PHOTO_NETWORK,)),
                "double": Step("FidelityUpscale", {"upscale_model": ("loader", 0), "image": ("first", 0)}),
            },
            "3 · Mended again": {
                "second": Step("FidelityPrepare", {"image": ("double", 0), "restore": "denoise", "restore_strength": 0.5})
            },
            "4 · Twice again": {
                "redouble": Step("FidelityUpscale", {"upscale_model": ("loader", 0), "image": ("second", 0)}),
                "hold": Step("FidelityConsistency", {"image": ("redouble", 0), "reference": ("first", 0)}),
            },
            "5 · Judge and save": _finish("two-pass-restore", ("hold", 0), ("first", 0)),
        },
        {
            "1 · Source, mended": "For tiny or damaged pictures: thumbnails, old scans, screenshots of "
            "screenshots. A network at x1 mends best: SCUNet or "
            "NAFNet in `models/upscale_models`; without one a filter does.",
            "3 · Mended again": "What the first pass made of leftover damage is taken out before it is enlarged once more.",
        },
    ),
    "compare-models": Graph(
        {
            "1 · Source": {"source": _source()},
            "2 · Networks": {
                "compare": Step(
                    "FidelityCompareModels",
                    {
                        **{"image": ("source", 0), "target": "scale by", "target.scale": 4.0},
                        **{"model_1": "natural-x4.safetensors", "model_2": "drawn-x4.safetensors"},
                    },
                ),
                "report": Step("PreviewAny", {"source": ("compare", 1)}, "Figures"),
            },
            "3 · Sheet": {"show": Step("PreviewImage", {"images": ("compare", 0)}, "Sheet")},
        },
        {
            "1 · Source": "Crop a large picture first: every network runs on all of it.",
            "2 · Networks": "Up to four, as they are. Below each, where it moved colours: black nowhere, red by "
            "3 CIEDE2000 and more. "
            "The first is bicubic.",
        },
    ),
    "photo-sdxl-tile": _by_sdxl("photo-sdxl-tile", SDXL, PHOTO_NETWORK, _PHOTO_WORDS, {}, "photo"),
    "anime-sdxl-tile": _by_sdxl("anime-sdxl-tile", ANIMAGINE, ANIME_NETWORK, _ANIME_WORDS, {"denoise": 0.3}, "anime_sd"),
    "photo-supir": Graph(
        {
            "1 · Source and models": {
                "source": _source(),
                "checkpoint": Step("CheckpointLoaderSimple", {"ckpt_name": SDXL["name"]}, models=(SDXL,)),
                "patch": Step("ModelPatchLoader", {"name": SUPIR["name"]}, models=(SUPIR,)),
                "loader": Step("FidelityLoadUpscaleModel", {"scale": 2.0}, models=(PHOTO_NETWORK,)),
            },
            "2 · Enlarge, words": {
                "upscale": Step(
                    "FidelityUpscale",
                    {"upscale_model": ("loader", 0), "image": ("source", 0), "target": "scale by", "target.scale": 2.0},
                ),
                **_prompts(*_PHOTO_WORDS, ("checkpoint", 1)),
            },
            "3 · SUPIR, in tiles": {
                "supir": Step(
                    "SUPIRApply",
                    {
                        "model": ("checkpoint", 0),
                        "model_patch": ("patch", 0),
                        "vae": ("checkpoint", 2),
                        "image": ("upscale", 0),
                    },
                ),
                "tiles": Step("FidelityTiledDiffusion", {"model": ("supir", 0)}),
                "encode": Step("VAEEncode", {"pixels": ("upscale", 0), "vae": ("checkpoint", 2)}),
            },
            "4 · Sample": {
                "sample": Step(
                    "KSampler",
                    {
                        **{
                            "model": ("tiles", 0),
                            "positive": ("positive", 0),
                            "negative": ("negative", 0),
                            "latent_image": ("encode", 0),
                        },
                        **{
                            "steps": 45,
                            "cfg": 4.0,
                            "sampler_name": "dpmpp_2m_sde",
                            "scheduler": "karras",
                            "denoise": 1.0,
                            "seed": 0,
                        },
                    },
                ),
                "decode": Step("VAEDecode", {"samples": ("sample", 0), "vae": ("checkpoint", 2)}),
                "hold": Step("FidelityConsistency", {"image": ("decode", 0), "reference": ("source", 0)}),
            },
            "5 · Judge and save": _finish("photo-supir", ("hold", 0)),
        },
        {
            "1 · Source and models": "SUPIR's weights and SDXL. SUPIR is for non-commercial use, by its licence.",
            "3 · SUPIR, in tiles": "A *larger* restore_cfg pulls *less* toward the source, against its own "
            "tooltip. The tiles cut SUPIR's image with the latent, "
            "so any size works.",
        },
        runs=False,
    ),
    "sd-x4-upscaler": Graph(
        {
            "1 · Source and model": {
                "source": _source(),
                "checkpoint": Step("CheckpointLoaderSimple", {"ckpt_name": UPSCALER["name"]}, models=(UPSCALER,)),
            },
            "2 · Words": _prompts("a sharp, detailed photograph", "blur, noise", ("checkpoint", 1)),
            "3 · Four times": {
                "condition": Step(
                    "SD_4XUpscale_Conditioning",
                    {
                        "images": ("source", 0),
                        "positive": ("positive", 0),
                        "negative": ("negative", 0),
                        "noise_augmentation": 0.1,
                    },
                ),
                "tiles": Step("FidelityTiledDiffusion", {"model": ("checkpoint", 0), "tile": 2048, "overlap": 256}),
                "sample": Step(
                    "KSampler",
                    {
                        **{
                            "model": ("tiles", 0),
                            "positive": ("condition", 0),
                            "negative": ("condition", 1),
                            "latent_image": ("condition", 2),
                        },
                        **{"steps": 25, "cfg": 6.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, "seed": 0},
                    },
                ),
                "decode": Step("VAEDecode", {"samples": ("sample", 0), "vae": ("checkpoint", 2)}),
            },
            "4 · Hold colors": {"hold": Step("FidelityConsistency", {"image": ("decode", 0), "reference": ("source", 0)})},
            "5 · Judge and save": _finish("sd-x4-upscaler", ("hold", 0)),
        },
        {
            "1 · Source and model": "Stability's ×4 upscaler. Its latents lie four pixels apart: a tile of 2048 "
            "pixels is 512 of the source."
        },
        runs=False,
    ),
    "hybrid-gan-diffusion": Graph(
        {
            "1 · Source and models": {
                "source": _source(),
                "checkpoint": Step("CheckpointLoaderSimple", {"ckpt_name": SDXL["name"]}, models=(SDXL,)),
                "loader": Step("FidelityLoadUpscaleModel", {"scale": 4.0}, models=(PHOTO_NETWORK,)),
            },
            "2 · By a network": {
                "upscale": Step(
                    "FidelityUpscale",
                    {"upscale_model": ("loader", 0), "image": ("source", 0), "target": "scale by", "target.scale": 2.0},
                ),
                **_prompts(*_PHOTO_WORDS, ("checkpoint", 1)),
            },
            "3 · By diffusion": {
                "pass": Step(
                    "FidelityDiffusionPass",
                    {
                        **{"image": ("upscale", 0), "model": ("checkpoint", 0), "vae": ("checkpoint", 2)},
                        **{"positive": ("positive", 0), "negative": ("negative", 0), "target": "scale by", "target.scale": 1.0},
                    },
                ),
            },
            "4 · Both": {
                "blend": Step("ImageBlend", {"image1": ("upscale", 0), "image2": ("pass", 0), "blend_factor": 0.3}, "70 to 30"),
                "hold": Step("FidelityConsistency", {"image": ("blend", 0), "reference": ("source", 0)}),
            },
            "5 · Judge and save": _finish("hybrid-gan-diffusion", ("hold", 0)),
        },
        {"4 · Both": "The network's clean edges and some of diffusion's texture. More *blend_factor*, more diffusion."},
        runs=False,
    ),
}
"""By name. keep-colors, the first, was drawn by hand."""
