"""What the stand-ins for core nodes share: the mark that they are none of ours, and checks of IMAGE inputs."""

from __future__ import annotations

from typing import Any

from ...dit_core.errors import ShapeError
from ..comfy_api import io
from .ours import checks

MODULE = "sora_dit.headless.core_nodes"  # `python_module` of these nodes in /object_info


class CoreNode(io.ComfyNode):
    """Base of all stand-ins: ComfyUI 0.8.0's id, inputs and results, in our own words and code."""

    RELATIVE_PYTHON_MODULE = MODULE
    passes_on: str | None = None  # the input whose value, unchanged, is the node's only output


def frames_of(images: Any, name: str) -> Any:
    """The frames `[F, H, W, C]` (C = 1, 3 or 4) of an IMAGE; clips `[B, F, H, W, C]` follow one after the other.

    Raises:
        ShapeError: `name` is no IMAGE, or has no frames.
    """
    frames = images.flatten(0, 1) if getattr(images, "ndim", 0) == 5 else images
    if getattr(frames, "ndim", 0) != 4 or 0 in frames.shape or frames.shape[-1] not in (1, 3, 4):
        raise ShapeError(f"{name} is {checks.described(images)}; expected images of shape [frames, height, width, 3].")
    return frames


def require_room(width: int, height: int, frames: int) -> None:
    """Raise `ShapeError` if so many pictures would not fit into this machine's memory."""
    problem = checks.memory_problem(width, height, frames, 1)
    if problem is not None:
        raise ShapeError(problem)
