"""Names and places of files: model folders, input files, counted output names. Plain paths, no torch, no ComfyUI."""

from __future__ import annotations

import difflib
import hashlib
import mimetypes
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..dit_core.checkpoint.atomic import reason
from ..dit_core.checkpoint.foreign import refuse_by_suffix
from ..dit_core.errors import SoraDiTError
from ..dit_core.folders import walk

STARTER = "sora-dit-starter.safetensors"
STARTER_FOLDER = Path(__file__).resolve().parent.parent / "models" / "starter"

# ComfyUI's folder kinds that are searched for each part of a model; our own kind comes first.
OWN_KIND = "sora_dit"
KINDS = {
    "model": (OWN_KIND, "diffusion_models"),
    "text_encoder": (OWN_KIND, "text_encoders"),
    "vae": (OWN_KIND, "vae"),
    "lora": ("loras",),
}
_VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".gif", ".m4v", ".webp")
_LONGEST_NAME = 180  # bytes; leaves room for the counter and for a temporary name beside it
_LONGEST_PATH = 1000  # bytes; systems end at 1024 or 4096, the output folder included
_FORBIDDEN = '<>:"|?*'  # not on Windows, hence not on many network drives and memory cards


# --- Model files -------------------------------------------------------------------------------------------------


def roots_in(folders: Iterable[str | Path], kinds: Sequence[str]) -> list[Path]:
    """Search roots in `folders`: each one's sub-folders named as in ComfyUI, then the folder itself.

    Kinds that are not beside our own (LoRAs) are looked for in their sub-folders only, whether those are there or not.
    """
    if OWN_KIND not in kinds:
        return [Path(folder) / kind for folder in folders for kind in kinds]
    roots = []
    for folder in map(Path, folders):
        roots += [folder / kind for kind in kinds if (folder / kind).is_dir()]
        roots.append(folder)
    return roots


def list_models(roots: Iterable[Path]) -> list[str]:
    """Relative names (with `/`) of the `.safetensors` files below `roots`, sorted, without repeats."""
    names = set()
    for root in roots:
        for folder, files in walk(root):
            where = folder.relative_to(root)
            names.update((where / name).as_posix() for name in files if name.endswith(".safetensors"))
    return sorted(names)


def find_model(name: str, roots: Sequence[Path], allow_absolute: bool = False, what: str = "model") -> Path:
    """The weight file `name` below one of `roots`, the first that has it. what: such files are called in sentences.

    Raises:
        SoraDiTError: pickle file, no such file, or a name that leads out of the model folders.
    """
    refuse_by_suffix(Path(name))
    absolute = allow_absolute and Path(name).is_absolute()
    if absolute and _is_file(Path(name)):
        return Path(name)
    for root in roots:
        path = root / name
        if name and _is_file(path) and _inside(path, root):
            return path
    looked = ", ".join(dict.fromkeys(str(root) for root in roots))
    if not roots:
        raise SoraDiTError(f"There is no {what} file {_quoted(name)}, and no folder of models to look in.")
    if name and not absolute and not any(_inside(root / name, root) for root in roots):
        raise SoraDiTError(f"{_quoted(name)} leads out of the model folders. Looked in: {looked}.")
    known = [*list_models(roots), *([STARTER] if what == "model" else [])]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f' Did you mean "{close[0]}"?' if close and close[0] != name else ""
    raise SoraDiTError(f"There is no {what} file {_quoted(name)}.{hint} Looked in: {looked}.")


def file_identity(path: Path) -> tuple[str, int, int]:
    """What changes when a file is replaced: resolved path, modification time in ns, size in bytes."""
    state = path.stat()
    return str(path.resolve()), state.st_mtime_ns, state.st_size


def fingerprint(path: Path) -> str:
    """`file_identity` as a checksum. ComfyUI writes fingerprints into the files it saves, and those are shared with
    others: the folders of this machine are no business of theirs."""
    return hashlib.sha256(repr(file_identity(path)).encode()).hexdigest()


# --- Input files -------------------------------------------------------------------------------------------------


def list_media(folder: Path, kind: str) -> list[str]:
    """Names of the files of `kind` ("video", "image", "audio") directly inside `folder`, sorted."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_file() and _is_media(entry.name, kind))


def _is_media(name: str, kind: str) -> bool:
    guess = (mimetypes.guess_type(name)[0] or "").split("/")[0]
    return guess == kind or (kind == "video" and Path(name).suffix.lower() in _VIDEO_SUFFIXES)


def find_input(name: str, folder_of: Callable[[str], Path], allow_absolute: bool = False) -> Path:
    """The file `name` in the input folder, or in the folder that its ending "[output]" or "[input]" names.

    Raises:
        SoraDiTError: empty name, no such file, or outside the folder.
    """
    kind = "input"
    plain = name.strip()
    for ending in ("input", "output", "temp"):
        if plain.endswith(f"[{ending}]"):
            kind, plain = ending, plain[: -len(ending) - 2].strip()
    if not plain:
        raise SoraDiTError("No file is chosen; choose one from the list or upload one.")
    folder = folder_of(kind)
    absolute = allow_absolute and Path(plain).is_absolute()
    if absolute and _is_file(Path(plain)):
        return Path(plain)
    path = folder / plain
    if absolute:
        raise SoraDiTError(f"There is no file {_quoted(plain)}.")
    if not _inside(path, folder):
        raise SoraDiTError(f"{_quoted(name)} leads out of the {kind} folder {folder}; only files inside it are opened.")
    if not _is_file(path):
        close = difflib.get_close_matches(plain, list_media(folder, "video"), n=1, cutoff=0.5)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        if kind == "input" and _is_file(folder_of("output") / plain):
            hint = f' For the one in the output folder, write "{plain} [output]".'
        elif allow_absolute and _is_file(here := Path(plain).absolute()):
            hint = f" For the one at {here}, give that whole path."
        missing = "" if folder.is_dir() else ", which does not exist"
        raise SoraDiTError(f"There is no file {_quoted(plain)} in the {kind} folder {folder}{missing}.{hint}")
    return path


# --- Output names ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OutputTarget:
    """Where a file is to be saved. path: the file; subfolder: of the output folder, "" for itself.

    The name is free, but another run may take it before this one has written its file; then `count_on` gives the next.
    """

    path: Path
    subfolder: str


def output_target(folder: Path, prefix: str, width: int, height: int, extension: str) -> OutputTarget:
    """The next free name of `prefix` in `folder`: `prefix_00001_.extension`; counts on across extensions.

    `%width% %height% %year% %month% %day% %hour% %minute% %second%` are filled in. Makes the folder.

    Raises:
        SoraDiTError: the prefix is empty, too long, leads out of `folder`, or the folder cannot be made.
    """
    subfolder, stem = _split_prefix(folder, _fill_in(prefix, width, height))
    place = folder / subfolder
    try:
        place.mkdir(parents=True, exist_ok=True)
        number = 1 + max((_number(name, stem) for name in os.listdir(place)), default=0)
    except OSError as error:
        why = "it is a file" if isinstance(error, FileExistsError) else reason(error)
        raise SoraDiTError(f"The output folder {place} cannot be used: {why}.") from error
    return OutputTarget(place / f"{stem}_{number:05}_.{extension.lstrip('.')}", subfolder)


def counter(path: Path) -> int:
    """The number in a name that `output_target` made."""
    return int(path.stem.rsplit("_", 2)[1])  # stem_00001_


def with_counter(path: Path, number: int) -> Path:
    """A name that `output_target` made, with another number."""
    return path.with_name(f"{path.stem.rsplit('_', 2)[0]}_{number:05}_{path.suffix}")


def count_on(path: Path) -> Path:
    """The next name after one that `output_target` made."""
    return with_counter(path, counter(path) + 1)


def check_prefix(folder: Path, prefix: str) -> None:
    """Raise `SoraDiTError` for a prefix that `output_target` would refuse in `folder`; writes nothing."""
    subfolder, _ = _split_prefix(folder, _fill_in(prefix, 0, 0))
    place = folder / subfolder
    nearest = next((one for one in (place, *place.parents) if os.path.exists(one)), folder)
    if subfolder and os.path.isfile(nearest):
        raise SoraDiTError(f"The file name prefix is {_quoted(prefix)}, but {nearest} is a file, not a folder.")


def _split_prefix(folder: Path, prefix: str) -> tuple[str, str]:
    clean = prefix.strip().replace("\\", "/")
    named = f"The file name prefix {_quoted(prefix)}"
    if not clean or clean.endswith("/") or os.path.basename(clean) in (".", ".."):
        raise SoraDiTError(f'{named} is no name; expected a name such as "clip" or "sky/clip".')
    if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in clean):
        raise SoraDiTError("The file name prefix holds a line break or a control character; use plain letters.")
    if Path(clean).is_absolute() or re.match(r"[A-Za-z]:/|~[^/]*/", clean) or not _inside(folder / clean, folder):
        raise SoraDiTError(f'{named} leads out of the output folder; use a name such as "clip" or "sky/clip".')
    if forbidden := " ".join(letter for letter in _FORBIDDEN if letter in clean):
        raise SoraDiTError(f"{named} holds {forbidden} which not every system takes in a file name; use letters and -.")
    clean = os.path.normpath(clean).replace(os.sep, "/")
    longest = max(len(part.encode()) for part in clean.split("/"))
    if longest > _LONGEST_NAME or len(clean.encode()) > _LONGEST_PATH:
        raise SoraDiTError(
            f"{named} is too long: {len(clean.encode())} bytes (an English letter is one); at most {_LONGEST_PATH} in "
            f"all and {_LONGEST_NAME} between two slashes are possible."
        )
    return os.path.dirname(clean), os.path.basename(clean)


def _fill_in(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    values = {"width": str(width), "height": str(height), "year": str(now.tm_year)}
    for name in ("mon", "mday", "hour", "min", "sec"):
        values[name] = f"{getattr(now, 'tm_' + name):02}"
    names = {"month": "mon", "day": "mday", "minute": "min", "second": "sec"}
    for name in ("width", "height", "year", "month", "day", "hour", "minute", "second"):
        prefix = prefix.replace(f"%{name}%", values[names.get(name, name)])
    return prefix


def _number(name: str, stem: str) -> int:
    """The counter in a file name of this stem, 0 for other files; letter case as the file system may fold it."""
    head, rest = name[: len(stem)], name[len(stem) :]
    if os.path.normcase(head) != os.path.normcase(stem) or not rest.startswith("_"):
        return 0
    digits = rest[1:].split("_")[0]
    return int(digits) if digits.isdecimal() else 0


def _quoted(name: str) -> str:
    """A name as it stands in a sentence, cut when it is very long."""
    return f'"{name}"' if len(name) <= 100 else f'"{name[:60]}..." ({len(name)} letters)'


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have (too long, a zero byte) names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _inside(path: Path, folder: Path) -> bool:
    """Whether `path` stays below `folder` when `..` is worked out (links are allowed: users link model folders)."""
    absolute, root = os.path.abspath(path), os.path.abspath(folder)
    return absolute.startswith(root.rstrip(os.sep) + os.sep)
