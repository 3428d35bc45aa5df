"""What host.py asks of its surroundings, on a bare machine: the current `headless.session.Session` answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import _files


class Headless:
    """A bare machine."""

    @property
    def session(self):
        from ..headless import session

        return session.current()

    def model_roots(self, kinds: tuple[str, ...]) -> list[Path]:
        made_here = Path(self.session.output_dir) / "models"  # see `host.model_target`
        found = [made_here] if os.path.isdir(made_here) else []  # False, too, for a name that no folder can have
        return _files.roots_in([*self.session.models_dirs, *found], kinds)

    def new_model_root(self, kind: str) -> Path | None:
        return next((Path(folder) / kind for folder in self.session.models_dirs), None)

    def model_names(self, kinds: tuple[str, ...]) -> list[str]:
        return _files.list_models(self.model_roots(kinds))

    def folder(self, kind: str) -> Path:
        return Path(self.session.input_dir if kind == "input" else self.session.output_dir)

    def device(self, choice: str):
        from ..dit_core.device import resolve_device

        return resolve_device(self.session.device if choice == "auto" else choice)

    def dtype(self, choice: str) -> str:
        return self.session.dtype if choice == "auto" else choice

    def result_device(self):
        import torch

        return torch.device("cpu")

    def storage_device(self, place: Any):
        return place

    def manager(self, place: Any) -> Callable[[str, Any, Any], Any]:
        from .handles import RESIDENT

        return lambda kind, module, colours: RESIDENT

    def check_native(self) -> None:
        from ..dit_core.errors import SoraDiTError

        raise SoraDiTError(
            "Core samplers run inside ComfyUI only. Without it, use Timestep Conditioning and Denoise (Sora DiT)."
        )

    def native_model(self, model: Any) -> Any:
        self.check_native()

    previews = False

    def free_memory(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def make_room(self) -> None:
        self.free_memory()

    def written(self, path: Path) -> None:
        self.session.written.append(path)

    def status(self, cls: type, text: str) -> None:
        """The progress line of the terminal has room for no more."""

    def progress(self, cls: type, total: int) -> Callable[[int, int, Any], None]:
        return self.session.step

    def check_cancelled(self) -> None:
        self.session.check_cancelled()

    def note(self, cls: type, text: str) -> None:
        self.session.note(text)

    def record(self, cls: type, facts: dict[str, Any]) -> None:
        self.session.record(**facts)

    def manifest(self, cls: type) -> dict[str, Any]:
        return self.session.full_manifest()

    def metadata_wanted(self) -> bool:
        return True
