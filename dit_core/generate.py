"""Denoising a latent: noise in, clean latent out, for every task (text or video to video, continuing, filling in)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .autoencoder import LatentStatistics
from .conditioning import Conditioning, Denoiser, Known
from .diffusion.noise import SeededNoise, cpu_noise
from .diffusion.objectives import OBJECTIVES, Objective, get_objective
from .diffusion.samplers import Callback, sample
from .errors import ShapeError, SoraDiTError
from .transformer import TransformerConfig, VideoDiT


def model_objective(config: TransformerConfig) -> Objective:
    """The objective a model was trained with, with the noise schedule from its configuration."""
    if OBJECTIVES[config.objective].straight:
        return get_objective(config.objective, num_train_timesteps=config.timestep_scale)
    keys = ("num_train_timesteps", "beta_schedule", "beta_start", "beta_end")
    return get_objective(config.objective, **{k: config.training[k] for k in keys if k in config.training})


def model_shift(config: TransformerConfig) -> float:
    """The shift that the model's clips are made with by default; 1 for objectives whose levels a table says."""
    return config.training.get("shift", 1.0) if OBJECTIVES[config.objective].straight else 1.0


def model_statistics(config: TransformerConfig) -> LatentStatistics | None:
    """Mean and standard deviation of the latents the model was trained on; None = latents are used as they are."""
    if config.latent_mean is None or config.latent_std is None:
        return None
    return LatentStatistics(config.latent_mean, config.latent_std)


@dataclass(frozen=True)
class Unfinished:
    """What a schedule that ended above 0 left, besides the latent.

    steps: how many it has had. clean: the raw latent it began with, [B, C, T, H, W]; None = not known, then what a mask
    keeps in part is taken from the noisy latent.
    """

    steps: int = 0
    clean: Tensor | None = None


@torch.inference_mode()
def denoise_latent(
    model: VideoDiT,
    conditioning: Conditioning,
    latent: Tensor,
    *,
    seed: int,
    guidance_scale: float = 1.0,
    guidance_until: float = 0.0,
    sampler: str = "euler",
    noise_mask: Tensor | None = None,
    noise_numbers: Sequence[int] | None = None,
    noisy: Unfinished | None = None,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Run the sampler over the conditioning's schedule.

    latent: raw latent [B, C, T, H, W]; zeros to make a clip from nothing. When the first noise level is below the
        maximum its content shows through (video to video).
    guidance_until: guidance ends below this level, a timestep as a share of the highest, 0 to 1 (guidance in an
        interval, arXiv:2404.07724; the steps after it need no negative prompt and take half the time).
    noise_mask: [B or 1, 1, T, H, W] or as `expand_mask` takes it, 1 = generate, 0 = keep; kept parts come out as they
        went in.
    noise_numbers: which of the seed's noises each clip gets, see `cpu_noise`.
    noisy: the latent is what a schedule that ended at this one's first level left; no noise is added, and the result is
        that of one whole schedule. (dpmpp_2m and unipc look back at earlier steps, and begin anew: theirs is close.)
    callback: see `samplers.sample`; it may raise to cancel.
    device: where to compute; None is where the weights are.
    Returns the raw latent, float32, on the CPU. Raises `ShapeError`, or `SoraDiTError` for a latent with NaN and when
    the model puts out NaN.
    """
    config = model.config
    if latent.ndim != 5 or latent.shape[1] != config.in_channels:
        raise ShapeError(
            f"Latent: got shape {list(latent.shape)}; this model works on [batch, {config.in_channels}, "
            "frames, height, width]. Make it with Empty Latent or Encode of the same model."
        )
    if not bool(torch.isfinite(latent).all()):
        raise SoraDiTError("Latent: it holds numbers that are not finite (NaN); expected a latent of numbers.")
    device = torch.device(device or next(model.parameters()).device)
    objective, statistics = model_objective(config), model_statistics(config)
    x = normalised(latent.to(device, torch.float32), statistics)
    given = latent if noisy is None or noisy.clean is None else noisy.clean  # kept parts come from here
    clean = x if given is latent else normalised(given.to(device, torch.float32), statistics)
    noise = cpu_noise(seed, latent.shape, noise_numbers).to(device)
    known = None
    if noise_mask is not None and bool((noise_mask < 1).any()):
        known = Known(clean, expand_mask(noise_mask, latent.shape).to(device, torch.float32), noise)
    if noisy is None:
        x = _noised(objective, clean, noise, float(conditioning.sigmas[0]))
    denoiser = Denoiser(model, objective, conditioning.to(device), guidance_scale, len(latent), known, guidance_until)
    x = sample(
        sampler,
        denoiser,
        x,
        conditioning.sigmas,
        objective=objective,
        callback=callback,
        noise_source=SeededNoise(
            seed, None if noise_numbers is None else tuple(noise_numbers), 0 if noisy is None else noisy.steps
        ),
    )
    if not bool(torch.isfinite(x).all()):
        raise SoraDiTError(
            "The model put out numbers that are not finite (NaN); expected a latent. Try dtype "
            "float32 in Load Model, another sampler, or a lower guidance scale."
        )
    if statistics is not None:
        x = statistics.denormalise(x)
    if known is not None:  # exact, not just up to rounding of the scale and back
        x = torch.where(known.mask <= 0, given.to(device, torch.float32), x)
    return x.cpu()


def normalised(latent: Tensor, statistics: LatentStatistics | None) -> Tensor:
    """Raw latents [B, ...] as the model sees them; a clip of zeros means "nothing there", not a grey video."""
    if statistics is None:
        return latent
    there = latent.flatten(1).any(1).view(-1, *(1,) * (latent.ndim - 1))
    return torch.where(there, statistics.normalise(latent), latent)


def _noised(objective: Objective, clean: Tensor, noise: Tensor, level: float) -> Tensor:
    """What a run begins with: noise alone at the highest level, below it the latent shows through."""
    whole = level >= objective.sigma_max * (1 - 1e-5)
    return objective.initial(noise, level) if whole else objective.add_noise(clean, noise, level)


def expand_mask(mask: Tensor, shape: torch.Size) -> Tensor:
    """Bring a noise mask to [B, 1, T, H, W] as ComfyUI does (`comfy.utils.reshape_mask`).

    A mask of fewer than five axes is a picture for each moment, [..., H, W], for all clips alike; other sizes than the
    latent's are resized linearly in time and space. But where it has a picture for each frame of the video, a latent
    frame is kept as far as all of its frames are (the first one is the first frame alone). Raises `ShapeError`.
    """
    got = list(mask.shape)
    if 2 <= mask.ndim < 5:
        mask = mask.reshape(1, 1, -1, *mask.shape[-2:])
    if mask.ndim != 5 or mask.shape[0] not in (1, shape[0]) or 0 in mask.shape:
        raise ShapeError(
            f"Noise mask: got shape {got}; expected [{shape[0]}, 1, {shape[2]}, {shape[3]}, {shape[4]}], or pictures "
            "[frames, height, width]."
        )
    mask = mask[:, :1].float()
    frames, cells = mask.shape[2], shape[2]
    if cells > 1 and frames > cells and (frames - 1) % (cells - 1) == 0:
        later = mask[:, :, 1:].unflatten(2, (cells - 1, -1)).amax(3)
        mask = torch.cat([mask[:, :, :1], later], 2)
    if mask.shape[2:] != shape[2:]:
        mask = F.interpolate(mask, size=tuple(shape[2:]), mode="trilinear")
    return mask.expand(shape[0], 1, *shape[2:])
