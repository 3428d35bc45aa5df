"""Loading published text encoders: a Hugging Face folder, or one safetensors file with the configuration given.

Never a network call, never a pickle, never code from the folder: the configuration is read as JSON, the weights by
our own reader, and the tokenizer with `local_files_only`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..checkpoint.assign import assign, compare
from ..checkpoint.atomic import reason
from ..checkpoint.foreign import PICKLE_SUFFIXES, pickle_sentence
from ..checkpoint.header import RawHeader, read_safetensors_header
from ..checkpoint.tensors import as_bytes, place, read_tensor
from ..errors import CheckpointError, ConfigError
from .encoder import TextEncoder
from .families import FAMILIES, get_family
from .tokenizers import SentencePieceTokenizer, SubwordTokenizer, Tokenizer, build_tokenizer

DEFAULT_MAX_LENGTH = 512  # tokens, for tokenizers that name no limit (UMT5); T5, Wan and others were trained with it
_PIECES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")  # what folders call a SentencePiece model
_SAME_MODEL = {"mt5": "t5", "byt5": "t5", "clip": "clip_text_model"}  # model_type of config.json -> our family


def load_folder(folder: str | Path, max_length: int | None = None, dtype: torch.dtype | None = None) -> TextEncoder:
    """Load a T5, MT5, UMT5 or CLIP text model with its tokenizer.

    Args:
        folder: holds `config.json`, `*.safetensors` (one or sharded) and the tokenizer's files; these may also lie in
            a folder `tokenizer` beside it, as in diffusers pipelines.
        max_length: longest prompt in tokens; None takes the tokenizer's own limit, or 512 where it has none.
        dtype: type of the weights in memory; None is float32.

    Raises:
        CheckpointError: a file is missing, damaged or a pickle, or the tensors do not fit the configuration.
        ConfigError: a kind of model or a setting that this code does not implement.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; expected one with config.json, weights and a tokenizer.")
    family, settings = _read_config(folder / "config.json")
    tokenizer = load_tokenizer(folder, max_length, settings.get("max_position_embeddings"))
    config = {
        "family": family,
        "tokenizer": tokenizer.describe(),
        "max_length": tokenizer.max_length,
        "config": settings,
    }
    return _load(folder, [read_safetensors_header(path) for path in _weight_files(folder)], config, dtype)


def load_safetensors(
    path: str | Path,
    config: dict[str, Any],
    dtype: torch.dtype | None = None,
    tokenizer_folder: str | Path | None = None,
) -> TextEncoder:
    """Load one weight file into the encoder that `config` describes.

    Args:
        path: names as in Hugging Face's files, with or without a common prefix (`text_encoder.`); a whole T5 (with
            decoder) or CLIP (with the picture side) is accepted, the rest is left out.
        config: as for `TextEncoder.from_config`; `tokenizer` may be left out when `tokenizer_folder` is given, or
            when the file itself holds a SentencePiece model (tensor `spiece_model`, as in ComfyUI's UMT5 files).
        dtype: type of the weights in memory; None is float32.
        tokenizer_folder: folder with tokenizer files.

    Raises: as `load_folder`.
    """
    raw = read_safetensors_header(path)
    if tokenizer_folder is not None:
        tokenizer = load_tokenizer(Path(tokenizer_folder), config.get("max_length"))
        config = {**config, "tokenizer": tokenizer.describe(), "max_length": tokenizer.max_length}
    elif "tokenizer" not in config and "spiece_model" in raw.tensors:
        with open(raw.path, "rb") as file:
            pieces = as_bytes(read_tensor(file, raw, "spiece_model"))
        config = {"max_length": DEFAULT_MAX_LENGTH, **config}
        config["tokenizer"] = SentencePieceTokenizer(bytes(pieces), config["max_length"]).describe()
    return _load(Path(path), [raw], config, dtype)


def load_tokenizer(folder: Path, max_length: int | None = None, positions: int | None = None) -> Tokenizer:
    """Load the tokenizer in `folder` (or in `tokenizer` beside it), never from the network.

    Args:
        max_length: in tokens; None takes the tokenizer's own limit, or 512 where it has none.
        positions: how many positions the model has, if it has a limit of its own.

    Raises:
        CheckpointError: there is none, or it cannot be used.
    """
    names = ("tokenizer.json", "tokenizer_config.json", *_PIECES, "vocab.json")
    places = [place for place in (folder, folder.parent / "tokenizer") if any((place / n).is_file() for n in names)]
    if not places:
        raise CheckpointError(f"{folder} holds no tokenizer; expected one of {', '.join(names)}.")
    settings = _read_json(places[0] / "tokenizer_config.json", {})
    own = settings.get("model_max_length")
    own = int(own) if isinstance(own, int | float) and 2 <= own < 1_000_000 else DEFAULT_MAX_LENGTH
    length = max_length or min(own, positions or own)
    if str(settings.get("tokenizer_class", "")).startswith("ByT5"):
        return build_tokenizer("byt5", length)
    pieces = next((places[0] / name for name in _PIECES if (places[0] / name).is_file()), None)
    if pieces is not None and not (places[0] / "tokenizer.json").is_file():
        try:
            return SentencePieceTokenizer(pieces.read_bytes(), length)
        except OSError as error:
            raise CheckpointError(f"{pieces} cannot be read: {reason(error)}.") from error
        except ConfigError as error:
            raise CheckpointError(f"{pieces} cannot be used. {error}") from error
    backend, pad = _subword_backend(places[0])
    return SubwordTokenizer(backend, pad, length)


def _subword_backend(place: Path):
    """The `tokenizers.Tokenizer` in a folder and its padding id."""
    try:
        if (place / "tokenizer.json").is_file():
            import tokenizers

            backend = tokenizers.Tokenizer.from_file(str(place / "tokenizer.json"))
            tables = [_read_json(place / name, {}) for name in ("tokenizer_config.json", "special_tokens_map.json")]
            pad = next((table["pad_token"] for table in tables if table.get("pad_token")), "<pad>")
            return backend, backend.token_to_id(pad["content"] if isinstance(pad, dict) else pad) or 0
        # Older folders (CLIP's vocab.json with merges.txt) are converted by transformers.
        from transformers import AutoTokenizer

        loaded = AutoTokenizer.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
        return loaded.backend_tokenizer, loaded.pad_token_id or 0
    except CheckpointError:
        raise
    except Exception as error:  # both packages raise many kinds here
        raise CheckpointError(f"The tokenizer in {place} cannot be read: {error}") from error


def _read_json(path: Path, default: Any = None) -> Any:
    """The dictionary in a JSON file; `default` when there is no such file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason(error)}.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}; expected a dictionary.")
    return value


def _read_config(path: Path) -> tuple[str, dict[str, Any]]:
    """Family and settings from a Hugging Face `config.json`; keys that do not touch the encoder are left out."""
    values = _read_json(path)
    if values is None:
        raise CheckpointError(f"{path.parent} holds no config.json; expected a text encoder's folder.")
    kind = values.get("model_type")
    family = _SAME_MODEL.get(kind, kind)
    if family not in FAMILIES:
        known = ", ".join(sorted({*FAMILIES, *_SAME_MODEL}))
        raise ConfigError(f"{path} describes a model of type {kind!r}; expected a text encoder of type {known}.")
    if kind == "clip":
        values = values.get("text_config") or {}
    return family, {key: values[key] for key in get_family(family).settings if key in values}


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    shards = _read_json(index, {}).get("weight_map", {})
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{index} is damaged: its weight_map is not a table of file names.")
    if shards:
        return [folder / Path(name).name for name in sorted(set(shards.values()))]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [path for path in sorted(folder.iterdir()) if path.suffix in PICKLE_SUFFIXES]
        if pickles:
            raise CheckpointError(pickle_sentence(pickles[0]))
        raise CheckpointError(f"{folder} holds no weights; expected model.safetensors.")
    return files


def _load(place_of: Path, files: list[RawHeader], config: dict[str, Any], dtype: torch.dtype | None) -> TextEncoder:
    with torch.device("meta"):
        encoder = TextEncoder.from_config(config)
    source = {encoder.module_name(name): (raw, full) for raw in files for name, full in _own_names(raw, encoder)}
    shapes = {name: raw.tensors[full].shape for name, (raw, full) in source.items()}
    compare(encoder.module, shapes).require(place_of)
    tensors = {}
    for raw in files:
        with open(raw.path, "rb") as file:
            for name, (owner, full) in source.items():
                if owner is raw:
                    tensors[name] = place(read_tensor(file, raw, full), torch.device("cpu"), dtype or torch.float32)
    assign(encoder.module, tensors)
    encoder.module.eval()
    return encoder


def _own_names(raw: RawHeader, encoder: TextEncoder) -> list[tuple[str, str]]:
    """(name without the file's common prefix, full name) of the tensors that belong to the encoder."""
    family = get_family(encoder.family)
    anchors = [name for name in raw.tensors if name.endswith(family.anchor) and "vision_model." not in name]
    prefix = anchors[0][: -len(family.anchor)].removesuffix(family.optional_prefix) if anchors else ""
    names = [(full.removeprefix(prefix), full) for full in raw.tensors if full.startswith(prefix)]
    return [(name, full) for name, full in names if not name.startswith(family.left_out)]
