"""Combining the model's answers to the prompt and to the negative prompt."""

from __future__ import annotations

from torch import Tensor

from ..errors import SoraDiTError


def classifier_free(cond: Tensor, uncond: Tensor | None, scale: float, rescale: float = 0.0) -> Tensor:
    """uncond + scale * (cond - uncond), for predictions or denoised latents [B, ...] alike (the two are linear).

    scale: 1 is the prompt alone and gives `cond` exactly, so `uncond` may be None; above 1 follows the prompt harder.
    rescale: 0..1, how far each clip's standard deviation is brought back to that of `cond`, against over-saturation
    (0.7 is the paper's choice; here 0 is off). Raises SoraDiTError if uncond is missing or rescale is out of range.

    Sources: Ho & Salimans 2207.12598; rescale: Lin et al. 2305.08891, equations 14-16.
    """
    if not 0.0 <= rescale <= 1.0:
        raise SoraDiTError(f"A guidance rescale of {rescale} is not possible; expected a number from 0 to 1.")
    if scale == 1.0:
        return cond
    if uncond is None:
        raise SoraDiTError(f"A guidance scale of {scale} needs a negative prompt to push away from; expected scale 1.")
    guided = uncond + scale * (cond - uncond)
    if rescale == 0.0:
        return guided
    dims = tuple(range(1, cond.ndim))
    factor = cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guided * (rescale * factor + (1.0 - rescale))
