"""What one headless run shares with the nodes it runs: folders, device, progress, cancel, notes and manifest.

`nodes/host.py` asks `current()` for the session. Nothing here imports torch.
"""

from __future__ import annotations

import importlib.metadata
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..dit_core.errors import Cancelled

PACKAGES_IN_MANIFEST = ("sora-dit", "torch", "numpy", "transformers", "tokenizers", "safetensors", "av", "einops")


@dataclass(frozen=True)
class RunningNode:
    """The node that is being executed: its id in the prompt, its title for people, its class id."""

    node_id: str
    title: str
    class_type: str
    list_index: int = 0


class ProgressSink(Protocol):
    """Receives what happens during a run. Calls may come from worker threads; steps are 1-based counts."""

    def run_started(self, node_count: int) -> None: ...
    def node_started(self, node: RunningNode) -> None: ...
    def node_progress(self, node: RunningNode, step: int, total: int, preview: Any = None) -> None: ...
    def node_finished(self, node: RunningNode, seconds: float, cached: bool) -> None: ...
    def note(self, node: RunningNode | None, text: str) -> None: ...
    def run_finished(self) -> None: ...


class NoProgress:
    """A sink that says nothing; also the base for sinks that care about a few events only."""

    def run_started(self, node_count: int) -> None:
        """`node_count` nodes may run (lazy inputs can make it fewer)."""

    def node_started(self, node: RunningNode) -> None:
        """The node begins."""

    def node_progress(self, node: RunningNode, step: int, total: int, preview: Any = None) -> None:
        """`step` of `total` steps inside the node are done; `preview` is an image tensor or None."""

    def node_finished(self, node: RunningNode, seconds: float, cached: bool) -> None:
        """The node is done; `cached` says that its result came from an earlier run."""

    def note(self, node: RunningNode | None, text: str) -> None:
        """A remark for the user."""

    def run_finished(self) -> None:
        """The run is over, well or not."""


@dataclass(frozen=True)
class Note:
    """A remark that a node made to the user."""

    node_id: str | None
    title: str | None
    text: str

    def __str__(self) -> str:
        return self.text if self.node_id is None else f"{self.title} (node {self.node_id}): {self.text}"


@dataclass(eq=False)
class Session:
    """State of one headless run.

    output_dir: where files are saved; relative output names stay inside it. Made on first use, not here.
    input_dir: where LoadVideo and friends look for files.
    models_dirs: folders searched for weight files before the pack's own `models/`.
    device, dtype: the user's choice, "auto" or a name that `dit_core.device` understands.
    progress: where events go. cancel: set it to stop the run at the next step.
    prompt: the API-format prompt that runs; extra_pnginfo: {"workflow": editor file} when there is one.
    manifest: facts about the run as a whole; node_manifest: facts by node id (see `record`).
    written: files that nodes made beside those that they show, such as weights.
    """

    output_dir: Path = field(default_factory=lambda: Path("output"))
    input_dir: Path = field(default_factory=lambda: Path("input"))
    models_dirs: list[Path] = field(default_factory=list)
    device: str = "auto"
    dtype: str = "auto"
    progress: ProgressSink = field(default_factory=NoProgress)
    cancel: threading.Event = field(default_factory=threading.Event)
    prompt: dict[str, Any] | None = None
    extra_pnginfo: dict[str, Any] | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    node_manifest: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    running: RunningNode | None = None

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the user asked to stop. Call it in every loop that takes longer than a blink."""
        if self.cancel.is_set():
            raise Cancelled

    def step(self, step: int, total: int, preview: Any = None) -> None:
        """Report that `step` of `total` steps of the running node are done; raises `Cancelled` like the above."""
        node = self.current_node()
        if node is not None:
            self.progress.node_progress(node, step, total, preview)
        self.check_cancelled()

    def note(self, text: str) -> None:
        """Tell the user something that is not an error (an odd size was cropped, a fallback was taken)."""
        node = self.current_node()
        note = Note(node.node_id if node else None, node.title if node else None, text)
        if note not in self.notes:
            self.notes.append(note)
            self.progress.note(node, text)

    def record(self, **facts: Any) -> None:
        """Add JSON-able facts (seed, sigmas, weight sha256, seconds per step) to the manifest under the running node.

        Outside a node they go to the run as a whole. A cached node's facts are added again when it is reused.
        """
        node = self.current_node()
        place = self.manifest if node is None else self.node_manifest.setdefault(node.node_id, {})
        place.update(facts)

    def current_node(self) -> RunningNode | None:
        """The node being executed in this context; from a plain thread, the one that was started last."""
        return _node.get() or self.running

    def full_manifest(self) -> dict[str, Any]:
        """Everything known so far, ready for `json.dumps`: versions, device choice, and facts by node."""
        return {
            "format": "sora_dit_manifest/1",
            "packages": package_versions(),
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "device": self.device,
            "dtype": self.dtype,
            **self.manifest,
            "nodes": {node_id: dict(facts) for node_id, facts in self.node_manifest.items()},
        }


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide a result, read from their metadata without importing them."""
    versions = {}
    for name in PACKAGES_IN_MANIFEST:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


_session: ContextVar[Session | None] = ContextVar("sora_dit_session", default=None)
_node: ContextVar[RunningNode | None] = ContextVar("sora_dit_node", default=None)
# A thread that a node starts has an empty context; it finds the session here. The last one entered wins.
_active: list[Session] = []
_default: Session | None = None


def current() -> Session:
    """The session of this context, else the one active in the process, else a default one (library use)."""
    global _default
    session = _session.get()
    if session is not None:
        return session
    if _active:
        return _active[-1]
    if _default is None:
        _default = Session()
    return _default


@contextmanager
def use(session: Session) -> Iterator[Session]:
    """Make `session` the current one inside the `with` block."""
    token = _session.set(session)
    _active.append(session)
    try:
        yield session
    finally:
        _active.remove(session)
        _session.reset(token)


@contextmanager
def node_running(session: Session, node: RunningNode) -> Iterator[None]:
    """Mark `node` as the one being executed; used by the executor around every call into a node."""
    token = _node.set(node)
    before, session.running = session.running, node
    try:
        yield
    finally:
        session.running = before
        _node.reset(token)
