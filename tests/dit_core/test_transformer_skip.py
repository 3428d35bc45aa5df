"""The skip connection for Gaussian latents (`skip_std`) and how a new model starts."""

import dataclasses

import pytest
import torch
from sora_dit.dit_core.conditioning import Prompt, combine
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.generate import denoise_latent, model_objective
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT
from sora_dit.dit_core.transformer.model import gaussian_skip

STD = (2.0, 0.5, 1.0)
CONFIG = TransformerConfig(
    width=24, depth=2, heads=2, ff_width=32, in_channels=3, text_width=10, patch=(1, 1, 1), skip_std=STD
)


def new_model(**changes) -> VideoDiT:
    torch.manual_seed(0)
    return VideoDiT(dataclasses.replace(CONFIG, **changes)).eval()


def text(batch: int) -> tuple:
    return torch.randn(batch, 5, 10), torch.ones(batch, 5, dtype=torch.bool), torch.randn(batch, 10)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 0.9])
def test_it_is_the_regression_of_velocity_on_the_noisy_latent(sigma):
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(200_000, 3, generator=generator) * torch.tensor(STD)
    noise = torch.randn(clean.shape, generator=generator)
    x, velocity = (1 - sigma) * clean + sigma * noise, noise - clean
    slope = (x * velocity).mean(0) / x.square().mean(0)  # least squares through the origin
    got = gaussian_skip(torch.tensor([sigma]), STD)[0]
    assert torch.allclose(got, slope, atol=0.02), (got, slope)


def test_ends_of_the_schedule_by_hand():
    assert gaussian_skip(torch.tensor([1.0]), STD).tolist() == [[1.0, 1.0, 1.0]]  # pure noise: velocity is the noise
    assert gaussian_skip(torch.tensor([0.0]), STD).tolist() == [[-1.0, -1.0, -1.0]]  # no noise: minus the latent


@pytest.mark.parametrize("patch", [(1, 1, 1), (2, 2, 2)])
def test_a_new_model_predicts_what_a_gaussian_prior_knows(patch):
    model = new_model(patch=patch)
    x = torch.randn(2, 3, 5, 4, 6)
    levels = torch.tensor([[0.0, 0.0, 300.0, 300.0, 700.0], [900.0] * 5])
    out = model(x, levels, *text(2))
    share = gaussian_skip(levels.flatten() / 1000, STD).view(2, 5, 3).mT[..., None, None]
    assert torch.allclose(out, share * x, atol=1e-6)


def test_sampling_with_a_new_model_gives_the_gaussian_back():
    model = new_model()
    positive = Prompt(*(part[:1] for part in text(1)))
    sigmas = torch.linspace(1, 0, 101)
    conditioning = combine(model, model_objective(model.config), sigmas, positive)
    empty = torch.zeros(1, 3, 9, 16, 16)
    latent = denoise_latent(model, conditioning, empty, seed=3, guidance_scale=1, sampler="euler")
    spread = latent.transpose(0, 1).flatten(1).std(1)
    assert torch.allclose(spread, torch.tensor(STD), rtol=0.05), spread


def test_it_trains_and_joins_what_the_network_says():
    model = new_model()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.2)
    plain = VideoDiT(dataclasses.replace(CONFIG, skip_std=None)).eval()
    plain.load_state_dict(model.state_dict())  # the skip has no weights of its own
    x, t, words = torch.randn(2, 3, 3, 4, 4), torch.tensor([200.0, 600.0]), text(2)
    share = gaussian_skip(t / 1000, STD)[:, :, None, None, None]
    assert torch.allclose(model(x, t, *words), plain(x, t, *words) + share * x, atol=1e-6)


@pytest.mark.parametrize(
    "changes,says",
    [
        (dict(skip_std=(1.0, 1.0)), "skip_std has 2 values"),
        (dict(skip_std=(1.0, 0.0, 1.0)), "expected numbers above 0"),
        (dict(objective="epsilon"), "expected objective 'flow'"),
        (dict(out_channels=6), "6 predicted channels"),
    ],
)
def test_what_does_not_fit_is_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        dataclasses.replace(CONFIG, **changes)


def test_it_travels_in_the_config():
    assert TransformerConfig.from_dict(CONFIG.to_dict()).skip_std == STD


def test_blocks_start_as_the_identity_but_let_gradients_through():
    model = new_model(skip_std=None)
    with torch.no_grad():
        model.final.projection.weight.normal_()
    x, t, words = torch.randn(1, 3, 2, 4, 4), torch.tensor([500.0]), text(1)
    out = model(x, t, *words)
    no_blocks = VideoDiT(dataclasses.replace(CONFIG, skip_std=None, depth=1)).eval()
    no_blocks.load_state_dict(model.state_dict() | {"block_table": model.block_table[:1]}, strict=False)
    no_blocks.blocks = torch.nn.ModuleList()
    assert torch.allclose(out, no_blocks(x, t, *words), atol=1e-6)
    out.square().mean().backward()
    assert all(block.feed_forward.outer.weight.grad.abs().sum() > 0 for block in model.blocks)
