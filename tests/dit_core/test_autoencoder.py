"""The causal video autoencoder: shapes, causality, chunks equal to the whole clip, and its sentences for bad sizes."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from autoencoders import BOTH, LINEAR, TINY, build, clip, tiny
from sora_dit.dit_core.autoencoder import (
    AutoencoderConfig,
    CausalVideoAutoencoder,
    LatentStatistics,
    Posterior,
    layers,
)
from sora_dit.dit_core.autoencoder.layers import CausalConv3d, ChannelNorm, Upsample, from_patches, to_patches
from sora_dit.dit_core.errors import ShapeError

pytestmark = pytest.mark.usefixtures("one_thread")


# --- layers against independent references ---


@pytest.mark.parametrize("kernel, stride", [((3, 3, 3), (1, 1, 1)), ((3, 4, 4), (2, 2, 2)), ((3, 1, 1), (1, 1, 1))])
def test_causal_conv_is_the_sum_written_out_by_hand(kernel, stride):
    torch.manual_seed(0)
    conv, x = CausalConv3d(2, 3, kernel, stride), torch.randn(1, 2, 5, 4, 6)
    pad_h, pad_w = (kernel[1] - 1) // 2, (kernel[2] - 1) // 2
    got = conv(x)
    for o, i in [(o, i) for o in range(3) for i in range(got.shape[2])]:
        for h, w in [(h, w) for h in range(got.shape[3]) for w in range(got.shape[4])]:
            want = conv.bias[o].item()
            for dt in range(kernel[0]):
                frame = max(stride[0] * i - (kernel[0] - 1) + dt, 0)  # before the clip: its first frame
                for dh, dw in [(dh, dw) for dh in range(kernel[1]) for dw in range(kernel[2])]:
                    row, col = stride[1] * h - pad_h + dh, stride[2] * w - pad_w + dw
                    if 0 <= row < 4 and 0 <= col < 6:
                        want += (conv.weight[o, :, dt, dh, dw] * x[0, :, frame, row, col]).sum().item()
            assert got[0, o, i, h, w].item() == pytest.approx(want, abs=1e-4)


def test_causal_conv_equals_conv3d_on_a_clip_padded_by_hand():
    torch.manual_seed(0)
    conv, x = CausalConv3d(3, 4, (3, 3, 3), (2, 1, 1)), torch.randn(2, 3, 9, 5, 5)
    padded = torch.cat([x[:, :, :1], x[:, :, :1], x], 2)
    want = F.conv3d(F.pad(padded, (1, 1, 1, 1, 0, 0)), conv.weight, conv.bias, stride=(2, 1, 1))
    torch.testing.assert_close(conv(x), want)


@pytest.mark.parametrize("kernel, stride", [((3, 3, 3), (1, 1, 1)), ((3, 4, 4), (2, 2, 2)), ((1, 3, 3), (1, 1, 1))])
def test_small_clips_take_the_faster_way_with_the_same_result(kernel, stride, monkeypatch):
    torch.manual_seed(0)
    conv, x = CausalConv3d(3, 4, kernel, stride), torch.randn(1, 3, 5, 6, 8, requires_grad=True)
    results = []
    for limit in (0, 10**9):
        monkeypatch.setattr(layers, "SLOW_ON_CPU", limit)
        out = conv(x)
        results.append((out, *torch.autograd.grad(out.square().sum(), [x, conv.weight, conv.bias])))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_norm_of_a_position_ignores_all_other_positions():
    norm, x = ChannelNorm(4), torch.randn(1, 4, 3, 2, 2)
    want = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), want)
    torch.testing.assert_close(norm(x)[:, :, 1:2, 1:, :1], norm(x[:, :, 1:2, 1:, :1]))


def test_norm_of_large_half_precision_values():
    norm = ChannelNorm(4).half()
    torch.testing.assert_close(norm(torch.full((1, 4, 1, 1, 1), 300.0).half()), torch.ones(1, 4, 1, 1, 1).half())


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_upsample_makes_two_frames_of_each_but_the_first(frames):
    up = Upsample(4, 6, time=True, space=True)
    assert up(torch.randn(1, 4, frames, 3, 5)).shape == (1, 6, 2 * frames - 1, 6, 10)
    still = up(torch.randn(1, 4, 1, 3, 5).expand(-1, -1, frames, -1, -1))
    torch.testing.assert_close(still, still[:, :, :1].expand_as(still))  # fresh weights: a still stays still


def test_patches_gather_neighbouring_pixels_and_come_back():
    x = torch.randn(2, 3, 2, 4, 6)
    patches = to_patches(x, 2)
    assert patches.shape == (2, 12, 2, 2, 3)
    assert torch.equal(patches[:, 3:6, :, 1, 2], x[:, :, :, 2, 5])  # second copy: row 0, column 1 of the patch
    assert torch.equal(from_patches(patches, 2), x)


# --- shapes ---


@pytest.mark.parametrize("temporal", [1, 2, 4, 8])
@pytest.mark.parametrize("spatial", [4, 8, 16])
@torch.no_grad()
def test_every_factor_gives_its_shapes_and_streams(temporal, spatial):
    config = tiny(temporal, spatial)
    assert (config.temporal_factor, config.spatial_factor) == (temporal, spatial)
    model, frames = build(config), 2 * temporal + 1
    video = clip(frames, 16, 32, batch=2)
    latent = model.encode(video).mean
    assert latent.shape == (2, 3, 3, 16 // spatial, 32 // spatial)
    assert (config.latent_frames(frames), config.video_frames(3)) == (3, frames)
    decoded = model.decode(latent)
    assert decoded.shape == video.shape
    torch.testing.assert_close(model.encode(video, chunk_frames=3).mean, latent, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.decode(latent, chunk_latents=1), decoded, atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_resolution_and_grey_video_work():
    config = AutoencoderConfig(
        in_channels=1, encoder_channels=(4,), decoder_channels=(5,), temporal_downsample=(), spatial_downsample=()
    )
    model, video = build(config), torch.rand(1, 1, 3, 2, 6)
    assert model.decode(model.encode(video).mean).shape == video.shape


@torch.no_grad()
def test_an_image_is_a_clip_of_one_frame():
    model, video = build(), clip(9)
    image = video[:, :, :1]
    latent = model.encode(image)
    assert latent.mean.shape == (1, 4, 1, 2, 3)
    assert model.decode(latent.mean).shape == image.shape
    torch.testing.assert_close(latent.mean, model.encode(video).mean[:, :, :1])


def test_starter_config_has_4_to_7_million_parameters():
    with torch.device("meta"):
        model = CausalVideoAutoencoder()
    assert 4e6 < sum(p.numel() for p in model.parameters()) < 7e6


# --- training ---


@BOTH
def test_gradient_reaches_every_parameter(config):
    # build(), because the linear path's model starts with its last convolutions at zero.
    model, video = build(config), clip(9)
    reconstruction, posterior = model(video, torch.Generator().manual_seed(0))
    (F.mse_loss(reconstruction, video) + 1e-3 * posterior.kl()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def test_it_learns_a_clip_by_heart():
    torch.manual_seed(0)
    model = CausalVideoAutoencoder(TINY)
    ramp = torch.linspace(-1, 1, 24).expand(1, 3, 5, 16, 24) * torch.linspace(0.2, 1, 5).view(1, 1, 5, 1, 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = F.mse_loss(model.decode(model.encode(ramp).mean), ramp)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_a_fresh_decoder_draws_no_pixel_grid():
    torch.manual_seed(0)
    video = CausalVideoAutoencoder(TINY).decode(torch.randn(1, 4, 1, 4, 4))
    assert torch.equal(video[..., ::2, :], video[..., 1::2, :]) and torch.equal(video[..., ::2], video[..., 1::2])


def test_state_dict_round_trip_through_the_meta_device():
    model, video = build(), clip(5)
    with torch.device("meta"):
        other = CausalVideoAutoencoder(AutoencoderConfig.from_dict(model.config.to_dict()))
    other.load_state_dict(model.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(other.encode(video).mean, model.encode(video).mean)


@torch.no_grad()
def test_channels_last_changes_nothing_but_the_layout():
    model, video = build(LINEAR), clip(9, batch=2)
    want = model.encode(video).mean
    model.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(model.encode(video.contiguous(memory_format=torch.channels_last_3d)).mean, want)


def test_the_whole_clip_pass_compiles_without_a_graph_break():
    model, video = build(), clip(5)
    compiled = torch.compile(lambda x: model.decode(model.encode(x).mean), backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(video), model.decode(model.encode(video).mean))


# --- posterior and statistics ---


def test_posterior_samples_by_its_generator_and_knows_its_kl():
    mean, logvar = torch.full((1, 2, 100, 10, 10), 0.5), torch.full((1, 2, 100, 10, 10), -1.0)
    posterior = Posterior(mean, logvar)
    one, two = (posterior.sample(torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.mean().item() == pytest.approx(0.5, abs=0.02)
    assert one.var().item() == pytest.approx(torch.tensor(-1.0).exp().item(), rel=0.03)
    normal = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    want = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(posterior.kl(), want)


def test_statistics_are_those_of_all_latents_and_undo_themselves():
    latents = [torch.randn(2, 3, 4, 5, 6) * 3 + 1, torch.randn(1, 3, 1, 2, 2)]
    flat = torch.cat([latent.transpose(0, 1).flatten(1) for latent in latents], 1)
    statistics = LatentStatistics.measure(latents)
    assert statistics.mean == pytest.approx(flat.mean(1).tolist(), abs=1e-5)
    assert statistics.std == pytest.approx(flat.std(1, unbiased=False).tolist(), rel=1e-4)
    normal = statistics.normalise(latents[0])
    torch.testing.assert_close(statistics.denormalise(normal), latents[0])
    want = (latents[0] - flat.mean(1).view(1, 3, 1, 1, 1)) / flat.std(1, unbiased=False).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(normal, want)
    with pytest.raises(ShapeError, match="expected .batch, 3,"):
        statistics.normalise(torch.zeros(1, 4, 1, 2, 2))
    with pytest.raises(ShapeError, match="no latents"):
        LatentStatistics.measure([])


def test_the_model_hands_out_the_statistics_of_its_config():
    assert build().statistics is None
    config = AutoencoderConfig.from_dict({**TINY.to_dict(), "latent_mean": [0, 1, 2, 3], "latent_std": [1, 1, 2, 2]})
    assert CausalVideoAutoencoder(config).statistics == LatentStatistics((0, 1, 2, 3), (1, 1, 2, 2))


# --- sizes that do not fit ---


@pytest.mark.parametrize(
    "shape, sentence",
    [
        ((1, 3, 16, 16, 16), "Got 16 frames; this autoencoder takes 4k+1 frames: the nearest are 13 and 17."),
        ((1, 3, 2, 16, 16), "Got 2 frames; this autoencoder takes 4k+1 frames: the nearest are 1 and 5."),
        ((1, 3, 0, 16, 16), "Got 0 frames; this autoencoder takes 4k+1 frames: the nearest are 1 and 5."),
        ((1, 3, 5, 100, 16), "Got height 100; this autoencoder takes multiples of 8: the nearest are 96 and 104."),
        ((1, 3, 5, 16, 3), "Got width 3; this autoencoder takes multiples of 8: the nearest are 8 and 16."),
        ((1, 4, 5, 16, 16), "Got a video of shape [1, 4, 5, 16, 16]; this autoencoder takes [batch, 3,"),
        ((3, 5, 16, 16), "Got a video of shape [3, 5, 16, 16]; this autoencoder takes [batch, 3,"),
    ],
)
@pytest.mark.parametrize("chunk", [None, 4])
def test_a_video_that_does_not_fit_is_refused_in_the_users_units(shape, sentence, chunk):
    with pytest.raises(ShapeError, match="^" + re.escape(sentence)):
        build().encode(torch.zeros(shape), chunk_frames=chunk)


@pytest.mark.parametrize("shape", [(1, 5, 2, 2, 2), (4, 2, 2, 2), (1, 4, 0, 2, 2)])
@pytest.mark.parametrize("chunk", [None, 1])
def test_a_latent_that_does_not_fit_is_refused(shape, chunk):
    with pytest.raises(ShapeError, match=re.escape(f"Got a latent of shape {list(shape)}")):
        build().decode(torch.zeros(shape), chunk_latents=chunk)


def test_decode_chunks_refuses_before_the_first_chunk_is_asked_for():
    with pytest.raises(ShapeError, match="Got a latent"):
        build().decode_chunks(torch.zeros(1, 5, 2, 2, 2))


@pytest.mark.parametrize("size", [0, -1])
def test_a_chunk_of_no_frames_is_refused(size):
    with pytest.raises(ShapeError, match=f"chunk_frames {size}"):
        build().encode(clip(5), chunk_frames=size)
    with pytest.raises(ShapeError, match=f"chunk_latents {size}"):
        build().decode(torch.zeros(1, 4, 2, 2, 2), chunk_latents=size)


def test_streams_that_end_early_or_change_size_are_refused():
    model = build()
    with pytest.raises(ShapeError, match="Got 7 frames.*nearest are 5 and 9"):
        list(model.encode_chunks(clip(7).split(4, 2)))
    with pytest.raises(ShapeError, match="Got 0 frames"):
        list(model.encode_chunks([]))
    with pytest.raises(ShapeError, match="all chunks of one clip"):
        list(model.encode_chunks([clip(2), clip(3, height=24)]))
    with pytest.raises(ShapeError, match="all chunks of one clip"):
        list(model.decode_chunks(iter([torch.zeros(1, 4, 1, 2, 2), torch.zeros(1, 4, 1, 2, 3)])))
