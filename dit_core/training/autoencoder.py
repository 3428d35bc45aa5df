"""Training the autoencoder by maximum likelihood (reconstruction plus KL, arXiv:1312.6114) and adversarial training.

The reconstruction is either a sum of terms with fixed weights, or a likelihood whose width is learned (likelihood.py).
A perceptual term (perceptual.py) and a discriminator (adversary.py) may join; all that is off is not evaluated.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoder import AutoencoderConfig, CausalVideoAutoencoder, Colours, LatentStatistics, Posterior, fit_colours
from ..errors import ConfigError
from ..measures import CodecQuality, codec_quality
from .adversary import AdversarialSettings, Adversary
from .callbacks import Callbacks
from .likelihood import Likelihood, LikelihoodSettings
from .loop import LoopSettings, run_loop
from .optim import MovingAverage, make_optimisers
from .perceptual import texture_loss
from .sky_data import SkySource
from .state import TrainingState


@dataclass(frozen=True)
class AutoencoderTraining:
    """Loss weights and optimiser; all losses are means over elements, pixels in -1..1."""

    optimiser: str = "muon"
    lr: float = 4e-4  # more diverges
    sizes: tuple[int, ...] = (64, 64, 64, 96)  # height and width of the clips, step by step in turn
    weight_decay: float = 0.01
    squared: float = 30.0  # weight of the squared error, beside the absolute error at weight 1
    edges: float = 0.5  # weight of the absolute error of differences between neighbouring pixels and frames
    kl: float = 2e-4  # weight of the KL per latent number
    ema: float = 0.998
    whitening: float = 0.5  # of a linear encoder, see LinearCodec.fit
    seed: int = 1
    freeze_encoder: bool = False  # train the decoder only; some encoders are frozen anyway, see `freeze`
    likelihood: LikelihoodSettings | None = None  # takes the place of absolute, `squared` and `kl`
    perceptual: float = 0.0  # weight of `texture_loss`
    adversarial: AdversarialSettings | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.perceptual) and self.perceptual >= 0):
            raise ConfigError(f"The training has perceptual = {self.perceptual!r}; allowed is a number of at least 0.")


def reconstruction_loss(got: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Terms of the reconstruction loss for [B, 3, F, H, W]; edges keep stars, rain and horizons from being averaged."""
    error = got - wanted
    terms = {"absolute": error.abs().mean(), "squared": error.square().mean()}
    edges = [error.diff(dim=axis).abs().mean() for axis in (2, 3, 4) if error.shape[axis] > 1]
    terms["edges"] = sum(edges) / len(edges)
    return terms


def new_autoencoder(
    config: AutoencoderConfig, source: SkySource, training: AutoencoderTraining, device: torch.device
) -> CausalVideoAutoencoder:
    """A model with random convolutions, its linear codec, if it has one, fitted to clips of several sizes."""
    torch.manual_seed(training.seed)
    model = CausalVideoAutoencoder(config).to(device)
    if model.linear is not None:
        sized = [replace(source, height=size, width=size) for size in (64, 96, 128)]
        clips = [(sized[i % 3], i * 32) for i in range(24)]
        model.linear.fit(lambda: (of_size.clips(start, 32, device) for of_size, start in clips), training.whitening)
    return model


def train_autoencoder(
    model: CausalVideoAutoencoder,
    source: SkySource,
    folder: Path,
    loop: LoopSettings,
    training: AutoencoderTraining,
    device: torch.device,
    callbacks: Callbacks | None = None,
) -> tuple[CausalVideoAutoencoder, dict, bool]:
    """Train or go on; returns the averaged model with its latent statistics, the position, and whether it is done.

    A model that is all linear is done as soon as it is fitted; see `freeze` for what else does not learn.
    Raises `ConfigError` when such a model is to be trained against a discriminator.
    """
    if model.decoder is None:
        if training.adversarial is not None:
            raise ConfigError(
                'A codec with linear = "alone" has no decoder for a discriminator to teach; give it one with '
                'linear = "encoder".'
            )
        return with_statistics(model, source, device), {"step": 0, "samples": 0, "seconds": 0.0}, True
    freeze(model, training)
    step = AutoencoderStep(model, source, training, loop.batch, device)
    average = MovingAverage(model, training.ema)
    settings = {
        "config": model.config.to_dict(),
        "source": asdict(source),
        "training": asdict(training),
        "batch": loop.batch,
    }
    defaults = {"config": AutoencoderConfig().to_dict(), "training": asdict(AutoencoderTraining())}
    state = TrainingState(
        folder, step.modules, {"autoencoder": average}, step.optimisers, settings, step.rivals, defaults
    )
    if device.type == "cuda":
        # torch refuses a second backward through what it compiled, and lambda needs one through the decoder
        for part in (model.encoder, model.decoder if training.adversarial is None else None):
            if part is not None:
                part.compile()
    done = run_loop(state, step, loop, callbacks)
    average.swap()
    model.eval()
    return with_statistics(model, source, device), state.position, done


def freeze(model: CausalVideoAutoencoder, training: AutoencoderTraining) -> None:
    """Only the decoder learns when that is asked for, and in two more cases.

    A linear encoder is the best of its kind already, and latents of which a model knows the statistics may be in use
    by a transformer.
    """
    if training.freeze_encoder or model.encoder is None or model.statistics is not None:
        model.requires_grad_(False)
        model.decoder.requires_grad_(True)


class AutoencoderStep:
    """The step of `run_loop`: clips of the step's number, there and back, and what is wrong with them.

    `modules`, `optimisers` and `rivals` are what a `TrainingState` has to keep. Random numbers come from one generator
    seeded by `training.seed` and the step.
    """

    def __init__(
        self,
        model: CausalVideoAutoencoder,
        source: SkySource,
        training: AutoencoderTraining,
        batch: int,
        device: torch.device,
    ) -> None:
        self.model, self.source, self.training, self.batch, self.device = model, source, training, batch, device
        self.modules: dict[str, torch.nn.Module] = {"autoencoder": model}
        self.optimisers = make_optimisers(self.modules, training.optimiser, training.lr, training.weight_decay)
        self.likelihood, self.adversary = None, None
        if training.likelihood is not None:
            self.likelihood = Likelihood(training.likelihood.distribution).to(device)
            self.modules = self.modules | {"likelihood": self.likelihood}
            self.optimisers.append(_optimiser_of_widths(self.likelihood, training.likelihood.lr))
        if training.adversarial is not None:
            self.adversary = Adversary(training.adversarial, training.seed, device)
        self.rivals = {} if self.adversary is None else {"adversary": self.adversary}

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and what to log, among it psnr in dB, and the learned width in units of the video."""
        training, device = self.training, self.device
        size = training.sizes[step % len(training.sizes)]
        count = max(1, self.batch * min(training.sizes) ** 2 // size**2)  # a step costs about the same at every size
        video = replace(self.source, height=size, width=size).clips(step * self.batch, count, device)
        generator = torch.Generator(device).manual_seed(training.seed * 1_000_003 + step)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            got, posterior = self.model(video, generator)
        got = got.float()
        terms = reconstruction_loss(got, video)
        if training.perceptual:
            terms["perceptual"] = texture_loss(got, video)
        terms["kl"] = posterior.kl()
        reconstruction, kl_weight = self._weighed(step, got - video, posterior, terms)
        loss = reconstruction + kl_weight * terms["kl"]
        if self.adversary is not None and self.adversary.strength(step) > 0:
            terms |= self.adversary.teach(step, video, got)
            last = self.model.decoder.body[-1].weight
            challenge, terms["lambda"] = self.adversary.challenge(step, got, reconstruction, last)
            loss = loss + challenge
            terms["adversarial"] = challenge
        terms["psnr"] = -10 * torch.log10(terms["squared"].detach() / 4)
        return loss, {name: value.detach() for name, value in terms.items()}

    def _weighed(
        self, step: int, error: Tensor, posterior: Posterior, terms: dict[str, Tensor]
    ) -> tuple[Tensor, float]:
        """The reconstruction loss and the weight of the KL per latent number."""
        training = self.training
        if self.likelihood is None:
            loss = terms["absolute"] + training.squared * terms["squared"] + training.edges * terms["edges"]
            if training.perceptual:
                loss = loss + training.perceptual * terms["perceptual"]
            return loss, training.kl
        if step == 0:
            self.likelihood.start_at(error)
        terms["nll"], terms["width"] = self.likelihood(error), self.likelihood.width()
        beside = training.edges * terms["edges"]
        if training.perceptual:
            beside = beside + training.perceptual * terms["perceptual"]
        # in units of the width, as the likelihood counts the error; it must not bend the width itself
        loss = terms["nll"] + beside / terms["width"]
        return loss, training.likelihood.beta * posterior.mean.numel() / error.numel()


def _optimiser_of_widths(likelihood: Likelihood, lr: float) -> torch.optim.Optimizer:
    optimiser = torch.optim.Adam(likelihood.parameters(), lr=lr, betas=(0.9, 0.98))
    for group in optimiser.param_groups:
        group["peak_lr"] = lr
    return optimiser


def with_statistics(model: CausalVideoAutoencoder, source: SkySource, device: torch.device) -> CausalVideoAutoencoder:
    """The model, its configuration completed by latent statistics and colours unless it has them already."""
    statistics = model.statistics or measure_latents(model, source, device)
    rgb = model.config.latent_rgb or measure_colours(model, source, device)
    model.config = replace(model.config, latent_mean=statistics.mean, latent_std=statistics.std, latent_rgb=rgb)
    return model


@torch.no_grad()
def measure_colours(
    model: CausalVideoAutoencoder, source: SkySource, device: torch.device, clips: int = 64, batch: int = 16
) -> Colours:
    """The colours of the latent's channels, fitted on rendered clips."""
    videos = (source.clips(10**7 + i, batch, device) for i in range(0, clips, batch))
    return fit_colours((model.encode(video).mean, video) for video in videos)


@torch.no_grad()
def measure_latents(
    model: CausalVideoAutoencoder, source: SkySource, device: torch.device, clips: int = 256, batch: int = 16
) -> LatentStatistics:
    """Mean and deviation of the latent channels over rendered clips; a linear encoder's keep their relative scale."""
    latents = (model.encode(source.clips(10**7 + i, batch, device)).mean.float() for i in range(0, clips, batch))
    return LatentStatistics.measure(latents, per_channel=model.encoder is not None)


def held_out_quality(
    model: CausalVideoAutoencoder, source: SkySource, device: torch.device, clips: int = 64, batch: int = 8
) -> CodecQuality:
    """All measures of the reconstruction (posterior mean, output clipped to -1..1), means over the source's clips."""
    return codec_quality(model, (source.clips(start, batch, device) for start in range(0, clips, batch)))
