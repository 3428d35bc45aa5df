"""The refiner behind a linear codec: it starts as nothing, streams, stays causal, and learns to take the seams away."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.conditioning import Prompt, combine
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.generate import denoise_latent, model_objective
from sora_dit.dit_core.measures import TokenGrid, coherence, to_frames
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training.as_generated import AsGenerated
from sora_dit.dit_core.training.autoencoder import AutoencoderTraining, train_autoencoder, with_changes
from sora_dit.dit_core.training.loop import LoopSettings
from sora_dit.dit_core.training.sky_data import SkySource
from sora_dit.dit_core.training.starter.recipe import TEXT
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

CPU = torch.device("cpu")
SOURCE = SkySource(seed=5, frames=5, height=32, width=32)
REFINED = AutoencoderConfig(latent_channels=4, linear="alone", lookahead=1, refiner=8)
SMALL_TEXT = TEXT | {
    "config": {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2,
               "dropout_rate": 0.0}
}  # fmt: skip


def shaken(config: AutoencoderConfig = REFINED) -> CausalVideoAutoencoder:
    """A codec whose refiner does something."""
    torch.manual_seed(3)
    model = CausalVideoAutoencoder(config).eval()
    torch.nn.init.normal_(model.linear.refiner.exit.weight, std=0.1)
    return model


def transformer() -> VideoDiT:
    config = TransformerConfig(
        in_channels=4, width=24, depth=1, heads=2, ff_width=32, text_width=16, patch=(1, 1, 1), text="both",
        latent_mean=(0.0,) * 4, latent_std=(1.0,) * 4,
    )  # fmt: skip
    torch.manual_seed(7)
    return VideoDiT(config)


@torch.no_grad()
def test_a_new_refiner_changes_nothing():
    torch.manual_seed(0)
    plain = CausalVideoAutoencoder(dataclasses.replace(REFINED, refiner=0))
    plain.linear.fit(lambda: [SOURCE.clips(0, 4, CPU)])
    refined = with_changes(plain, {"refiner": 8}, seed=1)
    latent = torch.randn(2, 4, 3, 4, 4)
    assert refined.config.refiner == 8 and refined.decoding is not None and plain.decoding is None
    torch.testing.assert_close(refined.decode(latent), plain.decode(latent))


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_chunks_equal_the_whole_clip(chunk):
    model, latent = shaken(), torch.randn(1, 4, 5, 2, 3)
    whole, plain = model.decode(latent), copy.deepcopy(model)
    plain.linear.refiner = None
    assert (whole - plain.decode(latent)).abs().max() > 0.01  # else this test shows nothing
    torch.testing.assert_close(model.decode(latent, chunk), whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_later_latent_changes_no_earlier_frame_beyond_the_lookahead():
    model, latent = shaken(), torch.randn(1, 4, 5, 2, 3)
    other = latent.clone()
    other[:, :, 4] += 1
    before, after = model.decode(latent), model.decode(other)
    # latent 4 is frames 13 to 16; with a lookahead of one, those of latent 3 see it too
    torch.testing.assert_close(after[:, :, :9], before[:, :, :9], atol=0, rtol=0)
    assert (after[:, :, 9:13] != before[:, :, 9:13]).any()


def test_a_refiner_needs_a_codec_that_stands_alone():
    with pytest.raises(ConfigError, match='refiner = 8; allowed is 0 unless linear is "alone"'):
        AutoencoderConfig(refiner=8)
    with pytest.raises(ConfigError, match="refiner = -1; allowed is a whole number of at least 0"):
        dataclasses.replace(REFINED, refiner=-1)


def test_only_the_refiner_learns_and_it_takes_the_seams_away(tmp_path):
    """Each latent with an error of its own, which is what gives the boxes of a generated clip away."""
    torch.manual_seed(0)
    model = CausalVideoAutoencoder(dataclasses.replace(REFINED, latent_channels=16, linear_sides=1))
    model.linear.fit(lambda: [SOURCE.clips(0, 24, CPU)])
    before, grid = copy.deepcopy(model), TokenGrid.of(model.config)

    class Noisy:
        def __call__(self, latent, generator):
            return latent + 0.3 * torch.randn(latent.shape, generator=generator)

        def identity(self):
            return {"noise": 0.3}

    training = AutoencoderTraining("adamw", lr=5e-3, sizes=(32,), ema=0.9, squared=4.0, seams=2.0)
    loop = LoopSettings(steps=40, batch=4, warmup=5)
    model, position, done = train_autoencoder(model, SOURCE, tmp_path, loop, training, CPU, as_generated=Noisy())

    assert done and position["step"] == 40
    moved = {n for n, w in model.state_dict().items() if not torch.equal(w, before.state_dict()[n])}
    assert moved == {n for n in model.state_dict() if n.startswith("linear.refiner.")}

    video = SOURCE.clips(900, 8, CPU)
    with torch.no_grad():
        noisy = Noisy()(model.encode(video).mean, torch.Generator().manual_seed(1))
        seams = [coherence(to_frames(one.decode(noisy)), grid) for one in (before, model)]
        errors = [(one.decode(noisy) - video).square().mean() for one in (before, model)]
    for side in ("rows", "columns"):
        assert seams[1][side] - 1 < 0.75 * (seams[0][side] - 1)
    assert errors[1] < errors[0]


def test_as_generated_is_the_clip_noised_and_denoised_again():
    """The same as video to video by hand, at a level that the generator draws, and nearer for a lower one."""
    model, text = transformer(), TextEncoder.from_config(SMALL_TEXT)
    latent = torch.randn(2, 4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    spoil = AsGenerated(model, text, most=0.6, steps=3)
    got = spoil(latent, torch.Generator().manual_seed(4))

    generator = torch.Generator().manual_seed(4)
    level, seed = 0.6 * torch.rand((), generator=generator), int(torch.randint(2**31, (), generator=generator))
    empty = text.encode([""])
    sigmas = torch.tensor([1.0, 2 / 3, 1 / 3, 0.0]) * level
    conditioning = combine(
        model, model_objective(model.config), sigmas, Prompt(empty.embeddings, empty.mask, empty.pooled)
    )
    torch.testing.assert_close(got, denoise_latent(model, conditioning, latent, seed=seed), atol=1e-5, rtol=1e-5)
    little = AsGenerated(model, text, most=0.05, steps=3)(latent, torch.Generator().manual_seed(4))
    assert (little - latent).square().mean() < 0.1 * (got - latent).square().mean()
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("settings", [{"most": 0.0}, {"most": 1.0}, {"steps": 0}])
def test_as_generated_refuses_what_makes_no_sense(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=f"As generated: got {name} = "):
        AsGenerated(transformer(), TextEncoder.from_config(SMALL_TEXT), **settings)
