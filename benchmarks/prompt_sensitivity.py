"""How much does a model lean on each word? Its loss with the true prompt beside its loss with one word swapped.

    python benchmarks/prompt_sensitivity.py                                   the starter: five minutes on two cores
    python benchmarks/prompt_sensitivity.py --model snapshot.safetensors --attributes light object_direction --clips 24

A word that the model has not understood can be swapped without any loss; long before generated clips show it, a word
that is being learned costs something at the noise levels where what it speaks of is decided. Each attribute is asked
of held-out clips that show it, and its word is swapped for another that it might have had.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import torch
from evaluate_starter import STARTER
from generation import ClipSize
from machine import describe, table
from sora_dit.dit_core.checkpoint import Bundle, load_bundle
from sora_dit.dit_core.errors import ConfigError, SoraDiTError
from sora_dit.dit_core.generate import model_objective, model_statistics
from sora_dit.dit_core.skies import VALUES, SkyScene, attributes, prompt_for, render, sample_balanced
from torch import Tensor

NAMED = ("time", "cover", "ground", "direction", "object")
LEVELS = (0.98, 0.9, 0.8, 0.6)


def others(scene: SkyScene, attribute: str) -> list[str]:
    """The values that the scene might have had instead; none where it does not show the attribute."""
    if attribute not in VALUES:
        raise ConfigError(f"--attributes: a sky has no attribute {attribute!r}; it has {', '.join(VALUES)}.")
    value = attributes(scene)[attribute]
    return [] if value == "none" else [v for v in VALUES[attribute] if v not in (value, "none")]


def scenes_with(attribute: str, seed: int) -> Iterator[SkyScene]:
    """Held-out scenes that show it."""
    scenes = (sample_balanced(seed, index, "heldout") for index in count())
    return (scene for scene in scenes if others(scene, attribute))


def prompt_pair(scene: SkyScene, attribute: str, seed: int) -> tuple[str, str]:
    """The true prompt, and the same wording with another value of the attribute."""
    words = {k: v for k, v in attributes(scene).items() if k in NAMED or k == attribute}
    if attribute == "object":  # another thing in the air than this one
        words.pop("object_color", None)
    swapped = words | {attribute: random.Random(seed).choice(others(scene, attribute))}
    return prompt_for(words, seed), prompt_for(swapped, seed)


@torch.inference_mode()
def clip_losses(bundle: Bundle, latents: Tensor, prompts: Sequence[str], level: float) -> Tensor:
    """Squared error of the prediction for each clip [B]; the noise is the same at every call."""
    model = bundle.transformer
    objective = model_objective(model.config)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    sigma = objective.sigma(torch.full((len(latents),), level * objective.timestep_max))
    seen = objective.network_input(objective.add_noise(latents, noise, sigma), sigma)
    text = bundle.text_encoder.encode(list(prompts))
    out = model(seen, objective.timestep(sigma), text.embeddings, text.mask, text.pooled)
    error = out[:, : latents.shape[1]].float() - objective.target(latents, noise, sigma)
    return error.square().flatten(1).mean(1)


@torch.inference_mode()
def rise(bundle: Bundle, attribute: str, size: ClipSize, clips: int, seed: int) -> list[str]:
    """For each noise level by how many percent the loss is larger with the swapped word, and its standard error."""
    scenes = [scene for scene, _ in zip(scenes_with(attribute, seed), range(clips), strict=False)]
    pairs = [prompt_pair(scene, attribute, i) for i, scene in enumerate(scenes)]
    statistics = model_statistics(bundle.transformer.config)
    rises: dict[float, list[Tensor]] = {level: [] for level in LEVELS}
    for start in range(0, clips, 8):
        part = slice(start, start + 8)
        video = render(scenes[part], size.frames, size.height, size.width, size.fps).permute(0, 4, 1, 2, 3)
        latents = bundle.autoencoder.encode((video * 2 - 1).contiguous()).mean
        latents = latents if statistics is None else statistics.normalise(latents)
        for level, found in rises.items():
            true, swapped = (clip_losses(bundle, latents, [p[k] for p in pairs[part]], level) for k in (0, 1))
            found.append(swapped / true - 1)
    cells = []
    for found in rises.values():
        values = torch.cat(found) * 100
        cells.append(f"{values.mean():+.2f} ± {values.std() / math.sqrt(len(values)):.2f}")
    return cells


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=STARTER)
    parser.add_argument("--attributes", nargs="+", default=[k for k in VALUES if k != "rain"], metavar="NAME")
    parser.add_argument("--clips", type=int, default=32, help="for each attribute")
    parser.add_argument("--size", type=int, default=0, help="0 = what the model was trained on")
    parser.add_argument("--frames", type=int, default=0)
    parser.add_argument("--seed", type=int, default=2500)
    args = parser.parse_args()
    try:
        bundle = load_bundle(args.model)
        size = ClipSize.of(bundle, args.size, args.frames)
        rows = [[name, *rise(bundle, name, size, args.clips, args.seed)] for name in args.attributes]
    except SoraDiTError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("Rise of the loss in percent when the word is swapped, by noise level, with its standard error:\n")
    print(table(["attribute", *map(str, LEVELS)], rows))
    print(f"\n{args.clips} clips of {size.width} x {size.height}, {size.frames} frames; {describe()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
