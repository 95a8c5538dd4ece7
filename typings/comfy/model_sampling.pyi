"""What the nodes use of ComfyUI, for the type checker alone."""

from typing import Any

def __getattr__(name: str) -> Any: ...
