"""Where trainings keep what they make: runs, cached latents, new weight files. Plain paths, no torch, no ComfyUI."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..dit_core.errors import SoraDiTError
from ..dit_core.folders import walk
from ._files import fingerprint

RUNS, LATENTS = "sora_dit_training", "sora_dit_latents"
"""Folders in the output folder."""
STATE = "state.safetensors"
"""What `dit_core.training.state.state_path` calls the state in the folder of a run; that would load torch."""
_FORBIDDEN = '<>:"|?*/\\'
_LONGEST_NAME = 100  # bytes
_DEPTH = 3  # folders in folders that are listed
_LISTED = 1000  # folders
_missing = itertools.count()


def run_folder(output: Path, name: str) -> Path:
    """The folder of a training run; it need not exist."""
    return output / RUNS / checked_name(name, "run")


def latents_folder(output: Path, name: str) -> Path:
    """The folder of cached latents; it need not exist."""
    return output / LATENTS / checked_name(name, "name")


def weights_file(folder: Path, name: str) -> Path:
    """The file for new weights in `folder`; the ending `.safetensors` need not be written."""
    return folder / f"{checked_name(str(name).strip().removesuffix('.safetensors'), 'name')}.safetensors"


def list_runs(output: Path) -> list[str]:
    """Names of the training runs in the output folder, the one that was at work last first."""
    place = output / RUNS
    found = [one for one in place.iterdir() if (one / "log.jsonl").is_file()] if place.is_dir() else []
    return [one.name for one in sorted(found, key=lambda one: (-(one / "log.jsonl").stat().st_mtime, one.name))]


def checked_name(name: str, what: str) -> str:
    """`name` without spaces around it. what: such names are called in sentences.

    Raises:
        SoraDiTError: it cannot be the name of a folder or file on every system.
    """
    clean = str(name).strip()
    if not clean or clean.strip(".") == "" or clean.startswith("."):
        raise SoraDiTError(f'{what} is "{clean}"; expected a name such as "my_clips", it becomes the name of a folder.')
    if wrong := " ".join(one for one in _FORBIDDEN if one in clean):
        raise SoraDiTError(f'{what} is "{clean[:60]}", which holds {wrong}; use letters, numbers, - and _.')
    if any(ord(one) < 32 or 0xD800 <= ord(one) < 0xE000 for one in clean) or clean.endswith("."):
        raise SoraDiTError(f"{what} holds a line break or control character, or ends in a dot; use plain letters.")
    if len(clean.encode()) > _LONGEST_NAME:
        raise SoraDiTError(f"{what} has {len(clean.encode())} bytes; expected at most {_LONGEST_NAME}.")
    return clean


def kept_identity(file: Path, *beside: Path) -> str:
    """A fingerprint of what a node keeps in its folder: another one when `file` was removed or replaced.

    Without it, or without one of the files `beside` it, the fingerprint is never the same twice: the node has to run.
    So a node that has just made them is called once more the next time, and only opens them; in return whoever removes
    a folder gets it anew.
    """
    try:
        if all(one.is_file() for one in beside):
            return fingerprint(file)
    except OSError:
        pass
    return f"missing {next(_missing)}"  # not NaN: ComfyUI would write that into files, and it is no JSON


def presence(file: Path) -> str:
    """A fingerprint that only tells whether the file is there; without it, never the same twice."""
    return "there" if file.is_file() else f"missing {next(_missing)}"


def free_name(file: Path) -> Path:
    """`file`, or the first of NAME_2, NAME_3, ... beside it that is not there."""
    names = (file.with_name(f"{file.stem}_{number}{file.suffix}") for number in itertools.count(2))
    return next(one for one in itertools.chain([file], names) if not one.exists())


# --- Folders of clips --------------------------------------------------------------------------------------------


def list_folders(folder: Path) -> list[str]:
    """Relative names (with `/`) of the folders below `folder`, sorted; hidden ones are passed over."""
    return sorted(_folders(str(folder), "", _DEPTH))[:_LISTED]


def _folders(folder: str, below: str, depth: int) -> Iterator[str]:
    """The editor asks often, and input folders can be full of files: nothing but folders is looked at."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return
    for entry in found:
        yield below + entry.name
        if depth > 1:
            yield from _folders(entry.path, f"{below}{entry.name}/", depth - 1)


def find_folder(name: str, folder: Path, allow_absolute: bool = False) -> Path:
    """The folder `name` in `folder`; a link to elsewhere is followed.

    Raises:
        SoraDiTError: no name, no such folder, a file, or it lies outside.
    """
    plain = str(name or "").strip()
    if not plain:
        raise SoraDiTError(f"No folder is chosen; put a folder with clips into {folder} and choose it from the list.")
    path = Path(plain) if allow_absolute and Path(plain).is_absolute() else folder / plain
    inside = os.path.abspath(path).startswith(os.path.abspath(folder).rstrip(os.sep) + os.sep)
    if not inside and not (allow_absolute and Path(plain).is_absolute()):
        raise SoraDiTError(
            f'"{plain[:100]}" leads out of the input folder {folder}; put the clips, or a link to their folder, there.'
        )
    if path.is_file():
        raise SoraDiTError(f'"{plain[:100]}" is a file; expected a folder with clips.')
    if not path.is_dir():
        close = difflib.get_close_matches(plain, list_folders(folder), n=1, cutoff=0.5)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        if allow_absolute and os.path.isdir(here := os.path.abspath(os.path.expanduser(plain))):
            hint = f" For the one at {here}, give that whole path."
        raise SoraDiTError(f'There is no folder "{plain[:100]}" in the input folder {folder}.{hint}')
    return path


def folder_identity(folder: Path) -> list:
    """What changes when a file in the folder is added, replaced or removed: a checksum of names, modification times
    and sizes. ComfyUI writes it into the files it saves: names would be told to others, and fill megabytes."""
    found = []
    for place, files in walk(folder):
        for name in files:
            found.append([os.path.relpath(place / name, folder)])
            with suppress(OSError):  # a link to nothing
                state = os.stat(place / name)
                found[-1] += [state.st_mtime_ns, state.st_size]
    return [hashlib.sha256(repr((str(folder.resolve()), found)).encode()).hexdigest()]
