"""The mean of two models, and pairs that have none."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core.checkpoint import load_bundle, save_bundle
from sora_dit.dit_core.training.average import main
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT


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
