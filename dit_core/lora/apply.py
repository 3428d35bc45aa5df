"""Merging a LoRA into a model's weights: in place and back again, or as a second model that shares what is the same."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ShapeError, SoraDiTError
from ..transformer import VideoDiT
from .config import patterns_of
from .file import LayerChange, Lora
from .header import KOHYA, shortened
from .layers import linear_layers


@dataclass(frozen=True)
class LoraReport:
    """What a LoRA met in a model.

    Attributes:
        matched: layers of the model that were changed.
        unmatched: layers in the file that the model does not have; they are left out.
        made_for: the model that the file says it was made for, in words.
    """

    matched: tuple[str, ...]
    unmatched: tuple[str, ...]
    made_for: str

    def remark(self) -> str | None:
        """A sentence if some layers did not match, else None."""
        if not self.unmatched:
            return None
        total = len(self.matched) + len(self.unmatched)
        return (
            f"Of the {total} layers of this LoRA, {len(self.unmatched)} are not in this model and were left out "
            f"({shortened(self.unmatched)}). It was made for {self.made_for}."
        )


class AppliedLora:
    """A LoRA that is in a model's weights. report: what matched. `remove` takes it out, exactly."""

    def __init__(self, model: nn.Module, originals: dict[str, Tensor], report: LoraReport) -> None:
        self.report, self._originals, self._model = report, originals, weakref.ref(model)

    def remove(self) -> None:
        """Put the original weights back, bit for bit where the model kept its type; twice does nothing more.

        Raises:
            SoraDiTError: another LoRA was applied after this one; it must come out first.
        """
        model = self._model()
        if not self._originals or model is None:
            return
        stack = _applied[model]
        if stack[-1] is not self:
            raise SoraDiTError("Another LoRA was applied after this one; remove that one first.")
        layers = linear_layers(model)
        for name, original in self._originals.items():
            weight = layers[name].weight
            weight.data = original.to(weight)  # the model may have moved, and changed its type, meanwhile
        stack.pop()
        self._originals = {}


_applied: weakref.WeakKeyDictionary[nn.Module, list[AppliedLora]] = weakref.WeakKeyDictionary()


@torch.no_grad()
def merged_weights(model: nn.Module, lora: Lora, strength: float) -> tuple[dict[str, Tensor], LoraReport]:
    """The weights that a LoRA changes, changed: W + strength * alpha / rank * B A; the model is left alone.

    Worked out in float32 where the weights lie, then rounded to their type.

    Returns: name of the layer -> its new weight [out, in]; what matched.
    Raises:
        CheckpointError: nothing matches, or a name could mean two layers.
        ShapeError: a matrix of the LoRA is for one of another shape; layer, got and expected are named.
    """
    linears = linear_layers(model)
    found, unmatched = _match(lora.layers, linears)
    report = LoraReport(tuple(found), tuple(unmatched), lora.header.made_for)
    if not found:
        raise CheckpointError(
            f"{lora.header.raw.path}: none of its {len(lora.layers)} layers is in this model. The LoRA was made for "
            f"{report.made_for}; its layers are called {shortened(patterns_of(unmatched))}, the model's "
            f"{shortened(patterns_of(linears), 20)}."
        )
    for name, change in found.items():
        expected = tuple(linears[name].weight.shape)
        if change.shape != expected:
            raise ShapeError(
                f"{lora.header.raw.path}, layer {name}: the LoRA is for a matrix {list(change.shape)} (outputs, "
                f"inputs), the model's is {list(expected)}. The LoRA was made for {report.made_for}."
            )
    return {name: _merge(linears[name].weight, change, strength) for name, change in found.items()}, report


def _merge(weight: Tensor, change: LayerChange, strength: float) -> Tensor:
    return (weight.float() + change.product(strength, weight.device)).to(weight.dtype)


def _match(names: dict[str, LayerChange], linears: Iterable[str]) -> tuple[dict[str, LayerChange], list[str]]:
    """Layers of the model -> change, in the model's order; and the names that mean no layer."""
    by_kohya: dict[str, list[str]] = {}
    for name in linears:
        by_kohya.setdefault(KOHYA + name.replace(".", "_"), []).append(name)
    found, unmatched = {}, []
    for written, change in names.items():
        meant = by_kohya.get(written, []) if written.startswith(KOHYA) else [n for n in linears if n == written]
        if len(meant) > 1:
            raise CheckpointError(f'The LoRA is ambiguous: "{written}" could mean {" or ".join(meant)} of this model.')
        if meant and meant[0] in found:
            raise CheckpointError(f"The LoRA is ambiguous: it holds the layer {meant[0]} twice, under two names.")
        if meant:
            found[meant[0]] = change
        else:
            unmatched.append(written)
    return {name: found[name] for name in linears if name in found}, unmatched


@torch.no_grad()
def apply_lora(model: nn.Module, lora: Lora, strength: float = 1.0) -> AppliedLora:
    """Merge a LoRA into the weights of `model` itself. Several stack; they come out in reverse order.

    The originals of the changed layers are kept, so that taking it out is exact. Errors as `merged_weights`; then
    nothing is changed.
    """
    merged, report = merged_weights(model, lora, strength)
    layers, originals = linear_layers(model), {}
    for name, weight in merged.items():
        originals[name] = layers[name].weight.data
        layers[name].weight.data = weight
    applied = AppliedLora(model, originals, report)
    _applied.setdefault(model, []).append(applied)
    return applied


def with_lora(model: VideoDiT, lora: Lora, strength: float = 1.0) -> tuple[VideoDiT, LoraReport]:
    """A second model with a LoRA merged in, in eval mode; `model` is left alone. Errors as `merged_weights`.

    Weights that are the same are shared: the two have parameters of their own over one memory, so either can be moved
    to another device, but training one in place would change the other.
    """
    merged, report = merged_weights(model, lora, strength)
    changed = {f"{name}.weight": weight for name, weight in merged.items()}
    with torch.device("meta"):
        other = VideoDiT(model.config)
    state = {name: _parameter(changed.get(name, tensor)) for name, tensor in model.state_dict().items()}
    other.load_state_dict(state, strict=True, assign=True)
    return other.eval(), report


def _parameter(tensor: Tensor) -> nn.Parameter:
    # ComfyUI moves weights in inference mode; what comes out of that takes no gradient
    return nn.Parameter(tensor.detach(), requires_grad=not tensor.is_inference())
