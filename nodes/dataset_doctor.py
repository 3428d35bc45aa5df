"""Training, station 2: what is wrong with the clips, before hours are spent on them."""

from __future__ import annotations

from . import _training_data, host
from ._training_inputs import HIDDEN, whole
from .host import io


class SoraDiTDatasetDoctor(io.ComfyNode):
    """SORA_CLIPS -> report, contact sheet."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTDatasetDoctor",
            display_name="Dataset Doctor (Sora DiT)",
            category="Sora DiT/training",
            description="Looks at a data set before you train on it: files that cannot be read, clips that are there "
            "twice, scene cuts, missing or too long captions, still, black or barred pictures, mixed frame rates. It "
            "says what is wrong and what to do, and shows the clips as the training will see them.",
            search_aliases=["dataset check", "duplicates", "contact sheet", "inspect clips"],
            inputs=[
                host.SoraClips.Input("clips", tooltip="The data set, from Clip Dataset or Sky Dataset."),
                whole(
                    "clips_in_row", 4, 1, 12,
                    "At most so many clips of each size on the contact sheet, 1 to 12; each is shown by its first, "
                    "middle and last frame.",
                    display_name="clips in a row",
                ),
                whole("frame_height", 96, 32, 512, "Height of the frames on the sheet in pixels, 32 to 512.",
                      advanced=True, display_name="frame height"),
                io.Clip.Input(
                    "clip", optional=True,
                    tooltip="The text encoder to be trained with, to find captions that are longer than it reads. "
                    "Without it the length of captions is not looked at.",
                ),
            ],
            outputs=[
                io.String.Output("report", display_name="report", tooltip="The report in words."),
                io.Image.Output("sheet", display_name="contact sheet", tooltip="The clips as the training sees them."),
            ],
            hidden=HIDDEN,
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, clips, clips_in_row, frame_height, clip=None) -> io.NodeOutput:
        report, sheet = _training_data.examined(clips, clips_in_row, frame_height, clip)
        return io.NodeOutput(report, sheet, ui=host.shown(cls, sheet, report))


NODES = (SoraDiTDatasetDoctor,)
