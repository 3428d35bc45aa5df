"""Station 8: a video becomes a file that plays anywhere and remembers how it was made."""

from __future__ import annotations

from ..dit_core.media import CODECS, CONTAINERS, QUALITIES
from . import _checks, _video, handles, host
from .host import io


class SoraDiTSaveVideo(io.ComfyNode):
    """VIDEO -> a file in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTSaveVideo",
            display_name="Save Video (Sora DiT)",
            category="Sora DiT/video",
            description="Writes the video into the output folder and plays it here. The file holds the workflow: drop "
            "it on the editor to get it back (GIFs excepted).",
            search_aliases=["export", "mp4", "webm", "gif", "write video"],
            inputs=[
                io.Video.Input("video", tooltip="The video to save."),
                io.String.Input(
                    "filename_prefix",
                    display_name="file name",
                    default="sora_dit",
                    tooltip="How the file name begins; a number is added. sky/clip saves into the folder sky. "
                    "%width%, %height%, %year%, %month%, %day%, %hour%, %minute% and %second% are filled in.",
                ),
                io.Combo.Input(
                    "container",
                    options=list(CONTAINERS),
                    default="mp4",
                    tooltip="Kind of file. mp4 plays everywhere; webm is for web pages; mkv can be lossless (codec "
                    "ffv1); mov is for editing programs; gif and webp are moving pictures without sound.",
                ),
                host.given(
                    io.Combo.Input,
                    "codec",
                    options=["auto", *(name for name, codec in CODECS.items() if codec.encoder != "pillow")],
                    default="auto",
                    advanced=True,
                    tooltip="How the pictures are compressed. auto takes what the kind of file plays best with (h264 "
                    "for mp4). hevc and av1 make smaller files that take longer to write and do not play on every "
                    "device; ffv1 loses nothing and is large.",
                ),
                io.Combo.Input(
                    "quality",
                    options=list(QUALITIES),
                    default="high",
                    tooltip="How much the compression may lose. low makes the smallest file, best one without visible "
                    "loss; each step takes about half as much space again or more.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None, container="mp4", codec="auto") -> bool | str:
        return _checks.verdict(
            filename_prefix=lambda: filename_prefix is None or host.check_prefix(filename_prefix),
            container=lambda: container is None or _video.check_container(container),
            codec=lambda: None in (container, codec) or _video.check_codec(container, codec),
        )

    @classmethod
    def execute(cls, video, filename_prefix, container, codec, quality) -> io.NodeOutput:
        handles.require(video, "video", "get_components")
        clip = video.get_components()
        width, height = clip.images.shape[2], clip.images.shape[1]
        target = host.output_target(filename_prefix, width, height, container)
        how = _video.How(container, codec, quality, host.run_metadata(cls))
        target, remarks = _video.write(target, clip, how, lambda total: host.progress(cls, total))
        for remark in remarks:
            host.note(cls, remark)
        return io.NodeOutput(ui=host.saved(target))


NODES = (SoraDiTSaveVideo,)
