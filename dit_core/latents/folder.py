"""The files of a cache.

caching.json            while it is made: the identity
shard_00000.safetensors  latents [n, C, T, h, w], tokens [n, wordings, L] (0 = padding), wordings [n] (how many of
                        them there are), clips [n] (numbers in the data set); in the metadata bucket and groups
index.json              written last: identity, shards, and which clips were left out
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import read_safetensors_header
from ..checkpoint.atomic import reason, whole_file
from ..checkpoint.save import write_tensors
from ..data import Bucket
from ..data.fingerprint import digest
from ..errors import CheckpointError, DataError
from .identity import differences

FORMAT, VERSION = "sora_dit_latents", 1
INDEX, UNFINISHED = "index.json", "caching.json"


@dataclass(frozen=True)
class Entry:
    """One encoded clip: latent [C, T, h, w], tokens [wordings, L]; group: what it was cut from."""

    index: int
    bucket: Bucket
    group: str
    latent: Tensor
    tokens: Tensor


class CacheFolder:
    """A folder of shards.

    Attributes:
        skipped: clip number -> why it could not be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = path, {}
        self.identity: dict[str, Any] = {}
        self._shards: dict[str, dict[str, Any]] = {}  # file name -> bucket, numbers of its clips

    def opened_for(self, identity: dict[str, Any]) -> bool:
        """Whether the folder is a finished cache of just this. Raises `DataError` when it is one of something else.

        One that lacks clips is not finished: what could not be read then (a drive that was away) is tried again.
        """
        for name in (INDEX, UNFINISHED):
            then = read_json(self.path / name)
            if then is None:
                continue
            if differ := differences(then.get("identity") or {}, identity):
                raise DataError(
                    f"{self.path} holds other latents than asked for. {' '.join(differ)} "
                    "Choose another folder, or remove this one to make them anew."
                )
            return name == INDEX and not then.get("skipped")
        return False

    def is_new(self) -> bool:
        """Whether nothing was cached here yet."""
        return not any((self.path / name).exists() for name in (INDEX, UNFINISHED))

    def start(self, identity: dict[str, Any]) -> None:
        """Begin, or go on: finds what is there."""
        self.identity = identity
        self._save(UNFINISHED, {"identity": identity})
        for file in self.path.glob(".*.part"):  # of a process that was killed; the folder is ours now
            file.unlink(missing_ok=True)
        for file in sorted(self.path.glob("shard_*.safetensors")):
            shard = read_shard(file, identity)
            if shard is not None:
                self._shards[file.name] = shard

    def done(self) -> set[int]:
        """Numbers of the clips that need no more work."""
        return {index for shard in self._shards.values() for index in shard["clips"]} | set(self.skipped)

    def count(self) -> int:
        """Clips in the shards."""
        return sum(len(shard["clips"]) for shard in self._shards.values())

    def write(self, entries: list[Entry]) -> None:
        """One more shard; `entries` are of one bucket. Raises `DataError` when it cannot be written."""
        if not entries:
            return
        numbers = [int(name[6:11]) for name in self._shards]
        path = self.path / f"shard_{max(numbers, default=-1) + 1:05d}.safetensors"
        wordings, length = max(len(e.tokens) for e in entries), max(e.tokens.shape[1] for e in entries)
        tokens = entries[0].tokens.new_zeros(len(entries), wordings, length)
        for row, entry in zip(tokens, entries, strict=True):
            row[: len(entry.tokens), : entry.tokens.shape[1]] = entry.tokens
        tensors = {
            "latents": torch.stack([e.latent for e in entries]),
            "tokens": tokens,
            "wordings": torch.tensor([len(e.tokens) for e in entries]),
            "clips": torch.tensor([e.index for e in entries]),
        }
        bucket = entries[0].bucket
        metadata = {
            "format": FORMAT,
            "identity": digest(self.identity),
            "bucket": json.dumps([bucket.frames, bucket.height, bucket.width]),
            "clips": json.dumps([e.index for e in entries]),
            "groups": json.dumps([e.group for e in entries]),
        }
        try:
            with whole_file(path) as temporary:
                write_tensors(temporary, tensors, {name: t.dtype for name, t in tensors.items()}, metadata)
        except OSError as error:
            raise self._cannot_write(path, error) from error
        self._shards[path.name] = {"bucket": bucket, "clips": [e.index for e in entries]}

    def finish(self) -> None:
        """Write the index: from now on it is a cache."""
        shards = [{"file": name, "clips": len(shard["clips"])} for name, shard in sorted(self._shards.items())]
        self._save(INDEX, {"identity": self.identity, "shards": shards, "skipped": self.skipped})
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def _save(self, name: str, value: dict[str, Any]) -> None:
        path = self.path / name
        try:
            with whole_file(path) as temporary:
                temporary.write_text(json.dumps({"format": FORMAT, "version": VERSION, **value}), encoding="utf-8")
        except OSError as error:
            raise self._cannot_write(path, error) from error

    def _cannot_write(self, path: Path, error: OSError) -> DataError:
        return DataError(
            f"{path} cannot be written: {reason(error)}. The {self.count()} clips cached before are kept; when that is "
            "mended, the same call goes on where it was."
        )


def read_json(path: Path) -> dict[str, Any] | None:
    """An index, finished or not; None if there is none. Raises `DataError` when it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is not JSON"
        raise DataError(f"{path} cannot be read: {why}. Remove the folder to cache anew.") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT or value.get("version") != VERSION:
        raise DataError(f"{path} is not the index of a latent cache of this version; choose another folder.")
    return value


def read_shard(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Bucket, clip numbers, groups and header of a shard; None for one that belongs to something else.

    Raises `CheckpointError` for a damaged file.
    """
    try:
        raw = read_safetensors_header(path)
    except CheckpointError as error:
        said = str(error).removesuffix(" Copy or download it again.")  # nobody has another one
        raise CheckpointError(f"{said} Remove the folder {path.parent} to cache anew.") from error
    meta = raw.metadata
    if meta.get("format") != FORMAT or meta.get("identity") != digest(identity):
        return None
    return {
        "bucket": Bucket(*json.loads(meta["bucket"])),
        "clips": json.loads(meta["clips"]),
        "groups": json.loads(meta["groups"]),
        "header": raw,
    }
