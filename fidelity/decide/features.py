"""Measures the features of an image's pixels that reveal its domain.

Texture is measured on patches at full size, where noise, compression and fine lines show. Outlines, palette and the embedding
of a small network are measured on the whole image at 512 px along the long edge, so they survive downscaling. The size and
shape of the image are not features: they say how it was stored, not what it is.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ..imaging.color import rgb_to_ycbcr
from ..imaging.drift import flatten_alpha
from ..imaging.filters import box_mean
from ..imaging.resample import resize, size_within
from ..imaging.tensors import check_image
from .embedding import embed

PATCH_PX = 128
"""Side of the full-size patches; a multiple of 8, so that they align with JPEG's grid."""

_PATCHES = 4
_WHOLE_PX = 512
_STEP = 1 / 255

Features = dict[str, float]

_ALPHA_PX = 128
_OPAQUE = ((0.99, 160), (0.8, 64))
"""Opaque shares and the shortest sides of a square, in pixels, that then says more about a picture than the whole does."""


def measure_features(image: Tensor, texture: Features | None = None) -> Features:
    """Measures the features that distinguish the domains.

    Args:
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1], on any device; for transparency, see `take_opaque`.
        texture: Its patch features, if they are already measured.

    Returns:
        Features by name; always the same names in the same order, all finite.
    """
    check_image(image)
    image = take_opaque(image)
    whole = _at_least(on_white(shrink(image, _WHOLE_PX)), 32)
    features = dict(texture or measure_patch_features(image))
    features |= {f"whole {name}": value for name, value in _measure_edges(rgb_to_ycbcr(whole)[:, :1]).items()}
    features |= _measure_palette(whole)
    features |= embed(whole)
    return {name: value if math.isfinite(value) else 0.0 for name, value in features.items()}


def measure_patch_features(image: Tensor) -> Features:
    """Measures the full-size part of `measure_features`: texture, noise and JPEG's grid.

    Args:
        image: As for `measure_features`.
    """
    check_image(image)
    patches = _at_least(on_white(take_patches(take_opaque(image))), 32)
    features = {f"full {name}": value for name, value in _measure_texture(patches).items()}
    features |= _measure_noise(patches)
    features |= _measure_grid(patches)
    return {name: value if math.isfinite(value) else 0.0 for name, value in features.items()}


def on_white(view: Tensor) -> Tensor:
    """Returns RGB over white, float32, on the CPU: the inputs are small, and the models that judge them run there."""
    return flatten_alpha(view.cpu().float(), 1.0).expand(-1, 3, -1, -1)


def take_opaque(image: Tensor) -> Tensor:
    """Returns the largest square of a cut-out subject, so that the empty background does not count as part of the picture.

    Args:
        image: ``(1, C, H, W)``.

    Returns:
        If the image has alpha and a square of it is opaque on 80 % or more, that square as ``(1, 3, h, w)``, with the mean
        color in its transparent places; otherwise the image itself.
    """
    if image.shape[1] != 4 or bool((image[:, 3] == 1).all()):
        return image
    step = max(1, min(image.shape[2:]) // _ALPHA_PX)
    alpha = functional.avg_pool2d(image[:, 3:].float(), step)
    for share, least_px in _OPAQUE:
        side = min(alpha.shape[2:])
        while side * step >= least_px:
            covered = functional.avg_pool2d(alpha, side, 1)
            if covered.max() >= share:
                top, left = divmod(int(covered.flatten().argmax()), covered.shape[3])
                rows, columns = (slice(start * step, (start + side) * step) for start in (top, left))
                part, opacity = image[:, :3, rows, columns], image[:, 3:, rows, columns]
                mean = (part * opacity).sum(dim=(2, 3), keepdim=True) / opacity.sum()
                return torch.lerp(mean, part, opacity)
            side = int(side * 0.85)
    return image


def take_patches(image: Tensor) -> Tensor:
    """Returns up to 4 x 4 evenly spread patches whose corners are multiples of 8; a smaller image is returned whole.

    Args:
        image: ``(1, C, H, W)``.

    Returns:
        ``(patches, C, h, w)``, no side longer than `PATCH_PX`.
    """
    corners = [_spread(length) for length in image.shape[2:]]
    height, width = (min(PATCH_PX, length) for length in image.shape[2:])
    return torch.cat([image[..., y : y + height, x : x + width] for y in corners[0] for x in corners[1]])


def _spread(length: int) -> list[int]:
    room = length - PATCH_PX
    if room < PATCH_PX // 2:
        return [max(0, room // 16 * 8)]
    count = min(_PATCHES, 1 + math.ceil(room / PATCH_PX))
    return [room * index // (count - 1) // 8 * 8 for index in range(count)]


def shrink(image: Tensor, longest_px: int) -> Tensor:
    """Shrinks the whole image until its long edge fits; never enlarges."""
    factor = min(max(image.shape[2:]) // (2 * longest_px), *image.shape[2:])
    if factor > 1:  # the mean of each block's diagonal: close enough, and fast on tens of megapixels
        height, width = (length // factor * factor for length in image.shape[2:])
        diagonal = [image[..., step:height:factor, step:width:factor] for step in range(min(factor, 4))]
        image = sum(diagonal[1:], diagonal[0]) / len(diagonal)
    size = size_within((image.shape[2], image.shape[3]), longest_px)
    return image if size == tuple(image.shape[2:]) else resize(image, size).clamp_(0, 1)


def _at_least(image: Tensor, side_px: int) -> Tensor:
    """Extends an image that is too small to be measured by mirroring it."""
    for axis in (2, 3):
        while image.shape[axis] < side_px:
            image = torch.cat((image, image.flip(axis)), dim=axis)
    return image


def _share(mask: Tensor) -> float:
    return mask.float().mean().item()


def _log(value: float) -> float:
    """Returns the logarithm of a value in 8-bit levels, with a floor of a tenth of a level."""
    return math.log(max(value, 0.0) / _STEP + 0.1)


def _measure_texture(view: Tensor) -> Features:
    luma = rgb_to_ycbcr(view)[:, :1]
    features = _measure_edges(luma)
    features |= _measure_bands(luma)
    features |= _measure_patterns(luma)
    features |= _measure_gradients(view)
    features |= _measure_chroma(view)
    return features


def _measure_gradients(view: Tensor) -> Features:
    """Measures how strong gradients are, their directions, and whether color changes where lightness does not.

    Source for the last: Cutzu, Hammoud and Leykin, "Distinguishing paintings from photographs", 2005.
    """
    planes = rgb_to_ycbcr(view)
    down = planes[..., 1:, :-1] - planes[..., :-1, :-1]
    across = planes[..., :-1, 1:] - planes[..., :-1, :-1]
    strength = (down.square() + across.square()).sqrt()
    luma, chroma = strength[:, 0], strength[:, 1:].amax(dim=1)
    features = {f"gradient above {limit}": _share(luma > limit * _STEP) for limit in (1, 2, 4, 8, 16, 32, 64)}
    spots = torch.tensor([0.25, 0.5, 0.75, 0.9, 0.98])
    blocks = functional.avg_pool2d(luma[:, None], 8).flatten()
    features |= {
        f"activity {spot:.2f}": _log(value) for spot, value in zip(spots.tolist(), blocks.quantile(spots).tolist(), strict=True)
    }
    features["colour edges alone"] = math.log(_share((chroma > 6 * _STEP) & (luma < 6 * _STEP)) + 1e-4)
    features["lightness edges alone"] = math.log(_share((luma > 12 * _STEP) & (chroma < 2 * _STEP)) + 1e-3)
    # Coherence of the structure tensor over blocks: 1 if all gradients of a block share one direction.
    products = torch.cat((down[:, :1] ** 2, across[:, :1] ** 2, down[:, :1] * across[:, :1]), dim=1)
    for size in (8, 16):
        first, second, mixed = functional.avg_pool2d(products, size).unbind(dim=1)
        energy = first + second + (2 * _STEP) ** 2
        coherence = ((first - second) ** 2 + 4 * mixed**2).sqrt() / energy
        features[f"coherence {size}"] = coherence.mean().item()
        features[f"coherent share {size}"] = _share(coherence > 0.7)
    angles = torch.atan2(down[:, 0], across[:, 0])[luma > 8 * _STEP]
    counts = torch.histc(angles.remainder(math.pi), 12, 0, math.pi) + 1
    shares = counts / counts.sum()
    features["direction entropy"] = -(shares * shares.log()).sum().item()
    features["upright share"] = (shares[[0, 5, 6, 11]].sum()).item()
    return features


def _extreme(image: Tensor, radius_px: int, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Returns the maximum or minimum over a square of radius 1 or 2, wherever the square lies within the image."""
    for axis in (2, 3):
        length = image.shape[axis] - 2 * radius_px
        pair = choose(image.narrow(axis, 0, length + 1), image.narrow(axis, 1, length + 1))
        if radius_px == 1:
            image = choose(pair.narrow(axis, 0, length), image.narrow(axis, 2, length))
        else:
            pair = choose(image.narrow(axis, 0, length + 3), image.narrow(axis, 1, length + 3))
            four = choose(pair.narrow(axis, 0, length + 1), pair.narrow(axis, 2, length + 1))
            image = choose(four.narrow(axis, 0, length), image.narrow(axis, 4, length))
    return image


def _inner(image: Tensor, margin_px: int) -> Tensor:
    return image[..., margin_px : image.shape[2] - margin_px, margin_px : image.shape[3] - margin_px]


def _measure_edges(luma: Tensor) -> Features:
    """Measures flatness, edge width, and thin dark and light lines (by closing and opening at two widths)."""
    highs, lows = [_extreme(luma, 1, torch.maximum)], [_extreme(luma, 1, torch.minimum)]
    for radius in (1, 2):  # over 5 and 9 pixels
        highs.append(_extreme(highs[-1], radius, torch.maximum))
        lows.append(_extreme(lows[-1], radius, torch.minimum))
    narrow, middle, wide = (_inner(highs[i] - lows[i], margin) for i, margin in enumerate((3, 2, 0)))
    features = {f"range below {limit}": _share(narrow < limit * _STEP) for limit in (1.5, 4.5, 12.5, 30, 80)}
    features |= {f"wide range below {limit}": _share(wide < limit * _STEP) for limit in (4.5, 12.5)}
    edges = wide > 0.2
    count = edges.sum().clamp(min=1)
    features["edge share"] = _share(edges)
    for name, within in (("steepness", narrow), ("middle steepness", middle)):  # squared: 1/4 for a step, 1/16 for a ramp
        features[f"edge {name}"] = ((within / wide.clamp(min=1e-3)).square() * edges).sum().div(count).item()
    for index, radius in enumerate((1, 2)):
        here = _inner(luma, 2 * radius)
        dark = _extreme(highs[index], radius, torch.minimum) - here
        light = here - _extreme(lows[index], radius, torch.maximum)
        lined = dark > 0.12
        features |= {
            f"dark lines {radius}": _log(dark.mean().item()),
            f"light lines {radius}": _log(light.mean().item()),
            f"strong dark lines {radius}": _share(dark > 0.15),
            f"strong light lines {radius}": _share(light > 0.15),
            f"line tone {radius}": (here * lined).sum().div(lined.sum().clamp(min=1)).item(),
        }
    return features


def _measure_bands(luma: Tensor) -> Features:
    """Measures the energy, sparseness and slope of octave bands."""
    features: Features = {}
    current, energies = luma, list[float]()
    for octave in range(4):
        if min(current.shape[2:]) < 8:
            break
        band = current - box_mean(current, 3)
        spread = band.square().mean().clamp(min=1e-12)
        energies.append(0.5 * math.log(spread.item() / _STEP**2 + 1e-2))
        features[f"band {octave} energy"] = energies[-1]
        features[f"band {octave} kurtosis"] = math.log((band**4).mean().item() / spread.item() ** 2 + 1e-3)
        features[f"band {octave} typical"] = _log(band.abs().median().item())
        current = functional.avg_pool2d(current, 2)
    for octave in range(len(energies), 4):  # too small for that octave: repeat the previous one
        for kind in ("energy", "kurtosis", "typical"):
            features[f"band {octave} {kind}"] = features[f"band {octave - 1} {kind}"]
        energies.append(energies[-1])
    for octave in range(3):
        features[f"slope {octave}"] = energies[octave + 1] - energies[octave]
    return features


def _measure_patterns(luma: Tensor) -> Features:
    """Measures local binary patterns with a tolerance: flat, spot, edge or corner, by the number of similar neighbors.

    Source: Ojala, Pietikainen and Maenpaa, "Multiresolution gray-scale and rotation invariant texture classification with
    local binary patterns", 2002.
    """
    center = luma[..., 1:-1, 1:-1]
    height, width = center.shape[2:]
    around = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    brighter = [luma[..., y : y + height, x : x + width] > center + 3 * _STEP for y, x in around]
    count = torch.stack(brighter).sum(dim=0)
    changes = torch.stack([brighter[index] != brighter[index - 1] for index in range(8)]).sum(dim=0)
    codes = torch.where(changes <= 2, count, 9)
    shares = torch.bincount(codes.flatten(), minlength=10).float() / codes.numel()
    return {f"pattern {code}": math.log(share + 1e-3) for code, share in enumerate(shares.tolist())}


def _measure_chroma(view: Tensor) -> Features:
    """Measures how much chroma varies relative to luma, and whether the channels share their fine detail."""
    planes = rgb_to_ycbcr(view)
    steps = (planes[..., 1:] - planes[..., :-1]).abs().mean(dim=(0, 2, 3))
    fine = view - box_mean(view, 3)
    fine = fine - fine.mean(dim=(2, 3), keepdim=True)
    spread = fine.square().mean(dim=(0, 2, 3)).sqrt().clamp(min=1e-4)
    return {
        "chroma steps": _log((steps[1] + steps[2]).item() / 2),
        "chroma to luma steps": math.log((steps[1] + steps[2]).item() / (2 * steps[0].item() + 1e-4) + 1e-2),
        "red green likeness": ((fine[:, 0] * fine[:, 1]).mean() / (spread[0] * spread[1])).item(),
        "blue green likeness": ((fine[:, 2] * fine[:, 1]).mean() / (spread[2] * spread[1])).item(),
    }


def _measure_palette(whole: Tensor) -> Features:
    """Measures the colors of the whole image: number, saturation and lightness."""
    high, low = whole.amax(dim=1), whole.amin(dim=1)
    saturation = (high - low) / high.clamp(min=_STEP)
    luma = rgb_to_ycbcr(whole)[:, 0]
    codes = (whole.clamp(0, 1) * 15.999).long()
    counts = torch.bincount(((codes[:, 0] * 16 + codes[:, 1]) * 16 + codes[:, 2]).flatten(), minlength=4096)
    shares = counts.sort(descending=True).values.float() / counts.sum()
    used = shares[shares > 0]
    hue = torch.atan2(3**0.5 * (whole[:, 1] - whole[:, 2]), 2 * whole[:, 0] - whole[:, 1] - whole[:, 2])
    hues = torch.bincount(((hue / math.pi + 1) * 11.999).long().flatten(), (high - low).flatten(), minlength=24) + 1e-6
    hues = (hues / hues.sum()).sort(descending=True).values
    local = functional.avg_pool2d(whole, 16) if min(whole.shape[2:]) >= 16 else whole
    return {
        "hue entropy": -(hues * hues.log()).sum().item(),
        "top hue": hues[0].item(),
        "top 4 hues": hues[:4].sum().item(),
        "coarse contrast": local.std(correction=0).item(),
        "coarse colour": (local.amax(dim=1) - local.amin(dim=1)).mean().item(),
        "warmth": (whole[:, 0] - whole[:, 2]).mean().item(),
        "highlight share": _share(luma > 0.85),
        "shadow share": _share(luma < 0.2),
        "saturation mean": saturation.mean().item(),
        "saturation spread": saturation.std(correction=0).item(),
        "vivid share": _share((saturation > 0.6) & (high > 0.4)),
        "grey share": _share((high - low) < 10 * _STEP),
        "white share": _share(low > 0.94),
        "black share": _share(high < 0.08),
        "lightness": luma.mean().item(),
        "contrast": luma.std(correction=0).item(),
        "top color": shares[0].item(),
        "top 4 colors": shares[:4].sum().item(),
        "top 16 colors": shares[:16].sum().item(),
        "color entropy": -(used * used.log()).sum().item(),
        "colors": math.log(float(len(used))),
    }


def _measure_noise(patches: Tensor) -> Features:
    """Measures the residual in the flattest tenth and third of 8 x 8 blocks, in luma and chroma."""
    planes = rgb_to_ycbcr(patches)
    residual = planes - box_mean(planes, 3)
    deviation = functional.avg_pool2d(residual.square(), 8).sqrt()
    luma, chroma = deviation[:, 0].flatten(), deviation[:, 1:].mean(dim=1).flatten()
    order = luma.argsort()
    features: Features = {}
    for name, share in (("tenth", 0.1), ("third", 0.33)):
        chosen = order[: max(1, int(len(order) * share))]
        features[f"noise of flattest {name}"] = _log(luma[chosen].mean().item())
        features[f"chroma noise of flattest {name}"] = _log(chroma[chosen].mean().item())
    flat = deviation[:, :1] <= luma[order[max(0, int(len(order) * 0.33) - 1)]]
    mask = functional.interpolate(flat.float(), scale_factor=8)
    noise = residual[:, :1, : mask.shape[2], : mask.shape[3]] * mask
    power = noise.square().sum().clamp(min=1e-9)
    features["noise likeness of neighbours"] = ((noise[..., 1:] * noise[..., :-1]).sum() / power).item()
    features["noise likeness 2 apart"] = ((noise[..., 2:] * noise[..., :-2]).sum() / power).item()
    return features


def _measure_grid(patches: Tensor) -> Features:
    """Measures steps that repeat every 8 px, both on JPEG's grid and on the grid where they are strongest."""
    luma = rgb_to_ycbcr(patches)[:, :1]
    features: Features = {}
    strongest: list[float] = []
    aligned: list[float] = []
    for axis in (2, 3):
        second = luma.diff(n=2, dim=axis).abs().clamp(max=8 * _STEP)
        profile = second.mean(dim=(0, 1, 5 - axis))
        profile = profile[: len(profile) // 8 * 8].reshape(-1, 8).mean(dim=0) + _STEP / 50
        strongest.append((profile.max() / profile.median()).log().item())
        aligned.append((profile[6:8].mean() / profile[1:5].mean()).log().item())
    features["grid steps"] = sum(aligned) / 2
    features["strongest grid steps"] = sum(strongest) / 2
    return features
