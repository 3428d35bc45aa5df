"""Station 2: a prompt becomes numbers that the model can follow."""

from __future__ import annotations

from . import handles, host
from .host import io


class SoraDiTTextEncode(io.ComfyNode):
    """CLIP, text -> CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTTextEncode",
            display_name="Text Encode (Sora DiT)",
            category="Sora DiT/conditioning",
            description="Reads a prompt: what you want to see. Use a second one, for what you do not want to see, as "
            "the negative prompt.",
            search_aliases=["prompt", "clip text encode"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the model that will follow this prompt."),
                io.String.Input(
                    "text",
                    default="a calm sea at sunset with scattered clouds drifting to the right",
                    multiline=True,
                    dynamic_prompts=True,
                    placeholder="what should be seen",
                    tooltip="The prompt. The starter knows skies: time of day, clouds and how they drift, sun and "
                    "moon, balloons, birds, planes and rain over sea, hills or city, up to about 190 letters. Empty "
                    "means: anything. Words in braces with bars between them: one is picked by chance each time.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning", display_name="conditioning", tooltip="The prompt as the model reads it."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clip, text) -> io.NodeOutput:
        handles.require(clip, "clip", "tokenize", "encode_from_tokens_scheduled")
        if remark := handles.prompt_remark(clip, text):
            host.note(cls, remark)
        return io.NodeOutput(clip.encode_from_tokens_scheduled(clip.tokenize(text)))


NODES = (SoraDiTTextEncode,)
