"""Optimisers, learning-rate schedule and the moving average of weights."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..device import training_dtype
from ..errors import ConfigError

Named = list[tuple[str, nn.Parameter]]
SCHEDULES = ("wsd", "cosine", "constant")


def orthogonalise(matrices: Tensor, steps: int = 5, dtype: torch.dtype | None = None) -> Tensor:
    """Replace each matrix of a batch [N, rows, columns] by (nearly) its nearest orthogonal one.

    Newton-Schulz iteration with Muon's quintic coefficients (Jordan et al. 2024): singular values end up near 1, for
    which bfloat16 is enough where it is fast. dtype: of the products, None = that of the matrices.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(dtype or matrices.dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, for the weight matrices inside a network (Jordan et al. 2024).

    Matrices of one shape are updated as a batch. A group may name `split`, the number of equal matrices stacked in
    its parameters along the rows (a fused q, k, v has 3). Convolutions count as [out, everything else].
    The update is scaled by 0.2 * sqrt(max(rows, columns)), so that learning rates of AdamW carry over (Moonlight,
    arXiv:2502.16982). dtype: of the products that orthogonalise.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, split=1))
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update from the gradients."""
        for group in self.param_groups:
            by_shape: dict[tuple, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                self._step_shape(group, shape, params)

    def _step_shape(self, group: dict, shape: tuple, params: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        grads, buffers = [p.grad for p in params], [self.state[p]["momentum"] for p in params]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        nesterov = torch.stack(torch._foreach_lerp(grads, buffers, group["momentum"]))
        rows, columns = shape[0] // group["split"], math.prod(shape[1:])
        update = orthogonalise(nesterov.reshape(-1, rows, columns), dtype=self.dtype).reshape(len(params), *shape)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        scale = 0.2 * math.sqrt(max(rows, columns))
        torch._foreach_add_(params, list(update.unbind(0)), alpha=-group["lr"] * scale)


# Their rows are not interchangeable features: embeddings, first and last projections, modulation.
_OUTER = (
    "patch_in",
    "final",
    "modulation",
    "timestep",
    "pooled",
    "shared",
    "embed",
    "table",
    "relative_attention",
    "conv_in",
    "conv_out",
    "door",
    "exit",
)


# Added to what there is, like biases: pulling them to zero pulls the model's gates and offsets away.
_ADDED = ("table", "relative_attention")


def _adamw(named: Named, lr: float, weight_decay: float, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    groups: dict[bool, list] = defaultdict(list)
    for name, p in named:
        groups[p.ndim >= 2 and not any(added in name for added in _ADDED)].append(p)
    return [
        torch.optim.AdamW(
            [dict(params=ps, weight_decay=weight_decay if decay else 0.0) for decay, ps in groups.items()],
            lr=lr,
            betas=(0.9, 0.98),
            eps=1e-8,
            fused=any(p.is_cuda for _, p in named),
        )
    ]


def _muon(named: Named, lr: float, weight_decay: float, dtype: torch.dtype) -> list[torch.optim.Optimizer]:
    """Muon for weights with two axes or more inside a network, AdamW for the rest."""
    inner: dict[int, list] = defaultdict(list)
    rest: Named = []
    for name, p in named:
        if p.ndim >= 2 and min(p.shape[0], p[0].numel()) > 8 and not any(outer in name for outer in _OUTER):
            inner[3 if ".qkv." in name else 2 if ".kv." in name else 1].append(p)
        else:
            rest.append((name, p))
    optimisers = _adamw(rest, lr, weight_decay, dtype) if rest else []
    if inner:
        groups = [dict(params=ps, split=split) for split, ps in inner.items()]
        optimisers.append(Muon(groups, lr=lr, weight_decay=weight_decay, dtype=dtype))
    return optimisers


# name -> (named parameters, rate, weight decay, type of the training's products) -> optimisers
OPTIMISERS: dict[str, Callable[[Named, float, float, torch.dtype], list[torch.optim.Optimizer]]] = {
    "muon": _muon,
    "adamw": _adamw,
}


def make_optimisers(
    modules: dict[str, nn.Module], kind: str, lr: float, weight_decay: float, precision: str = "auto"
) -> list[torch.optim.Optimizer]:
    """The optimisers that `OPTIMISERS` makes for all parameters that learn.

    precision: of the training, see `training_dtype`. Raises `ConfigError` for another kind.
    """
    if kind not in OPTIMISERS:
        raise ConfigError(f"The training has optimiser = {kind!r}; allowed is {' or '.join(OPTIMISERS)}.")
    named = [pair for module in modules.values() for pair in module.named_parameters() if pair[1].requires_grad]
    device = named[0][1].device if named else "cpu"
    return OPTIMISERS[kind](named, lr, weight_decay, training_dtype(precision, device))


def learning_rate(
    step: int, total: int, warmup: int, decay: float, floor: float = 0.02, schedule: str = "wsd"
) -> float:
    """Factor on the peak rate: linear warm-up, then by `schedule`, down to `floor` at `total`.

    wsd: constant, then `1 - sqrt` decay over the last share `decay` (warm-up, stable, decay, arXiv:2405.18392): a
    stopped run can go on without knowing its end in advance. cosine: half a cosine from the warm-up's end (SGDR,
    arXiv:1608.03983). constant: no fall.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    start = warmup if schedule == "cosine" else total * (1 - decay)
    if step < start:
        return 1.0
    way = min(1.0, (step - start) / max(1.0, total - start))
    if schedule == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * way))
    return max(floor, 1 - math.sqrt(way))


def set_learning_rate(optimisers: list, factor: float) -> None:
    """Set every group to `factor` times the rate that it was made with."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("peak_lr", group["lr"]) * factor


class MovingAverage:
    """Exponential moving average of a module's parameters (EMA), kept in float32 beside it."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = dict(module.named_parameters())
        self.values = {name: p.detach().clone() for name, p in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the present weights; early steps count more, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), [p.detach() for p in self.live.values()], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averaged and present weights; call again to undo. Nothing is copied, so that it cannot run out of
        memory halfway and leave a mixture."""
        for name, p in self.live.items():
            p.data, self.values[name] = self.values[name], p.data
