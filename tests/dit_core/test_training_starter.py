"""The stages of the starter's recipe, as the command line runs them, on tiny models."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.autoencoder.linear import LinearCodec
from sora_dit.dit_core.checkpoint import load_bundle, save_bundle
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training import optim
from sora_dit.dit_core.training.feed import SkyFeed
from sora_dit.dit_core.training.starter.__main__ import main
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

LATENTS = {"latent_mean": (0.1,) * 4, "latent_std": (0.5,) * 4}
LINEAR = AutoencoderConfig(latent_channels=4, linear="alone", lookahead=1, **LATENTS)
SIZE = ["--size", "16", "--frames", "5", "--batch", "2", "--device", "cpu", "--warmup", "1"]


@pytest.fixture
def files(tmp_path, small_text):
    """A linear codec that works, and a transformer of its latents."""
    torch.manual_seed(0)
    codec, other = CausalVideoAutoencoder(LINEAR), {}
    config = TransformerConfig(
        in_channels=4, width=24, depth=1, heads=2, ff_width=32, text_width=16, patch=(1, 1, 1), text="both", **LATENTS
    )
    text = TextEncoder.from_config(small_text)
    parts = {"autoencoder": (LINEAR.to_dict(), codec.state_dict())}
    save_bundle(tmp_path / "codec.safetensors", parts, {})
    other["transformer"] = (config.to_dict(), VideoDiT(config).state_dict())
    other["text_encoder"] = (text.config_dict(), text.module.state_dict())
    save_bundle(tmp_path / "model.safetensors", other, {})
    return tmp_path


def refit(files, *more, start="codec.safetensors", maker="model.safetensors"):
    """Fit the decoder of `start` anew, with the errors of `maker`; the exit code."""
    return main(
        ["autoencoder", "--state", str(files / "state"), "--autoencoder", str(files / start), "--as-generated",
         str(files / maker), *SIZE, "--steps", "1", *more]
    )  # fmt: skip


def test_a_decoder_is_fitted_to_what_a_transformer_errs_by_and_tells_how(files, capsys):
    assert refit(files, "--refit", "8") == 0
    made = load_bundle(files / "state" / "autoencoder.safetensors")
    old = load_bundle(files / "codec.safetensors").autoencoder.state_dict()
    moved = {name for name, weight in made.autoencoder.state_dict().items() if not torch.equal(weight, old[name])}
    assert moved == {"linear.up.weight", "linear.up.bias"}
    told = made.header.provenance["autoencoder"]
    assert told["decoder_fitted_on_clips"] == 8 and told["source"]["height"] == 16
    assert told["joins"]["space"] == 3.0 and told["joins"]["most"] == 0.5 and len(told["joins"]["transformer"]) == 64
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["done"] is True
    first = made.autoencoder.linear.up.weight
    assert refit(files, "--refit", "8", "--joins", "50", "5") == 0
    assert not torch.equal(load_bundle(files / "state" / "autoencoder.safetensors").autoencoder.linear.up.weight, first)


def test_what_cannot_be_fitted_is_said_in_a_sentence(files, capsys):
    assert refit(files) == 1
    assert (
        "--as-generated: for fitting a linear decoder anew; expected --autoencoder and --refit"
        in capsys.readouterr().err
    )
    assert refit(files, "--refit", "8", maker="codec.safetensors") == 1
    assert "has no transformer with a text encoder" in capsys.readouterr().err
    config = AutoencoderConfig.from_dict(LINEAR.to_dict() | {"latent_mean": [3.0] * 4})
    other = CausalVideoAutoencoder(config)
    save_bundle(files / "other.safetensors", {"autoencoder": (config.to_dict(), other.state_dict())}, {})
    assert refit(files, "--refit", "8", start="other.safetensors") == 1
    assert "other.safetensors" in capsys.readouterr().err
    assert refit(files, "--refit", "8", "--autoencoder-config", '{"linear_side": 4}') == 1
    assert "linear_side" in capsys.readouterr().err
    assert refit(files, "--refit", "8", "--joins", "-1", "0") == 1
    assert "--joins: got -1" in capsys.readouterr().err
    assert not (files / "state" / "autoencoder.safetensors").exists()


def test_a_codec_is_not_replaced_by_one_half_trained(files, monkeypatch):
    (files / "state").mkdir()
    (files / "codec.safetensors").rename(files / "state" / "autoencoder.safetensors")
    start = files / "state" / "autoencoder.safetensors"
    before = start.read_bytes()
    convolutions = '{"linear": "encoder", "lookahead": 0, "decoder_channels": [8, 8, 8], "decoder_blocks": 1}'
    call = ["autoencoder", "--state", str(files / "state"), "--autoencoder", str(start), "--refit", "8", *SIZE]
    call += ["--steps", "4", "--autoencoder-config", convolutions]
    monkeypatch.setattr("sora_dit.dit_core.training.loop._Run._out_of_time", lambda run: run.position["step"] == 2)
    assert main(call) == 0
    assert start.read_bytes() == before
    monkeypatch.undo()
    assert main(call) == 0
    made = load_bundle(start)
    assert made.autoencoder.config.linear == "encoder" and made.header.provenance["autoencoder"]["step"] == 4


def test_a_stopped_codec_is_not_fitted_again_and_what_is_written_of_it_can_be_used(files, monkeypatch):
    fits, fit = [], LinearCodec.fit
    monkeypatch.setattr(LinearCodec, "fit", lambda *args: fits.append(fit(*args)))
    few = lambda self, device: iter([self.source.clips(0, 32, device)])  # noqa: E731
    monkeypatch.setattr(SkyFeed, "fitting", few)
    config = {"linear": "encoder", "lookahead": 0, "latent_channels": 4, "decoder_channels": [8, 8, 8]}
    call = ["autoencoder", "--state", str(files / "state"), *SIZE, "--autoencoder-config", json.dumps(config)]
    monkeypatch.setattr("sora_dit.dit_core.training.loop._Run._out_of_time", lambda run: run.position["step"] == 2)
    assert main([*call, "--steps", "4"]) == 0
    half = load_bundle(files / "state" / "autoencoder.safetensors")
    assert half.header.provenance["autoencoder"]["finished"] is False and half.autoencoder.statistics is not None
    assert main([*call, "--steps", "2"]) == 0
    whole = load_bundle(files / "state" / "autoencoder.safetensors").autoencoder
    assert len(fits) == 1 and torch.equal(whole.linear.down.weight, half.autoencoder.linear.down.weight)


def test_an_encoder_goes_on_reading(files, capsys):
    command = ["text", "--state", str(files / "state"), "--start", str(files / "model.safetensors"), "--steps", "2"]
    assert main([*command, "--batch", "4", "--device", "cpu", "--warmup", "1"]) == 0
    made = load_bundle(files / "state" / "text_encoder.safetensors")
    old = load_bundle(files / "model.safetensors").text_encoder
    assert made.text_encoder.config_dict() == old.config_dict()
    before, after = old.module.state_dict(), made.text_encoder.module.state_dict()
    assert 0 < max((after[name] - before[name]).abs().max().item() for name in before) < 0.1
    assert made.header.provenance["text_encoder"]["training"]["anchor"] == 1.0
    again = [str(files / "again") if part == str(files / "state") else part for part in command]
    again[again.index(str(files / "model.safetensors"))] = str(files / "state" / "text_encoder.safetensors")
    assert main([*again, "--batch", "4", "--device", "cpu", "--clips-seed", "6"]) == 0
    told = load_bundle(files / "again" / "text_encoder.safetensors").header.provenance["text_encoder"]
    assert told["training"]["scenes"] == 6
    assert [one["training"]["scenes"] for one in told["before"]] == [
        made.header.provenance["text_encoder"]["training"]["scenes"]
    ]


def test_an_encoder_that_reads_in_float32_is_orthogonalised_in_float32(files, monkeypatch):
    types = []
    monkeypatch.setattr(optim, "training_dtype", lambda wanted, device: getattr(torch, wanted, torch.bfloat16))
    monkeypatch.setattr(optim, "orthogonalise", lambda x, dtype: types.append(dtype) or x)
    command = ["text", "--state", str(files / "state"), "--start", str(files / "model.safetensors"), "--steps", "1"]
    assert main([*command, "--batch", "2", "--device", "cpu", "--precision", "float32"]) == 0
    assert set(types) == {torch.float32}


@pytest.mark.parametrize(
    ("stage", "given", "said"),
    [
        ("text", {"--start": "codec"}, "--start: {codec} has no text encoder; expected a bundle with one."),
        ("transformer", {"--autoencoder": "model", "--start": "model"}, "--autoencoder: {model} has no autoencoder"),
        ("transformer", {"--autoencoder": "codec", "--start": "codec"}, "--start: {codec} has no text encoder"),
        ("transformer", {"--autoencoder": "codec", "--text": "codec"}, "--text: {codec} has no text encoder"),
        ("transformer", {"--autoencoder": "codec", "--start": "codec", "--text": "model"}, "has no transformer"),
        ("transformer", {"--autoencoder": "codec", "--text": "typo.safetensors"}, "typo.safetensors does not exist"),
        ("transformer", {"--autoencoder": "codec"}, "would stay as it is. Run `starter text`"),
        ("autoencoder", {"--autoencoder": "model"}, "--autoencoder: {model} has no autoencoder"),
        ("text", {"--device": "tpu"}, "The device is 'tpu'"),
    ],
)
def test_a_bundle_without_the_part_that_is_needed_is_said(files, capsys, stage, given, said):
    paths = {name: str(files / f"{name}.safetensors") for name in ("codec", "model")}
    given = {option: paths.get(value, value) for option, value in given.items()}
    command = [stage, "--state", str(files / "state"), *SIZE, "--clips", "4", "--steps", "1"]
    assert main([*command, *(part for pair in given.items() for part in pair)]) == 1
    assert said.format(**paths) in capsys.readouterr().err


def test_the_command_offers_every_optimiser(capsys):
    with pytest.raises(SystemExit):
        main(["text", "--state", "x", "--optimiser", "none"])
    said = capsys.readouterr().err
    assert all(name in said.split("choose from")[1] for name in optim.OPTIMISERS)


def test_a_training_that_goes_on_from_another_tells_of_it(files, capsys):
    codec = str(files / "codec.safetensors")

    def train(state, start, *more):
        command = ["transformer", "--state", str(files / state), "--autoencoder", codec, "--start", str(files / start)]
        assert main([*command, *SIZE, "--clips", "4", "--steps", "1", *more]) == 0
        return load_bundle(files / state / "starter.safetensors")

    train("first", "model.safetensors", "--clips-seed", "5")
    last = train("second", "first/starter.safetensors", "--transformer-config", '{"frame_position": 2}')
    assert last.transformer.place.weight.shape == (24, 8)
    told = last.header.provenance["transformer"]
    assert told["started_from"] == "starter.safetensors" and told["source"]["flying"] == [1.0] * 4
    assert [one["source"]["seed"] for one in told["before"]] == [5]


def test_kept_latents_of_something_else_are_refused_in_a_sentence(files, capsys):
    command = ["transformer", "--state", str(files / "state"), "--start", str(files / "model.safetensors"), *SIZE,
               "--clips", "4", "--keep-cache"]  # fmt: skip
    codec, cache = str(files / "codec.safetensors"), files / "state" / "latents_16_5_12_4.safetensors"
    assert main([*command, "--autoencoder", codec, "--steps", "1"]) == 0 and cache.exists()
    assert main([*command, "--autoencoder", codec, "--steps", "2"]) == 0, "the same ones are used again"

    torch.manual_seed(1)
    other = str(files / "other.safetensors")
    save_bundle(other, {"autoencoder": (LINEAR.to_dict(), CausalVideoAutoencoder(LINEAR).state_dict())}, {})
    for what, told in (
        (["--autoencoder", codec, "--clips-seed", "77"], "seed was 22 and is 77."),
        (["--autoencoder", other], "The autoencoder is another one."),
    ):
        before = cache.read_bytes()
        assert main([*command, *what, "--steps", "3"]) == 1
        said = capsys.readouterr().err
        assert str(cache) in said and told in said and "Remove the file to make them anew" in said
        assert cache.read_bytes() == before


def test_kept_latents_that_cannot_be_used_are_said_and_made_anew(files, capsys, monkeypatch):
    command = ["transformer", "--state", str(files / "state"), "--start", str(files / "model.safetensors"), *SIZE,
               "--autoencoder", str(files / "codec.safetensors"), "--clips", "4", "--keep-cache",
               "--steps", "1"]  # fmt: skip
    cache = files / "state" / "latents_16_5_12_4.safetensors"
    cache.parent.mkdir()
    save_file({"latents": torch.zeros(4, 4, 2, 2, 2).half(), "tokens": torch.zeros(4, 4, 8).short()}, cache)
    assert main(command) == 1 and "does not say what they were made of" in capsys.readouterr().err
    cache.write_bytes(cache.read_bytes()[:-9])
    assert main(command) == 1 and "expected a whole file. Remove the file" in capsys.readouterr().err
    cache.unlink()
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert not cache.exists(), "what was stopped while it was written is not there"
