"""Which perceptual term to train a decoder with: what each says of changes that cost the same squared error.

python benchmarks/perceptual_terms.py [--clips 4] [--psnr 30.5]

Numbers are losses over the loss of a blur. A good term charges little for a shift (detail in nearly the right place)
and for a soft change of colour, much for blur, noise and flicker.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from machine import describe, table
from sora_dit.dit_core.measures import ssim
from sora_dit.dit_core.training.perceptual import texture_loss
from sora_dit.dit_core.training.starter.recipe import HELD_OUT_SOURCE
from torch import Tensor, nn

Change = Callable[[float], Tensor]  # strength -> a changed clip


class RandomFeatures(nn.Module):
    """Distance of normalised features of three fixed random convolutions; a network that nobody trained."""

    def __init__(self, widths: tuple[int, ...] = (3, 16, 32, 64)) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = []
        for inside, outside in zip(widths[:-1], widths[1:], strict=True):
            weight = nn.init.orthogonal_(torch.empty(outside, inside * 27), math.sqrt(2), generator)
            self.weights.append(weight.view(outside, inside, 3, 3, 3))

    def forward(self, got: Tensor, wanted: Tensor) -> Tensor:
        """Mean squared distance, both [B, 3, F, H, W]."""
        x, terms = torch.cat([got, wanted]), []
        for i, weight in enumerate(self.weights):
            x = F.leaky_relu(F.conv3d(x, weight, padding=1, stride=(1, 2, 2) if i else 1), 0.1)
            a, b = (x / (x.square().mean(1, keepdim=True) + 1e-2).sqrt()).chunk(2)
            terms.append((a - b).square().mean())
        return sum(terms) / len(terms)


def gradient_magnitude(got: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of the gradient's length, at three scales."""
    terms = []
    for scale in range(3):
        if scale:
            got, wanted = (F.avg_pool3d(x, (1, 2, 2)) for x in (got, wanted))
        lengths = [
            (x.diff(dim=4)[..., :-1, :].square() + x.diff(dim=3)[..., :-1].square() + 1e-6).sqrt()
            for x in (got, wanted)
        ]
        terms.append((lengths[0] - lengths[1]).abs().mean())
    return sum(terms) / len(terms)


def dissimilarity(got: Tensor, wanted: Tensor) -> Tensor:
    """1 - SSIM."""
    return 1 - ssim(*(0.5 + 0.5 * x.permute(0, 2, 3, 4, 1) for x in (got, wanted))).mean()


def changes(clips: Tensor) -> dict[str, Change]:
    """Ways to spoil clips [B, 3, F, H, W]; strength from 0."""
    b, c, f, h, w = clips.shape
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(clips.shape, generator=generator)
    flicker = torch.randn(b, c, f, 1, 1, generator=generator)
    soft = F.interpolate(torch.randn(b, c, 1, 8, 8, generator=generator), (1, h, w), mode="trilinear")

    def blur(strength: float) -> Tensor:
        kernel = torch.exp(-0.5 * (torch.arange(-4, 5) / max(strength, 1e-3)) ** 2)
        kernel = (kernel / kernel.sum()).expand(c, 1, 1, 1, 9)
        x = F.conv3d(F.pad(clips, (4, 4, 0, 0, 0, 0), "replicate"), kernel, groups=c)
        return F.conv3d(F.pad(x, (0, 0, 4, 4, 0, 0), "replicate"), kernel.mT, groups=c)

    def shift(strength: float) -> Tensor:
        pictures = clips.transpose(1, 2).flatten(0, 1)
        move = torch.tensor([[1.0, 0.0, 2 * strength / w], [0.0, 1.0, 2 * strength / h]]).expand(b * f, 2, 3)
        grid = F.affine_grid(move, list(pictures.shape), align_corners=False)
        moved = F.grid_sample(pictures, grid, "bicubic", "reflection", align_corners=False)
        return moved.view(b, f, c, h, w).transpose(1, 2)

    return {
        "blur": blur,
        "shift": shift,
        "soft colour": lambda s: clips + 0.1 * s * soft,
        "noise": lambda s: clips + 0.1 * s * noise,
        "flicker": lambda s: clips + 0.1 * s * flicker,
    }


def at_error(change: Change, clips: Tensor, squared: float) -> Tensor:
    """The clip changed until its mean squared error is `squared`, by bisection."""
    low, high = 0.0, 8.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if (change(middle) - clips).square().mean() < squared else (low, middle)
    return change(low)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--psnr", type=float, default=30.5, help="of every change, in dB")
    args = parser.parse_args()
    clips = replace(HELD_OUT_SOURCE, height=64, width=64).clips(0, args.clips, "cpu")
    spoiled = {name: at_error(change, clips, 4 * 10 ** (-args.psnr / 10)) for name, change in changes(clips).items()}
    terms = {
        "texture (ours)": texture_loss,
        "gradient magnitude": gradient_magnitude,
        "1 - SSIM": dissimilarity,
        "random network": RandomFeatures(),
    }
    rows = []
    for name, term in terms.items():
        picture = spoiled["blur"].clone().requires_grad_(True)
        started = time.perf_counter()
        term(picture, clips).backward()
        seconds = (time.perf_counter() - started) / args.clips
        with torch.no_grad():
            unit = term(spoiled["blur"], clips)
            rows.append([name, *((term(x, clips) / unit).item() for x in spoiled.values()), 1000 * seconds])
    print(table(["term", *spoiled, "ms a clip, there and back"], rows))
    print(f"{clips.shape[2]} frames of {clips.shape[3]} x {clips.shape[4]} at {args.psnr} dB; {describe()}")


if __name__ == "__main__":
    main()
