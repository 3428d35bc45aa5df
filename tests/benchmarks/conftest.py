"""A tiny model with random weights, for what is measured on models."""

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import load_bundle, save_bundle
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

STATISTICS = {"latent_mean": (0.1,) * 4, "latent_std": (1.5,) * 4}
TEXT = {
    "family": "t5",
    "tokenizer": "byt5",
    "max_length": 192,
    "config": {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
}


def make_parts(seed: int):
    """Transformer, text encoder and autoencoder with random weights."""
    torch.manual_seed(seed)
    transformer = VideoDiT(
        TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, **STATISTICS)
    )
    text = TextEncoder.from_config(TEXT)
    autoencoder = CausalVideoAutoencoder(
        AutoencoderConfig(
            latent_channels=4, encoder_channels=(4, 4, 4), decoder_channels=(4, 4, 4), encoder_blocks=0,
            decoder_blocks=0, **STATISTICS,
        )
    )  # fmt: skip
    for parameter in [*transformer.parameters(), *text.module.parameters()]:
        torch.nn.init.normal_(parameter, std=0.15)
    return transformer, text, autoencoder


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory):
    transformer, text, autoencoder = make_parts(0)
    path = tmp_path_factory.mktemp("bundle") / "tiny.safetensors"
    components = {
        "transformer": (transformer.config.to_dict(), transformer.state_dict()),
        "text_encoder": (text.config_dict(), text.state_dict()),
        "autoencoder": (autoencoder.config.to_dict(), autoencoder.state_dict()),
    }
    save_bundle(path, components, {"made": "at random"}, torch.float32)
    return path


@pytest.fixture(scope="session")
def bundle(bundle_path):
    return load_bundle(bundle_path)


@pytest.fixture(scope="session")
def parts():
    """seed -> transformer, text encoder, autoencoder."""
    return make_parts
