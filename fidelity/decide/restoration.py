"""Estimates how strongly to restore a source, with a small perceptron on texture measurements.

Restoring a clean picture costs detail; leaving a damaged one alone looks far worse. No single measurement detects noise, blur
and compression artifacts that were resized later. `tools/training/damage.py` trains the perceptron on crops whose best restore
strength is known.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

_WEIGHTS = Path(__file__).parent / "damage.safetensors"
_HALF_WEIGHTS = Path(__file__).parent / "half_size.safetensors"
_LIMIT = 4.0  # standardized measurements are clipped to this, as in training


@dataclass(frozen=True)
class _Perceptron:
    mean: Tensor
    spread: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    output: Tensor
    output_bias: float

    def judge(self, features: Mapping[str, float]) -> float:
        """Returns the share that it predicts, in [0, 1]."""
        inputs = ((torch.tensor(list(features.values())) - self.mean) / self.spread).clamp(-_LIMIT, _LIMIT)
        inner = torch.tanh(self.hidden @ inputs + self.hidden_bias)
        return (inner @ self.output + self.output_bias).sigmoid().item()


@cache
def _load_perceptron(path: Path) -> _Perceptron:
    with safe_open(path, framework="pt") as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dictionary)
        return _Perceptron(**tensors, output_bias=json.loads(file.metadata()["output_bias"]))


def judge_restoration(features: Mapping[str, float]) -> float:
    """Returns the share of the restored image whose blend comes closest to the undamaged image, in [0, 1].

    Args:
        features: From `fidelity.decide.features.measure_patch_features`.
    """
    return _load_perceptron(_WEIGHTS).judge(features)


def judge_half_size(features: Mapping[str, float]) -> float:
    """Returns the share of restoration at half size whose blend comes closest to the undamaged image, in [0, 1].

    `tools/training/half_size.py` trains the perceptron.

    Args:
        features: From `fidelity.decide.half_size.measure_views`.
    """
    return _load_perceptron(_HALF_WEIGHTS).judge(features)


def choose_strength(judged: float) -> float:
    """Returns how strongly to restore a source, in [0, 1].

    What is judged is the best share for all pictures that measure alike, so it hedges. Where damage is seen at all, more than
    that looks better and costs little (0.07 dB of lightly damaged photographs), and heavy noise gains up to 0.8 dB.

    Args:
        judged: From `judge_restoration`.
    """
    return judged if judged < _SEEN else min(1.0, _SEEN + _SLOPE * (judged - _SEEN))


_SEEN, _SLOPE = 0.1, 4.0
