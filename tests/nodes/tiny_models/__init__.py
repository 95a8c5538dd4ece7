"""Nodes for tests in a real host: tiny networks of the host's own classes, and checks that run in its process."""

import comfy.model_management
import comfy.utils

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


class CancelHalfWay:
    """Passes an image on, and cancels the node after it at its first progress, however fast the machine is."""

    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE", {})}}

    @classmethod
    def IS_CHANGED(cls, image):
        return float("nan")

    def run(self, image):
        usual = comfy.utils.PROGRESS_BAR_HOOK

        def cancel(value, total, *arguments, **options):
            comfy.utils.set_progress_bar_global_hook(usual)
            usual(value, total, *arguments, **options)
            if 0 < value < total:
                comfy.model_management.interrupt_current_processing()

        comfy.utils.set_progress_bar_global_hook(cancel)
        return (image,)


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


NODE_CLASS_MAPPINGS = {"TinyModels": TinyModels, "CancelHalfWay": CancelHalfWay, "RunCheck": RunCheck}
