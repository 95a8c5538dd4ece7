"""BRISQUE and NIQE against other implementations and against what they are for."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.naturalness import brisque, brisque_features, niqe, niqe_features
from fidelity.report.measure import measure_images

PHOTOS = ("astronaut", "coffee", "chelsea", "camera")


def photograph(name):
    pixels = np.atleast_3d(getattr(data, name)())
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)[None].float() / 255


def noisy(image, level):
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image + noise * level / 255).clamp(0, 1)


def as_jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray((image[0].expand(3, -1, -1).movedim(0, -1) * 255).round().byte().numpy()).save(
        buffer, "JPEG", quality=quality
    )
    return torch.from_numpy(np.asarray(Image.open(buffer)).copy()).movedim(-1, 0)[None].float() / 255


@pytest.fixture(scope="module")
def opencv(tmp_path_factory):
    """OpenCV's BRISQUE with the same numbers, written as it reads them."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    if not hasattr(cv2, "quality"):
        pytest.skip("this OpenCV has no module quality")
    folder = tmp_path_factory.mktemp("brisque")
    numbers = load_file(Path(__file__).parents[2] / "fidelity/imaging/brisque.safetensors")
    rows = ["      - [ " + ", ".join(repr(value) for value in row) + " ]" for row in numbers["vectors"].tolist()]
    weights = ", ".join(repr(value) for value in numbers["weights"].tolist())
    indices = ", ".join(map(str, range(len(rows))))
    (folder / "model.yml").write_text(
        "%YAML:1.0\n---\nopencv_ml_svm:\n   format: 3\n   svmType: EPS_SVR\n   kernel:\n      type: RBF\n"
        f"      gamma: {numbers['gamma'].item()!r}\n   C: 1024.\n   p: 1.e-01\n   term_criteria: {{ epsilon:1.e-03 }}\n"
        f"   var_count: 36\n   sv_total: {len(rows)}\n   support_vectors:\n" + "\n".join(rows) + "\n"
        f"   decision_functions:\n      -\n         sv_count: {len(rows)}\n         rho: {numbers['rho'].item()!r}\n"
        f"         alpha: [ {weights} ]\n         index: [ {indices} ]\n"
    )
    limits = ", ".join(repr(value) for value in numbers["range"].flatten().tolist())
    (folder / "range.yml").write_text(
        f"%YAML:1.0\n---\nrange: !!opencv-matrix\n   rows: 2\n   cols: 36\n   dt: f\n   data: [ {limits} ]\n"
    )

    def measure(image):
        pixels = (image[0].expand(3, -1, -1).movedim(0, -1) * 255).round().byte().numpy()
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        score = cv2.quality.QualityBRISQUE_compute(bgr, str(folder / "model.yml"), str(folder / "range.yml"))[0]
        return score, cv2.quality.QualityBRISQUE_computeFeatures(bgr)[0]

    return measure


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("way", ["as it is", "noise", "blur", "odd size"])
def test_brisque_is_opencvs(opencv, name, way):
    """Where areas are quite flat, as after strong JPEG, OpenCV's float32 makes texture of its rounding; these are left out."""
    image = photograph(name)
    ways = {
        "noise": lambda: noisy(image, 15),
        "blur": lambda: gaussian_blur(image, 1.0),
        "odd size": lambda: image[..., :301, :203],
    }
    image = ((ways[way]() if way in ways else image).clamp(0, 1) * 255).round() / 255
    score, features = opencv(image)
    assert np.abs(brisque_features(image).numpy() - features).max() < 3e-3  # shapes are found in steps of 0.001
    assert brisque(image) == pytest.approx(score, abs=0.3)


@pytest.mark.parametrize("metric", [brisque, niqe], ids=["brisque", "niqe"])
def test_both_rise_with_noise_blur_and_compression(metric):
    for name in PHOTOS[:3]:
        image = photograph(name)
        for series in (
            [noisy(image, level) for level in (5, 15, 40)],
            [gaussian_blur(image, sigma).clamp(0, 1) for sigma in (0.8, 1.5, 3)],
            [as_jpeg(image, quality) for quality in (80, 30, 8)],
        ):
            scores = [metric(one) for one in series]
            assert scores == sorted(scores), (name, scores)
            assert scores[-1] > metric(image)


def test_sharp_photographs_are_near_the_model_of_niqe():
    assert all(1 < niqe(photograph(name)) < 5 for name in PHOTOS)


def test_niqes_features_are_those_of_each_patch(random_image):
    features, sharpness = niqe_features(random_image(1, 3, 200, 300))
    assert features.shape == (6, 36) and sharpness.shape == (6,)
    assert features.isfinite().all() and (sharpness / sharpness.mean() - 1).abs().max() < 0.05  # noise is the same everywhere


def test_what_is_too_small_or_flat_has_no_score(random_image):
    assert brisque(random_image(1, 3, 31, 80)) is None
    assert niqe(random_image(1, 3, 95, 300)) is None and niqe(random_image(1, 3, 100, 100)) is None
    assert brisque(torch.full((1, 3, 64, 64), 0.5)) is None
    assert niqe(torch.full((1, 1, 200, 200), 0.5)) is None


def test_they_are_measured_with_the_rest():
    image = photograph("chelsea")
    figures = measure_images(image[..., ::2, ::2], image)
    assert figures["brisque"] == brisque(image) and figures["niqe"] == niqe(image)
