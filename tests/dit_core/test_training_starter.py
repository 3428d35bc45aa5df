"""The stages of the starter's recipe, as the command line runs them, on tiny models."""

from __future__ import annotations

import json

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import load_bundle, save_bundle
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training.starter.__main__ import main
from sora_dit.dit_core.training.starter.recipe import TEXT
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

LATENTS = {"latent_mean": (0.1,) * 4, "latent_std": (0.5,) * 4}
LINEAR = AutoencoderConfig(latent_channels=4, linear="alone", lookahead=1, **LATENTS)
SMALL_TEXT = TEXT | {
    "config": {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2,
               "dropout_rate": 0.0}
}  # fmt: skip
SIZE = ["--size", "16", "--frames", "5", "--batch", "2", "--device", "cpu", "--warmup", "1"]


@pytest.fixture
def files(tmp_path):
    """A linear codec that works, and a transformer of its latents."""
    torch.manual_seed(0)
    codec, other = CausalVideoAutoencoder(LINEAR), {}
    config = TransformerConfig(
        in_channels=4, width=24, depth=1, heads=2, ff_width=32, text_width=16, patch=(1, 1, 1), text="both", **LATENTS
    )
    text = TextEncoder.from_config(SMALL_TEXT)
    parts = {"autoencoder": (LINEAR.to_dict(), codec.state_dict())}
    save_bundle(tmp_path / "codec.safetensors", parts, {})
    other["transformer"] = (config.to_dict(), VideoDiT(config).state_dict())
    other["text_encoder"] = (text.config_dict(), text.module.state_dict())
    save_bundle(tmp_path / "model.safetensors", other, {})
    return tmp_path


def refine(files, *more, start="codec.safetensors", maker="model.safetensors"):
    """Train a refiner; the exit code."""
    return main(
        ["autoencoder", "--state", str(files / "state"), "--autoencoder", str(files / start), "--as-generated",
         str(files / maker), *SIZE, "--optimiser", "adamw", "--lr", "1e-3", *more]
    )  # fmt: skip


REFINER = ["--autoencoder-config", '{"refiner": 4}']


def test_a_refiner_is_trained_and_tells_how(files, capsys):
    assert refine(files, *REFINER, "--steps", "2") == 0
    made = load_bundle(files / "state" / "autoencoder.safetensors")
    assert made.autoencoder.config.refiner == 4
    old = load_bundle(files / "codec.safetensors").autoencoder.state_dict()
    assert all(torch.equal(weight, old[name]) for name, weight in made.autoencoder.state_dict().items() if name in old)
    told = made.header.provenance["autoencoder"]
    assert told["step"] == 2 and told["as_generated"]["most"] == 0.5 and len(told["as_generated"]["transformer"]) == 64
    assert told["training"]["sizes"] == [16] and told["source"]["height"] == 16
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["done"] is True


def test_what_cannot_be_refined_is_said_in_a_sentence(files, capsys):
    assert refine(files, "--steps", "2") == 1
    assert "this autoencoder is all linear, so there is nothing to train" in capsys.readouterr().err
    assert refine(files, *REFINER, "--steps", "2", maker="codec.safetensors") == 1
    assert "has no transformer with a text encoder" in capsys.readouterr().err
    config = AutoencoderConfig.from_dict(LINEAR.to_dict() | {"latent_mean": [3.0] * 4})
    other = CausalVideoAutoencoder(config)
    save_bundle(files / "other.safetensors", {"autoencoder": (config.to_dict(), other.state_dict())}, {})
    assert refine(files, *REFINER, "--steps", "2", start="other.safetensors") == 1
    assert "other.safetensors" in capsys.readouterr().err
    assert refine(files, "--autoencoder-config", '{"refinr": 4}', "--steps", "2") == 1
    assert "refinr" in capsys.readouterr().err
    assert not (files / "state" / "autoencoder.safetensors").exists()


def test_a_codec_is_not_replaced_by_one_half_trained(files, monkeypatch):
    (files / "state").mkdir()
    (files / "codec.safetensors").rename(files / "state" / "autoencoder.safetensors")
    before = (files / "state" / "autoencoder.safetensors").read_bytes()
    start = "state/autoencoder.safetensors"
    monkeypatch.setattr("sora_dit.dit_core.training.loop._Run._out_of_time", lambda run: run.position["step"] == 2)
    assert refine(files, *REFINER, "--steps", "4", start=start) == 0
    assert (files / "state" / "autoencoder.safetensors").read_bytes() == before
    monkeypatch.undo()
    assert refine(files, *REFINER, "--steps", "4", start=start) == 0
    made = load_bundle(files / "state" / "autoencoder.safetensors")
    assert made.autoencoder.config.refiner == 4 and made.header.provenance["autoencoder"]["step"] == 4
