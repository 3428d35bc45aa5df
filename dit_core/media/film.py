"""Decoding a file that FFmpeg can read: frame by frame, from any time on, and noting what is broken in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MediaError
from .audio import read_sound
from .colours import plainly, to_rgb
from .probe import common_rate

_WORTH_SEEKING = 2.0  # seconds; nearer frames are reached as fast by decoding
_HDR = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic


class Film:
    """The first picture track of a file that FFmpeg can read.

    plain: as PyAV converts colours when asked for nothing, not turned upright.

    Attributes:
        fps: frames per second. count: frames decoded so far.
        announced: frames the header tells of, 0 where it does not. seconds: length by the header, or None.
        notes: remarks, sentences. damage: what was found broken by the time the frames have ended, a sentence.
    """

    def __init__(self, path: Path, plain: bool = False):
        import av

        self._to_rgb = plainly if plain else to_rgb
        self._path, self.count, self.notes, self.damage = path, 0, [], None
        with av.open(str(path), metadata_errors="replace") as container:
            if container.format.name.endswith("_pipe") or container.format.name == "image2":
                kind = container.format.name.removesuffix("_pipe")
                raise MediaError(f"{path} is a picture ({kind}), not a video; expected a video file.")
            stream = _picture_track(container)
            if stream is None:
                what = "has sound but no picture" if container.streams.audio else "holds no picture, or is damaged"
                raise MediaError(f"{path} {what}; expected a video file.")
            if stream.codec_context is None:
                raise MediaError(f"{path} holds video that the installed PyAV {av.__version__} has no decoder for.")
            self.fps = _frame_rate(stream, path)
            self.announced = stream.frames
            self._pixel = _pixel_shape(stream) if not plain else Fraction(1)
            length = stream.duration * stream.time_base if stream.duration else Fraction(container.duration or 0, 10**6)
            self.seconds = float(length) or None
            self._promised = _promised_length(container, stream)
            if (name := _HDR.get(stream.codec_context.color_trc)) is not None:
                self.notes.append(f"The video is HDR ({name}); its colours are read without tone mapping.")
            if self._pixel != 1:
                self.notes.append(
                    f"Its pixels are not square ({self._pixel.numerator}:{self._pixel.denominator}): the pictures are "
                    "stretched to the proportions in which players show them."
                )

    def frames(
        self,
        start: float = 0.0,
        size: tuple[int, int] | None = None,
        wanted: Callable[[float], bool] | None = None,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Decode one frame at a time, none of them kept.

        Args:
            start: seconds on the file's clock; frames before are left out, and where the file allows, not decoded.
            size: (width, height) to bring frames to (bicubic, antialiased); None = their own.
            wanted: tells by its time whether a frame is given out; the others cost no conversion.

        Yields: (time in seconds on the file's clock, `[H, W, 3]` uint8 or uint16).
        """
        given = float("-inf")
        own = None
        if start > _WORTH_SEEKING:
            try:
                for frame, time in self._decode(start):
                    own = own or self._shown(frame)
                    if wanted is None or wanted(time):
                        yield time, self._to_rgb(frame, own, size)
                    given = time
                return
            except _BadSeek:
                pass  # on from the frame that was reached, decoding from the beginning
        for frame, time in self._decode(None):
            own = own or self._shown(frame)
            if time >= start and time > given and (wanted is None or wanted(time)):
                yield time, self._to_rgb(frame, own, size)

    def _shown(self, frame) -> tuple[int, int]:
        """(width, height) of a frame with square pixels, not turned upright. Like players, the longer side grows."""
        if self._pixel >= 1:
            return round(frame.width * self._pixel), frame.height
        return frame.width, round(frame.height / self._pixel)

    def _decode(self, start: float | None) -> Iterator[tuple[Any, float]]:
        """(decoded frame, its time) of the whole file, noting damage; or, with `start`, from that time on.

        Raises `_BadSeek` when the file cannot be read right from there.
        """
        import av

        with av.open(str(self._path), metadata_errors="replace") as container:
            stream = _picture_track(container)
            stream.thread_type = "AUTO"
            damaged, faulty, hidden, end, pause = False, 0, 0, 0.0, 0.0
            try:
                if start is not None:
                    yield from _from_key_frame(container, stream, start)
                    return
                for packet in container.demux(stream):
                    hidden += packet.is_discard  # by the edit list of a file that was trimmed without encoding anew
                    for frame in packet.decode():
                        time = frame.time if frame.time is not None else float(self.count / self.fps)
                        self.count += 1
                        faulty += frame.is_corrupt
                        end, pause = max(end, time), max(pause, time - end)
                        yield frame, time
            except av.error.InvalidDataError:
                if start is not None:
                    raise _BadSeek from None
                if self.count == 0:
                    raise
                damaged = True  # what was read is good; older FFmpeg fails here where newer ones just end
        self._find_damage(damaged, faulty, hidden)
        if self.damage is None and self._promised is not None and self.count > 1:  # one picture may stand for ever
            self._find_early_end(end + float(1 / self.fps), pause)

    def _find_damage(self, broken: bool, faulty: int, hidden: int) -> None:
        found = []
        if faulty:
            found.append(f"The file is damaged: {faulty} of its {self.count} frames could be read in part only.")
        if broken or self.count < self.announced - hidden - 1:
            announced = self.announced - hidden if self.announced else "more"
            found.append(f"The file announces {announced} frames, but {self.count} could be read: it may be cut short.")
        self.notes += found
        self.damage = " ".join(found) or None

    def _find_early_end(self, end: float, pause: float) -> None:
        """Note that the pictures end, at `end` seconds, well before the header says. pause: longest between two."""
        # Lengths are a little off in many files, and the last picture may stand as long as any before it.
        slack = max(3 / float(self.fps), 2 * pause, 0.01 * self._promised)
        if end < self._promised - slack:
            self.damage = (
                f"The file announces {self._promised:.1f} s, but the {self.count} frames that could be read end after "
                f"{end:.1f} s: it may be cut short."
            )
            self.notes.append(self.damage)

    def sound(self, start: float, seconds: float) -> dict[str, Any] | None:
        """Of that stretch, as `read_sound`; None where the file has none."""
        return read_sound(self._path, start, float(seconds))


def _picture_track(container):
    """The first video track that is not the cover picture of a piece of music; None without one."""
    from av.stream import Disposition

    moving = (s for s in container.streams.video if not Disposition.attached_pic & s.disposition)
    return next(moving, None)


def _pixel_shape(stream) -> Fraction:
    """Width : height of a pixel; 1 where the file does not say, or says what cannot be meant."""
    shape = Fraction(stream.sample_aspect_ratio or 1)
    return shape if Fraction(1, 4) <= shape <= 4 and abs(shape - 1) > Fraction(1, 100) else Fraction(1)


def _promised_length(container, stream) -> float | None:
    """Seconds after which the pictures of a Matroska or WebM file end by its header, which counts no frames.

    None: it does not say so of the pictures (the length of the file is that of its longest track), or it is no such
    file; others count their frames, or FFmpeg guesses how long they are.
    """
    if "matroska" not in container.format.name or not container.duration:
        return None
    whole = container.duration / 1e6
    named = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d*)?)", stream.metadata.get("DURATION", "").strip())
    if named:
        hours, minutes, seconds = map(float, named.groups())
        return min(hours * 3600 + minutes * 60 + seconds, whole)
    return whole if len(container.streams) == 1 else None


def _frame_rate(stream, path: Path) -> Fraction:
    """The file's frame rate; time stamps in milliseconds (WebM) blur it a little."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if not rate or rate <= 0:
        raise MediaError(f"{path} does not say its frame rate; expected a video file.")
    return common_rate(Fraction(rate), Fraction(1, 10_000)).limit_denominator(100_000)


class _BadSeek(Exception):
    """The file has no index, no key frame that stands alone, or time stamps that only its beginning explains."""


def _from_key_frame(container, stream, start: float) -> Iterator[tuple[Any, float]]:
    """(decoded frame, its time) from `start` seconds on, decoding from the key frame before it. Raises `_BadSeek`.

    What a file marks as a key frame may lean on frames before it: the decoder marks the garbage that it then gives.
    """
    import av

    try:
        container.seek(int(start / stream.time_base), stream=stream)
    except av.FFmpegError:
        raise _BadSeek from None
    is_first = True
    for frame in container.decode(stream):
        if frame.time is None or frame.is_corrupt or is_first and not (frame.key_frame and frame.time <= start):
            raise _BadSeek
        is_first = False
        if frame.time >= start:
            yield frame, frame.time
    if is_first:
        raise _BadSeek
