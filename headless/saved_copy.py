"""Changing values in the editor's copy of a workflow, so that a saved video opens in ComfyUI with what really ran.

ComfyUI opens the `workflow` of a saved file before its `prompt`. A copy that cannot be made to say what ran is
therefore left out, and the user is told.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .graph import title_of
from .registry import Registry
from .values import unwrap
from .workflow import Workflow

if TYPE_CHECKING:
    from .settings import Setting

Json = dict[str, Any]
_MISSING: Any = object()


def change_editor_copy(workflow: Workflow, registry: Registry, made: list[Setting]) -> None:
    """Write settings into `workflow.editor` and the metadata; call it before the prompt itself is changed.

    Where the copy cannot hold one of them, it leaves the metadata and `workflow.notes` says why.
    """
    extra = workflow.extra_pnginfo or {}
    if not made or "workflow" not in extra:
        return
    made = list({(one.node_id, one.input): one for one in made}.values())  # of one input set twice, the last counts
    changed, lost = (None, made[0]) if workflow.editor is None else _followed(workflow, registry, made)
    workflow.editor = changed
    workflow.extra_pnginfo = {name: value for name, value in extra.items() if name != "workflow"}
    if changed is not None:
        workflow.extra_pnginfo["workflow"] = changed
        return
    node = workflow.prompt[lost.node_id]
    class_type = node.get("class_type")
    title = title_of(lost.node_id, node, registry.schema(class_type) if class_type in registry else None)
    workflow.notes.append(
        f"The new value of {lost.input} of {title} (node {lost.node_id}) cannot be written into the editor's workflow: "
        "saved files get only the prompt that ran, which ComfyUI opens as well."
    )


def _followed(workflow: Workflow, registry: Registry, made: list[Setting]) -> tuple[Json | None, Setting]:
    """The copy with all settings, or None and the setting that it cannot hold."""
    task = _Task(workflow.prompt, _with_settings(workflow.prompt, made), registry.object_info())
    start = editor = workflow.editor
    for setting in made:
        editor = _changed(editor, setting, task)
        if editor is None:
            return None, setting
    before, after = task.converted(start), task.converted(editor)
    for setting in made:
        # What comes and goes with the choice of a dynamic input was left open until now.
        wrong = any(
            not task.as_wanted(setting.node_id, name, before, after) for name in after[setting.node_id]["inputs"]
        )
        if wrong or not task.stays(after, setting):
            return None, setting
    return editor, made[-1]


def _with_settings(prompt: Json, made: list[Setting]) -> Json:
    wanted = dict(prompt)
    for one in made:
        node = wanted[one.node_id]
        wanted[one.node_id] = {**node, "inputs": {**node.get("inputs", {}), one.input: one.value}}
    return wanted


@dataclass(frozen=True)
class _Task:
    """The prompt before the settings and as it shall be, and what is needed to see whether a copy says so."""

    prompt: Json
    wanted: Json
    info: Json

    def converted(self, editor: Json) -> Json | None:
        """The prompt that the copy gives; None for one that gives none."""
        from .editor import to_api

        try:
            return to_api(editor, self.info)
        except Exception:  # a value in a wrong place may break the conversion; then it is not the place
            return None

    def as_wanted(self, node_id: str, name: str, before: Json, after: Json) -> bool:
        """Whether an input is as it was, or as it shall be."""
        value = _value(after, node_id, name)
        return value in (_value(before, node_id, name), _value(self.wanted, node_id, name))

    def fits(self, before: Json | None, after: Json | None, setting: Setting) -> bool:
        """Whether the step from one conversion to another makes this setting and spoils nothing."""
        if before is None or after is None or before.keys() != after.keys() or setting.node_id not in after:
            return False
        if after[setting.node_id]["class_type"] != self.wanted[setting.node_id].get("class_type"):
            return False
        if not _same(_value(after, setting.node_id, setting.input), setting.value):
            return False
        return all(
            self.as_wanted(node_id, name, before, after)
            for node_id, node in after.items()
            for name in {**node["inputs"], **before[node_id]["inputs"]}
            if node_id != setting.node_id or not name.startswith(f"{setting.input}.")
        )

    def stays(self, converted: Json, setting: Setting) -> bool:
        """Whether a text is not one that the editor would resolve when it queues the copy."""
        from .editor import resolve_dynamic_prompts

        node = {setting.node_id: converted[setting.node_id]}
        try:
            queued = resolve_dynamic_prompts(node, self.info, random.Random(0))
        except RecursionError:  # thousands of braces
            return False
        return _same(_value(queued, setting.node_id, setting.input), setting.value)


def _value(prompt: Json, node_id: str, name: str) -> Any:
    node = prompt.get(node_id)
    inputs = node.get("inputs") if isinstance(node, dict) else None
    return inputs.get(name, _MISSING) if isinstance(inputs, dict) else _MISSING


def _same(one: Any, other: Any) -> bool:
    return one is other or one == other  # NaN is itself, though not equal to itself


def _changed(editor: Json, setting: Setting, task: _Task) -> Json | None:
    """The copy with one setting, by the first way that changes nothing else; None if there is none."""
    before = task.converted(editor)
    if before is None or setting.node_id not in before:
        return None
    for start, node, widget in _ways(editor, setting):
        trial = _written(start, node, widget, setting, task)
        if trial is not None and task.fits(before, task.converted(trial), setting):
            return trial
    return None


def _ways(editor: Json, setting: Setting) -> Iterator[tuple[Json, tuple[Any, ...], str]]:
    """Where the value may be written, best first: (copy, path of a node, name of its widget).

    The primitive or subgraph instance that feeds the input comes first; then the input itself, its wire cut.
    """
    from .editor import raw

    place = raw.find_node(editor, setting.node_id)
    if place is None:
        return
    wire = raw.wire_to(editor, place, setting.input)
    for holder, widget in reversed(wire):
        yield editor, holder.node, widget
    outer = place.outer
    while outer is not None:  # an instance may show an inner widget without a wire
        yield editor, outer.node, setting.input
        outer = outer.outer
    for holder, widget in reversed(wire):
        cut = raw.without_link(editor, holder, widget)
        if cut is not None:
            yield cut, holder.node, widget


def _written(editor: Json, path: tuple[Any, ...], widget: str, setting: Setting, task: _Task) -> Json | None:
    """The copy with the value in every place where this node keeps its widget, or None if the place is not found."""
    from .editor import raw

    node, value = raw.part(editor, path), unwrap(setting.value)
    named, values = node.get("widgets_values_named"), node.get("widgets_values")
    changes: Json = {}
    if isinstance(named, dict):
        changes["widgets_values_named"] = {**named, widget: value}
    if isinstance(values, dict):
        changes["widgets_values"] = {**values, widget: value}
    elif values is not None or named is None:
        changes["widgets_values"] = _by_position(editor, path, setting, task)
        if changes["widgets_values"] is None:
            return None
    return raw.put(editor, path, {**node, **changes})


def _by_position(editor: Json, path: tuple[Any, ...], setting: Setting, task: _Task) -> list[Any] | None:
    """`widgets_values` with the value in its position: the one whose change shows up in the converted prompt."""
    from .editor import raw

    node = dict(raw.part(editor, path))
    node.pop("widgets_values_named", None)  # it would win over the positions
    values = list(node.get("widgets_values") or ())
    before = task.converted(raw.put(editor, path, node))
    if before is not None and _same(_value(before, setting.node_id, setting.input), setting.value):
        return values
    for position in range(len(values) + 1 + len(node.get("inputs") or ())):  # a list may end early
        trial = [*values, *[None] * (position + 1 - len(values))]
        trial[position] = unwrap(setting.value)
        if task.fits(before, task.converted(raw.put(editor, path, {**node, "widgets_values": trial})), setting):
            return trial
    return None
