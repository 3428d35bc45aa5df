"""Training the transformer and its text encoder on cached latents; the autoencoder is not touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..device import training_dtype
from ..generate import model_objective
from ..text import TextEncoder
from ..transformer import VideoDiT
from .known_frames import draw_known_frames
from .loop import LoopSettings, StepFunction, run_loop
from .optim import MovingAverage, make_optimisers
from .sky_data import LatentCache
from .state import TrainingState

NOISE_BINS = 8


@dataclass(frozen=True)
class TransformerTraining:
    """Optimiser and what is drawn at random for each sample."""

    optimiser: str = "muon"
    lr: float = 3e-3
    weight_decay: float = 0.01
    ema: float = 0.999
    timestep_mean: float = 0.2  # noise level = sigmoid(normal(mean, std)) (logit-normal, arXiv:2403.03206)
    timestep_std: float = 1.0
    uniform: float = 0.15  # share of the samples whose noise level is uniform instead, so that no level is never seen
    caption_dropout: float = 0.1  # share trained without words, for classifier-free guidance (arXiv:2207.12598)
    known: float = 0.3  # share with known frames
    # An encoder that can read stays as it is: while the transformer does not listen yet, its gradients are noise, which
    # an optimiser with normalised steps blows up until nothing is left (seen: 0.54 -> 0.06 deviation over prompts).
    train_text: bool = False
    precision: str = "auto"  # of the products: auto | float32 | bfloat16, see `training_dtype`
    compile: bool | None = None  # compile the blocks; None = on an NVIDIA card only (a CPU needs a C++ compiler for it)
    seed: int = 1


def draw_levels(batch: int, settings: TransformerTraining, generator: torch.Generator) -> Tensor:
    """Noise levels in 0..1 [batch]; stratified, so that each batch sees all levels and the loss is less noisy."""
    device = generator.device
    u = (torch.arange(batch, device=device) + torch.rand(batch, generator=generator, device=device)) / batch
    normal = torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4))
    level = torch.sigmoid(settings.timestep_mean + settings.timestep_std * normal)
    flat = torch.rand(batch, generator=generator, device=device) < settings.uniform
    return torch.where(flat, torch.rand(batch, generator=generator, device=device), level).clamp(1e-4, 1.0)


def denoising_loss(error: Tensor, known: Tensor) -> Tensor:
    """Mean squared error per clip [B], over the frames that are not known. error [B, C, T, h, w], known [B, T]."""
    per_frame = error.float().square().mean(dim=(1, 3, 4))
    wanted = (~known).float()
    return (per_frame * wanted).sum(1) / wanted.sum(1)


def by_level(loss: Tensor, level: Tensor) -> dict[str, Tensor]:
    """Loss sums and counts in eight equal bins of the noise level: the mean hides everything."""
    index = (level * NOISE_BINS).long().clamp(max=NOISE_BINS - 1)
    sums = torch.zeros(NOISE_BINS, device=loss.device).index_add_(0, index, loss.detach())
    counts = torch.zeros(NOISE_BINS, device=loss.device).index_add_(0, index, torch.ones_like(loss))
    return {"level_loss_sum": sums, "level_count": counts}


def train_transformer(
    model: VideoDiT,
    text: TextEncoder,
    cache: LatentCache,
    folder: Path,
    loop: LoopSettings,
    training: TransformerTraining,
    device: torch.device,
    report: Callable[[dict], None] | None = None,
    provenance: dict | None = None,
) -> tuple[dict, bool]:
    """Train or go on; leaves the averaged weights in `model` and `text`. Returns position and whether done."""
    modules = {"transformer": model, "text_encoder": text.module}
    text.module.requires_grad_(training.train_text)
    optimisers = make_optimisers(modules, training.optimiser, training.lr, training.weight_decay)
    averages = {name: MovingAverage(module, training.ema) for name, module in modules.items()}
    settings = {
        "config": model.config.to_dict(),
        "text": text.config_dict(),
        "training": asdict(training),
        "batch": loop.batch,
        "clips": len(cache),
        **(provenance or {}),
    }
    state = TrainingState(folder, modules, averages, optimisers, settings)
    state.load()
    text.module.train(training.train_text)
    model.train()
    compile_blocks(model, device, training.compile)
    done = run_loop(state, denoising_step(model, text, cache, loop.batch, training, device), loop, report)
    for average in averages.values():
        average.swap()
    text.module.eval()
    model.eval()
    return state.position, done


def compile_blocks(model: VideoDiT, device: torch.device, wanted: bool | None = None) -> None:
    """Compile the blocks if wanted; None: where that pays at once, on an NVIDIA card."""
    if device.type == "cuda" if wanted is None else wanted:
        for block in model.blocks:
            block.compile()


def denoising_step(
    model: VideoDiT,
    text: TextEncoder,
    cache: LatentCache,
    batch: int,
    training: TransformerTraining,
    device: torch.device,
) -> StepFunction:
    """The step of `run_loop`: noise a random batch of the cache, predict, compare.

    All random numbers come from one generator seeded by `training.seed` and the step.
    """
    objective = model_objective(model.config)
    end = text.tokenize([""])[0][0]
    dtype = training_dtype(training.precision, device)

    def step_function(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        generator = torch.Generator(device).manual_seed(training.seed * 1_000_003 + step)
        clean, tokens = _draw_batch(cache, batch, generator, training.caption_dropout, end)
        level = draw_levels(batch, training, generator)
        known = draw_known_frames(batch, clean.shape[2], training.known, generator)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        sigma = objective.sigma(level * objective.timestep_max)[:, None] * ~known  # [B, T], 0 = known
        x = objective.network_input(objective.add_noise(clean, noise, sigma), sigma)
        target = objective.target(clean, noise, sigma)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            embedding = text.forward_ids(tokens, tokens != 0)
            prediction = model(x, objective.timestep(sigma), embedding.embeddings, embedding.mask, embedding.pooled)
        loss = denoising_loss(prediction - target, known)
        return loss.mean(), by_level(loss, level)

    return step_function


def _draw_batch(
    cache: LatentCache, batch: int, generator: torch.Generator, dropout: float, end: Tensor
) -> tuple[Tensor, Tensor]:
    """Clean latents [B, C, T, h, w] float32 and token ids [B, L] of random clips and wordings."""
    device = generator.device
    index = torch.randint(len(cache), (batch,), generator=generator, device=device)
    wording = torch.randint(cache.tokens.shape[1], (batch,), generator=generator, device=device)
    tokens = cache.tokens[index, wording].long()
    empty = torch.zeros_like(tokens[:1])
    empty[0, : len(end)] = end.to(device)
    dropped = torch.rand(batch, 1, generator=generator, device=device) < dropout
    tokens = torch.where(dropped, empty, tokens)
    if device.type == "cpu":  # no work for padding; a GPU prefers one shape
        tokens = tokens[:, : int((tokens != 0).sum(1).max())]
    return cache.latents[index].float(), tokens
