"""Training the transformer and its text encoder on cached latents; the autoencoder is not touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..device import autocast, training_dtype
from ..errors import ConfigError
from ..generate import model_objective
from ..latents import Latents, weights_sha256
from ..text import TextEncoder
from ..transformer import TransformerConfig, VideoDiT
from .callbacks import Callbacks
from .compiling import compiled
from .known_frames import draw_known_frames
from .log import LEVEL_COUNTS, LEVEL_SUMS, mean_by_level
from .loop import LoopSettings, StepFunction, run_loop
from .optim import OPTIMISERS, MovingAverage, make_optimisers
from .precision import remembered, settled
from .seeding import generator_of_step, seeded
from .state import TrainingState

NOISE_BINS = 8
HELD_OUT_CLIPS = 64  # at least so many are drawn for a measurement


@dataclass(frozen=True)
class TransformerTraining:
    """Optimiser and what is drawn at random for each sample. Raises `ConfigError` naming the field."""

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
    compile: bool | None = None  # compile the blocks; None = where `compiles` knows that it pays: NVIDIA, Triton
    checkpoint_activations: bool = False  # work blocks out again in the backward pass: a third slower, far less memory
    seed: int = 1

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            self._refuse("optimiser", " or ".join(OPTIMISERS))
        for name in ("uniform", "caption_dropout", "known", "ema"):
            if not 0 <= getattr(self, name) <= 1:
                self._refuse(name, "a number from 0 to 1")
        for name in ("lr", "timestep_std"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                self._refuse(name, "a number above 0")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            self._refuse("weight_decay", "a number of at least 0")
        if not math.isfinite(self.timestep_mean):
            self._refuse("timestep_mean", "a number")

    def _refuse(self, name: str, allowed: str) -> None:
        raise ConfigError(f"The training has {name} = {getattr(self, name)!r}; allowed is {allowed}.")


def draw_levels(batch: int, settings: TransformerTraining, generator: torch.Generator) -> Tensor:
    """Noise levels in 0..1 [batch]; stratified, so that each batch sees all levels and the loss is less noisy."""
    device = generator.device
    u = (torch.arange(batch, device=device) + torch.rand(batch, generator=generator, device=device)) / batch
    u = u.clamp(1e-4, 1 - 1e-4)
    normal = torch.special.ndtri(u.cpu()).to(device) if device.type == "mps" else torch.special.ndtri(u)  # it has none
    level = torch.sigmoid(settings.timestep_mean + settings.timestep_std * normal)
    flat = torch.rand(batch, generator=generator, device=device) < settings.uniform
    return torch.where(flat, u, level).clamp(1e-4, 1.0)


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
    return {LEVEL_SUMS: sums, LEVEL_COUNTS: counts}


def train_transformer(
    model: VideoDiT,
    text: TextEncoder,
    latents: Latents,
    folder: Path,
    loop: LoopSettings,
    training: TransformerTraining,
    device: torch.device,
    callbacks: Callbacks | None = None,
    held_out: Latents | None = None,
    provenance: dict | None = None,
) -> tuple[dict, bool]:
    """Train or go on; leaves the averaged weights in `model` and `text`. Returns position and whether done.

    Args:
        held_out: clips whose loss is logged every `loop.held_out_every` steps.
        provenance: more to keep with the state, JSON values; another value is another training.

    Raises: as `run_loop`.
    """
    modules = {"transformer": model, "text_encoder": text.module}
    text.module.requires_grad_(training.train_text)
    settings = described(model, text, latents, loop, training) | (provenance or {})
    training = replace(training, precision=settled(training.precision, folder, device))
    optimisers = make_optimisers(modules, training.optimiser, training.lr, training.weight_decay, training.precision)
    learning = modules if training.train_text else {"transformer": model}
    averages = {name: MovingAverage(module, training.ema) for name, module in learning.items()}
    state = TrainingState(folder, modules, averages, optimisers, settings, defaults=defaults_before(training, settings))
    text.module.train(training.train_text)
    random = training.train_text  # T5 has dropout of its own
    done = run_denoising(state, model, text, latents, loop, training, device, callbacks, held_out, random)
    for average in averages.values():
        average.swap()
    text.module.eval()
    model.eval()
    return state.position, done


def run_denoising(
    state: TrainingState,
    model: VideoDiT,
    text: TextEncoder,
    latents: Latents,
    loop: LoopSettings,
    training: TransformerTraining,
    device: torch.device,
    callbacks: Callbacks | None,
    held_out: Latents | None,
    random: bool,
) -> bool:
    """The loop of every training that denoises latents, whatever of the model learns: whether it came to its end.

    training: its precision is settled. random: what learns draws random numbers itself, such as dropout.
    """
    state.position |= remembered(training.precision, device)
    model.train()
    step = denoising_step(model, text, latents, loop.batch, training, device)
    if random:
        step = seeded(step, training.seed, device)
    with (
        checkpointed(model, training.checkpoint_activations),
        compiled(model.blocks, device, training.compile),
    ):
        measure = held_out_loss(model, text, held_out, loop.batch, training, device)
        return run_loop(state, step, loop, callbacks, measure)


def described(
    model: VideoDiT, text: TextEncoder, latents: Latents, loop: LoopSettings, training: TransformerTraining
) -> dict[str, Any]:
    """What makes a training this one and no other, JSON values: a state goes on under the same only.

    How long it is, how it is watched and what only saves memory is not part of it.
    """
    chosen = asdict(training)
    chosen.pop("checkpoint_activations")
    data = latents.fingerprint()
    # one that stays as it is belongs to what is learned; one that learns is in the state, and the given one is not used
    encoder = {} if training.train_text else {"text_encoder": weights_sha256(text.module)}
    return {
        "kind": "denoising",
        "config": model.config.to_dict(),
        "text": text.config_dict(),
        **encoder,
        "training": chosen,
        "batch": loop.batch,
        "accumulate": loop.accumulate,
        "clips": len(latents),
        **({"data": data} if data else {}),
    }


def defaults_before(training: TransformerTraining, settings: dict[str, Any]) -> dict[str, Any]:
    """What a state means by settings that it was saved without; see `TrainingState`.

    settings: those of now. A state from before its text encoder was told apart by its weights is taken at its word.
    """
    usual = asdict(type(training)())
    usual.pop("checkpoint_activations")
    encoder = {name: settings[name] for name in ("text_encoder",) if name in settings}
    return {"config": _config_defaults(), "training": usual, "accumulate": 1, **encoder}


def _config_defaults() -> dict[str, Any]:
    """The fields of a `TransformerConfig` that need not be given: a state from before one was added has its default."""
    values = {
        f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(TransformerConfig)
    }
    return {name: value for name, value in values.items() if value is not MISSING}


@contextmanager
def checkpointed(model: VideoDiT, wanted: bool) -> Iterator[None]:
    """Activation checkpointing of the blocks (arXiv:1604.06174) while the block runs; does not change the results."""
    before = model.gradient_checkpointing
    model.gradient_checkpointing = before or wanted
    try:
        yield
    finally:
        model.gradient_checkpointing = before


def denoising_step(
    model: VideoDiT,
    text: TextEncoder,
    latents: Latents,
    batch: int,
    training: TransformerTraining,
    device: torch.device,
) -> StepFunction:
    """The step of `run_loop`: noise a random batch of clips, predict, compare. Clips of a group get the same noise.

    All random numbers come from one generator seeded by `training.seed` and the step.
    """
    objective = model_objective(model.config)
    end = text.tokenize([""])[0][0]
    dtype = training_dtype(training.precision, device)

    def step_function(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        generator = generator_of_step(training.seed, step, device)
        clean, tokens, group = latents.draw(batch, generator)
        tokens = drop_captions(tokens, training.caption_dropout, end, generator)
        drawn = -(-batch // group)
        level = draw_levels(drawn, training, generator)
        known = draw_known_frames(drawn, clean.shape[2], training.known, generator)
        noise = torch.randn(drawn, *clean.shape[1:], generator=generator, device=device)
        level, known, noise = (one.repeat_interleave(group, 0)[:batch] for one in (level, known, noise))
        sigma = objective.sigma(level * objective.timestep_max)[:, None] * ~known  # [B, T], 0 = known
        x = objective.network_input(objective.add_noise(clean, noise, sigma), sigma)
        target = objective.target(clean, noise, sigma)
        with autocast(device, dtype):
            embedding = text.forward_ids(tokens, tokens != 0)
            prediction = model(x, objective.timestep(sigma), embedding.embeddings, embedding.mask, embedding.pooled)
        loss = denoising_loss(prediction[:, : target.shape[1]] - target, known)  # a learned variance does not learn
        return loss.mean(), by_level(loss, level)

    return step_function


def drop_captions(tokens: Tensor, share: float, end: Tensor, generator: torch.Generator) -> Tensor:
    """Token ids [B, L] with the empty caption (`end`: its tokens) in a share of the rows."""
    device = generator.device
    empty = torch.zeros_like(tokens[:1])
    empty[0, : len(end)] = end.to(device)
    dropped = torch.rand(len(tokens), 1, generator=generator, device=device) < share
    tokens = torch.where(dropped, empty, tokens)
    if device.type == "cpu":  # no work for padding; a GPU prefers one shape
        tokens = tokens[:, : int((tokens != 0).sum(1).max())]
    return tokens


def held_out_loss(
    model: VideoDiT,
    text: TextEncoder,
    latents: Latents | None,
    batch: int,
    training: TransformerTraining,
    device: torch.device,
) -> Callable[[], dict] | None:
    """A function that measures the loss on held-out clips, drawn and noised as in training: what it is above the
    training loss was learned by heart. The same clips, levels and noise each time, so that curves do not jitter.

    It returns `held_out`, the mean, and `held_out_level_loss`, by noise level. None without clips.
    """
    if latents is None:
        return None
    step = denoising_step(model, text, latents, batch, training, device)

    def measure() -> dict:
        losses, told = [], []
        for k in range(max(1, -(-HELD_OUT_CLIPS // batch))):
            loss, values = step(-1 - k)  # numbers that no training step has
            losses.append(loss)
            told.append(values)
        sums, counts = (sum(values[name] for values in told) for name in (LEVEL_SUMS, LEVEL_COUNTS))
        return {
            "held_out": round(torch.stack(losses).mean().item(), 5),
            "held_out_level_loss": mean_by_level(sums, counts),
        }

    return measure
