"""Text encoders: a prompt becomes token embeddings, a padding mask and one pooled vector. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .encoder import TextEmbedding, TextEncoder
    from .tokenizers import ByteTokenizer, SentencePieceTokenizer, SubwordTokenizer

__all__ = ["ByteTokenizer", "SentencePieceTokenizer", "SubwordTokenizer", "TextEmbedding", "TextEncoder"]


def __getattr__(name: str):
    """Import the module behind a public name on first use (torch and transformers are slow to import)."""
    if name in ("TextEmbedding", "TextEncoder"):
        from . import encoder as module
    elif name in ("ByteTokenizer", "SentencePieceTokenizer", "SubwordTokenizer"):
        from . import tokenizers as module
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
