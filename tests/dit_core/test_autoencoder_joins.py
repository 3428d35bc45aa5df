"""A linear decoder whose boxes join although the latents err: against impulses decoded one by one, and on skies."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder, Joins
from sora_dit.dit_core.autoencoder.joins import solve_joined
from sora_dit.dit_core.measures import TokenGrid, coherence, to_frames
from sora_dit.dit_core.training.sky_data import SkySource

CPU = torch.device("cpu")
SOURCE = SkySource(seed=5, frames=5, height=32, width=32)
TIME, SPACE = 2, 2


def steps_of_impulses(weight: torch.Tensor, joins: Joins) -> torch.Tensor:
    """The expected squared steps, by decoding an error of each channel alone and looking at all borders around it."""
    total, (channels, depth, sides) = 0.0, weight.shape[1:4]
    for c in range(channels):
        latent = torch.zeros(1, channels, 3 * depth, 3 * sides, 3 * sides, dtype=weight.dtype)
        latent[0, c, depth + 1, sides + 1, sides + 1] = joins.deviation[c]
        x = torch.nn.functional.conv3d(latent, weight).unflatten(1, (-1, TIME, SPACE, SPACE))
        x = x.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        for axis, box, strength in ((2, TIME, joins.time), (3, SPACE, joins.space), (4, SPACE, joins.space)):
            total = total + strength * x.diff(dim=axis).movedim(axis, 0)[box - 1 :: box].square().sum()
    return total


def test_nothing_else_has_less_error_and_steps_together():
    """The gradient of the whole, worked out by autograd from decoded impulses, vanishes at the solution."""
    g = torch.Generator().manual_seed(0)
    shape = (3 * TIME * SPACE * SPACE, 4, 2, 3, 3)
    inputs = shape[1] * shape[2] * 9
    near = torch.randn(400, inputs, generator=g, dtype=torch.float64)
    boxes = near @ torch.randn(inputs, shape[0], generator=g, dtype=torch.float64)
    squares, products = near.T @ near / 400, near.T @ boxes / 400
    start = torch.linalg.solve(squares, products).T.reshape(shape)
    joins = Joins(torch.tensor([0.5, 1.0, 0.1, 0.7], dtype=torch.float64), space=3.0, time=0.5)

    def whole(w: torch.Tensor) -> torch.Tensor:
        return (near @ w.flatten(1).T - boxes).square().sum() / 400 + steps_of_impulses(w, joins)

    solved = solve_joined(start, squares, products, joins, (TIME, SPACE), steps=400).requires_grad_(True)
    (gradient,) = torch.autograd.grad(whole(solved), solved)
    start.requires_grad_(True)
    (at_start,) = torch.autograd.grad(whole(start), start)
    assert gradient.norm() < 1e-6 * at_start.norm()
    assert steps_of_impulses(solved, joins) < 0.5 * steps_of_impulses(start, joins)


def fitted(channels: int, count: int, joins: Joins | None = None) -> CausalVideoAutoencoder:
    """A linear codec of skies."""
    torch.manual_seed(0)
    model = CausalVideoAutoencoder(AutoencoderConfig(latent_channels=channels, linear="alone", lookahead=1))
    clips = [SOURCE.clips(0, count, CPU)]
    model.linear.fit(lambda: clips)
    model.linear.fit_decoder(clips, ridge=1e-3, joins=joins)
    return model


def test_without_errors_least_squares_stays_what_it_is():
    plain, joined = fitted(8, 24), fitted(8, 24, Joins(torch.zeros(8)))
    video = SOURCE.clips(900, 4, CPU)
    with torch.no_grad():
        latent = plain.encode(video).mean
        torch.testing.assert_close(joined.decode(latent), plain.decode(latent), atol=2e-3, rtol=0)  # the bias: no ridge


def test_a_grid_of_errors_is_hidden_and_the_picture_kept():
    """Each latent of a clip with an error of its own, which is what gives the boxes of a generated clip away."""
    plain, joined = fitted(16, 48), fitted(16, 48, Joins(torch.full((16,), 0.3), space=2.0))
    grid = TokenGrid.of(plain.config)
    video = SOURCE.clips(900, 8, CPU)
    with torch.no_grad():
        clean = plain.encode(video).mean
        noisy = clean + 0.3 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        seams = [coherence(to_frames(one.decode(noisy)), grid) for one in (plain, joined)]
        errors = [(one.decode(noisy) - video).square().mean() for one in (plain, joined)]
        quality = [(one.decode(clean) - video).square().mean() for one in (plain, joined)]
    for side in ("rows", "columns"):
        assert seams[1][side] - 1 < 0.6 * (seams[0][side] - 1)
    assert seams[1]["time"] < seams[0]["time"]
    assert errors[1] < errors[0]
    assert quality[1] < 1.2 * quality[0]  # 0.8 dB


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_chunks_still_equal_the_whole_clip(chunk):
    model = fitted(8, 16, Joins(torch.full((8,), 0.2)))
    with torch.no_grad():
        latent = torch.randn(1, 8, 5, 4, 4)
        torch.testing.assert_close(model.decode(latent, chunk), model.decode(latent), atol=1e-5, rtol=0)
