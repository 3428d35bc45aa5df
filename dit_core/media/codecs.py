"""The containers and codecs this pack writes, as data. A new one is a new entry here."""

from __future__ import annotations

from dataclasses import dataclass, field

QUALITIES = ("low", "medium", "high", "best")


@dataclass(frozen=True)
class VideoCodec:
    """One way to compress pictures.

    Attributes:
        label: what people call it.
        encoder: FFmpeg's encoder, or "pillow".
        pixel_format: what the encoder is given; "yuv420p" (even sizes), "bgr0" (lossless RGB) or "rgb24".
        scale: (best, worst) number of the codec's own quality scale (CRF; for WebP 100 to 0); None = lossless or none.
        qualities: name in `QUALITIES` -> number on that scale.
        options: passed to the encoder as they are; `{q}` stands for the quality number.
        tag: four-character code that players of MP4 expect, where FFmpeg's default is another.
        least_side: smallest width and height in pixels that the encoder takes.
        most_fps: highest frame rate that it takes; None = no limit of its own.
    """

    label: str
    encoder: str
    pixel_format: str
    scale: tuple[int, int] | None = None
    qualities: dict[str, int] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    tag: str | None = None
    least_side: int = 1
    most_fps: int | None = None


@dataclass(frozen=True)
class Container:
    """One kind of file.

    Attributes:
        label: what people call it.
        format: FFmpeg's muxer, or Pillow's format.
        codecs: names in `CODECS` that it can hold; the first is the default.
        audio: FFmpeg's audio encoder; None = a kind without sound.
        audio_bit_rate: bits per second for stereo.
        options: passed to the muxer as they are.
    """

    label: str
    format: str
    codecs: tuple[str, ...]
    audio: str | None = None
    audio_bit_rate: int = 192_000
    options: dict[str, str] = field(default_factory=dict)


CODECS: dict[str, VideoCodec] = {
    "h264": VideoCodec(
        "H.264", "libx264", "yuv420p", (0, 51), {"low": 28, "medium": 23, "high": 18, "best": 12},
        # mbtree=0: with it x264 reads beyond its rows, and small pictures come out a little different each time
        {"crf": "{q}", "preset": "medium", "x264-params": "chromaloc=1:mbtree=0"},
    ),
    "hevc": VideoCodec(
        "H.265", "libx265", "yuv420p", (0, 51), {"low": 30, "medium": 26, "high": 21, "best": 15},
        {"crf": "{q}", "preset": "medium", "x265-params": "log-level=error:chromaloc=1"}, tag="hvc1", least_side=16,
    ),
    "av1": VideoCodec(
        "AV1", "libsvtav1", "yuv420p", (1, 63), {"low": 45, "medium": 35, "high": 26, "best": 18},
        {"crf": "{q}", "preset": "8"}, least_side=4, most_fps=240,
    ),
    "vp9": VideoCodec(
        "VP9", "libvpx-vp9", "yuv420p", (0, 63), {"low": 40, "medium": 32, "high": 24, "best": 15},
        {"crf": "{q}", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
    ),
    "ffv1": VideoCodec("FFV1 (lossless)", "ffv1", "bgr0", options={"level": "3", "slicecrc": "1"}),
    "gif": VideoCodec("GIF, 256 colours per frame", "pillow", "rgb24"),
    "webp": VideoCodec(
        "WebP", "pillow", "rgb24", (100, 0), {"low": 60, "medium": 80, "high": 90, "best": 98},
        {"quality": "{q}", "method": "4"},
    ),
}  # fmt: skip

# use_metadata_tags: MP4 drops metadata keys of its own choosing without it. faststart: plays while it downloads.
_MP4 = {"movflags": "+faststart+use_metadata_tags"}

# File name extension -> what is written.
CONTAINERS: dict[str, Container] = {
    "mp4": Container("MP4", "mp4", ("h264", "hevc", "av1"), "aac", options=_MP4),
    "mov": Container("QuickTime", "mov", ("h264", "hevc"), "aac", options=_MP4),
    "webm": Container("WebM", "webm", ("vp9", "av1"), "libopus", 160_000),
    "mkv": Container("Matroska", "matroska", ("h264", "hevc", "av1", "vp9", "ffv1"), "libopus", 160_000),
    "gif": Container("animated GIF", "GIF", ("gif",)),
    "webp": Container("animated WebP", "WEBP", ("webp",)),
}
