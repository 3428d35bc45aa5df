"""Bundles: what is saved comes back, and a failed save leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import file_sha256, load_bundle, read_header, save_bundle
from sora_dit.dit_core.checkpoint import hashing as hashing_module
from sora_dit.dit_core.checkpoint import load as loading
from sora_dit.dit_core.errors import CheckpointError, ConfigError
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

PROVENANCE = {"commit": "abc123", "steps": 48_000, "losses": [0.5, 0.25], "by": "Zoë ☁"}
CONFIG = TransformerConfig(
    width=32, depth=1, heads=2, ff_width=48, in_channels=4, text_width=32, timestep_width=32,
    latent_mean=(0.1, 0.2, 0.3, 0.4), latent_std=(1.0, 1.1, 1.2, 1.3), training={"shift": 3.0, "frames": 17},
)  # fmt: skip


def randomised(module):
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.1)
    return module.eval()


def transformer(**changes):
    config = replace(CONFIG, **changes)
    return config.to_dict(), randomised(VideoDiT(config))


def text_encoder(family="t5"):
    t5 = dict(vocab_size=384, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    clip = dict(
        vocab_size=384, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, eos_token_id=1, bos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    settings = clip if family == "clip_text_model" else t5
    encoder = TextEncoder.from_config({"family": family, "tokenizer": "byt5", "max_length": 48, "config": settings})
    randomised(encoder.module)
    return encoder


def autoencoder():
    config = AutoencoderConfig(latent_channels=4, encoder_channels=(8, 8, 8), decoder_channels=(8, 8, 8))
    return config.to_dict(), randomised(CausalVideoAutoencoder(config))


def whole(path, **options):
    (dit_config, dit), text, (ae_config, ae) = transformer(), text_encoder(), autoencoder()
    components = {
        "transformer": (dit_config, dit.state_dict()),
        "text_encoder": (text.config_dict(), text.module.state_dict()),
        "autoencoder": (ae_config, ae.state_dict()),
    }
    return save_bundle(path, components, PROVENANCE, **options), dit, text, ae


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "all.safetensors"
    header, dit, text, ae = whole(path, dtype=torch.float32)
    bundle = load_bundle(path)
    assert bundle.header.provenance == header.provenance == PROVENANCE
    assert bundle.transformer.config == dit.config and bundle.autoencoder.config == ae.config
    assert bundle.text_encoder.config_dict() == text.config_dict()
    pairs = ((bundle.transformer, dit), (bundle.text_encoder.module, text.module), (bundle.autoencoder, ae))
    for ours, theirs in pairs:
        assert not ours.training
        expected = theirs.state_dict()
        assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in expected.items()}
        assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
        assert all(p.requires_grad and not p.is_meta for p in ours.parameters())
    prompt = ["a red balloon"]
    assert torch.equal(bundle.text_encoder.encode(prompt).pooled, text.encode(prompt).pooled)
    x, t, context = torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0]), torch.randn(1, 3, 32)
    inputs = dict(context=context, pooled=context.mean(1))
    assert torch.equal(bundle.transformer(x, t, **inputs), dit(x, t, **inputs))
    assert bundle.report.ok and len(bundle.report.component("autoencoder").matched) == len(ae.state_dict())


def test_half_storage_is_computed_in_the_type_asked_for(tmp_path):
    path = tmp_path / "half.safetensors"
    header, dit, *_ = whole(path, keep_float32=["transformer.final*", "autoencoder.decoder.body.0.*"])
    types = {name: info.dtype for name, info in header.tensors.items()}
    kept = {name for name, dtype in types.items() if dtype == "F32"}
    assert kept == {n for n in types if n.startswith(("transformer.final", "autoencoder.decoder.body.0."))} and kept
    assert set(types.values()) == {"F16", "F32"}
    loaded = load_bundle(path).transformer
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.patch_in.weight, dit.patch_in.weight.half().float())
    assert torch.equal(loaded.final.projection.weight, dit.final.projection.weight)
    assert {p.dtype for p in load_bundle(path, dtype=torch.bfloat16).autoencoder.parameters()} == {torch.bfloat16}


def test_each_part_has_a_type_of_its_own_and_is_never_wider_than_that(tmp_path, monkeypatch):
    path = tmp_path / "half.safetensors"
    _, dit, *_ = whole(path)
    placed, place = set(), loading.place

    def spy(tensor, device, dtype):
        placed.add(dtype)
        return place(tensor, device, dtype)

    monkeypatch.setattr(loading, "place", spy)
    bundle = load_bundle(path, dtype={"transformer": torch.bfloat16, "text_encoder": torch.float16})
    assert {p.dtype for p in bundle.transformer.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in bundle.text_encoder.module.parameters()} == {torch.float16}
    assert {p.dtype for p in bundle.autoencoder.parameters()} == {torch.float32}
    assert torch.equal(bundle.transformer.patch_in.weight, dit.patch_in.weight.half().bfloat16())
    only = tmp_path / "only.safetensors"
    config, dit = transformer()
    save_bundle(only, {"transformer": (config, dit.state_dict())}, {})
    placed.clear()
    load_bundle(only, dtype={"transformer": torch.bfloat16})
    assert placed == {torch.bfloat16}, "not once in float32, which may not fit"


def test_values_beyond_half_precision_are_kept(tmp_path):
    config, dit = transformer()
    dit.patch_in.bias.data[0] = 1e6
    header = save_bundle(tmp_path / "x.safetensors", {"transformer": (config, dit.state_dict())}, {})
    assert header.tensors["transformer.patch_in.bias"].dtype == "F32"
    assert load_bundle(tmp_path / "x.safetensors").transformer.patch_in.bias[0] == 1e6


@pytest.mark.parametrize("family", ["t5", "umt5", "clip_text_model"])
def test_text_encoder_alone_with_its_ties(tmp_path, family):
    encoder = text_encoder(family)
    path = tmp_path / "text.safetensors"
    for state in (encoder.state_dict(), encoder.module.state_dict()):
        header = save_bundle(path, {"text_encoder": (encoder.config_dict(), state)}, {}, dtype=torch.float32)
        assert not {"text_encoder.shared.weight", "text_encoder.encoder.embed_tokens.weight"} <= set(header.tensors)
        bundle = load_bundle(path)
        assert bundle.transformer is None and bundle.autoencoder is None
        module = bundle.text_encoder.module
        assert len(list(module.parameters())) == len(list(encoder.module.parameters()))
        got, expected = (each.encode(["sea", "🎈"]).embeddings for each in (bundle.text_encoder, encoder))
        assert torch.equal(got, expected)


def test_the_header_is_read_without_the_weights(tmp_path, monkeypatch):
    path = tmp_path / "all.safetensors"
    whole(path)
    monkeypatch.setattr(torch, "empty", None)
    header = read_header(path)
    assert header.components["transformer"]["training"] == {"shift": 3.0, "frames": 17}
    assert set(header.components) == {"transformer", "text_encoder", "autoencoder"}
    assert header.tensors["transformer.patch_in.weight"].shape == (32, 16) and len(header.sha256) == 64


def test_the_safetensors_library_reads_and_rewrites_it(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = tmp_path / "all.safetensors"
    whole(path, keep_float32=["transformer.final*"])
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        save_file(tensors, tmp_path / "again.safetensors", file.metadata())
    assert load_bundle(tmp_path / "again.safetensors").report.ok  # the checksum is of the content, not of the spelling


def test_mismatches_are_listed_by_name(tmp_path):
    config, dit = transformer()
    state = dit.state_dict()
    del state["patch_in.bias"]
    state["patch_in.weight"] = torch.zeros(32, 5)
    state["blocks.7.extra"] = torch.zeros(1)
    path = tmp_path / "odd.safetensors"
    save_bundle(path, {"transformer": (config, state)}, {})
    with pytest.raises(CheckpointError) as caught:
        load_bundle(path)
    for words in (
        "odd.safetensors", "1 missing (transformer.patch_in.bias)", "1 unexpected (transformer.blocks.7.extra)",
        "transformer.patch_in.weight is [32, 5], expected [32, 16]",
    ):  # fmt: skip
        assert words in str(caught.value)


def test_a_long_list_is_shortened_in_the_error_and_whole_in_the_report(tmp_path):
    from sora_dit.dit_core.checkpoint import LoadReport

    names = tuple(f"transformer.t{index}" for index in range(20))
    report = LoadReport(missing=names)
    with pytest.raises(CheckpointError, match="20 missing .*t7, and 12 more"):
        report.require("x")
    assert all(f"missing: {name}" in str(report) for name in names)


def test_configurations_that_are_not_implemented_are_refused(tmp_path):
    config, dit = transformer()
    path = tmp_path / "new.safetensors"
    for changed, word in (({"modulation": "mamba"}, "mamba"), ({"moe": 8}, "moe"), ({"width": None}, "width")):
        save_bundle(path, {"transformer": ({**config, **changed}, dit.state_dict())}, {})
        with pytest.raises(ConfigError) as caught:
            load_bundle(path)
        assert "new.safetensors, transformer" in str(caught.value) and word in str(caught.value)


def small(path, provenance=None):
    config, dit = transformer()
    return save_bundle(path, {"transformer": (config, dit.state_dict())}, provenance or {})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_save_leaves_nothing_and_keeps_the_old_file(tmp_path, monkeypatch, call, number):
    path = tmp_path / "model.safetensors"
    small(path, {"edition": 1})
    before = path.read_bytes()
    words = {errno.ENOSPC: "the disk is full", errno.EROFS: "read-only", errno.EACCES: "permission is denied"}[number]

    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(CheckpointError) as caught:
            small(path, {"edition": 2})
    assert f"{path} cannot be written: " in str(caught.value) and words in str(caught.value)
    assert os.listdir(tmp_path) == ["model.safetensors"] and path.read_bytes() == before


def test_ctrl_c_while_saving_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(hashing_module.ContentHash, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot be written: the file would be larger than"):
            whole(tmp_path / "model.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def test_saves_that_are_refused(tmp_path):
    config, dit = transformer()
    state, path = dit.state_dict(), tmp_path / "x.safetensors"
    nan = {**state, "patch_in.bias": torch.full((32,), float("nan"))}
    huge = {**state, "patch_in.bias": torch.full((32,), float("inf"))}
    wide = {**state, "patch_in.bias": torch.full((32,), 1e300, dtype=torch.float64)}
    meta = {**state, "patch_in.bias": torch.empty(32, device="meta")}
    cases = [
        (dict(path=tmp_path / "x.pt"), ["x.pt", "ends in .safetensors"]),
        (dict(path=tmp_path / "no" / "x.safetensors"), ["the folder does not exist"]),
        (dict(components={}), ["no component", "transformer"]),
        (dict(components={"vae": (config, state)}), ["'vae'", "autoencoder"]),
        (dict(components={"transformer": (config, nan)}), ["transformer.patch_in.bias", "NaN or infinite"]),
        (dict(components={"transformer": (config, huge)}), ["transformer.patch_in.bias", "NaN or infinite"]),
        (dict(components={"transformer": (config, wide)}), ["transformer.patch_in.bias", "(as float32)"]),
        (dict(components={"transformer": (config, meta)}), ["transformer.patch_in.bias", "meta device"]),
        (dict(provenance={"path": path}), ["provenance", "not JSON"]),
        (dict(keep_float32=["transformer.typo"]), ["'transformer.typo'", "no tensor"]),
    ]
    for changes, words in cases:
        call = {"path": path, "components": {"transformer": (config, state)}, "provenance": {}, **changes}
        with pytest.raises(CheckpointError) as caught:
            save_bundle(**call)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert os.listdir(tmp_path) == []


def test_file_sha256_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1000)
    expected = hashlib.sha256(b"abc" * 1000).hexdigest()
    assert file_sha256(path) == expected
    with monkeypatch.context() as patch:
        patch.setattr(hashing_module, "_chunks", None)  # reading it again would fail
        assert file_sha256(path) == expected
    path.write_bytes(b"abcd" * 1000)
    assert file_sha256(path) == hashlib.sha256(b"abcd" * 1000).hexdigest()
    with pytest.raises(CheckpointError, match="nothing cannot be read: it does not exist"):
        file_sha256(tmp_path / "nothing")
