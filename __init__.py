"""ComfyUI's door into the pack: the entry point and the web folder. Nothing heavy is imported here."""

from __future__ import annotations

__version__ = "0.1.0"

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called once by ComfyUI after import; returns the extension that lists our nodes."""
    from .nodes import make_extension

    return make_extension()
