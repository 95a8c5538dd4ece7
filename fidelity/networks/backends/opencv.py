"""TensorFlow graphs of super-resolution networks, as OpenCV's `dnn_superres` has them, run by OpenCV on the CPU.

EDSR, ESPCN, FSRCNN and LapSRN have been published so. A graph is data: OpenCV knows its operations and executes nothing else.
"""

import copy
from typing import Any, cast

import numpy as np
import torch
from spandrel import Architecture, ImageModelDescriptor, StateDict
from torch import Tensor, nn

MEAN_BGR = (103.1545782, 111.561547, 114.35629928)
"""What OpenCV takes from an image before a graph of three channels and adds afterwards, of 0 to 255: the mean of DIV2K,
which those EDSR graphs were trained with."""
_PROBE_PX = 16
_NODE = 1
_NODE_NAME = 1
_NODE_OPERATION = 2
_NODE_ATTRIBUTE = 5
_VARINT = 0
_LENGTH = 2
_FIXED_BYTES = {1: 8, 5: 4}


class GraphError(ValueError):
    """A file that OpenCV reads no super-resolution network from."""


class TensorFlowGraph(nn.Module):
    """A graph as a network: luma in [0, 1], or RGB, in and enlarged out, always computed in float32 on the CPU."""

    def __init__(self, content: bytes) -> None:
        """Reads a graph.

        Args:
            content: A frozen graph, as a `.pb` file holds it.

        Raises:
            GraphError: If OpenCV is not installed, or the file holds no network that enlarges luma or RGB.
        """
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)  # says which device and type the caller works in
        self._content = content
        self.channels, self.scale, self._net = self._probe()

    def __deepcopy__(self, memo: dict[int, Any]) -> "TensorFlowGraph":
        copied = TensorFlowGraph(self._content)
        copied.anchor = copy.deepcopy(self.anchor, memo)
        return copied

    def forward(self, image: Tensor) -> Tensor:
        samples = image.detach().to("cpu", torch.float32)
        mean = torch.tensor(MEAN_BGR)[:, None, None]
        if self.channels == 3:
            samples = samples.flip(1) * 255 - mean
        made = torch.cat([torch.from_numpy(self._run(one.numpy())) for one in samples.split(1)])
        if self.channels == 3:
            made = (made + mean).flip(1) / 255
        return made.to(image.device, image.dtype)

    def _run(self, samples: np.ndarray) -> np.ndarray:
        return _run_graph(self._net, samples)

    def _probe(self) -> tuple[int, int, Any]:
        """Channels that it takes, the factor by which it enlarges, both found by running it, and the graph."""
        failures: list[str] = []
        for channels in (1, 3):
            net = _read_graph(self._content)  # one that failed once does not run again
            try:
                height, width = _run_graph(net, np.zeros((1, channels, _PROBE_PX, _PROBE_PX), np.float32)).shape[2:]
            except (GraphError, ValueError) as error:
                failures.append(" ".join(str(error).split()))
                continue
            if height == width and height >= _PROBE_PX and height % _PROBE_PX == 0:
                return channels, height // _PROBE_PX, net
        raise GraphError("; ".join(("a graph that does not enlarge luma or RGB by a whole factor", *failures)))


class TensorFlowArch(Architecture[TensorFlowGraph]):
    """Never found by parameter names: a graph has none."""

    def __init__(self) -> None:
        super().__init__(id="TensorFlow graph", detect=lambda _: False)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[TensorFlowGraph]:
        """Is not to be called: see `load_graph`.

        Raises:
            GraphError: Always.
        """
        raise GraphError(f"{len(state_dict)} tensors; wanted the file of a graph")


def load_graph(content: bytes) -> ImageModelDescriptor[TensorFlowGraph]:
    """Reads a graph.

    Args:
        content: A frozen graph, as a `.pb` file holds it.

    Raises:
        GraphError: If OpenCV is not installed, or the file holds no network that enlarges luma or RGB.
    """
    network = TensorFlowGraph(content)
    return ImageModelDescriptor(
        network,
        network.state_dict(),
        architecture=TensorFlowArch(),
        purpose="SR",
        tags=[],
        supports_half=False,
        supports_bfloat16=False,
        scale=network.scale,
        input_channels=network.channels,
        output_channels=network.channels,
    )


def _read_graph(content: bytes) -> Any:
    try:
        import cv2
        import cv2.dnn_superres
    except ImportError as error:
        raise GraphError("a TensorFlow graph needs OpenCV: pip install opencv-contrib-python-headless") from error
    if not _is_whole(content):
        raise GraphError("damaged or not a TensorFlow graph")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(0)  # it tells at length what it could not read
    try:
        cast(Any, cv2.dnn_superres).DnnSuperResImpl_create()  # teaches OpenCV the one operation that it does not know by itself
        return cv2.dnn.readNetFromTensorflow(np.frombuffer(content, np.uint8))
    except cv2.error as error:
        raise GraphError(f"not a TensorFlow graph ({' '.join(error.err.split())})") from error
    finally:
        cv2.utils.logging.setLogLevel(level)


def _is_whole(content: bytes) -> bool:
    """Whether a file is made of graph nodes, each whole: OpenCV crashes on one that is cut off."""
    nodes = _split_message(content)
    if not nodes:
        return False
    for number, node in nodes:
        fields = _split_message(node) if number == _NODE else []
        if fields is None or (number == _NODE and {_NODE_NAME, _NODE_OPERATION} - {field for field, _ in fields}):
            return False
        if any(_split_message(part) is None for field, part in fields if field == _NODE_ATTRIBUTE):
            return False
    return any(number == _NODE for number, _ in nodes)


def _split_message(content: bytes) -> list[tuple[int, bytes]] | None:
    """The fields of a protocol buffer message, numbers and contents (empty for plain numbers); None if it is none.

    Source: Google, "Protocol Buffers: Encoding".
    """
    fields: list[tuple[int, bytes]] = []
    place = 0
    while place < len(content):
        key, place = _read_varint(content, place)
        kind, start = key & 7, place
        if kind == _VARINT:
            _, place = _read_varint(content, place)
        elif kind == _LENGTH:
            length, start = _read_varint(content, place)
            place = start + length
        elif kind in _FIXED_BYTES:
            place += _FIXED_BYTES[kind]
        else:
            return None
        if place > len(content) or not key >> 3:
            return None
        fields.append((key >> 3, content[start:place] if kind == _LENGTH else b""))
    return fields


def _read_varint(content: bytes, place: int) -> tuple[int, int]:
    """A number and where the next thing begins, which is beyond the end if it is cut off."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            break
        byte = content[place]
        number |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return number, place
    return number, len(content) + 1


def _run_graph(net: Any, samples: np.ndarray) -> np.ndarray:
    import cv2

    try:
        net.setInput(np.ascontiguousarray(samples))
        return np.array(net.forward())
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        raise GraphError(error.err) from error
