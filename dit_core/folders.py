"""Walking a person's folder: everything below it, links to folders elsewhere as well."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def _nothing(_) -> None:
    pass


def walk(
    folder: str | Path,
    on_error: Callable[[OSError], object] = _nothing,
    on_link: Callable[[Path], object] = _nothing,
) -> Iterator[tuple[Path, list[str]]]:
    """Yield (folder, names of the files in it) of `folder` and all below it, in the order of names.

    Names that begin with a dot are passed over. Links to folders are followed, but for those that would be walked twice
    or without end: into `folder` itself, to a folder around it, to one that another link led to.

    on_error: told of folders that cannot be looked into. on_link: told of links that are not followed.
    """
    root = os.path.realpath(folder)
    seen = {root}
    for place, folders, files in os.walk(folder, onerror=on_error, followlinks=True):
        kept = []
        for name in sorted(one for one in folders if not one.startswith(".")):
            path = os.path.join(place, name)
            real = os.path.realpath(path)
            if real in seen or _is_link(path) and (_within(real, root) or _within(root, real)):
                on_link(Path(path))
            else:
                seen.add(real)
                kept.append(name)
        folders[:] = kept
        yield Path(place), sorted(name for name in files if not name.startswith("."))


def _is_link(path: str) -> bool:
    """Also of a Windows junction, where Python knows of those."""
    return os.path.islink(path) or getattr(os.path, "isjunction", os.path.islink)(path)


def _within(path: str, folder: str) -> bool:
    return f"{path}{os.sep}".startswith(f"{folder.rstrip(os.sep)}{os.sep}")
