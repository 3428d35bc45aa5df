"""What a cache and a feed of clips let go, and when: time, files open at once, memory, what a killed process left."""

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.data import Bucket, Fingerprint, TrainingClips
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.latents import cache, cache_latents, store
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training import feed

AUTOENCODER = AutoencoderConfig(
    latent_channels=2, patch=4, encoder_channels=(4, 4), decoder_channels=(4, 4), encoder_blocks=0, decoder_blocks=0,
    temporal_downsample=(True,), spatial_downsample=(True,), latent_mean=(0.0, 0.0), latent_std=(1.0, 1.0),
)  # fmt: skip
TEXT = {
    "family": "t5", "tokenizer": "byt5", "max_length": 24,
    "config": {"vocab_size": 259, "d_model": 8, "d_kv": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1},
}  # fmt: skip
BUCKET = Bucket(3, 16, 16)
CLIP_BYTES = 3 * 3 * 16 * 16 * 2  # held in half precision


class Clips(TrainingClips):
    """Eight clips of one bucket, with three captions each; it remembers which were decoded."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 8

    def bucket(self, index):
        return BUCKET

    def captions(self, index):
        return tuple(f"clip {index} {k}" for k in range(3))

    def clip(self, index):
        self.asked.append(index)
        return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(index)) * 2 - 1

    def fingerprint(self):
        return Fingerprint("clips", {}, {})


def make(path, **options):
    torch.manual_seed(0)
    autoencoder, text = CausalVideoAutoencoder(AUTOENCODER).eval(), TextEncoder.from_config(TEXT)
    return cache_latents(Clips(), autoencoder, text, path, **options)


def shards(path):
    return sorted(file.name for file in path.glob("shard_*.safetensors"))


@pytest.fixture(autouse=True)
def two_at_a_time(monkeypatch):
    monkeypatch.setattr(cache, "PIXELS", 2 * 3 * 16 * 16)


def test_a_shard_is_written_when_its_time_is_over_however_small_it_is(tmp_path, monkeypatch):
    make(tmp_path / "at once")
    assert len(shards(tmp_path / "at once")) == 1, "eight small clips fill no shard"
    monkeypatch.setattr(cache, "SHARD_SECONDS", -1.0)
    make(tmp_path / "in time")
    assert len(shards(tmp_path / "in time")) == 4, "two clips are encoded at a time"


def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path):
    left = tmp_path / ".shard_00000.safetensors.1234.part"
    left.write_bytes(b"half")
    make(tmp_path)
    assert not left.exists() and shards(tmp_path) == ["shard_00000.safetensors"]


@pytest.mark.parametrize("wrong", [{"wordings": 0}, {"shard_bytes": 0}])
def test_sizes_that_are_none_are_refused_before_the_folder_is_touched(tmp_path, wrong):
    with pytest.raises(ConfigError, match="expected at least 1 of both"):
        make(tmp_path / "cache", **wrong)
    assert not (tmp_path / "cache").exists()


def test_only_so_many_wordings_are_kept_the_first_ones(tmp_path):
    kept = make(tmp_path, wordings=2)
    texts = {bytes((row[row > 2] - 3).tolist()).decode()
             for k in range(60) for row in kept.draw(4, torch.Generator().manual_seed(k)).tokens}  # fmt: skip
    assert {text.split()[-1] for text in texts} == {"0", "1"} and len(texts) == 16


def test_few_files_are_mapped_at_a_time_and_what_is_read_stays_the_same(tmp_path, monkeypatch):
    all_open = make(tmp_path, shard_bytes=1)
    assert len(shards(tmp_path)) == 4
    drawn = [all_open.draw(8, torch.Generator().manual_seed(k)) for k in range(6)]
    monkeypatch.setattr(store, "MAPPED", 2)
    few = store.LatentStore.open(tmp_path, "cpu")
    again = [few.draw(8, torch.Generator().manual_seed(k)) for k in range(6)]
    assert all(torch.equal(a.latents, b.latents) and torch.equal(a.tokens, b.tokens)
               for a, b in zip(drawn, again, strict=True))  # fmt: skip
    assert len(few._shards._open) == 2 and len(all_open._shards._open) == 4


def test_decoded_clips_stay_in_memory_up_to_a_limit_and_the_last_used_stay_longest(monkeypatch):
    clips = Clips()
    held = feed.ClipFeed(clips, 4)
    for index in (0, 1, 2, 0, 1, 2):
        held._clip(index)
    assert clips.asked == [0, 1, 2], "decoded once"
    monkeypatch.setattr(feed, "HELD_BYTES", 2 * CLIP_BYTES)
    clips = Clips()
    held = feed.ClipFeed(clips, 4)
    for index in (0, 1, 0, 2, 0, 1):  # 2 comes for 1, which was used longest ago
        held._clip(index)
    assert clips.asked == [0, 1, 2, 1]
    monkeypatch.setattr(feed, "HELD_BYTES", 1)
    assert held._clip(5).shape == (3, 3, 16, 16), "one clip that is larger than the limit is held all the same"
