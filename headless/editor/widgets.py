"""Widget values of a saved node: which value belongs to which input.

`widgets_values` is a plain list over the node's widgets in the order in which the editor made them, including widgets
that are no inputs (seed controls, buttons). Newer editors write `widgets_values_named` beside it; that is preferred.
Some packs save an object by name instead of the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .definitions import (
    AUTOGROW,
    DYNAMIC_COMBO,
    InputSpec,
    NodeDefinition,
    chosen_inputs,
    grown_inputs,
)
from .document import Node, Slot

MISSING: Any = object()

CONTROL_WORDS = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
# Labels that the buttons of a 3-D loader leave in the list before its own value.
_BUTTON_LABELS_3D = frozenset({"upload3dmodel", "uploadExtraResources", "clear"})
_PLAIN = (str, int, float, bool)


@dataclass
class WidgetValues:
    """Values by input name, with the specs they belong to and what had to be assumed."""

    values: dict[str, Any] = field(default_factory=dict)
    specs: dict[str, InputSpec] = field(default_factory=dict)
    defaulted: list[str] = field(default_factory=list)
    unread: int = 0


class _ByPosition:
    """Takes values off `widgets_values` in slot order."""

    def __init__(self, values: list[Any]):
        self._values = values
        self._next = 0

    def take(self, _name: str) -> Any:
        if self._next >= len(self._values):
            return MISSING
        self._next += 1
        return self._values[self._next - 1]

    def _peek(self) -> Any:
        return self._values[self._next] if self._next < len(self._values) else MISSING

    def skip_before(self, spec: InputSpec) -> None:
        if spec.widget_type == "LOAD_3D":
            while isinstance(self._peek(), str) and self._peek() in _BUTTON_LABELS_3D:
                self.take("button")

    def skip_after(self, spec: InputSpec) -> None:
        remote = spec.options.get("remote")
        if isinstance(remote, Mapping):  # an auto-refresh switch and perhaps a button
            if isinstance(self._peek(), bool):
                self.take("auto refresh")
            if remote.get("refresh_button") and self._peek() == "refresh":
                self.take("refresh")
        if spec.widget_type == "AUDIO_RECORD":
            self.take("button")
        if spec.has_control:
            self._skip_control(spec)

    def _skip_control(self, spec: InputSpec) -> None:
        # A number here cannot be a control (old files have true or false): it was saved before the input had one.
        control = self._peek()
        if isinstance(control, (list, Mapping, int, float)) and not isinstance(control, bool):
            return
        if spec.widget_type == "COMBO":
            if control not in CONTROL_WORDS:
                return
            self.take("control")
            if isinstance(self._peek(), str):
                self.take("filter")
            return
        self.take("control")


class _ByName:
    """Takes values from an object by name; there is nothing to skip."""

    def __init__(self, values: Mapping[str, Any]):
        self._values = values

    def take(self, name: str) -> Any:
        return self._values.get(name, MISSING)

    def skip_before(self, spec: InputSpec) -> None: ...

    def skip_after(self, spec: InputSpec) -> None: ...


def widget_values(node: Node, definition: NodeDefinition) -> WidgetValues:
    """Values of a node whose definition is known.

    A widget for which the file has no value (it was added to the node after the file was saved) gets the default, as
    in the editor, and is listed in `defaulted`. Values beyond the known widgets are ignored, as in the editor; for a
    node that saves by name, plain ones that no input declares are kept (packs use them for changing sets of widgets).
    """
    result = WidgetValues()
    present = [slot.name for slot in node.inputs]
    if node.by_name is not None:
        source: _ByPosition | _ByName = _ByName(node.by_name)
    else:
        source = _ByPosition(_without_forced_sockets(definition, list(node.values or [])))
    for spec, value in _assign(definition.inputs, source, present):
        if value is MISSING:
            value = spec.default()
            result.defaulted.append(spec.name)
        result.specs[spec.name] = spec
        result.values[spec.name] = _as_widget_shows(spec, value, definition)
    if node.named is None and isinstance(node.values, dict):
        declared = {spec.name for spec in definition.inputs}
        for name, value in node.values.items():
            if name not in declared and name not in result.values and isinstance(value, _PLAIN):
                result.values[name] = value
    return result


def _assign(
    specs: Iterable[InputSpec], source: _ByPosition | _ByName, present: list[str]
) -> Iterator[tuple[InputSpec, Any]]:
    """Every widget in slot order with its value; grown rows beyond the least come last, as the editor adds them."""
    late: list[InputSpec] = []
    for spec in specs:
        if spec.type == AUTOGROW:
            rows = [row for row in grown_inputs(spec, present) if row.is_widget]
            yield from _assign([row for row in rows if not row.optional], source, present)
            late += [row for row in rows if row.optional]
        elif spec.is_widget:
            source.skip_before(spec)
            value = source.take(spec.name)
            yield spec, value
            if spec.widget_type == DYNAMIC_COMBO:
                yield from _assign(chosen_inputs(spec, spec.default() if value is MISSING else value), source, present)
            source.skip_after(spec)
    if late:
        yield from _assign(late, source, present)


def _without_forced_sockets(definition: NodeDefinition, values: list[Any]) -> list[Any]:
    """Drop the slots that older editors kept for inputs declared with forceInput.

    The file does not say so; the editor (and this) recognises it by the exact number of values.
    """
    if not any(spec.forced_socket for spec in definition.inputs):
        return values
    keep: list[bool] = []
    for spec in definition.inputs:
        if spec.is_widget or spec.forced_socket:
            keep += [not spec.forced_socket] * (2 if spec.has_control or spec.name in ("seed", "noise_seed") else 1)
    if definition.upload is not None:
        keep.append(True)
    if len(keep) != len(values):
        return values
    return [value for value, kept in zip(values, keep, strict=True) if kept]


def _as_widget_shows(spec: InputSpec, value: Any, definition: NodeDefinition) -> Any:
    """What the widget makes of a loaded value: a text area without one is empty, a media combo gives a file path."""
    if spec.widget_type == "STRING" and spec.options.get("multiline") and value is None:
        return ""
    if spec.media_upload and spec is definition.upload:
        return _media_path(value, str(spec.options.get("image_folder") or "input"))
    return value


def _media_path(value: Any, folder: str) -> Any:
    """A file choice as one text: objects {filename, subfolder, type} become "subfolder/filename [type]"."""
    if isinstance(value, Mapping) and isinstance(value.get("filename"), str):
        subfolder, folder = value.get("subfolder"), str(value.get("type") or "input")
        value = f"{subfolder}/{value['filename']}" if subfolder else value["filename"]
    if isinstance(value, str) and value and folder != "input":
        marks = ("[input]", "[output]", "[temp]")
        return value if any(mark in value.lower() for mark in marks) else f"{value} [{folder}]"
    return value


def known_by_file(node: Node) -> WidgetValues:
    """Values of a node without a definition, as far as the file itself names them.

    By name they are all known. By position only when the node lists every widget as an input (files that were saved
    without dropping unlinked ones), so that counting them (a control word may follow a number) uses up the list.
    `unread` is the number of values that could not be named.
    """
    result = WidgetValues()
    if node.by_name is not None:
        for name, value in node.by_name.items():
            if not _is_helper_widget(name, value):
                result.values[name] = value
        return result
    values = list(node.values or [])
    widgets = [slot for slot in node.inputs if slot.widget]
    assigned = _match_counted(widgets, values)
    if assigned is None:
        result.unread = len(values)
    else:
        result.values = assigned
    return result


def _match_counted(widgets: list[Slot], values: list[Any]) -> dict[str, Any] | None:
    assigned: dict[str, Any] = {}
    position = 0
    for slot in widgets:
        if position >= len(values):
            return None
        assigned[slot.widget or slot.name] = values[position]
        position += 1
        following = values[position] if position < len(values) else None
        if slot.type == "INT" and isinstance(following, str) and following in CONTROL_WORDS:
            position += 1
    return assigned if position == len(values) else None


def _is_helper_widget(name: str, value: Any) -> bool:
    """Seed controls, list filters, upload buttons and preview panes are widgets but no inputs."""
    if "control_after_generate" in name or "control_filter_list" in name:
        return True
    return (name == "upload" and value in ("image", "")) or isinstance(value, Mapping) or value is None
