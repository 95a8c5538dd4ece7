"""Images that no node may fall over: every node of the pack, as the registry has it, takes or refuses each of them."""

import asyncio
import inspect

import torch

from .checks import pack, picture
from .models import conditioning, tiny_clip, unet, vae

TAKEN, REFUSED = "taken", "refused"
SIDES = (20, 24)
_SLOW = ("FidelityRestoreFaces", "FidelityCompareModels")
"""Nodes that run whole networks on each image; some of the images are enough for them."""


def hostile_images():
    """(name, image, fate) in the host's layout, (B, H, W, C)."""
    good = picture(1, *SIDES, 3)
    spoiled = {"nan": float("nan"), "infinity": float("inf"), "negative infinity": float("-inf")}
    taken = {
        "as it should be": good,
        "overshoot of a bicubic resize": good * 1.21 - 0.09,
        "far outside": good * 12 - 5,
        "float16": good.half(),
        "bfloat16": good.bfloat16(),
        "float64": good.double(),
        "every second pixel": picture(1, 40, 48, 3)[:, ::2, ::2],
        "mirrored": good.flip(2),
        "transposed": picture(1, *SIDES[::-1], 3).transpose(1, 2),
        "planes": picture(1, 3, *SIDES).movedim(1, -1),
        "one image three times": good.expand(3, -1, -1, -1),
        "with a gradient": picture(1, *SIDES, 3).requires_grad_(),
        "a part of a batch": picture(4, *SIDES, 3)[1:2],
        "1x1": picture(1, 1, 1, 3),
        "1 row": picture(1, 1, 40, 3),
        "1 column": picture(1, 40, 1, 3),
        "2x3": picture(1, 2, 3, 3),
        "grey": picture(1, *SIDES, 1),
        "alpha": picture(1, *SIDES, 4),
        "alpha, nothing visible": torch.cat((good, torch.zeros(1, *SIDES, 1)), dim=3),
        "black": torch.zeros(1, *SIDES, 3),
        "white": torch.ones(1, *SIDES, 3),
        "a batch": picture(3, *SIDES, 3),
        "tiny values": good * 1e-38,
        "negative zero": -torch.zeros(1, *SIDES, 3),
    }
    refused = {f"one {name}": torch.where(good == good.flatten()[7], value, good) for name, value in spoiled.items()}
    refused |= {f"all {name}": torch.full((1, *SIDES, 3), value) for name, value in spoiled.items()}
    refused |= {
        "half infinity": torch.full((1, *SIDES, 3), float("inf"), dtype=torch.float16),
        "no images": picture(0, *SIDES, 3),
        "no rows": picture(1, 0, 24, 3),
        "no columns": picture(1, 20, 0, 3),
        "no channels": picture(1, *SIDES, 0),
        "uint8": (good * 255).to(torch.uint8),
        "int64": (good * 255).long(),
        "bool": good > 0.5,
        "complex": good.to(torch.complex64),
        "2 channels": picture(1, *SIDES, 2),
        "5 channels": picture(1, *SIDES, 5),
        "channels first": picture(1, 3, 20, 24),
        "2 dimensions": picture(20, 24),
        "3 dimensions": picture(20, 24, 3),
        "5 dimensions": picture(1, 1, 20, 24, 3),
        "no tensor": "an image",
        "nothing": None,
    }
    return [(name, image, TAKEN) for name, image in taken.items()] + [(name, image, REFUSED) for name, image in refused.items()]


def inputs_of(node):
    """Values for all inputs of a node; images are left to the caller."""
    given, inputs = {}, node.define_schema().inputs
    images = [one for one in inputs if one.get_io_type() == "IMAGE"]
    for one in inputs if images else ():
        kind, default = one.get_io_type(), getattr(one, "default", None)
        if kind == "IMAGE" or one.optional:
            continue
        if default is not None:
            given[one.id] = default
        elif kind == "COMBO":
            given[one.id] = one.options[0]
        elif kind == "COMFY_DYNAMICCOMBO_V3":
            given[one.id] = {one.id: one.options[0].key, **{inner.id: inner.default for inner in one.options[0].inputs}}
        else:
            given[one.id] = _model("face.safetensors") if "Faces" in node.__name__ and kind == "UPSCALE_MODEL" else MADE[kind]()
    return given | ({"boxes": "2,2,18,18"} if "boxes" in given else {}), images


def _model(name="small.safetensors"):
    return pack("nodes.host").load_upscale_model(name, "photo", 2, "torch")[0]


def _plan():
    planner = pack("nodes").FidelityPlanPasses
    return run(planner, inputs_of(planner)[0] | {"image": picture(1, *SIDES, 3)}).args[0]


MADE = {
    "UPSCALE_MODEL": _model,
    "MODEL": lambda: unet("sd15"),
    "VAE": vae,
    "CLIP": lambda: tiny_clip()[0],
    "CLIP_VISION": lambda: tiny_clip()[1],
    "CONDITIONING": lambda: conditioning("sd15", 1),
    "LATENT": lambda: {"samples": picture(1, 4, 8, 8)},
    "STRING": lambda: "0,0 12,12",
    "INT": lambda: 64,
    "FLOAT": lambda: 1.0,
    "BOOLEAN": lambda: False,
    "FIDELITY_PLAN": _plan,
}


def run(node, given):
    clone = node.PREPARE_CLASS_CLONE(None)
    function = getattr(clone, clone.FUNCTION)
    if inspect.iscoroutinefunction(function):
        return asyncio.run(function(**given))
    return function(**given)


def attack():
    """Gives every node each of the images in each of its inputs for images; raises where one falls over."""
    refusal = pack("fidelity.errors").RefusedError
    failures, runs = [], 0
    images = hostile_images()
    for node in pack("nodes").NODES:
        given, places = inputs_of(node)
        for place in places:
            for number, (name, image, fate) in enumerate(images):
                is_spared = node.__name__ in _SLOW and fate == TAKEN and number % 5
                if is_spared or (image is None and place.optional):
                    continue
                if node.__name__ == "FidelityDiffusionPass" and name in ("1x1", "2x3"):
                    continue  # the tiny autoencoder normalizes over groups of one channel
                others = {
                    other.id: picture(1, *SIDES, 3, seed=1) for other in places if other is not place and not other.optional
                }
                values = given | others | {place.id: image}
                if "plan" in given:  # a plan is for an image of one size
                    values["plan"] = run(
                        pack("nodes").FidelityPlanPasses,
                        inputs_of(pack("nodes").FidelityPlanPasses)[0] | {"image": picture(1, *SIDES, 3)},
                    ).args[0]
                runs += 1
                try:
                    made = run(node, values)
                except refusal as error:
                    if "\n" in str(error) or (fate == TAKEN and not _may_refuse(node, place.id, name)):
                        failures.append(f"{node.__name__}.{place.id} {name}: refused: {error}")
                except Exception as error:
                    failures.append(f"{node.__name__}.{place.id} {name}: {type(error).__name__}: {error}")
                else:
                    tensors = [value for value in (made.args or ()) if isinstance(value, torch.Tensor)]
                    if fate == REFUSED:
                        failures.append(f"{node.__name__}.{place.id} {name}: taken")
                    elif not all(bool(torch.isfinite(value).all()) for value in tensors):
                        failures.append(f"{node.__name__}.{place.id} {name}: gave values that are not finite")
    assert not failures, f"{len(failures)} of {runs}:\n" + "\n".join(failures)
    return f"{runs} images"


def _may_refuse(node, place, name):
    """Images that some nodes refuse in words, since they do not go with their other inputs."""
    if place in ("reference", "fallback", "cb", "cr", "guide"):
        return True
    sizes = (
        "1x1",
        "1 row",
        "1 column",
        "2x3",
        "a batch",
        "one image three times",
        "alpha",
        "alpha, nothing visible",
        "transposed",
    )
    return name in sizes and node.__name__ != "FidelityAutoUpscale"
