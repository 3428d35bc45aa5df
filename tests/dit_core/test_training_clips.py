"""Training the autoencoder on a person's own folder: mixed sizes, with and without an adversary, stopped, resumed."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sora_dit.dit_core.autoencoder import AutoencoderConfig
from sora_dit.dit_core.data import Bucket, BucketRules, ClipSet, SkyClips
from sora_dit.dit_core.errors import CheckpointError, ConfigError, DataError
from sora_dit.dit_core.training.adversary import AdversarialSettings
from sora_dit.dit_core.training.autoencoder import (
    AutoencoderTraining,
    held_out_quality,
    new_autoencoder,
    train_autoencoder,
)
from sora_dit.dit_core.training.feed import ClipFeed
from sora_dit.dit_core.training.likelihood import LikelihoodSettings
from sora_dit.dit_core.training.loop import LoopSettings
from sora_dit.dit_core.training.sky_data import SkySource

CPU = torch.device("cpu")
CONFIG = AutoencoderConfig(
    latent_channels=4, patch=4, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=0, decoder_blocks=0,
    temporal_downsample=(True,), spatial_downsample=(True,), linear="encoder",
)  # fmt: skip
RULES = BucketRules(pixels=32 * 32, min_frames=3, max_frames=5, spatial_factor=8, temporal_factor=2)
PLAIN = AutoencoderTraining(sizes=(999,), lr=1e-3)  # skies' sizes: of no meaning here
GAME = AdversarialSettings(start=2, warmup=2, channels=2)


def series(folder, name, frames, width, height, seed):
    """Numbered images of a smooth picture that moves."""
    (folder / name).mkdir(parents=True)
    noise = np.random.default_rng(seed).random((4, 4, 3)) * 255
    picture = Image.fromarray(noise.astype(np.uint8)).resize((width + frames, height), Image.Resampling.BICUBIC)
    for i in range(frames):
        picture.crop((i, 0, i + width, height)).save(folder / name / f"{i:03d}.png")


@pytest.fixture
def clips(tmp_path) -> ClipSet:
    """Two wide series, which give four clips, and a tall one of another length."""
    folder = tmp_path / "clips"
    for seed, (name, frames, width, height) in enumerate(
        [("a", 10, 48, 32), ("b", 10, 96, 64), ("tall", 3, 32, 48), ("tall2", 3, 32, 48)]
    ):
        series(folder, name, frames, width, height, seed)
    return ClipSet.from_folder(folder, RULES, split_cuts=False)


def train(folder, clips, steps, training=PLAIN, **loop):
    model = new_autoencoder(CONFIG, clips, training, CPU)
    settings = LoopSettings(**dict(steps=steps, batch=2, warmup=2, decay=0.0, log_every=1) | loop)
    return train_autoencoder(model, clips, folder, settings, training, CPU, held_out=clips)


@pytest.mark.parametrize("training", [
    PLAIN,
    AutoencoderTraining(likelihood=LikelihoodSettings("both"), perceptual=0.1, adversarial=GAME),
])  # fmt: skip
def test_a_folder_of_mixed_sizes_teaches_the_decoder_and_a_stop_changes_nothing(tmp_path, clips, training):
    torch.set_num_threads(1)
    model, position, done = train(tmp_path / "whole", clips, 6, training, held_out_every=3)
    train(tmp_path / "parts", clips, 3, training)
    train(tmp_path / "parts", ClipSet.from_folder(tmp_path / "clips", RULES, split_cuts=False), 6, training)
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert done and position["step"] == 6
    assert whole.keys() == parts.keys() and not [key for key in whole if not torch.equal(whole[key], parts[key])]
    assert any(key.startswith("rival.") for key in whole) == (training.adversarial is not None)
    fresh = dict(new_autoencoder(CONFIG, clips, training, CPU).named_parameters())
    still = {name for name, p in model.named_parameters() if torch.equal(p, fresh[name])}
    assert still == {name for name in fresh if name.startswith("linear.")}
    assert len(model.config.latent_mean) == 4 and len(model.config.latent_rgb) == 5
    told = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in told if "held_out" in line] == [3, 6]
    assert 5 < told[-1]["held_out_psnr"] < 60 and all("watched" not in line for line in told)
    assert held_out_quality(model, clips, CPU, clips=4).psnr > 5


def test_batches_are_of_one_size_the_same_each_time_and_smaller_where_clips_are_larger(clips):
    feed, again = ClipFeed(clips, 4, seed=1), ClipFeed(clips, 4, seed=1)
    shapes = set()
    for number in range(30):
        batch = feed.batch(number, CPU)
        assert torch.equal(batch, again.batch(number, CPU)) and batch.abs().max() <= 1
        shapes.add(tuple(batch.shape))
    small, large = sorted(shapes, key=lambda shape: shape[2])
    assert small[2] == 3
    volumes = [shape[2] * shape[3] * shape[4] for shape in (small, large)]
    assert small[0] == 4 and large[0] == max(1, 4 * volumes[0] // volumes[1])
    index = next(i for i in range(len(clips)) if clips.bucket(i).frames == 3)
    torch.testing.assert_close(feed._clip(index).float(), clips.clip(index), atol=1e-3, rtol=0)
    assert sum(len(batch) for batch in feed.some(100, CPU)) == len(clips) == 6
    assert sum(len(batch) for batch in feed.some(3, CPU)) == 3


def test_a_clip_that_cannot_be_decoded_any_more_is_passed_over(tmp_path, clips):
    shutil.rmtree(tmp_path / "clips" / "tall")
    feed = ClipFeed(clips, 2)
    for number in range(20):
        assert feed.batch(number, CPU).isfinite().all()
    assert len(feed.skipped) == 1 and "tall" in next(iter(feed.skipped.values()))
    shutil.rmtree(tmp_path / "clips" / "tall2")
    with pytest.raises(DataError, match="No clip of 3 frames of .* can be decoded"):
        for number in range(20):
            ClipFeed(clips, 2).batch(number, CPU)


def test_other_clips_sizes_that_do_not_fit_and_accumulated_games_are_refused(tmp_path, clips):
    train(tmp_path / "run", clips, 1)
    series(tmp_path / "clips", "more", 5, 48, 32, 9)
    more = ClipSet.from_folder(tmp_path / "clips", RULES, split_cuts=False)
    with pytest.raises(CheckpointError, match=r"belongs to another training\. 1 file is new: more\. Use the same"):
        train(tmp_path / "run", more, 2)
    clips.bucket = lambda index: Bucket(4, 24, 24)
    with pytest.raises(DataError, match="4 frames of 24 x 24; the autoencoder takes"):
        train(tmp_path / "other", clips, 1)
    with pytest.raises(ConfigError, match="accumulate = 2 with adversarial training"):
        train(tmp_path / "game", more, 1, AutoencoderTraining(adversarial=GAME), accumulate=2)


def test_a_set_of_skies_is_a_set_of_clips_too(tmp_path):
    skies = SkyClips(SkySource(seed=1, frames=3, height=16, width=16), 4, wordings=1)
    model, position, done = train(tmp_path, skies, 2)
    assert done and model.statistics is not None and position["samples"] == 4
