"""The likelihood with a learned width, and the texture term."""

import math

import pytest
import torch
import torch.nn.functional as F
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.training.likelihood import Likelihood, LikelihoodSettings
from sora_dit.dit_core.training.perceptual import texture_loss


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
def test_the_likelihood_is_that_of_torch(kind):
    error = torch.randn(500, generator=generator())
    likelihood = Likelihood(kind)
    with torch.no_grad():
        likelihood.log_width[kind].fill_(math.log(0.3))
    law = {"laplace": torch.distributions.Laplace, "gaussian": torch.distributions.Normal}[kind](0.0, 0.3)
    torch.testing.assert_close(likelihood(error), -law.log_prob(error).mean())
    assert likelihood.width().item() == pytest.approx(0.3)


@pytest.mark.parametrize("kind,true", [("laplace", 0.04), ("gaussian", 0.04)])
@pytest.mark.parametrize("first", [0.004, 0.4])
def test_the_width_finds_the_true_scale_of_the_residual(kind, true, first):
    law = {"laplace": torch.distributions.Laplace, "gaussian": torch.distributions.Normal}[kind](0.0, true)
    torch.manual_seed(0)
    likelihood = Likelihood(kind)
    likelihood.start_at(first * torch.ones(10))
    optimiser = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        likelihood(law.sample((2000,))).backward()
        optimiser.step()
    assert likelihood.width().item() == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize("kind", ["laplace", "gaussian", "both"])
def test_a_start_is_where_no_gradient_is_left(kind):
    error = 0.2 * torch.randn(1000, generator=generator())
    likelihood = Likelihood(kind)
    likelihood.start_at(error)
    likelihood(error).backward()
    assert all(abs(p.grad.item()) < 1e-5 for p in likelihood.parameters())
    assert len(list(likelihood.parameters())) == (2 if kind == "both" else 1)


def test_both_is_the_mean_of_the_two():
    error = 0.2 * torch.randn(1000, generator=generator())
    values = [Likelihood(kind)(error) for kind in ("laplace", "gaussian", "both")]
    torch.testing.assert_close(values[2], (values[0] + values[1]) / 2)


@pytest.mark.parametrize("change,message", [({"distribution": "cauchy"}, "laplace, gaussian, both"),
                                            ({"beta": -1.0}, "beta = -1.0"), ({"lr": 0.0}, "lr = 0.0"),
                                            ({"beta": float("nan")}, "beta = nan")])  # fmt: skip
def test_settings_out_of_range_are_refused_in_words(change, message):
    with pytest.raises(ConfigError, match=message):
        LikelihoodSettings(**change)


def textured(side: int = 48) -> torch.Tensor:
    """Soft ground with sharp blobs on it, as skies have: [2, 3, 5, side, side] in -1..1."""
    noise = torch.randn(2, 3, 5, side, side, generator=generator(1))
    soft = F.interpolate(torch.randn(2, 3, 5, 8, 8, generator=generator(2)), (5, side, side), mode="trilinear")
    return (0.4 * soft + 1.0 * (noise > 2.5)).clamp(-1, 1)


def at_equal_error(clip: torch.Tensor, change: torch.Tensor, squared: float = 4e-3) -> torch.Tensor:
    return clip + change * (squared / change.square().mean()).sqrt()


def blurred(clip: torch.Tensor) -> torch.Tensor:
    return F.avg_pool3d(F.pad(clip, (1, 1, 1, 1, 0, 0), mode="replicate"), (1, 3, 3), 1)


def test_texture_loss_is_nothing_between_equals_and_one_against_nothing():
    clip = textured()
    assert texture_loss(clip, clip).item() == pytest.approx(0, abs=1e-6)
    rough = torch.randn(1, 3, 5, 48, 48, generator=generator())
    assert 0.99 < texture_loss(torch.zeros_like(rough), rough).item() < 1
    assert texture_loss(clip[:, :, :1], clip[:, :, :1] * 0.9).isfinite()
    assert texture_loss(clip[..., :8, :8], clip[..., :8, :8] * 0.9).isfinite()


def test_texture_loss_minds_blur_and_flicker_more_than_a_shift_or_a_tint():
    clip = textured()[:, :, :1].expand(-1, -1, 5, -1, -1)  # stands still
    flicker = torch.randn(2, 3, 5, 1, 1, generator=generator(3)).expand_as(clip)
    losses = {name: texture_loss(at_equal_error(clip, change), clip).item() for name, change in {
        "blur": blurred(clip) - clip, "shift": clip.roll(1, -1) - clip, "tint": torch.ones_like(clip),
        "flicker": flicker}.items()}  # fmt: skip
    assert losses["tint"] < 1e-3
    assert losses["shift"] < 0.5 * losses["blur"]
    assert losses["flicker"] > losses["blur"]


def test_texture_loss_leads_a_blur_back_to_detail():
    clip = textured()
    picture = blurred(clip).requires_grad_(True)
    optimiser = torch.optim.Adam([picture], lr=0.02)
    first = texture_loss(picture, clip).item()
    for _ in range(30):
        optimiser.zero_grad()
        texture_loss(picture, clip).backward()
        optimiser.step()
    assert picture.isfinite().all() and texture_loss(picture, clip).item() < 0.5 * first


def test_the_gradient_of_a_flat_picture_is_finite():
    flat = torch.zeros(1, 3, 3, 16, 16, requires_grad=True)
    texture_loss(flat, textured(16)[:1, :, :3]).backward()
    assert flat.grad.isfinite().all()
