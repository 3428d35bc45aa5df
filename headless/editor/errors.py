"""The error of this reader: one full sentence that names the node."""

from __future__ import annotations

from ...dit_core.errors import SoraDiTError


class EditorFormatError(SoraDiTError):
    """A workflow in the editor's format cannot be read; the message names the node (title and id) and the fault."""
