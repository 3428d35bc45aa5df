"""Training, station 6: what was trained becomes a file that Load Model opens."""

from __future__ import annotations

from . import _checks, _training_files, _training_models, host
from ._training_inputs import HIDDEN, choice, switch, words
from .host import io


class SoraDiTSaveModel(io.ComfyNode):
    """SORA_DIT, CLIP, VAE -> a file in the models folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTSaveModel",
            display_name="Save Model (Sora DiT)",
            category="Sora DiT/training",
            description="Writes a model into one file in the models folder sora_dit: the video model with its text "
            "encoder and its VAE, what they are, and how they were trained. Load Model then lists it. The file appears "
            "whole or not at all.",
            search_aliases=["export", "checkpoint save", "save checkpoint", "write model"],
            inputs=[
                words(
                    "name", "my_model",
                    "Name of the file, without its ending: NAME.safetensors in the models folder sora_dit.",
                ),
                choice(
                    "dtype", ["float16", "bfloat16", "float32"],
                    "How numbers are stored. float16 and bfloat16 make a file half as large and lose nothing that "
                    "shows; float32 keeps all, for training on.",
                    advanced=True,
                ),
                switch(
                    "overwrite", True,
                    "Replace a file of that name. Off: if there is one, the new file is called NAME_2, NAME_3 and so "
                    "on.",
                    display_name="replace",
                ),
                host.SoraDit.Input("model", optional=True, tooltip="The model, from Train Model."),
                io.Clip.Input(
                    "clip", optional=True,
                    tooltip="Its text encoder. Without it the file can only be used with another one beside it.",
                ),
                io.Vae.Input(
                    "vae", optional=True,
                    tooltip="Its VAE. Without it the file can only be used with another one beside it.",
                ),
            ],
            outputs=[
                io.String.Output("file", display_name="file", tooltip="The file's name, as Load Model lists it."),
            ],
            hidden=HIDDEN,
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        return _checks.verdict(name=lambda: name is None or host.model_target(name))

    @classmethod
    def fingerprint_inputs(cls, name=None, overwrite=True, **_) -> str | None:
        # whoever removes the file gets it anew; with a new name each time, once is enough
        return _training_files.presence(host.model_target(name)) if name is not None and overwrite else None

    @classmethod
    def execute(cls, name, dtype, overwrite, model=None, clip=None, vae=None) -> io.NodeOutput:
        target = host.model_target(name)
        target = target if overwrite else _training_files.free_name(target)
        host.record(cls, **_training_models.save(target, model, clip, vae, dtype))
        host.written(target)
        return io.NodeOutput(target.name, ui=host.told(cls, f"The model is {target}."))


NODES = (SoraDiTSaveModel,)
