"""The shipped workflows that use diffusion, as graphs; each lists the models it needs."""

from typing import Any

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

HUB = "https://huggingface.co"
SDXL = model_file(
    "sd_xl_base_1.0.safetensors",
    f"{HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    "checkpoints",
)
ANIMAGINE = model_file(
    "animagine-xl-4.0.safetensors",
    f"{HUB}/cagliostrolab/animagine-xl-4.0/resolve/main/animagine-xl-4.0.safetensors",
    "checkpoints",
)
TILE_CONTROL = model_file(
    "diffusion_pytorch_model.safetensors",
    f"{HUB}/xinsir/controlnet-tile-sdxl-1.0/resolve/main/diffusion_pytorch_model.safetensors",
    "controlnet",
)
SD15 = model_file(
    "v1-5-pruned-emaonly-fp16.safetensors",
    f"{HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    "checkpoints",
)
SD15_TILE_CONTROL = model_file(
    "control_v11f1e_sd15_tile_fp16.safetensors",
    f"{HUB}/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/control_v11f1e_sd15_tile_fp16.safetensors",
    "controlnet",
)
SUPIR = model_file(
    "SUPIR-v0Q_fp16.safetensors", f"{HUB}/Kijai/SUPIR_pruned/resolve/main/SUPIR-v0Q_fp16.safetensors", "model_patches"
)
UPSCALER = model_file(
    "x4-upscaler-ema.safetensors",
    f"{HUB}/stabilityai/stable-diffusion-x4-upscaler/resolve/main/x4-upscaler-ema.safetensors",
    "checkpoints",
)
_SEEDVR2 = f"{HUB}/Comfy-Org/SeedVR2/resolve/main"
SEEDVR2 = model_file(
    "seedvr2_3b_int8_convrot.safetensors",
    f"{_SEEDVR2}/diffusion_models/seedvr2_3b_int8_convrot.safetensors",
    "diffusion_models",
)
SEEDVR2_VAE = model_file("seedvr2_ema_vae_fp16.safetensors", f"{_SEEDVR2}/vae/seedvr2_ema_vae_fp16.safetensors", "vae")


def prompt_steps(positive: str, negative: str, clip: Link) -> dict[str, Step]:
    return {
        "positive": Step("CLIPTextEncode", {"clip": clip, "text": positive}, "Prompt"),
        "negative": Step("CLIPTextEncode", {"clip": clip, "text": negative}, "Negative prompt"),
    }


_PROMPTED: tuple[Link, Link] = (("positive", 0), ("negative", 0))
_CONDITIONED: tuple[Link, Link] = (("condition", 0), ("condition", 1))


def _load(kind: str, setting: str, file: dict[str, str]) -> Step:
    """A loader node of the host, with the download URL of its file."""
    return Step(kind, {setting: file["name"]}, models=(file,))


def _sample(
    model: Link,
    conds: tuple[Link, Link],
    latent: Link,
    steps: int,
    cfg: float,
    sampler: str,
    scheduler: str,
    denoise: float = 1.0,
) -> Step:
    """The host's sampler node."""
    parts = {"model": model, "positive": conds[0], "negative": conds[1], "latent_image": latent}
    settings = {"steps": steps, "cfg": cfg, "sampler_name": sampler, "scheduler": scheduler, "denoise": denoise, "seed": 0}
    return Step("KSampler", {**parts, **settings})


_SEEDVR2_MODELS = {
    "model": _load("UNETLoader", "unet_name", SEEDVR2),
    "vae": _load("VAELoader", "vae_name", SEEDVR2_VAE),
}


def _encode_for_seedvr2(images: Link) -> dict[str, Step]:
    """Enlarges images twice, as SeedVR2 is to restore them, and encodes them."""
    resized = {"input": images, "resize_type": "scale by multiplier", "resize_type.multiplier": 2.0, "scale_method": "lanczos"}
    return {
        "resize": Step("ResizeImageMaskNode", resized),
        "pad": Step("SeedVR2Preprocess", {"resized_images": ("resize", 0)}),
        "encode": Step("VAEEncodeTiled", {"pixels": ("pad", 0), "vae": ("vae", 0), "overlap": 128}),
    }


def _decode_from_seedvr2(samples: Link) -> dict[str, Step]:
    """Decodes what SeedVR2 made, at the size of the enlarged images, with its own color correction off."""
    parts: dict[str, Any] = {"images": ("decode", 0), "original_resized_images": ("resize", 0)}
    return {
        "decode": Step("VAEDecodeTiled", {"samples": samples, "vae": ("vae", 0), "overlap": 128}),
        "trim": Step("SeedVR2PostProcessing", parts | {"color_correction_method": "none"}),
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
            "source": source_step(),
            "checkpoint": _load("CheckpointLoaderSimple", "ckpt_name", checkpoint),
            "control": _load("ControlNetLoader", "control_net_name", TILE_CONTROL),
            "loader": Step("FidelityLoadUpscaleModel", {"domain": domain, "scale": 2.0}, models=(network,)),
        },
        "2 · Prompts": prompt_steps(*texts, ("checkpoint", 1)),
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
        "4 · Save": {"save": save_step(("pass", 0), name, ("pass", 1)), "compare": compare_step(("pass", 0))},
    }
    notes = {
        "1 · Source and models": (
            "A checkpoint in the picture's own style and a tile ControlNet. ComfyUI lists what is missing and where to get it."
        ),
        "2 · Prompts": "A few words about the picture help; none are needed.",
        "3 · Diffusion passes": (
            "*denoise*: how much is redrawn. *fidelity*: how closely the result follows the source. Colors "
            "are corrected after every pass and checked at the end; *tile* 0 chooses by memory."
        ),
    }
    return Graph(groups, notes, runs=False)


_PHOTO_WORDS = ("a sharp, detailed photograph", "painting, drawing, blur, noise, compression artifacts, oversharpened")
_ANIME_WORDS = (
    "anime illustration, clean lines, masterpiece, high score, absurdres",
    "lowres, jpeg artifacts, blurry, bad anatomy, text, watermark",
)

DIFFUSION_GRAPHS: dict[str, Graph] = {
    "photo-sdxl-tile": _by_sdxl("photo-sdxl-tile", SDXL, PHOTO_NETWORK, _PHOTO_WORDS, {}, "photo"),
    "anime-sdxl-tile": _by_sdxl("anime-sdxl-tile", ANIMAGINE, ANIME_NETWORK, _ANIME_WORDS, {"denoise": 0.3}, "anime_sd"),
    "anime-sd-latent": Graph(
        {
            "1 · Source and model": {
                "source": source_step(),
                "checkpoint": _load("CheckpointLoaderSimple", "ckpt_name", ANIMAGINE),
            },
            "2 · Prompts": prompt_steps(*_ANIME_WORDS, ("checkpoint", 1)),
            "3 · Upscale the latent": {
                "encode": Step("VAEEncode", {"pixels": ("source", 0), "vae": ("checkpoint", 2)}),
                "enlarge": Step("LatentUpscaleBy", {"samples": ("encode", 0), "upscale_method": "bislerp", "scale_by": 2.0}),
                "tiles": Step("FidelityTiledDiffusion", {"model": ("checkpoint", 0)}),
                "guide": Step(
                    "FidelityRestorationGuidance",
                    {"model": ("tiles", 0), "latent": ("enlarge", 0), "fidelity": 0.2, "noise_from": "first step"},
                ),
            },
            "4 · Resample": {
                "sample": _sample(
                    ("guide", 0),
                    _PROMPTED,
                    ("enlarge", 0),
                    28,
                    5.0,
                    "euler_ancestral",
                    "normal",
                    denoise=0.5,
                ),
                "decode": Step("VAEDecode", {"samples": ("sample", 0), "vae": ("checkpoint", 2)}),
                "hold": Step("FidelityConsistency", {"image": ("decode", 0), "reference": ("source", 0)}),
            },
            "5 · Check and save": finish_steps("anime-sd-latent", ("hold", 0)),
        },
        {
            "1 · Source and model": "The checkpoint that made the picture, or one in its style.",
            "3 · Upscale the latent": (
                "For pictures made by Stable Diffusion. An upscaled latent is soft until it is resampled. Higher "
                "*fidelity* stays closer to the source."
            ),
            "4 · Resample": "*denoise*: lower stays soft, higher changes the picture.",
        },
        runs=False,
    ),
    "photo-supir": Graph(
        {
            "1 · Source and models": {
                "source": source_step(),
                "checkpoint": _load("CheckpointLoaderSimple", "ckpt_name", SDXL),
                "patch": _load("ModelPatchLoader", "name", SUPIR),
                "loader": Step("FidelityLoadUpscaleModel", {"scale": 2.0}, models=(PHOTO_NETWORK,)),
            },
            "2 · Upscale, prompts": {
                "upscale": Step(
                    "FidelityUpscale",
                    {"upscale_model": ("loader", 0), "image": ("source", 0), "target": "scale by", "target.scale": 2.0},
                ),
                **prompt_steps(*_PHOTO_WORDS, ("checkpoint", 1)),
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
                "sample": _sample(("tiles", 0), _PROMPTED, ("encode", 0), 45, 4.0, "dpmpp_2m_sde", "karras"),
                "decode": Step("VAEDecode", {"samples": ("sample", 0), "vae": ("checkpoint", 2)}),
                "hold": Step("FidelityConsistency", {"image": ("decode", 0), "reference": ("source", 0)}),
            },
            "5 · Check and save": finish_steps("photo-supir", ("hold", 0)),
        },
        {
            "1 · Source and models": "SUPIR's weights and SDXL. SUPIR's license allows non-commercial use only.",
            "3 · SUPIR, in tiles": (
                "A *larger* restore_cfg pulls *less* toward the source, contrary to its tooltip. Tiles crop "
                "SUPIR's image with the latent, so any size works."
            ),
        },
        runs=False,
    ),
    "photo-ccsr": Graph(
        {
            "1 · Source and models": {
                "source": source_step(),
                "checkpoint": _load("CheckpointLoaderSimple", "ckpt_name", SD15),
                "control": _load("ControlNetLoader", "control_net_name", SD15_TILE_CONTROL),
                "loader": Step("FidelityLoadUpscaleModel", {"scale": 2.0}, models=(PHOTO_NETWORK,)),
            },
            "2 · Upscale, prompts": {
                "upscale": Step(
                    "FidelityUpscale",
                    {"upscale_model": ("loader", 0), "image": ("source", 0), "target": "scale by", "target.scale": 2.0},
                ),
                **prompt_steps(*_PHOTO_WORDS, ("checkpoint", 1)),
                "condition": Step(
                    "ControlNetApplyAdvanced",
                    {
                        "positive": ("positive", 0),
                        "negative": ("negative", 0),
                        "control_net": ("control", 0),
                        "image": ("upscale", 0),
                        "vae": ("checkpoint", 2),
                    },
                ),
            },
            "3 · Truncated sampling, in tiles": {
                "tiles": Step("FidelityTiledDiffusion", {"model": ("checkpoint", 0), "tile": 512, "overlap": 64}),
                "truncate": Step("FidelityTruncatedSampling", {"model": ("tiles", 0), "t_min": 0.0}),
                "size": Step("GetImageSize", {"image": ("upscale", 0)}),
                "empty": Step("EmptyLatentImage", {"width": ("size", 0), "height": ("size", 1)}),
            },
            "4 · Sample": {
                "sample": Step(
                    "SamplerCustom",
                    {
                        "model": ("tiles", 0),
                        "positive": ("condition", 0),
                        "negative": ("condition", 1),
                        "sampler": ("truncate", 0),
                        "sigmas": ("truncate", 1),
                        "latent_image": ("empty", 0),
                        "noise_seed": 0,
                        "cfg": 5.5,
                    },
                ),
                "decode": Step("VAEDecode", {"samples": ("sample", 1), "vae": ("checkpoint", 2)}),
                "hold": Step("FidelityConsistency", {"image": ("decode", 0), "reference": ("source", 0)}),
            },
            "5 · Check and save": finish_steps("photo-ccsr", ("hold", 0)),
        },
        {
            "1 · Source and models": "Any checkpoint with a tile ControlNet made for it, as CCSR's own for SD 2.1.",
            "3 · Truncated sampling, in tiles": (
                "A lower *t_max* keeps more of the first estimate. *t_min* is 0, since the paper's 0.3333 needs the decoder "
                "that was trained for it; with CCSR's VAE, set 0.3333."
            ),
            "4 · Sample": "Hold Colors replaces the paper's color correction.",
        },
        runs=False,
    ),
    "photo-seedvr2": Graph(
        {
            "1 · Source and models": {
                "source": source_step(),
                **_SEEDVR2_MODELS,
            },
            "2 · Upscale": _encode_for_seedvr2(("source", 0)),
            "3 · SeedVR2, in tiles": {
                "condition": Step("SeedVR2Conditioning", {"model": ("model", 0), "vae_conditioning": ("encode", 0)}),
                "tiles": Step("FidelityTiledDiffusion", {"model": ("model", 0), "tile": 2048, "overlap": 256}),
                "sample": _sample(("tiles", 0), _CONDITIONED, ("encode", 0), 1, 1.0, "euler", "simple"),
            },
            "4 · Hold colors": {
                **_decode_from_seedvr2(("sample", 0)),
                "hold": Step("FidelityConsistency", {"image": ("trim", 0), "reference": ("source", 0)}),
            },
            "5 · Check and save": finish_steps("photo-seedvr2", ("hold", 0)),
        },
        {
            "1 · Source and models": "SeedVR2, 3B: one step, no prompt.",
            "2 · Upscale": "*multiplier*: the scale factor. SeedVR2 restores the resized image.",
            "3 · SeedVR2, in tiles": "Smaller tiles use less memory; a picture that fits into one tile is not tiled.",
            "4 · Hold colors": "Its own color correction is off: Hold Colors replaces it, and the gate measures the drift.",
        },
        runs=False,
    ),
    "hold-colors-after-seedvr2-video": Graph(
        {
            "1 · Video and models": {
                "source": video_step(),
                "frames": frames_step(),
                **_SEEDVR2_MODELS,
            },
            "2 · Upscale": _encode_for_seedvr2(("frames", 0)),
            "3 · SeedVR2, in parts": {
                "split": Step("SeedVR2TemporalChunk", {"latent": ("encode", 0), "temporal_overlap": 1}),
                "condition": Step("SeedVR2Conditioning", {"model": ("model", 0), "vae_conditioning": ("split", 0)}),
                "sample": _sample(("model", 0), _CONDITIONED, ("split", 0), 1, 1.0, "euler", "simple"),
                "merge": Step("SeedVR2TemporalMerge", {"latents": ("sample", 0), "temporal_overlap": ("split", 1)}),
            },
            "4 · Hold colors": {
                **_decode_from_seedvr2(("merge", 0)),
                "hold": Step("FidelityConsistency", {"image": ("trim", 0), "reference": ("frames", 0), "steady": "on"}),
                "gate": Step("FidelityDeltaEGate", {"image": ("hold", 0), "reference": ("frames", 0)}),
            },
            "5 · Save": {
                "clip": Step("CreateVideo", {"images": ("gate", 0), "fps": ("frames", 2), "audio": ("frames", 1)}),
                "save": save_video_step(("clip", 0), "hold-colors-after-seedvr2-video"),
            },
        },
        {
            "1 · Video and models": "SeedVR2 needs all frames in memory: cut a long video with core's *Trim Video* first.",
            "3 · SeedVR2, in parts": "As many frames at a time as fit into memory. Brightness may jump from part to part.",
            "4 · Hold colors": (
                "Removes those jumps, and the tint of tiles: every frame gets its source's colors. *steady* also calms detail "
                "that flickers. The same two nodes work after any video upscaler."
            ),
        },
        runs=False,
    ),
    "sd-x4-upscaler": Graph(
        {
            "1 · Source and model": {
                "source": source_step(),
                "checkpoint": _load("CheckpointLoaderSimple", "ckpt_name", UPSCALER),
            },
            "2 · Prompts": prompt_steps("a sharp, detailed photograph", "blur, noise", ("checkpoint", 1)),
            "3 · Upscale 4x": {
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
                "sample": _sample(("tiles", 0), _CONDITIONED, ("condition", 2), 25, 6.0, "euler", "normal"),
                "decode": Step("VAEDecode", {"samples": ("sample", 0), "vae": ("checkpoint", 2)}),
            },
            "4 · Hold colors": {"hold": Step("FidelityConsistency", {"image": ("decode", 0), "reference": ("source", 0)})},
            "5 · Check and save": finish_steps("sd-x4-upscaler", ("hold", 0)),
        },
        {
            "1 · Source and model": (
                "Stability's ×4 upscaler. One latent covers four pixels: a tile of 2048 pixels is 512 of the source."
            )
        },
        runs=False,
    ),
    "hybrid-gan-diffusion": Graph(
        {
            "1 · Source and models": {
                "source": source_step(),
                "checkpoint": _load("CheckpointLoaderSimple", "ckpt_name", SDXL),
                "loader": Step("FidelityLoadUpscaleModel", {"scale": 4.0}, models=(PHOTO_NETWORK,)),
            },
            "2 · Upscale by a model": {
                "upscale": Step(
                    "FidelityUpscale",
                    {"upscale_model": ("loader", 0), "image": ("source", 0), "target": "scale by", "target.scale": 2.0},
                ),
                **prompt_steps(*_PHOTO_WORDS, ("checkpoint", 1)),
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
            "4 · Blend both": {
                "blend": Step("ImageBlend", {"image1": ("upscale", 0), "image2": ("pass", 0), "blend_factor": 0.3}, "70 to 30"),
                "hold": Step("FidelityConsistency", {"image": ("blend", 0), "reference": ("source", 0)}),
            },
            "5 · Check and save": finish_steps("hybrid-gan-diffusion", ("hold", 0)),
        },
        {"4 · Blend both": "The model's clean edges with some of diffusion's texture. Higher *blend_factor*, more diffusion."},
        runs=False,
    ),
}
"""Diffusion workflows by name."""
