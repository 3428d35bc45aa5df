"""Checksums: of a bundle's content, so that damage is found, and of whole files, for manifests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import CheckpointError
from .atomic import reason
from .header import ITEM_BYTES, TensorInfo

_CHUNK = 1 << 20  # bytes read at a time
_CACHE_LIMIT = 256  # files
_cache: dict[tuple[str, int, int], str] = {}


def canonical_order(tensors: dict[str, TensorInfo]) -> list[str]:
    """Names in the order in which they are written and hashed: widest type first (keeps data aligned), then by name."""
    return sorted(tensors, key=lambda name: (-ITEM_BYTES[tensors[name].dtype], name))


class ContentHash:
    """SHA-256 over everything a bundle means: metadata, and every tensor's name, type, shape and bytes.

    It does not depend on how the header is spelled, so a file rewritten by the safetensors library keeps it.
    Feed the tensors' bytes in `canonical_order`.
    """

    def __init__(self, metadata: dict[str, str], tensors: dict[str, TensorInfo]):
        self._hash = hashlib.sha256()
        meta = {key: value for key, value in metadata.items() if key != "content_sha256"}
        table = [[name, tensors[name].dtype, list(tensors[name].shape)] for name in canonical_order(tensors)]
        self._hash.update(json.dumps([meta, table], sort_keys=True, separators=(",", ":")).encode())

    def update(self, data) -> None:
        """Add the bytes of the next tensor (any buffer)."""
        self._hash.update(data)

    def hexdigest(self) -> str:
        """The 64-character checksum."""
        return self._hash.hexdigest()


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a whole file, 64 hex characters; remembered while its size and time stay the same.

    Raises:
        CheckpointError: the file cannot be read.
    """
    path = Path(path)
    try:
        real = os.path.realpath(path)
        with open(real, "rb") as file:
            stat = os.fstat(file.fileno())
            key = (real, stat.st_size, stat.st_mtime_ns)
            if key not in _cache:
                digest = hashlib.sha256()
                for chunk in _chunks(file):
                    digest.update(chunk)
                while len(_cache) >= _CACHE_LIMIT:
                    _cache.pop(next(iter(_cache)))
                _cache[key] = digest.hexdigest()
            return _cache[key]
    except OSError as error:
        why = "it does not exist" if isinstance(error, FileNotFoundError) else reason(error)
        raise CheckpointError(f"{path} cannot be read: {why}.") from error


def _chunks(file) -> Iterable[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk
