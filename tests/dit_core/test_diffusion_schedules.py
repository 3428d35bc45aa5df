"""Noise levels: known values, agreement with diffusers and scipy, the tail for partial denoising, errors in words."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sora_dit.dit_core.diffusion import SCHEDULES, check_sigmas, flow_shift, get_objective, make_sigmas
from sora_dit.dit_core.errors import ConfigError, ShapeError, SoraDiTError

FLOW_SCHEDULES = ("auto", "uniform", "cosine", "beta")


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("flow", s) for s in FLOW_SCHEDULES] + [(name, s) for name in ("epsilon", "v") for s in SCHEDULES],
)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_every_schedule_descends_from_full_noise_to_zero(name, schedule, steps):
    for beta_schedule in ("linear", "cosine"):
        objective = get_objective(name, beta_schedule=beta_schedule)
        sigmas = make_sigmas(objective, steps, schedule, shift=3.0 if name == "flow" else 1.0)
        assert sigmas.shape == (steps + 1,) and sigmas.dtype == torch.float32
        assert float(sigmas[0]) == pytest.approx(objective.sigma_max, rel=1e-6)
        assert sigmas[-1] == 0 and (sigmas.diff() < 0).all()


def test_flow_by_hand():
    flow = get_objective("flow")
    torch.testing.assert_close(make_sigmas(flow, 4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    shifted = torch.tensor([1.0, 0.9, 0.75, 0.5, 0.0])
    torch.testing.assert_close(make_sigmas(flow, 4, shift=3.0), shifted)
    # Equal angles: sigma / (1 - sigma) = tan(angle).
    tangent = torch.tensor([math.tan(math.pi / 2 * u) for u in (0.75, 0.5, 0.25)])
    torch.testing.assert_close(make_sigmas(flow, 4, "cosine")[1:-1], tangent / (1 + tangent))
    assert make_sigmas(flow, 4, "cosine")[0] == 1


@settings(max_examples=50, deadline=None)
@given(sigma=st.floats(0.0, 1.0), shift=st.floats(0.05, 20.0))
def test_shift_scales_the_noise_to_signal_ratio_and_can_be_undone(sigma, shift):
    moved = flow_shift(sigma, shift)
    assert moved * (1 - sigma) == pytest.approx(shift * sigma * (1 - moved), abs=1e-9)
    assert flow_shift(moved, 1 / shift) == pytest.approx(sigma, abs=1e-9)


def test_uniform_flow_levels_equal_those_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    for steps, shift in ((1, 1.0), (10, 3.0), (25, 0.5)):
        reference = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        reference.set_timesteps(sigmas=numpy.linspace(1.0, 1.0 / steps, steps))
        torch.testing.assert_close(make_sigmas(get_objective("flow"), steps, shift=shift), reference.sigmas)


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        ("uniform", {"timestep_spacing": "trailing"}),
        ("linspace", {"timestep_spacing": "linspace"}),
        ("karras", {"use_karras_sigmas": True}),
        ("exponential", {"use_exponential_sigmas": True}),
    ],
)
def test_table_levels_equal_those_of_diffusers(schedule, options):
    diffusers = pytest.importorskip("diffusers")
    for steps in (4, 10, 28):  # linspace falls on whole timesteps with these; in between we interpolate log sigma
        reference = diffusers.EulerDiscreteScheduler(**options)
        reference.set_timesteps(steps)
        sigmas = make_sigmas(get_objective("epsilon"), steps, schedule)
        # Their smallest sigma comes from 1 - 0.9999 in float32, good to 3 digits.
        torch.testing.assert_close(sigmas, reference.sigmas.cpu(), rtol=5e-4, atol=0)


def test_beta_quantiles_equal_scipy():
    stats = pytest.importorskip("scipy.stats")
    expected = stats.beta.ppf(1 - numpy.arange(16) / 16, 0.6, 0.6)
    numpy.testing.assert_allclose(make_sigmas(get_objective("flow"), 16, "beta")[:-1], expected, atol=1e-5)
    v = get_objective("v")
    timesteps = v.timestep(make_sigmas(v, 16, "beta")[:-1])
    numpy.testing.assert_allclose(timesteps, expected * 999, atol=0.05)


@pytest.mark.parametrize(("steps", "denoise", "total"), [(8, 0.5, 16), (10, 0.35, 28), (5, 0.999, 5), (3, 1.0, 3)])
def test_partial_denoise_is_the_tail_of_a_longer_schedule(steps, denoise, total):
    for name, shift in (("flow", 3.0), ("epsilon", 1.0)):
        objective = get_objective(name)
        tail = make_sigmas(objective, steps, shift=shift, denoise=denoise)
        assert len(tail) == steps + 1
        assert torch.equal(tail, make_sigmas(objective, total, shift=shift)[-(steps + 1) :])


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("flow", {"steps": 0}, ["0 denoising steps", "at least 1"]),
        ("flow", {"steps": -3}, ["-3 denoising steps"]),
        ("flow", {"steps": 2.5}, ["2.5 denoising steps", "whole number"]),
        ("flow", {"steps": True}, ["True denoising steps"]),
        ("flow", {"steps": 4, "shift": 0.0}, ["shift of 0.0", "above 0"]),
        ("flow", {"steps": 4, "shift": -1.0}, ["shift of -1.0"]),
        ("flow", {"steps": 4, "shift": math.nan}, ["shift of nan"]),
        ("flow", {"steps": 4, "denoise": 0.0}, ["denoise of 0.0", "at most 1"]),
        ("flow", {"steps": 4, "denoise": 1.2}, ["denoise of 1.2"]),
        ("flow", {"steps": 4, "denoise": math.nan}, ["denoise of nan"]),
        ("flow", {"steps": 4, "schedule": "karras"}, ["'karras'", "trained with flow", "auto, uniform, cosine, beta"]),
        ("v", {"steps": 4, "shift": 3.0}, ["shift of 3.0", "trained with v", "expected 1"]),
        ("v", {"steps": 1001}, ["'uniform'", "1001 different levels", "fewer steps"]),
        ("v", {"steps": 600, "denoise": 0.5}, ["1200 different levels", "600 steps at denoise 0.5"]),
    ],
)
def test_impossible_schedules_are_refused_in_words(name, arguments, words):
    with pytest.raises(SoraDiTError) as error:
        make_sigmas(get_objective(name), **{"schedule": "uniform", **arguments})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(ConfigError, match="'uniferm'.*Did you mean 'uniform'"):
        make_sigmas(get_objective("flow"), 4, "uniferm")


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ([1.0, 0.5, 0.7, 0.0], ["do not descend", "level 2 is 0.7 after 0.5"]),
        ([1.0, 0.5, 0.5, 0.0], ["do not descend", "level 2 is 0.5 after 0.5"]),
        ([0.0, 0.5, 1.0], ["do not descend"]),
        ([1.0, math.nan, 0.0], ["level 1", "nan"]),
        ([math.inf, 0.0], ["level 0", "inf"]),
        ([1.0, -0.1], ["level 1", "-0.1"]),
        ([1.0], ["shape [1]", "at least two"]),
        ([[1.0, 0.0]], ["shape [1, 2]", "one dimension"]),
        ([14.6, 1.0, 0.0], ["starts at noise level 14.6", "0 to 1"]),
    ],
)
def test_custom_levels_are_checked_in_words(levels, words):
    with pytest.raises(SoraDiTError) as error:
        check_sigmas(torch.tensor(levels), get_objective("flow"))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert isinstance(error.value, ShapeError) == ("shape" in words[0])


def test_custom_levels_that_are_fine_pass_unchanged():
    assert check_sigmas([14.6, 1.0, 0.5]).tolist() == pytest.approx([14.6, 1.0, 0.5])
    for dtype in (torch.float32, torch.float64):
        levels = torch.tensor([0.8, 0.2, 0.0], dtype=dtype)
        checked = check_sigmas(levels, get_objective("flow"))
        assert torch.equal(checked, levels) and checked.dtype == dtype
    assert check_sigmas(torch.tensor([1, 0])).dtype == torch.float32
    assert check_sigmas(torch.tensor([1.0, 0.5, 0.0], dtype=torch.float16)).dtype == torch.float32
