"""Weights under ComfyUI's memory management."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import comfy.model_management
import comfy.model_patcher
from torch import nn

log = logging.getLogger("sora_dit")

# Two patchers of one module would move its weights behind each other's back. A patcher keeps its module alive, so an id
# in here cannot have been given to another module.
_of_module: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class Managed:
    """Weights that ComfyUI moves to the device and away again as memory allows.

    patcher: ComfyUI's handle of them. native: whether core samplers can run that patcher as a MODEL; if not, `reason`
    says why.
    """

    def __init__(self, patcher: Any, native: bool = False, reason: str = "") -> None:
        self.patcher, self.native, self.reason = patcher, native, reason

    def load(self, memory: int = 0) -> None:
        """Bring the weights to the device, with `memory` bytes left free for working."""
        # What core's samplers can run, it can also load in part. Other modules compute where their weights lie.
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory, force_full_load=not self.native)

    def clone(self) -> Managed:
        """A handle on the same weights that can take LoRAs and hooks of its own."""
        return Managed(self.patcher.clone(), self.native, self.reason)

    def rest(self) -> None:
        """Take the weights back to where they wait, without the LoRAs of core nodes that may be merged into them."""
        self.patcher.detach()


class Holder(nn.Module):
    """A module inside another: ComfyUI writes attributes such as `device` that the inner one may not allow."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module


def storage_device(place: Any) -> Any:
    """Where weights that compute on `place` wait: the CPU, unless ComfyUI was told to keep all on the GPU."""
    return place if place.type == "cpu" else comfy.model_management.unet_offload_device()


def manage(module: nn.Module, place: Any) -> Managed:
    """Hand a text encoder or an autoencoder to ComfyUI's memory management."""
    patcher = _of_module.get(id(module))
    if patcher is None:
        patcher = comfy.model_patcher.ModelPatcher(Holder(module), place, storage_device(place))
        _of_module[id(module)] = patcher
    return Managed(patcher)


def manage_transformer(module: nn.Module, place: Any, colours: Any) -> Managed:
    """Hand a transformer over, as a MODEL that core's samplers can run.

    colours: of the latent channels, for previews (`AutoencoderConfig.latent_rgb`), or None.
    """
    patcher = _of_module.get(id(module))
    if patcher is not None:
        return Managed(patcher, native=not isinstance(patcher.model, Holder))
    try:
        from .model import native_patcher

        patcher = native_patcher(module, place, storage_device(place), colours)
    except Exception as error:  # the inside of ComfyUI has changed: our own nodes must still work
        reason = f"{type(error).__name__}: {error}"
        log.warning("Sora DiT: models cannot be handed to core samplers in this ComfyUI (%s).", reason)
        return Managed(manage(module, place).patcher, reason=reason)
    _of_module[id(module)] = patcher
    return Managed(patcher, native=True)
