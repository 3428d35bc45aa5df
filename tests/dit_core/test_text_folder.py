"""Published text encoders: Hugging Face folders and single files, without the network and without pickles."""

from __future__ import annotations

import json
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file
from sora_dit.dit_core.errors import CheckpointError, ConfigError
from sora_dit.dit_core.text import TextEncoder

T5 = dict(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu")
CLIP = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=16, eos_token_id=1, bos_token_id=2, pad_token_id=0,
)  # fmt: skip
WORDS = "a red balloon over the sea at night".split()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a network connection was tried")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def word_tokenizer():
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2, **{word: index + 3 for index, word in enumerate(WORDS)}}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return backend


def save_folder(folder, model, max_length=None):
    from transformers import PreTrainedTokenizerFast

    model.save_pretrained(folder)
    extra = {"model_max_length": max_length} if max_length else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(), pad_token="<pad>", eos_token="</s>", unk_token="<unk>", **extra
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def t5(kind="T5EncoderModel"):
    import transformers

    torch.manual_seed(1)
    config = getattr(transformers, "UMT5Config" if kind.startswith("UMT5") else "T5Config")(**T5)
    return getattr(transformers, kind)(config).eval()


PROMPTS = ["a red balloon over the sea", "night", ""]


@pytest.mark.parametrize("kind", ["T5EncoderModel", "UMT5EncoderModel", "T5ForConditionalGeneration"])
def test_folder_gives_what_transformers_gives(tmp_path, kind):
    model = t5(kind)
    tokenizer = save_folder(tmp_path, model, max_length=16)
    encoder = TextEncoder.from_folder(tmp_path)
    inputs = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    plain = model.encoder if hasattr(model, "decoder") else model
    expected = plain(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).last_hidden_state
    got = encoder.encode(PROMPTS)
    assert torch.equal(got.mask, inputs.attention_mask.bool())
    assert (got.embeddings - expected * inputs.attention_mask[..., None]).abs().max() <= 1e-5
    assert encoder.max_length == 16 and encoder.truncated(["a " * 15, "a " * 16]) == (False, True)


def test_the_configuration_carries_the_vocabulary(tmp_path):
    save_folder(tmp_path, t5())
    encoder = TextEncoder.from_folder(tmp_path, max_length=20)
    again = TextEncoder.from_config(json.loads(json.dumps(encoder.config_dict())))
    assert all(torch.equal(x, y) for x, y in zip(again.tokenize(PROMPTS), encoder.tokenize(PROMPTS), strict=True))
    assert again.max_length == 20


def test_clip_folder_gives_embeddings_and_its_own_pooled_vector(tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(2)
    model = CLIPTextModel(CLIPTextConfig(**CLIP)).eval()
    tokenizer = save_folder(tmp_path, model)
    encoder = TextEncoder.from_folder(tmp_path)
    assert encoder.family == "clip_text_model" and encoder.max_length == 16
    got = encoder.encode(PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        alone = model(**{k: v for k, v in tokenizer([prompt], return_tensors="pt").items() if k != "token_type_ids"})
        length = alone.last_hidden_state.shape[1]
        assert (got.embeddings[index, :length] - alone.last_hidden_state[0]).abs().max() <= 1e-5
        assert (got.pooled[index] - alone.pooler_output[0]).abs().max() <= 1e-5


def test_byte_tokenizer_folder_and_half_precision(tmp_path):
    from transformers import ByT5Tokenizer

    T5EncoderModel = type(t5())
    model = T5EncoderModel(type(t5().config)(**{**T5, "vocab_size": 384}))
    model.to(torch.float16).save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    encoder = TextEncoder.from_folder(tmp_path)
    assert encoder.config_dict()["tokenizer"] == "byt5" and encoder.dtype == torch.float32
    assert TextEncoder.from_folder(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_sharded_folder(tmp_path):
    model = t5()
    save_folder(tmp_path, model)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names, weight_map = sorted(tensors), {}
    for part, chosen in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in chosen}, tmp_path / f"model-{part}.safetensors")
        weight_map |= {name: f"model-{part}.safetensors" for name in chosen}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "other.safetensors").write_bytes(b"not one of the shards")
    encoder = TextEncoder.from_folder(tmp_path)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in encoder.state_dict().items())


def test_single_file_with_a_prefix_and_a_tokenizer_folder(tmp_path):
    model = t5()
    save_folder(tmp_path / "hf", model)
    tensors = {f"text_encoder.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    del tensors["text_encoder.encoder.embed_tokens.weight"]  # tied to shared.weight; files often hold only one
    save_file({**tensors, "unrelated.weight": torch.ones(2)}, tmp_path / "one.safetensors")
    config = {"family": "t5", "max_length": 24, "config": T5}
    encoder = TextEncoder.from_safetensors(tmp_path / "one.safetensors", config, tokenizer_folder=tmp_path / "hf")
    assert torch.equal(encoder.module.shared.weight, model.shared.weight)
    assert encoder.module.encoder.embed_tokens.weight is encoder.module.shared.weight
    assert encoder.max_length == 24

    del tensors["text_encoder.encoder.final_layer_norm.weight"]
    tensors["text_encoder.encoder.block.0.extra"] = torch.ones(1)
    tensors["text_encoder.shared.weight"] = torch.ones(3, 32)
    save_file(tensors, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError) as caught:
        TextEncoder.from_safetensors(tmp_path / "two.safetensors", config, tokenizer_folder=tmp_path / "hf")
    missing = "1 missing (encoder.final_layer_norm.weight)"
    for words in ("two.safetensors", missing, "block.0.extra", "shared.weight is [3, 32], expected [64, 32]"):
        assert words in str(caught.value)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A SentencePiece model laid out as T5's: padding 0, end 1, unknown 2."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text.txt").write_text("a red balloon over the sea at night\nclouds drift left\n" * 40)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "spiece"), vocab_size=24, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    return (folder / "spiece.model").read_bytes()


def test_sentencepiece_in_a_folder_and_inside_the_weight_file(tmp_path, pieces):
    import sentencepiece

    model = t5()
    model.save_pretrained(tmp_path)
    (tmp_path / "spiece.model").write_bytes(pieces)
    encoder = TextEncoder.from_folder(tmp_path, max_length=12)
    expected = sentencepiece.SentencePieceProcessor(model_proto=pieces).encode("red sea")
    ids, mask = encoder.tokenize(["red sea", "", "\ud83d" + "balloon " * 99])
    assert ids[0, : len(expected) + 2].tolist() == [*expected, 1, 0]
    assert mask.sum(1).tolist() == [len(expected) + 1, 1, 12]
    assert encoder.encode(["red sea", "balloon " * 99]).truncated == (False, True)

    tensors = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    tensors["spiece_model"] = torch.frombuffer(bytearray(pieces), dtype=torch.uint8)
    save_file(tensors, tmp_path / "one.safetensors")
    config = {"family": "t5", "max_length": 12, "config": T5}
    single = TextEncoder.from_safetensors(tmp_path / "one.safetensors", config)
    again = TextEncoder.from_config(json.loads(json.dumps(single.config_dict())))
    assert torch.equal(single.encode(PROMPTS).embeddings, encoder.encode(PROMPTS).embeddings)
    assert torch.equal(again.tokenize(PROMPTS)[0], encoder.tokenize(PROMPTS)[0])

    (tmp_path / "spiece.model").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="spiece.model cannot be used.*no SentencePiece model"):
        TextEncoder.from_folder(tmp_path)


def spoil(folder, what):
    if what == "no folder":
        return folder / "nowhere"
    if what == "no config":
        (folder / "config.json").unlink()
    if what == "bad config":
        (folder / "config.json").write_text("{")
    if what == "list config":
        (folder / "config.json").write_text("[]")
    if what == "other model":
        (folder / "config.json").write_text('{"model_type": "llama"}')
    if what == "no tokenizer":
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            (folder / name).unlink(missing_ok=True)
    if what == "bad tokenizer":
        (folder / "tokenizer.json").write_text("{}")
    if what in ("no weights", "pickle"):
        (folder / "model.safetensors").unlink()
    if what == "pickle":
        torch.save({}, folder / "pytorch_model.bin")
    if what == "bad index":
        (folder / "model.safetensors.index.json").write_text('{"weight_map": [1]}')
    return folder


@pytest.mark.parametrize(
    ("what", "kind", "words"),
    [
        ("no folder", CheckpointError, ["nowhere", "is not a folder", "config.json"]),
        ("no config", CheckpointError, ["holds no config.json"]),
        ("bad config", CheckpointError, ["config.json", "not valid JSON"]),
        ("list config", CheckpointError, ["config.json", "list", "dictionary"]),
        ("other model", ConfigError, ["'llama'", "clip", "t5", "umt5"]),
        ("no tokenizer", CheckpointError, ["holds no tokenizer", "tokenizer.json"]),
        ("bad tokenizer", CheckpointError, ["tokenizer", "cannot be read"]),
        ("no weights", CheckpointError, ["holds no weights", "model.safetensors"]),
        ("pickle", CheckpointError, ["pytorch_model.bin", "pickle", "convert it once", "save_file"]),
        ("bad index", CheckpointError, ["index.json", "weight_map"]),
    ],
)
def test_unusable_folders(tmp_path, what, kind, words):
    save_folder(tmp_path, t5())
    with pytest.raises(kind) as caught:
        TextEncoder.from_folder(spoil(tmp_path, what))
    assert all(word in str(caught.value) for word in words), str(caught.value)
