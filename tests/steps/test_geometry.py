"""Bent lines become straight, corners become corners, in one sampling."""

import numpy as np
import pytest
import torch
from skimage.transform import ProjectiveTransform, warp

from fidelity.steps.geometry import KNOWN_LENSES, WHOLE, Lens, correct_geometry

HEIGHT, WIDTH = 240, 320


def chessboard(x, y, square=0.1):
    """Smooth squares at places given as shares of half the diagonal from the middle."""
    wave = np.sin(np.pi * x / square) * np.sin(np.pi * y / square)
    return 0.5 + 0.45 * np.tanh(6 * wave)


def places():
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    half = np.hypot(HEIGHT, WIDTH) / 2
    return (x - WIDTH / 2) / half, (y - HEIGHT / 2) / half


def undistort(x, y, lens):
    """Where a point of the bent picture lies in the true one, by fixed-point iteration."""
    true_x, true_y = x.copy(), y.copy()
    for _ in range(200):
        square = true_x**2 + true_y**2
        factor = 1 + lens.k1 * square + lens.k2 * square**2
        true_x, true_y = x / factor, y / factor
    return true_x, true_y


def bent(lens):
    picture = chessboard(*undistort(*places(), lens))
    return torch.from_numpy(picture)[None, None].float()


def crookedness(picture):
    """Largest distance from a straight line, in pixels, of the upright edges between squares."""
    rows = picture[0, 0].double().numpy() - 0.5
    worst = 0.0
    for start in range(60, 280, 5):
        points, x = [], float(start)
        for y in range(20, 220):
            near = [
                column
                for column in range(max(1, int(x) - 3), min(WIDTH - 1, int(x) + 4))
                if rows[y, column] * rows[y, column + 1] < 0
            ]
            if near and abs(rows[y]).max() > 0.3:
                left = min(near, key=lambda column: abs(column - x))
                x = left + rows[y, left] / (rows[y, left] - rows[y, left + 1])
                points.append((y, x))
        if len(points) > 120:
            y, x = np.array(points).T
            residual = x - np.polyval(np.polyfit(y, x, 1), y)
            worst = max(worst, np.abs(residual).max())
    return worst


@pytest.mark.parametrize("lens", [Lens(-0.15), Lens(0.12), Lens(-0.2, 0.06)])
def test_the_lines_of_a_bent_chessboard_become_straight(lens):
    picture = bent(lens)
    corrected = correct_geometry(picture, lens)
    assert crookedness(picture) > 1.0
    assert crookedness(corrected) < 0.15


def test_the_corrected_picture_shows_no_place_without_samples():
    for lens in (Lens(-0.2), Lens(0.2), Lens(0.3, -0.1)):
        places = torch.stack(torch.meshgrid(torch.linspace(0.1, 0.9, 60), torch.linspace(0.1, 0.9, 90), indexing="ij"))[None]
        picture = torch.cat((places, places[:, :1]), dim=1)
        result = correct_geometry(picture, lens)
        # A border that was repeated would be level along that direction.
        assert result[0, 0].diff(dim=0).min() > 0.1 * result[0, 0].diff(dim=0).median()
        assert result[0, 1].diff(dim=1).min() > 0.1 * result[0, 1].diff(dim=1).median()
        assert (result[0, :2].amax(dim=(1, 2)) > 0.85).any()


def test_perspective_is_that_of_scikit_image():
    picture = torch.from_numpy(chessboard(*places()))[None, None].float()
    corners = ((0.1, 0.05), (0.9, 0.15), (0.95, 0.9), (0.02, 0.85))
    result = correct_geometry(picture, corners=corners)
    unit = np.array([(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)], float)
    transform = ProjectiveTransform.from_estimate(unit - 0.5, np.array(corners) * (WIDTH, HEIGHT) - 0.5)
    expected = warp(picture[0, 0].numpy().astype(np.float64), transform, order=3, mode="edge")
    assert np.abs(result[0, 0].numpy() - expected)[3:-3, 3:-3].max() < 0.03


def test_a_crop_by_corners_is_a_crop(random_image):
    picture = random_image(1, 3, 12, 16)
    result = correct_geometry(picture, corners=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    assert torch.allclose(result.mean(dim=(2, 3)), picture[..., :8].mean(dim=(2, 3)), atol=0.05)


def test_nothing_asked_is_the_same_image(random_image):
    image = random_image(1, 4, 9, 9)
    assert correct_geometry(image) is image
    assert correct_geometry(image, Lens(0, 0), WHOLE) is image


def test_transparency_leaves_no_fringe():
    image = torch.zeros(1, 4, 40, 40)
    image[:, 0] = 0.8
    image[:, 3, 10:30, 10:30] = 1
    result = correct_geometry(image, Lens(-0.1))
    seen = result[:, 3] > 0.02
    assert (result[:, 0][seen] - 0.8).abs().max() < 1e-3


def test_bands_leave_no_trace_and_are_counted(random_image, monkeypatch):
    image = random_image(2, 3, 50, 40)
    whole = correct_geometry(image, Lens(-0.1))
    monkeypatch.setattr(
        "fidelity.steps.geometry.iterate_bands", lambda height, *_: (slice(y, min(y + 7, height)) for y in range(0, height, 7))
    )
    seen = []
    assert torch.allclose(
        correct_geometry(image, Lens(-0.1), progress=lambda done, total: seen.append((done, total))), whole, atol=1e-6
    )
    assert seen[-1] == (50, 50)


@pytest.mark.parametrize(
    "corners",
    [
        ((0, 0), (0, 1), (1, 1), (1, 0)),
        ((0, 0), (1, 0), (0.2, 0.2), (0, 1)),
        ((0, 0), (9, 0), (9, 1), (0, 1)),
    ],
)
def test_corners_that_bound_nothing_are_refused(corners, random_image):
    with pytest.raises(ValueError, match="clockwise around a convex area"):
        correct_geometry(random_image(1, 3, 9, 9), corners=corners)


@pytest.mark.parametrize(
    ("name", "a", "b", "c"),
    [
        ("Apple iPhone XS, wide", 0.02465, -0.089989, 0.111108),
        ("Huawei P30 Pro, ultra-wide", -0.067491, 0.084551, 0.014999),
        ("Microsoft Lumia 950", -0.01625, 0.04667, -0.03155),
    ],
)
def test_known_lenses_follow_the_calibrations_they_come_from(name, a, b, c):
    radius = np.linspace(0.02, 1, 99)
    short = radius * 5 / 3  # Lensfun counts in halves of the shorter side, of pictures of 4 to 3
    calibrated = radius * (a * short**3 + b * short**2 + c * short + 1 - a - b - c)
    lens = KNOWN_LENSES[name]
    ours = radius * (1 + lens.k1 * radius**2 + lens.k2 * radius**4)
    scale = (calibrated * ours).sum() / (ours * ours).sum()
    assert np.abs(scale * ours - calibrated).max() < 0.003
    assert np.abs(scale * radius - calibrated).max() > 0.005


def test_a_lens_that_folds_is_refused():
    with pytest.raises(ValueError, match="would fold the picture"):
        Lens(-0.5)
