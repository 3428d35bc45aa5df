"""Finding clips in a person's folder: videos, animated pictures, folders of numbered images.

Only headers and first frames are read. What cannot be read is reported with its reason and left out; it stops nothing.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ..checkpoint.atomic import reason
from ..errors import DataError, MediaError
from ..folders import walk
from ..media import VideoStream
from ..media.probe import exact_fps
from .images import image_facts, numbered

VIDEOS = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .m2v .ts .mts .m2ts .wmv .asf .flv .f4v .ogv .3gp .3g2 .mxf .y4m".split()
)
ANIMATIONS = frozenset((".gif", ".webp"))
IMAGES = frozenset(".png .jpg .jpeg .bmp .tif .tiff .webp".split())

Progress = Callable[[int, int, str], None]
"""Called with (done, total, name of what is being read); may raise to stop."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file.

    Attributes:
        kind: a word to group by, as "unreadable".
        file: path below the folder, with slashes.
        sentence: names the file, says what was got and what was expected.
    """

    kind: str
    file: str
    sentence: str


@dataclass(frozen=True)
class ClipFile:
    """One clip on disk and what its header says.

    Attributes:
        name: path below the scanned folder, with slashes: of the file, or of the images' folder (for one of several
            numbered series in a folder: folder/series).
        path: where it is. A series has its folder here.
        kind: "video", "animation" or "images".
        width, height: upright, in pixels. fps: frames per second. frames, seconds: None where the header does not tell.
        size: bytes on disk.
        images: file names of a series, in order.
        notes: remarks, sentences.
    """

    name: str
    path: Path
    kind: str
    width: int
    height: int
    fps: Fraction
    frames: int | None
    seconds: float | None
    size: int
    images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scan:
    """Clips in the order of their names, what could not be read, and other files (paths below the folder).

    Links to folders that are not followed are among the other files, with a slash at the end.
    """

    folder: Path
    clips: tuple[ClipFile, ...]
    problems: tuple[Problem, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    name: str
    path: Path
    images: tuple[str, ...] = ()


def scan(folder: str | Path, image_fps: float | Fraction = 24, on_progress: Progress | None = None) -> Scan:
    """Find the clips in `folder` and everything below it, as `walk` does.

    Args:
        image_fps: frame rate that a series of images is taken to have.

    Raises:
        DataError: the folder does not exist, is a file, or holds no clip that can be read (with the reasons).
    """
    folder = Path(folder)
    fps = exact_fps(image_fps)
    try:
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
    except FileNotFoundError as error:
        raise DataError(f"{folder} does not exist; expected a folder with clips to train on.") from error
    except OSError as error:
        raise DataError(f"{folder}: {reason(error)}; expected a folder with clips to train on.") from error
    if not is_folder:
        raise DataError(f"{folder} is a file; expected a folder with clips to train on.")
    found, ignored, problems = _find(folder)
    clips = []
    for done, item in enumerate(found):
        if on_progress is not None:
            on_progress(done, len(found), item.name)
        try:
            clips.append(_series_clip(item, fps) if item.images else _film_clip(item))
        except MediaError as error:
            problems.append(Problem("unreadable", item.name, str(error)))
    if not clips:
        raise DataError(_nothing(folder, problems, ignored))
    return Scan(folder, tuple(clips), tuple(problems), tuple(ignored))


def _nothing(folder: Path, problems: list[Problem], ignored: list[str]) -> str:
    wanted = "expected videos, animated GIF or WebP files, or folders of numbered images"
    if problems:
        reasons = " ".join(problem.sentence for problem in problems[:3])
        return f"{folder} holds {len(problems)} clips or folders, but none can be read; {wanted}. {reasons}"
    if ignored:
        names = ", ".join(ignored[:5]) + (", …" if len(ignored) > 5 else "")
        return f"{folder} holds no clips, only other files ({names}); {wanted}."
    return f"{folder} is empty; {wanted}."


def _find(folder: Path) -> tuple[list[_Found], list[str], list[Problem]]:
    """Candidates by their names alone, sorted; the paths of all other files; folders that cannot be looked into."""
    found: list[_Found] = []
    ignored: list[str] = []
    problems: list[Problem] = []

    def closed(error: OSError) -> None:
        name = Path(error.filename).relative_to(folder).as_posix()
        sentence = f"{error.filename} cannot be looked into: {reason(error)}; expected a folder that may be read."
        problems.append(Problem("unreadable", name, sentence))

    def not_followed(link: Path) -> None:
        ignored.append(f"{link.relative_to(folder).as_posix()}/")

    for here, files in walk(folder, closed, not_followed):
        below = "" if here == folder else here.relative_to(folder).as_posix()
        films = [name for name in files if _is_film(here / name)]
        stems = {Path(name).stem for name in films}
        # A picture named like a video beside it is its preview, not a frame of a series.
        pictures = [name for name in files if name not in films and _is_image(name) and Path(name).stem not in stems]
        found += [_Found(f"{below}/{name}".lstrip("/"), here / name) for name in films]
        used = set(films)
        series = list(_series(pictures))
        for prefix, names in series:
            label = below if len(series) == 1 and below else f"{below}/{prefix or 'images'}".lstrip("/")
            found.append(_Found(label, here, tuple(names)))
            used.update(names)
        ignored += [f"{below}/{name}".lstrip("/") for name in files if name not in used]
    found = _told_apart(found, folder)
    return sorted(found, key=lambda item: item.name), sorted(ignored), problems


def _told_apart(found: list[_Found], folder: Path) -> list[_Found]:
    """A series in a folder of several whose name another clip has as well is called by its first image."""
    taken = Counter(item.name for item in found)
    return [
        replace(item, name=(item.path / item.images[0]).relative_to(folder).as_posix())
        if taken[item.name] > 1 and item.images and item.name != item.path.relative_to(folder).as_posix()
        else item
        for item in found
    ]


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGES


def _is_film(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix == ".webp":  # both a kind of picture and a kind of animation: the flag is in the header
        try:
            with open(path, "rb") as file:
                start = file.read(21)
        except OSError:
            return True  # so that it is reported
        return start[12:16] == b"VP8X" and len(start) == 21 and bool(start[20] & 2)
    return suffix in VIDEOS or suffix in ANIMATIONS


def _series(names: list[str]) -> Iterator[tuple[str, list[str]]]:
    """(what stands before the number, file names in the order of their numbers) of each two or more numbered images."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if (parts := numbered(name)) is not None:
            groups.setdefault(parts[0], []).append((parts[1], name))
    for prefix, members in sorted(groups.items()):
        if len(members) > 1:
            yield prefix, [name for _, name in sorted(members)]


def _series_clip(item: _Found, fps: Fraction) -> ClipFile:
    """Raises `MediaError`."""
    facts = image_facts(item.path, item.images)
    count = len(item.images)
    return ClipFile(
        item.name, item.path, "images", facts.width, facts.height, fps, count, float(count / fps), facts.size,
        item.images, facts.notes,
    )  # fmt: skip


def _film_clip(item: _Found) -> ClipFile:
    """Raises `MediaError`."""
    header = VideoStream(item.path).header()
    if header.kind == "animation" and header.frames == 1:
        raise MediaError(f"{item.path} holds a single picture; expected an animation of at least 2.")
    return ClipFile(
        item.name, item.path, header.kind, header.width, header.height, header.fps, header.frames, header.seconds,
        item.path.stat().st_size, notes=header.notes,
    )  # fmt: skip
