"""Objectives: hand formulas, round trips, noise levels per frame, tables against diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sora_dit.dit_core.diffusion import OBJECTIVES, DDPMSchedule, get_objective
from sora_dit.dit_core.errors import ConfigError, ShapeError

SHAPE = (2, 3, 4, 5, 6)
NAMES = tuple(OBJECTIVES)


def randn(seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_flow_by_hand():
    flow, x0, noise = get_objective("flow"), randn(0), randn(1)
    x = flow.add_noise(x0, noise, 0.25)
    torch.testing.assert_close(x, 0.75 * x0 + 0.25 * noise)
    torch.testing.assert_close(flow.target(x0, noise, 0.25), noise - x0)
    torch.testing.assert_close(flow.denoised(x, torch.full_like(x, 2.0), 0.25), x - 0.5)
    assert flow.network_input(x, 0.25) is x
    assert flow.timestep(0.25) == 250.0 and flow.sigma(250.0) == 0.25 and flow.signal(0.25) == 0.75
    torch.testing.assert_close(flow.initial(noise, 1.0), noise)


@pytest.mark.parametrize("name", ["epsilon", "v"])
@pytest.mark.parametrize("timestep", [0, 123, 999])
def test_variance_preserving_by_the_textbook(name, timestep):
    """Ho et al. equation 4 and Salimans & Ho's v, in the usual sqrt(abar) scaling."""
    objective, x0, noise = get_objective(name), randn(0), randn(1)
    beta = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(timestep + 1)]
    abar = math.prod(1 - b for b in beta)
    a, s = math.sqrt(abar), math.sqrt(1 - abar)
    sigma = objective.sigma(float(timestep))
    assert sigma == pytest.approx(s / a, rel=1e-9)
    assert objective.timestep(sigma) == pytest.approx(timestep, abs=1e-6)

    x = objective.add_noise(x0, noise, sigma)
    usual = a * x0 + s * noise
    torch.testing.assert_close(objective.network_input(x, sigma), usual)
    prediction = noise if name == "epsilon" else a * noise - s * x0
    torch.testing.assert_close(objective.target(x0, noise, sigma), prediction)
    other = randn(2)
    expected = (usual - s * other) / a if name == "epsilon" else a * usual - s * other
    torch.testing.assert_close(objective.denoised(x, other, sigma), expected)
    torch.testing.assert_close(objective.network_input(objective.initial(noise, sigma), sigma), noise)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(fraction=st.floats(1e-4, 1.0), seed=st.integers(0, 1000))
def test_round_trips(name, fraction, seed):
    objective = get_objective(name)
    sigma = objective.sigma(fraction * objective.timestep_max)
    assert objective.timestep(sigma) == pytest.approx(fraction * objective.timestep_max, abs=1e-6)
    x0, noise, other = randn(seed), randn(seed + 1), randn(seed + 2)
    x = objective.add_noise(x0, noise, sigma)
    close = {"rtol": 1e-8, "atol": 1e-8}
    torch.testing.assert_close(objective.denoised(x, objective.target(x0, noise, sigma), sigma), x0, **close)
    torch.testing.assert_close(objective.noise(x, x0, sigma), noise, **close)
    torch.testing.assert_close(objective.denoised(x, objective.prediction(x, other, sigma), sigma), other, **close)


@pytest.mark.parametrize("name", NAMES)
def test_a_level_per_frame_equals_frame_by_frame(name):
    objective, x0, noise, prediction = get_objective(name), randn(0), randn(1), randn(2)
    sigma = torch.tensor([[0.0, 0.3, 0.7, 1.0], [1.0, 0.0, 0.1, 0.2]])
    for levels in (sigma, sigma[:, None, :, None, None]):
        x = objective.add_noise(x0, noise, levels)
        results = (
            x,
            objective.denoised(x, prediction, levels),
            objective.target(x0, noise, levels),
            objective.network_input(x, levels),
        )
        for b in range(2):
            for t in range(4):
                here = (slice(b, b + 1), slice(None), slice(t, t + 1))
                level = float(sigma[b, t])
                expected = (
                    objective.add_noise(x0[here], noise[here], level),
                    objective.denoised(x[here], prediction[here], level),
                    objective.target(x0[here], noise[here], level),
                    objective.network_input(x[here], level),
                )
                for result, one in zip(results, expected, strict=True):
                    torch.testing.assert_close(result[here], one, rtol=1e-6, atol=1e-6)
    timesteps = objective.timestep(sigma)
    assert timesteps.shape == sigma.shape and timesteps.dtype == torch.float32
    assert timesteps[0, 0] == 0  # a known frame
    assert float(timesteps[0, 1]) == pytest.approx(objective.timestep(float(sigma[0, 1])), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_level_per_clip_and_known_latents_stay_exact(name):
    objective, x0, noise, prediction = get_objective(name), randn(0), randn(1), randn(2)
    x = objective.add_noise(x0, noise, torch.tensor([0.0, 0.5]))
    assert torch.equal(x[0], x0[0]) and not torch.equal(x[1], x0[1])
    assert torch.equal(objective.denoised(x, prediction, torch.tensor([0.0, 0.5]))[0], x[0])


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_keeps_its_dtype_but_not_its_rounding_of_sigma(name):
    objective = get_objective(name)
    x0, noise = randn(0, torch.float32).bfloat16(), randn(1, torch.float32).bfloat16()
    sigma = torch.tensor([0.998, 0.002])
    x = objective.add_noise(x0, noise, sigma)
    assert x.dtype == torch.bfloat16
    assert torch.equal(x, objective.add_noise(x0.float(), noise.float(), sigma).bfloat16())
    assert objective.denoised(x.float(), noise, sigma).dtype == torch.float32
    assert objective.target(x0, noise, sigma).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["epsilon", "v"])
def test_levels_outside_the_table_get_its_end_timesteps(name):
    objective = get_objective(name)
    assert objective.timestep(0.0) == 0.0
    assert objective.timestep(1e6) == 999.0
    assert objective.timestep(math.inf) == 999.0
    ints = objective.sigma(torch.arange(1000))
    torch.testing.assert_close(ints.double(), objective.schedule.sigmas, rtol=1e-6, atol=0)
    torch.testing.assert_close(objective.timestep(ints), torch.arange(1000.0), rtol=0, atol=2e-2)
    torch.testing.assert_close(objective.timestep(ints[5:990]), torch.arange(5.0, 990.0), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"beta_schedule": "linear"}, {"beta_schedule": "linear"}),
        ({"beta_schedule": "cosine"}, {"beta_schedule": "squaredcos_cap_v2"}),
        (
            {"beta_schedule": "scaled_linear"},
            {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        ),
        (
            {"beta_schedule": "linear", "num_train_timesteps": 250, "beta_start": 0.001, "beta_end": 0.03},
            {"beta_schedule": "linear", "num_train_timesteps": 250, "beta_start": 0.001, "beta_end": 0.03},
        ),
    ],
)
def test_tables_equal_those_of_diffusers(ours, theirs):
    diffusers = pytest.importorskip("diffusers")
    table, reference = DDPMSchedule(**ours), diffusers.DDPMScheduler(**theirs)
    torch.testing.assert_close(table.betas.float(), reference.betas, rtol=1e-5, atol=1e-7)
    # Theirs is a product of up to 1000 float32 numbers.
    torch.testing.assert_close(table.alphas_cumprod.float(), reference.alphas_cumprod, rtol=5e-5, atol=1e-7)


def test_get_objective_passes_the_table_on():
    objective = get_objective("v", num_train_timesteps=500, beta_schedule="cosine")
    assert objective.schedule == DDPMSchedule(500, "cosine") and objective.timestep_max == 499
    assert get_objective("epsilon").schedule.beta_schedule == "linear"
    assert get_objective("flow", num_train_timesteps=1).timestep(0.5) == 0.5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: get_objective("flwo"), ["'flwo'", "flow, epsilon, v", "Did you mean 'flow'"]),
        (lambda: get_objective("epsilon", beta_schedule="cosin"), ["'cosin'", "Did you mean 'cosine'"]),
        (lambda: DDPMSchedule(num_train_timesteps=1), ["1 training timesteps", "at least 2"]),
        (lambda: DDPMSchedule(beta_start=0.5, beta_end=0.1), ["0.5", "0.1", "beta_start <= beta_end"]),
        (lambda: DDPMSchedule(beta_schedule="cosine", beta_start=0.1), ["cosine", "leave them out"]),
    ],
)
def test_what_we_do_not_implement_is_refused_in_words(make, words):
    with pytest.raises(ConfigError) as error:
        make()
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 1, 1), (2, 1, 3, 1, 1), (2, 4, 1)])
def test_a_level_that_fits_nothing_is_refused_in_words(shape):
    with pytest.raises(ShapeError, match=r"does not fit a latent of shape \[2, 3, 4, 5, 6\]"):
        get_objective("flow").add_noise(randn(0), randn(1), torch.zeros(shape))
