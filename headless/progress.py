"""Progress as text: one line per node that is rewritten on a terminal, few lines in a file or pipe."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable
from typing import Any, TextIO

from .session import NoProgress, RunningNode

REDRAW = 0.1  # seconds between two redraws of a line on a terminal
QUIET = 10.0  # seconds between two step lines elsewhere


def duration(seconds: float) -> str:
    """Words for a time: 0.42 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def columns(text: str) -> int:
    """Columns that a text takes on a terminal: Chinese, Japanese and Korean letters take two, accents none."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.category(letter) in ("Mn", "Me", "Cf") for letter in text)


def cut(text: str, room: int) -> str:
    """The text, or its beginning with dots behind it, in at most `room` columns."""
    if columns(text) <= room:
        return text
    while text and columns(text) > room - 3:
        text = text[:-1]
    return text + "..."


class NotesOnly(NoProgress):
    """Only remarks, for `--quiet`: a script that wants no progress still wants to know what was done otherwise."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def note(self, node: RunningNode | None, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the stream took no more
            print(note_line(node, text), file=self.stream, flush=True)


def note_line(node: RunningNode | None, text: str) -> str:
    """A remark, with the node that made it."""
    return f"note: {node.title} (node {node.node_id}): {text}" if node else f"note: {text}"


class TextProgress(NoProgress):
    """Writes progress to `stream`. interactive: rewrite the current line with a carriage return."""

    def __init__(self, stream: TextIO, interactive: bool | None = None, clock: Callable[[], float] = time.perf_counter):
        self.stream = stream
        self.interactive = stream.isatty() if interactive is None else interactive
        self.clock = clock
        self.total = self.count = 0
        self.lock = threading.Lock()
        self.lost = False  # the stream took no more
        self.width = 0  # columns of the line that is being rewritten
        self.last_drawn = 0.0
        self.numbers: dict[str, int] = {}
        self.first_step: dict[str, tuple[int, float]] = {}

    def run_started(self, node_count: int) -> None:
        self.total, self.count = node_count, 0
        if self.interactive:
            self._rewrite("starting")

    def node_started(self, node: RunningNode) -> None:
        with self.lock:
            self._number(node)
            if self.interactive:
                self._rewrite(self._head(node))

    def node_progress(self, node: RunningNode, step: int, total: int, preview: Any = None) -> None:
        with self.lock:
            now = self.clock()
            if node.node_id not in self.first_step or step < self.first_step[node.node_id][0]:
                self.first_step[node.node_id] = (step, now)
                if not self.interactive:
                    self.last_drawn = now
            due = now - self.last_drawn >= (REDRAW if self.interactive else QUIET)
            if not due and not (self.interactive and step >= total):
                return
            self.last_drawn = now
            text = f"{self._head(node)}  step {step} of {total}{self._pace(node, step, total, now)}"
            if self.interactive:
                self._rewrite(text)
            else:
                self._line(text)

    def node_finished(self, node: RunningNode, seconds: float, cached: bool) -> None:
        with self.lock:
            what = "unchanged, not run again" if cached else duration(seconds)
            self._line(f"{self._head(node)}  {what}")

    def note(self, node: RunningNode | None, text: str) -> None:
        with self.lock:
            self._line(note_line(node, text))

    def run_finished(self) -> None:
        with self.lock:
            if self.width:
                self._line("")

    def _number(self, node: RunningNode) -> int:
        if node.node_id not in self.numbers:
            self.count += 1
            self.numbers[node.node_id] = self.count
        return self.numbers[node.node_id]

    def _head(self, node: RunningNode) -> str:
        return f"[{self._number(node)}/{self.total}] {node.title}"

    def _pace(self, node: RunningNode, step: int, total: int, now: float) -> str:
        """Seconds per step and time left, once two steps are known."""
        first, since = self.first_step[node.node_id]
        if step <= first:
            return ""
        each = (now - since) / (step - first)
        left = each * (total - step)
        return f"  {duration(each)} a step" + (f"  about {duration(left)} left" if step < total else "")

    def _rewrite(self, text: str) -> None:
        room = shutil.get_terminal_size().columns - 1
        text = cut(text, room)
        taken = columns(text)
        self._write("\r" + text + " " * (self.width - taken))
        self.width = taken

    def _line(self, text: str) -> None:
        if self.width:
            self._write("\r" + " " * self.width + "\r")
            self.width = 0
            if not text:
                return
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        if self.lost:
            return
        try:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:  # a title that the console's code page cannot show
                encoding = self.stream.encoding or "ascii"
                self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()
        except OSError:  # the disk is full or the reader has gone: no reason to lose the video
            self.lost = True
