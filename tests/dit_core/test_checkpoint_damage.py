"""Files that cannot be used: each gives one sentence that names the file and the fact."""

from __future__ import annotations

import json
import pickle
import random
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from sora_dit.dit_core.checkpoint import load_bundle, read_header, read_safetensors_header, save_bundle
from sora_dit.dit_core.errors import CheckpointError, SoraDiTError
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Bytes of a small bundle, and where its data begins."""
    config = TransformerConfig(width=12, depth=1, heads=2, ff_width=8, in_channels=2, text_width=4, timestep_width=8)
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    torch.manual_seed(0)
    save_bundle(path, {"transformer": (config.to_dict(), VideoDiT(config).state_dict())}, {"by": "a test"})
    data = path.read_bytes()
    return data, 8 + struct.unpack("<Q", data[:8])[0]


def refused(path, *words):
    with pytest.raises(CheckpointError) as caught:
        load_bundle(path)
    message = str(caught.value)
    assert str(path) in message and message.rstrip().endswith((".", "file.")), message
    assert all(word in message for word in words), message


def test_every_flipped_bit_is_found(tmp_path, good):
    data, data_start = good
    path = tmp_path / "flipped.safetensors"
    draw = random.Random(5)
    places = [*range(0, 12), *draw.sample(range(12, data_start), 250), *draw.sample(range(data_start, len(data)), 60)]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(SoraDiTError) as caught:  # anything else, a crash for instance, fails the test
            load_bundle(path)
        assert str(path) in str(caught.value)
        if place >= data_start:
            assert "is damaged: the checksum of its content" in str(caught.value)


def test_damaged_weights_load_only_when_nobody_looks(tmp_path, good):
    data, _ = good
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(path, "checksum", "Copy or download it again")
    assert load_bundle(path, verify=False).report.ok


@pytest.mark.parametrize("kept", [1, 7, 8, 9, 200, 0.5, 0.9, -1])
def test_cut_short(tmp_path, good, kept):
    data, _ = good
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    words = ["is cut short", "Copy or download it again"] if kept not in (1, 7, 8) else ["not a .safetensors file"]
    refused(path, *words)


def test_bytes_too_many(tmp_path, good):
    path = tmp_path / "long.safetensors"
    path.write_bytes(good[0] + b"more")
    refused(path, "is damaged", "bytes follow the header")


def rewrite(good, change):
    """The good file with its header edited and the data untouched."""
    data, start = good
    header = json.loads(data[8:start])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[start:]


def first_tensor(header):
    return next(entry for name, entry in header.items() if name != "__metadata__")


def set_in(target, **values):
    return lambda header: target(header).update(values)


EDITS = {
    "unknown type": (set_in(first_tensor, dtype="F4"), ["'F4'", "F16"]),
    "type is a number": (set_in(first_tensor, dtype=3), ["type 3", "F16"]),
    "shape too large": (set_in(first_tensor, shape=[10**15]), ["is damaged", "needs", "bytes, its header gives"]),
    "negative shape": (set_in(first_tensor, shape=[-1]), ["is damaged", "shape [-1]"]),
    "fractional shape": (set_in(first_tensor, shape=[1.5]), ["is damaged", "shape [1.5]"]),
    "true as a size": (set_in(first_tensor, shape=[True]), ["is damaged", "shape [True]"]),
    "three offsets": (set_in(first_tensor, data_offsets=[0, 1, 2]), ["is damaged", "data_offsets [0, 1, 2]"]),
    "backward offsets": (set_in(first_tensor, data_offsets=[8, 0]), ["is damaged", "its header gives -8"]),
    "no offsets": (lambda h: first_tensor(h).pop("data_offsets"), ["is damaged", "not dtype, shape, data_offsets"]),
    "a hole": (lambda h: h.pop(next(n for n in h if n != "__metadata__")), ["is damaged", "starts at", "expected 0"]),
    "metadata of numbers": (set_in(lambda h: h["__metadata__"], format=1), ["is damaged", "table of texts"]),
    "components not JSON": (set_in(lambda h: h["__metadata__"], components="{"), ["components", "not valid JSON"]),
    "components a list": (set_in(lambda h: h["__metadata__"], components="[]"), ["components", "not a dictionary"]),
    "config a list": (set_in(lambda h: h["__metadata__"], components='{"transformer": []}'), ["configuration of"]),
    "unknown component": (set_in(lambda h: h["__metadata__"], components='{"vae": {}}'), ["vae", "transformer"]),
    "no provenance": (lambda h: h["__metadata__"].pop("provenance"), ["is damaged", "no provenance"]),
    "no checksum": (lambda h: h["__metadata__"].pop("content_sha256"), ["is damaged", "no content_sha256"]),
    "a later version": (set_in(lambda h: h["__metadata__"], format_version="2"), ["version '2'", "reads version 1"]),
    "another config": (set_in(lambda h: h["__metadata__"], components='{"transformer": {}}'), ["checksum"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_headers_that_are_wrong(tmp_path, good, name):
    change, words = EDITS[name]
    path = tmp_path / "edited.safetensors"
    path.write_bytes(rewrite(good, change))
    refused(path, *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{" + b" " * 20, ["not valid JSON"]),
        (b'{"a": 1, "a": 2}', ["a name occurs twice"]),
        (b'{"\xff": 1}', ["not valid JSON"]),
        (b'{"a":' * 20_000, ["not valid JSON"]),
        (b'{"a": 1}', ["entry of a", "dtype, shape, data_offsets"]),
        (b"{}", ["no format='sora_dit'", "without any tensor"]),
    ],
)
def test_headers_that_are_nonsense(tmp_path, text, words):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    refused(path, *words)


def zip_of(path, name):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")


CONTENTS = {
    "empty": (b"", ["is empty (0 bytes)"]),
    "text": (b"hello there, I am no model\n", ["a text file beginning 'hello there"]),
    "JSON": (b'{\n "model_type": "t5"}', ["JSON text"]),
    "web page": (b"<!DOCTYPE html><html>404</html>", ["web page", "failed download"]),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", ["Git LFS pointer", "git lfs pull"]),
    "zeros": (b"\0" * 5000, ["zero bytes"]),
    "noise": (bytes(random.Random(1).randbytes(5000)), ["unknown binary data"]),
    "GGUF": (b"GGUF" + b"\3\0\0\0" * 9, ["GGUF"]),
    "picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, ["PNG"]),
    "pickle": (pickle.dumps({"a": [1, 2]}), ["pickle", "convert it once", "weights_only=True"]),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_files_that_are_something_else(tmp_path, name):
    data, words = CONTENTS[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    refused(path, *words)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin", ".PT"])
def test_pickles_are_refused_with_how_to_convert(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    torch.save({"state_dict": {"w": torch.ones(2)}}, path)
    how = f"torch.load('{path.name}'"
    refused(path, "pickle", "can run any program", "convert it once", how, "'model.safetensors'")
    path.rename(tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", "pickle", "convert it once")


def test_the_advice_on_converting_works(tmp_path, monkeypatch):
    import re

    torch.save({"state_dict": {"w": torch.ones(2), "v": torch.ones(3, 2).T}}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError) as caught:
        load_bundle(tmp_path / "model.pt")
    program = re.search(r'python -c "(.*)" and use', str(caught.value)).group(1)
    monkeypatch.chdir(tmp_path)
    eval(compile(program, "advice", "exec"), {})  # noqa: S307 (the test's own sentence)
    assert set(read_safetensors_header(tmp_path / "model.safetensors").tensors) == {"w", "v"}


def test_folder_missing_and_zip(tmp_path):
    refused(tmp_path, "is a folder")
    refused(tmp_path / "none.safetensors", "does not exist")
    zip_of(tmp_path / "z.safetensors", "readme.txt")
    refused(tmp_path / "z.safetensors", "ZIP archive")


FOREIGN = {
    "a LoRA": ["blocks.0.lora_A.weight"],
    "a Wan video transformer (original names)": ["blocks.0.self_attn.q.weight", "time_projection.1.weight"],
    "a Wan video transformer (diffusers names)": ["blocks.0.attn1.to_q.weight", "condition_embedder.x.weight"],
    "a Flux transformer": ["double_blocks.0.img_attn.qkv.weight"],
    "a T5 or UMT5 text encoder": ["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"],
    "a CLIP text encoder": ["text_model.encoder.layers.0.self_attn.q_proj.weight"],
    "a Stable Diffusion checkpoint": ["model.diffusion_model.input_blocks.0.0.weight"],
    "no kind of model this code knows (2 tensors: a, b)": ["a", "b"],
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_safetensors_are_named(tmp_path, kind):
    path = tmp_path / "foreign.safetensors"
    save_file({name: torch.ones(2) for name in FOREIGN[kind]}, path)
    refused(path, "is not a Sora DiT checkpoint", "It looks like " + kind)
    assert set(read_safetensors_header(path).tensors) == set(FOREIGN[kind])
    with pytest.raises(CheckpointError, match="is not a Sora DiT checkpoint"):
        read_header(path)
