"""A device that is not there: it computes on the CPU, and refuses to mix its tensors with those of another device.

What runs on a GPU only is seen there only; what mixes devices is seen here. Networks are not run on it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

ELSEWHERE = torch.device("privateuseone", 0)

_MOVES = {Tensor.copy_, Tensor.__setitem__}  # these copy between devices on a real one too
_INDEXES = {Tensor.__getitem__}  # an index may lie on the CPU


class _There(Tensor):
    """A tensor of that device."""

    @classmethod
    def __torch_function__(cls, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function == Tensor.device.__get__:  # type: ignore[attr-defined]
            return ELSEWHERE
        if function in (Tensor.cpu, Tensor.tolist, Tensor.numpy) or _goes_to_cpu(function, args, kwargs):
            with torch._C.DisableTorchFunctionSubclass():
                return function(*tree_map_only(_There, lambda one: one.as_subclass(Tensor), args), **kwargs)
        strangers = [one for one in tree_flatten((args, kwargs))[0] if _is_stranger(one)]
        if strangers and function not in _MOVES and not (function in _INDEXES and not _is_stranger(args[0])):
            raise RuntimeError(f"{function.__name__}: expected all tensors on one device, but found {ELSEWHERE} and cpu")
        return super().__torch_function__(function, kinds, args, _without_device(kwargs))


class Elsewhere(TorchFunctionMode):
    """While it is entered, tensors can be made on and moved to `ELSEWHERE`."""

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        wanted = kwargs.get("device") == ELSEWHERE or (function is Tensor.to and ELSEWHERE in args[1:])
        if wanted:
            args = tuple(one for one in args if not (isinstance(one, torch.device) and one == ELSEWHERE))
            result = function(*args, **_without_device(kwargs))
            return result if isinstance(result, _There) else result.as_subclass(_There)
        return function(*args, **kwargs)


def _is_stranger(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, _There) and value.dim() > 0


def _goes_to_cpu(function: Any, args: Any, kwargs: Any) -> bool:
    named = [one for one in (*args[1:], kwargs.get("device")) if isinstance(one, torch.device | str)]
    return function is Tensor.to and any(torch.device(one).type == "cpu" for one in named)


def _without_device(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if not (name == "device" and value == ELSEWHERE)}
