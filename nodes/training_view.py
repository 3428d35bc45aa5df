"""Training: a look at a run, while it is at work or afterwards."""

from __future__ import annotations

from . import _checks, _training_view, host
from ._training_inputs import HIDDEN, whole, words
from .host import io


class SoraDiTTrainingView(io.ComfyNode):
    """Name of a run -> curves, samples, words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTTrainingView",
            display_name="Training View (Sora DiT)",
            category="Sora DiT/training",
            description="Shows a training by its name: the loss (trained on and held out), the loss by noise level, "
            "gradient norm, learning rate and speed as curves, and the samples of the same prompts over the steps. For "
            "trainings that are done, were stopped, or run on another machine with the same output folder.",
            search_aliases=["loss curve", "plot", "training progress", "tensorboard", "monitor"],
            inputs=[
                words(
                    "run", "my_model",
                    "Name of the training. Connect the output run of a training node to look when it is done, or type "
                    "the name to look at any time.",
                ),
                whole("width", 960, 480, 2400, "Width of the curves in pixels, 480 to 2400.", advanced=True),
                whole(
                    "rows", 8, 1, 100,
                    "At most so many steps of samples, 1 to 100, from the first to the newest.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Image.Output("curves", display_name="curves", tooltip="The curves as a picture."),
                io.Image.Output("samples", display_name="samples", tooltip="The samples, a row for each step."),
                io.String.Output("summary", display_name="summary", tooltip="How far and how well, in a line."),
            ],
            hidden=HIDDEN,
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, run=None) -> bool | str:
        return _checks.verdict(run=lambda: run is None or host.training_folder(run))

    @classmethod
    def fingerprint_inputs(cls, run=None, **_) -> list:
        return _training_view.state_of(run)

    @classmethod
    def execute(cls, run, width, rows) -> io.NodeOutput:
        curves, samples, words_ = _training_view.pictures(run, width, rows)
        return io.NodeOutput(curves, samples, words_, ui=host.shown(cls, curves, words_))


NODES = (SoraDiTTrainingView,)
