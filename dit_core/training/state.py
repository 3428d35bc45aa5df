"""The state of a training on disk: always whole, and enough to go on as if nothing had happened."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError
from .optim import MovingAverage


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimiser.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(value) for index, entry in state.items() for key, value in entry.items()}


def state_path(folder: str | Path) -> Path:
    """Where a training that works in `folder` keeps its state."""
    return Path(folder) / "state.safetensors"


class Rival:
    """A module that the step function trains itself, against the others, with optimisers of its own.

    The loop leaves it alone but for its learning rates; the state keeps it with the rest.
    """

    def __init__(self, module: nn.Module, optimisers: list[torch.optim.Optimizer]) -> None:
        self.module, self.optimisers = module, optimisers


class TrainingState:
    """Names everything that changes during a training: modules, their averages, optimisers and a JSON dict `position`.

    Random numbers are drawn from generators seeded by the step, so the position is all there is to keep of them.

    rivals: see `Rival`. defaults: for settings that are dicts, what their keys meant before there were such keys; a
        state from then goes on under them.
    """

    def __init__(
        self,
        folder: str | Path,
        modules: dict[str, nn.Module],
        averages: dict[str, MovingAverage],
        optimisers: list[torch.optim.Optimizer],
        settings: dict[str, Any],
        rivals: dict[str, Rival] | None = None,
        defaults: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.path = state_path(folder)
        self.rivals, self.defaults = rivals or {}, defaults or {}
        self.modules, self.averages, self.optimisers, self.settings = modules, averages, optimisers, settings
        self.position: dict[str, Any] = {"step": 0, "samples": 0, "seconds": 0.0}

    def save(self) -> Path:
        """Write beside, flush to disk, rename: a crash leaves the old file or the new one."""
        tensors: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            tensors |= {f"module.{name}.{k}": v for k, v in module.state_dict().items()}
        for name, average in self.averages.items():
            tensors |= {f"average.{name}.{k}": v for k, v in average.values.items()}
        for name, rival in self.rivals.items():
            tensors |= {f"rival.{name}.{k}": v for k, v in rival.module.state_dict().items()}
        for name, optimiser in self._named_optimisers():
            tensors |= {f"optimiser.{name}.{k}": v for k, v in _optimiser_tensors(optimiser).items()}
        tensors = _on_cpu(tensors)
        metadata = {"position": json.dumps(self.position), "settings": json.dumps(self.settings)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        try:
            save_file(tensors, temporary, metadata)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)
        return self.path

    def load(self) -> bool:
        """Go on from the file if there is one. Raises `CheckpointError` when it belongs to another configuration."""
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                settings = json.loads(metadata.get("settings", "{}"))
                self._check_settings(settings)
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CheckpointError(
                f"Training state {self.path}: cannot be read ({error}); expected a whole safetensors "
                "file. Remove it to start anew."
            ) from error
        for name, module in self.modules.items():
            module.load_state_dict(_under(tensors, f"module.{name}."))
        for name, average in self.averages.items():
            for key, value in _under(tensors, f"average.{name}.").items():
                average.values[key].copy_(value)
        for name, rival in self.rivals.items():
            rival.module.load_state_dict(_under(tensors, f"rival.{name}."))
        for name, optimiser in self._named_optimisers():
            _load_optimiser(optimiser, _under(tensors, f"optimiser.{name}."))
        self.position = json.loads(metadata["position"])
        return True

    def all_optimisers(self) -> list[torch.optim.Optimizer]:
        """Those of the modules, which the loop steps, and those of the rivals, which step themselves."""
        return [*self.optimisers, *(optimiser for rival in self.rivals.values() for optimiser in rival.optimisers)]

    def _named_optimisers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        named = [(str(i), optimiser) for i, optimiser in enumerate(self.optimisers)]
        for name, rival in self.rivals.items():
            named += [(f"{name}.{i}", optimiser) for i, optimiser in enumerate(rival.optimisers)]
        return named

    def _check_settings(self, saved: dict[str, Any]) -> None:
        now = json.loads(json.dumps(self.settings))
        defaults = json.loads(json.dumps(self.defaults))
        saved = {k: defaults.get(k, {}) | v if isinstance(v, dict) else v for k, v in saved.items()}
        differ = [
            f"{k} was {saved.get(k)!r}, is {now.get(k)!r}"
            for k in sorted(set(saved) | set(now))
            if saved.get(k) != now.get(k)
        ]
        if differ:
            raise CheckpointError(
                f"Training state {self.path}: belongs to another training ({'; '.join(differ)}). "
                "Use the same settings, or another folder."
            )


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU; a tensor that goes by two names (tied weights) is copied twice, as the format asks."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        alias = tensor.data_ptr() in seen
        seen.add(tensor.data_ptr())
        tensor = tensor.detach().to("cpu").contiguous()
        out[name] = tensor.clone() if alias else tensor
    return out


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    whole = optimiser.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
