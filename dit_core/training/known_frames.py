"""Which latent frames of a training clip are given, so that one model continues, connects, loops and animates.

A known frame has timestep 0 and carries its clean latent; only the others enter the loss (design.md, decision 1;
per-frame noise levels: Diffusion Forcing, arXiv:2407.01392).
"""

from __future__ import annotations

import torch
from torch import Tensor


def draw_known_frames(batch: int, frames: int, share: float, generator: torch.Generator) -> Tensor:
    """Bool [batch, frames], True = known. A share of the clips has known frames, never all of them.

    Four patterns, equally likely: a beginning, an end, both ends, or each frame by coin.
    """
    device = generator.device
    draw = lambda *shape: torch.rand(*shape, generator=generator, device=device)  # noqa: E731
    place = torch.arange(frames, device=device)[None]
    head = 1 + (draw(batch, 1) * (frames - 1)).long()  # 1 .. frames - 1 known at the beginning
    tail = 1 + (draw(batch, 1) * (frames - 1)).long()
    first, last = place < head, place >= frames - tail
    both = (place == 0) | (place == frames - 1) if frames > 2 else first
    coin = draw(batch, frames) < 0.5
    coin &= ~coin.all(1, keepdim=True)
    kind = (draw(batch, 1) * 4).long()
    known = torch.where(kind == 0, first, torch.where(kind == 1, last, torch.where(kind == 2, both, coin)))
    if frames == 1:
        known = torch.zeros_like(known)
    return known & (draw(batch, 1) < share)
