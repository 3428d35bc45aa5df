"""Training, station 3: clips and captions, encoded once for a whole training."""

from __future__ import annotations

from ..dit_core.errors import Cancelled
from . import _checks, _training_data, _training_files, host
from ._training_inputs import HIDDEN, whole, words
from .host import io


class SoraDiTCacheLatents(io.ComfyNode):
    """SORA_CLIPS, VAE, CLIP -> SORA_LATENTS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTCacheLatents",
            display_name="Cache Latents (Sora DiT)",
            category="Sora DiT/training",
            description="Encodes all clips with the VAE and cuts the captions into tokens, once, and keeps both on "
            "disk: the training then need not do it again and again. It says how much space that takes before it "
            "starts. What is there already is not made again; a stopped caching goes on where it was.",
            search_aliases=["encode dataset", "latent cache", "precompute", "training data"],
            inputs=[
                host.SoraClips.Input("clips", tooltip="The data set, from Clip Dataset or Sky Dataset."),
                io.Vae.Input("vae", tooltip="The VAE of the model to be trained; it stays as it is."),
                io.Clip.Input("clip", tooltip="The text encoder of the model to be trained."),
                words(
                    "name", "my_clips",
                    "Name of the cache: it lies in the folder sora_dit_latents/NAME of the output folder. Other clips "
                    "or another VAE need another name.",
                ),
                whole(
                    "wordings", 4, 1, 64,
                    "At most so many captions of a clip are kept, 1 to 64; each time the clip is drawn one of them is "
                    "taken.",
                    advanced=True,
                ),
            ],
            outputs=[
                host.SoraLatents.Output(
                    "latents", display_name="latents",
                    tooltip="The encoded clips, for New Model, Train Model and Train LoRA.",
                )
            ],
            hidden=HIDDEN,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, name=None) -> bool | str:
        return _checks.verdict(name=lambda: name is None or host.latents_folder(name))

    @classmethod
    def fingerprint_inputs(cls, name=None, **_) -> str | None:
        return None if name is None else _training_files.kept_identity(host.latents_folder(name) / "index.json")

    @classmethod
    def execute(cls, clips, vae, clip, name, wordings) -> io.NodeOutput:
        caching = _training_data.Caching(clips, vae, clip, host.latents_folder(name), wordings)
        host.note(cls, caching.plan())
        try:
            latents, remarks = caching.run(_training_data.telling(cls))
        except Cancelled as stop:
            raise Cancelled("Caching was stopped; what is encoded so far is kept, queue it again to go on.") from stop
        for remark in remarks:
            host.note(cls, remark)
        return io.NodeOutput(latents)


NODES = (SoraDiTCacheLatents,)
