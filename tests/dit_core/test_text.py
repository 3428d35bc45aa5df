"""Text encoders built from a configuration: tokens, embeddings that do not depend on the batch, errors."""

from __future__ import annotations

import json

import pytest
import torch
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.text import ByteTokenizer, TextEncoder

T5 = dict(vocab_size=384, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.3)
CLIP = dict(
    vocab_size=384, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, eos_token_id=1, bos_token_id=2, pad_token_id=0,
)  # fmt: skip
PROMPTS = [
    "a red hot-air balloon rising over the sea at sunset",
    "",
    "🎈 ☁️ naïve café 夕焼け",
    "x" * 10_000,
    "night, stars, a city",
]


def build(family="t5", max_length=48, **settings) -> TextEncoder:
    torch.manual_seed(0)
    base = CLIP if family == "clip_text_model" else T5
    return TextEncoder.from_config(
        {"family": family, "tokenizer": "byt5", "max_length": max_length, "config": {**base, **settings}}
    )


def test_bytes_are_the_tokens_of_byt5():
    from transformers import ByT5Tokenizer

    reference, ours = ByT5Tokenizer(), ByteTokenizer(40)
    ids, mask = ours.encode(PROMPTS)
    expected = reference(PROMPTS, padding=True, truncation=True, max_length=40, return_tensors="pt")
    assert torch.equal(ids, expected.input_ids)
    assert torch.equal(mask, expected.attention_mask.bool())


def test_control_tokens_and_broken_characters_are_plain_text():
    ids, mask = ByteTokenizer(64).encode(["</s><pad>", "\ud83d!"])
    assert (ids[0] == 1).sum() == 1 and (ids[0, : mask[0].sum()] == 0).sum() == 0
    assert ids[1, :3].tolist() == [ord("?") + 3, ord("!") + 3, 1]


@pytest.mark.parametrize("family", ["t5", "umt5", "clip_text_model"])
def test_a_prompt_has_one_embedding_whatever_it_is_batched_with(family):
    encoder = build(family)
    together = encoder.encode(PROMPTS)
    assert together.embeddings.shape == (5, 48, 32) and together.mask.dtype == torch.bool
    assert not together.embeddings[~together.mask].any()
    assert together.embeddings[together.mask].std() > 0.01
    for index, prompt in enumerate(PROMPTS):
        alone = encoder.encode([prompt])
        length = int(alone.mask.sum())
        assert int(together.mask[index].sum()) == length
        assert (alone.embeddings[0] - together.embeddings[index, :length]).abs().max() <= 1e-5
        assert (alone.pooled[0] - together.pooled[index]).abs().max() <= 1e-5


@pytest.mark.parametrize("family", ["t5", "umt5"])
@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
def test_equal_to_plain_transformers_on_the_same_weights(family, feed_forward):
    import transformers

    encoder = build(family, feed_forward_proj=feed_forward)
    kind = {"t5": "T5", "umt5": "UMT5"}[family]
    config = getattr(transformers, kind + "Config")(**T5, feed_forward_proj=feed_forward)
    plain = getattr(transformers, kind + "EncoderModel")(config).eval()
    plain.load_state_dict(encoder.module.state_dict())
    ids = torch.tensor([[*(byte + 3 for byte in PROMPTS[4].encode()), 1]])
    expected = plain(input_ids=ids).last_hidden_state
    got = encoder.encode(PROMPTS[:3] + [PROMPTS[4]])
    assert (got.embeddings[3, : ids.shape[1]] - expected[0]).abs().max() <= 1e-5
    assert (got.pooled[3] - expected[0].mean(0)).abs().max() <= 1e-5


def test_eager_and_fused_attention_mask_alike():
    encoder = build()
    ids, mask = encoder.tokenize(PROMPTS)
    results = []
    for implementation in ("eager", "sdpa"):
        encoder.module.config._attn_implementation = implementation
        encoder.module.encoder.config._attn_implementation = implementation
        results.append(encoder.forward_ids(ids, mask).embeddings)
    assert (results[0] - results[1]).abs().max() <= 1e-5


def test_no_dropout_in_encode_and_dropout_in_training():
    encoder = build()
    assert not encoder.module.training
    encoder.module.train()
    first, second = encoder.encode(PROMPTS[:1]), encoder.encode(PROMPTS[:1])
    assert torch.equal(first.embeddings, second.embeddings) and encoder.module.training
    ids, mask = encoder.tokenize(PROMPTS[:1])
    assert not torch.equal(encoder.forward_ids(ids, mask).pooled, encoder.forward_ids(ids, mask).pooled)


def test_gradients_reach_the_weights():
    encoder = build()
    ids, mask = encoder.tokenize(PROMPTS)
    embedding = encoder.forward_ids(ids, mask)
    (embedding.embeddings.square().sum() + embedding.pooled.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.module.parameters())


def test_forward_ids_is_one_graph_under_compile():
    encoder = build()
    ids, mask = encoder.tokenize(PROMPTS)
    compiled = torch.compile(encoder.forward_ids, backend="eager", fullgraph=True)
    assert (compiled(ids, mask).embeddings - encoder.forward_ids(ids, mask).embeddings).abs().max() <= 1e-5


def test_truncation_is_told():
    encoder = build(max_length=48)
    embedding = encoder.encode(PROMPTS)
    assert embedding.truncated == (True, False, False, True, False)
    assert encoder.truncated(["x" * 47, "x" * 48]) == (False, True)
    assert embedding.embeddings.shape[1] == encoder.max_length == 48


def test_configuration_round_trip_and_names():
    encoder = build("umt5")
    config = json.loads(json.dumps(encoder.config_dict()))
    torch.manual_seed(0)
    again = TextEncoder.from_config(config)
    assert again.config_dict() == encoder.config_dict()
    assert torch.equal(again.encode(["sea"]).pooled, encoder.encode(["sea"]).pooled)
    assert again.width == 32 and again.dtype == torch.float32 and again.device.type == "cpu"
    assert "shared.weight" in encoder.state_dict() and "encoder.embed_tokens.weight" not in encoder.state_dict()


def edited(**changes):
    return {"family": "t5", "tokenizer": "byt5", "max_length": 48, "config": dict(T5), **changes}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (edited(family="bert"), ["'bert'", "t5, umt5, clip_text_model"]),
        (edited(family=None), ["None", "t5, umt5"]),
        (edited(extra=1), ["extra", "config, family, max_length, tokenizer"]),
        ("t5", ["str", "expected config"]),
        (edited(config={**T5, "sparse": True}), ["sparse", "does not implement", "d_model"]),
        (edited(config={**T5, "feed_forward_proj": "gated-banana"}), ["t5 text encoder cannot be built", "banana"]),
        (edited(config=[1]), ["list", "dictionary"]),
        (edited(config={**T5, "vocab_size": 200}), ["200", "259 or more"]),
        (edited(max_length=1), ["max_length is 1", "2 or more"]),
        (edited(max_length="long"), ["'long'", "2 or more"]),
        (edited(tokenizer="bpe"), ["'bpe'", '"byt5"']),
        (edited(tokenizer={"kind": "tokenizers", "json": "{}", "x": 1}), ["unknown settings", "x"]),
        (edited(tokenizer={"kind": "tokenizers", "json": "{}"}), ["cannot be built from its JSON"]),
        (edited(family="clip_text_model", config=CLIP, max_length=65), ["65", "64 positions"]),
    ],
)
def test_refused_configurations(config, words):
    with pytest.raises(ConfigError) as caught:
        TextEncoder.from_config(config)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(("texts", "word"), [("one", "one string"), ([], "empty list")])
def test_refused_prompts(texts, word):
    with pytest.raises(ConfigError, match=word):
        build().encode(texts)
