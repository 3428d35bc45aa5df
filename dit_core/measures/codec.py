"""What an autoencoder loses: clips there and back, and every measure of the result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ..autoencoder import CausalVideoAutoencoder
from .likeness import psnr, ssim
from .seams import TokenGrid, edge_ratio, time_ratio
from .sharpness import detail_ratio, motion_ratio


@dataclass(frozen=True)
class CodecQuality:
    """Means over clips; see the functions of the same names. `seams` and `flicker` of the original are about 1."""

    psnr: float  # dB
    ssim: float  # 1 = equal
    coarse: float  # energy of detail, reconstructed : original, see sharpness.BANDS
    middle: float
    fine: float
    motion: float  # frame difference, reconstructed : original
    seams: float  # gradient at the edges of latent cells : elsewhere, rows and columns
    flicker: float  # frame difference where a latent frame begins : the clip's median

    def to_dict(self, digits: int = 3) -> dict[str, float]:
        """For a log or a provenance."""
        return {name: round(value, digits) for name, value in asdict(self).items()}


def to_frames(video: Tensor) -> Tensor:
    """Decoded [B, 3, F, H, W] in about -1..1 -> [B, F, H, W, 3] in 0..1, float32, on the CPU."""
    return (video.float().cpu().permute(0, 2, 3, 4, 1) * 0.5 + 0.5).clamp(0, 1)


@torch.no_grad()
def codec_quality(model: CausalVideoAutoencoder, videos: Iterable[Tensor]) -> CodecQuality:
    """Encode (posterior mean) and decode clips, each batch `[B, 3, F, H, W]` in -1..1, sides of 16 or more, F > 1."""
    grid = TokenGrid.of(model.config)
    values: dict[str, list[Tensor]] = {}
    for video in videos:
        got, wanted = to_frames(model.decode(model.encode(video).mean)), to_frames(video)
        seams = 0.5 * (edge_ratio(got, grid.height, 2) + edge_ratio(got, grid.width, 3))
        row = {"psnr": psnr(got, wanted), "ssim": ssim(got, wanted), **detail_ratio(got, wanted)}
        row |= {"motion": motion_ratio(got, wanted), "seams": seams, "flicker": time_ratio(got, grid)}
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return CodecQuality(**{name: torch.cat(parts).nanmean().item() for name, parts in values.items()})
