"""What the network learns to predict, and how a noisy latent is made: flow, epsilon, v.

All three live on one noise axis, ComfyUI's `sigma`, on which a noisy latent is
`x = signal(sigma) * x0 + sigma * noise`. With c = 1 / sqrt(1 + sigma^2):

| objective | signal    | sigma    | network sees | network predicts         | network timestep                   |
| --------- | --------- | -------- | ------------ | ------------------------ | ---------------------------------- |
| flow      | 1 - sigma | 0 .. 1   | x            | noise - x0               | 1000 * sigma                       |
| epsilon   | 1         | 0 .. 157 | c * x        | noise                    | place of log sigma in DDPM's table |
| v         | 1         | 0 .. 157 | c * x        | c * (noise - sigma * x0) | place of log sigma in DDPM's table |

`epsilon` and `v` are the variance-preserving models of DDPM in "variance exploding" scaling: with
`sigma = sqrt((1 - abar) / abar)` the usual `sqrt(abar) * x0 + sqrt(1 - abar) * noise` is `x / sqrt(1 + sigma^2)`.

A `sigma` argument is a float, a tensor [B], a tensor [B, T] (one level per latent frame of x [B, C, T, H, W]), or a
tensor with as many dimensions as x, such as [B, 1, T, 1, 1].

Sources: flow: Liu et al. 2209.03003, Esser et al. 2403.03206; epsilon: Ho et al. 2006.11239; v: Salimans & Ho
2202.00512; the sigma axis: Karras et al. 2206.00364.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..errors import ShapeError
from .schedules import DDPMSchedule, unknown_name

Level = TypeVar("Level", float, Tensor)


def expand_sigma(sigma: float | Tensor, x: Tensor) -> float | Tensor:
    """Make a noise level multiply `x`: float or 0-d as it is, [B] -> [B, 1, ...], [B, T] -> [B, 1, T, 1, 1].

    Tensors are moved to x's device and raised to float32 at least, so that 1 - sigma is not rounded to half precision.
    Raises ShapeError when no reading of the shape fits x.
    """
    if not isinstance(sigma, Tensor):
        return float(sigma)
    shape = tuple(sigma.shape)
    if sigma.ndim == 0:
        view = ()
    elif sigma.ndim == x.ndim:
        view = shape
    elif sigma.ndim == 1:
        view = (shape[0],) + (1,) * (x.ndim - 1)
    elif sigma.ndim == 2 and x.ndim == 5:
        view = (shape[0], 1, shape[1], 1, 1)
    else:
        view = None
    if view is None or any(s not in (1, n) for s, n in zip(view, x.shape[: len(view)], strict=True)):
        raise ShapeError(
            f"A noise level of shape {list(shape)} does not fit a latent of shape {list(x.shape)}; "
            "expected a number, one value per clip [B], one per latent frame [B, T], or the latent's own dimensions."
        )
    return sigma.reshape(view).to(device=x.device, dtype=torch.promote_types(sigma.dtype, torch.float32))


@dataclass(frozen=True)
class Objective(ABC):
    """Common interface of the three objectives; made by `get_objective`. Tensors keep the dtype of the first one."""

    name: ClassVar[str]
    # whether clip and noise lie on a straight line with levels 0..1, which a schedule may shift; else a table says them
    straight: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def make(cls, num_train_timesteps: float, **table: Any) -> Objective:
        """As `get_objective`, for this class."""

    @property
    @abstractmethod
    def sigma_max(self) -> float:
        """The noisiest level of training."""

    @property
    @abstractmethod
    def sigma_min(self) -> float:
        """The cleanest level of training; samplers go on to 0."""

    @property
    @abstractmethod
    def timestep_max(self) -> float:
        """The timestep of the noisiest level, in the network's units; the cleanest is 0."""

    @abstractmethod
    def signal(self, sigma: Level) -> Level:
        """How much of x0 is in x at this level; same type and shape as `sigma`."""

    @abstractmethod
    def timestep(self, sigma: Level) -> Level:
        """Noise level -> network timestep (0..1000), same type and shape as `sigma`; tensors come back as float32."""

    @abstractmethod
    def sigma(self, timestep: Level) -> Level:
        """Network timestep -> noise level, the inverse of `timestep`; tensors come back as float32."""

    @abstractmethod
    def network_input(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The noisy latent in the scaling the network was trained on."""

    @abstractmethod
    def initial(self, noise: Tensor, sigma: float | Tensor) -> Tensor:
        """Where a generation from nothing starts: unit noise in the scale of x at `sigma`, the first level."""

    @abstractmethod
    def target(self, x0: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
        """What the network must predict for this clean latent, this noise and this level."""

    @abstractmethod
    def denoised(self, x: Tensor, prediction: Tensor, sigma: float | Tensor) -> Tensor:
        """The clean latent x0 that the network's prediction at (x, sigma) stands for. Exactly x where sigma is 0."""

    def prediction(self, x: Tensor, denoised: Tensor, sigma: float | Tensor) -> Tensor:
        """The network output that stands for `denoised`; the inverse of `denoised`. sigma must be above 0."""
        noise = self.noise(x, denoised, sigma)
        return self.target(denoised.to(x.dtype), noise, sigma)

    def add_noise(self, x0: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
        """x = signal(sigma) * x0 + sigma * noise; exactly x0 where sigma is 0."""
        level = expand_sigma(sigma, x0)
        return (self.signal(level) * x0 + level * noise).to(x0.dtype)

    def noise(self, x: Tensor, denoised: Tensor, sigma: float | Tensor) -> Tensor:
        """The noise that, added to `denoised` at `sigma`, gives x. sigma must be above 0."""
        level = expand_sigma(sigma, x)
        return ((x - self.signal(level) * denoised) / level).to(x.dtype)


@dataclass(frozen=True)
class Flow(Objective):
    """Rectified flow: a straight line from clean to noise; the network predicts its velocity, noise - x0.

    timestep_scale: network timestep at sigma 1. The schedule's shift is not part of it: see `schedules.flow_shift`.
    """

    name: ClassVar[str] = "flow"
    straight: ClassVar[bool] = True
    timestep_scale: float = 1000.0

    @classmethod
    def make(cls, num_train_timesteps: float = 1000, **table: Any) -> Flow:
        return cls(timestep_scale=float(num_train_timesteps))

    @property
    def sigma_max(self) -> float:
        return 1.0

    @property
    def sigma_min(self) -> float:
        return 0.0

    @property
    def timestep_max(self) -> float:
        return self.timestep_scale

    def signal(self, sigma: Level) -> Level:
        return 1.0 - sigma

    def timestep(self, sigma: Level) -> Level:
        return (sigma.float() if isinstance(sigma, Tensor) else sigma) * self.timestep_scale

    def sigma(self, timestep: Level) -> Level:
        return (timestep.float() if isinstance(timestep, Tensor) else timestep) / self.timestep_scale

    def network_input(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return x

    def initial(self, noise: Tensor, sigma: float | Tensor) -> Tensor:
        return (expand_sigma(sigma, noise) * noise).to(noise.dtype)

    def target(self, x0: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
        return noise - x0

    def denoised(self, x: Tensor, prediction: Tensor, sigma: float | Tensor) -> Tensor:
        return (x - expand_sigma(sigma, x) * prediction.to(x.dtype)).to(x.dtype)


@dataclass(frozen=True)
class VariancePreserving(Objective):
    """What `epsilon` and `v` share: a DDPM training table, with log sigma linear between its entries.

    Levels below the table's first entry (a known frame has sigma 0) get timestep 0, levels above its last the last one.
    """

    schedule: DDPMSchedule = field(default_factory=DDPMSchedule)

    @classmethod
    def make(cls, num_train_timesteps: float = 1000, **table: Any) -> VariancePreserving:
        return cls(schedule=DDPMSchedule(num_train_timesteps=num_train_timesteps, **table))

    @property
    def sigma_max(self) -> float:
        return float(self.schedule.sigmas[-1])

    @property
    def sigma_min(self) -> float:
        return float(self.schedule.sigmas[0])

    @property
    def timestep_max(self) -> float:
        return float(self.schedule.num_train_timesteps - 1)

    def signal(self, sigma: Level) -> Level:
        return torch.ones_like(sigma) if isinstance(sigma, Tensor) else 1.0

    def timestep(self, sigma: Level) -> Level:
        # On the CPU in float64: neighbouring levels differ by half a percent, and some devices have no float64.
        table = self.schedule.sigmas.log()
        log_sigma = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").log().clamp(table[0], table[-1])
        low = (torch.searchsorted(table, log_sigma, right=True) - 1).clamp(0, len(table) - 2)
        timestep = low + (log_sigma - table[low]) / (table[low + 1] - table[low])
        return _like(timestep, sigma)

    def sigma(self, timestep: Level) -> Level:
        table = self.schedule.sigmas.log()
        position = torch.as_tensor(timestep, dtype=torch.float64, device="cpu").clamp(0, len(table) - 1)
        low = position.floor().long().clamp(max=len(table) - 2)
        log_sigma = torch.lerp(table[low], table[low + 1], position - low)
        return _like(log_sigma.exp(), timestep)

    def network_input(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return (x * _cosine(expand_sigma(sigma, x))).to(x.dtype)

    def initial(self, noise: Tensor, sigma: float | Tensor) -> Tensor:
        # sqrt(1 + sigma^2), not sigma: the network's input then has the unit variance it had in training.
        return (noise / _cosine(expand_sigma(sigma, noise))).to(noise.dtype)


@dataclass(frozen=True)
class Epsilon(VariancePreserving):
    """The network predicts the noise."""

    name: ClassVar[str] = "epsilon"

    def target(self, x0: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
        return noise

    def denoised(self, x: Tensor, prediction: Tensor, sigma: float | Tensor) -> Tensor:
        return (x - expand_sigma(sigma, x) * prediction.to(x.dtype)).to(x.dtype)


@dataclass(frozen=True)
class Velocity(VariancePreserving):
    """The network predicts v = sqrt(abar) * noise - sqrt(1 - abar) * x0."""

    name: ClassVar[str] = "v"

    def target(self, x0: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
        level = expand_sigma(sigma, x0)
        return (_cosine(level) * (noise - level * x0)).to(x0.dtype)

    def denoised(self, x: Tensor, prediction: Tensor, sigma: float | Tensor) -> Tensor:
        level = expand_sigma(sigma, x)
        cosine = _cosine(level)
        return (cosine * (cosine * x - level * prediction.to(x.dtype))).to(x.dtype)


OBJECTIVES: dict[str, type[Objective]] = {one.name: one for one in (Flow, Epsilon, Velocity)}


def get_objective(name: str, num_train_timesteps: float = 1000, **table: Any) -> Objective:
    """The objective called `name`: "flow", "epsilon" or "v".

    num_train_timesteps: for flow the timestep at sigma 1; for epsilon and v the length of the DDPM table.
    table: passed to `DDPMSchedule`; flow has no table and does not read it.
    Raises ConfigError for a name or a table that we do not implement.
    """
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES)
    given = {key: value for key, value in table.items() if value is not None}
    return OBJECTIVES[name].make(num_train_timesteps, **given)


def _cosine(sigma: float | Tensor) -> float | Tensor:
    """sqrt(abar) = 1 / sqrt(1 + sigma^2)."""
    return (1.0 + sigma**2) ** -0.5


def _like(value: Tensor, model: float | Tensor) -> float | Tensor:
    """Hand a float64 CPU result back as what was asked with: a float, or a float32 tensor on the same device."""
    return value.to(device=model.device, dtype=torch.float32) if isinstance(model, Tensor) else value.item()
