"""Checks made before anything is rendered: can this file be written at all, here, as asked?"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from ..checkpoint.atomic import reason
from ..errors import MediaError
from .codecs import CODECS, CONTAINERS, QUALITIES, Container, VideoCodec


def probe_codec(container: str, codec: str = "auto", audio: bool = False) -> VideoCodec:
    """Return the codec that a file of kind `container` will get, after checking that it can be encoded here.

    Args:
        container: a file name extension in `CONTAINERS`, with or without the dot.
        codec: a name in `CODECS`, or "auto" for the container's default.
        audio: whether there will be sound.

    Raises:
        MediaError: unknown container or codec, a pair that does not go together, an encoder that this machine's
            PyAV lacks, or sound in a kind of file that has none.
    """
    kind = get_container(container)
    name = kind.codecs[0] if codec == "auto" else codec
    if name not in CODECS:
        raise MediaError(f"The codec is {codec!r}; expected auto or one of {', '.join(kind.codecs)}.")
    if name not in kind.codecs:
        raise MediaError(f"{kind.label} cannot hold {CODECS[name].label}; expected auto or {', '.join(kind.codecs)}.")
    if audio and kind.audio is None:
        raise MediaError(f"{kind.label} cannot hold sound; expected one of {_with_sound()}, or no audio.")
    wanted = [CODECS[name].encoder] if CODECS[name].encoder != "pillow" else []
    for encoder in [*wanted, *([kind.audio] if audio and kind.audio else [])]:
        _require_encoder(encoder, kind)
    return CODECS[name]


def get_container(name: str | Path) -> Container:
    """Return the container for a file name extension. Raises `MediaError` for one that is not written here."""
    key = str(name).lower().lstrip(".")
    if key not in CONTAINERS:
        raise MediaError(f"The file extension is {key!r}; expected one of {', '.join(CONTAINERS)}.")
    return CONTAINERS[key]


def _with_sound() -> str:
    return ", ".join(name for name, kind in CONTAINERS.items() if kind.audio)


def _require_encoder(encoder: str, kind: Container) -> None:
    import av

    try:
        av.codec.Codec(encoder, "w")
    except ValueError as error:  # UnknownCodecError is one
        raise MediaError(
            f"{kind.label} needs the encoder {encoder}, which the installed PyAV {av.__version__} does not have; "
            "expected PyAV from PyPI (pip install av), or another codec."
        ) from error


def check_rate(codec: VideoCodec, fps: Fraction) -> None:
    """Raise `MediaError` for more frames per second than the encoder takes."""
    if codec.most_fps is not None and fps > codec.most_fps:
        raise MediaError(
            f"{codec.label} takes at most {codec.most_fps} frames per second; got {float(fps):g}. "
            "Expected fewer, or another codec."
        )


def check_size(codec: VideoCodec, width: int, height: int) -> None:
    """Raise `MediaError` for pictures that are smaller than the encoder takes."""
    if min(width, height) < codec.least_side:
        raise MediaError(
            f"{codec.label} takes pictures of at least {codec.least_side}x{codec.least_side} pixels; got "
            f"{width}x{height}. Expected a larger size, or another codec."
        )


def check_target(path: Path) -> None:
    """Raise `MediaError` unless a file can be made at `path`."""
    folder = path.parent
    if not os.path.isdir(folder):  # Path.is_dir raises for a name that is too long
        what = "is a file, not a folder" if os.path.exists(folder) else "does not exist"
        raise MediaError(f"{path} cannot be written: the folder {folder} {what}.")
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        is_folder = False
    except OSError as error:
        raise MediaError(f"{path} cannot be written: {reason(error)}.") from error
    if is_folder:
        raise MediaError(f"{path} cannot be written: it is a folder, not a file.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MediaError(f"{path} cannot be written: the folder {folder} is read-only for this account.")


def quality_number(codec: VideoCodec, quality: int | str | None) -> int | None:
    """Return the number on the codec's own scale for a name in `QUALITIES`, a number, or None (= "high").

    Raises:
        MediaError: neither a known name nor a number on the scale.
    """
    if codec.scale is None:
        return None
    if quality is None or isinstance(quality, str):
        if (quality or "high") not in codec.qualities:
            raise MediaError(f"The quality is {quality!r}; expected {', '.join(QUALITIES)} or a number.")
        return codec.qualities[quality or "high"]
    best, worst = codec.scale
    if isinstance(quality, bool) or int(quality) != quality or not min(codec.scale) <= quality <= max(codec.scale):
        raise MediaError(
            f"The quality is {quality!r}; {codec.label} takes a whole number from {best} (best) to {worst} (worst)."
        )
    return int(quality)


def exact_fps(fps: float | int | Fraction) -> Fraction:
    """Return frames per second as an exact fraction; 23.976, 29.97 and their like become n * 1000 / 1001.

    Raises:
        MediaError: not a number from 0.01 to 1000.
    """
    # Compared with a fraction: the float 0.01 is a little more than 1/100, which is what it becomes below.
    if isinstance(fps, bool) or not isinstance(fps, int | float | Fraction) or not Fraction(1, 100) <= fps <= 1000:
        raise MediaError(
            f"The frame rate is {str(fps) if isinstance(fps, Fraction) else repr(fps)}; "
            "expected a number from 0.01 to 1000 frames per second."
        )
    if not isinstance(fps, float):
        return Fraction(fps)
    ntsc = Fraction(math.ceil(fps) * 1000, 1001)
    if abs(ntsc - fps) < 0.0051 and fps != round(fps):
        return ntsc
    return Fraction(fps).limit_denominator(1001)


def common_rate(rate: Fraction, tolerance: Fraction) -> Fraction:
    """Return the whole or NTSC (n * 1000 / 1001) rate within the relative `tolerance` of `rate`, else `rate`."""
    for near in (Fraction(round(rate)), Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001)):
        if near > 0 and abs(near - rate) <= tolerance * near:
            return near
    return rate


@contextmanager
def in_words(path: Path, doing: str = "written") -> Iterator[None]:
    """Turn the errors of the operating system and of FFmpeg into one sentence that names the file."""
    import av

    try:
        yield
    except OSError as error:
        raise MediaError(f"{path} cannot be {doing}: {reason(error)}.") from error
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"{path} cannot be {doing}: {_ffmpeg_reason(error)}.") from error


def _ffmpeg_reason(error: Exception) -> str:
    import av

    if isinstance(error, av.error.InvalidDataError):
        return "it is damaged, or not a video file"
    number = getattr(error, "errno", None)
    if isinstance(number, int) and 0 < number < 200:  # the system's own numbers; FFmpeg's are far larger
        return reason(OSError(number, os.strerror(number)))
    return getattr(error, "strerror", None) or str(error)
