"""The way in for a video file: its frames, its sound and its speed."""

from __future__ import annotations

from . import _checks, _files, _video, host
from .host import io


class SoraDiTLoadVideo(io.ComfyNode):
    """File -> IMAGE, AUDIO, fps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTLoadVideo",
            display_name="Load Video (Sora DiT)",
            category="Sora DiT/video",
            description="Reads a video file from the input folder: its frames, its sound and how fast it plays.",
            search_aliases=["video upload", "open video", "video to images"],
            inputs=[
                io.Combo.Input(
                    "video",
                    options=host.input_files("video"),
                    upload=io.UploadType.video,
                    tooltip="The video file (mp4, webm, mkv, mov, gif, ...) in the input folder. The upload button "
                    "brings a new one there.",
                ),
                io.Int.Input(
                    "start_frame",
                    display_name="first frame",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Which frame to start with, 0 to 1000000; 0 is the first one.",
                ),
                io.Int.Input(
                    "max_frames",
                    display_name="frames at most",
                    default=0,
                    min=0,
                    max=100_000,
                    tooltip="How many frames to read, 0 to 100000; 0 reads all. Each frame stays in memory: 1000 "
                    "frames of 1280 x 720 are 11 GB. For the encode node read 1, 5, 9, 13, ... frames.",
                ),
                io.Int.Input(
                    "every_nth",
                    display_name="take every n-th frame",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="1 takes every frame, 2 every second one, and so on up to 100. The frames per second "
                    "become fewer by the same factor, so the clip plays at the speed of the original. 2 turns 24 "
                    "frames per second into 12, which the starter was trained at.",
                ),
                io.Float.Input(
                    "force_fps",
                    display_name="read at frames per second",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=1.0,
                    round=0.001,
                    tooltip="0 keeps the frames as they are in the file. 0.01 to 1000: frames are left out or "
                    "repeated so that so many make one second, at the speed of the original; done before all the other "
                    "choices here. The starter was trained at 12.",
                ),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="The frames."),
                io.Audio.Output(
                    "audio", display_name="audio", tooltip="The sound of these frames; nothing if the file has none."
                ),
                io.Float.Output("fps", display_name="fps", tooltip="Frames per second of these frames."),
                io.Int.Output("frames", display_name="frames", tooltip="How many frames were read."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, video=None, force_fps=None) -> bool | str:
        return _checks.verdict(
            video=lambda: video is None or host.input_path(video),
            force_fps=lambda: not force_fps or _video.check_rate(force_fps),
        )

    @classmethod
    def fingerprint_inputs(cls, video, **_) -> list:
        return [_files.fingerprint(host.input_path(video))]

    @classmethod
    def execute(cls, video, start_frame, max_frames, every_nth, force_fps) -> io.NodeOutput:
        clip = _video.read(host.input_path(video), start_frame, max_frames, every_nth, force_fps)
        for remark in clip.notes:
            host.note(cls, remark)
        return io.NodeOutput(clip.frames, clip.audio, float(clip.fps), len(clip.frames))


NODES = (SoraDiTLoadVideo,)
