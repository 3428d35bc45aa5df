"""Station 6: a latent becomes pictures."""

from __future__ import annotations

from . import _coding, handles, host
from .host import io


class SoraDiTDecode(io.ComfyNode):
    """VAE, LATENT -> IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTDecode",
            display_name="Decode Video (Sora DiT)",
            category="Sora DiT/video",
            description="Turns a latent into frames, a few at a time, so that a long clip needs no more memory than a "
            "short one.",
            search_aliases=["vae decode", "latent to images"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model that made the latent."),
                io.Latent.Input("latent", tooltip="The latent of the clip, from a denoise node."),
                host.given(
                    io.Int.Input,
                    "chunk_frames",
                    display_name="frames at a time",
                    default=0,
                    min=0,
                    max=4096,
                    step=4,
                    advanced=True,
                    tooltip="How many frames to decode at a time, 0 to 4096; 0 chooses by the size of the picture. "
                    "Fewer need less memory, more are a little faster; the pictures are the same.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images", display_name="images", tooltip="The frames. Several clips follow one after the other."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, vae, latent, chunk_frames) -> io.NodeOutput:
        handles.require(vae, "vae", "decode")
        images, remarks = _coding.decode(vae, latent, chunk_frames, lambda total: host.progress(cls, total))
        for remark in remarks:
            host.note(cls, remark)
        return io.NodeOutput(images)


NODES = (SoraDiTDecode,)
