"""Tokenizers: bytes (ByT5, no vocabulary file), subwords (any `tokenizer.json`) and SentencePiece (`spiece.model`).

All turn a list of prompts into padded token ids and a mask, and can say which prompts did not fit.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from ..errors import ConfigError


class Tokenizer(Protocol):
    """What a `TextEncoder` needs from a tokenizer."""

    max_length: int

    def encode(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids `[B, L]` int64 and mask `[B, L]` bool, padded to the longest prompt, cut at `max_length`."""

    def truncated(self, texts: Sequence[str]) -> tuple[bool, ...]:
        """For each prompt, whether it is longer than `max_length` tokens."""

    def describe(self) -> str | dict:
        """The value of `tokenizer` in a text encoder's configuration; `build_tokenizer` reads it back."""


class ByteTokenizer:
    """ByT5's tokens: id = UTF-8 byte + 3, then one end token (1); padding is 0.

    Equal to `transformers.ByT5Tokenizer` on plain text, and hundreds of times faster. The texts of special tokens
    (`</s>`, `<pad>`) are ordinary text here: a prompt cannot smuggle in control tokens.
    Source: Xue et al., "ByT5: Towards a token-free future", https://arxiv.org/abs/2105.13626, section 3.1.
    """

    PAD, END, OFFSET = 0, 1, 3

    def __init__(self, max_length: int):
        self.max_length = max_length

    def encode(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids `[B, L]` int64 and mask `[B, L]` bool; L = longest prompt's bytes + 1, at most `max_length`."""
        rows = [self._bytes(text)[: self.max_length - 1] for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows)) + 1), dtype=np.int64)
        for row, line in zip(rows, ids, strict=True):
            line[: len(row)] = np.frombuffer(row, dtype=np.uint8)
            line[: len(row)] += self.OFFSET
            line[len(row)] = self.END
        return torch.from_numpy(ids), torch.from_numpy(ids != self.PAD)

    def truncated(self, texts: Sequence[str]) -> tuple[bool, ...]:
        """For each prompt, whether its bytes and the end token exceed `max_length`."""
        return tuple(len(self._bytes(text)) > self.max_length - 1 for text in texts)

    def describe(self) -> str:
        """`"byt5"`: no vocabulary to store."""
        return "byt5"

    @staticmethod
    def _bytes(text: str) -> bytes:
        # Half an emoji (a lone surrogate, which JSON can hold) has no UTF-8 form: it becomes a question mark.
        return text.encode("utf-8", errors="replace")


class SubwordTokenizer:
    """A `tokenizers.Tokenizer` (BPE, Unigram, ...) with this encoder's padding and length.

    Args:
        backend: a `tokenizers.Tokenizer`; taken over, its padding and truncation are set here.
        pad_id: id that fills short rows.
        max_length: longest row in tokens, special tokens included.
    """

    def __init__(self, backend, pad_id: int, max_length: int):
        self.max_length, self.pad_id, self._backend = max_length, pad_id, backend
        backend.no_padding()
        backend.enable_truncation(max_length)

    def encode(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids `[B, L]` int64 and mask `[B, L]` bool, padded on the right to the longest prompt."""
        return _padded([line.ids for line in self._lines(texts)], self.pad_id)

    def truncated(self, texts: Sequence[str]) -> tuple[bool, ...]:
        """For each prompt, whether it has more than `max_length` tokens."""
        return tuple(bool(line.overflowing) for line in self._lines(texts))

    def describe(self) -> dict:
        """The whole vocabulary as JSON, so that a checkpoint needs no file beside it."""
        return {"kind": "tokenizers", "json": self._backend.to_str(), "pad_id": self.pad_id}

    def _lines(self, texts: Sequence[str]):
        return self._backend.encode_batch([_whole_characters(text) for text in texts])


class SentencePieceTokenizer:
    """The original tokenizer of T5 and UMT5: pieces of a SentencePiece model, then its end token.

    Read without protobuf, which transformers needs for these files and this pack does not install. The texts of
    special tokens are ordinary text here.

    Args:
        model: content of `spiece.model`.
        max_length: longest row in tokens, the end token included.

    Raises:
        ConfigError: `model` is no SentencePiece model with an end token.
    """

    def __init__(self, model: bytes, max_length: int):
        import sentencepiece

        self.max_length, self._model = max_length, model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(f"The text encoder's tokenizer is no SentencePiece model ({error}).") from error
        self._end, self.pad_id = self._processor.eos_id(), max(0, self._processor.pad_id())
        if self._end < 0:
            raise ConfigError("The text encoder's SentencePiece model has no end token; expected one of T5 or UMT5.")

    def encode(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids `[B, L]` int64 and mask `[B, L]` bool, padded on the right to the longest prompt."""
        return _padded([[*row[: self.max_length - 1], self._end] for row in self._rows(texts)], self.pad_id)

    def truncated(self, texts: Sequence[str]) -> tuple[bool, ...]:
        """For each prompt, whether it has more than `max_length` tokens."""
        return tuple(len(row) > self.max_length - 1 for row in self._rows(texts))

    def describe(self) -> dict:
        """The whole model, so that a checkpoint needs no file beside it."""
        return {"kind": "sentencepiece", "model": base64.b64encode(self._model).decode("ascii")}

    def _rows(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.encode([_whole_characters(text) for text in texts])


def _whole_characters(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _padded(rows: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = np.full((len(rows), max(1, *map(len, rows))), pad_id, dtype=np.int64)
    mask = np.zeros(ids.shape, dtype=bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = True
    return torch.from_numpy(ids), torch.from_numpy(mask)


def build_tokenizer(description: str | dict, max_length: int) -> Tokenizer:
    """Build a tokenizer from what its `describe()` returned.

    Raises:
        ConfigError: `description` or `max_length` is nothing this code implements.
    """
    if not isinstance(max_length, int) or isinstance(max_length, bool) or max_length < 2:
        raise ConfigError(
            f"The text encoder's max_length is {max_length!r}; expected a whole number of tokens, 2 or more."
        )
    if description == "byt5":
        return ByteTokenizer(max_length)
    known = {"tokenizers": {"json", "pad_id"}, "sentencepiece": {"model"}}
    kind = description.get("kind") if isinstance(description, dict) else None
    if kind in known:
        if unknown := sorted(set(description) - {"kind"} - known[kind]):
            raise ConfigError(f"The text encoder's tokenizer has unknown settings: {', '.join(unknown)}.")
        build = _subword_from_json if kind == "tokenizers" else _pieces_from_base64
        return build(description, max_length)
    shown = description if isinstance(description, str) else getattr(description, "keys", lambda: description)()
    raise ConfigError(
        f'The text encoder\'s tokenizer is {shown!r}; expected "byt5", {{"kind": "tokenizers", "json": ...}} or '
        '{"kind": "sentencepiece", "model": ...}.'
    )


def _subword_from_json(description: dict, max_length: int) -> SubwordTokenizer:
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_str(description["json"])
        return SubwordTokenizer(backend, int(description.get("pad_id", 0)), max_length)
    except Exception as error:  # the Rust side raises plain Exception
        raise ConfigError(f"The text encoder's tokenizer cannot be built from its JSON: {error}.") from error


def _pieces_from_base64(description: dict, max_length: int) -> SentencePieceTokenizer:
    try:
        model = base64.b64decode(description.get("model", ""), validate=True)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"The text encoder's SentencePiece model is not base64 text ({error}).") from error
    return SentencePieceTokenizer(model, max_length)
