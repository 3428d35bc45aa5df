"""Running a checked plan by ComfyUI's semantics.

Only what the outputs need is run, lazy inputs when they are asked for, asynchronous nodes beside others. A value is
freed as soon as no node that may still run wants it. A `Runner` that is used again keeps the results of its latest
prompt and does not run unchanged nodes again; with `keep=False` it keeps nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..dit_core.errors import Cancelled
from .api_node import overrides
from .awaiting import run_coroutine
from .calls import Values, call_all, merge_outputs
from .graph import Plan, PlannedNode
from .run_errors import RunError, wrap
from .session import Note, RunningNode, Session, use
from .signatures import dependency_order, signatures

CANCEL_POLL = 0.1  # seconds between looks at the cancel flag while only asynchronous nodes are at work

THE_USER = ""  # the consumer of output nodes; no node has this id


@dataclass
class Result:
    """What one node gave: a list per output, what it shows, and on the way: facts, remarks, files written."""

    outputs: list[list[Any]]
    ui: dict[str, list[Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)


@dataclass
class Outcome:
    """ui: {node id: what it shows}; seconds: {node id: time}; cached: ids that were not run again."""

    ui: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)

    def files(self, session: Session) -> list[Path]:
        """Files that the nodes say they saved, each once: weights, then those they show."""
        shown = [path for shown in self.ui.values() for path in _saved(shown, session)]
        return list(dict.fromkeys([*session.written, *shown]))


def _saved(shown: dict[str, list[Any]], session: Session) -> Iterator[Path]:
    """The files that a node saved, by what it shows."""
    for item in (one for items in shown.values() for one in items):
        if isinstance(item, dict) and item.get("type") == "output" and item.get("filename"):
            yield Path(session.output_dir, item.get("subfolder") or "", item["filename"])


class Runner:
    """Runs plans one after the other. keep: hold the results of the latest prompt for the next."""

    def __init__(self, keep: bool = True):
        self.keep = keep
        self.cache: dict[str, Result] = {}

    def run(self, plan: Plan, session: Session, outcome: Outcome | None = None) -> Outcome:
        """Run all outputs of a plan without errors. outcome: is filled, so that what failed says how far it came.

        Raises:
            RunError: a node failed. Cancelled: `session.cancel` was set. KeyboardInterrupt passes through.
        """
        with use(session):
            return run_coroutine(_Run(self, plan, session, outcome or Outcome()).run(), session.cancel.set)


class _Run:
    """The state of one run. Ids in it are canonical: of equal nodes only the first is run."""

    def __init__(self, runner: Runner, plan: Plan, session: Session, outcome: Outcome):
        self.runner, self.plan, self.session, self.outcome = runner, plan, session, outcome
        self.keys: dict[str, str] = {}
        self.same: dict[str, str] = {}  # node id -> the id of the equal node that stands for it
        self.rank: dict[str, int] = {}
        self.claims: dict[str, set[str]] = {}  # node -> consumers that may still want its values
        self.values: dict[str, list[list[Any]]] = {}
        self.waits: dict[str, set[str]] = {}  # active node -> sources it needs first
        self.done: set[str] = set()
        self.started: dict[str, float] = {}
        self.tasks: dict[asyncio.Task[bool], str] = {}

    async def run(self) -> Outcome:
        order = dependency_order(self.plan, self.plan.outputs)
        self.session.progress.run_started(len(order))
        try:
            with _inference_mode():
                await self._prepare(order)
                for node_id in self.plan.outputs:
                    self._activate(self.same[node_id])
                await self._loop()
        finally:
            await self._stop_tasks()
            self.session.progress.run_finished()
        for node_id in self.plan.outputs:  # equal output nodes show the same
            if self.same[node_id] in self.outcome.ui:
                self.outcome.ui[node_id] = self.outcome.ui[self.same[node_id]]
        return self.outcome

    async def _prepare(self, order: list[str]) -> None:
        self.keys = await signatures(self.plan, order, self.session)
        if self.runner.keep:  # bounded: only what this prompt can use stays, and no file that is gone by now
            wanted = set(self.keys.values())
            self.runner.cache = {
                key: one
                for key, one in self.runner.cache.items()
                if key in wanted and all(path.exists() for path in (*one.written, *_saved(one.ui, self.session)))
            }
        first: dict[str, str] = {}
        for index, node_id in enumerate(order):
            self.same[node_id] = first.setdefault(self.keys[node_id], node_id)
            self.rank[node_id] = index
        for node_id in first.values():
            self.claims.setdefault(node_id, set())
            for source in self._sources(node_id):
                self.claims.setdefault(source, set()).add(node_id)
            self._recall_facts(node_id)
        for node_id in self.plan.outputs:
            self.claims[self.same[node_id]].add(THE_USER)

    def _recall_facts(self, node_id: str) -> None:
        """How a cached result was made is part of the manifest, also of nodes that are not even looked at."""
        cached = self.runner.cache.get(self.keys[node_id])
        if cached is not None:
            title = self.plan.nodes[node_id].title
            self.session.node_manifest[node_id] = {**cached.facts, "title": title, "cached": True}

    def _sources(self, node_id: str, with_lazy: bool = True) -> set[str]:
        node = self.plan.nodes[node_id]
        return {self.same[link.source] for name, link in node.links.items() if with_lazy or not node.is_lazy(name)}

    def _activate(self, start: str) -> None:
        """Mark a node and all it certainly needs as to be run; take what the cache has."""
        stack = [start]
        while stack:
            node_id = stack.pop()
            if node_id in self.done or node_id in self.waits:
                continue
            cached = self.runner.cache.get(self.keys[node_id])
            if cached is not None:
                self._reuse(node_id, cached)
                continue
            self.waits[node_id] = self._sources(node_id, with_lazy=False)
            stack += self.waits[node_id]

    async def _loop(self) -> None:
        while self.waits:
            self.session.check_cancelled()
            node_id = self._next_ready()
            if node_id is None:
                await asyncio.wait(self.tasks, timeout=CANCEL_POLL, return_when=asyncio.FIRST_COMPLETED)
            elif inspect.iscoroutinefunction(self.plan.nodes[node_id].cls.execute):
                self.tasks[asyncio.ensure_future(self._run_node(node_id))] = node_id
                await asyncio.sleep(0)
            else:
                await self._run_node(node_id)
                await asyncio.sleep(0)  # let asynchronous nodes go on
            for task in [one for one in self.tasks if one.done()]:
                del self.tasks[task]
                task.result()

    def _next_ready(self) -> str | None:
        """Output nodes and asynchronous nodes first, then in depth-first order."""
        running = set(self.tasks.values())
        ready = [one for one, waits in self.waits.items() if one not in running and waits <= self.done]
        return min(ready, key=self._urgency, default=None)

    def _urgency(self, node_id: str) -> tuple[bool, int]:
        node = self.plan.nodes[node_id]
        early = node.schema.is_output_node or inspect.iscoroutinefunction(node.cls.execute)
        return not early, self.rank[node_id]

    async def _run_node(self, node_id: str) -> None:
        node = self.plan.nodes[node_id]
        running = RunningNode(node_id, node.title, node.class_type)
        if node_id not in self.started:
            self.started[node_id] = time.perf_counter()
            self.session.node_manifest[node_id] = {"class_type": node.class_type, "title": node.title}
            self.session.progress.node_started(running)
        try:
            if await self._asks_for_more(node):
                return
            before = len(self.session.written)
            results = await call_all(node, "execute", self._gather(node)[0], self.session)
            outputs, ui = merge_outputs(node, results)
        except (Cancelled, RunError):
            raise
        except Exception as error:
            raise wrap(node, error) from error
        seconds = time.perf_counter() - self.started[node_id]
        facts = self.session.node_manifest[node_id]
        facts["seconds"] = round(seconds, 4)
        self.outcome.seconds[node_id] = seconds
        notes = [one for one in self.session.notes if one.node_id == node_id]
        self._finish(node_id, Result(outputs, ui, facts, notes, self.session.written[before:]))
        self.session.progress.node_finished(running, seconds, cached=False)

    async def _asks_for_more(self, node: PlannedNode) -> bool:
        """Whether the node wants lazy inputs first; they are then activated."""
        if not overrides(node.cls, "check_lazy_status"):
            return False
        values, missing = self._gather(node)
        answers = await call_all(node, "check_lazy_status", values, self.session, lazy=True)
        names = {name for one in answers if isinstance(one, (list, tuple)) for name in one}
        wanted = False
        for name in names:
            if name not in node.links and name not in values:
                raise RunError(node, f"it asks for its input {name}, which is not linked.")
            source = self.same[node.links[name].source] if name in missing else None
            if source is not None and source not in self.done:  # what is done and gave nothing is not asked for twice
                self.waits[node.node_id] = self.waits[node.node_id] | {source}
                self._activate(source)
                wanted = True
        return wanted

    def _gather(self, node: PlannedNode) -> tuple[Values, set[str]]:
        """(values by input name, names of lazy inputs not computed yet, which are None)."""
        values: Values = {name: [value] for name, value in node.constants.items()}
        missing = set()
        for name, link in node.links.items():
            outputs = self.values.get(self.same[link.source])
            if outputs is None:
                missing.add(name)
                values[name] = [None]
            else:
                values[name] = outputs[link.slot]
        return values, missing

    def _reuse(self, node_id: str, result: Result) -> None:
        node = self.plan.nodes[node_id]
        running = RunningNode(node_id, node.title, node.class_type)
        self.outcome.cached.append(node_id)
        for note in result.notes:
            self.session.notes.append(Note(node_id, node.title, note.text))
        self.session.written += result.written
        self._finish(node_id, result)
        self.session.progress.node_finished(running, 0.0, cached=True)

    def _finish(self, node_id: str, result: Result) -> None:
        self.done.add(node_id)
        self.waits.pop(node_id, None)
        if result.ui:
            self.outcome.ui[node_id] = result.ui
        if self.runner.keep:
            self.runner.cache[self.keys[node_id]] = result
        self.claims[node_id].discard(THE_USER)
        if self.claims[node_id]:
            self.values[node_id] = result.outputs
        self._let_go(node_id)

    def _let_go(self, node_id: str) -> None:
        """`node_id` needs its sources no more: free values that nobody wants now, and give up lazy branches."""
        stack = [node_id]
        while stack:
            consumer = stack.pop()
            for source in self._sources(consumer):
                self.claims[source].discard(consumer)
                if self.claims[source]:
                    continue
                self.values.pop(source, None)
                if source not in self.done and source not in self.waits:
                    stack.append(source)  # it will never run, so its own sources lose a consumer too

    async def _stop_tasks(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)


@contextlib.contextmanager
def _inference_mode() -> Iterator[None]:
    """ComfyUI runs every node inside `torch.inference_mode()`, so this does too."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    with torch.inference_mode():
        yield
