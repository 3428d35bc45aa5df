"""Beside station 1: a small file changes what a model knows."""

from __future__ import annotations

from . import _checks, _files, _loras, host
from .host import io


class SoraDiTLoadLora(io.ComfyNode):
    """SORA_DIT, file -> SORA_DIT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTLoadLora",
            display_name="Load LoRA (Sora DiT)",
            category="Sora DiT/load",
            description="Adds a LoRA to a video model: a small file that was trained on top of it and gives it a new "
            "subject, look or motion. The model that goes in stays as it is for other nodes. Several of these nodes "
            "in a row add up.",
            search_aliases=["lora", "lora loader", "fine-tune", "adapter"],
            inputs=[
                host.SoraDit.Input("model", tooltip="The model to change, from Load Model or another Load LoRA."),
                io.Combo.Input(
                    "lora",
                    options=host.lora_files(),
                    tooltip="The LoRA file (.safetensors) from the models folder loras. It must have been trained on "
                    "this model or on one of the same build.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-4.0,
                    max=4.0,
                    step=0.05,
                    round=0.01,
                    tooltip="How much of the change is added, -4 to 4. 1 is what was trained, 0.5 half of it, 0 "
                    "nothing at all. Below 0 the model is pushed the other way; beyond 1.5 clips often break.",
                ),
            ],
            outputs=[
                host.SoraDit.Output(
                    "model",
                    display_name="model",
                    tooltip="The changed model. Connect it to every node that the other one was connected to.",
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, lora=None) -> bool | str:
        if lora is None:  # linked: known only when it runs
            return True
        return _checks.verdict(lora=lambda: _loras.check_file(host.lora_path(lora)))

    @classmethod
    def fingerprint_inputs(cls, lora, **_) -> list:
        return [_files.fingerprint(host.lora_path(lora))]

    @classmethod
    def execute(cls, model, lora, strength) -> io.NodeOutput:
        if strength == 0:
            return io.NodeOutput(model)
        changed, facts, remarks = _loras.with_lora(model, host.lora_path(lora), lora, strength, host.manager)
        for remark in remarks:
            host.note(cls, remark)
        host.record(cls, **facts)
        return io.NodeOutput(changed)


NODES = (SoraDiTLoadLora,)
