"""A perceptual term without a network: is there as much texture as there should be, wherever it is exactly?

A decoder that is unsure where a star, a wave or the edge of a cloud lies draws a blur: every other answer costs more
squared error. What an eye would mind less is detail in nearly the right place. So not derivatives are compared but
their local energy, as in models of complex cells (Adelson & Bergen 1985) and as texture statistics are
(Portilla & Simoncelli 2000). With e the mean of a squared derivative over 4 x 4 pixels, in drawn (g) and wanted (w):

    1 - (2 sqrt(e_g e_w) + c) / (e_g + e_w + c)

which is the contrast term of SSIM (Wang et al. 2004) for that derivative: 0 = equal, 1 = detail on one side only. Mean
over the derivatives to the right, down, along both diagonals and to the next frame, at three scales, an octave apart.

Chosen by measuring (benchmarks/perceptual_terms.py): at equal squared error (30.5 dB) and with the loss of a blur as
unit, a sub-pixel shift costs 0.2 and flicker 1.6. Features of a fixed random network say 1.1 and 1.0 and take several
times as long; the length of the gradient says 1.0 and 0.0, 1 - SSIM 0.7 and 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

SCALES = 3
WINDOW = 4  # pixels; windows overlap by half
FLOOR = 1e-3  # c: energies far below it, in a video of -1..1, are not seen
SMALLEST = 8  # pixels; coarser scales than that are left out


def texture_loss(got: Tensor, wanted: Tensor) -> Tensor:
    """The module's equation, a scalar in 0..1. Both [B, C, F, H, W] in -1..1, sides of 8 pixels or more."""
    terms = []
    for scale in range(SCALES):
        if scale:
            got, wanted = (F.avg_pool3d(x, (1, 2, 2)) for x in (got, wanted))
        if scale and min(got.shape[-2:]) < SMALLEST:
            break
        for drawn, true in zip(_derivatives(got), _derivatives(wanted), strict=True):
            e_drawn, e_true = _energy(drawn), _energy(true)
            both = torch.sqrt((e_drawn + 1e-8) * (e_true + 1e-8))  # its gradient at 0 would be infinite
            terms.append(1 - ((2 * both + FLOOR) / (e_drawn + e_true + 2e-8 + FLOOR)).mean())
    return sum(terms) / len(terms)


def _derivatives(x: Tensor) -> Iterator[Tensor]:
    """Differences to the right, down, along the diagonals (per pixel) and to the next frame, if there is one."""
    yield x.diff(dim=4)
    yield x.diff(dim=3)
    yield (x[..., 1:, 1:] - x[..., :-1, :-1]) * 0.5**0.5
    yield (x[..., 1:, :-1] - x[..., :-1, 1:]) * 0.5**0.5
    if x.shape[2] > 1:
        yield x.diff(dim=2)


def _energy(x: Tensor) -> Tensor:
    return F.avg_pool3d(x.square(), (1, WINDOW, WINDOW), (1, WINDOW // 2, WINDOW // 2))
