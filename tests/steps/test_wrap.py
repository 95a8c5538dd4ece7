"""Images that repeat: their results do too."""

import numpy as np
import pytest
import torch

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.files.read import read_image
from fidelity.imaging.rows import TensorRows, read_all
from fidelity.session import Session
from fidelity.steps.wrap import find_margin, find_tileable, unwrap_rows, wrap


@pytest.fixture
def texture():
    """Smooth noise (1, 3, 60, 72) that repeats in both directions."""
    spectrum = torch.fft.rfft2(torch.randn(1, 3, 60, 72, generator=torch.Generator().manual_seed(3)))
    down, across = torch.fft.fftfreq(60).reshape(-1, 1), torch.fft.rfftfreq(72)
    smooth = torch.fft.irfft2(spectrum * torch.exp(-60 * (down**2 + across**2)), s=(60, 72))
    return (0.5 + 0.15 * smooth / smooth.std()).clamp(0.05, 0.95)


def seam(image, axis):
    """The step across the wrap relative to those inside at the same phase of the source's grid."""
    scale = image.shape[axis] // (60 if axis == 2 else 72)
    steps = (image - image.roll(1, axis)).abs().mean(dim=[0, 1, 5 - axis])
    return float(steps[0] / steps[scale::scale].mean())


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize(("tileable", "axes"), [("x", [3]), ("y", [2]), ("both", [2, 3])])
def test_the_step_across_the_wrap_is_as_inside(texture, scale, tileable, axes):
    made = Session(Settings(Target(scale=scale), "painting", tileable=tileable), models={}).run(texture)
    assert made.image.shape == (1, 3, 60 * scale, 72 * scale)
    assert (made.decision.source, made.decision.target) == ((60, 72), (60 * scale, 72 * scale))
    for axis in axes:
        assert seam(made.image, axis) < 1.05 * max(1.0, seam(texture, axis))


def test_a_shifted_texture_gives_the_shifted_result(texture):
    session = Session(Settings(Target(scale=2), "painting", restore="off", cleanup="off", tileable="both"), models={})
    made, shifted = (session.run(image).image for image in (texture, texture.roll((17, 31), (2, 3))))
    assert (shifted - made.roll((34, 62), (2, 3))).abs().max() < 0.01


@pytest.mark.parametrize(
    ("source", "target"), [((60, 72), (120, 144)), ((60, 72), (90, 108)), ((61, 97), (100, 159)), ((9, 7), (18, 14))]
)
def test_margins_are_whole_pixels_and_large_enough(source, target):
    margin = find_margin(source, target, "both")
    for side, result, added, added_to_result in zip(source, target, margin.source, margin.target, strict=True):
        assert added >= 64
        assert added * result == added_to_result * side
    assert margin.within(*margin.around(source, target)) == (source, target)


def test_what_is_added_is_cut_off(texture):
    wrapped = wrap(texture, (130, 5))
    assert wrapped.shape == (1, 3, 320, 82)
    assert torch.equal(read_all(unwrap_rows(TensorRows(wrapped), (130, 5))), texture)
    window = unwrap_rows(TensorRows(wrapped), (130, 5))
    window.write(slice(2, 4), torch.zeros(1, 3, 2, 72))
    assert torch.equal(wrapped[:, :, 132:134, 5:77], torch.zeros(1, 3, 2, 72))
    assert wrapped[:, :, 131].min() > 0


def test_a_hint_where_edges_continue_each_other(texture, photo):
    assert find_tileable(texture) == "both"
    assert find_tileable(texture[:, :, :41]) == "x"
    assert find_tileable(photo) == "off"
    assert find_tileable(torch.ones(1, 3, 64, 64)) == "off"
    framed = torch.nn.functional.pad(photo, (20, 20, 20, 20), value=1.0)
    assert find_tileable(framed) == "off"
    told = Session(Settings(Target(scale=2), "photo"), models={}).decide(texture).reasons
    assert "its opposite edges seem to join without a seam; to keep that, set tileable to both" in told


def test_photographs_do_not_seem_to_repeat(test_data):
    paths = sorted((test_data / "images").rglob("*.png"))
    assert sum(find_tileable(read_image(path).image) != "off" for path in paths) <= len(paths) // 20


def test_the_given_texture_stays_seamless(test_data):
    path = test_data / "failing/files/texture_tile.png"
    if not path.is_file():
        pytest.skip("no failing inputs in the test data")
    image = read_image(path).image
    made = Session(Settings(Target(scale=2), tileable="both"), models={}).run(image).image
    for axis in (2, 3):
        steps = (made - made.roll(1, axis)).abs().mean(dim=[0, 1, 5 - axis]).numpy()
        assert steps[0] < 1.05 * np.mean(steps[2::2])
