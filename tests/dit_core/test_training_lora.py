"""Training a LoRA: only the low-rank weights move, they learn, and a stopped training goes on bit for bit."""

import json

import pytest
import torch
from safetensors.torch import load_file
from sora_dit.dit_core.errors import CheckpointError, ConfigError
from sora_dit.dit_core.latents import weights_sha256
from sora_dit.dit_core.lora import LoraConfig, add_lora, load_lora, save_lora, with_lora
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training.loop import LoopSettings, TrainingDiverged
from sora_dit.dit_core.training.lora import LoraTraining, train_lora
from sora_dit.dit_core.training.sky_data import LatentCache
from sora_dit.dit_core.training.transformer import TransformerTraining, denoising_step
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

CPU = torch.device("cpu")
TEXT = {
    "family": "t5",
    "tokenizer": "byt5",
    "max_length": 48,
    "config": {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
}
CONFIG = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, patch=(1, 1, 1))
ALL = LoraConfig(rank=4, alpha=8.0, targets=("all",), dropout=0.1)


def cache(clips: int = 12) -> LatentCache:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 250, (clips, 2, 48), generator=generator).short()
    flat = torch.randn(clips, 4, 1, 1, 1, generator=generator).expand(-1, -1, 3, 4, 4)  # something that can be learned
    return LatentCache(flat.half().contiguous(), tokens)


def models(seed: int = 0) -> tuple[VideoDiT, TextEncoder]:
    torch.manual_seed(seed)
    model = VideoDiT(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model, TextEncoder.from_config(TEXT)


def train(folder, steps, lora=ALL, seed=0, checkpointing=False, **changes):
    model, text = models(seed)
    model.gradient_checkpointing = checkpointing
    training = LoraTraining(lora=lora, **changes)
    loop = LoopSettings(steps=steps, batch=4, warmup=2, decay=0.0, log_every=5)
    layers, position, done = train_lora(model, text, cache(), folder, loop, training, CPU)
    return model, text, layers, position, done


def test_not_one_base_weight_changes_and_every_lora_weight_does(tmp_path):
    before, before_text = models()
    start = add_lora(models()[0], ALL, seed=LoraTraining.seed)
    model, text, layers, *_ = train(tmp_path, 4)
    for old, new in ((before, model), (before_text.module, text.module)):
        old, new = old.state_dict(), new.state_dict()
        assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    pairs = list(zip(start.named_parameters(), layers.parameters(), strict=True))
    assert len(pairs) == 2 * len(layers) == 2 * 23
    assert not [name for (name, p), q in pairs if torch.equal(p, q)]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_ten_steps_equal_six_and_four_more_bit_for_bit(tmp_path, checkpointing):
    train(tmp_path / "whole", 10, checkpointing=checkpointing)
    train(tmp_path / "parts", 6, checkpointing=checkpointing)
    torch.rand(7)  # the dropout must not depend on what others draw
    _, _, layers, position, done = train(tmp_path / "parts", 10, checkpointing=checkpointing)
    assert done and position["step"] == 10 and position["samples"] == 40
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert set(whole) == set(parts) and any(key.startswith("optimiser.") for key in whole)
    assert not [key for key in whole if not torch.equal(whole[key], parts[key])]
    assert not any(key.startswith("module.transformer") for key in whole), "the base model is not in the state"
    average = {key[13:]: value for key, value in parts.items() if key.startswith("average.lora.")}
    assert all(torch.equal(average[name], p) for name, p in layers.named_parameters()), "the average is what is left"


def test_the_loss_falls(tmp_path):
    train(tmp_path, 60, LoraConfig(4, 4.0, ("all",)), known=0.0, lr=1e-2)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, last = (sum(line["loss"] for line in part) / len(part) for part in (lines[:3], lines[-3:]))
    assert last < 0.9 * first
    assert all(len(line["level_loss"]) == 8 and max(v or 0 for v in line["level_loss"]) > 0 for line in lines)


def test_step_and_loss_are_those_of_the_transformers_training():
    model, text = models()
    plain = denoising_step(model, text, cache(), 4, TransformerTraining(), CPU)(7)[0]
    add_lora(model, ALL)
    assert torch.equal(denoising_step(model, text, cache(), 4, LoraTraining(), CPU)(7)[0], plain)


def test_what_was_trained_is_what_the_file_does_to_the_model(tmp_path):
    model, _, layers, position, _ = train(tmp_path, 20, lr=1e-2)
    save_lora(tmp_path / "a.safetensors", layers, dict(position))
    g = torch.Generator().manual_seed(1)
    x, t, context, pooled = (torch.randn(shape, generator=g) for shape in ((1, 4, 3, 4, 4), (1,), (1, 5, 16), (1, 16)))
    with torch.no_grad():
        trained = model(x, t, context, None, pooled)
        layers.remove()
        plain = model(x, t, context, None, pooled)
        merged = with_lora(model, load_lora(tmp_path / "a.safetensors"), 1.0)[0](x, t, context, None, pooled)
    assert (trained - plain).abs().max() > 1e-2
    torch.testing.assert_close(merged, trained, atol=1e-5, rtol=1e-5)
    assert load_lora(tmp_path / "a.safetensors").header.provenance["step"] == 20


def test_another_base_or_rank_is_refused_and_leaves_the_model_alone(tmp_path):
    train(tmp_path, 2)
    with pytest.raises(CheckpointError, match=r"training\.lora\.rank was 4 and is 2\. Use .* another folder"):
        train(tmp_path, 4, LoraConfig(2, 8.0, ("all",)))
    with pytest.raises(CheckpointError, match="base is another one"):
        train(tmp_path, 4, seed=1)
    model, text = models()
    settings = LoraTraining(lora=ALL, lr=1e30)
    with pytest.raises(TrainingDiverged):
        train_lora(model, text, cache(), tmp_path / "b", LoopSettings(steps=40, batch=4), settings, CPU)
    assert weights_sha256(model) == weights_sha256(models()[0])
    assert not any(module._forward_hooks for module in model.modules())


def test_what_it_cannot_train_is_refused():
    with pytest.raises(ConfigError, match="expected another, such as 'adamw'"):
        LoraTraining(optimiser="muon")
    with pytest.raises(ConfigError, match="train_text off"):
        LoraTraining(train_text=True)
