"""Nodes for tests in a real host: tiny networks of the host's own classes, and checks that run in its process."""

from . import checks
from .models import conditioning, controlnet, unet, vae


class TinyModels:
    """A model, conditioning, autoencoder and ControlNet of random weights."""

    CATEGORY = "tests"
    FUNCTION = "make"
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING", "VAE", "CONTROL_NET")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"kind": (["sd15", "sdxl"],), "slow": ("FLOAT", {"default": 0.0})}}

    def make(self, kind, slow):
        return unet(kind, slow), conditioning(kind, 1), conditioning(kind, 2), vae(), controlnet(kind)


class RunCheck:
    """Runs one of the checks; what it raises is the node's error."""

    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ("STRING",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {})}}

    @classmethod
    def IS_CHANGED(cls, name):
        return float("nan")

    def run(self, name):
        told = getattr(checks, f"check_{name}")()
        return {"ui": {"text": [str(told)]}, "result": (str(told),)}


NODE_CLASS_MAPPINGS = {"TinyModels": TinyModels, "RunCheck": RunCheck}
