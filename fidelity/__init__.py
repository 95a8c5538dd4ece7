"""Color-faithful image upscaling: the engine under the Fidelity Upscale node pack and command.

    import fidelity

    result = fidelity.upscale("photo.jpg", scale=4)
    result.save("photo-x4.png")
    print(result.report.held_drift.mean)  # mean CIEDE2000

- `upscale`, `classify` and `measure` take paths, PIL images, numpy arrays and tensors.
- `Settings`, with a `Target`, says what to do, and `Compute` where: `upscale("a.jpg", settings=Settings(domain="photo"))`.
- A `Session` enlarges many tensors with one set of settings: `Session(Settings(Target(2))).run(tensor).image`.
- Whatever is refused raises a `RefusedError`, whose message says what was seen and what was wanted.

What is exported here is the public interface. It is imported on first use, since PyTorch takes seconds to load.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a __getattr__ that type checkers saw would hide every misspelled name
    from .api import Picture, Upscaled, classify, measure, upscale
    from .decide.domain import Verdict
    from .decide.settings import Settings
    from .decide.target import PrintSize, Target
    from .errors import MemoryLimitError, ModelNotFoundError, ModelRefusedError, RefusedError
    from .files.paths import FileRefusedError
    from .networks.compute import Compute
    from .report.report import Report
    from .session import Session

try:
    __version__ = version("fidelity-upscale")
except PackageNotFoundError:  # inside ComfyUI the pack is a folder, not an installed distribution
    __version__ = "0.1.0"

_HOMES = {
    "upscale": ".api",
    "classify": ".api",
    "measure": ".api",
    "Picture": ".api",
    "Upscaled": ".api",
    "Verdict": ".decide.domain",
    "Session": ".session",
    "Settings": ".decide.settings",
    "Target": ".decide.target",
    "Compute": ".networks.compute",
    "Report": ".report.report",
    "RefusedError": ".errors",
    "MemoryLimitError": ".errors",
    "ModelNotFoundError": ".errors",
    "ModelRefusedError": ".errors",
    "FileRefusedError": ".files.paths",
    "PrintSize": ".decide.target",
}

__all__ = [
    "Compute",
    "FileRefusedError",
    "MemoryLimitError",
    "ModelNotFoundError",
    "ModelRefusedError",
    "Picture",
    "PrintSize",
    "RefusedError",
    "Report",
    "Session",
    "Settings",
    "Target",
    "Upscaled",
    "Verdict",
    "classify",
    "measure",
    "upscale",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name], __name__), name)
