"""How much memory there is, so that what can never fit is refused in words: the system just ends the program."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .transformer import TransformerConfig


# as Python, torch and the libraries of graphics cards (CUBLAS_STATUS_ALLOC_FAILED) say it
_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|(can't|cannot) allocate memory|status_alloc_failed", re.IGNORECASE
)


def machine_memory() -> int | None:
    """Bytes of memory this machine has, None where the system does not tell (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def gigabytes(count: int) -> str:
    """A number of bytes in words: 0.4 GB, 25 GB."""
    return f"{count / 1e9:.1f} GB" if count < 10e9 else f"{count / 1e9:.0f} GB"


def denoise_bytes(config: TransformerConfig, shape: Sequence[int], itemsize: int) -> int:
    """Working memory of one pass of the transformer, in bytes, an upper estimate without the weights.

    shape: latent [B, C, T, H, W], the batch with all prompts. Attention is taken not to build its whole matrix. At the
    peak a block holds its input, the stream, its normed copy, q, k, v, turned q and k, what turning needs (in float32,
    so more of it for 16-bit weights) and the result, or its inner feed-forward (swiglu: with both halves).
    """
    tokens = math.prod(math.ceil(size / patch) for size, patch in zip(shape[2:], config.patch, strict=True))
    inner = config.ff_width * (4 if config.feed_forward == "swiglu" else 2)
    attention = (10 if itemsize >= 4 else 13) * config.width
    return shape[0] * tokens * max(attention, 3 * config.width + inner) * itemsize


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a graphics card or on the CPU, as torch reports it."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "OutOfMemory" in type(error).__name__:
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
