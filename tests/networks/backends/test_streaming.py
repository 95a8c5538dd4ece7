"""Rows fed one strip at a time give what the whole image would."""

import pytest
import torch

from fidelity.networks.backends import streaming
from fidelity.networks.backends.streaming import ConvolutionStream


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 3), (30, 17), (101, 64)])
@pytest.mark.parametrize("strip_bytes", [1, 6000, 10**9])
def test_a_stream_equals_one_pass(compact, random_image, monkeypatch, size, strip_bytes):
    monkeypatch.setattr(streaming, "STRIP_BYTES", strip_bytes)
    model, image = compact(scale=3, convolutions=5), random_image(1, 3, *size)
    stream = ConvolutionStream.of(model.descriptor)
    with torch.no_grad():
        expected = model.descriptor(image)
        result, next_row = torch.full_like(expected, torch.nan), 0
        for rows, values in stream.run(image, lambda strip: strip.contiguous(memory_format=torch.channels_last)):
            assert rows.start == next_row
            next_row = rows.stop
            result[:, :, rows] = values.clamp(0, 1)
    assert next_row == expected.shape[2]
    assert (result - expected).abs().max() < 1e-5


def test_a_stream_can_run_again(compact, random_image):
    model, image = compact(), random_image(1, 3, 40, 20)
    stream = ConvolutionStream.of(model.descriptor)
    with torch.no_grad():
        first, second = (torch.cat([part for _, part in stream.run(image, torch.clone)], dim=2) for _ in range(2))
    assert torch.equal(first, second)


def test_other_architectures_are_not_streamed(faulty):
    assert ConvolutionStream.of(faulty().descriptor) is None
