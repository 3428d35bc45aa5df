"""Latents noised and denoised again, and what they err by."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.conditioning import Prompt, combine
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.generate import denoise_latent, model_objective
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training.as_generated import AsGenerated, error_deviation
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT


def transformer() -> VideoDiT:
    config = TransformerConfig(
        in_channels=4, width=24, depth=1, heads=2, ff_width=32, text_width=16, patch=(1, 1, 1), text="both",
        latent_mean=(0.0,) * 4, latent_std=(1.0,) * 4,
    )  # fmt: skip
    torch.manual_seed(7)
    return VideoDiT(config)


def test_as_generated_is_the_clip_noised_and_denoised_again(small_text):
    """The same as video to video by hand, at a level that the generator draws, and nearer for a lower one."""
    model, text = transformer(), TextEncoder.from_config(small_text)
    latent = torch.randn(2, 4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    spoil = AsGenerated(model, text, most=0.6, steps=3)
    got = spoil(latent, torch.Generator().manual_seed(4))

    generator = torch.Generator().manual_seed(4)
    level, seed = 0.6 * torch.rand((), generator=generator), int(torch.randint(2**31, (), generator=generator))
    empty = text.encode([""])
    sigmas = torch.tensor([1.0, 2 / 3, 1 / 3, 0.0]) * level
    conditioning = combine(
        model, model_objective(model.config), sigmas, Prompt(empty.embeddings, empty.mask, empty.pooled)
    )
    torch.testing.assert_close(got, denoise_latent(model, conditioning, latent, seed=seed), atol=1e-5, rtol=1e-5)
    little = AsGenerated(model, text, most=0.05, steps=3)(latent, torch.Generator().manual_seed(4))
    assert (little - latent).square().mean() < 0.1 * (got - latent).square().mean()
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("settings", [{"most": 0.0}, {"most": 1.0}, {"steps": 0}])
def test_as_generated_refuses_what_makes_no_sense(settings, small_text):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"As generated: got {name} = "):
        AsGenerated(transformer(), TextEncoder.from_config(small_text), **settings)


def test_the_errors_are_counted_channel_by_channel():
    class Off:
        def __call__(self, latent, generator):
            return latent + torch.tensor([0.1, -0.2, 0.0, 0.4])[:, None, None, None]

    codec = CausalVideoAutoencoder(AutoencoderConfig(latent_channels=4, linear="alone"))
    clips = [torch.rand(n, 3, 5, 16, 16) for n in (2, 1)]
    got = error_deviation(codec, Off(), clips, seed=1)
    torch.testing.assert_close(got, torch.tensor([0.1, 0.2, 0.0, 0.4]), atol=1e-5, rtol=0)
