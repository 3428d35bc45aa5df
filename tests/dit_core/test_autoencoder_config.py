"""The autoencoder's configuration: round trip, properties, and refusal of what is not implemented."""

from __future__ import annotations

import json
import re

import pytest
from sora_dit.dit_core.autoencoder import AutoencoderConfig
from sora_dit.dit_core.errors import ConfigError


def test_the_default_is_the_starter():
    config = AutoencoderConfig()
    assert (config.spatial_factor, config.temporal_factor, config.resolutions) == (8, 4, 3)
    assert (config.blocks("encoder"), config.blocks("decoder")) == ((1, 1, 1), (2, 2, 2))
    assert (config.latent_frames(17), config.latent_frames(1), config.video_frames(5)) == (5, 1, 17)


def test_round_trip_through_json():
    config = AutoencoderConfig(
        latent_channels=2, decoder_blocks=(1, 2, 3), latent_mean=(0.5, -1.0), latent_std=(1.0, 2.0), kl=1e-4
    )
    assert AutoencoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"paches": 2}, "unknown keys: paches = 2. Known: in_channels,"),
        ({"patch": 0}, "patch = 0; allowed is a whole number of at least 1"),
        ({"patch": True}, "patch = True; allowed"),
        ({"patch": 2.0}, "patch = 2.0; allowed"),
        ({"latent_channels": "16"}, "latent_channels = '16'; allowed"),
        ({"in_channels": None}, "in_channels = None; allowed"),
        ({"encoder_channels": []}, "encoder_channels = (); allowed is one whole number"),
        ({"encoder_channels": 32}, "encoder_channels = 32; allowed"),
        ({"encoder_channels": [32, 0, 8]}, "encoder_channels = (32, 0, 8); allowed"),
        ({"decoder_channels": [32, 64]}, "decoder_channels = (32, 64); allowed is as many entries as"),
        ({"encoder_blocks": [1, 1]}, "encoder_blocks = (1, 1); allowed is a whole number of at least 0, or 3 of them"),
        ({"decoder_blocks": -1}, "decoder_blocks = -1; allowed"),
        ({"temporal_downsample": [True]}, "temporal_downsample = (True,); allowed is 2 booleans"),
        ({"spatial_downsample": [1, 1]}, "spatial_downsample = (1, 1); allowed is 2 booleans"),
        ({"latent_mean": [0.0]}, "latent_mean = (0.0,); allowed is 16 numbers"),
        ({"latent_mean": [0.0] * 16}, "latent_std = None; allowed is given exactly when latent_mean is"),
        ({"latent_mean": [0.0] * 16, "latent_std": [0.0] * 16}, "allowed is numbers above 0"),
        ({"kl": -1}, "kl = -1; allowed is a number of at least 0"),
        ({"kl": float("nan")}, "kl = nan; allowed"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(values, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        AutoencoderConfig.from_dict(values)
