"""Captions from CSV and JSON Lines files."""

from __future__ import annotations

import csv
import io
import json
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..folders import walk
from .scan import Problem

FILE_COLUMNS = ("file", "file_name", "filename", "path", "video")
TEXT_COLUMNS = ("caption", "text", "prompt")
CSV_NAMES = ("captions.csv", "metadata.csv")


@dataclass(frozen=True)
class Row:
    """One caption of a table: the clip's path below the scanned folder, as written there, the words, where it stood."""

    clip: str
    written: str
    caption: str
    table: str
    line: int


def find_tables(folder: Path) -> list[Path]:
    """Caption tables in a folder and below it, sorted."""
    return sorted(
        place / name
        for place, files in walk(folder)
        for name in files
        if name.lower() in CSV_NAMES or name.lower().endswith(".jsonl")
    )


def read_table(
    path: Path, text: str, folder: Path, is_clip: Callable[[str], bool] = lambda name: False
) -> tuple[list[Row], list[Problem]]:
    """Rows of a table whose contents are `text`, and what was passed over.

    is_clip: whether a path below the folder means a clip that there is.

    Raises:
        DataError: the columns for the file or for the caption are missing (says which there are), or a quote that was
            not closed took in other rows.
    """
    name = path.relative_to(folder).as_posix()
    records, problems = (
        _csv_records(path, text, name, lambda written: is_clip(_below(written, path, folder)))
        if path.suffix.lower() == ".csv"
        else _json_records(path, text, name)
    )
    rows: list[Row] = []
    for line, record in records:
        written = str(record[0]).strip()
        if not written:
            problems.append(
                Problem(
                    "caption without clip", name, f"{path}, line {line}, names no file; expected the path of a clip."
                )
            )
            continue
        rows += [Row(_below(written, path, folder), written, words, name, line) for words in _wordings(record[1])]
    return rows, problems


def _wordings(value: Any) -> list[str]:
    """One caption or several, stripped; [""] for none."""
    values = value if isinstance(value, list) else [value]
    texts = [" ".join(str(text).split()) for text in values if text is not None]
    return texts or [""]


def _below(written: str, table: Path, folder: Path) -> str:
    """The path that a table means, below the scanned folder, with slashes."""
    written = written.replace("\\", "/")
    if os.path.isabs(written):
        try:
            return os.path.relpath(written, folder).replace(os.sep, "/")
        except ValueError:  # on Windows: another drive, so no clip of this folder
            return written
    here = table.parent.relative_to(folder).as_posix()
    return posixpath.normpath(posixpath.join(here, written)).rstrip("/")


def _columns(path: Path, there: Sequence[str], where: str = "") -> tuple[str, str]:
    """The names of the columns for the file and for the caption, of those `there`. Raises `DataError`."""
    known = {str(name).strip().lower(): name for name in there if name is not None}
    file = next((known[name] for name in FILE_COLUMNS if name in known), None)
    text = next((known[name] for name in TEXT_COLUMNS if name in known), None)
    if file is None or text is None:
        missing = " and ".join(
            what
            for what, column in (
                (f"one for the clip ({', '.join(FILE_COLUMNS)})", file),
                (f"one for the words ({', '.join(TEXT_COLUMNS)})", text),
            )
            if column is None
        )
        got = ", ".join(str(name) for name in there) or "none"
        how = "" if where else " Name the columns in the first line."
        raise DataError(f"{path}{where} has the columns {got}; expected {missing}.{how}")
    return file, text


def _csv_records(
    path: Path, text: str, name: str, is_clip: Callable[[str], bool]
) -> tuple[list[tuple[int, tuple]], list[Problem]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count) if first else ","
    rows = _csv_rows(path, text, delimiter)
    names = _without_blanks(next((row for _, row in rows if row), []))
    file, words = map(names.index, _columns(path, names))
    records: list[tuple[int, tuple]] = []
    problems: list[Problem] = []
    for line, row in rows:
        cells = _without_blanks(row)
        if any(_took_in_a_row(cell, delimiter, file, is_clip) for cell in cells):
            raise _unclosed(path, line, "into lines that name other clips")
        if len(cells) > len(names) and words == len(names) - 1:  # a comma in a caption without quotes
            cells[words:] = [f"{delimiter.strip()} ".join(cells[words:])]
        if len(cells) > len(names):
            sentence = (
                f"{path}, line {line}, has {len(cells)} values; expected at most {len(names)}, one for "
                f'each column. Put a caption that holds "{delimiter}" into quotes.'
            )
            problems.append(Problem("caption line unreadable", name, sentence))
        elif row:
            cells += [""] * (len(names) - len(cells))
            records.append((line, (cells[file], cells[words])))
    return records, problems


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of each row.

    Odd quotes within one line do no harm: they are read as they stand. From one that runs on over lines nobody knows
    which rows it took in, nor whether rows before it are right: `DataError`.
    """
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while reader.line_num < len(lines):
        first = reader.line_num + 1
        try:
            try:
                row = next(reader)
            except csv.Error:
                if reader.line_num > first:
                    raise _unclosed(path, first, f"on to line {reader.line_num}") from None
                row = next(csv.reader(lines[first - 1 : first], delimiter=delimiter, skipinitialspace=True))
        except csv.Error as error:
            raise DataError(
                f"{path}, line {first}, cannot be read: {error}; expected a table of comma-separated values."
            ) from error
        yield first, row


def _took_in_a_row(cell: str, delimiter: str, file: int, is_clip: Callable[[str], bool]) -> bool:
    """Whether a later line of a cell is a row of the table: it names a clip where the column for it would be."""
    rows = (line.split(delimiter) for line in cell.splitlines()[1:])
    return any(len(row) > max(file, 1) and is_clip(row[file].strip(' \t"')) for row in rows)


def _unclosed(path: Path, line: int, runs: str) -> DataError:
    return DataError(
        f"{path}, line {line}, opens a quote that runs {runs}; expected it to be closed behind the caption. None of "
        "the table is used. Close the quote; a quote within a quoted caption is written twice."
    )


def _without_blanks(cells: list[str]) -> list[str]:
    """Without the empty cells at the end of a line, which spreadsheets write."""
    while cells and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def _json_records(path: Path, text: str, name: str) -> tuple[list[tuple[int, tuple]], list[Problem]]:
    records: list[tuple[int, tuple]] = []
    problems: list[Problem] = []
    for line, value in _json_lines(text):
        try:
            if not isinstance(value, dict):
                raise DataError(
                    f'{path}, line {line}, is no JSON object; expected {{"file": "...", "caption": "..."}}.'
                )
            file, words = _columns(path, list(value), f", line {line},")
            _check_words(path, line, words, value[words])
        except DataError as error:
            problems.append(Problem("caption line unreadable", name, str(error)))
        else:
            records.append((line, (value[file] or "", value[words])))
    if problems and not records:
        raise DataError(problems[0].sentence)
    return records, problems


def _check_words(path: Path, line: int, name: str, value: Any) -> None:
    """Raise `DataError` for a caption that is no text (or number), no list of such, and not left out."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict | list | bool):
            what = {dict: "an object", list: "a list in a list", bool: str(one).lower()}[type(one)]
            raise DataError(f'{path}, line {line}, has {what} as "{name}"; expected a text, or a list of texts.')


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """(line number, value) of each line that is not blank; None for a line that is no JSON."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                yield number, None
