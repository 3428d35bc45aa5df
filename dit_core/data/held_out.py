"""Which clips a training never sees, so that it can be measured on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..errors import ConfigError
from .buckets import Bucket
from .fingerprint import Fingerprint
from .training_clips import TrainingClips


def held_out_clips(groups: Mapping[int, str], share: float, seed: int = 0) -> set[int]:
    """Numbers of the clips to hold out: the same ones for the same clips and seed.

    Clips that were cut from one file stay together where that comes near the share (half to twice as many clips as
    asked for). Else, as with one file only, each clip is on its own. A share above 0 holds out one clip at least and
    never all of them; without a share, or with a single clip, none is held out.

    Args:
        groups: clip number -> what it was cut from, see `TrainingClips.group`.
    Raises:
        ConfigError: a share outside 0..1.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"The held-out share is {share!r}; expected a number from 0 to below 1.")
    if share == 0 or len(groups) < 2:
        return set()
    chosen = _some(Counter(groups.values()), share, seed)
    if chosen is not None:
        return {clip for clip, group in groups.items() if group in chosen}
    chosen = _some(Counter(map(str, groups)), share, seed) or set()
    return {clip for clip in groups if str(clip) in chosen}


def _some(sizes: Counter[str], share: float, seed: int) -> set[str] | None:
    """Names that together have about that share of all clips; None if no choice in the seed's order comes near it.

    sizes: name -> how many clips it has. Near: at least half and at most twice what was asked for, and so is the rest.
    """
    clips, taken = sizes.total(), 0
    wanted = min(max(1, round(share * clips)), clips - 1)
    most = min(2 * max(1, share * clips) + 1e-9, clips - (clips - wanted) / 2)
    chosen = set()
    for name in sorted(sizes, key=lambda one: hashlib.sha256(f"{seed} {one}".encode(errors="surrogatepass")).digest()):
        size = sizes[name]
        if taken + size <= most and (not chosen or taken + size / 2 <= wanted):
            chosen.add(name)
            taken += size
        elif taken >= wanted / 2:  # near enough; a large one that comes before that is passed over
            break
    return chosen if taken >= wanted / 2 else None


def clips_sum(numbers: Iterable[int]) -> str:
    """One sum over clip numbers, in whichever order they come."""
    return hashlib.sha256(",".join(map(str, sorted(numbers))).encode()).hexdigest()


def split_clips(clips: TrainingClips, share: float, seed: int = 0) -> tuple[TrainingClips, TrainingClips | None]:
    """Two views, for training and held out; see `held_out_clips`. None where nothing is held out."""
    chosen = held_out_clips({index: clips.group(index) for index in range(len(clips))}, share, seed)
    if not chosen:
        return clips, None
    rest = [index for index in range(len(clips)) if index not in chosen]
    return ClipsPart(clips, rest), ClipsPart(clips, sorted(chosen))


class ClipsPart(TrainingClips):
    """Some clips of a data set, by their numbers in it, counted from 0 again."""

    def __init__(self, clips: TrainingClips, numbers: list[int]) -> None:
        self._clips, self._numbers = clips, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def twins(self) -> bool:
        """As the whole has them: a group is not torn apart but where nothing else can be held out."""
        return self._clips.twins

    def name(self, index: int) -> str:
        """Of clip `index`, as in the whole."""
        return self._clips.name(self._numbers[index])

    def group(self, index: int) -> str:
        """As in the whole."""
        return self._clips.group(self._numbers[index])

    def bucket(self, index: int) -> Bucket:
        """Frames, height and width of clip `index`."""
        return self._clips.bucket(self._numbers[index])

    def captions(self, index: int) -> tuple[str, ...]:
        """Wordings of clip `index`."""
        return self._clips.captions(self._numbers[index])

    def clip(self, index: int) -> Tensor:
        """`[3, F, H, W]` float32 in -1..1."""
        return self._clips.clip(self._numbers[index])

    def fingerprint(self) -> Fingerprint:
        """That of the whole, and which clips of it."""
        whole = self._clips.fingerprint()
        part = f"{len(self)} of {len(self._clips)} clips ({clips_sum(self._numbers)[:16]})"
        return Fingerprint(whole.kind, whole.rules | {"part": part}, whole.files)
