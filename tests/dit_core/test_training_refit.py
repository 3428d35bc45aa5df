"""A linear codec gets a wider decoder; its latents, on which a transformer may have been trained, stay as they are."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.training.autoencoder import with_changes
from sora_dit.dit_core.training.sky_data import SkySource
from sora_dit.dit_core.training.starter.codec import refit_clips

CPU = torch.device("cpu")
SOURCE = SkySource(seed=5, frames=5, height=64, width=64)
LINEAR = AutoencoderConfig(latent_channels=4, linear="alone", lookahead=1)


@torch.no_grad()
def test_a_wider_decoder_leaves_the_latents_and_has_to_be_fitted():
    torch.manual_seed(1)
    narrow = CausalVideoAutoencoder(LINEAR)
    narrow.linear.fit(lambda: [SOURCE.clips(0, 8, CPU)])
    with pytest.raises(ConfigError, match="With linear_sides = 5 the linear decoder has another shape; fit it anew"):
        with_changes(narrow, {"linear_sides": 5}, seed=1)
    wide = with_changes(narrow, {"linear_sides": 5}, 1, refit_clips(SOURCE, 16, CPU))
    video = SOURCE.clips(50, 2, CPU)
    assert wide.config.linear_sides == 5
    errors = [(one.decode(one.encode(video).mean) - video).square().mean() for one in (narrow, wide)]
    assert errors[1] < 1.2 * errors[0]
    torch.testing.assert_close(wide.encode(video).mean, narrow.encode(video).mean)


@torch.no_grad()
def test_a_linear_codec_gets_a_convolutional_decoder_on_top_of_what_it_could_do():
    torch.manual_seed(1)
    linear = CausalVideoAutoencoder(LINEAR)
    linear.linear.fit(lambda: [SOURCE.clips(0, 8, CPU)])
    changed = with_changes(linear, {"linear": "encoder", "lookahead": 0}, 1, refit_clips(SOURCE, 16, CPU))
    video = SOURCE.clips(50, 2, CPU)
    errors = [(one.decode(one.encode(video).mean) - video).square().mean() for one in (linear, changed)]
    assert changed.decoder is not None and errors[1] < 1.2 * errors[0]


def test_only_a_linear_codec_can_be_refitted():
    with pytest.raises(ConfigError, match="--refit: this autoencoder has no linear codec"):
        with_changes(CausalVideoAutoencoder(AutoencoderConfig()), {}, 1, refit_clips(SOURCE, 8, CPU))
