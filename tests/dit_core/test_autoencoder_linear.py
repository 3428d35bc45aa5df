"""The linear codec beside the convolutions, or in place of the encoder."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.autoencoder.linear import LinearCodec
from sora_dit.dit_core.errors import ConfigError

LINEAR = AutoencoderConfig(
    latent_channels=4,
    encoder_channels=(4, 6, 8),
    decoder_channels=(6, 4, 8),
    encoder_blocks=1,
    decoder_blocks=1,
    linear="both",
)


def clip(frames: int, height: int = 16, width: int = 24, seed: int = 1) -> torch.Tensor:
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def boxes_by_hand(video: torch.Tensor) -> list[torch.Tensor]:
    """The 4 x 8 x 8 boxes of a clip `[1, 3, F, 16, 24]`, first frame standing for four, one by one."""
    padded = torch.cat([video[:, :, :1]] * 3 + [video], 2)[0]
    places = [(t, h, w) for t in range(padded.shape[1] // 4) for h in range(2) for w in range(3)]
    return [padded[:, 4 * t : 4 * t + 4, 8 * h : 8 * h + 8, 8 * w : 8 * w + 8].flatten() for t, h, w in places]


@torch.no_grad()
def test_encoding_projects_each_box_by_itself():
    torch.manual_seed(0)
    linear, video = LinearCodec(3, 4, 4, 8), clip(9)
    latent = linear.encode(video)
    assert latent.shape == (1, 4, 3, 2, 3)
    want = torch.stack([linear.down(box) for box in boxes_by_hand(video)], 1).view(4, 3, 2, 3)
    torch.testing.assert_close(latent[0], want)


@torch.no_grad()
def test_decoding_puts_each_box_in_its_place_and_looks_at_neighbours_of_now_and_before():
    torch.manual_seed(0)
    linear, latent = LinearCodec(3, 4, 4, 8), torch.randn(1, 4, 3, 2, 3)
    video = linear.decode(latent)
    assert video.shape == (1, 3, 9, 16, 24)
    past = torch.cat([latent[:, :, :1], latent], 2)
    padded = torch.nn.functional.pad(past, (1, 1, 1, 1))[0]
    weight, bias = linear.up.weight, linear.up.bias
    places = [(t, h, w) for t in range(3) for h in range(2) for w in range(3)]
    want = [
        torch.einsum("nctij,ctij->n", weight, padded[:, t : t + 2, h : h + 3, w : w + 3]) + bias for t, h, w in places
    ]
    got = torch.stack(boxes_by_hand(video))
    torch.testing.assert_close(got[6:], torch.stack(want)[6:], atol=1e-5, rtol=1e-5)
    # the first latent frame keeps only the last of its four frames
    torch.testing.assert_close(video[0, :, 0, :8, :8], want[0].view(3, 4, 8, 8)[:, -1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_fit_is_exact_where_that_is_possible():
    torch.manual_seed(0)
    linear = LinearCodec(3, 4, 4, 8)
    basis, offset = torch.randn(4, 3), torch.randn(3)  # flat boxes: three directions of colour
    clips = []
    for seed in range(40):
        numbers = torch.randn(1, 4, 3, 2, 3, generator=torch.Generator().manual_seed(seed)) * 0.3
        colour = torch.einsum("bkthw,kc->bcthw", numbers, basis) + offset.view(1, 3, 1, 1, 1)
        video = colour.repeat_interleave(4, 2).repeat_interleave(8, 3).repeat_interleave(8, 4)
        clips.append(video[:, :, 3:])
    linear.fit(lambda: clips)
    for video in clips:
        torch.testing.assert_close(linear.decode(linear.encode(video)), video, atol=2e-2, rtol=0)
    latents = torch.cat([linear.encode(video).movedim(1, -1).flatten(0, 3) for video in clips])
    torch.testing.assert_close(latents[:, :3].mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents[:, :3].var(0, unbiased=False), torch.ones(3), atol=1e-2, rtol=0)


@torch.no_grad()
def test_the_fitted_decoder_is_the_least_squares_one():
    linear = LinearCodec(3, 4, 4, 8)
    clips = [clip(9, seed=seed).cumsum(-1) * 0.1 for seed in range(60)]  # smooth: neighbours tell something
    linear.fit(lambda: clips)

    def error() -> float:
        return sum((linear.decode(linear.encode(v)) - v)[:, :, 1:].square().mean().item() for v in clips)

    best = error()
    for parameter in (linear.up.weight, linear.up.bias):
        for sign in (1, -1):
            change = sign * 1e-3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
            parameter.add_(change)
            assert error() > best
            parameter.sub_(change)


@torch.no_grad()
def test_a_decoder_that_sees_more_neighbours_fits_better_and_leaves_the_latents_alone():
    narrow, wide = (LinearCodec(3, 4, 4, 8, sides=sides) for sides in (3, 5))
    # larger than the others': with as many places as weights even noise could be fitted
    clips = [clip(9, 64, 64, seed=seed).cumsum(-1).cumsum(-2) * 0.02 for seed in range(24)]
    narrow.fit(lambda: clips)
    wide.down.load_state_dict(narrow.down.state_dict())
    wide.fit_decoder(clips)
    assert wide.up.weight.shape[-2:] == (5, 5)
    torch.testing.assert_close(wide.encode(clips[0]), narrow.encode(clips[0]))
    errors = [sum((c.decode(c.encode(v)) - v).square().mean().item() for v in clips) for c in (narrow, wide)]
    assert errors[1] < 0.99 * errors[0]


def test_sides_are_odd():
    with pytest.raises(ConfigError, match="linear_sides = 4; allowed is an odd whole number"):
        AutoencoderConfig(linear="alone", linear_sides=4)


@torch.no_grad()
def test_a_fresh_model_with_linear_path_is_that_linear_codec():
    torch.manual_seed(0)
    model, video = CausalVideoAutoencoder(LINEAR), clip(9)
    latent = model.encode(video).mean
    torch.testing.assert_close(latent, model.linear.encode(video))
    torch.testing.assert_close(model.decode(latent), model.linear.decode(latent))
    assert CausalVideoAutoencoder(AutoencoderConfig()).linear is None


@torch.no_grad()
def test_whitening_sets_the_scale_of_the_latents_and_changes_nothing_else():
    video = torch.cat([clip(9, seed=seed) * 0.3 ** (seed % 3) for seed in range(40)])
    results = {}
    for whitening in (0.0, 0.5, 1.0):
        linear = LinearCodec(3, 4, 4, 8, alone=True)
        linear.fit(lambda: [video], whitening)
        posterior = linear.posterior(video)
        variance = posterior.mean.movedim(1, -1).flatten(0, 3).var(0, unbiased=False)
        results[whitening] = (variance, linear.decode(posterior.mean), posterior.logvar[0, :, 0, 0, 0].exp() / variance)
    torch.testing.assert_close(results[1.0][0], torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(results[0.5][0], results[0.0][0].sqrt(), rtol=1e-3, atol=0)
    for one, other in ((0.0, 0.5), (0.5, 1.0)):
        torch.testing.assert_close(results[one][1], results[other][1], atol=1e-2, rtol=0)
        torch.testing.assert_close(results[one][2], results[other][2], rtol=1e-3, atol=0)


@torch.no_grad()
def test_the_posterior_of_a_linear_encoder_is_as_wide_as_what_it_leaves_out():
    # Probabilistic PCA: the noise is the mean of the discarded eigenvalues; a unit latent has it by its own eigenvalue.
    video = torch.cat([clip(9, seed=seed) for seed in range(8)])
    linear = LinearCodec(3, 4, 4, 8, alone=True)
    linear.fit(lambda: [video])
    values = torch.linalg.eigvalsh(torch.cov(linear.boxes(video).flatten(0, 3).T, correction=0)).flip(0)
    want = values[4:].mean() / values[:4]
    torch.testing.assert_close(linear.logvar.exp(), want.clamp(1e-6, 1), rtol=1e-2, atol=1e-5)


AHEAD = AutoencoderConfig(
    latent_channels=4, encoder_channels=(4, 6, 8), decoder_channels=(6, 4, 8), linear="alone", lookahead=1
)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 5, 9, 17])
@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_with_lookahead_chunks_still_equal_the_whole_clip(frames, chunk):
    torch.manual_seed(0)
    model, video = CausalVideoAutoencoder(AHEAD), clip(frames)
    latent = model.encode(video).mean
    whole = model.decode(latent)
    assert whole.shape == video.shape
    pieces = list(model.decode_chunks(latent, chunk))
    assert all(piece.shape[2] > 0 for piece in pieces)
    torch.testing.assert_close(torch.cat(pieces, 2), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_lookahead_sees_one_latent_further_and_encoding_stays_causal():
    torch.manual_seed(0)
    model, latent = CausalVideoAutoencoder(AHEAD), torch.randn(1, 4, 4, 2, 3)
    changed = latent.clone()
    changed[:, :, 3] += 1
    differs = (model.decode(latent) - model.decode(changed)).abs().amax(dim=(0, 1, 3, 4)) > 1e-6
    assert differs.tolist() == [False] * 5 + [True] * 8  # latents 2 and 3, not 0 and 1
    video, other = clip(13), clip(13)
    other[:, :, 9:] += 0.5
    same = (model.encode(video).mean == model.encode(other).mean).all(dim=1).flatten(2).all(-1)
    assert same.tolist() == [[True, True, True, False]]


def test_lookahead_joins_boxes_in_time_better():
    # a brightness ramp at a speed of its own in each clip: from both sides the jump at a border is predicted better
    torch.manual_seed(0)
    starts, slopes = torch.rand(64, 2), torch.randn(64, 2) * 0.05
    time = torch.arange(13.0)
    level = starts[:, :1] + slopes[:, :1] * time + slopes[:, 1:] * torch.sin(time / 2)
    video = (level[:, None, :, None, None] + 0.02 * torch.randn(64, 1, 13, 1, 1)).expand(-1, 3, -1, 8, 8)
    error = []
    for ahead in (0, 1):
        linear = LinearCodec(3, 1, 4, 8, alone=True, lookahead=ahead)
        linear.fit(lambda: [video])
        with torch.no_grad():
            got = linear.decode(linear.encode(video))
        borders = (got - video).diff(dim=2)[:, :, 0::4]
        error.append(borders.square().mean().item())
    assert error[1] < 0.8 * error[0]


def test_lookahead_needs_a_codec_that_stands_alone():
    with pytest.raises(ConfigError, match="lookahead = 1; allowed is 0 unless linear"):
        dataclasses.replace(AHEAD, linear="both")
