"""Reading a cache: shards are mapped into memory, so that only the clips of a batch are read from disk."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checkpoint.header import RawHeader
from ..checkpoint.tensors import TORCH_TYPES
from ..data import Bucket
from ..data.held_out import clips_sum, held_out_clips
from ..errors import DataError
from .folder import INDEX, read_json, read_shard
from .identity import twins
from .protocol import Batch

MAPPED = 32  # shards that are mapped at a time


class _Row(NamedTuple):
    """Where a clip lies: number in the data set, shard, row in it."""

    clip: int
    shard: int
    row: int
    group: str


class LatentStore:
    """Encoded clips in buckets; see `Latents`. Made by `open` and `split`.

    Attributes:
        skipped: clip number -> why it is not here.
    """

    def __init__(
        self, shards: _Shards, rows: dict[Bucket, list[_Row]], identity: dict[str, Any], device: torch.device
    ) -> None:
        self._shards, self._identity, self.device = shards, identity, device
        self._rows = {bucket: sorted(found) for bucket, found in sorted(rows.items()) if found}
        self._drawn = [_units(found, twins(identity)) for found in self._rows.values()]
        self.skipped: dict[int, str] = {}

    @classmethod
    def open(cls, folder: str | Path, device: torch.device | str = "cpu") -> LatentStore:
        """Open what `cache_latents` wrote; batches come out on `device`.

        Raises:
            DataError: no cache, one that was not finished, or a shard is missing.
            CheckpointError: a shard is damaged.
        """
        folder = Path(folder)
        index = read_json(folder / INDEX)
        if index is None:
            raise DataError(f"{folder} holds no finished cache of latents (no {INDEX}); expected one, or cache first.")
        rows: dict[Bucket, list[_Row]] = {}
        headers = []
        for number, entry in enumerate(index["shards"]):
            path = folder / entry["file"]
            shard = read_shard(path, index["identity"]) if path.exists() else None
            if shard is None or len(shard["clips"]) != entry["clips"]:
                raise DataError(f"{path} is missing or of another cache; remove {folder} and cache anew.")
            headers.append(shard["header"])
            found = zip(shard["clips"], shard["groups"], strict=True)
            rows.setdefault(shard["bucket"], []).extend(_Row(c, number, i, g) for i, (c, g) in enumerate(found))
        store = cls(_Shards(headers), rows, index["identity"], torch.device(device))
        store.skipped = {int(clip): why for clip, why in index["skipped"].items()}
        return store

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def buckets(self) -> dict[Bucket, int]:
        """How many clips each bucket has."""
        return {bucket: len(rows) for bucket, rows in self._rows.items()}

    def fingerprint(self) -> dict[str, Any]:
        """Data, autoencoder, text and form, JSON values; see `identity.identity`."""
        return self._identity

    def draw(self, batch: int, generator: torch.Generator) -> Batch:
        """Random clips of one bucket, with replacement; buckets are drawn by their share. See `Latents.draw`."""
        device = generator.device
        if device.type != "cpu":  # numbers on a graphics card would have to be waited for
            generator = torch.Generator().manual_seed(generator.initial_seed() ^ 0x5EED)
        at = int(torch.randint(len(self), (1,), generator=generator))
        units = self._drawn[bisect_right(list(accumulate(map(len, self._rows.values()))), at)]
        group = len(units[0])
        count = -(-batch // group)
        index = torch.randint(len(units), (count,), generator=generator).tolist()
        wording = torch.rand(count, generator=generator).repeat_interleave(group).tolist()
        chosen = [row for i in index for row in units[i]]
        if batch < group:  # or the second would never be drawn
            chosen = chosen[int(torch.randint(group, (1,), generator=generator)) :]
        return self._read(chosen[:batch], wording[:batch], group, device)

    def _read(self, rows: Sequence[_Row], wording: Sequence[float], group: int, device: torch.device) -> Batch:
        latents = torch.stack([self._shards.tensor(r.shard, "latents")[r.row] for r in rows])
        texts = []
        for r, share in zip(rows, wording, strict=True):
            count = int(self._shards.tensor(r.shard, "wordings")[r.row])
            texts.append(self._shards.tensor(r.shard, "tokens")[r.row, min(int(share * count), count - 1)])
        tokens = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
        for line, text in zip(tokens, texts, strict=True):
            line[: len(text)] = text
        # the type is changed where it is fast, and half as much has to get there
        return Batch(latents.to(device, non_blocking=True).float(), tokens.to(device, non_blocking=True), group)

    def deviation(self, clips: int = 2048) -> tuple[float, ...]:
        """Standard deviation of each channel, over the first clips."""
        count, total, squares = 0, 0.0, 0.0
        rows = sorted(self._all())[:clips]
        for row in rows:
            flat = self._shards.tensor(row.shard, "latents")[row.row].double().flatten(1)  # [C, T h w]
            count, total, squares = count + flat.shape[1], total + flat.sum(1), squares + flat.square().sum(1)
        variance = (squares - total.square() / count) / max(1, count - 1)
        return tuple(variance.clamp_min(1e-12).sqrt().tolist())

    def split(self, held_out_share: float, seed: int = 0) -> tuple[LatentStore, LatentStore | None]:
        """Two views, for training and held out: the same ones for the same clips and seed.

        Clips that were cut from one file stay together where that comes near the share (half to twice as many clips
        as asked for). Else, as with one file only, each clip is on its own. A share above 0 holds out one clip at least
        and never all of them; without a share, or with a single clip, None is held out.
        Raises `ConfigError` for a share outside 0..1.
        """
        chosen = held_out_clips({row.clip: row.group for row in self._all()}, held_out_share, seed)
        return (self._view(chosen, False), self._view(chosen, True)) if chosen else (self, None)

    def _view(self, chosen: set[int], held_out: bool) -> LatentStore:
        rows = {b: [row for row in found if (row.clip in chosen) == held_out] for b, found in self._rows.items()}
        part = {"held_out": held_out, "clips": clips_sum(row.clip for found in rows.values() for row in found)}
        view = LatentStore(self._shards, rows, self._identity | {"part": part}, self.device)
        view.skipped = self.skipped
        return view

    def _all(self) -> list[_Row]:
        return [row for found in self._rows.values() for row in found]


def _units(rows: list[_Row], twins: bool) -> list[tuple[_Row, ...]]:
    """What is drawn at once: single clips, or whole pairs of twins. A clip without its twin is drawn where all are."""
    if twins:
        groups: dict[str, list[_Row]] = {}
        for row in rows:
            groups.setdefault(row.group, []).append(row)
        pairs = [tuple(found) for found in groups.values() if len(found) == 2]
        if pairs:
            return pairs
    return [(row,) for row in rows]


class _Shards:
    """Tensors of mapped files; the least recently used file is let go when there are many."""

    def __init__(self, headers: list[RawHeader]) -> None:
        self._headers = headers
        self._open: OrderedDict[int, dict[str, Tensor]] = OrderedDict()

    def tensor(self, shard: int, name: str) -> Tensor:
        """A view into the file."""
        if shard not in self._open:
            while len(self._open) >= MAPPED:
                self._open.popitem(last=False)
            self._open[shard] = self._map(self._headers[shard])
        self._open.move_to_end(shard)
        return self._open[shard][name]

    @staticmethod
    def _map(raw: RawHeader) -> dict[str, Tensor]:
        size = raw.data_start + max(info.end for info in raw.tensors.values())
        try:
            data = torch.from_file(str(raw.path), shared=False, size=size, dtype=torch.uint8)
        except (RuntimeError, OSError) as error:
            raise DataError(f"{raw.path} cannot be read any more ({error}); expected a shard of the cache.") from error
        return {
            name: data[raw.data_start + i.begin : raw.data_start + i.end].view(TORCH_TYPES[i.dtype]).reshape(i.shape)
            for name, i in raw.tensors.items()
        }
