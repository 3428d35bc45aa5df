"""The node pack's registry: which station lives in which file.

Each file is imported by itself. One that cannot be imported is left out and its reason is kept in `failures`; the
others still work.
"""

from __future__ import annotations

import functools
import importlib
import logging
from typing import Any

STATIONS = (
    "load_model",
    "load_lora",
    "text_encode",
    "timestep_conditioning",
    "empty_latent",
    "denoise",
    "decode",
    "encode",
    "assemble_video",
    "save_video",
    "load_video",
    "to_comfy_model",
    "clip_dataset",
    "sky_dataset",
    "dataset_doctor",
    "train_autoencoder",
    "cache_latents",
    "new_model",
    "training_options",
    "train_model",
    "train_lora",
    "training_view",
    "save_model",
)

failures: dict[str, str] = {}
"""Station -> why it could not be loaded; filled by `node_classes`."""

_log = logging.getLogger("sora_dit")


@functools.cache
def _load() -> tuple[type, ...]:
    classes: list[type] = []
    for station in STATIONS:
        try:
            checked = importlib.import_module("._arrivals", __name__).checked
            module = importlib.import_module(f".{station}", __name__)
            for node in module.NODES:
                node.GET_SCHEMA()  # ComfyUI would drop the whole pack for one bad schema
                classes.append(checked(node))
        except Exception as error:  # whatever it is, the other nodes must live
            failures[station] = f"{type(error).__name__}: {error}"
            _log.warning("Sora DiT: the node file %s.py cannot be used (%s).", station, failures[station])
    return tuple(classes)


def node_classes() -> list[type]:
    """All node classes that could be loaded, in the order of a workflow. Imports no torch outside ComfyUI."""
    return list(_load())


def make_extension() -> Any:
    """The extension object that ComfyUI asks `comfy_entrypoint` for."""
    from .host import ComfyExtension

    class SoraDiTExtension(ComfyExtension):
        """Lists our nodes to ComfyUI."""

        async def get_node_list(self) -> list[type]:
            return node_classes()

    return SoraDiTExtension()
