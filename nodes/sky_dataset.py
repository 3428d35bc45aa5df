"""Training, station 1: rendered skies as a data set."""

from __future__ import annotations

from . import _checks, _training_data, host
from ._training_inputs import HIDDEN, choice, clips_output, frame_rate, length, switch, whole
from .host import io


class SoraDiTSkyDataset(io.ComfyNode):
    """Numbers -> SORA_CLIPS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTSkyDataset",
            display_name="Sky Dataset (Sora DiT)",
            category="Sora DiT/training",
            description="Rendered skies as training data: captioned clips of clouds, sun, moon, stars, rain and "
            "balloons over land and sea, made from numbers when they are needed. The starter model was trained on "
            "them; they are good for trying a training out before you bring your own clips.",
            search_aliases=["training data", "synthetic", "starter", "toy dataset"],
            inputs=[
                whole(
                    "count", 4000, 1, 10_000_000,
                    "How many clips, 1 to 10000000. The starter has seen 622000. More than are looked at in all steps "
                    "bring nothing.",
                ),
                whole("width", 96, 16, 1024, "Width of the frames in pixels, 16 to 1024, a multiple of 8."),
                whole("height", 96, 16, 1024, "Height of the frames in pixels, 16 to 1024, a multiple of 8."),
                length(),
                frame_rate(
                    "Frames per second, 0.5 to 120. Fewer make a clip of the same number of frames last longer and its "
                    "movements larger."
                ),
                whole(
                    "sky_seed", 22, 0, 2**31 - 1,
                    "Which of the endless skies, 0 to 2147483647; another number gives other clips.",
                    display_name="seed of the skies",
                ),
                choice(
                    "part", ["train", "heldout"],
                    "train: what one may train on. heldout: combinations of words that are never in it, to see whether "
                    "a model has understood the words.",
                    advanced=True,
                ),
                switch(
                    "balanced", True,
                    "Empty air, balloons, birds and planes equally often, as the starter's training has them: what is "
                    "rare is learned last. Off: mostly empty air.",
                    optional=True, advanced=True,
                ),
                switch(
                    "twins", False,
                    "Every second clip is the one before it with one word changed: the sun elsewhere, another cover, "
                    "the balloon the other way. Trained on together, with the same noise, such pairs show what the "
                    "word does. There are half as many different clouds.",
                    optional=True, advanced=True,
                ),
            ],
            outputs=[clips_output()],
            hidden=HIDDEN,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, width=None, height=None, frames=None, fps=None) -> bool | str:
        return _checks.verdict(
            _checks.within(cls, width=width, height=height, frames=frames, fps=fps),
            width=lambda: _training_data.check_edge("width", width),
            height=lambda: _training_data.check_edge("height", height),
            frames=lambda: _training_data.check_frames(frames),
            fps=lambda: _training_data.check_sky_rate(fps),
        )

    @classmethod
    def execute(cls, balanced=True, twins=False, **numbers) -> io.NodeOutput:
        return io.NodeOutput(_training_data.skies(balanced=balanced, twins=twins, **numbers))


NODES = (SoraDiTSkyDataset,)
