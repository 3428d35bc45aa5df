"""Writing a video: frames stream into the encoder, and the file appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint.atomic import WholeFile
from ..errors import MediaError
from .audio import Sound, encoder_rate
from .codecs import Container, VideoCodec
from .frames import FrameFeed, to_rgb8, to_yuv420
from .probe import check_rate, check_size, check_target, exact_fps, get_container, in_words, probe_codec, quality_number

_BT709, _LIMITED = 1, 1  # AVCOL_*_BT709 and AVCOL_RANGE_MPEG


@dataclass(frozen=True)
class WriteResult:
    """What was written: path, size in pixels, number of frames, and remarks for the person (sentences)."""

    path: Path
    width: int
    height: int
    frames: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """Everything about a file except its frames, checked."""

    path: Path
    container: Container
    codec: VideoCodec
    fps: Fraction
    quality: int | None
    sound: Sound | None
    metadata: dict[str, str]


def write_video(
    path: str | Path,
    frames: Iterable,
    fps: float | int | Fraction,
    *,
    codec: str = "auto",
    quality: int | str | None = None,
    audio: dict[str, Any] | None = None,
    metadata: dict[str, str] | None = None,
    following: Callable[[Path], Path] | None = None,
) -> WriteResult:
    """Write frames into a video file of the kind that its name ends in.

    Memory does not grow with the clip's length (except for GIF and WebP, which Pillow holds as 8-bit pictures).
    Everything that can be checked is checked before the first frame is asked for.

    Args:
        path: ends in one of `CONTAINERS`; its folder exists. An older file there is replaced at the very end,
            unless `following` is given.
        frames: yields frames `[H, W, 3]` or groups `[F, H, W, 3]`, sRGB, float in 0..1 (or uint8); see `FrameFeed`.
        fps: frames per second, kept exactly; 29.97 means 30000/1001.
        codec: a name in `CODECS`, or "auto".
        quality: a name in `QUALITIES` or a number on the codec's own scale (CRF); None is "high".
        audio: `{"waveform": [1, C, S] in -1..1, "sample_rate": Hz}`; cut where the pictures end.
        metadata: texts stored in the file; `read_metadata` reads them back. Matroska and WebM ignore case in names.
        following: makes the next name from one that is taken when the file is finished; see `WholeFile`. The result
            says which name it became.

    Raises:
        MediaError: an argument that cannot be met, a frame that is not finite or of another size, no frame at all, or
            the file cannot be written; nothing is left behind. Whatever `frames` raises passes through unchanged.
    """
    path = Path(path)
    container = get_container(path.suffix)
    chosen = probe_codec(path.suffix, codec, audio is not None)
    number = quality_number(chosen, quality)
    sound = Sound(audio) if audio is not None else None
    job = Job(path, container, chosen, exact_fps(fps), number, sound, _checked_metadata(metadata))
    check_rate(chosen, job.fps)
    check_target(path)
    feed = FrameFeed(frames, even=chosen.pixel_format == "yuv420p")
    target = WholeFile(path, following)
    notes = _write(target, feed, job)
    return WriteResult(target.path, feed.width, feed.height, feed.count, tuple(feed.notes() + notes))


def _checked_metadata(metadata: dict[str, str] | None) -> dict[str, str]:
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str) or not key or "\0" in key + value:
            raise MediaError(f"The metadata {key!r} is a {type(value).__name__}; expected a text without zero bytes.")
    return dict(metadata or {})


def _write(target: WholeFile, feed: FrameFeed, job: Job) -> list[str]:
    """Encode all frames; returns remarks. The encoder opens with the first frame, which tells the size."""
    if job.codec.encoder == "pillow":
        from .animation import AnimationWriter as Writer
    else:
        Writer = StreamWriter
    writer = None
    try:
        for frame in feed:
            with in_words(job.path):
                if writer is None:
                    check_size(job.codec, *feed.given)
                writer = writer or Writer(target.temporary, job, feed.width, feed.height)
                writer.add(frame)
        if writer is None:
            raise MediaError(f"{job.path} cannot be written: there are no frames; expected at least one.")
        with in_words(job.path):
            notes = writer.close()
            target.commit()
    except BaseException:
        if writer is not None:
            writer.abandon()
        target.discard()
        raise
    return notes


class _OwnFile:
    """The file that FFmpeg writes to, opened and closed by us.

    A file that PyAV opens itself stays open for ever when its header cannot be written or the encoder refuses the
    size: its space on a full disk would come back only when the process ends.
    """

    def __init__(self, path: Path):
        self.name = str(path)  # FFmpeg opens it a second time to put an MP4's index in front
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 - `close` closes it
        self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close

    def write(self, data: bytes) -> int:
        """All of `data`; an unbuffered file may take only a part at a time."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        return len(data)


class StreamWriter:
    """One FFmpeg output file; frames and sound are interleaved as they come."""

    def __init__(self, temporary: Path, job: Job, width: int, height: int):
        import av

        self._av, self._job, self._count = av, job, 0
        self._file = _OwnFile(temporary)
        try:
            options = dict(job.container.options)
            self._container = av.open(self._file, "w", format=job.container.format, options=options)
            self._container.metadata.update(job.metadata)
            self._video = self._add_video(width, height)
            self._audio = self._add_audio() if job.sound else None
        except BaseException:
            self.abandon()
            raise

    def _add_video(self, width: int, height: int):
        codec = self._job.codec
        options = {key: value.format(q=self._job.quality) for key, value in codec.options.items()}
        stream = self._container.add_stream(codec.encoder, rate=self._job.fps, options=options)
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = width, height, codec.pixel_format
        stream.time_base = context.time_base = 1 / self._job.fps
        if codec.pixel_format == "yuv420p":
            context.color_primaries = context.color_trc = context.colorspace = _BT709
            context.color_range = _LIMITED
        if codec.tag and self._job.container.format in ("mp4", "mov"):
            context.codec_tag = codec.tag
        if codec.encoder == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "0")  # it prints to the terminal; its only switch: fatal errors only
        try:
            context.open()
        except self._av.FFmpegError as error:
            raise MediaError(
                f"{self._job.path} cannot be written: the {codec.label} encoder does not take {width}x{height} at "
                f"{float(self._job.fps):g} frames per second ({error.strerror}). Expected another size, "
                "frame rate or codec."
            ) from error
        return stream

    def _add_audio(self):
        sound, container = self._job.sound, self._job.container
        stream = self._container.add_stream(container.audio, rate=encoder_rate(container.audio, sound.rate))
        stream.codec_context.layout = sound.layout
        stream.codec_context.bit_rate = container.audio_bit_rate * max(2, sound.channels) // 2
        return stream

    def add(self, frame: Tensor) -> None:
        """Encode one frame `[H, W, 3]`, and the sound up to its end."""
        if self._job.codec.pixel_format == "yuv420p":
            picture = self._av.VideoFrame.from_ndarray(to_yuv420(frame), format="yuv420p")
            picture.colorspace, picture.color_range = _BT709, _LIMITED
        else:
            picture = self._av.VideoFrame.from_ndarray(to_rgb8(frame), format="rgb24")
            picture = picture.reformat(format=self._job.codec.pixel_format)
        picture.pts, picture.time_base = self._count, 1 / self._job.fps
        self._container.mux(self._video.encode(picture))
        self._count += 1
        if self._audio is not None:
            for block in self._job.sound.until(self._count / self._job.fps):
                self._container.mux(self._audio.encode(block))

    def close(self) -> list[str]:
        """Finish the file; returns remarks."""
        for stream in (self._video, self._audio):
            if stream is not None:
                self._container.mux(stream.encode(None))
        self._container.close()
        self._file.close()
        sound = self._job.sound
        if sound is None:
            return []
        length, shown = sound.samples / sound.rate, float(self._count / self._job.fps)
        if length <= shown + 0.1:
            return []
        return [f"The audio is {length:.2f} s long and the video {shown:.2f} s: the audio was cut there."]

    def abandon(self) -> None:
        """Close the file after a failure, whatever state it is in."""
        with suppress(Exception):
            self._container.close()
        with suppress(Exception):
            self._file.close()
