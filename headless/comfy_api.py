"""The part of `comfy_api.latest` that our nodes use, for machines without ComfyUI. Imports no torch.

    from .comfy_api import io, ui, ComfyExtension, InputImpl, Types

`ExecutionBlocker` is here too; ComfyUI keeps it in `comfy_execution.graph_utils`.
"""

from __future__ import annotations

from . import api_io as io
from . import api_ui as ui
from .api_node import ExecutionBlocker
from .api_video import VideoCodec, VideoComponents, VideoContainer, VideoFromComponents, VideoFromFile, VideoInput

IO = io
UI = ui


class ComfyExtension:
    """What a pack's `comfy_entrypoint` returns."""

    async def on_load(self) -> None:
        """Called after loading in newer ComfyUI only; put nothing essential here."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The node classes of the pack."""
        raise NotImplementedError


class Input:
    """Interfaces of runtime values."""

    Video = VideoInput


class InputImpl:
    """Implementations of those interfaces."""

    VideoFromFile = VideoFromFile
    VideoFromComponents = VideoFromComponents


class Types:
    """Records that those interfaces use."""

    VideoCodec = VideoCodec
    VideoContainer = VideoContainer
    VideoComponents = VideoComponents


__all__ = ["IO", "UI", "ComfyExtension", "ExecutionBlocker", "Input", "InputImpl", "Types", "io", "ui"]
