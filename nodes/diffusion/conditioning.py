"""Crops conditioning to tiles: everything in it that is spatial, and nothing else.

It works on the conditioning that the host passes to a sampling step, identifies the parts by name, and crops copies; the
originals stay unchanged.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...fidelity.errors import RefusedError

Conds = Sequence[Sequence[dict[str, Any]] | None]
"""The host's form: one list for positive and one for negative, which is None if it is not computed."""

ResizeHint = Callable[[Tensor, int, int, str], Tensor]
"""Resizes a hint to (width, height) with one of the host's methods, as the host would."""

_AREA_FUZZ = 8
"""Latent samples over which the host fades the edge of an area."""
_WHOLE_IMAGE_PARTS = ("encoded_image", "image", "hint_image", "render_video")
"""Attribute names under which other model patches hold the whole image."""


@dataclass(frozen=True)
class Window:
    """A tile of a latent."""

    top: int
    """First row."""
    bottom: int
    """One past the last row."""
    left: int
    """First column."""
    right: int
    """One past the last column."""

    def cut(self, tensor: Tensor, factor: int = 1) -> Tensor:
        """Crops a tensor, whose last two axes are `factor` times the latent's, to the tile."""
        rows = slice(self.top * factor, self.bottom * factor)
        return tensor[..., rows, slice(self.left * factor, self.right * factor)]


class TileConditioning:
    """Crops conditioning to tiles, and caches what would otherwise be recomputed at every step."""

    def __init__(self, resize_hint: ResizeHint) -> None:
        """Starts with an empty cache.

        Args:
            resize_hint: The host's resize function.
        """
        self._resize_hint = resize_hint
        self._hints: WeakKeyDictionary[Any, tuple[tuple[int, int], Tensor]] = WeakKeyDictionary()
        self._encoded: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()

    def clear(self) -> None:
        """Empties the cache."""
        self._hints.clear()
        self._encoded.clear()

    def cut(self, conds: Conds, windows: Sequence[Window], latent: Tensor) -> list[list[dict[str, Any]] | None]:
        """Crops the conditioning to a batch of tiles, ordered by tile, then by image.

        Args:
            conds: Conditioning of the whole latent, as the host passes it to a step.
            windows: The tiles, all of one size.
            latent: The whole latent, ``(B, C, …, H, W)``.

        Raises:
            RefusedError: If the conditioning cannot be cropped: GLIGEN boxes, or a ControlNet spread over several GPUs.
        """
        controls: dict[int, Any] = {}
        result: list[list[dict[str, Any]] | None] = []
        for group in conds:
            if group is None:
                result.append(None)
                continue
            result.append([made for cond in group if (made := self._cut_one(cond, windows, latent, controls)) is not None])
        return result

    def _cut_one(
        self, cond: dict[str, Any], windows: Sequence[Window], latent: Tensor, controls: dict[int, Any]
    ) -> dict[str, Any] | None:
        """Crops one conditioning to the tiles; None if it has no effect in any of them."""
        if cond.get("gligen") is not None:
            raise RefusedError(
                "GLIGEN places its boxes in the whole image and cannot be cropped to tiles; remove it, or use one tile"
            )
        made, shape = dict(cond), latent.shape
        weight = spatial_weight(cond, shape)
        if weight is not None:
            made.pop("area", None)
            made["mask"] = _stack(weight.to(latent.device), windows, shape[0])
            if not made["mask"].any() and "default" not in cond:
                return None
        made["model_conds"] = {name: _cut_model_cond(part, windows, shape) for name, part in cond["model_conds"].items()}
        if cond.get("control") is not None:
            made["control"] = self._cut_control(cond["control"], windows, shape, controls)
        return made

    def _cut_control(self, control: Any, windows: Sequence[Window], shape: torch.Size, controls: dict[int, Any]) -> Any:
        """Crops the hints of a ControlNet and those chained before it; one that occurs twice is copied once."""
        if control is None:
            return None
        if id(control) in controls:
            return controls[id(control)]
        place = (tuple(windows), tuple(shape))
        kept = self._encoded.setdefault(control, {}).get(place) if control.vae is not None else None
        if kept is not None:  # the same object, so that caches keyed by it still match
            hint, cut = kept.cond_hint, kept.cond_hint_original
            kept.__dict__.update(
                {**control.__dict__, "cond_hint": hint, "cond_hint_original": cut, "extra_concat_orig": kept.extra_concat_orig}
            )
            kept.previous_controlnet = self._cut_control(control.previous_controlnet, windows, shape, controls)
            controls[id(control)] = kept
            return kept
        if control.multigpu_clones:
            raise RefusedError("a ControlNet spread over several GPUs cannot be cropped to tiles; use one GPU, or one tile")
        made = copy.copy(control)  # keeps the state that the host set up for this run
        made.previous_controlnet = self._cut_control(control.previous_controlnet, windows, shape, controls)
        factor = control.compression_ratio * (control.vae.spacial_compression_encode() if control.vae is not None else 1)
        made.cond_hint = None
        made.cond_hint_original = _stack(self._whole_hint(control, shape, factor), windows, shape[0], factor)
        size = (shape[-1] * factor, shape[-2] * factor)
        made.extra_concat_orig = [
            _stack(self._resize_hint(extra, *size, control.upscale_algorithm), windows, shape[0], factor)
            for extra in control.extra_concat_orig
        ]
        if hasattr(made, "control_input"):
            made.control_input = None
        if control.vae is not None:
            self._encoded[control][place] = made
        controls[id(control)] = made
        return made

    def _whole_hint(self, control: Any, shape: torch.Size, factor: int) -> Tensor:
        size = (shape[-1] * factor, shape[-2] * factor)
        kept = self._hints.get(control)
        if kept is None or kept[0] != size:
            kept = (size, self._resize_hint(control.cond_hint_original, *size, control.upscale_algorithm))
            self._hints[control] = kept
        return kept[1]


def cut_patches(model_options: dict[str, Any], windows: Sequence[Window], shape: torch.Size) -> dict[str, Any]:
    """Crops the hints of a model's patches (SUPIR) to the tiles; other options stay unchanged.

    Args:
        model_options: Model options, as the host passes them to a step.
        windows: The tiles.
        shape: Shape of the whole latent.

    Raises:
        RefusedError: If a patch holds the whole image in a form that cannot be cropped, or a hint of another size.
    """
    patches = model_options.get("transformer_options", {}).get("patches")
    if not patches:
        return model_options
    owners: dict[int, Any] = {}
    cut = {name: [_cut_patch(entry, windows, shape, owners) for entry in entries] for name, entries in patches.items()}
    return {**model_options, "transformer_options": {**model_options["transformer_options"], "patches": cut}}


def _cut_patch(entry: Any, windows: Sequence[Window], shape: torch.Size, owners: dict[int, Any]) -> Any:
    if isinstance(entry, tuple):
        return (entry[0], _cut_patch(entry[1], windows, shape, owners))
    owner = getattr(entry, "__self__", entry)
    hint = getattr(owner, "hint_latent", None)
    if hint is None:
        whole = next((name for name in _WHOLE_IMAGE_PARTS if _has_places(getattr(owner, name, None))), None)
        if whole:
            raise RefusedError(
                f"the model's {type(owner).__name__} holds the whole image and cannot be cropped to tiles; use one tile"
            )
        return entry
    if hint.shape[-2:] != shape[-2:]:
        seen, wanted = ("x".join(str(side) for side in reversed(size)) for size in (hint.shape[-2:], shape[-2:]))
        raise RefusedError(f"SUPIR's image is {seen} latent samples, the sampled latent {wanted}; wanted one size")
    if id(owner) not in owners:
        owners[id(owner)] = copy.copy(owner)
        owners[id(owner)].hint_latent = _stack(hint, windows, shape[0])
    made = owners[id(owner)]
    return made if owner is entry else getattr(made, entry.__name__)


def _has_places(part: Any) -> TypeGuard[Tensor]:
    """Whether something is an image or a latent, not features without positions (such as a style's)."""
    return isinstance(part, Tensor) and part.ndim > 3


class ControlStrength:
    """Scales the strength of ControlNets in conditioning; the originals stay unchanged."""

    def __init__(self) -> None:
        """Starts without copies."""
        self._copies: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def clear(self) -> None:
        """Drops the copies."""
        self._copies.clear()

    def scale(self, conds: Conds, factor: float) -> list[list[dict[str, Any]] | None]:
        """Copies conditioning with the strength of every ControlNet multiplied."""
        return [
            None
            if group is None
            else [{**cond, "control": self._scale(cond["control"], factor)} if cond.get("control") else cond for cond in group]
            for group in conds
        ]

    def _scale(self, control: Any, factor: float) -> Any:
        if control is None:
            return None
        made = self._copies.get(control)
        if control.multigpu_clones:
            raise RefusedError("a ControlNet spread over several GPUs cannot follow the noise; use one GPU")
        if made is None:
            made = self._copies[control] = copy.copy(control)
        kept = {name: made.__dict__[name] for name in ("cond_hint", "control_input") if name in made.__dict__}
        made.__dict__.update(control.__dict__)  # the state that the host sets up for every run
        made.__dict__.update(kept)
        made.strength = control.strength * factor
        made.previous_controlnet = self._scale(control.previous_controlnet, factor)
        return made


def spatial_weight(cond: dict[str, Any], shape: torch.Size) -> Tensor | None:
    """The weight of a conditioning at each latent sample, from its mask and area, as the host would compute it.

    Args:
        cond: One conditioning.
        shape: Shape of the latent.

    Returns:
        ``(1 or B, …, H, W)``, with 1 for each axis between; None if the weight is the same everywhere.
    """
    mask = cond.get("mask")
    area = cond.get("area")
    if area is None:
        return mask
    dims = len(area) // 2
    height, width = shape[-2:]
    (rows, columns), (top, left) = area[dims - 2 : dims], area[2 * dims - 2 :]
    fuzz = mask is None
    weight = _fade(height, top, rows, fuzz)[:, None] * _fade(width, left, columns, fuzz)
    if mask is not None:
        return mask * weight.to(mask)
    return weight.reshape(1, *[1] * (len(shape) - 4), height, width)


def _fade(length: int, start: int, extent: int, fuzz: bool) -> Tensor:
    """1 over `extent` samples from `start`, 0 elsewhere, with the host's ramps at ends inside the latent."""
    extent = max(0, min(extent, length - start))
    inside = torch.ones(extent)
    reach = min(_AREA_FUZZ, extent // 4)
    ramp = (torch.arange(reach) + 1) / max(1, reach)
    if fuzz and start:
        inside[:reach] *= ramp
    if fuzz and start + extent < length:
        inside[extent - reach :] *= ramp.flip(0)
    return torch.cat((torch.zeros(start), inside, torch.zeros(length - start - extent)))


def _cut_model_cond(part: Any, windows: Sequence[Window], shape: torch.Size) -> Any:
    """Crops what is as large as the latent: masks, inpainting latents, references of the same size (in a list)."""
    held = getattr(part, "cond", None)
    if isinstance(held, list):
        # Every tile sees references of another size whole: the host repeats them.
        references = cast("list[Any]", held)
        return type(part)([_stack(one, windows, shape[0]) if _is_spatial(one, shape) else one for one in references])
    return type(part)(_stack(held, windows, shape[0])) if _is_spatial(held, shape) else part


def _is_spatial(held: Any, shape: torch.Size) -> TypeGuard[Tensor]:
    return _has_places(held) and held.shape[-2:] == shape[-2:]


def _stack(tensor: Tensor, windows: Sequence[Window], batch: int, factor: int = 1) -> Tensor:
    """Crops a tensor to the tiles and stacks them, each repeated for every image of the batch."""
    parts = [window.cut(tensor, factor) for window in windows]
    if len(windows) == 1 or (batch == 1 and tensor.shape[0] == 1):
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    repeats = -(-batch // tensor.shape[0])
    return torch.cat([part.repeat(repeats, *[1] * (part.ndim - 1))[:batch] for part in parts])


def apply_control(positive: Any, negative: Any, control_net: Any, hint: Tensor, strength: float, vae: Any) -> tuple[Any, Any]:
    """Appends a ControlNet over all steps to conditioning, after any it already has; unchanged without a ControlNet.

    Args:
        positive: The host's CONDITIONING.
        negative: The host's CONDITIONING.
        control_net: The host's CONTROL_NET, or None.
        hint: The hint image, ``(B, 3, H, W)`` in [0, 1].
        strength: Strength of the ControlNet; 0 for none.
        vae: The host's VAE, for ControlNets that take latents.
    """
    if control_net is None or strength == 0:
        return positive, negative
    chained: dict[Any, Any] = {}

    def extend(entry: Any) -> Any:
        text, options = entry
        before = options.get("control")
        if before not in chained:
            wanted = vae if getattr(control_net, "latent_format", None) is not None else None
            chained[before] = control_net.copy().set_cond_hint(hint, strength, (0.0, 1.0), vae=wanted)
            chained[before].set_previous_controlnet(before)
        return [text, {**options, "control": chained[before], "control_apply_to_uncond": False}]

    return [extend(entry) for entry in positive], [extend(entry) for entry in negative]
