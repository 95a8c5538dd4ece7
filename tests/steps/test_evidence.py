"""A restored photograph is held to what its damage explains, and to nothing else."""

import pytest
import torch
from skimage import data

from fidelity.decide.damage import measure_conditions
from fidelity.imaging import rows
from fidelity.imaging.color import rgb_to_luma
from fidelity.imaging.filters import box_mean, dct_matrix
from fidelity.imaging.metrics import psnr
from fidelity.imaging.rows import FileRows, TensorRows, copy_rows
from fidelity.steps.evidence import Evidence, hold_to_evidence
from tools.benchmarks.restoring import as_jpeg


@pytest.fixture(scope="module")
def truth():
    return torch.from_numpy(data.astronaut()[:250, 100:355].copy()).movedim(-1, 0)[None].float() / 255


def held(source, restored, evidence):
    result = restored.clone()
    hold_to_evidence(TensorRows(result), TensorRows(source), evidence)
    return result


def smoothed(image):
    return torch.lerp(image, box_mean(image, 3), 0.4)


@pytest.mark.parametrize("quality", [50, 75, 90])
@pytest.mark.parametrize("corner", [(0, 0), (3, 6)])
def test_detail_that_jpeg_cannot_have_added_comes_back(truth, quality, corner):
    source = as_jpeg(truth, quality)[:, :, corner[0] :, corner[1] :]
    original, restored = truth[:, :, corner[0] :, corner[1] :], smoothed(source)
    evidence = measure_conditions(source).evidence
    assert evidence is not None
    assert evidence.grid == (-corner[0] % 8, -corner[1] % 8)
    assert evidence.steps is not None
    assert psnr(original, held(source, restored, evidence)) > psnr(original, restored) + 0.3


def test_each_coefficient_stays_within_its_share_of_a_step(truth):
    source = as_jpeg(truth * 0.4 + 0.3, 75)
    restored = smoothed(source)
    result = held(source, restored, Evidence((0, 0), torch.full((8, 8), 12.0)))
    moved = (rgb_to_luma(result) - rgb_to_luma(source))[0, 0, :248, :248]
    tiles = moved.unflatten(1, (-1, 8)).unflatten(0, (-1, 8)).transpose(1, 2)
    change = (dct_matrix(8) @ tiles @ dct_matrix(8).T).abs()
    change[..., 0, 0] = 0
    assert change.max() < 0.4 * 12 / 255 + 1e-5
    assert (result - restored).abs().max() > 4 / 255


def test_where_flat_places_are_clean_texture_stays(truth):
    texture = truth.clone()
    texture[:, :, :, 130:] = 0.5
    restored = smoothed(texture)
    kept = psnr(texture, held(texture, restored, Evidence()))
    assert kept > psnr(texture, restored) + 3


def test_noise_that_is_everywhere_is_still_removed(truth):
    scene = box_mean(truth, 5)
    noisy = (scene + torch.randn(scene.shape, generator=torch.Generator().manual_seed(1)) * 4 / 255).clamp(0, 1)
    assert psnr(scene, held(noisy, scene, Evidence())) > psnr(scene, noisy) + 9


@pytest.mark.parametrize("color", [0.0, 1.0])
def test_bars_and_margins_say_nothing_about_noise(truth, color):
    scene = box_mean(truth, 5) * 0.8 + 0.1
    noisy = scene + torch.randn(scene.shape, generator=torch.Generator().manual_seed(1)) * 4 / 255
    for image in (scene, noisy):
        image[:, :, :50] = image[:, :, -50:] = color
    assert psnr(scene, held(noisy, scene, Evidence())) > psnr(scene, noisy) + 9


def test_a_picture_that_restoration_changes_much_is_not_held(truth):
    source = (truth + torch.randn(truth.shape, generator=torch.Generator().manual_seed(1)) * 20 / 255).clamp(0, 1)
    assert torch.equal(held(source, truth, Evidence()), truth)


@pytest.mark.parametrize("evidence", [Evidence(), Evidence((5, 2), torch.full((8, 8), 3.0))])
def test_bands_and_files_give_the_same(truth, evidence, monkeypatch):
    restored = smoothed(truth)
    whole = held(truth, restored, evidence)
    monkeypatch.setattr(rows, "best_band_bytes", lambda _: truth.shape[3] * 3 * 4 * 11)
    in_bands = held(truth, restored, evidence)
    file = FileRows(tuple(truth.shape))
    copy_rows(TensorRows(restored), file)
    hold_to_evidence(file, TensorRows(truth), evidence)
    assert torch.allclose(whole, in_bands, atol=1e-6)
    assert torch.allclose(whole, file.read(slice(0, 250)), atol=1 / 1024)
    assert not torch.allclose(whole, restored, atol=1 / 255)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (9, 300), (16, 17), (31, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_pictures_work(height, width, channels, random_image):
    source = random_image(1, channels, height, width) * 0.02 + 0.4
    result = held(source, box_mean(source, 3), Evidence((7, 7)))
    assert result.shape == source.shape
    restored = box_mean(source, 3)
    within = torch.maximum((restored - source).abs(), torch.tensor(1e-5))
    assert torch.equal(result, restored) if min(height, width) < 16 else ((result - source).mean().abs() <= within.max())
