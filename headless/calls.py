"""Calling a node: its arguments, list by list, and what it returned (ComfyUI's list rules).

Every value travels as a list. A node is called once per index up to its longest list, shorter lists repeat their last
item; with `is_input_list` it is called once with whole lists. An output with `is_output_list` is spread.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..dit_core.errors import SoraDiTError
from .api_dynamic import nest
from .api_node import ComfyNode, ExecutionBlocker, Hidden, HiddenHolder, NodeOutput, locked_clone
from .session import RunningNode, Session, node_running

if TYPE_CHECKING:
    from .graph import PlannedNode

Values = dict[str, list[Any]]  # input name -> the list that travels on its wire


class NodeResultError(SoraDiTError):
    """A node returned something that does not fit its schema: a mistake of the node's author."""


def hidden_values(node: PlannedNode, session: Session) -> dict[str, Any]:
    """Hidden values that the node's schema asks for."""
    known = {
        Hidden.unique_id: node.node_id,
        Hidden.prompt: session.prompt,
        Hidden.dynprompt: session.prompt,
        Hidden.extra_pnginfo: session.extra_pnginfo,
    }
    return {one.name: known.get(one) for one in node.schema.hidden}


def clone_for(node: PlannedNode, hidden: Mapping[str, Any]) -> type[ComfyNode]:
    """The class to call: a locked clone with its hidden values."""
    return locked_clone(node.cls, HiddenHolder(**hidden))


def argument_sets(node: PlannedNode, values: Values) -> Iterator[dict[str, Any]]:
    """Arguments of each call, flat by input name.

    Raises:
        NodeResultError: a linked value is an empty list, so there is nothing to call the node with.
    """
    if node.schema.is_input_list or not values:
        yield dict(values)
        return
    for name, items in values.items():
        if not items:
            raise NodeResultError(f"the list on its input {name} is empty; expected at least one value.")
    for index in range(max(map(len, values.values()))):
        yield {name: items[min(index, len(items) - 1)] for name, items in values.items()}


def blocker_in(arguments: Mapping[str, Any], is_input_list: bool) -> ExecutionBlocker | None:
    """The first blocker among the arguments."""
    for value in arguments.values():
        for item in value if is_input_list else (value,):
            if isinstance(item, ExecutionBlocker):
                return item
    return None


async def call_all(
    node: PlannedNode, method: str, values: Values, session: Session, *, lazy: bool = False
) -> list[Any]:
    """Call `method` once per set of arguments. Results in order; a blocked call gives its blocker.

    Synchronous methods run here and now; asynchronous ones overlap with each other. With `lazy`, values of dynamic
    inputs come as (value, dotted name), as `check_lazy_status` expects them.
    """
    cls = clone_for(node, hidden_values(node, session))
    function = getattr(cls, method)
    results: list[Any] = []
    for index, arguments in enumerate(argument_sets(node, values)):
        session.check_cancelled()
        running = RunningNode(node.node_id, node.title, node.class_type, index)
        blocker = blocker_in(arguments, node.schema.is_input_list)
        if blocker is not None:
            with node_running(session, running):
                results.append(_passed_on(blocker, session))
            continue
        if lazy:
            inside = {name for name, bound in node.bound.items() if len(bound.path) > 1}
            arguments = {name: (value, name) if name in inside else value for name, value in arguments.items()}
        arguments = nest(arguments, node.bound.values())
        if inspect.iscoroutinefunction(function):
            results.append(_start(function, arguments, session, running))
        else:
            with node_running(session, running):
                results.append(function(**arguments))
    waiting = [one for one in results if isinstance(one, asyncio.Task)]
    if waiting:
        await _gather(waiting)
    return [one.result() if isinstance(one, asyncio.Task) else one for one in results]


def _passed_on(blocker: ExecutionBlocker, session: Session) -> ExecutionBlocker:
    """The blocker for the next nodes: its message is shown once."""
    if blocker.message is not None:
        session.note(f"Not run: {blocker.message}")
    return ExecutionBlocker(None)


def _start(
    function: Callable[..., Awaitable[Any]], arguments: dict[str, Any], session: Session, running: RunningNode
) -> asyncio.Task[Any]:
    async def work() -> Any:
        with node_running(session, running):
            return await function(**arguments)

    return asyncio.ensure_future(work())  # in a copy of this context, so that overlapping nodes keep apart


async def _gather(tasks: list[asyncio.Task[Any]]) -> None:
    """Wait for all; when one fails the others are stopped before its error goes on."""
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(BaseException):
            await asyncio.gather(*tasks, return_exceptions=True)
        raise


def merge_outputs(node: PlannedNode, results: list[Any]) -> tuple[list[list[Any]], dict[str, list[Any]]]:
    """(one list per declared output, ui values by key) from what the calls returned.

    Raises:
        NodeResultError: fewer values than declared outputs, or a list output that is no list.
    """
    declared = node.schema.outputs
    outputs: list[list[Any]] = [[] for _ in declared]
    ui: dict[str, list[Any]] = {}
    for result in results:
        output = _normal(node, result)
        for key, items in _ui_of(output).items():
            ui.setdefault(key, []).extend(items)
        values = output.args
        if output.block_execution is not None and not values:
            values = (ExecutionBlocker(output.block_execution),) * len(declared)
        if isinstance(result, ExecutionBlocker):
            values = (result,) * len(declared)
        if len(values) < len(declared):
            raise NodeResultError(f"it returned {len(values)} values; its schema declares {len(declared)} outputs.")
        for slot, one in enumerate(declared):
            outputs[slot].extend(_spread(one.display_name or one.io_type, values[slot], one.is_output_list))
    return outputs, ui


def _normal(node: PlannedNode, result: Any) -> NodeOutput:
    try:
        output = NodeOutput.of(result)
    except TypeError as error:
        raise NodeResultError(f"{error}.") from None
    if output.expand is not None:
        raise NodeResultError("it expands into other nodes, which the headless runtime cannot do.")
    return output


def _ui_of(output: NodeOutput) -> dict[str, list[Any]]:
    ui = output.ui
    if ui is None:
        return {}
    return ui if isinstance(ui, dict) else ui.as_dict()


def _spread(name: str, value: Any, is_list: bool) -> list[Any]:
    if not is_list or isinstance(value, ExecutionBlocker):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise NodeResultError(f"its output {name} is a {type(value).__name__}; its schema declares a list.")
    return list(value)
