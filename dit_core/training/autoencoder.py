"""Training the autoencoder by maximum likelihood: reconstruction plus KL (arXiv:1312.6114)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoder import AutoencoderConfig, CausalVideoAutoencoder, Colours, LatentStatistics, fit_colours
from .loop import LoopSettings, run_loop
from .optim import MovingAverage, make_optimisers
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


def reconstruction_loss(got: Tensor, wanted: Tensor, settings: AutoencoderTraining) -> dict[str, Tensor]:
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
    report: Callable[[dict], None] | None = None,
) -> tuple[CausalVideoAutoencoder, dict, bool]:
    """Train or go on; returns the averaged model with its latent statistics, the position, and whether it is done.

    A model that is all linear is done as soon as it is fitted. A linear encoder is the best of its kind already, and
    latents of which a model knows the statistics may be in use by a transformer: in both cases only the decoder learns.
    """
    known = model.statistics
    if model.decoder is None:
        return with_statistics(model, source, device), {"step": 0, "samples": 0, "seconds": 0.0}, True
    if model.encoder is None or known is not None:
        model.requires_grad_(False)
        model.decoder.requires_grad_(True)
    optimisers = make_optimisers({"autoencoder": model}, training.optimiser, training.lr, training.weight_decay)
    average = MovingAverage(model, training.ema)
    settings = {
        "config": model.config.to_dict(),
        "source": asdict(source),
        "training": asdict(training),
        "batch": loop.batch,
    }
    state = TrainingState(folder, {"autoencoder": model}, {"autoencoder": average}, optimisers, settings)
    state.load()
    if device.type == "cuda":
        for part in (model.encoder, model.decoder):
            if part is not None:
                part.compile()

    def step_function(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        size = training.sizes[step % len(training.sizes)]
        count = max(1, loop.batch * min(training.sizes) ** 2 // size**2)  # a step costs about the same at every size
        video = replace(source, height=size, width=size).clips(step * loop.batch, count, device)
        generator = torch.Generator(device).manual_seed(training.seed * 1_000_003 + step)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            got, posterior = model(video, generator)
        terms = reconstruction_loss(got.float(), video, training)
        terms["kl"] = posterior.kl()
        loss = (
            terms["absolute"]
            + training.squared * terms["squared"]
            + training.edges * terms["edges"]
            + training.kl * terms["kl"]
        )
        terms["psnr"] = -10 * torch.log10(terms["squared"].detach() / 4)
        return loss, {name: value.detach() for name, value in terms.items()}

    done = run_loop(state, step_function, loop, report)
    average.swap()
    model.eval()
    return with_statistics(model, source, device), state.position, done


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


@torch.no_grad()
def reconstruction_psnr(
    model: CausalVideoAutoencoder, source: SkySource, device: torch.device, clips: int = 64, batch: int = 8
) -> float:
    """Mean over clips of the peak signal-to-noise ratio in dB, posterior mean, output clipped to -1..1."""
    values = []
    for start in range(0, clips, batch):
        video = source.clips(start, batch, device)
        got = model.decode(model.encode(video).mean).clamp(-1, 1)
        values.append(-10 * torch.log10((got - video).square().mean(dim=(1, 2, 3, 4)) / 4))
    return torch.cat(values).mean().item()
