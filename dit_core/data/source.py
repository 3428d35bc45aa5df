"""One way to run through the frames of every kind of clip."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from ..checkpoint.hashing import file_sha256
from ..errors import CheckpointError, MediaError
from ..media import VideoStream
from .images import image_frames
from .scan import ClipFile


class ClipSource:
    """The frames of one clip, one at a time.

    Attributes:
        damage: after a whole run: what was found broken, a sentence, else None.
    """

    def __init__(self, clip: ClipFile):
        self._clip, self.damage = clip, None

    def frames(
        self,
        start: float = 0.0,
        size: tuple[int, int] | None = None,
        wanted: Callable[[float], bool] | None = None,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """As `VideoStream.frames`: (seconds, `[H, W, 3]` uint8 or uint16). Raises `MediaError`."""
        clip = self._clip
        if clip.kind == "images":
            yield from image_frames(clip.path, clip.images, clip.fps, start, size, wanted)
            return
        stream = VideoStream(clip.path)
        yield from stream.frames(start, size, wanted)
        self.damage = stream.damage


def content_sha256(clip: ClipFile) -> str:
    """SHA-256 of a clip's bytes on disk (of a series: of its images' sums). Raises `MediaError`."""
    try:
        if clip.kind != "images":
            return file_sha256(clip.path)
        sums = "".join(file_sha256(clip.path / name) for name in clip.images)
    except CheckpointError as error:  # the name that room has for a file that cannot be read
        raise MediaError(str(error)) from error
    return hashlib.sha256(sums.encode()).hexdigest()
