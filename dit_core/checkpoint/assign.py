"""Putting tensors into a module that was built on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .report import LoadReport


def unique_state(module: nn.Module) -> dict[str, Tensor]:
    """`module.state_dict()` with each tied tensor once, under its first name."""
    first: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        first.setdefault(id(tensor), name)
    return {name: tensor.detach() for name, tensor in module.state_dict().items() if name in set(first.values())}


def compare(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> LoadReport:
    """Compare the tensors of a module with those of a file.

    Args:
        shapes: name (without prefix) -> shape, as in the file. A tied tensor may be there under any of its names.
        prefix: put before the names in the report.
    """
    expected = module.state_dict(keep_vars=True)
    held = {id(tensor) for name, tensor in expected.items() if name in shapes}
    matched, wrong = [], []
    for name, tensor in expected.items():
        if name in shapes and tuple(shapes[name]) == tuple(tensor.shape):
            matched.append(prefix + name)
        elif name in shapes:
            wrong.append((prefix + name, tuple(shapes[name]), tuple(tensor.shape)))
    missing = [prefix + name for name, tensor in expected.items() if name not in shapes and id(tensor) not in held]
    unexpected = [prefix + name for name in shapes if name not in expected]
    return LoadReport(tuple(matched), tuple(missing), tuple(unexpected), tuple(wrong))


def assign(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put `tensors` into a module built on the meta device, in place of its own; ties stay ties.

    `compare` must have found nothing missing, unexpected or of wrong shape.
    """
    expected = module.state_dict(keep_vars=True)
    real: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        slot = expected[name]
        is_parameter = isinstance(slot, nn.Parameter)
        real.setdefault(id(slot), nn.Parameter(tensor, tensor.is_floating_point()) if is_parameter else tensor)
    module.load_state_dict({name: real[id(slot)] for name, slot in expected.items()}, strict=True, assign=True)
    _fill_computed_buffers(module, next(iter(tensors.values())).device if tensors else torch.device("cpu"))


# Buffers that are not stored because they can be computed: last part of the name -> from its meta tensor.
_COMPUTED_BUFFERS: dict[str, Callable[[Tensor, torch.device], Tensor]] = {
    "position_ids": lambda like, device: torch.arange(like.shape[-1], device=device).expand(like.shape),
}


def _fill_computed_buffers(module: nn.Module, device: torch.device) -> None:
    for path, owner in module.named_modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if not buffer.is_meta:
                continue
            if name not in _COMPUTED_BUFFERS:
                raise CheckpointError(f"The buffer {path}.{name} is not stored, and this code cannot compute it.")
            setattr(owner, name, _COMPUTED_BUFFERS[name](buffer, device))
