"""Profiles become sRGB and back as littleCMS does it, in float."""

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from fidelity.files.icc import from_srgb, read_profile, srgb_profile, to_srgb

ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))


def by_littlecms(samples, profile):
    """8-bit samples through Pillow, as (1, 3, H, W) steps."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    shown = ImageCms.profileToProfile(Image.fromarray(samples), source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return torch.from_numpy(np.asarray(shown).copy()).movedim(-1, 0)[None].float()


@pytest.mark.parametrize(("primaries", "gamma"), [(P3, None), (ADOBE, 2.19921875), (P3, 1.8), (ADOBE, 1.0)])
def test_it_agrees_with_littlecms_within_one_step(make_profile, primaries, gamma):
    profile = make_profile(primaries, gamma)
    samples = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    ours = to_srgb(torch.from_numpy(samples).movedim(-1, 0)[None].float() / 255, read_profile(profile)) * 255
    difference = (ours - by_littlecms(samples, profile)).abs()
    assert difference.max() <= 1.01
    assert difference.mean() < 0.3


def test_there_and_back_is_the_same_within_the_gamut(make_profile, random_image):
    profile = read_profile(make_profile(P3))
    image = random_image(1, 4, 40, 30)
    again = to_srgb(from_srgb(image, profile), profile)
    assert (again - image).abs().max() < 1e-4
    assert torch.equal(again[:, 3:], image[:, 3:])


def test_srgb_is_known_and_nothing_else_is_taken_for_it(make_profile):
    assert srgb_profile().is_srgb()
    assert not read_profile(make_profile(P3)).is_srgb()
    assert not read_profile(make_profile(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), 2.2)).is_srgb()


def test_grey_is_converted_by_its_one_curve(grey_profile):
    image = torch.linspace(0, 1, 11).reshape(1, 1, 1, 11)
    light = image.double() ** 1.8
    expected = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert torch.allclose(to_srgb(image, read_profile(grey_profile)).double(), expected, atol=2e-3)


@pytest.mark.parametrize(
    ("kind", "numbers", "expected"),
    [
        (0, (2.0,), lambda x: x**2),
        (1, (2.0, 1.25, -0.25), lambda x: np.where(x >= 0.2, np.maximum(1.25 * x - 0.25, 0) ** 2, 0)),
        (2, (2.0, 0.9, 0.0, 0.1), lambda x: (0.9 * x) ** 2 + 0.1),
        (3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), None),
        (4, (2.0, 1.0, 0.0, 0.5, 0.25, 0.0, 0.0), lambda x: np.where(x >= 0.25, x**2, 0.5 * x)),
    ],
)
def test_parametric_curves_are_the_specifications(kind, numbers, expected):
    from fidelity.files.icc import _parametric

    inputs = np.linspace(0, 1, 101)
    tag = (
        b"para"
        + bytes(4)
        + struct.pack(">HH", kind, 0)
        + struct.pack(f">{len(numbers)}i", *(round(n * 65536) for n in numbers))
    )
    if expected is None:
        expected = lambda x: np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)  # noqa: E731
    assert np.allclose(_parametric(inputs, kind, tag), expected(inputs), atol=1e-3)


@pytest.mark.parametrize("cut", [0, 20, 130, 140, 300, 500])
def test_a_damaged_profile_is_none(display_p3, cut):
    assert read_profile(display_p3[:cut]) is None


def test_a_profile_of_tables_or_of_another_space_is_none(display_p3):
    assert read_profile(display_p3[:16] + b"CMYK" + display_p3[20:]) is None
    assert read_profile(display_p3.replace(b"rTRC", b"A2B0", 1)) is None
