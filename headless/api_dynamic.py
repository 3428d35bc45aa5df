"""Stand-in for `DynamicCombo`, `Autogrow` and `MatchType` of `comfy_api.latest.io`, and how they unfold.

In a prompt the inputs inside a dynamic one have dotted names (`kind.sub`, `things.thing0`); `execute` receives them
nested: `kind={"kind": key, "sub": value}`, `things={"thing0": value}`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .api_types import AnyType, ComfyTypeIO, Input, Output, WidgetInput, bind, input_dict, without_none


class DynamicInput(Input):
    """An input whose parts depend on the prompt."""

    def unfold(self, name: str, live: Mapping[str, Any]) -> list[BoundInput]:
        """The plain inputs that exist, given the prompt's inputs `live`; `name` is the input's own dotted name."""
        raise NotImplementedError


@dataclass(frozen=True)
class BoundInput:
    """A plain input as it stands in a prompt: its dotted name, declaration, and path in execute's arguments."""

    name: str
    input: Input
    path: tuple[str, ...]


def unfold(inputs: Iterable[Input], live: Mapping[str, Any], prefix: str = "") -> list[BoundInput]:
    """All plain inputs of a node whose prompt entry has the inputs `live`."""
    bound: list[BoundInput] = []
    for one in inputs:
        name = prefix + one.id
        if isinstance(one, DynamicInput):
            bound.extend(one.unfold(name, live))
        else:
            bound.append(BoundInput(name, one, tuple(name.split(".")) if prefix else (name,)))
    return bound


def nest(values: Mapping[str, Any], bound: Iterable[BoundInput]) -> dict[str, Any]:
    """Keyword arguments for `execute` from values by dotted name."""
    paths = {one.name: one.path for one in bound}
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = paths.get(name, (name,))
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested


class _DynamicComboInput(DynamicInput):
    def __init__(self, id, options, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
        self.choices = list(options)

    def get_all(self) -> list[Input]:
        return [self] + [one for choice in self.choices for one in choice.inputs]

    def options(self) -> dict[str, Any]:
        return super().options() | {"options": [choice.as_dict() for choice in self.choices]}

    def unfold(self, name: str, live: Mapping[str, Any]) -> list[BoundInput]:
        *parents, last = name.split(".")
        bound = [BoundInput(name, self, (*parents, last, last))]
        for choice in self.choices:
            if choice.key == live.get(name):
                bound.extend(unfold(choice.inputs, live, f"{name}."))
        return bound

    def validate(self) -> None:
        for choice in self.choices:
            for one in choice.inputs:
                one.validate()


@bind("COMFY_DYNAMICCOMBO_V3")
class DynamicCombo(ComfyTypeIO):
    """A list whose choice decides which further inputs there are."""

    class Option:
        """One choice and its inputs."""

        def __init__(self, key: str, inputs: list[Input]):
            self.key = key
            self.inputs = list(inputs)

        def as_dict(self) -> dict[str, Any]:
            """The V1 layout."""
            return {"key": self.key, "inputs": input_dict(self.inputs)}

    Input = _DynamicComboInput


class _Template:
    """What an Autogrow repeats: one input under several names, the first `min` of them required."""

    def __init__(self, input: Input, names: Iterable[str], min: int):
        if isinstance(input, DynamicInput):
            raise ValueError("A dynamic input cannot be repeated by Autogrow.")
        self.input = copy.copy(input)
        if isinstance(self.input, WidgetInput):
            self.input.force_input = True  # as in ComfyUI: repeated inputs are sockets
        self.names = list(names)[:100]
        self.min = min

    def get_all(self) -> list[Input]:
        """One input for every name."""
        inputs = []
        for name in self.names:
            one = copy.copy(self.input)
            one.id = name
            inputs.append(one)
        return inputs


class _TemplatePrefix(_Template):
    def __init__(self, input: Input, prefix: str, min: int = 1, max: int = 10):
        super().__init__(input, [f"{prefix}{index}" for index in range(max)], min)
        self.prefix, self.max = prefix, max

    def as_dict(self) -> dict[str, Any]:
        """The V1 layout."""
        return {"input": input_dict([self.input]), "prefix": self.prefix, "min": self.min, "max": self.max}


class _TemplateNames(_Template):
    def __init__(self, input: Input, names: list[str], min: int = 1):
        super().__init__(input, names, min)

    def as_dict(self) -> dict[str, Any]:
        """The V1 layout."""
        return {"input": input_dict([self.input]), "names": self.names, "min": self.min}


class _AutogrowInput(DynamicInput):
    def __init__(self, id, template, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
        self.template = template

    def get_all(self) -> list[Input]:
        return [self, *self.template.get_all()]

    def options(self) -> dict[str, Any]:
        return super().options() | {"template": self.template.as_dict()}

    def unfold(self, name: str, live: Mapping[str, Any]) -> list[BoundInput]:
        return [one for one in unfold(self.template.get_all(), live, f"{name}.") if one.name in live]


@bind("COMFY_AUTOGROW_V3")
class Autogrow(ComfyTypeIO):
    """As many sockets of one kind as are connected."""

    TemplatePrefix = _TemplatePrefix
    TemplateNames = _TemplateNames
    Input = _AutogrowInput


class _MatchTemplate:
    """Sockets with the same template carry the same type; only the editor checks it."""

    def __init__(self, template_id: str, allowed_types: Any = AnyType):
        self.template_id = template_id
        self.allowed_types = list(allowed_types) if isinstance(allowed_types, (list, tuple)) else [allowed_types]

    def as_dict(self) -> dict[str, Any]:
        """The V1 layout."""
        return {
            "template_id": self.template_id,
            "allowed_types": ",".join(one.io_type for one in self.allowed_types),
        }


class _MatchInput(Input):
    def __init__(
        self, id, template, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None, raw_link=None
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link)
        self.template = template

    def options(self) -> dict[str, Any]:
        return super().options() | without_none({"template": self.template.as_dict()})


class _MatchOutput(Output):
    def __init__(self, template, id=None, display_name=None, tooltip=None, is_output_list=False):
        if not id and not display_name:
            display_name = "MATCHTYPE"
        super().__init__(id, display_name, tooltip, is_output_list)
        self.template = template


@bind("COMFY_MATCHTYPE_V3")
class MatchType(ComfyTypeIO):
    """Whatever type is connected, the same on all sockets of one template."""

    Template = _MatchTemplate
    Input = _MatchInput
    Output = _MatchOutput
