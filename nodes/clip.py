"""The node that judges an image with CLIP."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..fidelity.errors import RefusedError
from ..fidelity.imaging.clip_iqa import judge
from ..fidelity.report.summary import summarize_judgement
from . import host


class FidelityClipQuality(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityClipQuality",
            display_name="Judge Quality with CLIP (Fidelity)",
            category=host.CATEGORY,
            description="Scores how good, sharp, clean, bright and colorful an image looks (CLIP-IQA), without a reference. "
            "Scores of different CLIP models are not comparable.",
            search_aliases=["clip iqa", "image quality", "aesthetic score", "no reference metric", "blind quality"],
            hidden=host.WORKFLOW_INPUT,
            inputs=[
                io.Image.Input("image", tooltip="The image to judge, at its own size. For a batch, the first image."),
                io.Clip.Input("clip", tooltip="A text encoder with a projection, as in SDXL or Stable Diffusion 2."),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="The vision part of the same CLIP: ViT-bigG for SDXL, ViT-H for Stable Diffusion 2.",
                ),
            ],
            outputs=[
                io.Float.Output(display_name="quality", tooltip="From 0, a bad photo, to 1, a good one."),
                io.String.Output(display_name="report", tooltip="All five scores and the model, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, image: io.Image.Type, clip: Any, clip_vision: Any) -> io.NodeOutput:
        pixels = host.to_engine(image)[:1]

        def embed_images(crops: Tensor) -> Tensor:
            return clip_vision.encode_image(crops.movedim(1, -1))["image_embeds"]

        def embed_texts(sentences: Sequence[str]) -> Tensor:
            pooled = [clip.encode_from_tokens(clip.tokenize(one), return_pooled=True)[1] for one in sentences]
            if not all(isinstance(one, Tensor) for one in pooled):
                raise RefusedError("this text encoder gives no vector for a whole sentence; wanted CLIP's, as in SDXL")
            _check_projection(clip, pooled[0].shape[-1])
            return torch.cat(pooled)

        scores = judge(pixels, embed_images, embed_texts, host.track_progress())
        settings = getattr(clip_vision, "config", {})
        model = f"CLIP of {settings.get('num_hidden_layers')} layers, {settings.get('projection_dim')} dimensions"
        report = json.dumps({"model": model, "clip_iqa": scores}, indent=1)
        return io.NodeOutput(scores["quality"], report, ui=host.show_result(cls, summarize_judgement(scores, model)))


def _check_projection(clip: Any, size: int) -> None:
    """Refuses a text encoder whose file lacks the projection into the common space: the host then puts a unit matrix there."""
    for name, weights in clip.cond_stage_model.named_parameters():
        if name.endswith("text_projection.weight") and weights.shape == (size, size):
            if torch.equal(weights.float().cpu(), torch.eye(size)):
                raise RefusedError("this CLIP's file has no text projection; wanted that of SDXL or Stable Diffusion 2")
            return
