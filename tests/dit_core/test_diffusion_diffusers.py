"""Samplers against the schedulers of diffusers: same levels, same (nonlinear) network, every step compared."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from sora_dit.dit_core.diffusion import get_objective, sample
from sora_dit.dit_core.diffusion.single_step import ancestral

diffusers = pytest.importorskip("diffusers")

SHAPE = (2, 3, 4, 5, 5)
STEPS = 10
PREDICTION = {"flow": "flow_prediction", "epsilon": "epsilon", "v": "v_prediction"}
TABLES = {"linear": "linear", "cosine": "squaredcos_cap_v2", "scaled_linear": "scaled_linear"}


def network(objective, x: torch.Tensor, sigma: float) -> torch.Tensor:
    """A smooth, nonlinear, time-dependent stand-in: x on our axis -> the network's own prediction."""
    seen = objective.network_input(x, sigma)
    x0 = torch.tanh(1.3 * seen + 0.2) + 0.3 * torch.sin(2.0 * seen + math.log1p(sigma))
    return objective.prediction(x, x0, sigma)


def ours(sampler, objective, x: torch.Tensor, sigmas, noise_source=None) -> list[torch.Tensor]:
    """Latents after each step."""
    path = []

    def denoise(x, index):
        sigma = float(sigmas[index])
        return objective.denoised(x, network(objective, x, sigma), sigma)

    def keep(index, steps, x, x0):
        path.append(x)

    sample(sampler, denoise, x, sigmas, objective=objective, noise_source=noise_source, callback=keep)
    return path


def theirs(scheduler, objective, x: torch.Tensor, scaled: bool, **step_options) -> list[torch.Tensor]:
    """Latents after each model call, on our axis. scaled: the scheduler holds x / sqrt(1 + sigma^2)."""
    path = []

    def scale(sigma: float) -> float:
        return math.sqrt(1 + sigma**2) if scaled else 1.0

    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = scheduler.sigmas.double()  # the same float32 levels, but no float32 arithmetic on them
        scheduler.set_begin_index(0)  # rounded timesteps may repeat, and would be looked up wrongly
        scheduler.is_scale_input_called = True
        levels = scheduler.sigmas.tolist()
    else:
        levels = table_levels(scheduler)
    x = x / scale(levels[0])
    for index, timestep in enumerate(scheduler.timesteps):
        prediction = network(objective, x * scale(levels[index]), levels[index])
        x = scheduler.step(prediction, timestep, x, return_dict=False, **step_options)[0]
        path.append(x * scale(levels[index + 1]))
    return path


def table_levels(scheduler) -> list[float]:
    """Noise levels of DDIM and DDPM schedulers, which hold none.

    Their table becomes float64: in float32, 1 - abar[t] / abar[t - 1] keeps 3 digits, which adds up over 1000 steps.
    """
    scheduler.alphas_cumprod = (1.0 - scheduler.betas.double()).cumprod(dim=0)
    abar = scheduler.alphas_cumprod[scheduler.timesteps]
    return [*((1 - abar) / abar).sqrt().tolist(), 0.0]


def start(objective, sigma: float) -> torch.Tensor:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return objective.initial(noise, sigma)


def assert_same_path(mine, reference, sigmas, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` in units of the latent's largest value (or 1, if that is more), at every step."""
    assert len(mine) == len(reference) == len(sigmas) - 1
    errors = [float((a - b).abs().max() / b.abs().max().clamp(min=1.0)) for a, b in zip(mine, reference, strict=True)]
    assert max(errors) <= tolerance, errors


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_flow_euler(sampler, shift):
    flow, scheduler = get_objective("flow"), diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(STEPS)
    x = start(flow, 1.0)
    assert scheduler.sigmas[0] == 1.0
    path = theirs(scheduler, flow, x, scaled=False)
    assert_same_path(ours(sampler, flow, x, scheduler.sigmas), path, scheduler.sigmas)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_heun(shift):
    # Theirs works in float32 and divides by the level at the end of a step: 100 timesteps make 0.01 the smallest.
    flow = get_objective("flow")
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=shift, num_train_timesteps=100)
    scheduler.set_timesteps(STEPS)
    x = start(flow, 1.0)
    path = theirs(scheduler, flow, x, scaled=False)
    sigmas = scheduler.sigmas.unique().flip(0)
    assert_same_path(ours("heun", flow, x, sigmas), [*path[1:-1:2], path[-1]], sigmas)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])
def test_flow_multistep(sampler, shift):
    flow = get_objective("flow")
    kind = {
        "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
        "unipc": partial(diffusers.UniPCMultistepScheduler, solver_type="bh2"),
    }[sampler]
    scheduler = kind(solver_order=2, use_flow_sigmas=True, flow_shift=shift, prediction_type="flow_prediction")
    scheduler.set_timesteps(STEPS)
    x = start(flow, 1.0)
    path = theirs(scheduler, flow, x, scaled=False)
    assert_same_path(ours(sampler, flow, x, scheduler.sigmas), path, scheduler.sigmas)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", ["epsilon", "v"])
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])
def test_table_multistep(sampler, karras, name, table):
    objective = get_objective(name, beta_schedule=table)
    kind = {
        "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
        "unipc": partial(diffusers.UniPCMultistepScheduler, solver_type="bh2"),
    }[sampler]
    scheduler = kind(
        solver_order=2, beta_schedule=TABLES[table], prediction_type=PREDICTION[name], use_karras_sigmas=karras
    )
    scheduler.set_timesteps(STEPS)
    x = start(objective, float(scheduler.sigmas[0])).double()
    path = theirs(scheduler, objective, x, scaled=True)
    tolerance = 1e-5 if sampler == "dpmpp_2m" else 1e-8  # their dpmpp_2m works in float32
    assert_same_path(ours(sampler, objective, x, scheduler.sigmas), path, scheduler.sigmas, tolerance)


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("name", ["epsilon", "v"])
@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_table_euler_and_heun(sampler, name, karras):
    objective = get_objective(name)
    kind = {"euler": diffusers.EulerDiscreteScheduler, "heun": diffusers.HeunDiscreteScheduler}[sampler]
    scheduler = kind(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type=PREDICTION[name],
        use_karras_sigmas=karras,
    )
    scheduler.set_timesteps(STEPS)
    sigmas = scheduler.sigmas.unique().flip(0).cpu()
    x = start(objective, float(sigmas[0])).double()
    path = theirs(scheduler, objective, x, scaled=False)
    path = path if sampler == "euler" else [*path[1:-1:2], path[-1]]
    assert_same_path(ours(sampler, objective, x, sigmas), path, sigmas)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["epsilon", "v"])
def test_ddim(name, eta):
    objective = get_objective(name)
    scheduler = diffusers.DDIMScheduler(
        prediction_type=PREDICTION[name], clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(STEPS)
    compare_with_noise(partial(ancestral, eta=eta), objective, scheduler, eta=eta)


@pytest.mark.parametrize("name", ["epsilon", "v"])
@pytest.mark.parametrize("steps", [10, 1000])
def test_ddpm(name, steps):
    objective = get_objective(name)
    scheduler = diffusers.DDPMScheduler(
        prediction_type=PREDICTION[name], clip_sample=False, variance_type="fixed_small", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    compare_with_noise("ddpm", objective, scheduler)


def compare_with_noise(sampler, objective, scheduler, **step_options) -> None:
    """Both sides draw the noise of their steps from generators in the same state.

    Theirs adds noise in VP scaling; a unit noise is the same on both axes.
    """
    sigmas = torch.tensor(table_levels(scheduler), dtype=torch.float64)
    x = start(objective, float(sigmas[0])).double()
    generator = torch.Generator().manual_seed(1)

    def noise_source(x, index):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    path = theirs(scheduler, objective, x, scaled=True, generator=torch.Generator().manual_seed(1), **step_options)
    assert_same_path(ours(sampler, objective, x, sigmas, noise_source), path, sigmas, tolerance=1e-8)
