"""What the help pictures show: a clip, its latent, and the model at work. See help_pictures.py."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from sora_dit.dit_core.checkpoint import load_bundle
from sora_dit.dit_core.conditioning import Prompt, combine
from sora_dit.dit_core.diffusion import make_sigmas
from sora_dit.dit_core.errors import SoraDiTError
from sora_dit.dit_core.generate import denoise_latent, model_objective, model_shift, model_statistics
from sora_dit.dit_core.skies import SkyScene, render, sample_scene
from sora_dit.nodes import node_classes
from torch import Tensor

PROMPT = "a calm sea at sunset, scattered clouds drifting slowly to the right"
WIDE = 760
"""Width of every picture in pixels; the help panel scales it down."""


def scene_like(seed: int = 3, **words: str) -> SkyScene:
    """The first scene of the endless data set in which all `words` are true."""
    scenes = (sample_scene(seed, index) for index in range(20_000))
    found = next((one for one in scenes if all(getattr(one, key) == words[key] for key in words)), None)
    if found is None:  # some combinations are kept from training, and so from this data set
        raise SoraDiTError(f"There is no scene with {words}; expected words that are not held out together.")
    return found


class Studio:
    """What several pictures need, each made once and only if it is needed."""

    def __init__(self, model: Path):
        self.path = model

    @cached_property
    def bundle(self):
        """The opened model file."""
        return load_bundle(self.path)

    @cached_property
    def clip(self) -> Tensor:
        """A rendered clip, 17 frames of 64 x 64: [F, H, W, 3] in 0..1."""
        scene = scene_like(time="sunset", cover="scattered", ground="sea", object="balloon", light="left")
        return render([scene], 17, 64, 64)[0]

    @cached_property
    def latent(self) -> Tensor:
        """`clip` encoded: [1, C, T, h, w]."""
        return self.encode(self.clip)

    @cached_property
    def default_clip(self) -> Tensor:
        """A rendered clip of the size that Empty Latent has when it is put on the canvas: [F, H, W, 3] in 0..1."""
        schemas = {cls.GET_SCHEMA().node_id: cls.GET_SCHEMA() for cls in node_classes()}
        size = {one.id: one.default for one in schemas["SoraDiTEmptyLatent"].inputs if hasattr(one, "default")}
        scene = scene_like(time="sunset", cover="scattered", ground="sea", object="balloon", light="left")
        return render([scene], size["frames"], size["height"], size["width"])[0]

    @cached_property
    def default_latent(self) -> Tensor:
        """`default_clip` encoded: [1, C, T, h, w]."""
        return self.encode(self.default_clip)

    def encode(self, clip: Tensor) -> Tensor:
        """Frames [F, H, W, 3] in 0..1 -> latent [1, C, T, h, w]."""
        pixels = clip.permute(3, 0, 1, 2).unsqueeze(0).mul(2).sub(1)
        with torch.inference_mode():
            return self.bundle.autoencoder.encode(pixels).mean

    def decode(self, latent: Tensor) -> Tensor:
        """Latent [1, C, T, h, w] -> frames [F, H, W, 3] in 0..1."""
        with torch.inference_mode():
            return self.bundle.autoencoder.decode(latent)[0].permute(1, 2, 3, 0).add(1).div(2).clamp(0, 1)

    @cached_property
    def examined(self):
        """What the Dataset Doctor says of a folder with the usual faults, and its contact sheet."""
        from help_training import examine

        return examine(self.path)

    @cached_property
    def training(self):
        """A small training on rendered skies (some minutes), see `help_training.Trained`."""
        from help_training import train

        return train(self.path)

    @cached_property
    def walk(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Denoising of PROMPT, 17 frames of 64 x 64 in 24 steps: step -> (noisy latent, what the model expects)."""
        model, seen = self.bundle.transformer, {}
        objective, statistics = model_objective(model.config), model_statistics(model.config)
        text = self.bundle.text_encoder.encode([PROMPT, ""])
        prompts = [Prompt(text.embeddings[i : i + 1], text.mask[i : i + 1], text.pooled[i : i + 1]) for i in range(2)]
        shift = model_shift(model.config)
        plan = combine(model, objective, make_sigmas(objective, 24, shift=shift), *prompts)

        def raw(latent: Tensor) -> Tensor:
            return statistics.denormalise(latent) if statistics is not None else latent

        def watch(index: int, steps: int, x: Tensor, clean: Tensor) -> None:
            seen[index + 1] = raw(x.clone()), raw(clean.clone())

        empty = torch.zeros(1, model.config.in_channels, 5, 8, 8)
        end = denoise_latent(model, plan, empty, seed=1, guidance_scale=4.0, callback=watch)
        return seen | {24: (end, end)}
