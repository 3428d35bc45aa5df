"""While the transformer trains, the autoencoder stays what it was, to the last bit; all of the transformer moves."""

import copy

import torch
from safetensors.torch import load_file
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import load_bundle, save_bundle
from sora_dit.dit_core.training.starter import transformer as starter
from sora_dit.dit_core.training.starter.__main__ import main
from sora_dit.dit_core.transformer import TransformerConfig

AUTOENCODER = AutoencoderConfig(
    latent_channels=4, patch=4, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=0, decoder_blocks=0,
    temporal_downsample=(True,), spatial_downsample=(True,), latent_mean=(0.1,) * 4, latent_std=(0.5,) * 4,
)  # fmt: skip
TRANSFORMER = TransformerConfig(width=24, depth=1, heads=2, ff_width=32, text_width=16, patch=(1, 1, 1), text="both")


def test_no_weight_of_the_autoencoder_and_every_weight_of_the_transformer_changes(tmp_path, monkeypatch, small_text):
    torch.manual_seed(0)
    model = CausalVideoAutoencoder(AUTOENCODER).half().float()  # so that storing it in half precision loses nothing
    before = copy.deepcopy(model.state_dict())
    save_bundle(tmp_path / "autoencoder.safetensors", {"autoencoder": (AUTOENCODER.to_dict(), before)}, {})
    monkeypatch.setattr(starter, "TRANSFORMER", TRANSFORMER)
    monkeypatch.setattr(starter, "TEXT", small_text)
    used = spy(monkeypatch, "load_autoencoder", lambda made: made[0])
    trained = spy(monkeypatch, "starting_model", lambda made: (made, copy.deepcopy(made.state_dict())))
    size = ["--size", "16", "--frames", "3", "--clips", "6", "--batch", "2", "--device", "cpu", "--train-text"]
    assert main(["transformer", "--state", str(tmp_path), "--steps", "3", "--lr", "0.01", *size]) == 0

    assert [name for name, weight in used[0].state_dict().items() if not torch.equal(weight, before[name])] == []
    assert all(p.grad is None for p in used[0].parameters())
    written = load_bundle(tmp_path / "starter.safetensors").autoencoder
    assert written.config == AUTOENCODER
    assert [name for name, weight in written.state_dict().items() if not torch.equal(weight, before[name])] == []

    live = load_file(tmp_path / "transformer" / "state.safetensors")
    assert not any("autoencoder" in name or "decoder" in name for name in live)
    transformer, start = trained[0]
    names = [name for name, _ in transformer.named_parameters()]
    still = [name for name in names if torch.equal(live[f"module.transformer.{name}"], start[name])]
    assert len(names) > 20 and still == []


def spy(monkeypatch, name, keep):
    """Lets `starter.name` run and keeps what it made."""
    seen, real = [], getattr(starter, name)

    def wrapped(*args):
        made = real(*args)
        seen.append(keep(made))
        return made

    monkeypatch.setattr(starter, name, wrapped)
    return seen
