"""Node definitions as `/object_info` gives them, read the way the editor builds a node from one.

What matters here: which declared inputs become widgets (and so hold a slot in `widgets_values`), in which order, and
which are sockets. Dynamic inputs: a dynamic combo brings the inputs of its chosen option (`combo.sub`), an autogrow
input brings numbered ones (`group.item0`), a match-type input has the type that its template allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
AUTOGROW = "COMFY_AUTOGROW_V3"
MATCH_TYPE = "COMFY_MATCHTYPE_V3"

# Input types for which the editor (1.35.9 to 1.58.1) makes a widget.
WIDGET_TYPES = frozenset(
    "INT FLOAT BOOLEAN STRING COMBO MARKDOWN TEXTAREA COLOR COLORS IMAGECOMPARE CHART GALLERIA CURVE RANGE "
    "BOUNDING_BOX BOUNDING_BOXES PAINTER COMPOSITOR VIDEO_EDIT RESOLUTION_PREVIEW LIGHT_INFO_PREVIEW "
    "COMFY_BRANCH_INPUT_NAMES CAMERA_INFO_STATE CAMERA_ANGLE_VIEW WEBCAM AUDIO_RECORD AUDIO_UI AUDIOUPLOAD "
    "IMAGEUPLOAD LOAD_3D LOAD_3D_ANIMATION LOAD_3D_ADVANCED PREVIEW_3D PREVIEW_3D_ANIMATION".split()
) | {DYNAMIC_COMBO}

# Types of the node table that were renamed; the editor renames them when it opens a file.
RENAMED_TYPES = {
    "T2IAdapterLoader": "ControlNetLoader",
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
    "Load3DAnimation": "Load3D",
    "Preview3DAnimation": "Preview3D",
}


@dataclass(frozen=True)
class InputSpec:
    """One declared input. `choices` is set for a combo; `optional` as declared."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    choices: tuple[Any, ...] | None = None
    optional: bool = False

    @property
    def widget_type(self) -> str:
        """The type that decides on the widget."""
        return str(self.options.get("widgetType") or self.type)

    @property
    def forced_socket(self) -> bool:
        """Declared with forceInput: a socket although its type has a widget."""
        return bool(self.options.get("forceInput"))

    @property
    def is_widget(self) -> bool:
        """Whether the editor makes a widget for this input."""
        return not self.forced_socket and self.widget_type in WIDGET_TYPES

    @property
    def has_control(self) -> bool:
        """Whether a control widget (fixed, increment, ...) follows this one in `widgets_values`."""
        flag = self.options.get("control_after_generate")
        if flag is None:
            return self.widget_type == "INT" and self.name in ("seed", "noise_seed")
        return bool(flag) and self.widget_type in ("INT", "FLOAT", "COMBO")

    @property
    def media_upload(self) -> bool:
        """A combo of files with an upload button for images or videos."""
        flags = ("image_upload", "video_upload", "animated_image_upload")
        return self.type == "COMBO" and any(self.options.get(flag) is True for flag in flags)

    def default(self) -> Any:
        """The value that the editor gives a new widget of this kind."""
        if self.widget_type == "COMBO":
            return self.options.get("default") or (self.choices[0] if self.choices else None)
        if self.widget_type == DYNAMIC_COMBO:
            return next((option.get("key") for option in dynamic_options(self)), None)
        fallbacks = {"INT": 0, "FLOAT": 0, "BOOLEAN": False, "STRING": "", "MARKDOWN": "", "TEXTAREA": ""}
        value = self.options.get("default")
        return fallbacks.get(self.widget_type) if value is None else value


@dataclass(frozen=True)
class NodeDefinition:
    """One node class: its inputs in the editor's order and its output types."""

    name: str
    display_name: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]

    @property
    def upload(self) -> InputSpec | None:
        """The combo that the editor gives an upload button: the first required one that accepts media."""
        return next((spec for spec in self.inputs if spec.media_upload and not spec.optional), None)


class Definitions:
    """Look-up of node definitions by type in an `/object_info` dictionary; each is read once."""

    def __init__(self, object_info: Mapping[str, Any]):
        self._info = object_info
        self._read: dict[str, NodeDefinition] = {}

    def current_type(self, node_type: str) -> str:
        """The present name of a node type that was renamed."""
        renamed = RENAMED_TYPES.get(node_type)
        return renamed if renamed in self._info and node_type not in self._info else node_type

    def get(self, node_type: str) -> NodeDefinition | None:
        """The definition, or None for a type that `/object_info` does not have."""
        if node_type not in self._read:
            info = self._info.get(node_type)
            if not isinstance(info, Mapping):
                return None
            self._read[node_type] = _read_definition(node_type, info)
        return self._read[node_type]


def _read_definition(name: str, info: Mapping[str, Any]) -> NodeDefinition:
    sections, order = _mapping(info.get("input")), _mapping(info.get("input_order"))
    inputs: list[InputSpec] = []
    for section in ("required", "optional"):
        declared = _mapping(sections.get(section))
        ordered = order.get(section)
        names = [n for n in ordered if n in declared] if isinstance(ordered, (list, tuple)) else []
        names += [n for n in declared if n not in names]
        inputs += [read_spec(n, declared[n], section == "optional") for n in names]
    outputs = info.get("output")
    return NodeDefinition(
        name=name,
        display_name=str(info.get("display_name") or name),
        inputs=tuple(inputs),
        outputs=tuple(_type_name(t) for t in outputs) if isinstance(outputs, (list, tuple)) else (),
    )


def read_spec(name: str, raw: Any, optional: bool) -> InputSpec:
    """One entry of `/object_info`'s input tables: [type or list of choices, options]."""
    parts = list(raw) if isinstance(raw, (list, tuple)) and raw else ["*"]
    options = _mapping(parts[1]) if len(parts) > 1 else {}
    choices = parts[0] if isinstance(parts[0], (list, tuple)) else options.get("options")
    kind = _type_name(parts[0])
    if kind == MATCH_TYPE:
        kind = str(_mapping(options.get("template")).get("allowed_types") or "*")
        options = {**options, "matched": True}
    combo = kind == "COMBO" and isinstance(choices, (list, tuple))
    return InputSpec(name, kind, options, tuple(choices) if combo else None, optional)


def dynamic_options(spec: InputSpec) -> list[Mapping[str, Any]]:
    """The options of a dynamic combo: mappings with `key` and `inputs`."""
    options = spec.options.get("options")
    return [o for o in options if isinstance(o, Mapping)] if isinstance(options, (list, tuple)) else []


def chosen_inputs(spec: InputSpec, key: Any) -> list[InputSpec]:
    """Inputs that the option `key` of a dynamic combo brings, named `combo.sub`."""
    for option in dynamic_options(spec):
        if option.get("key") == key:
            return list(_table(_mapping(option.get("inputs")), f"{spec.name}."))
    return []


def grown_inputs(spec: InputSpec, present: Iterable[str]) -> list[InputSpec]:
    """Inputs of an autogrow group: the least number of rows, and those of further rows that the saved node has."""
    template = _mapping(spec.options.get("template"))
    items = list(_table(_mapping(template.get("input")), ""))
    labels, prefix, least = template.get("names"), str(template.get("prefix") or ""), template.get("min", 1)
    least = least if isinstance(least, int) else 1
    wanted = {name for name in present if name.startswith(f"{spec.name}.")}
    if isinstance(labels, list):
        rows = len(labels)
    else:
        ends = (re.search(r"\d{1,4}$", name) for name in wanted)
        rows = max([least, *(int(end.group()) + 1 for end in ends if end)])
    grown = []
    for row in range(rows):
        for item in items:
            label = labels[row] if isinstance(labels, list) else f"{prefix if len(items) == 1 else item.name}{row}"
            name = f"{spec.name}.{label}"
            if row < least or name in wanted:
                grown.append(replace(item, name=name, optional=item.optional or row >= least))
    return grown


def _table(sections: Mapping[str, Any], prefix: str) -> Iterator[InputSpec]:
    for section in ("required", "optional"):
        for name, raw in _mapping(sections.get(section)).items():
            yield read_spec(f"{prefix}{name}", raw, section == "optional")


def _type_name(raw: Any) -> str:
    if isinstance(raw, (list, tuple)):
        return "COMBO"
    return "*" if raw is None or raw == "" else str(raw)


def _mapping(raw: Any) -> Mapping[str, Any]:
    return raw if isinstance(raw, Mapping) else {}
