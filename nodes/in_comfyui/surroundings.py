"""What host.py asks of its surroundings, inside ComfyUI."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import _files

log = logging.getLogger("sora_dit")


class ComfyUI:
    """Inside ComfyUI. Its modules are looked up at each call: they are public, and tests of others may replace them."""

    def model_roots(self, kinds: tuple[str, ...]) -> list[Path]:
        import folder_paths

        # Does nothing when it is there; extra_model_paths.yaml may have added other folders of our kind.
        folder_paths.add_model_folder_path(_files.OWN_KIND, str(Path(folder_paths.models_dir) / _files.OWN_KIND))
        return [Path(folder) for kind in kinds for folder in folder_paths.get_folder_paths(kind)]

    def new_model_root(self, kind: str) -> Path | None:
        return next(iter(self.model_roots((kind,))), None)

    def model_names(self, kinds: tuple[str, ...]) -> list[str]:
        import folder_paths

        self.model_roots(kinds)
        names = (name.replace("\\", "/") for kind in kinds for name in folder_paths.get_filename_list(kind))  # cached
        return [name for name in names if name.endswith(".safetensors")]

    def folder(self, kind: str) -> Path:
        import folder_paths

        return Path(folder_paths.get_directory_by_type(kind))

    def device(self, choice: str):
        if choice == "auto":
            import comfy.model_management

            return comfy.model_management.get_torch_device()
        from ...dit_core.device import resolve_device

        return resolve_device(choice)

    def dtype(self, choice: str) -> str:
        return choice

    def result_device(self):
        import comfy.model_management

        return comfy.model_management.intermediate_device()

    def storage_device(self, place: Any):
        from . import memory

        return memory.storage_device(place)

    def manager(self, place: Any) -> Callable[[str, Any, Any], Any]:
        from . import memory

        def manage(kind: str, module: Any, colours: Any) -> Any:
            if kind == "model":
                return memory.manage_transformer(module, place, colours)
            return memory.manage(module, place)

        return manage

    def check_native(self) -> None:
        """Here it is at home."""

    def native_model(self, model: Any) -> Any:
        if not getattr(model.weights, "native", False):
            from ...dit_core.errors import SoraDiTError

            reason = getattr(model.weights, "reason", "")
            raise SoraDiTError(f"This version of ComfyUI cannot take our models into its samplers ({reason}).")
        return model.weights.patcher.clone()

    def free_memory(self) -> None:
        import comfy.model_management

        comfy.model_management.soft_empty_cache()

    def make_room(self) -> None:
        import comfy.model_management

        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()

    @property
    def previews(self) -> bool:
        args = getattr(sys.modules.get("comfy.cli_args"), "args", None)
        method = getattr(args, "preview_method", None)  # a request may have set it for its run
        return getattr(method, "value", "none") != "none"

    def progress(self, cls: type, total: int) -> Callable[[int, int, Any], None]:
        import comfy.utils

        bar = comfy.utils.ProgressBar(total)

        def report(step: int, of: int, preview: Any) -> None:
            from PIL import Image

            seen = None if preview is None else ("JPEG", Image.fromarray(preview.numpy()), 512)
            bar.update_absolute(step, of, seen)

        return report

    def check_cancelled(self) -> None:
        import comfy.model_management

        comfy.model_management.throw_exception_if_processing_interrupted()

    def note(self, cls: type, text: str) -> None:
        log.info("%s: %s", cls.__name__.removesuffix("Clone"), text)
        self.status(cls, text)

    def written(self, path: Path) -> None:
        """ComfyUI's history holds what a node shows; weights are not shown."""

    def status(self, cls: type, text: str) -> None:
        server = getattr(sys.modules.get("server"), "PromptServer", None)
        instance = getattr(server, "instance", None)  # there is none when ComfyUI runs without its server
        if instance is not None and cls.hidden.unique_id is not None:
            instance.send_progress_text(text, cls.hidden.unique_id)

    def record(self, cls: type, facts: dict[str, Any]) -> None:
        from .. import _manifest

        _manifest.remember(cls.hidden.prompt, cls.hidden.unique_id, facts)

    def manifest(self, cls: type) -> dict[str, Any]:
        from .. import _manifest

        return _manifest.collect(cls.hidden.prompt, cls.hidden.unique_id)

    def metadata_wanted(self) -> bool:
        args = getattr(sys.modules.get("comfy.cli_args"), "args", None)
        return not getattr(args, "disable_metadata", False)
