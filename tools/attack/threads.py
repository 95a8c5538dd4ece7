"""Threads that share a network: each must get what it would have got alone."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from fidelity.choices import BackendChoice
from fidelity.errors import ModelRefusedError
from fidelity.networks.backend import list_backends
from fidelity.networks.compute import Compute
from fidelity.networks.loader import load_model
from fidelity.networks.network import Network
from fidelity.steps.upscale import upscale
from tools.attack.formats import write_graph
from tools.attack.models import NETWORKS, onnx_content, weights_of

THREADS = 4
CPU = torch.device("cpu")


def share_networks(folder: Path, images: int, names: tuple[str, ...] = ()) -> Iterator[tuple[str, int, int]]:
    """Runs networks of all architectures and backends on images of different sizes, one after another and in threads.

    Args:
        folder: An empty folder.
        images: Number of images for each.
        names: Architectures of files of weights; all if empty.

    Yields:
        The network and its backend, the number of images, and how many of them differ; nothing for a backend that refuses it.
    """
    paths = [(name, folder / f"{name}.safetensors") for name in names or NETWORKS]
    for name, path in paths:
        save_file(weights_of(name), path)
    paths += [("graph", write_graph(folder / "graph.pb")), ("onnx", folder / "graph.onnx")]
    (folder / "graph.onnx").write_bytes(onnx_content())
    sources = [_make_image(index) for index in range(images)]
    for name, path in paths:
        backends: tuple[BackendChoice, ...] = ("torch",) if path.suffix != ".safetensors" else ("torch", *list_backends(CPU))
        for backend in backends:
            with suppress(ModelRefusedError):  # some conversions follow one size
                yield f"{name}, {backend}", images, _count_differences(path, backend, sources)


def _count_differences(path: Path, backend: BackendChoice, sources: Sequence[Tensor]) -> int:
    compute = Compute(CPU, backend=backend)

    def run(network: Network, source: Tensor) -> Tensor:
        return upscale(source, network, None, "rgb", compute).image

    alone = list(map(partial(run, load_model(path)), sources))
    with ThreadPoolExecutor(THREADS) as pool:  # with a network of their own, so that they prepare it too
        together = list(pool.map(partial(run, load_model(path)), sources))
    return sum(not torch.equal(first, second) for first, second in zip(alone, together, strict=True))


def _make_image(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, 24 + seed % 5, 32 + seed, generator=generator)
