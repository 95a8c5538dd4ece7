"""CLIP-IQA: how good an image looks, by which of two opposite sentences is nearer to it in CLIP's space.

Source: Wang, Chan and Loy, "Exploring CLIP for Assessing the Look and Feel of Images", 2023. CLIP sees 224 pixels; an image
that is reduced to that has lost its noise, so crops are judged at their own size and the mean counts. Scores of different CLIP
models are not comparable.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from ..progress import Progress
from .resample import resize
from .tensors import check_image

PAIRS: Mapping[str, tuple[str, str]] = {
    "quality": ("Good photo.", "Bad photo."),
    "sharpness": ("Sharp photo.", "Blurry photo."),
    "noisiness": ("Clean photo.", "Noisy photo."),
    "brightness": ("Bright photo.", "Dark photo."),
    "colorfulness": ("Colorful photo.", "Dull photo."),
}
"""What is judged, with the sentence that counts as 1 and the one that counts as 0."""
CROP_PX = 224
"""Side of what CLIP sees."""
_MOST_CROPS = 48
_AT_ONCE = 8
_LOGIT_SCALE = 100.0
"""CLIP's own, as trained."""


def place_crops(size: tuple[int, int]) -> list[tuple[int, int]]:
    """(top, left) of the crops of an image of that (height, width), of which none is below `CROP_PX`."""
    down, across = (-(-length // CROP_PX) for length in size)
    if down * across > _MOST_CROPS:
        share = (_MOST_CROPS / (down * across)) ** 0.5
        down, across = max(1, int(down * share)), max(1, int(across * share))
        down, across = min(down, _MOST_CROPS // across or 1), min(across, _MOST_CROPS // down or 1)
    tops, lefts = (
        torch.linspace(0, length - CROP_PX, count).round().int().tolist() if count > 1 else [(length - CROP_PX) // 2]
        for length, count in zip(size, (down, across), strict=True)
    )
    return [(top, left) for top in tops for left in lefts]


def cut_crops(image: Tensor) -> Tensor:
    """Crops of `CROP_PX` that cover an image, or are spread over it if that takes too many.

    Args:
        image: ``(1, C, H, W)``; a shorter side below `CROP_PX` is enlarged to that.

    Returns:
        ``(N, C, CROP_PX, CROP_PX)``.
    """
    check_image(image)
    short = min(image.shape[2:])
    if short < CROP_PX:
        height, width = (max(CROP_PX, round(length * CROP_PX / short)) for length in image.shape[2:])
        image = resize(image, (height, width)).clamp(0, 1)
    places = place_crops((image.shape[2], image.shape[3]))
    return torch.cat([image[..., top : top + CROP_PX, left : left + CROP_PX] for top, left in places])


def judge(
    image: Tensor,
    embed_images: Callable[[Tensor], Tensor],
    embed_texts: Callable[[Sequence[str]], Tensor],
    progress: Progress | None = None,
) -> dict[str, float]:
    """Scores an image by each of `PAIRS`.

    Args:
        image: ``(1, C, H, W)`` in [0, 1]; grey or RGB, alpha is left out.
        embed_images: From ``(N, 3, CROP_PX, CROP_PX)`` to ``(N, D)``, projected into the common space.
        embed_texts: From sentences to ``(M, D)`` in the same space; called once, before the images.
        progress: Called after every few crops.

    Returns:
        A score in [0, 1] for each pair; 1 is the first sentence.

    Raises:
        RefusedError: If texts and images have different dimensions.
    """
    check_image(image)
    texts = functional.normalize(embed_texts([one for pair in PAIRS.values() for one in pair]).float().cpu(), dim=1)
    crops, seen = cut_crops(image[:, :3].expand(-1, 3, -1, -1)), list[Tensor]()
    for part in crops.split(_AT_ONCE):
        seen.append(functional.normalize(embed_images(part).float().cpu(), dim=1))
        if texts.shape[1] != seen[0].shape[1]:
            raise RefusedError(
                f"the texts have {texts.shape[1]} dimensions, the images {seen[0].shape[1]}; "
                "wanted the text and vision parts of one CLIP"
            )
        if progress:
            progress(sum(map(len, seen)), len(crops))
    shares = (_LOGIT_SCALE * torch.cat(seen) @ texts.T).unflatten(1, (-1, 2)).softmax(dim=2)[..., 0].mean(dim=0)
    return dict(zip(PAIRS, shares.tolist(), strict=True))
