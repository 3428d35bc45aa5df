"""The one door from the stand-ins to the code of our own nodes, which they share instead of keeping a second copy."""

from __future__ import annotations

from ...nodes import _checks as checks
from ...nodes import _coding as coding
from ...nodes import _files as files
from ...nodes import _video as video_files
from ...nodes import handles, host

__all__ = ["checks", "coding", "files", "handles", "host", "video_files"]
