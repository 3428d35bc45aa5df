"""Stand-in for ComfyUI's VIDEO values: frames, audio and an exact frame rate, from tensors or from a file.

Reading and writing goes through `dit_core.media`, which is imported when it is first needed.
"""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..dit_core.errors import MediaError


class VideoCodec(str, Enum):
    """Codecs that ComfyUI 0.8.0 knows by name; `save_to` takes any name of `dit_core.media`."""

    AUTO = "auto"
    H264 = "h264"

    @classmethod
    def as_input(cls) -> list[str]:
        """Names for a Combo."""
        return [member.value for member in cls]


class VideoContainer(str, Enum):
    """Containers that ComfyUI 0.8.0 knows by name."""

    AUTO = "auto"
    MP4 = "mp4"

    @classmethod
    def as_input(cls) -> list[str]:
        """Names for a Combo."""
        return [member.value for member in cls]

    @classmethod
    def get_extension(cls, value: str) -> str:
        """File name extension without the dot."""
        return "mp4" if cls(value) in (cls.AUTO, cls.MP4) else ""


@dataclass
class VideoComponents:
    """A video taken apart: images float [F, H, W, 3] in 0..1, frames per second, AUDIO dict or None."""

    images: Any
    frame_rate: Fraction
    audio: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class VideoInput:
    """What travels on a VIDEO wire."""

    def get_components(self) -> VideoComponents:
        """Frames, rate and audio; may decode the whole file."""
        raise NotImplementedError

    def save_to(
        self,
        path: str | Path | io.BytesIO,
        format: str = VideoContainer.AUTO,
        codec: str = VideoCodec.AUTO,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a video file; further keywords (quality, crf) go to `dit_core.media.write_video`."""
        write(self.get_components(), path, format, codec, metadata, **kwargs)

    def get_stream_source(self) -> str | io.BytesIO:
        """A path or buffer that a video library can open."""
        buffer = io.BytesIO()
        self.save_to(buffer)
        buffer.seek(0)
        return buffer

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        images = self.get_components().images
        return int(images.shape[2]), int(images.shape[1])

    def get_frame_count(self) -> int:
        """Number of frames."""
        return int(self.get_components().images.shape[0])

    def get_frame_rate(self) -> Fraction:
        """Frames per second."""
        return self.get_components().frame_rate

    def get_duration(self) -> float:
        """Seconds."""
        return float(self.get_frame_count() / self.get_frame_rate())

    def get_container_format(self) -> str:
        """Name of the container, such as mp4."""
        return "mp4"


class VideoFromComponents(VideoInput):
    """A VIDEO made of tensors."""

    def __init__(self, components: VideoComponents):
        self.components = components

    def get_components(self) -> VideoComponents:
        return VideoComponents(
            images=self.components.images,
            frame_rate=self.components.frame_rate,
            audio=self.components.audio,
            metadata=self.components.metadata,
        )


class VideoFromFile(VideoInput):
    """A VIDEO that is still a file; decoded on demand and kept."""

    def __init__(self, file: str | Path):
        self.file = Path(file)
        self._components: VideoComponents | None = None

    def get_components(self) -> VideoComponents:
        if self._components is None:
            from ..dit_core.media import read_video

            clip = read_video(self.file, plain=True)  # the same frames as in ComfyUI
            self._components = VideoComponents(clip.frames, clip.fps, clip.audio, dict(clip.metadata))
        return self._components

    def get_stream_source(self) -> str:
        return str(self.file)

    def get_container_format(self) -> str:
        return self.file.suffix.lstrip(".").lower()


def write(
    components: VideoComponents,
    path: str | Path | io.BytesIO,
    format: str,
    codec: str,
    metadata: dict[str, Any] | None,
    **kwargs: Any,
) -> None:
    """Write `components` as a video file with the words of ComfyUI's `save_to` (format and codec may be "auto").

    Raises:
        MediaError: it cannot be written, or the file's name does not end in `format`.
    """
    container, codec = _plain(format), _plain(codec)
    if not isinstance(path, (str, Path)):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"video.{'mp4' if container == 'auto' else container}")
            write(components, file, format, codec, metadata, **kwargs)
            path.write(file.read_bytes())
        return
    path = Path(path)
    if container not in ("auto", path.suffix.lstrip(".").lower()):
        raise MediaError(f"{path} shall be saved as {container}; expected a file name that ends in .{container}.")
    from ..dit_core.media import write_video

    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
    write_video(
        path,
        components.images,
        components.frame_rate,
        codec=codec,
        audio=components.audio,
        metadata=texts,
        **kwargs,
    )


def _plain(name: str) -> str:
    return name.value if isinstance(name, Enum) else str(name)
