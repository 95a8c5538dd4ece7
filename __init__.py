"""ComfyUI's entry into the pack. Everything else is imported when the host asks for it."""

import logging
from typing import Any

WEB_DIRECTORY = "./js"


async def comfy_entrypoint() -> Any:
    """The pack's nodes; called by ComfyUI 0.33 or newer."""
    try:
        from .nodes import FidelityExtension
    except Exception:
        # The host logs one line of what goes wrong here, which says too little to mend it by.
        logging.exception("Fidelity Upscale could not be loaded")
        raise
    return FidelityExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
