"""VIDEO values: from files and frames, and back into files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...dit_core.errors import MediaError
from ..comfy_api import InputImpl, Types, io, ui
from . import saving
from .base import CoreNode, frames_of
from .image_files import prefix_input
from .ours import checks, files, handles, host, video_files

# What an MP4 may hold that is copied as it is; anything else is decoded and compressed again.
_COPIED_VIDEO, _COPIED_AUDIO = ("h264", "hevc", "av1"), ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
_WEBM_CODECS = ("vp9", "av1")
_CRF = 23  # x264's own default, which core leaves as it is


class LoadVideo(CoreNode):
    """File -> VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadVideo",
            display_name="Load Video",
            category="image/video",
            description="A video file from the input folder.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=host.input_files("video"),
                    upload=io.UploadType.video,
                    tooltip='The file in the input folder; "name.mp4 [output]" is one in the output folder.',
                )
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def validate_inputs(cls, file=None) -> bool | str:
        return checks.verdict(file=lambda: file is None or host.input_path(file))

    @classmethod
    def fingerprint_inputs(cls, file) -> list:
        return list(files.file_identity(host.input_path(file)))

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        return io.NodeOutput(InputImpl.VideoFromFile(host.input_path(file)))


class CreateVideo(CoreNode):
    """IMAGE, fps, optional AUDIO -> VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CreateVideo",
            display_name="Create Video",
            category="image/video",
            description="Joins frames and sound into a video.",
            inputs=[
                io.Image.Input("images", tooltip="The frames."),
                io.Float.Input("fps", default=30.0, min=1.0, max=120.0, step=1.0, tooltip="Frames per second."),
                io.Audio.Input("audio", optional=True, tooltip="The sound; it starts with the first frame."),
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def execute(cls, images, fps, audio=None) -> io.NodeOutput:
        from ...dit_core.media.probe import exact_fps

        handles.check_audio(audio)
        return io.NodeOutput(host.video_from_components(checks.images_of(images), exact_fps(fps), audio))


class GetVideoComponents(CoreNode):
    """VIDEO -> IMAGE, AUDIO, fps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GetVideoComponents",
            display_name="Get Video Components",
            category="image/video",
            description="Takes a video apart into frames, sound and frames per second.",
            inputs=[io.Video.Input("video", tooltip="The video.")],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Float.Output(display_name="fps"),
            ],
        )

    @classmethod
    def execute(cls, video) -> io.NodeOutput:
        handles.require(video, "video", "get_components")
        clip = video.get_components()
        return io.NodeOutput(clip.images, clip.audio, float(clip.frame_rate))


class SaveVideo(CoreNode):
    """VIDEO -> an MP4 file; a file that is MP4 already is not compressed a second time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveVideo",
            display_name="Save Video",
            category="image/video",
            description="Writes a video as MP4 that holds the workflow.",
            inputs=[
                io.Video.Input("video", tooltip="The video to save."),
                prefix_input("video/ComfyUI"),
                io.Combo.Input("format", options=["auto", "mp4"], default="auto", tooltip="Kind of file."),
                io.Combo.Input("codec", options=["auto", "h264"], default="auto", tooltip="How it is compressed."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        return saving.prefix_verdict(filename_prefix)

    @classmethod
    def execute(cls, video, filename_prefix, format, codec) -> io.NodeOutput:
        handles.require(video, "video", "get_components")
        texts = host.run_metadata(cls)
        source = Path(video.file) if isinstance(video, InputImpl.VideoFromFile) else None
        size = _copyable(source, codec) if source is not None else None
        if size is not None:
            saved = saving.save(cls, filename_prefix, "mp4", lambda _, path: _copy(source, path, texts), size=size)
            return io.NodeOutput(ui=ui.PreviewVideo(saved))
        return _encode(cls, video.get_components(), filename_prefix, video_files.How("mp4", "h264", _CRF, texts))


class SaveWEBM(CoreNode):
    """IMAGE -> a WebM file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveWEBM",
            category="image/video",
            description="Writes frames as a WebM video that holds the workflow.",
            is_experimental=True,
            inputs=[
                io.Image.Input("images"),
                prefix_input("ComfyUI"),
                io.Combo.Input("codec", options=list(_WEBM_CODECS)),
                io.Float.Input("fps", default=24.0, min=0.01, max=1000.0, step=0.01, tooltip="Frames per second."),
                io.Float.Input(
                    "crf",
                    default=32.0,
                    min=0,
                    max=63.0,
                    step=1,
                    tooltip="How much is lost: higher is smaller and worse.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None, codec=None, fps=None) -> bool | str:
        return checks.verdict(
            filename_prefix=lambda: saving.check_prefix(filename_prefix),
            codec=lambda: codec is None or _check_webm_codec(codec),
            fps=lambda: fps is None or _check_webm_rate(fps, codec),
        )

    @classmethod
    def execute(cls, images, filename_prefix, codec, fps, crf) -> io.NodeOutput:
        from ...dit_core.media import CODECS
        from ...dit_core.media.probe import exact_fps

        scale = CODECS[codec].scale
        quality = min(max(round(crf), min(scale)), max(scale))  # AV1's encoder has no 0
        clip = Types.VideoComponents(frames_of(images, "images"), exact_fps(fps))
        return _encode(cls, clip, filename_prefix, video_files.How("webm", codec, quality, host.run_metadata(cls)))


def _check_webm_codec(codec: str) -> None:
    """Raise `MediaError` for other codecs: of an input that `validate_inputs` takes, nothing else is checked."""
    if codec not in _WEBM_CODECS:
        raise MediaError(f"got {codec!r}; expected one of: {', '.join(_WEBM_CODECS)}.")


def _check_webm_rate(fps: float, codec: str | None) -> None:
    """Raise `MediaError` for a frame rate that no file, or not this codec, can have."""
    from ...dit_core.media import CODECS
    from ...dit_core.media.probe import check_rate, exact_fps

    exact = exact_fps(fps)
    if codec in _WEBM_CODECS:
        check_rate(CODECS[codec], exact)


def _encode(cls: type, clip: Any, prefix: str, how: video_files.How) -> io.NodeOutput:
    """Compress the components of a VIDEO into the next file of `prefix`."""
    height, width = clip.images.shape[1:3]
    (target,) = saving.targets(prefix, width, height, how.container, 1)
    target, remarks = video_files.write(target, clip, how, lambda total: host.progress(cls, total))
    for remark in remarks:
        host.note(cls, remark)
    return io.NodeOutput(ui=host.saved(target))


def _copyable(path: Path, codec: str) -> tuple[int, int] | None:
    """(width, height) of a file whose streams can go into an MP4 as they are, else None.

    Raises:
        MediaError: it cannot be read as a video.
    """
    import av

    from ...dit_core.media.probe import in_words

    with in_words(path, "read as a video"), av.open(str(path)) as file:
        video, audio = file.streams.video, file.streams.audio
        names = {stream.codec_context.name for stream in audio if stream.codec_context is not None}
        if "mp4" not in file.format.name.split(",") or len(video) != 1 or video[0].codec_context is None:
            return None
        kind = video[0].codec_context.name.removeprefix("lib")
        kind = "av1" if "av1" in kind or kind == "dav1d" else kind  # decoders of AV1 have names of their own
        if kind not in _COPIED_VIDEO or codec not in ("auto", kind) or not names <= set(_COPIED_AUDIO):
            return None
        return video[0].width, video[0].height


def _copy(source: Path, path: Path, texts: dict[str, str]) -> None:
    """Copy the compressed pictures and sound into a new MP4; `texts` are added to those of the source."""
    import av

    with av.open(str(source)) as read, av.open(str(path), "w", format="mp4", options=_options()) as written:
        written.metadata.update({**read.metadata, **texts})
        streams = {
            stream: written.add_stream_from_template(stream) for stream in (*read.streams.video, *read.streams.audio)
        }
        for packet in read.demux(*streams):
            if packet.dts is not None:  # the last packet of a stream is an empty mark of its end
                packet.stream = streams[packet.stream]
                written.mux(packet)


def _options() -> dict[str, str]:
    from ...dit_core.media import CONTAINERS

    return dict(CONTAINERS["mp4"].options)


NODES = (LoadVideo, CreateVideo, GetVideoComponents, SaveVideo, SaveWEBM)
