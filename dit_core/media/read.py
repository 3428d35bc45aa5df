"""Reading a video: pictures as sRGB floats, sound, exact frame rate, and the texts stored in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError
from ..memory import gigabytes, machine_memory
from .animation import is_animation, read_animation, read_animation_metadata
from .audio import read_sound
from .probe import common_rate, exact_fps, in_words

# SWS_BICUBIC | FULL_CHR_H_INT | FULL_CHR_H_INP | ACCURATE_RND: without these, swscale repeats each chroma sample 2x2.
_SCALING = 4 | 0x2000 | 0x4000 | 0x40000
_WORTH_SEEKING = 2.0  # seconds; nearer frames are reached as fast by decoding
# AVColorSpace -> PyAV's name of the matrix (ITU-T H.273, table 4).
_MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}
_HDR = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic


@dataclass(frozen=True)
class VideoClip:
    """A clip in memory.

    Attributes:
        frames: `[F, H, W, 3]` float32, sRGB, 0..1.
        fps: frames per second of `frames`.
        audio: `{"waveform": [1, C, S], "sample_rate": Hz}` as long as the frames, or None.
        notes: remarks for the person, sentences.
        metadata: the texts stored in the file.
    """

    frames: Tensor
    fps: Fraction
    audio: dict[str, Any] | None
    notes: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


def read_video(
    path: str | Path,
    start: int = 0,
    max_frames: int = 0,
    every: int = 1,
    fps: float | int | Fraction | None = None,
    on_frame: Callable[[int], None] | None = None,
    plain: bool = False,
) -> VideoClip:
    """Read a video file, animated GIF or animated WebP.

    Args:
        plain: films (not GIF and WebP) as PyAV converts them when asked for nothing, and not turned upright. Colours
            are less exact, but that is how ComfyUI's own nodes (0.8) read them.
        fps: first of all, repeat or drop frames to this rate; None keeps the file's frames.
        start: then skip so many frames,
        every: then keep every n-th (the clip's fps is divided by it),
        max_frames: then stop after so many; 0 = all.
        on_frame: called with the number of frames so far; may raise to stop.

    Raises:
        MediaError: no such file, not a video, damaged, no picture in it, or no frame left after `start`.
    """
    path = Path(path)
    for name, value, least in (("start", start, 0), ("max_frames", max_frames, 0), ("every", every, 1)):
        if isinstance(value, bool) or int(value) != value or value < least:
            raise MediaError(f"{path}: {name} is {value!r}; expected a whole number of at least {least}.")
    wanted = exact_fps(fps) if fps is not None else None
    with in_words(path, "read as a video"):
        check_file(path)
        source = open_source(path, plain)
        rate = wanted or source.fps
        timed = _Counted(_resampled(source.frames(), wanted, source.fps) if wanted else source.frames())
        picked = islice(timed, start, start + max_frames * every if max_frames else None, every)
        frames = []
        for time, picture in picked:
            frames.append((time, picture))
            _require_room(path, len(frames), picture)
            if on_frame is not None:
                on_frame(len(frames))
        if not frames:
            raise MediaError(_nothing(path, timed.count, start))
        clip_fps = rate / every
        audio = source.sound(frames[0][0], len(frames) / clip_fps)
    stack = torch.from_numpy(np.stack([picture for _, picture in frames]))
    largest = 65535.0 if stack.dtype == torch.uint16 else 255.0
    return VideoClip(stack.to(torch.float32).div_(largest), clip_fps, audio, tuple(source.notes), read_metadata(path))


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the texts stored in a video, GIF or WebP file; names from Matroska and WebM in lower case.

    Raises:
        MediaError: the file cannot be read as a video.
    """
    import av

    path = Path(path)
    with in_words(path, "read as a video"):
        check_file(path)
        if is_animation(path):
            return read_animation_metadata(path)
        with av.open(str(path), metadata_errors="replace") as container:
            matroska = "matroska" in container.format.name  # its muxer turns names into capitals
            return {key.lower() if matroska else key: value for key, value in container.metadata.items()}


def check_file(path: Path) -> None:
    """Raise `MediaError` unless `path` is a file with something in it."""
    if path.is_dir():
        raise MediaError(f"{path} is a folder; expected a video file.")
    if not path.exists():
        raise MediaError(f"{path} does not exist; expected a video file.")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes); expected a video file.")


def _nothing(path: Path, count: int, start: int) -> str:
    if count == 0:
        return f"{path} cannot be read as a video: no picture in it can be decoded; it may be damaged."
    frames = "1 frame" if count == 1 else f"{count} frames"
    return (
        f"{path} has {frames}; the first frame wanted is {start}, so none is left. "
        f"Expected a first frame below {count}; counting starts at 0."
    )


class _Counted:
    """An iterator that knows how many items it has given."""

    def __init__(self, items: Iterator):
        self._items, self.count = items, 0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        item = next(self._items)
        self.count += 1
        return item


def _require_room(path: Path, count: int, picture: np.ndarray) -> None:
    """Raise `MediaError` when the frames read so far, once as they are and once as float32, fill the whole memory."""
    there, needed = machine_memory(), count * (picture.nbytes + picture.size * 4)
    if there is not None and needed > there:
        height, width = picture.shape[:2]
        raise MediaError(
            f"{path} is too long to be read at once: its first {count} frames of {width} x {height} take "
            f"{gigabytes(needed)}, and this machine has {gigabytes(there)} of memory. Read fewer frames, or every n-th."
        )


def open_source(path: Path, plain: bool = False) -> Animation | Film:
    """What `path` holds, ready to give its frames. Raises what `in_words` puts into words."""
    if not is_animation(path):
        return Film(path, _plainly if plain else _to_rgb)
    pictures, fps, notes = read_animation(path)
    # Pictures shown for different times are brought to one rate.
    return Animation(_resampled(pictures, fps, fps) if notes else pictures, fps, notes)


@dataclass
class Animation:
    """An animated GIF or WebP; its frames can be asked for once."""

    pictures: Iterator
    fps: Fraction
    notes: list[str]
    count: int = 0
    damage: str | None = None

    def frames(
        self,
        start: float = 0.0,
        size: tuple[int, int] | None = None,
        wanted: Callable[[float], bool] | None = None,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """As `Film.frames`."""
        from PIL import Image

        for time, picture in self.pictures:
            self.count += 1
            if time >= start and (wanted is None or wanted(time)):
                resized = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC) if size else picture
                yield time, np.asarray(resized)

    def sound(self, start: float, seconds: float) -> None:
        """None: pictures make no sound."""
        return None


class Film:
    """The first picture track of a file that FFmpeg can read.

    Attributes:
        fps: frames per second. count: frames decoded so far.
        announced: frames the header tells of, 0 where it does not. seconds: length by the header, or None.
        notes: remarks, sentences. damage: what was found broken by the time the frames have ended, a sentence.
    """

    def __init__(self, path: Path, to_rgb: Callable[..., np.ndarray] | None = None):
        import av

        self._to_rgb = to_rgb or _to_rgb
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
            length = stream.duration * stream.time_base if stream.duration else Fraction(container.duration or 0, 10**6)
            self.seconds = float(length) or None
            if (name := _HDR.get(stream.codec_context.color_trc)) is not None:
                self.notes.append(f"The video is HDR ({name}); its colours are read without tone mapping.")

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
                    own = own or (frame.width, frame.height)
                    if wanted is None or wanted(time):
                        yield time, self._to_rgb(frame, own, size)
                    given = time
                return
            except _BadSeek:
                pass  # on from the frame that was reached, decoding from the beginning
        for frame, time in self._decode(None):
            own = own or (frame.width, frame.height)
            if time >= start and time > given and (wanted is None or wanted(time)):
                yield time, self._to_rgb(frame, own, size)

    def _decode(self, start: float | None) -> Iterator[tuple[Any, float]]:
        """(decoded frame, its time) of the whole file, noting damage; or, with `start`, from that time on.

        Raises `_BadSeek` when the file cannot be read right from there.
        """
        import av

        with av.open(str(self._path), metadata_errors="replace") as container:
            stream = _picture_track(container)
            stream.thread_type = "AUTO"
            damaged, faulty = False, 0
            try:
                if start is not None:
                    yield from _from_key_frame(container, stream, start)
                    return
                for frame in container.decode(stream):
                    time = frame.time if frame.time is not None else float(self.count / self.fps)
                    self.count += 1
                    faulty += frame.is_corrupt
                    yield frame, time
            except av.error.InvalidDataError:
                if start is not None:
                    raise _BadSeek from None
                if self.count == 0:
                    raise
                damaged = True  # what was read is good; older FFmpeg fails here where newer ones just end
        self._find_damage(damaged, faulty)

    def _find_damage(self, broken: bool, faulty: int) -> None:
        found = []
        if faulty:
            found.append(f"The file is damaged: {faulty} of its {self.count} frames could be read in part only.")
        if broken or self.count < self.announced - 1:  # edit lists may rightly hide one
            announced = self.announced or "more"
            found.append(f"The file announces {announced} frames, but {self.count} could be read: it may be cut short.")
        self.notes += found
        self.damage = " ".join(found) or None

    def sound(self, start: float, seconds: float) -> dict[str, Any] | None:
        """Of that stretch, as `read_sound`; None where the file has none."""
        return read_sound(self._path, start, float(seconds))


def _picture_track(container):
    """The first video track that is not the cover picture of a piece of music; None without one."""
    from av.stream import Disposition

    moving = (s for s in container.streams.video if not Disposition.attached_pic & s.disposition)
    return next(moving, None)


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


def _to_rgb(frame, own: tuple[int, int], size: tuple[int, int] | None = None) -> np.ndarray:
    """`[H, W, 3]` sRGB of one decoded frame, upright; 16 bits where the file has more than 8.

    own: the file's (width, height) before turning upright. size: (width, height) wanted, upright; None = its own.
    """
    deep = max((component.bits for component in frame.format.components), default=8) > 8
    options: dict[str, Any] = {}
    if not frame.format.is_rgb and frame.format.name not in ("pal8", "gray", "monow", "monob"):
        # Files that do not say are BT.709 when large and BT.601 when small, as players assume.
        guess = "ITU709" if frame.height >= 720 or frame.width >= 1280 else "ITU601"
        full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
        options = {
            "src_colorspace": _matrix(_MATRICES.get(int(frame.colorspace), guess)),
            "src_color_range": "JPEG" if full else "MPEG",
            # RGB has no range, but PyAV 14 skips the matrix when source and target range are equal.
            "dst_color_range": "MPEG" if full else "JPEG",
        }
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    width, height = own if size is None else size[::-1] if turns % 2 else size
    picture = frame.reformat(width, height, format="rgb48le" if deep else "rgb24", interpolation=_SCALING, **options)
    array = picture.to_ndarray()
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def _plainly(frame, own: tuple[int, int], size: tuple[int, int] | None = None) -> np.ndarray:
    """`[H, W, 3]` uint8 of one decoded frame by PyAV's defaults; arguments as of `_to_rgb`."""
    wanted = size or own
    if (frame.width, frame.height) != wanted:
        frame = frame.reformat(*wanted)
    return frame.to_ndarray(format="rgb24")


def _matrix(name: str) -> str:
    from av.video.reformatter import Colorspace

    return name if name in Colorspace.__members__ else "ITU709"  # older PyAV lacks BT2020


def _resampled(frames: Iterator, rate: Fraction, own: Fraction) -> Iterator[tuple[float, np.ndarray]]:
    """Repeat or drop frames so that they come at `rate`: at each instant, the frame that is on the screen."""
    held, begin, emitted = None, 0.0, 0
    slack = float(1 / own) / 100  # time stamps are rounded
    for time, picture in frames:
        if held is None:
            begin = time
        else:
            while float(emitted / rate) < time - begin - slack:
                yield begin + float(emitted / rate), held
                emitted += 1
        held, last = picture, time
    if held is not None:
        while float(emitted / rate) < last + float(1 / own) - begin - slack:
            yield begin + float(emitted / rate), held
            emitted += 1
