"""Training the autoencoder by maximum likelihood (reconstruction plus KL, arXiv:1312.6114) and adversarial training.

The reconstruction is either a sum of terms with fixed weights, or a likelihood whose width is learned (likelihood.py).
A perceptual term (perceptual.py) and a discriminator (adversary.py) may join; all that is off is not evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoder import (
    AutoencoderConfig,
    CausalVideoAutoencoder,
    Colours,
    Joins,
    LatentStatistics,
    Posterior,
    fit_colours,
)
from ..device import autocast, training_dtype
from ..errors import ConfigError
from ..measures import CodecQuality, codec_quality
from .adversary import AdversarialSettings, Adversary
from .callbacks import Callbacks
from .compiling import compiled
from .divergence import NAT
from .feed import SkiesOrClips, check_sizes, clip_batches, feed_of, fitting_clips
from .likelihood import Likelihood, LikelihoodSettings
from .loop import LoopSettings, run_loop
from .optim import OPTIMISERS, MovingAverage, make_optimisers
from .perceptual import texture_loss
from .precision import remembered, settled
from .seeding import generator_of_step
from .state import TrainingState, state_path

MEASURED_SKIES = 10**7  # number of the first sky that latents are measured on: no training comes so far
HELD_OUT_CLIPS = 16
Watch = Callable[[Iterator[Tensor]], Iterable[Tensor]]


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
    precision: str = "auto"  # of the products: auto | float32 | bfloat16, see `training_dtype`
    freeze_encoder: bool = False  # train the decoder only; some encoders are frozen anyway, see `freeze`
    likelihood: LikelihoodSettings | None = None  # takes the place of absolute, `squared` and `kl`
    perceptual: float = 0.0  # weight of `texture_loss`
    adversarial: AdversarialSettings | None = None

    def __post_init__(self) -> None:
        for name in ("squared", "edges", "perceptual", "kl", "weight_decay"):
            value = getattr(self, name)
            self._require(math.isfinite(value) and value >= 0, name, "a number of at least 0")
        self._require(math.isfinite(self.lr) and self.lr > 0, "lr", "a number above 0")
        self._require(0 <= self.ema <= 1, "ema", "a number from 0 to 1")
        self._require(len(self.sizes) > 0, "sizes", "at least one size")
        self._require(self.optimiser in OPTIMISERS, "optimiser", " or ".join(OPTIMISERS))

    def _require(self, good: bool, name: str, allowed: str) -> None:
        if not good:
            raise ConfigError(f"The training has {name} = {getattr(self, name)!r}; allowed is {allowed}.")


def reconstruction_loss(got: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Terms of the reconstruction loss for [B, 3, F, H, W]; edges keep stars, rain and horizons from being averaged."""
    error = got - wanted
    terms = {"absolute": error.abs().mean(), "squared": error.square().mean()}
    edges = [error.diff(dim=axis).abs().mean() for axis in (2, 3, 4) if error.shape[axis] > 1]
    terms["edges"] = sum(edges) / len(edges)
    return terms


def new_autoencoder(
    config: AutoencoderConfig,
    source: SkiesOrClips,
    training: AutoencoderTraining,
    device: torch.device,
    watch: Watch = iter,
    fit: bool = True,
) -> CausalVideoAutoencoder:
    """A model with random convolutions, its linear codec, if it has one, fitted to clips of the source.

    watch: what the batches of clips go through on their way; it may raise to cancel. fit: False where a training's
    state is loaded afterwards, with all weights, see `will_load`.
    Raises `DataError` when the clips' sizes do not fit it.
    """
    check_sizes(source, config)
    torch.manual_seed(training.seed)
    model = CausalVideoAutoencoder(config).to(device)
    if fit and model.linear is not None:
        model.linear.fit(lambda: watch(fitting_clips(source, device)), training.whitening)
    return model


def will_load(config: AutoencoderConfig, folder: Path) -> bool:
    """Whether `train_autoencoder` takes all weights of such a model from the state in `folder`, or refuses it.

    What is fitted to clips before is then lost. A model that is all linear keeps no state.
    """
    return config.linear != "alone" and state_path(folder).exists()


def with_changes(
    model: CausalVideoAutoencoder,
    changes: dict,
    seed: int,
    clips: Iterable[Tensor] | None = None,
    joins: Joins | None = None,
) -> CausalVideoAutoencoder:
    """The autoencoder under a changed configuration, with all weights that have the same shape in both.

    `{"linear": "encoder", "lookahead": 0}` gives a linear codec a convolutional decoder, `{"linear_sides": 5}` a wider
    linear one: its latents, and what was trained on them, stay as they are.

    clips: [B, 3, F, H, W] each, that a linear decoder is fitted to anew; joins: for latents with errors, see there.
    Raises `ConfigError` where it has to be fitted and there are no clips: nothing else would ever teach it.
    """
    if not changes and clips is None:
        return model
    torch.manual_seed(seed)
    changed = CausalVideoAutoencoder(AutoencoderConfig.from_dict(model.config.to_dict() | changes))
    changed.to(next(model.parameters()).device)
    fresh = changed.state_dict()
    kept = {n: w for n, w in model.state_dict().items() if n in fresh and fresh[n].shape == w.shape}
    changed.load_state_dict(fresh | kept)
    lost = [n for n in fresh if n not in kept and n.startswith("linear.up.")]
    if lost and clips is None:
        asked = ", ".join(f"{name} = {value!r}" for name, value in changes.items())
        raise ConfigError(f"With {asked} the linear decoder has another shape; fit it anew to clips (--refit).")
    if clips is not None and changed.linear is None:
        raise ConfigError("--refit: this autoencoder has no linear codec; expected one with linear other than none.")
    if clips is not None:
        # a stronger ridge than for a narrow decoder: less noise in what neighbours far away add
        changed.linear.fit_decoder(clips, ridge=1e-3, joins=joins)
    return changed


def train_autoencoder(
    model: CausalVideoAutoencoder,
    source: SkiesOrClips,
    folder: Path,
    loop: LoopSettings,
    training: AutoencoderTraining,
    device: torch.device,
    callbacks: Callbacks | None = None,
    held_out: SkiesOrClips | None = None,
) -> tuple[CausalVideoAutoencoder, dict, bool]:
    """Train or go on; returns the averaged model, the position, and whether it is done.

    The model has latent statistics when it is done: measuring them takes a while, and whoever stops it wants to leave.

    A model that is all linear is done as soon as it is fitted; see `freeze` for what else does not learn.

    Args:
        source: skies, or a person's own clips in buckets.
        held_out: clips whose loss and PSNR are logged every `loop.held_out_every` steps.

    Raises:
        ConfigError: an all linear model is to be trained against a discriminator, or that with accumulated gradients.
        DataError: the clips' sizes do not fit the model.
        TrainingDiverged, CheckpointError, FolderInUse: as `run_loop`.
    """
    for clips in (source, held_out):
        if clips is not None:
            check_sizes(clips, model.config)
    if training.adversarial is not None:
        _check_game(model, loop)
    if model.decoder is None:
        return with_statistics(model, source, device), {"step": 0, "samples": 0, "seconds": 0.0}, True
    freeze(model, training)
    chosen = asdict(training)
    training = replace(training, precision=settled(training.precision, folder, device))
    step = AutoencoderStep(model, source, training, loop.batch, device)
    average = MovingAverage(model, training.ema)
    settings = {
        "kind": "autoencoder",
        "config": model.config.to_dict(),
        "training": chosen,
        "batch": loop.batch,
        "accumulate": loop.accumulate,
        **step.feed.identity(),
    }
    before = {"config": AutoencoderConfig().to_dict(), "training": asdict(AutoencoderTraining()), "accumulate": 1}
    state = TrainingState(
        folder, step.modules, {"autoencoder": average}, step.optimisers, settings, step.rivals, before
    )
    state.position |= remembered(training.precision, device)
    # torch refuses a second backward through what it compiled, and lambda needs one through the decoder
    parts = (model.encoder, model.decoder if training.adversarial is None else None)
    feed = None if held_out is None else feed_of(held_out, 8)  # one for all measurements: it keeps what it decoded
    measure = None if feed is None else lambda: step.measure(feed.some(HELD_OUT_CLIPS, device))
    with compiled([part for part in parts if part is not None], device):
        done = run_loop(state, step, loop, callbacks, measure, NAT if training.likelihood else 0.0)
    average.swap()
    model.eval()
    return with_statistics(model, source, device) if done else model, state.position, done


def _check_game(model: CausalVideoAutoencoder, loop: LoopSettings) -> None:
    if model.decoder is None:
        raise ConfigError(
            'A codec with linear = "alone" has no decoder for a discriminator to teach; give it one with '
            'linear = "encoder".'
        )
    if loop.accumulate > 1:
        raise ConfigError(
            f"The training loop has accumulate = {loop.accumulate} with adversarial training, in which each batch "
            "teaches the discriminator; allowed is 1."
        )


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
        source: SkiesOrClips,
        training: AutoencoderTraining,
        batch: int,
        device: torch.device,
    ) -> None:
        self.model, self.training, self.device = model, training, device
        self.dtype = training_dtype(training.precision, device)
        self.feed = feed_of(source, batch, training.sizes, training.seed)
        self.modules: dict[str, torch.nn.Module] = {"autoencoder": model}
        self.optimisers = make_optimisers(
            self.modules, training.optimiser, training.lr, training.weight_decay, training.precision
        )
        self.likelihood, self.adversary = None, None
        if training.likelihood is not None:
            self.likelihood = Likelihood(training.likelihood.distribution).to(device)
            self.modules = self.modules | {"likelihood": self.likelihood}
            widths = self.likelihood.parameters()
            self.optimisers.append(torch.optim.Adam(widths, lr=training.likelihood.lr, betas=(0.9, 0.98)))
        if training.adversarial is not None:
            self.adversary = Adversary(training.adversarial, training.seed, device)
        self.rivals = {} if self.adversary is None else {"adversary": self.adversary}

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and what to log, among it psnr in dB, and the learned width in units of the video."""
        training, device = self.training, self.device
        video = self.feed.batch(step, device)
        generator = generator_of_step(training.seed, step, device)
        with autocast(device, self.dtype):
            got, posterior = self.model(video, generator)
        got = got.float()
        terms = reconstruction_loss(got, video)
        terms |= self._more_terms(got, video)
        terms["kl"] = posterior.kl()
        reconstruction, kl_weight = self._weighed(step, got - video, posterior, terms)
        loss = reconstruction + kl_weight * terms["kl"]
        terms["watched"] = loss  # lambda may make the challenge large without harm
        if self.adversary is not None and self.adversary.strength(step) > 0:
            terms |= self.adversary.teach(step, video, got)
            last = self.model.decoder.body[-1].weight
            challenge, terms["lambda"] = self.adversary.challenge(step, got, reconstruction, last)
            loss = loss + challenge
            terms["adversarial"] = challenge
        terms["psnr"] = -10 * torch.log10(terms["squared"].detach() / 4)
        return loss, {"clips": len(video)} | {name: value.detach() for name, value in terms.items()}

    def measure(self, videos: Iterable[Tensor]) -> dict[str, float]:
        """`held_out`, the loss without an adversary, and `held_out_psnr` in dB, means over batches of clips."""
        losses, qualities = [], []
        for video in videos:
            posterior = self.model.encode(video)
            got = self.model.decode(posterior.mean).float()
            terms = reconstruction_loss(got, video) | self._more_terms(got, video) | {"kl": posterior.kl()}
            reconstruction, kl_weight = self._weighed(-1, got - video, posterior, terms)
            losses.append((reconstruction + kl_weight * terms["kl"]).item())
            qualities.append(-10 * math.log10(max(terms["squared"].item(), 1e-12) / 4))
        return {
            "held_out": round(sum(losses) / len(losses), 5),
            "held_out_psnr": round(sum(qualities) / len(qualities), 3),
        }

    def _more_terms(self, got: Tensor, video: Tensor) -> dict[str, Tensor]:
        terms = {}
        if self.training.perceptual:
            terms["perceptual"] = texture_loss(got, video)
        return terms

    def _beside(self, terms: dict[str, Tensor]) -> Tensor:
        """What is added to either reconstruction: differences, texture."""
        return sum(getattr(self.training, name) * terms[name] for name in ("edges", "perceptual") if name in terms)

    def _weighed(
        self, step: int, error: Tensor, posterior: Posterior, terms: dict[str, Tensor]
    ) -> tuple[Tensor, float]:
        """The reconstruction loss and the weight of the KL per latent number."""
        training = self.training
        if self.likelihood is None:
            return terms["absolute"] + training.squared * terms["squared"] + self._beside(terms), training.kl
        if step == 0:
            self.likelihood.start_at(error)
        terms["nll"], terms["width"] = self.likelihood(error), self.likelihood.width()
        # in units of the width, as the likelihood counts the error; it must not bend the width itself
        loss = terms["nll"] + self._beside(terms) / terms["width"]
        return loss, training.likelihood.beta * posterior.mean.numel() / error.numel()


def with_statistics(
    model: CausalVideoAutoencoder, source: SkiesOrClips, device: torch.device
) -> CausalVideoAutoencoder:
    """The model, its configuration completed by latent statistics and colours unless it has them already."""
    statistics = model.statistics or measure_latents(model, source, device)
    rgb = model.config.latent_rgb or measure_colours(model, source, device)
    model.config = replace(model.config, latent_mean=statistics.mean, latent_std=statistics.std, latent_rgb=rgb)
    return model


@torch.no_grad()
def measure_colours(
    model: CausalVideoAutoencoder, source: SkiesOrClips, device: torch.device, clips: int = 64, batch: int = 16
) -> Colours:
    """The colours of the latent's channels, fitted on clips of the source."""
    videos = clip_batches(source, clips, batch, device, MEASURED_SKIES)
    return fit_colours((model.encode(video).mean, video) for video in videos)


@torch.no_grad()
def measure_latents(
    model: CausalVideoAutoencoder, source: SkiesOrClips, device: torch.device, clips: int = 256, batch: int = 16
) -> LatentStatistics:
    """Mean and deviation of the latent channels over clips; a linear encoder's keep their relative scale."""
    videos = clip_batches(source, clips, batch, device, MEASURED_SKIES)
    latents = (model.encode(video).mean.float() for video in videos)
    return LatentStatistics.measure(latents, per_channel=model.encoder is not None)


def held_out_quality(
    model: CausalVideoAutoencoder, source: SkiesOrClips, device: torch.device, clips: int = 64, batch: int = 8
) -> CodecQuality:
    """All measures of the reconstruction (posterior mean, output clipped to -1..1), means over the source's clips."""
    return codec_quality(model, clip_batches(source, clips, batch, device))
