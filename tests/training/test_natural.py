"""Generated images have the statistics of natural ones, and training learns and resumes."""

import dataclasses

import numpy as np
import pytest
import torch

from fidelity.models.loader import load_model
from training.generators.natural import dead_leaves
from training.train import Settings, draw_batch, make_bank, train

SMALL = Settings(scale=2, features=8, convolutions=1, steps=40, batch=4, patch_px=16, learning_rate=5e-3, bank=4, seed=3)


@pytest.fixture(scope="module")
def images():
    return [dead_leaves(128, np.random.default_rng((7, index))) for index in range(12)]


def test_images_are_grey_floats_within_range(images):
    for image in images:
        assert image.shape == (128, 128)
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1


def test_the_same_seed_gives_the_same_image(images):
    assert np.array_equal(dead_leaves(128, np.random.default_rng((7, 0))), images[0])
    assert not np.array_equal(images[0], images[1])


def test_the_power_spectrum_falls_as_in_natural_images(images):
    slopes = []
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])
    band = (frequency > 0.03) & (frequency < 0.3)
    window = np.outer(np.hanning(128), np.hanning(128))
    for image in images:
        power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
        slopes.append(np.polyfit(np.log(frequency[band]), np.log(power[band] + 1e-12), 1)[0])
    assert -3.5 < np.mean(slopes) < -1.2  # natural images: about -2


def test_gradients_are_sparse_as_in_natural_images(images):
    kurtosis = []
    for image in images:
        steps = np.diff(image, axis=1).ravel()
        kurtosis.append(np.mean(steps**4) / np.mean(steps**2) ** 2)
    assert np.median(kurtosis) > 5  # a Gaussian has 3


def test_windows_of_both_sizes_show_the_same_place():
    from fidelity.imaging.resample import resize

    low, high = draw_batch(make_bank(SMALL), SMALL, np.random.default_rng(0))
    assert low.shape == (4, 1, 16, 16)
    assert high.shape == (4, 1, 32, 32)
    inner = (..., slice(4, -4), slice(4, -4))  # at the border the reduction sees what the window does not
    assert (resize(high, (16, 16)) - low)[inner].abs().max() < 0.01


def test_training_learns_writes_weights_and_resumes_to_the_same_end(tmp_path):
    cpu = torch.device("cpu")
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    train(SMALL, whole, cpu)
    model = load_model(whole)
    assert (model.scale, model.descriptor.input_channels) == (2, 1)
    assert not whole.with_suffix(".state").exists()

    class Stopped(Exception):
        pass

    def stop(step):
        if step == 20:
            raise Stopped

    with pytest.raises(Stopped):
        train(dataclasses.replace(SMALL), halves, cpu, every=20, on_save=stop)
    train(SMALL, halves, cpu, every=20)
    first, second = (load_model(path).descriptor.model.state_dict() for path in (whole, halves))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_state_of_other_settings_is_not_resumed(tmp_path):
    output = tmp_path / "x.safetensors"

    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SMALL, output, torch.device("cpu"), every=10, on_save=stop)
    with pytest.raises(SystemExit, match="was written with other settings"):
        train(dataclasses.replace(SMALL, seed=9), output, torch.device("cpu"))
