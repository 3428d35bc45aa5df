"""Fréchet distance of two sets of clips on what a probe sees: how far apart two Gaussians fitted to its features are.

As FID (arXiv:1706.08500) and FVD (arXiv:1812.01717), with the hidden layer of `probes.SkyProbe` in place of a network
trained on photographs. The number depends on the probe and, below some thousand clips, on how many clips there are, so
sets are compared at equal counts and beside a floor: rendered clips against other rendered clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from probes import SkyProbe, look
from torch import Tensor


@torch.inference_mode()
def features(probe: SkyProbe, clips: Tensor, fps: float, batch: int = 64) -> Tensor:
    """Clips [N, F, H, W, 3] -> the probe's hidden layer [N, D], float64."""
    probe.eval()
    return torch.cat([probe.features(look(part, fps)) for part in clips.split(batch)]).double()


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of the Gaussians of two feature sets [N, D] and [M, D].

    |mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson & Landau 1982). The trace of the root is that of the
    symmetric A^(1/2) B A^(1/2), which has the same eigenvalues.
    """
    means, covariances = [x.mean(0) for x in (a, b)], [x.T.cov() for x in (a, b)]
    values, vectors = torch.linalg.eigh(covariances[0])
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp_min(0).sqrt().sum()
    spread = covariances[0].trace() + covariances[1].trace() - 2 * cross
    return float((means[0] - means[1]).square().sum() + spread)


@dataclass(frozen=True)
class Frechet:
    """Distances to the same rendered clips, all on `clips` clips each; floor: of other rendered ones."""

    floor: float
    coded: float
    generated: float | None
    clips: int


def frechet(probe: SkyProbe, fps: float, rendered: Tensor, coded: Tensor, generated: Tensor | None) -> Frechet:
    """Compare with one half of the rendered clips; floor and coded clips are those of the other half."""
    count = min(len(rendered) // 2, len(rendered if generated is None else generated))
    seen = features(probe, rendered[: 2 * count], fps)
    reference, other = seen[:count], seen[count:]
    through = features(probe, coded[count : 2 * count], fps)
    made = None if generated is None else features(probe, generated[:count], fps)
    return Frechet(
        frechet_distance(reference, other),
        frechet_distance(reference, through),
        None if made is None else frechet_distance(reference, made),
        count,
    )
