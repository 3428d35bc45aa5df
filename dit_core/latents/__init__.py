"""Cached latents: clips encoded once by the frozen autoencoder, captions tokenised, on disk in shards.

`cache_latents` writes a folder, `LatentStore.open` reads it; a trainer takes anything that fulfils `Latents`.
"""

from .cache import cache_format, cache_latents
from .identity import weights_sha256
from .protocol import Batch, Latents
from .store import LatentStore

__all__ = ["Batch", "LatentStore", "Latents", "cache_format", "cache_latents", "weights_sha256"]
