"""ComfyUI's entry point to the pack. Everything else is imported only when the host calls it."""

import logging
from typing import Any

WEB_DIRECTORY = "./js"


async def comfy_entrypoint() -> Any:
    """Returns the pack's nodes; called by ComfyUI 0.33 or newer."""
    try:
        from .nodes import FidelityExtension
    except Exception:
        # The host logs only one line about a failure here, which is too little to find the cause.
        logging.exception("Fidelity Upscale could not be loaded")
        raise
    return FidelityExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
