"""The output of the process when nobody can take it: a full disk, a reader that has gone, a stream that was closed."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def open_missing() -> None:
    """A process may be started with its output closed; what nobody wants to see must not stop the work."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process


def say(text: str) -> None:
    """A line on standard error. Remarks that cannot be written are lost: the work they are about goes on."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a signal came amid another line
        print(text, file=sys.stderr)


def give_up(stream: TextIO) -> None:
    """Python writes what is left of the output when it ends, and fails if it cannot; let that go nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file, or closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def end_remarks() -> None:
    """Write what is left of standard error, or let it go, so that it does not decide on the exit code."""
    try:
        sys.stderr.flush()
    except OSError:
        give_up(sys.stderr)
