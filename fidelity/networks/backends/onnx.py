"""Runs `.onnx` files of super-resolution and restoration networks with ONNX Runtime on the CPU.

A file is data: ONNX Runtime runs only the operations that it knows. Files that refer to others, bring operations of their own
or may loop for ever are refused before it reads them.
"""

from typing import Any

import torch
from torch import Tensor

from ..network import GraphError
from ..probe import MAX_CONTEXT_PX
from ..protobuf import split_message
from .converted import pad_to_grid
from .graph import GraphNetwork
from .onnxruntime import run_session

ARCHITECTURE = "ONNX graph"
"""What a report names as the architecture of such a file."""

_GRAPH, _FUNCTION = 7, 25
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15
_OPERATION, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_TENSORS, _SPARSE_TENSORS, _SUBGRAPHS = {5, 10}, {22, 23}, {6, 11}
_SPARSE_PARTS = {1, 2}
_EXTERNAL_DATA = 13
"""Numbers of the fields in ONNX's messages ModelProto, GraphProto, NodeProto, AttributeProto, SparseTensorProto and
TensorProto."""

_OWN_DOMAINS = {"", "ai.onnx", "com.microsoft"}
_TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}
_PROBED_PX = (16, 64, 128)
_GRIDS = (1, 2, 4, 8, 16, 32, 64)
_REACH_TRIALS = 3
_VISIBLE = 1e-6


class OnnxNetwork(GraphNetwork):
    """A `Network` that ONNX Runtime runs: always on the CPU, one image at a time."""

    backend = "onnxruntime"
    tile_px: int | None = 512
    architecture = ARCHITECTURE

    def __init__(self, name: str, content: bytes) -> None:
        """Reads a graph, and finds its channels, its scale and the sizes that it takes by running it.

        Args:
            name: See `Network.name`.
            content: The bytes of an `.onnx` file.

        Raises:
            GraphError: If ONNX Runtime is not installed, or the file holds no network from luma or RGB to luma or RGB.
        """
        super().__init__(name, content)
        check_graph(content)
        self._session = _open(content)
        self._dtype, channels = _read_input(self._session)
        self.channels_in, self.minimum, self.scale, self.channels_out = self._probe(channels)
        self.multiple_of = self._find_grid()
        self._reach: int | None = None
        self._has_reach = False

    @property
    def reach_px(self) -> int | None:
        if not self._has_reach:
            self._reach, self._has_reach = self._find_reach(), True
        return self._reach

    def _run(self, batch: Tensor) -> Tensor:
        samples = pad_to_grid(batch.detach().to("cpu", torch.float32), self.multiple_of, self.minimum)
        height, width = (side * self.scale for side in batch.shape[2:])
        return torch.cat([self._infer(one) for one in samples.split(1)])[..., :height, :width]

    def _infer(self, image: Tensor) -> Tensor:
        given = {self._session.get_inputs()[0].name: image.to(self._dtype).contiguous().numpy()}
        return run_session(self.name, self._session, given).float()

    def _probe(self, channels: int | None) -> tuple[int, int, int, int]:
        """Returns input channels, the shortest side, the scale and output channels."""
        failures: list[str] = []
        for count in (channels,) if channels else (3, 1):
            for length in _PROBED_PX:
                try:
                    result = self._infer(torch.full((1, count, length, length), 0.5))
                except (RuntimeError, MemoryError) as error:
                    failures.append(str(error))
                    continue
                scale = result.shape[-1] // length if result.ndim == 4 else 0
                if scale and result.shape[1] in (1, 3) and result.shape[2:] == (length * scale,) * 2:
                    return count, length, scale, result.shape[1]
                failures.append(f"{count} x {length} x {length} becomes {' x '.join(map(str, result.shape[1:]))}")
        raise GraphError(f"does not enlarge or restore luma or RGB by a whole factor: {failures[0]}")

    def _find_grid(self) -> int:
        """The smallest grid in pixels on which sides beyond the shortest one work."""
        for grid in _GRIDS:
            length = self.minimum + grid
            try:
                result = self._infer(torch.full((1, self.channels_in, length, length), 0.5))
            except (RuntimeError, MemoryError):  # this grid is too fine
                continue
            if result.shape[2:] == (length * self.scale,) * 2:
                return grid
        raise GraphError(f"takes only images of {self.minimum} px a side, though it says any")

    def _find_reach(self) -> int | None:
        """How far one pixel's change is seen; None if beyond `MAX_CONTEXT_PX`. (ONNX Runtime need not spread NaN.)"""
        generator = torch.Generator().manual_seed(0)
        rows, columns = max(16, self.minimum), 2 * MAX_CONTEXT_PX + 33
        reach, place = 0, columns // 2
        for _ in range(_REACH_TRIALS):
            before = torch.rand((1, self.channels_in, rows, columns), generator=generator)
            after = before.clone()
            after[..., place] = 1 - after[..., place].round()
            touched = ((self._run(after) - self._run(before)).abs() > _VISIBLE).any(dim=1).any(dim=1)[0].nonzero() // self.scale
            if len(touched):
                reach = max(reach, place - int(touched.min()), int(touched.max()) - place)
        return reach if reach <= MAX_CONTEXT_PX else None


def check_graph(content: bytes) -> None:
    """Refuses what is no whole model, and what could do more than compute.

    Raises:
        GraphError: If it is refused.
    """
    fields = split_message(content)
    graphs = [part for number, part in fields or [] if number == _GRAPH]
    if fields is None or len(graphs) != 1:
        raise GraphError("damaged or not an ONNX model")
    if any(number == _FUNCTION for number, _ in fields):
        raise GraphError("brings functions of its own; wanted a plain graph")
    parts = split_message(graphs[0])
    if not parts:
        raise GraphError("damaged or not an ONNX model")
    for number, part in parts:
        if number == _INITIALIZER:
            _check_tensor(part)
        elif number == _SPARSE_INITIALIZER:
            _check_sparse(part)
        elif number == _NODE:
            _check_node(_split(part))


def _split(message: bytes) -> list[tuple[int, bytes]]:
    fields = split_message(message)
    if fields is None:
        raise GraphError("damaged or not an ONNX model")
    return fields


def _check_tensor(message: bytes) -> None:
    if any(number == _EXTERNAL_DATA for number, _ in _split(message)):
        raise GraphError("keeps its weights in another file; wanted one file")


def _check_sparse(message: bytes) -> None:
    for number, part in _split(message):
        if number in _SPARSE_PARTS:
            _check_tensor(part)


def _check_node(fields: list[tuple[int, bytes]]) -> None:
    operation, domain = (
        b"".join(part for number, part in fields if number == wanted).decode(errors="replace")
        for wanted in (_OPERATION, _DOMAIN)
    )
    if domain not in _OWN_DOMAINS:
        raise GraphError(f"uses {operation} of {domain}; wanted ONNX's own operations")
    for number, part in (one for place, attribute in fields if place == _ATTRIBUTE for one in _split(attribute)):
        if number in _SUBGRAPHS:
            raise GraphError(f"uses {operation}, which contains a graph of its own; wanted a plain graph")
        if number in _TENSORS:
            _check_tensor(part)
        elif number in _SPARSE_TENSORS:
            _check_sparse(part)


def _open(content: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise GraphError("an ONNX model needs ONNX Runtime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # nothing short of a crash: what fails is raised
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has an exception of its own for everything
        raise GraphError(f"not an ONNX model ({' '.join(str(error).split())[:160]})") from error


def _read_input(session: Any) -> tuple[torch.dtype, int | None]:
    """Returns the type, and the channels if they are given."""
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or inputs[0].type not in _TYPES:
        seen = ", ".join(f"{one.type} {one.shape}" for one in inputs)
        raise GraphError(f"takes {seen}; wanted one image of floats, (batch, channels, height, width)")
    batch, channels, height, width = (side if isinstance(side, int) and side > 0 else None for side in shape)
    if (batch or 1) > 1 or channels not in (None, 1, 3) or height or width:
        raise GraphError(f"takes {shape}; wanted one image of 1 or 3 channels and any size (exported with dynamic axes)")
    return _TYPES[inputs[0].type], channels
