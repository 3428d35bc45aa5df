"""The first look at a folder: clips, captions, and what is in every clip. `ClipSet` and the doctor start from it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..errors import DataError, MediaError
from .analyse import Analysis, analyse
from .captions import Caption, CaptionBook, read_captions
from .cuts import CutRules
from .scan import ClipFile, Problem, Progress, Scan, scan


@dataclass(frozen=True)
class SurveyedClip:
    """A clip, its caption, and what is in it."""

    file: ClipFile
    caption: Caption
    analysis: Analysis


@dataclass(frozen=True)
class Survey:
    """A folder, looked through once.

    Attributes:
        clips: those that can be used, in the order of their names.
        problems: files that are left out and captions that were passed over.
        ignored: other files, and links to folders that are not followed: paths below the folder.
    """

    folder: Path
    clips: tuple[SurveyedClip, ...]
    captions: CaptionBook
    problems: tuple[Problem, ...]
    ignored: tuple[str, ...]


def survey(
    folder: str | Path,
    image_fps: float | Fraction = 24,
    cut_rules: CutRules | None = None,
    on_progress: Progress | None = None,
) -> Survey:
    """Find, caption and look through all clips of a folder: decodes every frame once.

    Args:
        image_fps: frame rate that series of images are taken to have.
        on_progress: called with (clips done, clips, what is being read); may raise to stop.

    Raises:
        DataError: no such folder, or no clip in it that can be read.
    """
    found = scan(folder, image_fps, on_progress)
    book = read_captions(found)
    clips, problems = [], list(found.problems)
    for done, file in enumerate(found.clips):
        try:
            analysis = analyse(file, cut_rules, _teller(on_progress, done, found, file))
        except MediaError as error:
            problems.append(Problem("unreadable", file.name, str(error)))
        else:
            clips.append(SurveyedClip(file, book.captions[file.name], analysis))
    if on_progress is not None:
        on_progress(len(found.clips), len(found.clips), "")
    if not clips:
        reasons = " ".join(problem.sentence for problem in problems[:3])
        raise DataError(f"{folder} holds {len(problems)} clips, but none can be read to its end. {reasons}")
    ignored = tuple(name for name in found.ignored if name not in book.files)
    return Survey(found.folder, tuple(clips), book, (*problems, *book.problems), ignored)


def _teller(on_progress: Progress | None, done: int, found: Scan, file: ClipFile):
    if on_progress is None:
        return None
    total = len(found.clips)
    on_progress(done, total, file.name)
    of = f" of {file.frames}" if file.frames else ""
    return lambda frames: on_progress(done, total, f"{file.name}: frame {frames}{of}")
