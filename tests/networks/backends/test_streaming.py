"""Rows fed one strip at a time give what the whole image would."""

import pytest
import torch

from fidelity.networks.backends import streaming


def run_in_strips(stream, image, rows):
    parts = []
    for top in range(0, image.shape[2], rows):
        part = stream.feed(image[:, :, top : top + rows], is_last=top + rows >= image.shape[2])
        parts += [] if part is None else [part]
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 3), (30, 17), (101, 64)])
@pytest.mark.parametrize("rows", [1, 4, 7, 1000])
def test_a_stream_equals_one_pass(compact, random_image, size, rows):
    network, image = compact(scale=3, convolutions=5), random_image(1, 3, *size)
    with torch.no_grad():
        expected = network.descriptor(image)
    result = run_in_strips(network.stream(), image, rows)
    assert result.shape == expected.shape
    assert (result.clamp(0, 1) - expected).abs().max() < 1e-5


def test_strips_are_about_as_large_as_a_cache(compact, monkeypatch):
    stream = compact(features=8).stream()
    assert stream.strip_rows(100) == streaming.STRIP_BYTES // (12 * 100 * 4)
    assert stream.strip_rows(10**9) == 4


def test_each_image_gets_a_stream_of_its_own(compact, random_image):
    network, image = compact(), random_image(1, 3, 40, 20)
    first, second = (run_in_strips(network.stream(), image, 16) for _ in range(2))
    assert torch.equal(first, second)


def test_other_architectures_are_not_streamed(faulty):
    assert faulty().stream() is None
