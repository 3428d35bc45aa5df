"""Trainable low-rank weights beside the frozen ones of a model: forward hooks, so that the model stays what it was."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ..errors import SoraDiTError
from .config import LoraConfig, chosen_layers


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Name -> layer, of every linear layer of a model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


class LoraLayer(nn.Module):
    """x [..., in] -> alpha / rank * B A x [..., out], with A [rank, in] at random and B [out, rank] zero at the start.

    The weights are float32 whatever the type of the frozen ones: an optimiser's small steps get lost in 16 bits.
    """

    def __init__(self, linear: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        place = {"device": linear.weight.device, "dtype": torch.float32}
        # without nn.Linear's own start, which would take numbers from torch's generator
        self.lora_A = skip_init(nn.Linear, linear.in_features, config.rank, bias=False, **place)
        self.lora_B = skip_init(nn.Linear, config.rank, linear.out_features, bias=False, **place)
        self.scale, self.dropout = config.scale, config.dropout
        with torch.no_grad():  # of the same size as that start (uniform, Kaiming with a = sqrt 5)
            bound = 1 / math.sqrt(linear.in_features)
            start = torch.rand(self.lora_A.weight.shape, generator=generator) * (2 * bound) - bound
            self.lora_A.weight.copy_(start)
            self.lora_B.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """The change of the layer's output, in float32 (or in the type of an autocast)."""
        x = F.dropout(x.to(self.lora_A.weight.dtype), self.dropout, self.training)
        return self.lora_B(self.lora_A(x)) * self.scale


class LoraLayers(nn.Module):
    """All low-rank layers of a model, named after the layers they change (`blocks.0.attention.qkv.lora_A.weight`).

    It owns no base weight: its parameters are what an optimiser moves, its `state_dict` what a training keeps.
    While it is there the model computes with the change and its own weights are frozen; `remove` undoes both.
    """

    def __init__(self, model: nn.Module, config: LoraConfig, seed: int = 0) -> None:
        super().__init__()
        if model in _attached:
            raise SoraDiTError("This model already has LoRA layers; remove them before adding others.")
        self.config = config
        linears = linear_layers(model)
        generator = torch.Generator().manual_seed(seed)
        self._layers: dict[str, LoraLayer] = {}
        for name in chosen_layers(linears, config.targets):
            self._layers[name] = LoraLayer(linears[name], config, generator)
            self._place(name, self._layers[name])
        self._hooks = [linears[name].register_forward_hook(_hook(layer)) for name, layer in self._layers.items()]
        self._base = weakref.ref(model)
        self._frozen = [p for p in model.parameters() if p.requires_grad]
        model.requires_grad_(False)
        _attached.add(model)

    def _place(self, name: str, layer: LoraLayer) -> None:
        """Make `layer` a submodule under its dotted name."""
        *way, last = name.split(".")
        home: nn.Module = self
        for part in way:
            if part not in home._modules:
                home.add_module(part, nn.Module())
            home = home.get_submodule(part)
        home.add_module(last, layer)

    def items(self) -> Iterator[tuple[str, LoraLayer]]:
        """Each layer with the name of the layer that it changes."""
        return iter(self._layers.items())

    def __len__(self) -> int:
        return len(self._layers)

    def remove(self) -> None:
        """Give the base model back as it was, bit for bit; the low-rank weights stay here. Twice does nothing more."""
        for hook in self._hooks:
            hook.remove()
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        if (model := self._base()) is not None and self._hooks:
            _attached.discard(model)
        self._hooks, self._frozen = [], []


def add_lora(model: nn.Module, config: LoraConfig, seed: int = 0) -> LoraLayers:
    """Put trainable low-rank weights beside the layers of `model` that `config.targets` choose, and freeze the model.

    The model keeps its class, its weights and the names in its `state_dict`; until B moves away from zero it computes
    exactly what it did. `seed`: of the random start of A.

    Raises:
        ConfigError: a target matches no layer.
        SoraDiTError: the model has LoRA layers already.
    """
    return LoraLayers(model, config, seed)


_attached: weakref.WeakSet = weakref.WeakSet()


def _hook(layer: LoraLayer):
    def add_change(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out + layer(args[0]).to(out.dtype)

    return add_change
