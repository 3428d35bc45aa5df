"""From pictures to a latent: the way in for a clip or a picture that already exists."""

from __future__ import annotations

from . import _coding, handles, host
from .host import io


class SoraDiTEncode(io.ComfyNode):
    """VAE, IMAGE -> LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTEncode",
            display_name="Encode Video (Sora DiT)",
            category="Sora DiT/video",
            description="Turns frames into a latent, so that the model can change or continue them. All frames become "
            "one clip.",
            search_aliases=["vae encode", "images to latent", "video to video"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model that will work on the latent."),
                io.Image.Input("images", tooltip="The frames of one clip, or a single picture."),
                io.Combo.Input(
                    "fit",
                    options=list(_coding.FITS),
                    default="error",
                    tooltip="What to do with a clip that does not fit (its width and height must be multiples of 8, "
                    "its frames 1, 5, 9, 13, ...). error: stop and name the nearest sizes. trim: leave out the last "
                    "frames and the edges of the picture. pad: repeat the last frame and the edges.",
                ),
            ],
            outputs=[io.Latent.Output("latent", display_name="latent", tooltip="The clip as the model sees it.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, vae, images, fit) -> io.NodeOutput:
        handles.require(vae, "vae", "encode")
        frames, remark = _coding.fitted(images, vae, fit)
        if remark:
            host.note(cls, remark)
        return io.NodeOutput({"samples": _coding.encode(vae, frames, lambda total: host.progress(cls, total))})


NODES = (SoraDiTEncode,)
