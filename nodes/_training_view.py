"""Between Training View and `dit_core.watch`."""

from __future__ import annotations

import itertools
from typing import Any

from ..dit_core.errors import DataError
from . import _training_data, host
from ._training_autoencoder import MADE

_asked = itertools.count()


def state_of(run: str | None) -> list:
    """What changes when a run has gone on: [time, size] of its log; [] for one that is not there.

    Never the same for one that is not known yet (it comes over a link): looking costs little.
    """
    if run is None:
        return [next(_asked)]
    path = host.training_folder(run) / "log.jsonl"
    return [path.stat().st_mtime_ns, path.stat().st_size] if path.is_file() else []


def pictures(run: str, width: int, rows: int) -> tuple[Any, Any, str]:
    """(curves as IMAGE, samples as IMAGE, a line of words) of a run.

    Raises:
        DataError: there is no such run; says which there are.
    """
    from ..dit_core.watch import draw_curves, draw_strip, placard, read_log, read_samples, summary

    folder = host.training_folder(run)
    try:
        log = read_log(folder)
    except DataError as error:
        if (folder / MADE).is_file():
            words = "This autoencoder is linear: it was worked out at once, without steps, so there are no curves."
            picture = _training_data.image_of(placard("linear: worked out at once, no curves"))
            return picture, picture, words
        there = ", ".join(host.training_runs()[:8])
        more = f"There are: {there}." if there else "There is none yet."
        raise DataError(f'There is no training "{run}" in {folder.parent}. {more}') from error
    strip = draw_strip(read_samples(folder), rows=rows)
    curves = draw_curves(log, width)
    return _training_data.image_of(curves), _training_data.image_of(strip), summary(log, remaining=False)
