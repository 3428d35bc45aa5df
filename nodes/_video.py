"""Between the video nodes and `dit_core.media`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..dit_core.errors import MediaError
from ..dit_core.media import CONTAINERS
from ..dit_core.media.probe import probe_codec
from . import _checks, _files, handles


@dataclass(frozen=True)
class How:
    """How a file is written: names in `dit_core.media`'s tables, and texts stored in the file."""

    container: str
    codec: str
    quality: str
    metadata: dict[str, str]


def check_container(name: str) -> None:
    """Raise `MediaError` for a kind of file that is not written here."""
    if name not in CONTAINERS:
        raise MediaError(f"got {name!r}; expected one of {', '.join(CONTAINERS)}.")


def check_codec(container: str, codec: str) -> None:
    """Raise `MediaError` if this machine cannot write such a file; to be asked before anything is rendered."""
    if container in CONTAINERS:
        probe_codec(container, codec)


def check_rate(fps: float) -> None:
    """Raise `MediaError` for a rate that `read` would refuse."""
    if not 0.01 <= fps <= 1000:
        raise MediaError(f"got {fps:g}; expected 0 (as the file has it), or 0.01 to 1000 frames per second.")


def write(
    target: _files.OutputTarget, clip: Any, how: How, progress: Callable[[int], Any]
) -> tuple[_files.OutputTarget, list[str]]:
    """Write the components of a VIDEO; return where it was saved in the end and remarks for the user.

    progress: called with the number of frames, returns an object whose `update(frame)` may raise to cancel.

    Raises:
        MediaError: the file cannot be written, or a frame is damaged; nothing is left behind.
    """
    from ..dit_core.media import write_video

    frames, audio, remarks = _checks.images_of(clip.images), clip.audio, []
    handles.check_audio(audio)
    if audio is not None and CONTAINERS[how.container].audio is None:
        audio = None
        remarks.append(f"{CONTAINERS[how.container].label} files have no sound, so the sound was left out.")
    bar = progress(len(frames))

    def counted() -> Iterator[Any]:
        for number, frame in enumerate(frames):
            yield frame
            bar.update(number + 1)

    options = {"codec": how.codec, "quality": how.quality, "audio": audio, "metadata": how.metadata}
    done = write_video(target.path, counted(), clip.frame_rate, **options, following=_files.count_on)
    return replace(target, path=done.path), remarks + list(done.notes)


def read(path: Path, start: int, most: int, every: int, fps: float) -> Any:
    """Frames, sound and rate of a file as a `VideoClip`; fps 0 keeps the file's own rate."""
    from ..dit_core.media import read_video
    from . import host

    return read_video(path, start, most, every, fps or None, on_frame=lambda _: host.check_cancelled())
