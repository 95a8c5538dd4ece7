"""Tiny networks of the host's own classes, with random weights; seconds each on a CPU."""

import time

import comfy.cldm.cldm
import comfy.clip_vision
import comfy.controlnet
import comfy.ldm.models.autoencoder
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import torch
from torch import nn

CPU = torch.device("cpu")
CONTEXT = 32
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 2],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": CONTEXT,
    "use_linear_in_transformer": True,
    "use_temporal_attention": False,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_head_channels": 32,
    "num_heads": -1,
}
AUTOENCODER = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 64,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def fill(network, seed=0):
    """Random weights that keep values in range, since the host leaves them as memory happened to be."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            if parameter.ndim > 1:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
            else:
                parameter.fill_(1.0 if "weight" in name else 0.0)
    return network.eval().requires_grad_(False)


def settings(kind, in_channels=4):
    config = {**UNET, "in_channels": in_channels}
    if kind == "sdxl":
        config |= {"adm_in_channels": 2816, "num_classes": "sequential"}
    else:
        config |= {"adm_in_channels": None}
    return config


class Slow(nn.Module):
    """A network that takes its time."""

    def __init__(self, network, seconds):
        super().__init__()
        self.network = network
        self.seconds = seconds
        self.dtype = network.dtype

    def forward(self, *arguments, **options):
        time.sleep(self.seconds)
        return self.network(*arguments, **options)


def unet(kind="sd15", slow=0.0, in_channels=4, network=None):
    """A MODEL; with `network` in place of its UNet."""
    family = comfy.supported_models.SDXL if kind == "sdxl" else comfy.supported_models.SD15
    config = family(settings(kind, in_channels))
    config.unet_config["num_head_channels"], config.unet_config["num_heads"] = 32, -1
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, device=CPU)
    fill(model.diffusion_model)
    if slow:
        model.diffusion_model = Slow(model.diffusion_model, slow)
    if network is not None:
        network.dtype = torch.float32
        model.diffusion_model = network
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


def conditioning(kind="sd15", seed=1, batch=1, **options):
    """CONDITIONING."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(batch, 8, CONTEXT, generator=generator)
    pooled = {"pooled_output": torch.randn(batch, 1280, generator=generator)} if kind == "sdxl" else {}
    return [[text, {**pooled, **options}]]


def vae(seed=3):
    """A VAE that shrinks by 8."""
    network = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=AUTOENCODER, embed_dim=4)
    weights = fill(network, seed).state_dict()
    return comfy.sd.VAE(
        sd=weights, config={"params": {"ddconfig": AUTOENCODER, "embed_dim": 4}}, device=CPU, dtype=torch.float32
    )


def controlnet(kind="sd15", network=None, **options):
    """A CONTROL_NET; with `network` in place of its own."""
    config = settings(kind)
    config = {key: value for key, value in config.items() if key not in ("out_channels", "transformer_depth_output")}
    if network is None:
        network = fill(
            comfy.cldm.cldm.ControlNet(
                **config, hint_channels=3, dtype=torch.float32, operations=comfy.ops.disable_weight_init
            ),
            5,
        )
    network.dtype = torch.float32
    return comfy.controlnet.ControlNet(network, load_device=CPU, **options)


def seedvr2():
    """A small SeedVR2: a transformer over five-dimensional latents, with the picture to restore as conditioning."""
    config = comfy.supported_models.SeedVR2(
        {
            **{"image_model": "seedvr2", "vid_dim": 96, "heads": 2, "head_dim": 48, "rope_dim": 48, "num_layers": 2},
            **{"norm_eps": 1e-5, "mlp_type": "swiglu", "mm_layers": 1, "vid_out_norm": True},
        }
    )
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, device=CPU)
    generator = torch.Generator().manual_seed(9)
    fill(model.diffusion_model)
    for name in ("positive_conditioning", "negative_conditioning"):
        held = getattr(model.diffusion_model, name)
        held.copy_(torch.randn(held.shape, generator=generator))
    return comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)


SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "hidden_act": "gelu"}


def tiny_clip(projects=True):
    """The host's own CLIP, text and vision, with random weights."""
    torch.manual_seed(3)
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    target.params = {}
    clip = comfy.sd.CLIP(target, model_options={"clip_l_model_config": SMALL})
    for name, weights in clip.cond_stage_model.named_parameters():
        is_projection = name.endswith("text_projection.weight")
        weights.data = torch.eye(32) if is_projection and not projects else torch.randn(weights.shape) * 0.2
    vision = {
        **SMALL,
        "image_size": 224,
        "patch_size": 32,
        "num_channels": 3,
        "projection_dim": 32,
        "model_type": "clip_vision_model",
    }
    seen = comfy.clip_vision.ClipVisionModel(vision)
    for weights in seen.model.parameters():
        weights.data = torch.randn(weights.shape) * 0.2
    return clip, seen
