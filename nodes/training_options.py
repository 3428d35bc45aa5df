"""Training, beside station 5: what is rarely changed, for all trainings of a transformer."""

from __future__ import annotations

from . import _training, _training_options, host
from ._training_inputs import HIDDEN
from .host import io


class SoraDiTTrainingOptions(io.ComfyNode):
    """Values -> SORA_TRAINING_OPTIONS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTTrainingOptions",
            display_name="Training Options (Sora DiT)",
            category="Sora DiT/training",
            description="Settings for Train Model and Train LoRA that are rarely changed: how the learning rate moves, "
            "what is drawn at random, what is held out to measure on, memory and speed. Without this node the values "
            "shown here are taken.",
            search_aliases=["hyperparameters", "scheduler", "ema", "gradient accumulation", "mixed precision"],
            inputs=[*_training_options.steps(), *_training_options.draws(), *_training_options.machine()],
            outputs=[
                host.SoraTrainingOptions.Output(
                    "options", display_name="options", tooltip="Connect it to Train Model or Train LoRA."
                )
            ],
            hidden=HIDDEN,
        )

    @classmethod
    def execute(cls, **values) -> io.NodeOutput:
        return io.NodeOutput(_training.Options(**values))


NODES = (SoraDiTTrainingOptions,)
