"""`TextEncoder`: one face for every text model, byte-level or subword, T5, UMT5 or CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .families import build_model, get_family
from .tokenizers import Tokenizer, build_tokenizer


class TextEmbedding(NamedTuple):
    """What a text encoder makes of B prompts.

    Attributes:
        embeddings: `[B, L, D]`, zero where there is padding.
        mask: `[B, L]` bool, true where there is text.
        pooled: `[B, D]`, one vector per prompt: the mean over its tokens (T5, UMT5) or the model's own (CLIP).
        truncated: per prompt, whether it was longer than the encoder takes; empty when made from ids.
    """

    embeddings: Tensor
    mask: Tensor
    pooled: Tensor
    truncated: tuple[bool, ...] = ()


class TextEncoder:
    """A transformers text model and its tokenizer.

    `module` is the `nn.Module` to train, move or compile; it starts in eval mode (no dropout).
    Build one with `from_config`, `from_folder` or `from_safetensors`.
    """

    def __init__(self, family: str, module: nn.Module, tokenizer: Tokenizer, settings: dict[str, Any]):
        self.family, self.module, self.tokenizer, self._settings = family, module, tokenizer, dict(settings)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TextEncoder:
        """Build an encoder with random weights, on the current default device (`with torch.device("meta")` works).

        Args:
            config: `{"family": "t5"|"umt5"|"clip_text_model", "tokenizer": "byt5"|{...}, "max_length": tokens,
                "config": {...}}`; the last is passed to the family's transformers config class.

        Raises:
            ConfigError: a key is missing or unknown, or a value is not implemented.
        """
        keys = {"family", "tokenizer", "max_length", "config"}
        if not isinstance(config, dict) or set(config) != keys:
            got = ", ".join(sorted(config)) if isinstance(config, dict) else type(config).__name__
            raise ConfigError(f"The text encoder's configuration has {got}; expected {', '.join(sorted(keys))}.")
        family = get_family(config["family"])
        tokenizer = build_tokenizer(config["tokenizer"], config["max_length"])
        settings = dict(config["config"]) if isinstance(config["config"], dict) else config["config"]
        module = build_model(config["family"], settings)
        if config["tokenizer"] == "byt5" and module.config.vocab_size < 259:
            raise ConfigError(
                f"The text encoder's vocab_size is {module.config.vocab_size}; the byt5 tokenizer needs 259 or more."
            )
        limit = getattr(module.config, "max_position_embeddings", None)
        if family.pooled == "own" and limit is not None and config["max_length"] > limit:
            raise ConfigError(
                f"The text encoder's max_length is {config['max_length']}; its model has {limit} positions."
            )
        return cls(config["family"], module, tokenizer, settings)

    @classmethod
    def from_folder(
        cls, folder: str | Path, max_length: int | None = None, dtype: torch.dtype | None = None
    ) -> TextEncoder:
        """Load a T5, UMT5 or CLIP text model from a Hugging Face folder; see `folder.load_folder`."""
        from .folder import load_folder

        return load_folder(folder, max_length, dtype)

    @classmethod
    def from_safetensors(
        cls,
        path: str | Path,
        config: dict[str, Any],
        dtype: torch.dtype | None = None,
        tokenizer_folder: str | Path | None = None,
    ) -> TextEncoder:
        """Load the weights in one file into the encoder that `config` describes; see `folder.load_safetensors`."""
        from .folder import load_safetensors

        return load_safetensors(path, config, dtype, tokenizer_folder)

    def config_dict(self) -> dict[str, Any]:
        """The configuration that `from_config` reads back: JSON values only, the vocabulary included."""
        return {
            "family": self.family,
            "tokenizer": self.tokenizer.describe(),
            "max_length": self.tokenizer.max_length,
            "config": dict(self._settings),
        }

    @property
    def width(self) -> int:
        """D, the width of the embeddings and of the pooled vector."""
        return getattr(self.module.config, get_family(self.family).width)

    @property
    def max_length(self) -> int:
        """The longest prompt in tokens, the end token included."""
        return self.tokenizer.max_length

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.module.parameters()).dtype

    def to(self, *args, **kwargs) -> TextEncoder:
        """Move or cast the weights in place, as `nn.Module.to`; returns self."""
        self.module.to(*args, **kwargs)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The weights under the names used in files: each tied tensor once, without the optional prefix."""
        from ..checkpoint.assign import unique_state

        prefix = get_family(self.family).optional_prefix
        return {name.removeprefix(prefix): tensor for name, tensor in unique_state(self.module).items()}

    def module_name(self, name: str) -> str:
        """The name in `module` of the tensor that a file calls `name`.

        CLIP's tensors begin with `text_model.` in files and in transformers 4, and do not in transformers 5.
        """
        prefix = get_family(self.family).optional_prefix
        bare = name.removeprefix(prefix)
        inside = bool(prefix) and any(own.startswith(prefix) for own, _ in self.module.named_parameters())
        return prefix + bare if inside else bare

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids `[B, L]` int64 and mask `[B, L]` bool on the CPU, padded to the longest of `texts`.

        Prompts longer than `max_length` are cut; `truncated` tells which. The empty prompt is one end token.
        """
        if isinstance(texts, str):
            raise ConfigError("The text encoder got one string; expected a list of prompts.")
        if not texts:
            raise ConfigError("The text encoder got an empty list; expected one prompt or more.")
        return self.tokenizer.encode(texts)

    def truncated(self, texts: Sequence[str]) -> tuple[bool, ...]:
        """For each prompt, whether `tokenize` cuts it."""
        return self.tokenizer.truncated(texts)

    def forward_ids(self, ids: Tensor, mask: Tensor) -> TextEmbedding:
        """Embed tokens; differentiable, in the module's current mode (dropout when training).

        Args:
            ids: `[B, L]` int64.
            mask: `[B, L]` bool, true where there is text; every row needs at least one true.
        """
        output = self.module(input_ids=ids, attention_mask=mask.to(torch.long))
        weight = mask.unsqueeze(-1)  # [B, L, 1]
        embeddings = output.last_hidden_state.masked_fill(~weight, 0.0)  # [B, L, D]
        if get_family(self.family).pooled == "own":
            pooled = output.pooler_output  # [B, D]
        else:
            pooled = embeddings.float().sum(1) / weight.sum(1).clamp(min=1)  # the mean in fp32: L can be 512
            pooled = pooled.to(embeddings.dtype)
        return TextEmbedding(embeddings, mask, pooled)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Embed prompts for sampling: no gradient, no dropout whatever the module's mode, on the module's device.

        A prompt's embedding does not depend on the other prompts in `texts` (up to float rounding).
        """
        ids, mask = self.tokenize(texts)
        training = self.module.training
        self.module.eval()
        try:
            embedding = self.forward_ids(ids.to(self.device), mask.to(self.device))
        finally:
            self.module.train(training)
        return embedding._replace(truncated=self.truncated(texts))
