"""A folder of clips as training data: `ClipSet`; and the synthetic skies with the same interface: `SkyClips`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, MediaError
from .buckets import Bucket, BucketRules
from .cuts import CutRules, segments
from .fingerprint import Fingerprint, digest
from .fit import covering, middle
from .scan import ClipFile, Problem, Progress
from .source import ClipSource
from .survey import Survey, SurveyedClip, survey
from .timing import exact_times, resample
from .training_clips import TrainingClips

if TYPE_CHECKING:
    from ..training.sky_data import SkySource


@dataclass(frozen=True)
class Window:
    """One clip for training: of which file (a number in the survey), in which bucket, and its frames in the file."""

    file: int
    bucket: Bucket
    frames: tuple[int, ...]


class ClipSet(TrainingClips):
    """Clips cut from the files of a folder, resampled, and brought to buckets; in the order of names and of time.

    Args:
        found: what `survey` found.
        rules: sizes, lengths and frame rate.
        split_cuts: cut files at scene cuts, so that no clip shows two scenes.
        strict: raise as below; the doctor reports instead.

    Attributes:
        windows: one per clip.
        too_short: stretches that are shorter than the shortest bucket, and so not used.

    Raises:
        DataError: caption files that cannot be used, or no clip long enough.
    """

    def __init__(self, found: Survey, rules: BucketRules | None = None, split_cuts: bool = True, strict: bool = True):
        if strict:
            found.captions.require()
        self.survey, self.rules, self.split_cuts = found, rules or BucketRules(), split_cuts
        windows: list[Window] = []
        short: list[Problem] = []
        for number, clip in enumerate(found.clips):
            new, problems = _cut(number, clip, self.rules, split_cuts)
            windows += new
            short += problems
        if strict and not windows:
            raise DataError(
                f"{found.folder} holds no clip that is long enough: expected at least {min(self.rules.lengths())} "
                f"frames{_at(self.rules.fps)}. {short[0].sentence} Ask for fewer frames, or bring longer clips."
            )
        self.windows, self.too_short = tuple(windows), tuple(short)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        rules: BucketRules | None = None,
        *,
        split_cuts: bool = True,
        image_fps: float | Fraction = 24,
        cut_rules: CutRules | None = None,
        on_progress: Progress | None = None,
    ) -> ClipSet:
        """Look through a folder and make a set of it; see `survey` for the arguments and errors."""
        return cls(survey(folder, image_fps, cut_rules, on_progress), rules, split_cuts)

    def __len__(self) -> int:
        return len(self.windows)

    def name(self, index: int) -> str:
        """Of clip `index`, for people: its file and where in it."""
        window = self.windows[index]
        return f"{self._of(window).file.name}, frames {window.frames[0]} to {window.frames[-1]}"

    def group(self, index: int) -> str:
        """The file that clip `index` was cut from: clips of one file are alike."""
        return self._of(self.windows[index]).file.name

    def bucket(self, index: int) -> Bucket:
        """Frames, height and width of clip `index`."""
        return self.windows[index].bucket

    def captions(self, index: int) -> tuple[str, ...]:
        """Wordings of clip `index`; ("",) for a clip without words."""
        return self._of(self.windows[index]).caption.wordings or ("",)

    def clip(self, index: int) -> Tensor:
        """Decode clip `index`: `[3, F, H, W]` float32 in -1..1. Holds one frame of the file at a time.

        Raises `MediaError` when the file is not what it was.
        """
        window = self.windows[index]
        clip = self._of(window)
        height, width = window.bucket.height, window.bucket.width
        fitted = {
            number: middle(picture, height, width)
            for number, picture in _pictures(clip, sorted(set(window.frames)), window.bucket)
        }
        missing = [number for number in window.frames if number not in fitted]
        if missing:
            raise MediaError(
                f"{clip.file.path} has no frame {missing[0]}; expected {clip.analysis.frames} frames as when it was "
                "looked through. It was changed since: look through the folder again."
            )
        return torch.stack([fitted[number] for number in window.frames], 1)

    def fingerprint(self) -> Fingerprint:
        """Bytes, captions and cutting of every file, and the rules. Names count, the folder's place does not."""
        pieces: dict[int, list[Window]] = {}
        for window in self.windows:
            pieces.setdefault(window.file, []).append(window)
        files = {
            self.survey.clips[number].file.name: {
                "content": self.survey.clips[number].analysis.sha256,
                "captions": digest(self.survey.clips[number].caption.wordings),
                "pieces": digest([[str(w.bucket), list(w.frames)] for w in windows]),
            }
            for number, windows in pieces.items()
        }
        rules = {key: str(value) for key, value in dataclasses.asdict(self.rules).items()}
        return Fingerprint("clips of a folder", {**rules, "split_cuts": str(self.split_cuts)}, files)

    def _of(self, window: Window) -> SurveyedClip:
        return self.survey.clips[window.file]


def _at(fps: Fraction | None) -> str:
    return f" at {float(fps):g} frames per second" if fps is not None else ""


def _cut(number: int, clip: SurveyedClip, rules: BucketRules, split: bool) -> tuple[list[Window], list[Problem]]:
    """Clips of one file, and stretches that are too short."""
    file, analysis = clip.file, clip.analysis
    height, width = rules.shape_for(file.height, file.width)
    times = exact_times(analysis.times, file.fps)
    windows, problems = [], []
    for start, stop in segments(analysis.frames, analysis.cuts if split else ()):
        frames = resample(times, file.fps, rules.fps, start, stop)
        pieces = rules.windows(frames)
        windows += [Window(number, Bucket(len(piece), height, width), piece) for piece in pieces]
        if not pieces:
            problems.append(
                Problem("too short", file.name, _short(file, start, stop, len(frames), analysis.frames, rules))
            )
    return windows, problems


def _short(file: ClipFile, start: int, stop: int, count: int, total: int, rules: BucketRules) -> str:
    what = f"{file.path}" if stop - start == total else f"{file.path}, frames {start} to {stop - 1} between scene cuts,"
    frames = "1 frame" if count == 1 else f"{count} frames"
    return f"{what} has {frames}{_at(rules.fps)}; expected at least {min(rules.lengths())}."


def _pictures(clip: SurveyedClip, numbers: list[int], bucket: Bucket) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number, picture that covers the bucket) of some frames of a file, ascending.

    Decodes and converts as little as the file allows.
    """
    size = covering(clip.file.height, clip.file.width, bucket.height, bucket.width)[::-1]
    times = clip.analysis.times.tolist()
    first, last = numbers[0], numbers[-1]
    at = {times[number]: number for number in numbers}
    if len(at) < len(numbers):  # a broken file, with the same time for several frames: counting is all that is left
        yield from _counted(clip, set(numbers), size)
        return
    start = (times[first - 1] + times[first]) / 2 if first else float("-inf")
    for time, picture in ClipSource(clip.file).frames(start, size, at.__contains__):
        yield at[time], picture
        if at[time] == last:
            return


def _counted(clip: SurveyedClip, numbers: set[int], size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    for number, (_, picture) in enumerate(ClipSource(clip.file).frames(size=size)):
        if number in numbers:
            yield number, picture


class SkyClips(TrainingClips):
    """The first `count` clips of a `SkySource` (rendered when asked for), all in one bucket.

    Args:
        wordings: captions per clip.
        device: where clips are rendered; they are handed out on the CPU.
    """

    def __init__(self, source: SkySource, count: int, wordings: int = 4, device: torch.device | str = "cpu"):
        if count < 1 or wordings < 1:
            raise DataError(f"Got {count} clips with {wordings} wordings each; expected at least 1 of both.")
        self._source, self._count, self._wordings, self._device = source, count, wordings, device

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        """Of clip `index`, for people."""
        self._check(index)
        return f"sky {index}"

    @property
    def twins(self) -> bool:
        """Whether clips 2 k and 2 k + 1 are; see `skies.twin`."""
        return self._source.twins

    def group(self, index: int) -> str:
        """The number of the pair for twins, else of the clip."""
        return str(index // 2 if self.twins else index)

    def bucket(self, index: int) -> Bucket:
        """The one bucket there is."""
        self._check(index)
        return Bucket(self._source.frames, self._source.height, self._source.width)

    def captions(self, index: int) -> tuple[str, ...]:
        """Wordings of clip `index`."""
        self._check(index)
        return tuple(self._source.captions(index, self._wordings))

    def clip(self, index: int) -> Tensor:
        """`[3, F, H, W]` float32 in -1..1."""
        self._check(index)
        return self._source.clips(index, 1, self._device)[0].cpu()

    def by_bucket(self) -> dict[Bucket, list[int]]:
        """All clip numbers, under the one bucket: there may be millions."""
        return {self.bucket(0): list(range(self._count))}

    def fingerprint(self) -> Fingerprint:
        """The seed and settings of the source, and how many clips and wordings."""
        rules = {key: str(value) for key, value in self._source.settings().items()}
        return Fingerprint("synthetic skies", {**rules, "clips": str(self._count), "wordings": str(self._wordings)}, {})

    def _check(self, index: int) -> None:
        if not 0 <= index < self._count:
            raise IndexError(f"clip {index} of {self._count}")
