"""Checking a prompt in API format, whole, before anything runs. Imports no torch.

`check` lists every problem; `plan` also gives what `execute.py` needs: nodes with converted constants and links.
Only what an output needs can stop a run; a mistake elsewhere is a warning. Where one of several outputs cannot be made
none is: ComfyUI would make the others, but here nobody may be looking.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .api_dynamic import BoundInput, unfold
from .api_node import ComfyNode, Schema
from .node_check import check_inputs, run_validation
from .problems import ERROR, WARNING, Problem, listed, nearest, one_line, shown
from .registry import Registry
from .values import is_link

if TYPE_CHECKING:
    from .editor import LeftOut

OWN_PACKS = {"sora-dit", "comfyui-sora-dit"}
CORE_PACK = "comfy-core"  # how the editor names ComfyUI's own nodes
LONGEST_TITLE = 120  # characters; sentences must stay readable


@dataclass(frozen=True)
class Link:
    """Where a linked input gets its value: a node id and the number of one of its outputs."""

    source: str
    slot: int


@dataclass
class PlannedNode:
    """A node of the prompt, matched with its class.

    bound: plain inputs by dotted name, given this prompt. constants: converted values. links: by input name.
    """

    node_id: str
    title: str
    class_type: str
    cls: type[ComfyNode]
    schema: Schema
    bound: dict[str, BoundInput]
    constants: dict[str, Any] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For sentences."""
        return f"{self.title} (node {self.node_id})"

    def is_lazy(self, name: str) -> bool:
        """Whether the input's source is only run when the node asks for it."""
        return name in self.bound and bool(self.bound[name].input.lazy)


@dataclass
class Plan:
    """A checked prompt. nodes: those whose class is known; outputs: ids of output nodes, in the prompt's order."""

    prompt: dict[str, Any]
    nodes: dict[str, PlannedNode]
    outputs: list[str]
    needed: set[str]
    problems: list[Problem]


def check(prompt: Mapping[str, Any], registry: Registry, packs: Mapping[str, str] | None = None) -> list[Problem]:
    """Everything wrong with `prompt` (API format), errors first; an empty list means that it can run."""
    return plan(prompt, registry, packs).problems


def plan(
    prompt: Mapping[str, Any],
    registry: Registry,
    packs: Mapping[str, str] | None = None,
    left_out: Sequence[LeftOut] = (),
) -> Plan:
    """Check `prompt` and prepare it. packs: {node id or class id: "pack version"} for sentences about missing nodes.

    left_out: nodes of the file that the prompt was made without, for sentences about what is missing in it.
    Nothing raises here: a prompt that is wrong gives a plan whose `problems` hold errors.
    """
    nodes, problems = _match_nodes(prompt, registry, packs or {})
    for node in nodes.values():
        _collect_links(node, prompt)
    outputs = [node_id for node_id, node in nodes.items() if node.schema.is_output_node]
    needed = _ancestors(outputs, nodes)
    unknown = {one.node_id for one in problems}
    if not outputs and not (unknown and _may_be_outputs(unknown, prompt)):
        problems.append(_no_output(nodes, left_out, registry))
    found: list[Problem] = []
    cut = {place: one for one in left_out for place in one.cuts}
    for node in nodes.values():
        node_problems = check_inputs(node, prompt, nodes)
        found += node_problems + run_validation(node, nodes, node_problems)
    if outputs:  # ComfyUI, which may have that node, never comes to it
        aside = set(nodes).union(prompt) - needed - _unused(prompt)
        problems = [_only_warn(one) if one.node_id in aside else one for one in problems]
    found = [_with_source(one, cut.get((one.node_id, one.input))) for one in found]
    found += _cycles(nodes)
    if outputs:
        found = [one if one.node_id in needed else _only_warn(one) for one in found]
    problems = sorted(problems + found, key=lambda one: one.severity != ERROR)
    return Plan(dict(prompt), nodes, outputs, needed, problems)


def title_of(node_id: str, node: Any, schema: Schema | None = None) -> str:
    """What the user calls a node: its own title, else its display name, else its class."""
    if isinstance(node, dict):
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        if isinstance(title, str) and title.strip():
            title = " ".join(one_line(title).split())
            return title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…"
        if schema is not None and schema.display_name:
            return schema.display_name
        if isinstance(node.get("class_type"), str):
            return node["class_type"]
    return "Node"


def left_out_name(one: LeftOut) -> str:
    """For sentences, as `PlannedNode.name`."""
    return f"{title_of(one.id, {'_meta': {'title': one.title}})} (node {one.id})"


def _match_nodes(
    prompt: Mapping[str, Any], registry: Registry, packs: Mapping[str, str]
) -> tuple[dict[str, PlannedNode], list[Problem]]:
    """Nodes whose class is known; problems for the others."""
    nodes: dict[str, PlannedNode] = {}
    problems: list[Problem] = []
    schemas: dict[str, Schema] = {}
    names = functools.cache(lambda: _names_of_types(registry))
    for node_id, node in prompt.items():
        if not isinstance(node, dict):
            problems.append(Problem(node_id, "Node", None, f"got {shown(node)}; expected an object with class_type."))
            continue
        class_type, inputs = node.get("class_type"), node.get("inputs", {})
        title = title_of(node_id, node)
        if not isinstance(class_type, str) or not class_type:
            got = "is missing" if "class_type" not in node else f"is {shown(class_type)}"
            problems.append(Problem(node_id, title, None, f"class_type {got}; expected the name of a node type."))
        elif class_type not in registry:
            problems.append(Problem(node_id, title, None, _unknown_class(node_id, class_type, registry, packs, names)))
        elif not isinstance(inputs, dict):
            problems.append(Problem(node_id, title, None, f"inputs is {shown(inputs)}; expected an object."))
        else:
            if class_type not in schemas:
                schemas[class_type] = registry.schema(class_type)
            schema = schemas[class_type]
            bound = {one.name: one for one in unfold(schema.inputs, inputs)}
            title = title_of(node_id, node, schema)
            nodes[node_id] = PlannedNode(node_id, title, class_type, registry[class_type], schema, bound)
    return nodes, problems


def _names_of_types(registry: Registry) -> dict[str, str]:
    """{id or display name of a node type: its id}. Takes time: every schema is made anew, with its lists of files."""
    names = {schema_id: schema_id for schema_id in registry.classes}
    return names | {registry.schema(one).display_name or one: one for one in registry.classes}


def _unknown_class(
    node_id: str, class_type: str, registry: Registry, packs: Mapping[str, str], names: Callable[[], dict[str, str]]
) -> str:
    """The sentence for a node type that is not here: the pack it belongs to if the file says so, else a near name.

    names: gives `_names_of_types`; asked only where a near name is looked for.
    """
    text = f"there is no node type {shown(class_type)} here."
    pack, _, version = (packs.get(node_id) or packs.get(class_type) or "").partition(" ")
    if pack == CORE_PACK:
        named = f" {shown(version)[1:-1]}" if version else ""
        text += f" It is a node of ComfyUI itself ({CORE_PACK}{named}), but not one of those that also run headless"
        text += "; `sora-dit nodes` lists them."
    elif pack and pack not in OWN_PACKS:
        named = f" (version {shown(version)[1:-1]})" if version else ""
        text += f" The file says that it comes from the node pack {shown(pack)}{named}, which does not run headless."
    else:
        match = nearest(class_type, names())
        text += f" Did you mean '{names()[match]}'?" if match else " `sora-dit nodes` lists those there are."
    if registry.failures:
        reasons = " ".join(f"{name}: {reason}" for name, reason in registry.failures.items())
        text += f" Some nodes could not be loaded: {reasons}"
    return text


def _collect_links(node: PlannedNode, prompt: Mapping[str, Any]) -> None:
    """Links of the node that point at an existing place; wrong ones are left to the check."""
    for name, value in (prompt[node.node_id].get("inputs") or {}).items():
        raw = name in node.bound and node.bound[name].input.rawLink
        if is_link(value) and value[0] in prompt and not raw:
            node.links[name] = Link(value[0], int(value[1]))


def _ancestors(start: Iterable[str], nodes: Mapping[str, PlannedNode]) -> set[str]:
    """`start` and everything they are linked to, directly or not."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        node_id = waiting.pop()
        if node_id not in found:
            found.add(node_id)
            if node_id in nodes:
                waiting += [link.source for link in nodes[node_id].links.values()]
    return found


def _may_be_outputs(unknown: set[str | None], prompt: Mapping[str, Any]) -> bool:
    """Whether an unknown node may be the missing output: nothing takes a value from it."""
    return bool(unknown & _unused(prompt))


def _unused(prompt: Mapping[str, Any]) -> set[str]:
    """Nodes from which nothing takes a value."""
    used = {
        value[0]
        for node in prompt.values()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
        for value in node["inputs"].values()
        if is_link(value)
    }
    return set(prompt) - used


def _no_output(nodes: Mapping[str, PlannedNode], left_out: Sequence[LeftOut], registry: Registry) -> Problem:
    silent = [
        f"{left_out_name(one)} is {one.state}"
        for one in left_out
        if not one.runs and one.type in registry and registry.schema(one.type).is_output_node
    ]
    if silent:
        text = f"The workflow has no output node that is run, so there is nothing to make: {listed(silent)}."
        return Problem(None, None, None, text)
    text = "The workflow has no output node, so there is nothing to make; expected a node that saves or shows something"
    return Problem(None, None, None, f"{text} (such as Save Video)." if nodes else f"{text}.")


def _with_source(problem: Problem, cut_by: LeftOut | None) -> Problem:
    """The same problem of an input, with the node that keeps its source from it."""
    if cut_by is None:
        return problem
    return replace(problem, message=f"{problem.message} Its source {left_out_name(cut_by)} is {cut_by.state}.")


def _only_warn(problem: Problem) -> Problem:
    """The same problem in a node that no output needs."""
    if problem.severity == WARNING or problem.node_id is None:
        return problem
    return replace(problem, severity=WARNING, message=f"{problem.message} (Not needed by any output, so not run.)")


def _cycles(nodes: Mapping[str, PlannedNode]) -> list[Problem]:
    """One problem for each circle of links, with its path."""
    problems: list[Problem] = []
    state: dict[str, int] = {}  # 1 on the current path, 2 done
    for start in nodes:
        path: list[str] = []
        stack = [(start, False)]
        while stack:
            node_id, leaving = stack.pop()
            if leaving:
                state[node_id] = 2
                path.pop()
                continue
            if state.get(node_id) == 1:
                circle = path[path.index(node_id) :]
                names = [nodes[one].name for one in reversed(circle)]
                text = (
                    f"the links form a circle: {' -> '.join([names[-1], *names])}; expected links without a way back."
                )
                problems.append(Problem(node_id, nodes[node_id].title, None, text))
            elif node_id in nodes and node_id not in state:
                state[node_id] = 1
                path.append(node_id)
                stack.append((node_id, True))
                stack += [(link.source, False) for link in nodes[node_id].links.values()]
    return problems
