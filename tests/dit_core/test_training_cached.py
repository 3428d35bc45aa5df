"""Training on cached latents of mixed sizes: resumes bit for bit, measures held-out clips, refuses others, exports."""

import json

import pytest
import torch
from safetensors.torch import load_file
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.checkpoint import load_bundle
from sora_dit.dit_core.data import Bucket, Fingerprint, TrainingClips
from sora_dit.dit_core.errors import CheckpointError
from sora_dit.dit_core.latents import LatentStore, cache_latents
from sora_dit.dit_core.lora import LoraConfig
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training.export import export_bundle
from sora_dit.dit_core.training.loop import LoopSettings
from sora_dit.dit_core.training.lora import LoraTraining, train_lora
from sora_dit.dit_core.training.transformer import TransformerTraining, held_out_loss, train_transformer
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

CPU = torch.device("cpu")
STATISTICS = {"latent_mean": (0.0,) * 4, "latent_std": (0.5,) * 4}
AUTOENCODER = AutoencoderConfig(
    latent_channels=4, patch=4, encoder_channels=(4, 4), decoder_channels=(4, 4), encoder_blocks=0, decoder_blocks=0,
    temporal_downsample=(True,), spatial_downsample=(True,), **STATISTICS,
)  # fmt: skip
TEXT = {
    "family": "t5", "tokenizer": "byt5", "max_length": 24,
    "config": {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
}  # fmt: skip
CONFIG = TransformerConfig(
    width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, patch=(1, 1, 1), **STATISTICS
)


class Clips(TrainingClips):
    """20 clips of two sizes."""

    def __init__(self, seed=0):
        self.seed = seed

    def __len__(self):
        return 20

    def bucket(self, index):
        return Bucket(3, 16, 24) if index % 2 else Bucket(5, 24, 16)

    def captions(self, index):
        return (f"clip {index}", f"number {index}")[: 1 + index % 2]

    def clip(self, index):
        b = self.bucket(index)
        colours = torch.rand(3, 1, 1, 1, generator=torch.Generator().manual_seed(self.seed + index))
        return (colours * 2 - 1).expand(3, b.frames, b.height, b.width).contiguous()

    def fingerprint(self):
        return Fingerprint("clips of a folder", {"seed": str(self.seed)}, {"a.mp4": {"content": "1"}})


def autoencoder():
    torch.manual_seed(0)
    return CausalVideoAutoencoder(AUTOENCODER).eval()


def models():
    torch.manual_seed(1)
    return VideoDiT(CONFIG), TextEncoder.from_config(TEXT)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> LatentStore:
    return cache_latents(Clips(), autoencoder(), models()[1], tmp_path_factory.mktemp("latents"), shard_bytes=400)


def train(folder, latents, steps, **loop):
    model, text = models()
    train_part, held_out = latents.split(0.2)
    settings = LoopSettings(**dict(steps=steps, batch=4, warmup=2, decay=0.0, held_out_every=4, log_every=3) | loop)
    done = train_transformer(model, text, train_part, folder, settings, TransformerTraining(), CPU, None, held_out)
    return model, text, *done


def test_ten_steps_equal_six_and_four_more_on_mixed_sizes(tmp_path, store):
    torch.set_num_threads(1)
    train(tmp_path / "whole", store, 10)
    train(tmp_path / "parts", store, 6)
    assert train(tmp_path / "parts", store, 10)[3]
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert not [key for key in whole if not torch.equal(whole[key], parts[key])]
    told = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in told if "held_out" in line] == [4, 8]
    assert all(
        len(line["held_out_level_loss"]) == 8 and 0.1 < line["held_out"] < 10 for line in told if "held_out" in line
    )


def test_the_held_out_loss_is_the_same_each_time_and_falls_when_the_model_learns(store):
    model, text = models()
    training = TransformerTraining(lr=1e-2, caption_dropout=0.5)
    measure = held_out_loss(model, text, store.split(0.3)[1], 8, training, CPU)
    with torch.no_grad():
        before = measure()
        torch.rand(3)
        assert measure() == before
        levels = [value for value in before["held_out_level_loss"] if value is not None]
        assert min(levels) < before["held_out"] < max(levels)
    assert held_out_loss(model, text, None, 8, training, CPU) is None


def test_other_clips_or_another_share_held_out_are_refused(tmp_path, store):
    train(tmp_path / "run", store, 2)
    other = cache_latents(Clips(seed=100), autoencoder(), models()[1], tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"another training\. seed was 0 and is 100\. Use .* another folder"):
        train(tmp_path / "run", other, 4)
    model, text = models()
    loop = LoopSettings(steps=4, batch=4)
    said = r"The number of clips trained on was 16 and is 20\. The clips held out are other ones\."
    with pytest.raises(CheckpointError, match=said):
        train_transformer(model, text, store, tmp_path / "run", loop, TransformerTraining(), CPU)


def test_a_lora_learns_from_the_same_store(tmp_path, store):
    states = []
    for parts in ((8,), (5, 8)):
        folder = tmp_path / str(len(parts))
        for steps in parts:
            model, text = models()
            training, loop = LoraTraining(lora=LoraConfig(2, 2.0)), LoopSettings(steps=steps, batch=2, decay=0.0)
            layers, _, done = train_lora(model, text, store, folder, loop, training, CPU)
            layers.remove()
        assert done
        states.append(load_file(folder / "state.safetensors"))
    assert not [key for key in states[0] if not torch.equal(states[0][key], states[1][key])]


def test_a_state_becomes_a_checkpoint_with_all_three_parts(tmp_path, store):
    model, text, position, _ = train(tmp_path / "run", store, 5)
    header = export_bundle(tmp_path / "run", autoencoder(), tmp_path / "mine.safetensors", dtype=torch.float32)
    made = header.provenance["transformer"]
    assert made["finished"] is True and "planned" not in made
    assert made["step"] == 5 and made["data"]["data"]["files"] == 1 and made["data"]["data"]["rules"] == {"seed": "0"}
    bundle = load_bundle(tmp_path / "mine.safetensors")
    for wanted, got in ((model, bundle.transformer), (text.module, bundle.text_encoder.module),
                        (autoencoder(), bundle.autoencoder)):  # fmt: skip
        wanted, got = wanted.state_dict(), got.state_dict()
        assert wanted.keys() == got.keys() and all(torch.equal(wanted[name], got[name]) for name in wanted)
    other = autoencoder()
    other.config = AutoencoderConfig.from_dict(AUTOENCODER.to_dict() | {"latent_std": (0.7,) * 4})
    with pytest.raises(
        CheckpointError, match="What was given is not the autoencoder that the transformer was trained"
    ):
        export_bundle(tmp_path / "run", other, tmp_path / "no.safetensors")


def test_activation_checkpointing_computes_the_same(tmp_path, store):
    for name, wanted in (("plain", False), ("checkpointed", True)):
        model, text = models()
        training = TransformerTraining(checkpoint_activations=wanted)
        calls = []
        model.blocks[0].feed_forward.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        train_transformer(model, text, store, tmp_path / name, LoopSettings(steps=3, batch=2), training, CPU)
        assert len(calls) == (6 if wanted else 3), "worked out again for the backward pass"
        assert not model.gradient_checkpointing
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("plain", "checkpointed"))
    assert not [key for key in one if not torch.equal(one[key], two[key])]
