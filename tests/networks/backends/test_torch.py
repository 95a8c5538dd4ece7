"""A spandrel network behind the `Network` interface: bound copies, precision, the noise level, what is shared."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fidelity.networks.backends.torch import TorchNetwork
from fidelity.networks.network import NonFiniteOutputError

CPU = torch.device("cpu")


def test_a_bound_copy_is_made_once_and_leaves_the_original_alone(compact, random_image):
    network = compact()
    half = network.to(CPU, "bf16")
    assert half is network.to(CPU, "bf16") is half.to(CPU, "bf16")
    assert (half.precision, half.device, network.precision) == ("bf16", CPU, "fp32")
    assert next(network.descriptor.model.parameters()).dtype == torch.float32
    assert next(half.descriptor.model.parameters()).dtype == torch.bfloat16


def test_all_who_wrap_one_descriptor_share_its_copies(compact):
    network = compact()
    again = TorchNetwork("again", network.descriptor)
    assert again.to(CPU, "fp32") is network.to(CPU, "fp32")
    assert again.probe is network.probe


def test_copies_end_with_their_network(compact):
    network = compact()
    bound = weakref.ref(network.to(CPU, "fp32").descriptor.model)
    assert bound() is not None
    gc.disable()
    try:
        descriptor = weakref.ref(network.descriptor.model)
        del network
        assert descriptor() is None or gc.collect()
    finally:
        gc.enable()
    gc.collect()
    assert bound() is None


def test_a_copy_is_the_sooner_freed_for_holding_nothing_of_the_hosts(compact):
    network = compact()
    network.descriptor.patcher = object()
    assert not hasattr(network.to(CPU, "fp32").descriptor, "patcher")


def test_output_that_is_not_finite_is_said_and_not_taken_for_white(faulty, random_image):
    network = faulty(lambda image, result: result / 0).to(CPU, "fp32")
    with pytest.raises(NonFiniteOutputError, match=r"faulty\.pth: .*not finite"):
        network.run(random_image(1, 3, 8, 8))


def test_threads_that_share_a_network_get_what_each_would_alone(compact, random_image):
    network = compact().to(CPU, "fp32")
    images = [random_image(1, 3, 20, 16 + index, seed=index) for index in range(12)]
    alone = [network.run(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(network.run, images))
    assert all(torch.equal(first, second) for first, second in zip(alone, together, strict=True))


def test_it_tells_what_a_runner_asks(compact):
    network = compact(scale=4, features=16)
    assert (network.scale, network.channels_in, network.channels_out, network.minimum, network.sizes) == (4, 3, 3, 1, "any")
    assert network.weight_bytes == 4 * network.parameters == 2 * network.to(CPU, "bf16").weight_bytes
    assert network.bytes_per_pixel == 2 * network.to(CPU, "fp16").bytes_per_pixel
    assert set(network.precisions) == {"fp32", "fp16", "bf16"}
    assert network.with_noise(5.0) is network


def test_tf32_is_switched_off_for_a_call_and_put_back_whichever_switch_others_use(monkeypatch):
    from fidelity.networks.backends.torch import _exact_convolutions

    switch = torch.backends.cudnn.conv
    before = switch.fp32_precision
    try:
        switch.fp32_precision = "tf32"  # as another pack may; the old switch then raises when it is read
        with _exact_convolutions(torch.device("cuda")):
            assert switch.fp32_precision == "ieee"
        assert switch.fp32_precision == "tf32"
    finally:
        switch.fp32_precision = before
