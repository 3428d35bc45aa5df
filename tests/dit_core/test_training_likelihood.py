"""The likelihood with a learned width, and the texture term."""

import math

import pytest
import torch
import torch.nn.functional as F
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.training.autoencoder import AutoencoderStep, AutoencoderTraining
from sora_dit.dit_core.training.likelihood import Likelihood, LikelihoodSettings
from sora_dit.dit_core.training.perceptual import texture_loss
from sora_dit.dit_core.training.seeding import generator_of_step
from sora_dit.dit_core.training.sky_data import SkySource


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


def step_and_pass(training: AutoencoderTraining):
    """The loss of step 0 of a small autoencoder, and by hand: error, differences of neighbours, KL."""
    torch.manual_seed(1)
    model = CausalVideoAutoencoder(AutoencoderConfig(
        latent_channels=4, patch=4, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=0,
        decoder_blocks=0, temporal_downsample=(True,), spatial_downsample=(True,), linear="none",
    ))  # fmt: skip
    source = SkySource(seed=1, frames=3, height=16, width=16)
    step = AutoencoderStep(model, source, training, 2, torch.device("cpu"))
    with torch.no_grad():
        loss, told = step(0)
        video = source.clips(0, 2, "cpu")
        got, posterior = model(video, generator_of_step(training.seed, 0))
    error = got - video
    along_time, down = error[:, :, 1:] - error[:, :, :-1], error[..., 1:, :] - error[..., :-1, :]
    edges = [along_time, down, error[..., 1:] - error[..., :-1]]
    differences = sum(one.abs().mean() for one in edges) / 3
    law = torch.distributions.Normal(posterior.mean, (0.5 * posterior.logvar).exp())
    kl = torch.distributions.kl_divergence(law, torch.distributions.Normal(0.0, 1.0))
    return loss, told, error, differences, kl


def test_the_loss_with_fixed_weights_is_their_sum():
    training = AutoencoderTraining(sizes=(16,), squared=7.0, edges=0.3, kl=0.01, precision="float32")
    loss, told, error, differences, kl = step_and_pass(training)
    expected = error.abs().mean() + 7.0 * error.square().mean() + 0.3 * differences + 0.01 * kl.mean()
    torch.testing.assert_close(loss, expected)
    assert told["psnr"].item() == pytest.approx(10 * math.log10(4 / error.square().mean().item()), rel=1e-4)


def test_the_loss_by_likelihood_is_the_evidence_bound_for_each_number_of_the_video():
    """Nats of the clip given its latent, and the latent's divergence from the prior, over as many numbers; what stands
    beside it counts in units of the learned width."""
    likelihood = LikelihoodSettings("laplace", beta=3.0)
    training = AutoencoderTraining(sizes=(16,), edges=0.3, likelihood=likelihood, precision="float32")
    loss, _, error, differences, kl = step_and_pass(training)
    width = error.abs().mean()  # where a training starts: the best for what is wrong now
    nats = -torch.distributions.Laplace(0.0, width).log_prob(error).sum()
    expected = (nats + 3.0 * kl.sum()) / error.numel() + 0.3 * differences / width
    torch.testing.assert_close(loss, expected)
