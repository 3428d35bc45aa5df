"""What went wrong while running, in one sentence that names the node."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ..dit_core.errors import SoraDiTError
from ..dit_core.memory import is_out_of_memory

if TYPE_CHECKING:
    from .graph import PlannedNode


class RunError(SoraDiTError):
    """A node failed. `node_id`, `title` and `class_type` say which; `__cause__` is the original exception."""

    def __init__(self, node: PlannedNode, message: str):
        super().__init__(f"{node.name}: {message}")
        self.node_id = node.node_id
        self.title = node.title
        self.class_type = node.class_type
        self.message = message


def wrap(node: PlannedNode, error: Exception) -> RunError:
    """A `RunError` for whatever the node raised."""
    return RunError(node, _sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, SoraDiTError):
        return str(error)
    if is_out_of_memory(error):
        return (
            "there is not enough memory. Use a smaller width, height or number of frames, or a smaller batch; "
            "on a GPU, --dtype bfloat16 or --device cpu also help."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _about_file(error)
    text = " ".join(str(error).split()).rstrip(".")
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"it failed with {what}. Run again with --verbose to see where."


def _about_file(error: OSError) -> str:
    name = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return f"the disk is full; could not write{name or ' the file'}. Free some space or choose another --output."
    return f"the file{name} cannot be used: {error.strerror or error}."
