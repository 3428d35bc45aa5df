"""Twins: two skies that differ in one word, and a training that noises them alike."""

import dataclasses
import re
from collections import Counter

import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.data import SkyClips
from sora_dit.dit_core.latents import cache_latents
from sora_dit.dit_core.skies import EDITION, EQUALLY, HELD_OUT, attributes
from sora_dit.dit_core.skies.scene import DRIFT
from sora_dit.dit_core.skies.words import VERB
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training.sky_data import LatentCache, SkySource
from sora_dit.dit_core.training.transformer import TransformerTraining, denoising_step
from sora_dit.dit_core.transformer import TransformerConfig
from torch import nn

SOURCE = SkySource(seed=5, flying=EQUALLY, twins=True, frames=5, height=32, width=32, fps=4.0)
TEXT = {
    "family": "t5",
    "tokenizer": "byt5",
    "max_length": 48,
    "config": {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
}
AUTOENCODER = AutoencoderConfig(
    latent_channels=4, encoder_channels=(4, 4, 4), decoder_channels=(4, 4, 4), encoder_blocks=0, decoder_blocks=0,
    latent_mean=(0.0,) * 4, latent_std=(1.0,) * 4,
)  # fmt: skip
FOLLOWS = {"object": {"object", "object_color", "object_direction"}}  # a balloon that is gone has no colour


def pairs(count: int = 1500):
    return [(SOURCE.scene(2 * k), SOURCE.scene(2 * k + 1)) for k in range(count)]


def test_twins_differ_in_one_attribute_and_each_one_of_use_comes():
    seen = Counter()
    for first, second in pairs():
        a, b = attributes(first), attributes(second)
        different = {name for name in a if a[name] != b[name]}
        if "object" in different:
            assert different <= FOLLOWS["object"]
            seen["object"] += 1
        else:
            assert len(different) == 1
            seen.update(different)
    assert set(seen) == {"light", "object_direction", "cover", "object", "direction", "object_color", "speed"}
    assert min(seen.values()) > 20
    lights = {frozenset((a.light, b.light)) for a, b in pairs() if a.light != b.light}
    assert len(lights) == 6, "each for each, and none of them is a light as well"


def test_a_twin_is_a_scene_that_could_have_been_drawn():
    for _, second in pairs():
        assert (second.time, second.cover, second.ground) not in HELD_OUT
        assert second.cover != "overcast" or second.light == "none"
        assert not second.rain or second.cover in ("broken", "overcast")
        assert (second.object == "none") == (second.object_direction == "none")
        assert (second.object == "balloon") == (second.object_color != "none")
        assert second.object == "none" or (second.object_vx > 0) == (second.object_direction == "right")
        assert (second.drift > 0) == (second.direction == "right")
        assert 0.88 <= abs(second.drift) / DRIFT[second.speed] <= 1.12
        near = {"left": 0.2, "center": 0.5, "right": 0.8, "none": 0.5}[second.light]
        assert abs(second.light_x - near) < 0.07


def test_twins_of_held_out_skies_are_held_out():
    source = dataclasses.replace(SOURCE, split="heldout")
    scenes = [(source.scene(2 * k), source.scene(2 * k + 1)) for k in range(800)]
    assert all((second.time, second.cover, second.ground) in HELD_OUT for _, second in scenes)
    assert any(first.light != second.light for first, second in scenes)


def test_twins_have_the_same_clouds_and_the_changed_word_is_seen():
    number = next(k for k, (a, b) in enumerate(pairs(200)) if a.object != b.object == "none")
    first, second = SOURCE.clips(2 * number, 2, "cpu")
    other = SOURCE.clips(2 * number + 2, 1, "cpu")[0]
    difference = (first - second).abs().amax(0)  # [F, H, W]
    assert difference.amax() > 0.1, "an object has gone"
    assert (difference < 1e-3).float().mean() > 0.7, "and the rest has not"
    assert ((first - other).abs().amax(0) < 1e-3).float().mean() < 0.3


def test_captions_of_twins_are_alike_and_name_what_differs():
    """A pair that leaves out what it differs in shows two pictures for one text."""
    told = Counter()
    for number, (a, b) in enumerate(pairs(400)):
        differ = {name for name, value in attributes(a).items() if attributes(b)[name] != value}
        first, second = (SOURCE.captions(2 * number + k, 4) for k in (0, 1))
        assert all(one != other for one, other in zip(first, second, strict=True)), (first, second)
        words = [(set(x.lower().split()), set(y.lower().split())) for x, y in zip(first, second, strict=True)]
        alike = sum(len(x & y) / max(len(x), len(y)) for x, y in words) / len(words)
        told.update({name: alike for name in differ if "object" not in differ})
    pairs_of = Counter(name for a, b in pairs(400) if a.object == b.object
                       for name, value in attributes(a).items() if attributes(b)[name] != value)  # fmt: skip
    means = {name: total / pairs_of[name] for name, total in told.items()}
    assert min(means[name] for name in ("speed", "direction", "object_direction", "object_color")) > 0.7, means


def test_captions_of_twins_say_the_speed_that_each_has():
    slow, fast = ({w for v in VERB[name] for w in v.split()} for name in ("slow", "fast"))
    number = next(k for k, (a, b) in enumerate(pairs()) if (a.speed, b.speed) == ("slow", "fast"))
    for first, second in zip(*(SOURCE.captions(2 * number + k, 4) for k in (0, 1)), strict=True):
        assert set(re.findall(r"[a-z]+", first.lower())) & (slow - fast)
        assert set(re.findall(r"[a-z]+", second.lower())) & (fast - slow)


def test_the_same_source_gives_the_same_twins():
    assert [SOURCE.scene(k) for k in range(40)] == [dataclasses.replace(SOURCE).scene(k) for k in range(40)]


def test_twins_are_of_skies_in_which_flies_what_is_asked_for():
    source = dataclasses.replace(SOURCE, flying=(0.0, 0.0, 1.0, 0.0))
    assert {source.scene(2 * k).object for k in range(40)} == {"birds"}
    assert source.settings() == SOURCE.settings() | {"flying": [0.0, 0.0, 1.0, 0.0]}
    assert "flying" not in SkySource(seed=5).settings(), "what changes nothing does not tell data apart"


def test_a_source_without_twins_is_told_apart_as_it_was_before_there_were_any():
    plain = dataclasses.replace(SOURCE, twins=False)
    assert "twins" not in plain.settings() and SOURCE.settings()["twins"] is True
    assert plain.settings() == {
        "seed": 5, "frames": 5, "height": 32, "width": 32, "fps": 4.0, "split": "train",
        "flying": [1.0, 1.0, 1.0, 1.0], "edition": EDITION,
    }  # fmt: skip


def cache(twins: bool, clips: int = 12) -> LatentCache:
    numbers = torch.arange(clips, dtype=torch.float16)[:, None, None, None, None]
    tokens = torch.full((clips, 3, 8), 5, dtype=torch.int16) + torch.arange(3, dtype=torch.int16)[:, None]
    return LatentCache(numbers.expand(-1, 4, 3, 4, 4).contiguous(), tokens, {"form": {"twins": True}} if twins else {})


def test_twins_are_drawn_together_with_the_same_wording(tmp_path):
    cache(True).save(tmp_path / "twins.safetensors")
    kept = LatentCache.load(tmp_path / "twins.safetensors", "cpu")
    for k in range(20):
        latents, tokens, group = kept.draw(6, torch.Generator().manual_seed(k))
        number = latents[:, 0, 0, 0, 0]
        assert group == 2 and len(latents) == len(tokens) == 6
        assert (number[::2] % 2 == 0).all() and (number[1::2] == number[::2] + 1).all()
        assert torch.equal(tokens[::2], tokens[1::2])
    latents, tokens, _ = kept.draw(5, torch.Generator().manual_seed(0))
    assert len(latents) == len(tokens) == 5
    alone = {int(kept.draw(1, torch.Generator().manual_seed(k)).latents[0, 0, 0, 0, 0]) for k in range(200)}
    assert alone == set(range(12)), "a batch of one sees both twins"


def test_cached_twins_are_drawn_together_and_held_out_together(tmp_path):
    torch.manual_seed(0)
    autoencoder = CausalVideoAutoencoder(AUTOENCODER).eval()
    store = cache_latents(SkyClips(SOURCE, 13), autoencoder, TextEncoder.from_config(TEXT), tmp_path)
    single = {tensor_key(store.draw(1, torch.Generator().manual_seed(k)).latents[0]) for k in range(200)}
    assert len(single) == 12, "alone each comes, the thirteenth excepted, which has no twin"
    latents, tokens, group = store.draw(8, torch.Generator().manual_seed(1))
    assert group == 2
    alike = (latents[::2] - latents[1::2]).flatten(1).square().mean(1)
    strangers = (latents[:-2:2] - latents[2::2]).flatten(1).square().mean(1)
    assert alike.max() < strangers.min()
    whole = cache_latents(SkyClips(SOURCE, 12), autoencoder, TextEncoder.from_config(TEXT), tmp_path / "whole")
    train, held_out = whole.split(0.25)  # three clips, were they not kept together
    assert len(held_out) in (2, 4) and len(train) + len(held_out) == 12
    for view in (train, held_out):
        drawn = view.draw(8, torch.Generator().manual_seed(2))
        assert drawn.group == 2 and (drawn.latents[::2] - drawn.latents[1::2]).abs().mean() < 0.5
    plain = cache_latents(SkyClips(dataclasses.replace(SOURCE, twins=False), 4), autoencoder,
                          TextEncoder.from_config(TEXT), tmp_path / "plain")  # fmt: skip
    assert plain.draw(3, torch.Generator()).group == 1 and "twins" not in str(plain.fingerprint())


def tensor_key(latent):
    return tuple(latent.flatten().tolist())


class Watched(nn.Module):
    """In a transformer's place: keeps what it is given."""

    def __init__(self, config):
        super().__init__()
        self.config, self.scale, self.seen = config, nn.Parameter(torch.ones(())), None

    def forward(self, x, timestep, *text):
        self.seen = x, timestep
        return x * self.scale


def watch_step(twins: bool, batch: int = 6):
    config = TransformerConfig(width=24, depth=1, heads=2, ff_width=32, in_channels=4, text_width=16, patch=(1, 1, 1))
    model = Watched(config)
    training = TransformerTraining(known=1.0, caption_dropout=0.0)
    step = denoising_step(model, TextEncoder.from_config(TEXT), cache(twins), batch, training, torch.device("cpu"))
    step(3)
    return model.seen


def test_twins_are_noised_alike_and_strangers_are_not():
    x, timestep = watch_step(twins=True)
    assert torch.equal(timestep[::2], timestep[1::2]) and timestep[::2].unique(dim=0).shape[0] == 3
    # the two clips are k and k + 1 everywhere: what is left of the difference is the share of the clip, noise is gone
    difference = x[1::2] - x[::2]
    share = (1 - timestep[::2] / 1000)[:, None, :, None, None]
    assert torch.allclose(difference, share.expand_as(difference), atol=1e-4)
    assert len(watch_step(twins=True, batch=5)[0]) == 5
    x, timestep = watch_step(twins=False)
    assert not torch.equal(timestep[::2], timestep[1::2])


def test_known_frames_are_shown_clean_at_timestep_zero_in_training():
    """Decision 1 of the design: a timestep for each latent frame."""
    x, timestep = watch_step(twins=True)
    known = timestep == 0
    assert known.any() and not known.all()
    whole = known[:, None, :, None, None].expand_as(x)
    assert torch.equal(x[whole], x[whole].round()), "the toy's clips are whole numbers, noise is not"
    assert (x[~whole] != x[~whole].round()).float().mean() > 0.99
