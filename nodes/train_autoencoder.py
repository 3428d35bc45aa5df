"""Training, station 3: the autoencoder learns to make latents of clips and clips of latents."""

from __future__ import annotations

from . import _checks, _training_autoencoder, _training_files, host
from ._training_inputs import HIDDEN, choice, number, rate, run, whole
from .host import io


class SoraDiTTrainAutoencoder(io.ComfyNode):
    """SORA_CLIPS -> VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SoraDiTTrainAutoencoder",
            display_name="Train Autoencoder (Sora DiT)",
            category="Sora DiT/training",
            description="Makes a VAE for your clips: it learns to press them into latents and to bring them back, by "
            "maximum likelihood, and against a discriminator if you want it sharper. Needed only for a model from "
            "scratch whose pictures are unlike skies; a LoRA keeps the VAE of its model.",
            search_aliases=["vae training", "train vae", "codec", "tokenizer", "gan"],
            inputs=[
                host.SoraClips.Input("clips", tooltip="The data set, from Clip Dataset or Sky Dataset."),
                *run(
                    "autoencoder", 3000, 8,
                    "More make sharper pictures, until the curves stay level; linear takes none.", "more memory.",
                ),
                rate("0 takes 0.0004; more than 0.0005 rarely goes well."),
                choice(
                    "kind", list(_training_autoencoder.KINDS),
                    "linear: worked out at once, without steps; what the starter has. linear encoder: latents as "
                    "before, and a decoder that learns to draw them more sharply. convolutional: both learn, for "
                    "clips of all kinds, and takes longest.",
                ),
                whole(
                    "channels", 64, 1, 512,
                    "Numbers in a latent cell, 1 to 512. More keep more detail and make the video model's work harder. "
                    "64 suits linear ones, 16 convolutional ones.",
                ),
                choice(
                    "reconstruction", ["likelihood", "fixed weights"],
                    "How errors count. likelihood: as maximum likelihood says, its width is learned. fixed weights: "
                    "squared and absolute error, with weights by hand.",
                ),
                number("beta", 1.0, 0.0, 1000.0, "Weight of the KL term beside the likelihood, 0 to 1000. 1 is maximum "
                       "likelihood; more makes smoother latents and softer pictures.", step=0.1, advanced=True),
                number("perceptual", 0.05, 0.0, 100.0, "Weight of the term for texture, 0 to 100. 0 is off; much more "
                       "than 0.1 draws detail that is not there.", advanced=True),
                number("adversarial", 0.0, 0.0, 100.0, "Weight of the discriminator, 0 to 100. 0 is off, 0.5 sharpens "
                       "fine detail and costs half as much time again.", step=0.1),
                whole("adversarial_start", 1000, 0, 10_000_000, "Step at which the discriminator joins, 0 to 10000000. "
                      "Before that the decoder draws nothing worth telling apart.", advanced=True,
                      display_name="adversarial from step"),
                whole("training_seed", 1, 0, 2**31 - 1, "Number of the random choices, 0 to 2147483647.",
                      advanced=True, display_name="training seed"),
                io.Vae.Input(
                    "vae", optional=True,
                    tooltip="A VAE to go on from: its decoder learns, its latents stay, so models that were trained on "
                    "them still fit. Kind and channels are then those of this VAE.",
                ),
                number("held_out", 0.1, 0.0, 0.9, "Share of the clips that are never trained on, to measure on, 0 to "
                       "0.9: loss and PSNR of these are the dots in the curves. Linear takes all clips.",
                       advanced=True, optional=True, display_name="held out"),
            ],
            outputs=[
                io.Vae.Output("vae", display_name="vae", tooltip="The VAE, for Cache Latents and New Model."),
                io.String.Output(
                    "run", display_name="run", tooltip="The name of the training, for Training View."
                ),
            ],
            hidden=HIDDEN,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, run=None) -> bool | str:
        return _checks.verdict(run=lambda: run is None or host.training_folder(run))

    @classmethod
    def fingerprint_inputs(cls, run=None, **_) -> str | None:
        made = _training_autoencoder.MADE
        return None if run is None else _training_files.kept_identity(host.training_folder(run) / made)

    @classmethod
    def execute(cls, clips, vae=None, held_out=0.1, **settings) -> io.NodeOutput:
        made = _training_autoencoder.train(cls, clips, vae, settings | {"held_out": held_out})
        return io.NodeOutput(made, settings["run"])


NODES = (SoraDiTTrainAutoencoder,)
