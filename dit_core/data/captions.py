"""Captions of clips: from texts beside them, from tables, else from the names of folders.

For each clip the first of these that there is counts:

1. `<clip>.txt` beside it (`wave.txt` or `wave.mp4.txt` for `wave.mp4`; for images in the folder `wave`: `wave.txt`
   beside that folder, or `caption.txt` in it), in upper or lower case. Each line that is not blank is one wording. A
   blank file is an empty caption, on purpose or not.
2. `captions.csv`, `metadata.csv` or any `*.jsonl`, in the folder or below it; its paths count from where it lies.
   Several rows for one clip are several wordings.
3. The name of the nearest folder around the clip, below the scanned one, that has a letter in it: `_` and `-` become
   spaces, and a number in front ("10_red balloon") is dropped. Clips that lie directly in the scanned folder have none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..checkpoint.atomic import reason
from ..errors import DataError
from .caption_tables import Row, find_tables, read_table
from .scan import ClipFile, Problem, Scan

SOURCES = ("text", "table", "folder", "none")


@dataclass(frozen=True)
class Caption:
    """Wordings of one clip, where they come from (one of `SOURCES`), and the file they come from."""

    wordings: tuple[str, ...]
    source: str
    file: str = ""

    @property
    def is_empty(self) -> bool:
        """A caption was given, but there are no words in it."""
        return self.source != "none" and not self.wordings


@dataclass(frozen=True)
class CaptionBook:
    """Captions by clip name.

    Attributes:
        captions: a `Caption` for every clip of the scan.
        problems: rows and lines that were passed over (clips that do not exist, broken JSON).
        refused: texts and tables that cannot be used at all: training without them would be training on other captions.
        files: all texts and tables, used or refused, as paths below the folder.
    """

    captions: dict[str, Caption]
    problems: tuple[Problem, ...]
    refused: tuple[Problem, ...]
    files: frozenset[str] = frozenset()

    def require(self) -> None:
        """Raise `DataError` when a caption file cannot be used."""
        if self.refused:
            more = len(self.refused) - 1
            also = f" (And {more} more caption files like it.)" if more else ""
            raise DataError(self.refused[0].sentence + also)


def read_captions(found: Scan) -> CaptionBook:
    """Captions for all clips of a scan, by the rules on top of this module."""
    tables = find_tables(found.folder)
    rows, problems, refused = _all_rows(found, tables)
    captions, texts = {}, _Texts(found)
    for clip in found.clips:
        try:
            beside = texts.beside(clip)
        except DataError as error:
            refused.append(Problem("captions refused", clip.name, str(error)))
            beside = None
        if beside is not None:
            captions[clip.name] = beside
        elif clip.name in rows:
            wordings = tuple(dict.fromkeys(row.caption for row in rows[clip.name] if row.caption))
            captions[clip.name] = Caption(wordings, "table", rows[clip.name][0].table)
        else:
            words = folder_words(clip)
            captions[clip.name] = Caption((words,), "folder") if words else Caption((), "none")
    files = {caption.file for caption in captions.values()} | {_name(table, found) for table in tables}
    return CaptionBook(captions, tuple(problems), tuple(refused), frozenset(files))


def folder_words(clip: ClipFile) -> str:
    """Rule 3 on top of this module; "" where there is no such folder."""
    parts = PurePosixPath(clip.name).parts
    series_in_folder = clip.kind == "images" and parts[-1] == clip.path.name
    for part in reversed(parts if series_in_folder else parts[:-1]):
        words = re.sub(r"\s+", " ", re.sub(r"^\d+[_\- ]+(?=\D)", "", part).replace("_", " ").replace("-", " ")).strip()
        if re.search(r"[^\W\d_]", words):
            return words
    return ""


class _Texts:
    """The texts of a scan, found by the clip that they lie beside.

    Upper or lower case of the name counts only where it must: systems that do not tell them apart write "A.TXT".
    """

    def __init__(self, found: Scan) -> None:
        self._folder = found.folder
        self._exact = {_spelled(name): name for name in reversed(found.ignored) if name.lower().endswith(".txt")}
        taken = {name for clip in found.clips for name in self._names(clip)}
        self._loose = {key.casefold(): name for key, name in self._exact.items() if key not in taken}

    def _names(self, clip: ClipFile) -> list[str]:
        """What the text of a clip may be called, below the folder."""
        if clip.kind == "images":
            names = [f"{clip.name}.txt", (clip.path / "caption.txt").relative_to(self._folder).as_posix()]
        else:
            names = [PurePosixPath(clip.name).with_suffix(".txt").as_posix(), f"{clip.name}.txt"]
        return [_spelled(name) for name in names]

    def beside(self, clip: ClipFile) -> Caption | None:
        """Raises `DataError` for a text that cannot be read."""
        names = self._names(clip)
        found = [self._exact.get(name) for name in names] + [self._loose.get(name.casefold()) for name in names]
        name = next((one for one in found if one), None)
        if name is None:
            return None
        lines = [line.strip() for line in read_text(self._folder / name).splitlines()]
        return Caption(tuple(dict.fromkeys(line for line in lines if line)), "text", name)


def _spelled(name: str) -> str:
    """One spelling of names that look the same: letters with accents are composed, an ending .TXT is .txt."""
    name = unicodedata.normalize("NFC", name)
    return name[:-4] + ".txt" if name.lower().endswith(".txt") else name


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark. Raises `DataError` naming the place that is not."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}; expected a text file with captions.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"a byte {data[error.start]:#04x} in line {line}"
        raise DataError(
            f"{path} is not UTF-8: got {kind}; expected a text saved as UTF-8. Save it again with that encoding."
        ) from error


def _name(path: Path, found: Scan) -> str:
    return path.relative_to(found.folder).as_posix()


def _all_rows(found: Scan, tables: Iterable[Path]) -> tuple[dict[str, list[Row]], list[Problem], list[Problem]]:
    """Rows of all tables by the name of the clip that they mean; lines passed over; tables refused."""
    by_name = {clip.name: clip.name for clip in found.clips}
    unread = {problem.file for problem in found.problems}
    # A table may leave out the ending. Where that is ambiguous it means none.
    for short, names in _grouped((str(PurePosixPath(name).with_suffix("")), name) for name in list(by_name)).items():
        if len(names) == 1:
            by_name.setdefault(short, names[0])
    for name in list(by_name):  # macOS takes accents apart, and tables are written elsewhere
        by_name.setdefault(_spelled(name), by_name[name])
    clips = by_name.keys() | unread
    rows: dict[str, list[Row]] = {}
    problems, refused = [], []
    for table in tables:
        name = _name(table, found)
        try:
            read, bad = read_table(table, read_text(table), found.folder, clips.__contains__)
        except DataError as error:
            refused.append(Problem("captions refused", name, str(error)))
            continue
        problems += bad
        for row in read:
            clip = by_name.get(row.clip) or by_name.get(_spelled(row.clip))
            if clip is not None:
                rows.setdefault(clip, []).append(row)
            elif row.clip not in unread:  # those are reported already
                sentence = (
                    f"{table}, line {row.line}, names {row.written!r}; expected one of the clips that were found."
                )
                problems.append(Problem("caption without clip", name, sentence))
    return rows, problems, refused


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
