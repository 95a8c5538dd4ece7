"""Runs TensorFlow graphs of super-resolution networks with OpenCV on the CPU, in the format of its `dnn_superres`.

EDSR, ESPCN, FSRCNN and LapSRN are published in this format. A graph is data: OpenCV runs only the operations it knows.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..network import GraphError
from ..probe import Reach, find_reach
from ..protobuf import split_message
from .graph import GraphNetwork

MEAN_BGR = (103.1545782, 111.561547, 114.35629928)
"""Mean of DIV2K in [0, 255], which the EDSR graphs were trained with. OpenCV subtracts it from the input of a three-channel
graph and adds it back to the output."""
_LONGEST_SECONDS = 60
_NODE = 1
_NODE_NAME = 1
_NODE_OPERATION = 2
_NODE_ATTRIBUTE = 5


class OpenCVNetwork(GraphNetwork):
    """A `Network` that OpenCV runs: always on the CPU, in float32, one image at a time.

    A graph is not thread-safe, so calls take turns.
    """

    backend = "opencv"
    tile_px: int | None = None
    architecture = "TensorFlow graph"
    multiple_of = 1
    minimum = 1

    def __init__(self, name: str, content: bytes) -> None:
        """Reads a graph.

        Args:
            name: See `Network.name`.
            content: A frozen graph: the bytes of a `.pb` file.

        Raises:
            GraphError: If OpenCV is not installed, or the file contains no network that upscales luma or RGB.
        """
        super().__init__(name, content)
        self._lock = threading.Lock()
        channels, self.scale = _probe_graph(content)
        self.channels_in = self.channels_out = channels
        self._net = _read_graph(content)
        self._reach: Reach | None = None

    @property
    def reach_px(self) -> int | None:
        if self._reach is None:
            self._reach = find_reach(self._run, self.channels_in, self.scale, self.minimum)
        return self._reach.reach_px

    def _run(self, batch: Tensor) -> Tensor:
        samples = batch.detach().to("cpu", torch.float32)
        mean = torch.tensor(MEAN_BGR)[:, None, None]
        if self.channels_in == 3:
            samples = samples.flip(1) * 255 - mean
        with self._lock:
            result = torch.cat([torch.from_numpy(_run_graph(self._net, one.numpy())) for one in samples.split(1)])
        return (result + mean).flip(1) / 255 if self.channels_in == 3 else result


def _probe_graph(content: bytes) -> tuple[int, int]:
    """Returns a graph's input channels and scale factor, both found by running it, in a process of its own."""
    _opencv()
    if not _is_whole(content):
        raise GraphError("damaged or not a TensorFlow graph")
    digest = hashlib.sha256(content).hexdigest()
    if digest not in _probed:
        _probed[digest] = _run_probe(content)
    found = _probed[digest]
    if "scale" in found:
        return found["channels"], found["scale"]
    raise GraphError("; ".join(("the graph does not upscale luma or RGB by an integer factor", *found["failures"])))


_probed: dict[str, Any] = {}
"""What the probe said of graphs, by their SHA-256."""


def _run_probe(content: bytes) -> Any:
    command = [sys.executable, str(Path(__file__).with_name("opencv_probe.py"))]
    options: dict[str, Any] = {
        "timeout": _LONGEST_SECONDS,
        "env": os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # OpenCV is where this process found it
        "creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0),
    }
    try:
        done = subprocess.run(command, input=content, capture_output=True, check=False, **options)
        return json.loads(done.stdout)
    except OSError as error:
        raise GraphError(f"cannot be read safely, since no process can be started ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise GraphError(f"OpenCV had not read it after {_LONGEST_SECONDS} s") from error
    except ValueError as error:
        raise GraphError("damaged: OpenCV crashes when it reads it") from error


def _opencv() -> Any:
    try:
        import cv2
        import cv2.dnn_superres  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise GraphError("a TensorFlow graph needs OpenCV: pip install opencv-contrib-python-headless") from error
    return cv2


def _read_graph(content: bytes) -> Any:
    cv2 = _opencv()
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)  # OpenCV logs at length what it could not read
    try:
        cv2.dnn_superres.DnnSuperResImpl_create()  # registers the one operation that OpenCV lacks by default
        return cv2.dnn.readNetFromTensorflow(np.frombuffer(content, np.uint8))
    except cv2.error as error:
        raise GraphError(f"not a TensorFlow graph ({' '.join(error.err.split())})") from error
    finally:
        cv2.utils.logging.setLogLevel(level)


def _is_whole(content: bytes) -> bool:
    """Whether a file consists of complete graph nodes: OpenCV crashes on a truncated one."""
    nodes = split_message(content)
    if not nodes:
        return False
    for number, node in nodes:
        fields = split_message(node) if number == _NODE else []
        if fields is None or (number == _NODE and {_NODE_NAME, _NODE_OPERATION} - {field for field, _ in fields}):
            return False
        if any(split_message(part) is None for field, part in fields if field == _NODE_ATTRIBUTE):
            return False
    return any(number == _NODE for number, _ in nodes)


def _run_graph(net: Any, samples: np.ndarray) -> np.ndarray:
    import cv2

    try:
        net.setInput(np.ascontiguousarray(samples))
        return np.array(net.forward())
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        raise GraphError(error.err) from error
