"""Prompts: encoding with any CLIP, and simple arithmetic on CONDITIONING."""

from __future__ import annotations

from typing import Any

from ...dit_core.errors import ShapeError
from ..comfy_api import io
from .base import CoreNode
from .ours import checks, handles, host

_TENSORS = ("pooled_output", "conditioning_lyrics")  # entries that are zeroed with the embeddings


class CLIPTextEncode(CoreNode):
    """CLIP, text -> CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CLIPTextEncode",
            display_name="CLIP Text Encode (Prompt)",
            category="conditioning",
            description="Reads a prompt with the text encoder that is connected.",
            inputs=[
                io.String.Input("text", multiline=True, dynamic_prompts=True, tooltip="The prompt."),
                io.Clip.Input("clip", tooltip="The text encoder of the model that will follow the prompt."),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, text, clip) -> io.NodeOutput:
        handles.require(clip, "clip", "tokenize", "encode_from_tokens_scheduled")
        if remark := handles.prompt_remark(clip, text):
            host.note(cls, remark)
        return io.NodeOutput(clip.encode_from_tokens_scheduled(clip.tokenize(text)))


class ConditioningZeroOut(CoreNode):
    """CONDITIONING -> the same with zeros for the text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ConditioningZeroOut",
            display_name="ConditioningZeroOut",
            category="advanced/conditioning",
            description="Replaces the text by zeros; used as a negative prompt that says nothing.",
            inputs=[io.Conditioning.Input("conditioning")],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning) -> io.NodeOutput:
        import torch

        zeroed = []
        for embeddings, extra in _entries(conditioning, "conditioning"):
            zeros = {name: torch.zeros_like(extra[name]) for name in _TENSORS if extra.get(name) is not None}
            zeroed.append([torch.zeros_like(embeddings), {**extra, **zeros}])
        return io.NodeOutput(zeroed)


class ConditioningCombine(CoreNode):
    """Two CONDITIONINGs -> one list of both."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ConditioningCombine",
            display_name="Conditioning (Combine)",
            category="conditioning",
            description="Puts two prompts side by side; the sampler follows both.",
            inputs=[io.Conditioning.Input("conditioning_1"), io.Conditioning.Input("conditioning_2")],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, conditioning_1, conditioning_2) -> io.NodeOutput:
        first, second = _entries(conditioning_1, "conditioning_1"), _entries(conditioning_2, "conditioning_2")
        return io.NodeOutput(first + second)


def _entries(conditioning: Any, name: str) -> list:
    """The entries `[embeddings, extra]` of a CONDITIONING. Raises `ShapeError` if it is none."""
    whole = isinstance(conditioning, list) and all(
        isinstance(one, (list, tuple)) and len(one) == 2 and isinstance(one[1], dict) for one in conditioning
    )
    if not whole:
        raise ShapeError(
            f"{name} is {checks.described(conditioning)}; expected the CONDITIONING of a text encode node."
        )
    return list(conditioning)


NODES = (CLIPTextEncode, ConditioningZeroOut, ConditioningCombine)
