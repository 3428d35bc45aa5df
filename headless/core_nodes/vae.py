"""Between pictures and latents with any VAE object, whole or in tiles."""

from __future__ import annotations

from typing import Any

from ..comfy_api import io
from .base import CoreNode
from .ours import checks, coding, handles, host


class VAEDecode(CoreNode):
    """LATENT, VAE -> IMAGE; clips of a batch follow one after the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VAEDecode",
            display_name="VAE Decode",
            category="latent",
            description="Turns a latent into pictures.",
            inputs=[
                io.Latent.Input("samples", tooltip="The latent."),
                io.Vae.Input("vae", tooltip="The VAE that belongs to the model that made the latent."),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, samples, vae) -> io.NodeOutput:
        handles.require(vae, "vae", "decode")
        images, remarks = coding.decode(vae, samples, 0, lambda total: host.progress(cls, total))
        for remark in remarks:
            host.note(cls, remark)
        return io.NodeOutput(images)


class VAEEncode(CoreNode):
    """IMAGE, VAE -> LATENT; a video VAE takes all frames as one clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VAEEncode",
            display_name="VAE Encode",
            category="latent",
            description="Turns pictures into a latent; with a video VAE all frames are one clip.",
            inputs=[io.Image.Input("pixels"), io.Vae.Input("vae")],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, pixels, vae) -> io.NodeOutput:
        handles.require(vae, "vae", "encode")
        samples = coding.encode(vae, checks.images_of(pixels), lambda total: host.progress(cls, total))
        return io.NodeOutput({"samples": samples})


def _tile_inputs(edge_step: int, what: str) -> list[Any]:
    """The four numbers of a tiled node; edges and overlaps are in pixels, times in frames."""
    return [
        io.Int.Input("tile_size", default=512, min=64, max=4096, step=edge_step, tooltip="Edge of a tile in pixels."),
        io.Int.Input("overlap", default=64, min=0, max=4096, step=32, tooltip="Pixels that neighbours share."),
        io.Int.Input(
            "temporal_size", default=64, min=8, max=4096, step=4, tooltip=f"Video VAEs: frames to {what} at a time."
        ),
        io.Int.Input(
            "temporal_overlap", default=8, min=4, max=4096, step=4, tooltip="Video VAEs: frames that neighbours share."
        ),
    ]


class VAEDecodeTiled(CoreNode):
    """LATENT, VAE -> IMAGE, a piece at a time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VAEDecodeTiled",
            display_name="VAE Decode (Tiled)",
            category="_for_testing",
            description="Turns a latent into pictures a piece at a time, which needs less memory. A Sora DiT VAE cuts "
            "in time only and gives the same pictures as without tiles.",
            inputs=[io.Latent.Input("samples"), io.Vae.Input("vae"), *_tile_inputs(32, "decode")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, samples, vae, tile_size, overlap=64, temporal_size=64, temporal_overlap=8) -> io.NodeOutput:
        handles.require(vae, "vae", "decode_tiled")
        space = vae.spacial_compression_decode()
        edge, shared = tile_size // space, min(overlap, tile_size // 4) // space
        tile_t, overlap_t = _latent_times(vae.temporal_compression_decode(), temporal_size, temporal_overlap)
        latent = checks.samples_of(samples, getattr(vae, "latent_channels", None), "VAE")
        images = vae.decode_tiled(latent, tile_x=edge, tile_y=edge, overlap=shared, tile_t=tile_t, overlap_t=overlap_t)
        return io.NodeOutput(images.reshape(-1, *images.shape[-3:]))


def _latent_times(factor: int | None, size: int, overlap: int) -> tuple[int | None, int | None]:
    """(latent frames in a piece, latent frames shared) of a VAE with `factor` frames to a latent frame."""
    if factor is None:  # a picture VAE
        return None, None
    overlap = overlap // 2 if size < overlap * 2 else overlap
    pieces = max(2, size // factor)
    return pieces, max(1, min(pieces // 2, overlap // factor))


class VAEEncodeTiled(CoreNode):
    """IMAGE, VAE -> LATENT, a piece at a time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VAEEncodeTiled",
            display_name="VAE Encode (Tiled)",
            category="_for_testing",
            description="Turns pictures into a latent a piece at a time, which needs less memory.",
            inputs=[io.Image.Input("pixels"), io.Vae.Input("vae"), *_tile_inputs(64, "encode")],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, pixels, vae, tile_size, overlap, temporal_size=64, temporal_overlap=8) -> io.NodeOutput:
        handles.require(vae, "vae", "encode_tiled")
        samples = vae.encode_tiled(
            checks.images_of(pixels),
            tile_x=tile_size,
            tile_y=tile_size,
            overlap=overlap,
            tile_t=temporal_size,
            overlap_t=temporal_overlap,
        )
        return io.NodeOutput({"samples": samples})


NODES = (VAEDecode, VAEEncode, VAEDecodeTiled, VAEEncodeTiled)
