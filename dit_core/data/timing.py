"""Which frames to show at another frame rate: nearest in time, in whole numbers, so that nothing drifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

_TICKS = 1_000_000  # a second, for times that follow no rate


@dataclass(frozen=True)
class Timeline:
    """When each frame of a clip is shown, exactly.

    Attributes:
        ticks: `[frames]` int64, ascending; the first frame is at 0.
        per_second: ticks in a second.
    """

    ticks: np.ndarray
    per_second: int

    def seconds(self, frame: int) -> Fraction:
        """Time of a frame."""
        return Fraction(int(self.ticks[frame]), self.per_second)


def exact_times(times: Sequence[float] | np.ndarray, fps: Fraction) -> Timeline:
    """The timeline of decoded frames, from their times in seconds.

    Containers round time stamps (Matroska to a millisecond): where all of them lie within 2 ms or a tenth of a frame of
    k / fps they are taken to be exactly that. Otherwise (variable frame rate) each is kept, to a microsecond. Times
    that go back are held.
    """
    array = np.maximum.accumulate(np.asarray(times, np.float64)) - (times[0] if len(times) else 0.0)
    numbers = np.arange(len(array), dtype=np.int64)
    if np.abs(array - numbers / float(fps)).max(initial=0.0) <= max(0.002, 0.1 / float(fps)):
        return Timeline(numbers * fps.denominator, fps.numerator)
    return Timeline(np.round(array * _TICKS).astype(np.int64), _TICKS)


def resample(line: Timeline, fps: Fraction, target: Fraction | None, start: int, stop: int) -> list[int]:
    """Frames start .. stop - 1 at `target` frames per second.

    Instant k is k / target after the first frame; it shows the frame of that stretch that is nearest in time, the
    earlier one where two are as near. The stretch lasts until its last frame has been shown for 1 / fps.

    Args:
        line: of all frames of the clip. fps: the clip's own rate. target: None keeps every frame.

    Returns: frame numbers in start .. stop - 1, ascending.
    """
    if target is None:
        return list(range(start, stop))
    # Everything in units of 1 / (ticks per second x numerator of the target): whole numbers, far below 2^63.
    times = (line.ticks[start:stop] - line.ticks[start]) * target.numerator
    count = ceil((line.seconds(stop - 1) - line.seconds(start) + 1 / fps) * target)
    instants = np.arange(count, dtype=np.int64) * (target.denominator * line.per_second)
    after = np.searchsorted(times, instants, "right").clip(1, len(times) - 1) if len(times) > 1 else None
    if after is None:
        return [start] * count
    is_after = times[after] - instants < instants - times[after - 1]
    return (start + after - 1 + is_after).tolist()
