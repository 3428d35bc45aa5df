"""Where core's save nodes put their files: names, counters, and files that appear whole or not at all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...dit_core.checkpoint.atomic import new_file
from ..comfy_api import io, ui
from ..graph import title_of
from ..session import current
from .ours import checks, files, host

_BATCH = "%batch_num%"
_DATE = re.compile(r"%date:([^%]*)%")
_WIDGET = re.compile(r"%([^%.:]+)\.([^%.]+)%")
_DATE_PART = re.compile(r"yyyy|yy|MM?|dd?|hh?|mm?|ss?")
_NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')


def filled_in(prefix: str) -> str:
    """The prefix with `%date:yyyy-MM-dd%` and `%Node.widget%` replaced, which the editor does when a run is queued.

    Node is the title or the type of a node in the prompt that runs. What names none stays as it is; `%width%` and its
    like are left to `host.output_target`.
    """
    now = time.localtime()
    prefix = _DATE.sub(lambda match: _DATE_PART.sub(lambda part: _date_part(part[0], now), match[1]), prefix)
    return _WIDGET.sub(lambda match: _widget(match[1], match[2], match[0]), prefix)


def _date_part(part: str, now: time.struct_time) -> str:
    if part[0] == "y":
        return str(now.tm_year)[-len(part) :]
    values = {"M": now.tm_mon, "d": now.tm_mday, "h": now.tm_hour, "m": now.tm_min, "s": now.tm_sec}
    return str(values[part[0]]).zfill(len(part))


def _widget(node: str, name: str, otherwise: str) -> str:
    """The value of input `name` of the node with that type or title, without letters that file names cannot have."""
    for node_id, entry in (current().prompt or {}).items():
        if not isinstance(entry, dict) or node not in (entry.get("class_type"), title_of(node_id, entry)):
            continue
        value = (entry.get("inputs") or {}).get(name)
        if value is not None and not isinstance(value, (list, dict)):  # a link has no value yet
            return _NOT_IN_NAMES.sub("_", str(value))
    return otherwise


def check_prefix(prefix: str | None) -> None:
    """Raise `SoraDiTError` if no files can be saved under this prefix (None: it is linked, so not known yet)."""
    if prefix is not None:
        host.check_prefix(filled_in(prefix))


def prefix_verdict(prefix: str | None) -> bool | str:
    """`check_prefix` for a `validate_inputs` that looks at nothing else."""
    return checks.verdict(filename_prefix=lambda: check_prefix(prefix))


def targets(prefix: str, width: int, height: int, extension: str, count: int) -> list[host.OutputTarget]:
    """The next `count` free names, counted on from the first: `prefix_00001_.png`, `prefix_00002_.png`, ...

    `%batch_num%` becomes the place in the batch, from 0.

    Raises:
        SoraDiTError: the prefix leads out of the output folder, or the folder cannot be made.
    """
    prefix = filled_in(prefix)
    several = count if _BATCH in prefix else 1
    free = [
        host.output_target(prefix.replace(_BATCH, str(place)), width, height, extension) for place in range(several)
    ]
    start = max(files.counter(one.path) for one in free)
    named = [free[place % several] for place in range(count)]
    return [replace(one, path=files.with_counter(one.path, start + place)) for place, one in enumerate(named)]


def save(
    cls: type,
    prefix: str,
    extension: str,
    write: Callable[[int, Path], Any],
    count: int = 1,
    size: tuple[int, int] = (0, 0),
) -> list[ui.SavedResult]:
    """Save `count` files and say which: all of them or, when one fails or the run is stopped, none.

    Args:
        cls: the running node.
        prefix: of the file names; see `targets`.
        write: called with the number of the file, from 0, and the path to write to.
        size: (width, height) in pixels, for `%width%` and `%height%`.

    Raises:
        MediaError: a file cannot be written. SoraDiTError: the prefix cannot be used.
    """
    from ...dit_core.media.probe import in_words

    bar, made, next_free = host.progress(cls, count), [], 0
    try:
        for number, target in enumerate(targets(prefix, *size, extension, count)):
            # Another run that saves here meanwhile may have taken some of the names.
            path = files.with_counter(target.path, max(files.counter(target.path), next_free))
            with in_words(path), new_file(path, files.count_on) as file:
                write(number, file.temporary)
            made.append(replace(target, path=file.path))
            next_free = files.counter(file.path) + 1
            bar.update(number + 1)
    except BaseException:
        for target in made:
            with suppress(OSError):
                target.path.unlink(missing_ok=True)
        raise
    return [ui.SavedResult(one.path.name, one.subfolder, io.FolderType.output) for one in made]
