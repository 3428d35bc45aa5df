"""Does a clip hang together? The seams between the boxes that the transformer calls tokens, in space and in time.

A token is `patch * spatial_factor` pixels wide and `patch * temporal_factor` frames long. Where a picture is one, the
edges of that grid look like any other place: a ratio of 1. Prototypes with coarse tokens had 5 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..autoencoder import AutoencoderConfig
from ..transformer import TransformerConfig


@dataclass(frozen=True)
class TokenGrid:
    """Where the seams are: token height and width in pixels, frames in which a new token begins."""

    height: int
    width: int
    patch_frames: int  # latent frames in a token
    frames: int  # video frames in a latent frame

    @classmethod
    def of(cls, autoencoder: AutoencoderConfig, transformer: TransformerConfig | None = None) -> TokenGrid:
        """The grid of a model; without a transformer each latent cell counts as a token."""
        time, rows, columns = (1, 1, 1) if transformer is None else transformer.patch
        space = autoencoder.spatial_factor
        return cls(rows * space, columns * space, time, autoencoder.temporal_factor)

    def first_frames(self, total: int) -> list[int]:
        """Frames of a clip of `total` with which a token begins, the very first left out.

        The first latent frame stands for one video frame, each later one for `frames` of them.
        """
        step = self.patch_frames * self.frames
        return list(range((self.patch_frames - 1) * self.frames + 1, total, step))


def edge_ratio(clips: Tensor, size: int, axis: int) -> Tensor:
    """Mean absolute gradient at token edges over that elsewhere.

    clips: [B, F, H, W, 3]; size: of a token in pixels; axis: 2 for edges between rows, 3 between columns.
    Returns [B], 1 where nothing gives the grid away; NaN where there are no two kinds of places.
    """
    step = clips.diff(dim=axis).abs()
    profile = step.mean(dim=[d for d in range(1, 5) if d != axis])  # [B, H - 1 or W - 1]
    at_edge = torch.arange(1, profile.shape[1] + 1, device=clips.device) % size == 0
    return profile[:, at_edge].mean(1) / profile[:, ~at_edge].mean(1).clamp_min(1e-8)


def time_ratio(clips: Tensor, grid: TokenGrid) -> Tensor:
    """Mean frame difference where a new token begins, over the clip's median frame difference.

    clips: [B, F, H, W, 3]. Returns [B], about 1 for a clip that runs smoothly; NaN for a clip of one token.
    """
    if clips.shape[1] < 2:
        return clips.new_full((len(clips),), torch.nan)
    step = clips.diff(dim=1).abs().mean(dim=(2, 3, 4))  # [B, F - 1]: entry i is between frames i and i + 1
    borders = [first - 1 for first in grid.first_frames(clips.shape[1])]
    return step[:, borders].mean(1) / step.quantile(0.5, dim=1).clamp_min(1e-8)


def coherence(clips: Tensor, grid: TokenGrid) -> dict[str, float]:
    """Medians over the clips [B, F, H, W, 3] of the three seams: "rows", "columns", "time"."""
    measures = {
        "rows": lambda part: edge_ratio(part, grid.height, 2),
        "columns": lambda part: edge_ratio(part, grid.width, 3),
        "time": lambda part: time_ratio(part, grid),
    }
    values = {name: torch.cat([measure(part) for part in clips.split(32)]) for name, measure in measures.items()}
    return {name: value.float().nanquantile(0.5).item() for name, value in values.items()}
