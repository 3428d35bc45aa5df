"""Files that appear whole or not at all: write beside, fsync, rename. And an `OSError` in plain words.

Some take the place of an older file; others never do, and look for the next free name.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your disk quota is used up",
    errno.EFBIG: "the file would be larger than this file system or account allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENOENT: "the folder does not exist",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk reports an input/output error",
    errno.EMFILE: "this process has too many files open",
}


def reason(error: OSError) -> str:
    """Return what went wrong in words a person understands, without the path."""
    return _REASONS.get(error.errno, error.strerror or str(error) or type(error).__name__)


class WholeFile:
    """A file being written beside its final place: `commit` puts it there, `discard` leaves no trace.

    Attributes:
        path: the final place. An older file there is untouched until `commit`.
        temporary: where to write; it does not exist yet.

    following: makes the next name from one that is taken. With it `commit` overwrites nothing, whoever else saves into
        the folder meanwhile, and `path` is then the name it got. None: an older file at `path` is replaced.
    """

    def __init__(self, path: str | Path, following: Callable[[Path], Path] | None = None):
        self.path, self._following = Path(path), following
        # Not derived from the whole name: that could push a long but legal name over the limit of 255 bytes.
        name = f".{self.path.stem[:32]}.{os.getpid()}.{secrets.token_hex(4)}.part"
        self.temporary = self.path.parent / name

    def commit(self) -> None:
        """Flush to disk and rename. Raises `OSError`."""
        with open(self.temporary, "rb+") as file:
            os.fsync(file.fileno())
        if self._following is None:
            os.replace(self.temporary, self.path)
        else:
            while not _moved(self.temporary, self.path):
                self.path = self._following(self.path)
        _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove what was written, if anything."""
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends, remove it when the block fails.

    Whatever ends the block early (an error, Ctrl-C), nothing is left behind and an older file at `path` is untouched.

    Raises:
        OSError: from the flush to disk or the rename.
    """
    with _committed(WholeFile(path)) as target:
        yield target.temporary


@contextmanager
def new_file(path: str | Path, following: Callable[[Path], Path]) -> Iterator[WholeFile]:
    """As `whole_file` for a file that never replaces another: write to `temporary`; `path` says where it ended up."""
    with _committed(WholeFile(path, following)) as target:
        yield target


@contextmanager
def _committed(target: WholeFile) -> Iterator[WholeFile]:
    try:
        yield target
        target.commit()
    except BaseException:
        target.discard()
        raise


def _moved(source: Path, target: Path) -> bool:
    """Rename a file if there is none of the new name; tell whether that was so. Raises `OSError`."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:  # memory cards and many network drives know no second names
        return _moved_onto_placeholder(source, target)
    os.unlink(source)
    return True


def _moved_onto_placeholder(source: Path, target: Path) -> bool:
    """As `_moved`, with an empty file that holds the name for the moment of the rename."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    try:
        os.replace(source, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(target)
        raise
    return True


def _sync_folder(folder: Path) -> None:
    """Make the rename survive a power cut, where the system can (not on Windows)."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
