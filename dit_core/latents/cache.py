"""Caching: every clip goes once through the frozen autoencoder, every caption through the tokenizer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoder import CausalVideoAutoencoder
from ..data import Bucket, CacheFormat, TrainingClips, bucket_counts, captions_of, clip_of, plan_cache
from ..device import autocast, has_bfloat16
from ..errors import Cancelled, ConfigError, DataError, MediaError
from ..lock import folder_lock
from ..text import TextEncoder
from .folder import CacheFolder, Entry
from .identity import identity
from .store import LatentStore

SHARD_BYTES = 64 << 20
SHARD_SECONDS = 300.0  # a shard is written after this long, full or not: a killed caching loses no more
PIXELS = 1 << 22  # of all clips that pass the autoencoder at once: 64 clips of 17 frames of 64 x 64

Progress = Callable[[int, int, str], object]


def cache_format(
    autoencoder: CausalVideoAutoencoder, text: TextEncoder, dtype: torch.dtype = torch.float16
) -> CacheFormat:
    """What `plan_cache` has to know to say how large the cache of `cache_latents` becomes (at most)."""
    c = autoencoder.config
    tokens = _token_type(text)
    return CacheFormat(c.latent_channels, c.spatial_factor, c.temporal_factor, dtype, text.max_length, 1, tokens)


def cache_latents(
    clips: TrainingClips,
    autoencoder: CausalVideoAutoencoder,
    text: TextEncoder,
    folder: str | Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    wordings: int = 4,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float16,
    on_progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> LatentStore:
    """Encode all clips (posterior mean, normalised) and tokenise their captions; goes on with what was stopped.

    A clip that cannot be decoded is left out; `LatentStore.skipped` tells which and why. A folder that holds these
    latents already is opened, and nothing is computed.

    Args:
        folder: gets shards of one bucket each, and, at the very end, `index.json`.
        shard_bytes: latents in one shard file.
        wordings: at most so many captions of each clip are kept, the first ones.
        device: where the autoencoder is.
        dtype: type of the stored latents.
        on_progress: called with (clips done, clips, name of the next); may raise to stop.
        stop: asked after every few clips; True = write what there is and raise `Cancelled`.

    Raises:
        DataError: the folder holds other latents (says what differs), the clips do not fit the autoencoder, the disk
            has too little room, or no clip can be decoded.
        ConfigError: the autoencoder's latents were never measured, or a number is out of range.
        FolderInUse: another process is caching there.
        Cancelled: `stop` said so; call again to go on.
    """
    if wordings < 1 or shard_bytes < 1:
        raise ConfigError(f"Got {wordings} wordings and shards of {shard_bytes} bytes; expected at least 1 of both.")
    if autoencoder.statistics is None:
        raise ConfigError(
            "The autoencoder does not know mean and deviation of its latents; expected one that was trained to its "
            "end or loaded from a checkpoint."
        )
    form = {"dtype": str(dtype).removeprefix("torch."), "wordings": wordings}
    made = identity(clips, autoencoder, text, form)
    place = CacheFolder(Path(folder))
    with folder_lock(folder, "a caching of latents"):
        if not place.opened_for(made):
            plan = plan_cache(clips, cache_format(autoencoder, text, dtype))
            if place.is_new() and (refusal := plan.disk_refusal(folder)):
                raise DataError(refusal)
            place.start(made)
            options = _Options(shard_bytes, wordings, torch.device(device), dtype)
            work = _Caching(clips, autoencoder, text, place, options)
            work.run(on_progress or (lambda *_: None), stop or (lambda: False))
            place.finish()
    return LatentStore.open(folder, device)


@dataclass(frozen=True)
class _Options:
    shard_bytes: int
    wordings: int
    device: torch.device
    dtype: torch.dtype


class _Caching:
    """One pass over the clips that are not in the folder yet, bucket by bucket."""

    def __init__(
        self,
        clips: TrainingClips,
        autoencoder: CausalVideoAutoencoder,
        text: TextEncoder,
        place: CacheFolder,
        options: _Options,
    ) -> None:
        self.clips, self.autoencoder, self.text, self.place, self.options = clips, autoencoder, text, place, options
        self.waiting: list[Entry] = []  # encoded, not yet written; all of one bucket
        self.since = time.monotonic()

    def run(self, on_progress: Progress, stop: Callable[[], bool]) -> None:
        done, total = len(self.place.done()), len(self.clips)
        try:
            for bucket, group in self._groups():
                on_progress(done, total, self.clips.name(group[0]))
                videos = self._decode(group)
                if videos:
                    self._encode(bucket, videos)
                done += len(group)
                if stop():
                    raise Cancelled(f"Caching was stopped after {done} of {total} clips.")
            on_progress(total, total, "")
        finally:  # whatever ends it: what is encoded is kept
            self._write()
        if not self.place.count():
            reasons = " ".join(list(self.place.skipped.values())[:3])
            raise DataError(f"None of the {total} clips can be decoded. {reasons}")

    def _groups(self) -> Iterator[tuple[Bucket, list[int]]]:
        """Clips of one bucket that pass the autoencoder together."""
        done = self.place.done()
        by_bucket: dict[Bucket, list[int]] = {bucket: [] for bucket in bucket_counts(self.clips)}
        for index in range(len(self.clips)):
            if index not in done:
                by_bucket[self.clips.bucket(index)].append(index)
        for bucket, numbers in by_bucket.items():
            count = max(1, PIXELS // prod((bucket.frames, bucket.height, bucket.width)))
            for start in range(0, len(numbers), count):
                yield bucket, numbers[start : start + count]
            self._write()

    def _decode(self, group: list[int]) -> dict[int, Tensor]:
        """Number -> video [3, F, H, W], without those that cannot be decoded."""
        videos = {}
        for index in group:
            try:
                videos[index] = clip_of(self.clips, index)
            except MediaError as error:
                self.place.skipped[index] = str(error)
        return videos

    @torch.no_grad()
    def _encode(self, bucket: Bucket, videos: dict[int, Tensor]) -> None:
        device = self.options.device
        batch = torch.stack(list(videos.values())).to(device, next(self.autoencoder.parameters()).dtype)
        chunk = max(1, PIXELS // (bucket.height * bucket.width))  # frames of a long clip that are encoded at once
        with autocast(device, encoding_dtype(self.autoencoder, device)):
            mean = self.autoencoder.encode(batch, chunk if chunk < bucket.frames else None).mean
        latents = self.autoencoder.statistics.normalise(mean.float()).to("cpu", self.options.dtype)
        for index, latent in zip(videos, latents, strict=True):
            captions = list(captions_of(self.clips, index))[: self.options.wordings]
            ids, mask = self.text.tokenize(captions)
            tokens = ids.masked_fill(~mask, 0).to(_token_type(self.text))
            self.waiting.append(Entry(index, bucket, self.clips.group(index), latent, tokens))
        size = sum(entry.latent.numel() * entry.latent.itemsize for entry in self.waiting)
        if size >= self.options.shard_bytes or time.monotonic() - self.since > SHARD_SECONDS:
            self._write()

    def _write(self) -> None:
        self.place.write(self.waiting)
        self.waiting, self.since = [], time.monotonic()


def encoding_dtype(autoencoder: CausalVideoAutoencoder, device: torch.device) -> torch.dtype:
    """How clips to train on are encoded: in bfloat16 by convolutions on a graphics card that has it. The product that
    a linear encoder is costs nothing, and would be coarser than what is stored."""
    coarse = device.type == "cuda" and autoencoder.encoder is not None and has_bfloat16(device)
    return torch.bfloat16 if coarse else torch.float32


def _token_type(text: TextEncoder) -> torch.dtype:
    return torch.int16 if text.module.config.vocab_size <= 1 << 15 else torch.int32
