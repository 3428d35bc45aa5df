"""Small autoencoders for tests, every weight of them random."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder

TINY = AutoencoderConfig(
    latent_channels=4, encoder_channels=(4, 6, 8), decoder_channels=(6, 4, 8), encoder_blocks=1, decoder_blocks=1
)
LINEAR = replace(TINY, linear="both")
BOTH = pytest.mark.parametrize(
    "config",
    [TINY, LINEAR, replace(TINY, linear="encoder"), replace(TINY, linear="alone")],
    ids=["convolutions", "with linear path", "linear encoder", "linear alone"],
)


def tiny(temporal: int = 4, spatial: int = 8) -> AutoencoderConfig:
    """A small config with the given factors; every resolution change is used by time, space or both."""
    time = {1: (False, False, False), 2: (False, True, False), 4: (True, True, False), 8: (True, True, True)}[temporal]
    patch, space = {4: (1, (True, True, False)), 8: (2, (True, False, True)), 16: (4, (True, True, False))}[spatial]
    return AutoencoderConfig(
        latent_channels=3,
        patch=patch,
        encoder_channels=(4, 5, 6, 7),
        decoder_channels=(5, 4, 6, 3),
        encoder_blocks=(1, 0, 1, 0),
        decoder_blocks=(0, 1, 0, 1),
        temporal_downsample=time,
        spatial_downsample=space,
    )


def build(config: AutoencoderConfig = TINY, seed: int = 0) -> CausalVideoAutoencoder:
    """A model whose every parameter is random, so that no branch hides behind a small start."""
    torch.manual_seed(seed)
    model = CausalVideoAutoencoder(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim == 1:
                parameter.normal_(std=0.3)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def clip(frames: int, height: int = 16, width: int = 24, batch: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1
