"""Pixel art is recognized, and nothing else is taken for it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.decide.damage import measure_conditions
from fidelity.decide.domain import classify
from fidelity.decide.pixel_art import find_pixel_art


@pytest.fixture
def sprite():
    """A figure of 6 colors, (1, 3, 48, 40): mirrored noise in blobs, as generated sprites are."""
    draw = np.random.default_rng(5)
    palette = np.array([(20, 16, 40), (90, 40, 60), (200, 80, 60), (240, 190, 120), (60, 120, 90), (250, 250, 240)])
    coarse = draw.integers(0, 6, (12, 5)).repeat(4, 0).repeat(4, 1)
    coarse[draw.random(coarse.shape) < 0.05] = 0
    codes = np.concatenate((coarse, coarse[:, ::-1]), axis=1)
    return torch.from_numpy(palette[codes] / 255).float().movedim(-1, 0)[None]


def saved(image, kind, **options):
    picture = Image.fromarray((image[0].movedim(0, -1).numpy() * 255).round().astype(np.uint8))
    picture.save(buffer := io.BytesIO(), kind, **options)
    return torch.from_numpy(np.asarray(Image.open(buffer).convert("RGB")).astype(np.float32) / 255).movedim(-1, 0)[None]


@pytest.mark.parametrize("block", [1, 3, 8])
def test_few_colors_in_blocks(sprite, block):
    image = sprite.repeat_interleave(block, 2).repeat_interleave(block, 3)
    found = find_pixel_art(image)
    assert (found.colors, found.block_px) == (6, block)
    assert ("each pixel a block" in str(found)) == (block > 1)


def test_transparent_pixels_are_one_color(sprite):
    draw = torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(0))
    blocks = draw.round().repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = torch.where(blocks > 0, sprite, torch.rand(1, 3, 48, 40, generator=torch.Generator().manual_seed(1)))
    assert find_pixel_art(torch.cat((noise, blocks), dim=1)).colors <= 7


def test_it_follows_the_recipe_for_line_art_unrestored_and_says_so(sprite):
    verdict = classify(sprite)
    assert (verdict.recipe_domain, verdict.is_sure) == ("line_art", True)
    assert "pixel art of 6 colors" in verdict.evidence[0]
    assert "nearest neighbor would keep them" in verdict.evidence[0]
    assert measure_conditions(sprite).restore_strength == 0


def test_other_pictures_of_few_colors_are_not(sprite, photo):
    dithered = Image.fromarray((photo[0].movedim(0, -1).numpy() * 255).astype(np.uint8)).quantize(32).convert("RGB")
    gradient = torch.linspace(0, 1, 60).reshape(1, 1, 1, 60).expand(1, 3, 60, 60)
    scan = (photo.mean(dim=1, keepdim=True) > 0.4).float()
    for other in (
        photo,
        torch.from_numpy(np.asarray(dithered).astype(np.float32) / 255).movedim(-1, 0)[None],
        gradient,
        scan,
        torch.ones(1, 3, 64, 64),
        saved(sprite.repeat_interleave(4, 2).repeat_interleave(4, 3), "JPEG", quality=80),
        torch.nn.functional.interpolate(sprite, scale_factor=3, mode="bicubic").clamp(0, 1),
    ):
        assert find_pixel_art(other) is None


def test_real_pictures_are_not(test_data):
    from fidelity.files.read import read_image

    pictures = [path for path in (test_data / "images").rglob("*.*") if path.suffix in (".png", ".jpg")]
    assert [path.name for path in pictures if find_pixel_art(read_image(path).image)] == []
