"""The only file that knows whether ComfyUI is present. Every node asks here for its surroundings.

Inside ComfyUI it uses the public `comfy_api.latest`, `folder_paths`, `comfy.model_management` and `comfy.utils`; on a
bare machine the stand-ins in `headless/`. Both sides offer the same functions, so a node file is written once.
Nothing heavy is imported, no device is touched and no folder is made when this module loads.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import logging
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..dit_core.errors import SoraDiTError
from . import _files, _training_files

# ComfyUI imports both before it loads any pack; a package that merely has such a name is not ComfyUI.
in_comfyui: bool = "folder_paths" in sys.modules and "comfy_api.latest" in sys.modules

if in_comfyui:
    from comfy_api.latest import ComfyExtension, InputImpl, Types, io, ui
else:
    from ..headless.comfy_api import ComfyExtension, InputImpl, Types, io, ui

__all__ = ["ComfyExtension", "InputImpl", "OutputTarget", "Progress", "Types", "in_comfyui", "io", "ui"]

log = logging.getLogger("sora_dit")
OutputTarget = _files.OutputTarget

SoraDit = io.Custom("SORA_DIT")
SoraConditioning = io.Custom("SORA_CONDITIONING")
SoraClips = io.Custom("SORA_CLIPS")
SoraLatents = io.Custom("SORA_LATENTS")
SoraTrainingOptions = io.Custom("SORA_TRAINING_OPTIONS")


# --- Schemas: only what the running version knows -----------------------------------------------------------------


def schema(**fields: Any) -> io.Schema:
    """`io.Schema` from those `fields` that this version of ComfyUI has; newer ones (search_aliases) are left out."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**{name: value for name, value in fields.items() if name in known})


def given(kind: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """`kind(*args, **options)` without the options that this version does not know (such as `advanced`)."""
    known = inspect.signature(kind).parameters
    return kind(*args, **{name: value for name, value in options.items() if name in known})


# --- Model files -------------------------------------------------------------------------------------------------


def model_files(kind: str = "model") -> list[str]:
    """Weight files that can be chosen for `kind` ("model", "text_encoder", "vae"); the starter is always first."""
    names = [*_surroundings().model_names(_files.KINDS[kind]), *_files.list_models([_files.STARTER_FOLDER])]
    return list(dict.fromkeys([_files.STARTER, *names]))


def model_path(name: str, kind: str = "model") -> Path:
    """The file called `name`.

    Raises:
        SoraDiTError: there is none; the message says where it was looked for and which names are nearest.
    """
    return _files.find_model(name, _model_roots(kind), allow_absolute=not in_comfyui)


def lora_files() -> list[str]:
    """LoRA files that can be chosen, `.safetensors` only; none come with the pack."""
    return list(dict.fromkeys(_surroundings().model_names(_files.KINDS["lora"])))


def lora_path(name: str) -> Path:
    """The LoRA file called `name`; errors as `model_path`."""
    roots = _surroundings().model_roots(_files.KINDS["lora"])
    return _files.find_model(str(name), roots, allow_absolute=not in_comfyui, what="LoRA")


def _model_roots(kind: str) -> list[Path]:
    """Folders searched for weights, the user's first, the pack's own last."""
    return [*_surroundings().model_roots(_files.KINDS[kind]), _files.STARTER_FOLDER]


# --- Input and output files --------------------------------------------------------------------------------------


def input_files(kind: str = "video") -> list[str]:
    """Names of the files of `kind` ("video", "image", "audio") in the input folder, sorted."""
    return _files.list_media(_surroundings().folder("input"), kind)


def input_path(name: str) -> Path:
    """The file called `name` in the input folder; "name [output]" means the output folder, as in ComfyUI.

    Raises:
        SoraDiTError: there is none, or it lies outside; the message says where it was looked for.
    """
    return _files.find_input(name, _surroundings().folder, allow_absolute=not in_comfyui)


def output_target(prefix: str, width: int, height: int, extension: str) -> OutputTarget:
    """Where to save the next file of this `prefix`: counted as ComfyUI counts (`prefix_00001_.mp4`), folder made.

    Raises:
        SoraDiTError: the prefix leads out of the output folder, or the folder cannot be made.
    """
    return _files.output_target(_surroundings().folder("output"), prefix, width, height, extension)


def check_prefix(prefix: str) -> None:
    """Raise `SoraDiTError` for a prefix that `output_target` would refuse; writes nothing."""
    _files.check_prefix(_surroundings().folder("output"), prefix)


# --- Folders and files of trainings ------------------------------------------------------------------------------


def input_folders() -> list[str]:
    """Names of the folders in the input folder, sorted."""
    return _training_files.list_folders(_surroundings().folder("input"))


def input_folder(name: str) -> Path:
    """The folder called `name` in the input folder. Raises `SoraDiTError` when there is none, or it lies outside."""
    return _training_files.find_folder(name, _surroundings().folder("input"), allow_absolute=not in_comfyui)


def training_folder(name: str) -> Path:
    """Where the training run called `name` keeps its state, log and samples. Raises `SoraDiTError` for no name."""
    return _training_files.run_folder(_surroundings().folder("output"), name)


def training_runs() -> list[str]:
    """Names of the training runs that there are, the newest first."""
    return _training_files.list_runs(_surroundings().folder("output"))


def latents_folder(name: str) -> Path:
    """Where the cached latents called `name` lie. Raises `SoraDiTError` for no name."""
    return _training_files.latents_folder(_surroundings().folder("output"), name)


def model_target(name: str, kind: str = "model") -> Path:
    """The file that a new model ("model") or LoRA ("lora") called `name` is to be written to.

    In the folder of its kind (sora_dit, loras) in the first models folder, or in the output folder if there is none.
    Raises `SoraDiTError` for no name, and for that of the starter, which would hide the pack's own.
    """
    starter = Path(_files.STARTER).stem
    if kind == "model" and str(name or "").strip().removesuffix(".safetensors") == starter:
        raise SoraDiTError(f'"{starter}" is the starter that comes with the pack; expected another name.')
    kind = _files.KINDS[kind][0]
    folder = _surroundings().new_model_root(kind) or _surroundings().folder("output") / "models" / kind
    return _training_files.weights_file(folder, name)


def written(path: Path) -> None:
    """A node has written this file, which it does not show: a headless run names it among what it saved."""
    _surroundings().written(path)


def saved(target: OutputTarget) -> Any:
    """The `ui` value that plays the saved file on the node and lists it in the history."""
    return ui.PreviewVideo([ui.SavedResult(target.path.name, target.subfolder, io.FolderType.output)])


def shown(cls: type, images: Any, text: str) -> dict[str, Any]:
    """The `ui` value that shows pictures [B, H, W, 3] and a text on the running node `cls`."""
    return ui.PreviewImage(images, cls=cls).as_dict() | told(cls, text)


def told(cls: type, text: str) -> dict[str, Any]:
    """The `ui` value that shows a text on the running node `cls`, and as its result in a terminal."""
    _surroundings().status(cls, text)
    return ui.PreviewText(text).as_dict()


# --- Device, progress, cancel, remarks ---------------------------------------------------------------------------


def device(choice: str = "auto"):
    """The torch device for `choice`: "auto" is ComfyUI's own, or the one the headless run was started with."""
    return _surroundings().device(choice)


def dtype(choice: str, on_device: Any):
    """The torch type to compute in on `on_device`; "auto" takes the fastest that is exact enough there."""
    from ..dit_core.device import resolve_dtype

    return resolve_dtype(_surroundings().dtype(choice), on_device)


def result_device():
    """Where images and latents between nodes lie: the CPU, unless ComfyUI was told to keep all on the GPU."""
    return _surroundings().result_device()


def storage_device(place: Any):
    """Where weights that compute on `place` lie while they wait."""
    return _surroundings().storage_device(place)


def manager(place: Any) -> Callable[[str, Any, Any], Any]:
    """What takes care of weights on `place`: (kind of part, module, latent colours) -> object with `load(bytes)`."""
    return _surroundings().manager(place)


def check_native() -> None:
    """Raise `SoraDiTError` where `native_model` has nobody to make models for."""
    _surroundings().check_native()


def native_model(model: Any) -> Any:
    """A SORA_DIT as the MODEL of core's samplers.

    Raises:
        SoraDiTError: there is no ComfyUI, or its inside does not know such models.
    """
    return _surroundings().native_model(model)


def free_memory() -> None:
    """Give unused memory of the graphics card back, after it ran out."""
    _surroundings().free_memory()


def zeros(shape: tuple[int, ...]):
    """A tensor of zeros where results lie."""
    import torch

    return torch.zeros(shape, device=result_device())


def make_room() -> None:
    """Take all weights off the graphics card that others have there: a training needs it for itself."""
    _surroundings().make_room()


class Progress:
    """Progress of one node. `update` also raises when the person pressed cancel."""

    def __init__(self, cls: type, total: int):
        self.total, self.wants_preview = total, _surroundings().previews
        self._report = _surroundings().progress(cls, total)

    def update(self, step: int, preview: Any = None) -> None:
        """`step` of `total` steps are done; `preview` is a picture `[height, width, 3]` uint8 or None."""
        self.show(step, preview)
        check_cancelled()

    def show(self, step: int, preview: Any = None) -> None:
        """As `update`, of something that is done: no matter who pressed cancel."""
        self._report(step, self.total, preview)


def progress(cls: type, total: int) -> Progress:
    """Start reporting `total` steps for the running node `cls`."""
    return Progress(cls, total)


def check_cancelled() -> None:
    """Raise if the person asked to stop."""
    _surroundings().check_cancelled()


def status(cls: type, text: str) -> None:
    """Show on the node how far it is; replaces what was shown before. In a terminal the progress says enough."""
    _surroundings().status(cls, text)


def note(cls: type, text: str) -> None:
    """Show a remark to the user: on the node in the editor, in the terminal otherwise. Not for errors."""
    _surroundings().note(cls, text)


# --- Facts about the run -----------------------------------------------------------------------------------------


def record(cls: type, **facts: Any) -> None:
    """Remember JSON-able facts about the running node for the manifest of the files made from its result."""
    _surroundings().record(cls, facts)


def linked_outputs(cls: type) -> set[int]:
    """Numbers of the running node's outputs that other nodes of the prompt are linked to (hidden: prompt, id)."""
    nodes = [one for one in (cls.hidden.prompt or {}).values() if isinstance(one, dict)] if cls.hidden else []
    values = [value for one in nodes for value in (one.get("inputs") or {}).values()]
    links = [one for one in values if isinstance(one, list) and len(one) == 2 and isinstance(one[1], int)]
    return {slot for node_id, slot in links if node_id == cls.hidden.unique_id}


def manifest(cls: type) -> dict[str, Any]:
    """All recorded facts that led to the running node, with package versions."""
    return _surroundings().manifest(cls)


def run_metadata(cls: type) -> dict[str, str]:
    """Texts for a saved file: `prompt` and `workflow` as ComfyUI writes them, and our manifest under `sora_dit`.

    Empty when ComfyUI was started with --disable-metadata.
    """
    if not _surroundings().metadata_wanted():
        return {}
    values: dict[str, Any] = dict(cls.hidden.extra_pnginfo or {})
    if cls.hidden.prompt is not None:
        values["prompt"] = cls.hidden.prompt
    values["sora_dit"] = manifest(cls)
    return {name: json.dumps(value) for name, value in values.items()}


def video_from_components(images: Any, fps: Fraction, audio: dict[str, Any] | None = None) -> Any:
    """A VIDEO value from frames `[F, H, W, 3]` 0..1, an exact frame rate and optional AUDIO."""
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=fps, audio=audio))


# --- The two kinds of surroundings -------------------------------------------------------------------------------


@functools.cache
def _surroundings() -> Any:
    """Who answers: both classes have the same methods."""
    if in_comfyui:
        from .in_comfyui.surroundings import ComfyUI

        return ComfyUI()
    from ._headless import Headless

    return Headless()
