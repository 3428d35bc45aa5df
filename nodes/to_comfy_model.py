"""Beside the way: our model for ComfyUI's own samplers."""

from __future__ import annotations

from . import _checks, host
from .host import io


class SoraDiTToComfyModel(io.ComfyNode):
    """SORA_DIT -> MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTToComfyModel",
            display_name="To ComfyUI Model (Sora DiT)",
            category="Sora DiT/sampling",
            description="Hands our video model to ComfyUI's own nodes: KSampler, custom samplers, schedulers, guiders, "
            "LoRA loaders, EasyCache. Prompts come from any text encode node connected to the same CLIP. "
            "Inside ComfyUI only.",
            search_aliases=["bridge", "ksampler", "model", "native"],
            inputs=[host.SoraDit.Input("model", tooltip="The model from Load Model.")],
            outputs=[
                io.Model.Output(
                    "model",
                    display_name="model",
                    tooltip="The same model for core nodes. It is not copied: no memory is used.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, model=None) -> bool | str:
        return _checks.verdict(model=host.check_native)

    @classmethod
    def execute(cls, model) -> io.NodeOutput:
        return io.NodeOutput(host.native_model(model))


NODES = (SoraDiTToComfyModel,)
