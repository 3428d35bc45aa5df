"""Video files: `write_video` streams frames into a file, `read_video` reads one, `VideoStream` reads frame by frame.

PyAV and Pillow load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .codecs import CODECS, CONTAINERS, QUALITIES

if TYPE_CHECKING:
    from .probe import probe_codec
    from .read import VideoClip, read_metadata, read_video
    from .stream import VideoHeader, VideoStream
    from .write import WriteResult, write_video

__all__ = [
    "CODECS", "CONTAINERS", "QUALITIES", "VideoClip", "VideoHeader", "VideoStream", "WriteResult",
    "probe_codec", "read_metadata", "read_video", "write_video",
]  # fmt: skip

_HOME = {
    "VideoClip": "read", "read_metadata": "read", "read_video": "read",
    "VideoHeader": "stream", "VideoStream": "stream",
    "WriteResult": "write", "write_video": "write", "probe_codec": "probe",
}  # fmt: skip


def __getattr__(name: str):
    """Import the module behind a public name on first use (torch and PyAV are slow to import)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
