"""Samplers on Gaussian data, where the exact denoiser is a formula and so is the exact answer.

With data N(mean, variance) the posterior mean of x0 given x = a * x0 + s * noise is affine in x, so everything a
sampler does is affine in (1, the initial noise, the noise of each step). A latent that holds those coefficients instead
of numbers therefore gives the exact mean and variance of what a sampler produces, without drawing anything.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from sora_dit.dit_core.diffusion import SAMPLERS, SeededNoise, cpu_noise, get_objective, make_sigmas, sample
from sora_dit.dit_core.diffusion.multistep import _moments
from sora_dit.dit_core.diffusion.single_step import ancestral
from sora_dit.dit_core.errors import ConfigError, ShapeError, SoraDiTError

MEAN, VARIANCE = 1.5, 0.25
ALL = {**SAMPLERS, "ddim_eta_half": partial(ancestral, eta=0.5)}
STOCHASTIC = ("ddpm", "ddim_eta_half")
DETERMINISTIC = [name for name in SAMPLERS if name not in STOCHASTIC]
KINDS = ("flow", "flow_shift_3", "variance_preserving")


def objective_of(kind: str):
    return get_objective("flow" if kind.startswith("flow") else "v")


def whole_run(kind: str, steps: int) -> torch.Tensor:
    """Levels from full noise to 0 as a smooth function of i / steps, which a statement about order needs."""
    if kind.startswith("flow"):
        return make_sigmas(get_objective("flow"), steps, shift=3.0 if kind == "flow_shift_3" else 1.0)
    u = 1.0 - torch.arange(steps + 1, dtype=torch.float64) / steps
    return (get_objective("v").sigma_max * u**4).float()


def marginal_deviation(objective, sigma: float) -> float:
    return math.sqrt(objective.signal(sigma) ** 2 * VARIANCE + sigma**2)


def exact_denoiser(objective, sigmas, one: torch.Tensor | float = 1.0):
    """E[x0 | x]; `one` is the number 1 in the representation of x."""

    def denoise(x, index):
        sigma = float(sigmas[index])
        a = objective.signal(sigma)
        gain = a * VARIANCE / marginal_deviation(objective, sigma) ** 2
        return MEAN * one + gain * (x - a * MEAN * one)

    return denoise


def mean_and_variance(kind: str, name: str, steps: int) -> tuple[float, float]:
    """Exact mean and variance of what the sampler makes of an exact start (see the top of this file)."""
    objective, sigmas = objective_of(kind), whole_run(kind, steps)
    basis = torch.eye(steps + 2 if name in STOCHASTIC else 2, dtype=torch.float64)  # 1, start, step 0, step 1, ...
    first = float(sigmas[0])
    start = objective.signal(first) * MEAN * basis[0] + marginal_deviation(objective, first) * basis[1]
    denoise = exact_denoiser(objective, sigmas, basis[0])
    end = sample(ALL[name], denoise, start, sigmas, objective=objective, noise_source=lambda x, index: basis[index + 2])
    return float(end[0]), float(end[1:].square().sum())


def fitted_order(counts, errors) -> float:
    xs, ys = torch.tensor(counts).double().log(), torch.tensor(errors).double().log()
    return -float(((xs - xs.mean()) * (ys - ys.mean())).sum() / (xs - xs.mean()).square().sum())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_run_reaches_the_exact_mean_and_variance(name, kind):
    counts = (160, 320, 640)
    results = [mean_and_variance(kind, name, steps) for steps in counts]
    for mean, _ in results:
        assert mean == pytest.approx(MEAN, abs=1e-12)
    errors = [abs(variance - VARIANCE) for _, variance in results]
    first_order = name in ("euler", "ddim", *STOCHASTIC)
    assert errors[-1] < (0.01 if first_order else 2e-4)
    # dpmpp_2m on flow falls with log(steps) / steps^2: measured 1.73 and 1.60 (shift 3) here, 1.83 and 1.76 at 2560.
    least = 0.85 if first_order else 1.55 if name == "dpmpp_2m" else 1.8
    assert fitted_order(counts, errors) > least


@pytest.mark.parametrize(
    ("name", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 3), ("ddpm", 1)]
)
@pytest.mark.parametrize("kind", ["flow", "variance_preserving"])
def test_order_of_convergence_between_two_levels(name, order, kind):
    """Equal steps of log-SNR from 0.02 to 20; the exact end of the ODE, or the exact variance, is known."""
    objective, counts, errors = objective_of(kind), (32, 64, 128), []
    for steps in counts:
        ratio = torch.logspace(math.log10(50.0), math.log10(0.05), steps + 1, dtype=torch.float64)  # s / a
        sigmas = (ratio / (1 + ratio) if kind == "flow" else ratio).float()
        first, last = float(sigmas[0]), float(sigmas[-1])
        basis = torch.eye(steps + 2, dtype=torch.float64)
        start = objective.signal(first) * MEAN * basis[0] + marginal_deviation(objective, first) * basis[1]
        denoise = exact_denoiser(objective, sigmas, basis[0])
        noise = {"noise_source": lambda x, index, basis=basis: basis[index + 2]}
        end = sample(name, denoise, start, sigmas, objective=objective, **noise)
        errors.append(abs(float(end[1:].norm()) - marginal_deviation(objective, last)))
        assert float(end[0]) == pytest.approx(objective.signal(last) * MEAN, abs=1e-12)
    assert fitted_order(counts, errors) == pytest.approx(order, abs=0.2), errors


@pytest.mark.parametrize("kind", KINDS)
def test_ddpm_draws_have_the_predicted_statistics(kind):
    """Real draws: within 4 standard errors of the exact figures of the test above."""
    objective, steps, count = objective_of(kind), 100, 20_000
    sigmas = whole_run(kind, steps)
    first = float(sigmas[0])
    start = objective.signal(first) * MEAN + marginal_deviation(objective, first) * cpu_noise(3, (count,))
    end = sample(
        "ddpm",
        exact_denoiser(objective, sigmas),
        start,
        sigmas,
        objective=objective,
        noise_source=SeededNoise(3),
    )
    mean, variance = mean_and_variance(kind, "ddpm", steps)
    assert float(end.mean()) == pytest.approx(mean, abs=4 * math.sqrt(variance / count))
    assert float(end.var()) == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / count))
    assert variance == pytest.approx(VARIANCE, rel=0.2)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("objective_name", ["flow", "epsilon", "v"])
def test_from_unit_noise_through_a_network_to_data(name, objective_name):
    """The whole chain: the network sees only its scaled input and its timestep, and answers in its own terms."""
    objective = get_objective(objective_name)
    sigmas = make_sigmas(objective, 100)
    timesteps = objective.timestep(sigmas)

    def denoise(x, index):
        seen, timestep = objective.network_input(x, float(sigmas[index])), float(timesteps[index])
        if objective_name == "flow":
            a, s = 1 - timestep / 1000, timestep / 1000
        else:
            abar = float(objective.schedule.alphas_cumprod[round(timestep)])
            a, s = math.sqrt(abar), math.sqrt(1 - abar)
        x0 = MEAN + a * VARIANCE / (a * a * VARIANCE + s * s) * (seen - a * MEAN)
        noise = (seen - a * x0) / s
        prediction = {"flow": noise - x0, "epsilon": noise, "v": a * noise - s * x0}[objective_name]
        return objective.denoised(x, prediction, float(sigmas[index]))

    noise = cpu_noise(0, (20_000,))
    start = objective.initial((noise - noise.mean()) / noise.std(), float(sigmas[0]))
    end = sample(name, denoise, start, sigmas, objective=objective, noise_source=SeededNoise(0))
    assert float(end.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(end.var()) == pytest.approx(VARIANCE, rel=0.25)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_denoiser_holds_fixed_comes_out_bit_for_bit(name, kind):
    objective, sigmas = objective_of(kind), whole_run(kind, 7)
    known = cpu_noise(1, (1, 2, 3, 4, 4))
    mask = torch.zeros_like(known)
    mask[:, :, :1] = 1

    def denoise(x, index):
        return torch.where(mask.bool(), known, 0.3 * torch.tanh(x))

    start = objective.initial(cpu_noise(2, known.shape), float(sigmas[0]))
    end = sample(ALL[name], denoise, start, sigmas, objective=objective, noise_source=SeededNoise(5))
    assert torch.equal(end[:, :, :1], known[:, :, :1])
    assert end.isfinite().all() and not torch.equal(end[:, :, 1:], known[:, :, 1:])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_from_pure_noise_are_finite_and_one_step_is_the_denoiser(name, steps):
    flow, noise = get_objective("flow"), cpu_noise(0, (2, 4))
    end = sample(
        ALL[name],
        lambda x, index: 0.5 * x,
        noise,
        make_sigmas(flow, steps),
        objective=flow,
        noise_source=SeededNoise(0),
    )
    assert end.isfinite().all()
    if steps == 1:
        assert torch.equal(end, 0.5 * noise)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_run_can_stop_above_zero_and_go_on(name):
    """The first half of split levels leaves its share of noise in the latent, exactly, if x0 is known."""
    flow = get_objective("flow")
    x0, noise = cpu_noise(0, (3, 4)).double(), cpu_noise(1, (3, 4)).double()
    sigmas = make_sigmas(flow, 10)
    middle = sample(name, lambda x, index: x0, noise, sigmas[:6], objective=flow)
    torch.testing.assert_close(middle, flow.add_noise(x0, noise, 0.5), rtol=0, atol=1e-7)
    torch.testing.assert_close(sample(name, lambda x, index: x0, middle, sigmas[5:], objective=flow), x0)


@pytest.mark.parametrize("h", [1e-6, 0.01, 0.0499, 0.0501, 1.0, 8.0])
def test_unipc_moments_are_the_integrals_they_claim_to_be(h):
    """Means of u and u^2 under exp(h * u): also on both sides of the change from series to closed form."""
    u = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    weight = torch.exp(h * u)
    whole = torch.trapezoid(weight, u)
    expected = [float(torch.trapezoid(weight * u**k, u) / whole) for k in (1, 2)]
    assert _moments(h) == pytest.approx(expected, abs=2e-9)


def test_model_calls_and_callback():
    flow = get_objective("flow")
    sigmas = make_sigmas(flow, 5)
    for name in SAMPLERS:
        calls, seen = [], []

        def denoise(x, index, calls=calls):
            calls.append(index)
            return 0.5 * x

        def callback(index, steps, x, x0, seen=seen):
            seen.append((index, steps, x, x0))

        end = sample(
            name,
            denoise,
            cpu_noise(0, (2, 3)),
            sigmas,
            objective=flow,
            noise_source=SeededNoise(0),
            callback=callback,
        )
        assert calls == ([0, 1, 1, 2, 2, 3, 3, 4, 4] if name == "heun" else [0, 1, 2, 3, 4])
        assert [entry[:2] for entry in seen] == [(i, 5) for i in range(5)]
        assert torch.equal(seen[-1][2], end) and torch.equal(seen[-1][3], end)


def test_an_exception_in_the_callback_ends_the_run():
    calls = []

    def stop(index, steps, x, x0):
        if index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flow = get_objective("flow")
        sample(
            "euler",
            lambda x, i: calls.append(i) or x,
            cpu_noise(0, (2,)),
            make_sigmas(flow, 5),
            objective=flow,
            callback=stop,
        )
    assert calls == [0, 1]


def test_half_precision_runs_in_float32_and_the_input_is_left_alone():
    flow, noise = get_objective("flow"), cpu_noise(0, (2, 3)).half()
    before, types = noise.clone(), set()

    def denoise(x, index):
        types.add(x.dtype)
        return (0.5 * x).half()

    end = sample("unipc", denoise, noise, make_sigmas(flow, 4), objective=flow)
    assert end.dtype == torch.float32 and types == {torch.float32} and torch.equal(noise, before)


def test_noise_is_fixed_by_the_seed_alone():
    shape, seed = (2, 4, 3, 8, 8), 2**63 + 5
    state = torch.random.get_rng_state()
    drawn = cpu_noise(7, shape)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        assert torch.equal(torch.randn(shape), drawn)
    source, x = SeededNoise(seed), torch.zeros(shape, dtype=torch.float64)
    steps = [source(x, index) for index in range(3)]
    assert steps[0].dtype == torch.float64 and torch.equal(steps[1], SeededNoise(seed)(x, 1))
    different = [cpu_noise(seed, shape).double(), SeededNoise(seed + 1)(x, 0), *steps]
    different += [cpu_noise(0, shape).double(), SeededNoise(0)(x, 0)]
    flat = torch.stack(different).flatten(1)
    assert (torch.corrcoef(flat) - torch.eye(7)).abs().max() < 0.1
    assert flat.std() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"sampler": "eulr"}, ConfigError, ["'eulr'", "euler, heun, dpmpp_2m, unipc, ddim, ddpm", "mean 'euler'"]),
        ({"sampler": "ddpm"}, SoraDiTError, ["needs a noise source"]),
        ({"sigmas": torch.tensor([0.5, 0.7, 0.0])}, SoraDiTError, ["do not descend"]),
        ({"sigmas": torch.tensor([14.6, 0.7, 0.0])}, SoraDiTError, ["starts at noise level 14.6"]),
        ({"denoise": lambda x, i: x[:1]}, ShapeError, ["[1, 3]", "[2, 3]"]),
    ],
)
def test_mistakes_are_refused_in_words(arguments, error, words):
    flow = get_objective("flow")
    given = {"sampler": "euler", "denoise": lambda x, i: x, "x": cpu_noise(0, (2, 3)), "sigmas": make_sigmas(flow, 3)}
    with pytest.raises(error) as caught:
        sample(**{**given, **arguments}, objective=flow)
    assert all(word in str(caught.value) for word in words), str(caught.value)
