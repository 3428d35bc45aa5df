"""A folder that only one process may write to: the second is refused, and told who is there.

The system's own file lock is used, which ends with the process, however it ends: a lock left behind by a process that
was killed or by a power cut is none.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .checkpoint.atomic import reason
from .errors import SoraDiTError

_FAR = 1 << 30  # Windows locks bytes, which others then cannot read: one far behind the text


class FolderInUse(SoraDiTError):
    """Another process, or this one, is writing to the folder."""


@contextmanager
def folder_lock(folder: str | Path, what: str) -> Iterator[None]:
    """Hold `folder` (made if need be) while the block runs. `what`: who holds it, for the others ("a training").

    A file system without locks holds nobody off.

    Raises:
        FolderInUse: the folder is held; says by which process, on which machine, since when.
        SoraDiTError: the folder cannot be made or written to.
    """
    folder = Path(folder)
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 - a buffer would be written again as the file is closed
    except OSError as error:
        raise SoraDiTError(f"{folder} cannot be written to: {reason(error)}.") from error
    with file:
        if not _take(file):
            raise FolderInUse(
                f"{folder} is in use by {_holder(path)}; two would overwrite each other's work. "
                "Wait until it is done, stop it, or choose another folder."
            )
        try:
            with suppress(OSError):  # a full disk must not stop who only wants to go on
                _write_holder(file, what)
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


def _write_holder(file, what: str) -> None:
    who = {
        "what": what,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    file.truncate(0)
    file.write(json.dumps(who).encode())


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_bytes())
        return f"{who['what']} (process {who['process']} on {who['host']}, since {who['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _take(file) -> bool:
    """Whether the lock is ours now; closing the file gives it back."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(_FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True
