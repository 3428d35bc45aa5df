"""Clips from prompts, several at a time, and how long one takes.

The nodes denoise one prompt for a batch of clips; here each clip of a batch has a prompt of its own. A clip does not
depend on the others of its batch (up to float rounding): its noise comes from its own seed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from sora_dit.dit_core.checkpoint import Bundle
from sora_dit.dit_core.conditioning import Conditioning, Prompt, PromptConditioning, combine, guided_levels, join_texts
from sora_dit.dit_core.diffusion.guidance import classifier_free
from sora_dit.dit_core.diffusion.noise import SeededNoise, cpu_noise
from sora_dit.dit_core.diffusion.objectives import Objective
from sora_dit.dit_core.diffusion.samplers import sample
from sora_dit.dit_core.diffusion.schedules import make_sigmas
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.generate import denoise_latent, model_objective, model_shift, model_statistics
from sora_dit.dit_core.measures import to_frames
from sora_dit.dit_core.transformer import Modulation, TextKeyValues, VideoDiT
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How to sample; the defaults are those of `workflows/text_to_video.json`."""

    steps: int = 14
    guidance: float = 2.5
    sampler: str = "dpmpp_2m"
    schedule: str = "auto"
    shift: float = 0.0  # 0 = the model's own
    negative: str = ""
    guidance_until: float = 0.7  # share of the highest timestep


@dataclass(frozen=True)
class ClipSize:
    """Of the clips to make: frames, pixels, frames a second."""

    frames: int
    height: int
    width: int
    fps: float

    @classmethod
    def of(cls, bundle: Bundle, size: int = 0, frames: int = 0) -> ClipSize:
        """What the model was trained on, unless given."""
        trained = {} if bundle.transformer is None else bundle.transformer.config.training
        height, width = size or trained.get("height", 64), size or trained.get("width", 64)
        return cls(frames or trained.get("frames", 17), height, width, float(trained.get("fps", 8.0)))


class PromptBatch:
    """(x, index) -> x0, what a sampler calls, with a prompt for each clip of the batch; see `conditioning.Denoiser`."""

    def __init__(
        self,
        model: VideoDiT,
        objective: Objective,
        prompts: Sequence[Conditioning],
        guidance: float,
        until: float = 0.0,
    ) -> None:
        self.model, self.objective, self.guidance = model, objective, guidance
        self.sigmas = prompts[0].sigmas.tolist()
        self.guided = guided_levels(prompts[0], objective, guidance, until)
        self.rows = len(prompts[0].timesteps)
        positive = [p.positive[0] for p in prompts]
        self.alone = self._joined(positive)
        self.both = self._joined(positive + [p.negative[0] for p in prompts]) if any(self.guided) else self.alone

    def _joined(self, parts: list[PromptConditioning]) -> tuple[TextKeyValues, Modulation, Tensor]:
        """Text, modulation, and the first row of each part in it [parts, 1]."""
        modulation = Modulation.join([part.modulation for part in parts])
        offset = torch.arange(len(parts), device=modulation.final.device)[:, None] * self.rows
        return join_texts([part.text for part in parts]), modulation, offset

    def __call__(self, x: Tensor, index: int) -> Tensor:
        """x [B, C, T, h, w] at level sigmas[index] -> the estimated clean latent, same shape, float32."""
        sigma = self.sigmas[index]
        text, modulation, offset = self.both if self.guided[index] else self.alone
        seen = self.objective.network_input(x, sigma).to(modulation.final.dtype)
        halves = len(offset) // len(x)
        out = self.model.denoise(seen.repeat(halves, 1, 1, 1, 1), modulation.select(offset + index), text)
        parts = out[:, : x.shape[1]].float().chunk(halves)
        prediction = classifier_free(parts[0], parts[1], self.guidance) if halves == 2 else parts[0]
        return self.objective.denoised(x, prediction, sigma)


def latent_shape(bundle: Bundle, size: ClipSize) -> torch.Size:
    """[1, C, T, h, w] of one clip."""
    config = bundle.autoencoder.config
    space = config.spatial_factor
    frames = config.latent_frames(size.frames)
    if config.video_frames(frames) != size.frames or size.height % space or size.width % space:
        raise ConfigError(
            f"Got {size.frames} frames of {size.width} x {size.height}; this model makes "
            f"{config.temporal_factor}k+1 frames, with sides that are multiples of {space}."
        )
    return torch.Size((1, config.latent_channels, frames, size.height // space, size.width // space))


def conditioning_for(bundle: Bundle, prompt: str, sampling: Sampling) -> Conditioning:
    """Text and schedule of one prompt, worked out."""
    model = bundle.transformer
    objective = model_objective(model.config)
    trained = model_shift(model.config)
    sigmas = make_sigmas(objective, sampling.steps, sampling.schedule, sampling.shift or trained)
    texts = [prompt] if sampling.guidance == 1.0 else [prompt, sampling.negative]
    encoded = [bundle.text_encoder.encode([text]) for text in texts]
    return combine(model, objective, sigmas, *(Prompt(e.embeddings, e.mask, e.pooled) for e in encoded))


@torch.inference_mode()
def generate_batch(
    bundle: Bundle, prompts: Sequence[str], seeds: Sequence[int], size: ClipSize, sampling: Sampling
) -> Tensor:
    """One clip for each prompt, all at once -> [B, F, H, W, 3] in 0..1, on the CPU."""
    model = bundle.transformer
    objective, statistics = model_objective(model.config), model_statistics(model.config)
    plans = [conditioning_for(bundle, prompt, sampling) for prompt in prompts]
    denoiser = PromptBatch(model, objective, plans, sampling.guidance, sampling.guidance_until)
    device = next(model.parameters()).device
    shape = latent_shape(bundle, size)

    def fresh_noise(x: Tensor, index: int) -> Tensor:
        return torch.cat([SeededNoise(seed)(x[i : i + 1], index) for i, seed in enumerate(seeds)])

    start = torch.cat([cpu_noise(seed, shape) for seed in seeds]).to(device)
    x = objective.initial(start, denoiser.sigmas[0])
    sigmas = torch.tensor(denoiser.sigmas)
    x = sample(sampling.sampler, denoiser, x, sigmas, objective=objective, noise_source=fresh_noise)
    latent = x if statistics is None else statistics.denormalise(x)
    return to_frames(bundle.autoencoder.decode(latent.to(next(bundle.autoencoder.parameters()))))


def generate(
    bundle: Bundle,
    prompts: Sequence[str],
    seed: int,
    size: ClipSize,
    sampling: Sampling,
    batch: int = 4,
    report: Callable[[str], None] = lambda line: None,
) -> Tensor:
    """Clip i from prompt i with seed `seed + i` -> [N, F, H, W, 3] in 0..1, on the CPU."""
    clips = []
    started = time.monotonic()
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        clips.append(generate_batch(bundle, part, range(seed + start, seed + start + len(part)), size, sampling))
        report(f"  {start + len(part)} of {len(prompts)} clips, {time.monotonic() - started:.0f} s")
    return torch.cat(clips)


@torch.inference_mode()
def time_clip(bundle: Bundle, prompt: str, size: ClipSize, sampling: Sampling, repeats: int = 3) -> dict[str, float]:
    """Median seconds for one clip, by part: "text" (prompt and schedule worked out), "denoise", "decode", "total".

    It goes the way the nodes go; a first run, which warms up, is not counted.
    """
    shape = latent_shape(bundle, size)
    runs = []
    for seed in range(repeats + 1):
        marks = [time.perf_counter()]
        conditioning = conditioning_for(bundle, prompt, sampling)
        marks.append(time.perf_counter())
        latent = denoise_latent(
            bundle.transformer,
            conditioning,
            torch.zeros(shape),
            seed=seed,
            guidance_scale=sampling.guidance,
            guidance_until=sampling.guidance_until,
            sampler=sampling.sampler,
        )
        marks.append(time.perf_counter())
        to_frames(bundle.autoencoder.decode(latent.to(next(bundle.autoencoder.parameters()))))
        marks.append(time.perf_counter())
        runs.append([b - a for a, b in zip(marks, marks[1:], strict=False)] + [marks[-1] - marks[0]])
    names = ("text", "denoise", "decode", "total")
    return dict(
        zip(names, (round(statistics.median(column), 4) for column in zip(*runs[1:], strict=True)), strict=True)
    )
