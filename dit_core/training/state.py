"""The state of a training on disk: always whole, and enough to go on as if nothing had happened."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..checkpoint.atomic import reason, whole_file
from ..checkpoint.save import write_tensors
from ..errors import CheckpointError
from .optim import MovingAverage
from .resume import accepts, differences, told


def state_path(folder: str | Path) -> Path:
    """Where a training that works in `folder` keeps its state."""
    return Path(folder) / "state.safetensors"


def saved_position(folder: str | Path) -> dict[str, Any]:
    """The position of the state saved in `folder`, {} if there is none that can be read; reads no tensors."""
    try:
        with safe_open(state_path(folder), "pt") as file:
            return json.loads((file.metadata() or {})["position"])
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError):
        return {}


class Rival:
    """A module that the step function trains itself, against the others, with optimisers of its own.

    The loop leaves it alone but for its learning rates; the state keeps it with the rest.
    """

    def __init__(self, module: nn.Module, optimisers: list[torch.optim.Optimizer]) -> None:
        self.module, self.optimisers = module, optimisers


class TrainingState:
    """Names everything that changes during a training: modules, their averages, optimisers and a JSON dict `position`.

    Random numbers are drawn from generators seeded by the step, so the position is all there is to keep of them.

    watch: what the watch for divergence knows, JSON values; beside the position, which goes into provenances as well.
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
        defaults: dict[str, Any] | None = None,
    ) -> None:
        self.path = state_path(folder)
        self.rivals, self.defaults = rivals or {}, defaults or {}
        self.modules, self.averages, self.optimisers, self.settings = modules, averages, optimisers, settings
        self.position: dict[str, Any] = {"step": 0, "samples": 0, "seconds": 0.0}
        self.watch: dict[str, Any] = {}

    def save(self) -> Path:
        """Write beside, flush to disk, rename: a crash leaves the old file or the new one.

        Raises `CheckpointError` when it cannot be written; the old file is whole then, too.
        """
        tensors: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            tensors |= {f"module.{name}.{k}": v for k, v in module.state_dict().items()}
        for name, average in self.averages.items():
            tensors |= {f"average.{name}.{k}": v for k, v in average.values.items()}
        for name, rival in self.rivals.items():
            tensors |= {f"rival.{name}.{k}": v for k, v in rival.module.state_dict().items()}
        names = self._parameter_names()
        for name, optimiser in self._named_optimisers():
            tensors |= {f"optimiser.{name}.{k}": v for k, v in _optimiser_tensors(optimiser, names).items()}
        tensors = {name: tensor.detach() for name, tensor in tensors.items()}
        groups = {name: [_counters(group) for group in one.param_groups] for name, one in self._named_optimisers()}
        parts = {"position": self.position, "settings": self.settings, "watch": self.watch, "groups": groups}
        metadata = {name: json.dumps(value) for name, value in parts.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path) as temporary:
                write_tensors(temporary, tensors, {name: t.dtype for name, t in tensors.items()}, metadata)
        except OSError as error:
            before, then = (
                ("The state saved before is whole", "goes on from there")
                if self.path.exists()
                else ("There is no state from before", "begins anew")
            )
            raise CheckpointError(
                f"Training state {self.path}: cannot be saved at step {self.position['step']}: {reason(error)}. "
                f"{before}; when that is mended, start the training again: it {then}."
            ) from error
        self._marker().unlink(missing_ok=True)
        return self.path

    def mark_diverged(self, step: int) -> None:
        """Remember that it diverged after the state on disk: that one may go on with a lower learning rate."""
        with suppress(OSError):
            self._marker().write_text(json.dumps({"step": step}), encoding="utf-8")

    def diverged(self) -> bool:
        """Whether the training diverged after the state on disk, and did not come so far again since."""
        return self._marker().exists()

    def _marker(self) -> Path:
        return self.path.with_name("diverged.json")

    def load(self) -> bool:
        """Go on from the file if there is one; the folder must be locked.

        Raises `CheckpointError` when it belongs to another configuration (says what differs) or cannot be read.
        """
        for rest in self.path.parent.glob(f".{self.path.stem}.*.part"):  # of a process killed while it saved
            rest.unlink(missing_ok=True)
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                settings = json.loads(metadata.get("settings", "{}"))
                self._check_settings(settings)
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                now = {name: self.position[name] for name in ("precision",) if name in self.position}
                self.position |= json.loads(metadata["position"]) | now  # it may be another machine
                self.watch = json.loads(metadata.get("watch", "{}"))
                groups = json.loads(metadata.get("groups", "{}"))
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
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
        names = self._parameter_names()
        for name, optimiser in self._named_optimisers():
            self._load_optimiser(optimiser, names, _under(tensors, f"optimiser.{name}."))
            for group, saved in zip(optimiser.param_groups, groups.get(name, ()), strict=False):
                group.update(saved)
        return True

    def all_optimisers(self) -> list[torch.optim.Optimizer]:
        """Those of the modules, which the loop steps, and those of the rivals, which step themselves."""
        return [*self.optimisers, *(optimiser for rival in self.rivals.values() for optimiser in rival.optimisers)]

    def all_modules(self) -> list[nn.Module]:
        """Everything that a step may put into training mode."""
        return [*self.modules.values(), *(rival.module for rival in self.rivals.values())]

    def _named_optimisers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        named = [(str(i), optimiser) for i, optimiser in enumerate(self.optimisers)]
        for name, rival in self.rivals.items():
            named += [(f"{name}.{i}", optimiser) for i, optimiser in enumerate(rival.optimisers)]
        return named

    def _parameter_names(self) -> dict[int, str]:
        """id of each parameter -> its name: an optimiser's state belongs to a name, not to a place in a list."""
        modules = self.modules | {name: rival.module for name, rival in self.rivals.items()}
        return {id(p): f"{name}.{key}" for name, module in modules.items() for key, p in module.named_parameters()}

    def _load_optimiser(
        self, optimiser: torch.optim.Optimizer, names: dict[int, str], tensors: dict[str, Tensor]
    ) -> None:
        by_name: dict[str, dict[str, Tensor]] = {}
        for place, value in tensors.items():
            name, _, key = place.rpartition(":")
            by_name.setdefault(name, {})[key] = value
        ordered = [names[id(p)] for group in optimiser.param_groups for p in group["params"]]
        if not by_name.keys() <= set(ordered):
            raise CheckpointError(
                f"Training state {self.path}: has optimiser state of parameters that this training does not have; "
                "expected one saved by this version. Use another folder to begin anew."
            )
        state = {index: by_name[name] for index, name in enumerate(ordered) if name in by_name}
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        for entry, saved in zip(optimiser.state.values(), state.values(), strict=True):
            # torch gives states the type of their parameter; what was kept in another one goes on in that
            entry |= {k: v.to(entry[k].device) for k, v in saved.items() if v.dtype != torch.as_tensor(entry[k]).dtype}

    def _check_settings(self, saved: dict[str, Any]) -> None:
        differ = differences(saved, self.settings, self.defaults)
        if differ and not (self.diverged() and accepts(differ)):
            raise CheckpointError(
                f"Training state {self.path}: belongs to another training. {told(differ)} "
                "Use the same settings to go on, or another folder to begin anew."
            )


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _counters(group: dict[str, Any]) -> dict[str, Any]:
    """What an optimiser keeps in a group of parameters, such as a count of its steps; the loop sets the rates."""
    kept = {key: value for key, value in group.items() if key not in ("lr", "peak_lr")}
    return {key: value for key, value in kept.items() if type(value) in (int, float)}  # flags are of the device


def _optimiser_tensors(optimiser: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    return {
        f"{names[id(p)]}:{key}": torch.as_tensor(value)
        for p, entry in optimiser.state.items()
        for key, value in entry.items()
    }
