"""Station 7: frames, a frame rate and sound become a video."""

from __future__ import annotations

from ..dit_core.media.probe import exact_fps
from . import _checks, handles, host
from .host import io


class SoraDiTAssembleVideo(io.ComfyNode):
    """IMAGE, fps, optional AUDIO -> VIDEO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTAssembleVideo",
            display_name="Assemble Video (Sora DiT)",
            category="Sora DiT/video",
            description="Joins frames into a video that plays at a given speed, with sound if you connect some.",
            search_aliases=["create video", "fps", "frame rate", "add audio"],
            inputs=[
                io.Image.Input("images", tooltip="The frames, in the order in which they are shown."),
                io.Float.Input(
                    "fps",
                    display_name="frames per second",
                    default=12.0,
                    min=0.01,
                    max=1000.0,
                    step=1.0,
                    round=0.001,
                    tooltip="Frames shown in one second, 0.01 to 1000. Use what the model was trained at (starter: "
                    "12): more plays the clip faster and shorter, fewer slower and longer. 23.976, 29.97 and 59.94 are "
                    "taken as the exact television rates.",
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Sound for the video. It starts with the first frame; what is longer than the frames is "
                    "left out.",
                ),
            ],
            outputs=[io.Video.Output("video", display_name="video", tooltip="The video. Connect it to a save node.")],
        )

    @classmethod
    def execute(cls, images, fps, audio=None) -> io.NodeOutput:
        handles.check_audio(audio)
        frames = _checks.images_of(images)
        return io.NodeOutput(host.video_from_components(frames, exact_fps(fps), audio))


NODES = (SoraDiTAssembleVideo,)
