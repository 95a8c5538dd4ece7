"""CLIP-IQA with a CLIP of open_clip, whose weights the user names; nothing is downloaded."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.clip_iqa import CROP_PX, judge
from ..networks.descriptors import read_state_dict
from ..progress import Progress


@torch.inference_mode()
def judge_with_clip(image: Tensor, name: str, weights: Path, progress: Progress | None = None) -> dict[str, float]:
    """Scores an image by CLIP-IQA; see `fidelity.imaging.clip_iqa.judge`.

    Args:
        image: ``(1, C, H, W)`` in [0, 1].
        name: The model, as open_clip names it, such as ViT-B-32 or ViT-L-14-quickgelu.
        weights: Its weights: `.safetensors` or a state dict.
        progress: Called after every few crops.

    Raises:
        RefusedError: If open_clip is not installed, does not know the model or would download a part of it, the model sees
            another size than 224 px, or the weights are of another one.
    """
    open_clip = _import_open_clip()
    config = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise RefusedError(f"open_clip knows no model {name}; wanted a name such as ViT-B-32 or ViT-H-14")
    if "hf_model_name" in config["text_cfg"] or "hf_tokenizer_name" in config["text_cfg"]:
        raise RefusedError(f"{name} needs a tokenizer from the internet; wanted a model with CLIP's own, such as ViT-B-32")
    if config["vision_cfg"].get("image_size") != CROP_PX or "timm_model_name" in config["vision_cfg"]:
        raise RefusedError(f"{name}: wanted a vision transformer that sees {CROP_PX} px, such as ViT-B-32")
    model: Any = open_clip.create_model(name, load_weights=False).eval()
    tokenize = open_clip.get_tokenizer(name)
    try:
        model.load_state_dict(read_state_dict(weights))
    except RuntimeError as error:  # names or shapes that are not the model's
        raise RefusedError(f"{weights.name}: not the weights of {name}") from error
    seen = open_clip.get_model_preprocess_cfg(model)
    mean, spread = (torch.tensor(seen[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))

    def embed_images(crops: Tensor) -> Tensor:
        return model.encode_image((crops - mean) / spread)

    def embed_texts(sentences: Sequence[str]) -> Tensor:
        return model.encode_text(tokenize(list(sentences)))

    return judge(image, embed_images, embed_texts, progress)


def _import_open_clip() -> Any:
    if not find_spec("open_clip"):
        raise RefusedError("CLIP needs open_clip, which is not installed; pip install open_clip_torch")
    return import_module("open_clip")
