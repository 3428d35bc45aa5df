"""Noise schedules: the tables epsilon and v models are trained on, and the levels a sampler walks down.

`make_sigmas` knows these schedules ("training time" is sigma for flow and the timestep for epsilon and v):

| schedule    | for        | levels                                                                                    |
| ----------- | ---------- | ----------------------------------------------------------------------------------------- |
| auto        | all        | uniform                                                                                   |
| uniform     | all        | equal steps of training time from its end to 0; of a table, whole timesteps with the last |
|             |            | one included ("simple" in ComfyUI, "trailing" in diffusers)                               |
| cosine      | all        | equal steps of the angle atan(sigma / signal): finest where signal and noise are equal    |
| beta        | all        | quantiles of Beta(0.6, 0.6) over training time: finer at both ends                        |
| linspace    | epsilon, v | equal steps from the last timestep to timestep 0, then sigma 0 ("normal" in ComfyUI)      |
| karras      | epsilon, v | equal steps of sigma^(1/7), then sigma 0: fine at low noise                               |
| exponential | epsilon, v | equal steps of log sigma, then sigma 0                                                    |

With flow, `shift` then moves the levels towards noise (above 1) or towards the clean side (below 1).

Sources: linear: Ho et al. 2006.11239; cosine table: Nichol & Dhariwal 2102.09672; scaled_linear: Rombach et al.
2112.10752; shift and the cosine map: Esser et al. 2403.03206; beta: Lee et al. 2407.12173; karras: Karras et al.
2206.00364; trailing timesteps: Lin et al. 2305.08891.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError, SoraDiTError

if TYPE_CHECKING:
    from .objectives import Objective

Level = TypeVar("Level", float, Tensor)

# First and last beta of each table, where the table has them: DDPM's, and Stable Diffusion's.
_BETA_ENDS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "cosine": None}
BETA_SCHEDULES = tuple(_BETA_ENDS)


@dataclass(frozen=True)
class DDPMSchedule:
    """The noise table of a variance-preserving model: beta_t, abar_t and sigma_t for t = 0 .. num_train_timesteps - 1.

    beta_schedule: "linear" (betas in equal steps), "scaled_linear" (their square roots in equal steps) or "cosine"
    (abar follows a squared cosine; betas capped at 0.999).
    beta_start, beta_end: first and last beta; None means 1e-4 and 0.02 (linear), 0.00085 and 0.012 (scaled_linear).
    The cosine table has no such ends and refuses them. The betas are not rescaled with the table's length.
    Raises ConfigError for values outside these.
    """

    num_train_timesteps: int = 1000
    beta_schedule: str = "linear"
    beta_start: float | None = None
    beta_end: float | None = None

    def __post_init__(self) -> None:
        if self.beta_schedule not in _BETA_ENDS:
            raise unknown_name("beta schedule", self.beta_schedule, BETA_SCHEDULES)
        if not isinstance(self.num_train_timesteps, int) or self.num_train_timesteps < 2:
            raise ConfigError(
                f"A noise table of {self.num_train_timesteps!r} training timesteps is not possible; "
                "expected a whole number of at least 2."
            )
        ends = _BETA_ENDS[self.beta_schedule]
        if ends is None and (self.beta_start is not None or self.beta_end is not None):
            raise ConfigError("The cosine noise table takes no beta_start or beta_end; leave them out.")
        if ends is not None and not 0.0 < self._ends[0] <= self._ends[1] < 1.0:
            raise ConfigError(
                f"beta_start {self._ends[0]} and beta_end {self._ends[1]} do not make a noise table; "
                "expected 0 < beta_start <= beta_end < 1."
            )

    @property
    def _ends(self) -> tuple[float, float]:
        start, end = _BETA_ENDS[self.beta_schedule]
        return (start if self.beta_start is None else self.beta_start, end if self.beta_end is None else self.beta_end)

    @cached_property
    def betas(self) -> Tensor:
        """beta_t, float64 [N]."""
        count = self.num_train_timesteps
        if self.beta_schedule == "cosine":
            time = torch.arange(count + 1, dtype=torch.float64) / count
            abar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
            return (1.0 - abar[1:] / abar[:-1]).clamp(max=0.999)
        start, end = self._ends
        if self.beta_schedule == "linear":
            return torch.linspace(start, end, count, dtype=torch.float64)
        return torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """abar_t = prod over s <= t of (1 - beta_s), float64 [N], falling."""
        return torch.cumprod(1.0 - self.betas, dim=0)

    @cached_property
    def sigmas(self) -> Tensor:
        """sigma_t = sqrt((1 - abar_t) / abar_t), float64 [N], rising."""
        return ((1.0 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ConfigError:
    """The error for a name we do not know: lists the known ones and the one meant, if any is near."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return ConfigError(f"There is no {kind} '{name}'; expected one of {', '.join(known)}.{hint}")


def flow_shift(sigma: Level, shift: float) -> Level:
    """shift * sigma / (1 + (shift - 1) * sigma): multiplies the noise-to-signal ratio sigma / (1 - sigma) by `shift`.

    Maps 0 to 0 and 1 to 1; `flow_shift(., 1 / shift)` is the inverse. Raises SoraDiTError unless shift > 0.
    """
    if not (math.isfinite(shift) and shift > 0):
        raise SoraDiTError(f"A flow shift of {shift} is not possible; expected a number above 0 (1 changes nothing).")
    return shift * sigma / (1.0 + (shift - 1.0) * sigma)


def make_sigmas(
    objective: Objective, steps: int, schedule: str = "auto", shift: float = 1.0, denoise: float = 1.0
) -> Tensor:
    """The noise levels of a run: float32 [steps + 1] on the CPU, strictly descending, the last one 0.

    schedule: a name in SCHEDULES (table at the top of this file). shift: see `flow_shift`; for flow only.
    denoise: below 1, the last `steps` steps of a schedule of int(steps / denoise) steps, as in ComfyUI, so that a given
    latent is changed only in part.
    Raises SoraDiTError for steps < 1, shift <= 0, denoise outside (0, 1], more steps than a table has timesteps, or a
    schedule or shift that does not go with the objective; ConfigError for an unknown schedule.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise SoraDiTError(f"{steps} denoising steps are not possible; expected a whole number of at least 1.")
    if not 0.0 < denoise <= 1.0:
        raise SoraDiTError(f"A denoise of {denoise} is not possible; expected a number above 0 and at most 1.")
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)
    if objective.straight and schedule in _TABLE_ONLY:
        usable = [name for name in SCHEDULES if name not in _TABLE_ONLY]
        raise SoraDiTError(
            f"The schedule '{schedule}' is made for epsilon and v models, this model was trained with flow; "
            f"expected one of {', '.join(usable)}."
        )
    flow_shift(0.0, shift)  # refuses an impossible shift
    if not objective.straight and shift != 1.0:
        raise SoraDiTError(
            f"A shift of {shift} goes with flow models only, this model was trained with {objective.name}; expected 1."
        )
    total = int(steps / denoise)
    levels = _SCHEDULES[schedule](objective, total)
    if objective.straight:
        levels = flow_shift(levels, shift)
    sigmas = torch.cat([levels.double(), torch.zeros(1, dtype=torch.float64)])[-(steps + 1) :].float()
    try:
        return check_sigmas(sigmas, objective)
    except SoraDiTError:
        raise SoraDiTError(
            f"The schedule '{schedule}' with shift {shift} cannot be cut into {total} different levels"
            f"{'' if total == steps else f' ({steps} steps at denoise {denoise})'}; expected fewer steps."
        ) from None


def check_sigmas(sigmas: Tensor, objective: Objective | None = None) -> Tensor:
    """Read noise levels from outside: a 1-D tensor or list of at least two numbers, each below the one before.

    Returns float32 (float64 stays) on the CPU. The last level may be above 0 (a run that another one finishes).
    With an `objective` the first level is also checked against what the model knows: flow ends at 1.
    Raises ShapeError for the wrong shape, SoraDiTError for values that are not finite, negative, or do not descend.
    """
    levels = torch.as_tensor(sigmas, device="cpu")
    levels = levels.to(torch.promote_types(levels.dtype, torch.float32))
    if levels.ndim != 1 or len(levels) < 2:
        raise ShapeError(
            f"Noise levels of shape {list(levels.shape)} are not a schedule; expected one dimension and "
            "at least two values, one more than there are steps."
        )
    values = levels.tolist()
    bad = next((i for i, value in enumerate(values) if not math.isfinite(value) or value < 0), None)
    if bad is not None:
        raise SoraDiTError(f"Noise level {bad} of the schedule is {values[bad]:g}; expected a number of at least 0.")
    bad = next((i for i in range(1, len(values)) if values[i] >= values[i - 1]), None)
    if bad is not None:
        raise SoraDiTError(
            f"The noise levels of the schedule do not descend: level {bad} is {values[bad]:g} after "
            f"{values[bad - 1]:g}; expected each level to be below the one before."
        )
    if objective is not None and objective.straight and values[0] > 1.0:
        raise SoraDiTError(
            f"The schedule starts at noise level {values[0]:g}, but a flow model knows levels from 0 to 1; "
            "expected a schedule made for flow."
        )
    return levels


# Each of these returns `steps` descending levels, float64, without the final 0.


def _uniform(objective: Objective, steps: int) -> Tensor:
    fraction = 1.0 - torch.arange(steps, dtype=torch.float64) / steps
    if objective.straight:
        return fraction
    # Whole timesteps, as in training. Beyond one step per timestep they repeat, which make_sigmas reports.
    timesteps = ((objective.timestep_max + 1.0) * fraction).round() - 1.0
    return objective.sigma(timesteps.clamp(min=0.0))


def _linspace(objective: Objective, steps: int) -> Tensor:
    return objective.sigma(torch.linspace(objective.timestep_max, 0.0, steps, dtype=torch.float64))


def _cosine_map(objective: Objective, steps: int) -> Tensor:
    first = objective.sigma_max
    angle = math.atan2(first, objective.signal(first)) * (1.0 - torch.arange(steps, dtype=torch.float64) / steps)
    if objective.straight:
        return angle.sin() / (angle.sin() + angle.cos())
    return angle.tan()


def _beta(objective: Objective, steps: int) -> Tensor:
    fraction = _beta_quantile(1.0 - torch.arange(steps, dtype=torch.float64) / steps)
    return objective.sigma(fraction * objective.timestep_max).double()


def _karras(objective: Objective, steps: int) -> Tensor:
    first, last = objective.sigma_max ** (1 / 7), objective.sigma_min ** (1 / 7)
    return torch.linspace(first, last, steps, dtype=torch.float64) ** 7


def _exponential(objective: Objective, steps: int) -> Tensor:
    first, last = math.log(objective.sigma_max), math.log(objective.sigma_min)
    return torch.linspace(first, last, steps, dtype=torch.float64).exp()


_SCHEDULES: dict[str, Callable[[Objective, int], Tensor]] = {
    "auto": _uniform,
    "uniform": _uniform,
    "linspace": _linspace,
    "cosine": _cosine_map,
    "beta": _beta,
    "karras": _karras,
    "exponential": _exponential,
}
_TABLE_ONLY = ("linspace", "karras", "exponential")
SCHEDULES = tuple(_SCHEDULES)


@lru_cache(maxsize=1)
def _beta_table(points: int = 200_001, shape: float = 0.6) -> tuple[Tensor, Tensor]:
    """Cumulative distribution of Beta(shape, shape) on a grid of angles: (value, probability), float64.

    With value = sin(angle)^2 the density's two poles become 2 * (sin * cos)^(2 * shape - 1), which a plain midpoint sum
    integrates well: it saves a dependency on scipy for one function.
    """
    angle = torch.linspace(0.0, math.pi / 2, points, dtype=torch.float64)
    middle = (angle[1:] + angle[:-1]) / 2
    mass = torch.cumsum((middle.sin() * middle.cos()) ** (2 * shape - 1), dim=0)
    return angle.sin() ** 2, torch.cat([torch.zeros(1, dtype=torch.float64), mass / mass[-1]])


def _beta_quantile(probability: Tensor) -> Tensor:
    value, cumulative = _beta_table()
    low = (torch.searchsorted(cumulative, probability, right=True) - 1).clamp(0, len(value) - 2)
    weight = (probability - cumulative[low]) / (cumulative[low + 1] - cumulative[low])
    return torch.lerp(value[low], value[low + 1], weight)
