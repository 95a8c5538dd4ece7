"""Graphs of TensorFlow give what OpenCV's dnn_superres makes of them."""

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from fidelity.errors import ModelRefusedError
from fidelity.networks.compute import Compute
from fidelity.networks.loader import detect_architecture, load_model
from fidelity.steps.upscale import upscale
from tools.attack.formats import FLOAT, field, node, write_graph


@pytest.fixture
def edsr_like(tmp_path):
    return write_graph(tmp_path / "EDSR_x2.pb")


def by_opencv(path, algorithm, samples):
    """RGB samples of 8 bits through dnn_superres."""
    network = cv2.dnn_superres.DnnSuperResImpl_create()
    network.readModel(str(path))
    network.setModel(algorithm, 2)
    return network.upsample(samples[..., ::-1].copy())[..., ::-1]


def to_tensor(samples):
    return torch.from_numpy(samples.copy()).movedim(-1, 0)[None].float() / 255


def test_a_graph_of_rgb_is_what_dnn_superres_makes_of_it(edsr_like):
    model = load_model(edsr_like)
    samples = data.astronaut()[:40, :50]
    expected = to_tensor(by_opencv(edsr_like, "edsr", samples))
    made = model.run(to_tensor(samples))
    assert (model.scale, model.channels_in, model.channels_out) == (2, 3, 3)
    assert (made - expected).abs().max() <= 0.51 / 255


@pytest.mark.parametrize("name", ["FSRCNN", "ESPCN", "LapSRN"])
def test_published_graphs_are_what_dnn_superres_makes_of_them(test_data, name):
    path = test_data / "models" / f"{name}_x2.pb"
    model = load_model(path)
    grey = data.camera()[100:160, 200:290]
    expected = torch.from_numpy(by_opencv(path, name.lower(), np.stack((grey,) * 3, axis=-1))[..., 1].copy()).float() / 255
    made = model.run(torch.from_numpy(grey.copy())[None, None].float() / 255)[0, 0]
    assert (model.scale, model.channels_in) == (2, 1)
    assert (made - expected).abs().max() <= 1.01 / 255
    assert (made - expected).abs().mean() <= 0.3 / 255


@pytest.mark.parametrize("channels", ["luma", "rgb"])
def test_it_enlarges_in_tiles_like_any_network(edsr_like, photo, channels):
    model = load_model(edsr_like)
    whole = upscale(photo, model, None, channels).image
    tiled = upscale(photo, model, None, channels, Compute(tile_px=40)).image
    assert whole.shape == (1, 3, 2 * photo.shape[2], 2 * photo.shape[3])
    assert (whole - tiled).abs().max() < 1 / 1024


def test_a_batch_gives_what_its_images_give(edsr_like, photo):
    network = load_model(edsr_like)
    batch = torch.cat((photo, photo.flip(3)))
    assert torch.equal(network.run(batch)[1:], network.run(photo.flip(3)))


def test_threads_that_share_a_graph_get_what_each_would_alone(edsr_like, random_image):
    from concurrent.futures import ThreadPoolExecutor

    network = load_model(edsr_like)
    images = [random_image(1, 3, 24, 20 + index, seed=index) for index in range(12)]
    alone = [network.run(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(network.run, images))
    assert all(torch.equal(first, second) for first, second in zip(alone, together, strict=True))


def test_it_tells_what_a_runner_asks(edsr_like):
    network = load_model(edsr_like)
    assert (network.precisions, network.precision, network.sizes) == (("fp32",), "fp32", "any")
    assert network.reach_px == 0
    assert network.to(torch.device("cpu"), "fp32") is network.with_noise(5.0) is network
    assert network.stream() is None


def test_a_graph_that_opencv_crashes_on_is_refused(tmp_path):
    (tmp_path / "crashes.pb").write_bytes(node("IteratorGetNext", "Placeholder", dtype=field(6, FLOAT)))
    with pytest.raises(ModelRefusedError, match=r"crashes\.pb: damaged: OpenCV crashes when it reads it"):
        load_model(tmp_path / "crashes.pb")


def test_its_architecture_is_told_and_what_is_no_graph_is_refused(edsr_like, tmp_path):
    broken, empty, text = (tmp_path / f"{name}.pb" for name in ("broken", "empty", "text"))
    broken.write_bytes(edsr_like.read_bytes()[:100])
    empty.write_bytes(b"")
    text.write_text("hello, I am no graph")
    assert detect_architecture(edsr_like) == "TensorFlow graph"
    for path in (broken, empty, text):
        assert detect_architecture(path) is None
        with pytest.raises(ModelRefusedError, match=f"{path.name}: .*graph"):
            load_model(path)


def test_running_out_of_memory_in_opencv_is_told_as_such(edsr_like):
    import cv2

    from fidelity.networks.backends.opencv import _run_graph
    from fidelity.networks.memory import is_out_of_memory

    class Full:
        def setInput(self, samples):
            error = cv2.error("no memory")
            error.code, error.err = cv2.Error.StsNoMem, "Failed to allocate 9 bytes"
            raise error

    with pytest.raises(MemoryError, match="Failed to allocate") as caught:
        _run_graph(Full(), torch.zeros(1, 1, 4, 4).numpy())
    assert is_out_of_memory(caught.value)


def test_without_opencv_it_says_what_to_install(edsr_like, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(ModelRefusedError, match="pip install opencv-contrib-python-headless"):
        load_model(edsr_like)
