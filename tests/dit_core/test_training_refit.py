"""A linear codec gets a wider decoder; its latents, on which a transformer may have been trained, stay as they are."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.training.autoencoder import with_changes
from sora_dit.dit_core.training.sky_data import SkySource
from sora_dit.dit_core.training.starter.codec import refit_decoder

CPU = torch.device("cpu")
SOURCE = SkySource(seed=5, frames=5, height=64, width=64)
LINEAR = AutoencoderConfig(latent_channels=4, linear="alone", lookahead=1)


@torch.no_grad()
def test_a_wider_decoder_leaves_the_latents_and_decodes_better_than_an_unfitted_one():
    torch.manual_seed(1)
    narrow = CausalVideoAutoencoder(LINEAR)
    narrow.linear.fit(lambda: [SOURCE.clips(0, 8, CPU)])
    wide = with_changes(narrow, {"linear_sides": 5}, seed=1)
    video = SOURCE.clips(50, 2, CPU)
    assert wide.config.linear_sides == 5
    torch.testing.assert_close(wide.encode(video).mean, narrow.encode(video).mean)
    before = (wide.decode(wide.encode(video).mean) - video).square().mean()
    refit_decoder(wide, SOURCE, 16, CPU)
    after = (wide.decode(wide.encode(video).mean) - video).square().mean()
    assert after < 0.5 * before and after < 0.05
    torch.testing.assert_close(wide.encode(video).mean, narrow.encode(video).mean)


def test_only_a_linear_codec_can_be_refitted():
    with pytest.raises(ConfigError, match="--refit: this autoencoder has no linear codec"):
        refit_decoder(CausalVideoAutoencoder(AutoencoderConfig()), SOURCE, 8, CPU)
