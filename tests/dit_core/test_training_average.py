"""The mean of two models, and pairs that have none."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import load_bundle, save_bundle
from sora_dit.dit_core.errors import CheckpointError
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training.average import average_bundles, main
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

AUTOENCODER = AutoencoderConfig(
    latent_channels=4, patch=4, encoder_channels=(4, 4), decoder_channels=(4, 4), encoder_blocks=0, decoder_blocks=0,
    temporal_downsample=(True,), spatial_downsample=(True,),
)  # fmt: skip
TEXT = {
    "family": "t5", "tokenizer": "byt5", "max_length": 24,
    "config": {"vocab_size": 259, "d_model": 8, "d_kv": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1},
}  # fmt: skip


def model(path, value, **changes):
    settings = dict(width=24, depth=1, heads=2, ff_width=32, in_channels=4, text_width=8) | changes
    module = VideoDiT(TransformerConfig(**settings))
    for parameter in module.parameters():
        torch.nn.init.constant_(parameter, value)
    save_bundle(path, {"transformer": (module.config.to_dict(), module.state_dict())}, {"transformer": {"step": 7}})
    return str(path)


def test_the_mean_lies_between_and_says_of_what_it_is_made(tmp_path, capsys):
    pair = model(tmp_path / "a.safetensors", 1.0), model(tmp_path / "b.safetensors", 5.0, training={"shift": 2.0})
    output = tmp_path / "mean.safetensors"
    assert main([*pair, "--share", "0.75", "--output", str(output)]) == 0 and str(output) in capsys.readouterr().out
    made = load_bundle(output)
    assert all((p == 4.0).all() for p in made.transformer.parameters())
    assert made.transformer.config.training == {"shift": 2.0}
    told = made.header.provenance["transformer"]
    assert (
        told["step"] == 7 and told["averaged"]["with"] == "a.safetensors" and told["averaged"]["share_of_this"] == 0.75
    )
    assert told["averaged"]["sha256"] == load_bundle(pair[0]).header.sha256


@pytest.mark.parametrize(
    ("changes", "share", "words"),
    [
        ({"depth": 2}, "0.5", "models of different kinds: depth 1 and 2."),
        ({}, "1.5", "is 1.5; expected a number from 0 to 1."),
    ],
)
def test_what_has_no_mean_is_said(tmp_path, capsys, changes, share, words):
    pair = model(tmp_path / "a.safetensors", 1.0), model(tmp_path / "b.safetensors", 5.0, **changes)
    assert main([*pair, "--share", share, "--output", str(tmp_path / "mean.safetensors")]) == 1
    assert words in capsys.readouterr().err and not (tmp_path / "mean.safetensors").exists()


def parts(seed: int) -> dict:
    """A text encoder and an autoencoder, as a bundle has them."""
    torch.manual_seed(seed)
    text, autoencoder = TextEncoder.from_config(TEXT), CausalVideoAutoencoder(AUTOENCODER)
    return {
        "text_encoder": (text.config_dict(), text.module.state_dict()),
        "autoencoder": (autoencoder.config.to_dict(), autoencoder.state_dict()),
    }


def test_all_but_the_transformer_is_that_of_the_second(tmp_path):
    pair = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for seed, path in enumerate(pair):
        model(path, float(seed))
        bundle = load_bundle(path)
        whole = {"transformer": (bundle.transformer.config.to_dict(), bundle.transformer.state_dict()), **parts(seed)}
        save_bundle(path, whole, {}, dtype=torch.float32)
    average_bundles(*pair, tmp_path / "mean.safetensors", 0.5, torch.float32)
    made, second = load_bundle(tmp_path / "mean.safetensors"), load_bundle(pair[1])
    assert all((p == 0.5).all() for p in made.transformer.parameters())
    for part in ("text_encoder", "autoencoder"):
        ours, theirs = getattr(made, part).state_dict(), getattr(second, part).state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_file_without_a_transformer_is_refused(tmp_path):
    model(tmp_path / "a.safetensors", 1.0)
    save_bundle(tmp_path / "b.safetensors", parts(0), {})
    with pytest.raises(CheckpointError, match=r"b\.safetensors holds no transformer; expected a model"):
        average_bundles(tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()
