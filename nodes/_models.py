"""Opening model files: which file gives which part, and keeping what was opened for the next run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..dit_core.checkpoint import FORMAT, file_sha256, read_header, read_safetensors_header
from ..dit_core.errors import CheckpointError
from . import _files
from .handles import SoraClip, SoraDit, SoraVae

_COMPONENTS = {"model": "transformer", "text_encoder": "text_encoder", "vae": "autoencoder"}
_IN_WORDS = {"model": "video model (transformer)", "text_encoder": "text encoder", "vae": "VAE (autoencoder)"}
_KEPT = 3  # files kept in memory between runs
_LARGEST_KEPT = 512 * 2**20  # bytes; a larger one lives only as long as a workflow uses it, its memory is needed

_lock = threading.Lock()
_recent: OrderedDict[tuple, Any] = OrderedDict()


@dataclass(frozen=True)
class Parts:
    """What Load Model hands out; a part that no file holds is None. facts: for the manifest."""

    model: SoraDit
    clip: SoraClip | None
    vae: SoraVae | None
    facts: dict[str, Any]


def check_file(path: Path, kind: str, name: str) -> None:
    """Look at the header of the file chosen for `kind`; no weights, no torch.

    Raises:
        CheckpointError: it cannot be read, is not one of ours, or does not hold that part.
    """
    if kind == "text_encoder" and _is_published(path):
        return
    header = read_header(path)
    if _COMPONENTS[kind] not in header.components:
        held = [words for part, words in _IN_WORDS.items() if _COMPONENTS[part] in header.components]
        raise CheckpointError(f'The file "{name}" holds no {_IN_WORDS[kind]}; it holds: {", ".join(held)}.')


def _is_published(path: Path) -> bool:
    """Whether `path` is the weight file in a Hugging Face folder (config.json beside it) and not one of ours."""
    beside = (path.parent / "config.json").is_file()
    return beside and read_safetensors_header(path).metadata.get("format") != FORMAT


@dataclass(frozen=True)
class Places:
    """device: where to compute; dtype: in which type; output: where results lie; storage: where weights wait, which is
    `device` where nothing manages memory; manage(kind, module, latent colours) -> what brings weights to the device;
    keep: keep what was opened for the next run (ComfyUI keeps outputs itself, and frees them when it must)."""

    device: Any
    dtype: Any
    output: Any
    storage: Any
    manage: Callable[[str, Any, Any], Any]
    keep: bool = True


def load(names: dict[str, str], paths: dict[str, Path], places: Places) -> Parts:
    """Open the file of each kind in `paths`; kinds that are absent come from "model".

    The transformer computes in `places.dtype`. The VAE stays in float32: 16 bits would show as bands in the sky.

    Raises:
        CheckpointError, ConfigError: a file is damaged, foreign, or lacks the part it was chosen for.
    """
    for kind, path in paths.items():
        check_file(path, kind, names[kind])

    @cache  # the parts of one file come from one reading of it, also when it is too large to be kept
    def opened(path: Path, opener: Callable[[Path, Any, Any], Any]) -> Any:
        return _kept(path, places, opener)

    found = {kind: _part(kind, paths.get(kind, paths["model"]), opened) for kind in _COMPONENTS}
    label = {kind: names.get(kind, names["model"]) for kind in _COMPONENTS}
    (transformer, sha256), (encoder, _), (autoencoder, _) = found.values()
    config = None if autoencoder is None else autoencoder.config
    clip = vae = empty = None
    about: dict[str, Any] = {}
    if encoder is not None:
        weights = places.manage("text_encoder", encoder.module, None)
        clip = SoraClip(encoder, places.device, places.output, label["text_encoder"], weights)
        empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    if autoencoder is not None:
        weights = places.manage("vae", autoencoder, None)
        vae = SoraVae(autoencoder, places.device, places.output, label["vae"], weights)
        about = {name: getattr(config, name) for name in ("spatial_factor", "temporal_factor", "latent_rgb")}
    weights = places.manage("model", transformer, about.get("latent_rgb"))
    given = {"empty_prompt": empty, "weights": weights, **about}
    model = SoraDit(transformer, label["model"], sha256, places.device, places.dtype, **given)
    sums = {label[kind]: digest for kind, (part, digest) in found.items() if part is not None}
    facts = {"weights": sums, "device": str(places.device), "dtype": str(places.dtype).split(".")[-1]}
    return Parts(model, clip, vae, facts)


def _part(kind: str, path: Path, opened: Callable[[Path, Any], Any]) -> tuple[Any, str]:
    """(the part of `kind` in `path` or None, checksum of its file)."""
    if kind == "text_encoder" and _is_published(path):
        return opened(path, _open_encoder)
    bundle = opened(path, _open_bundle)
    return getattr(bundle, _COMPONENTS[kind]), bundle.header.sha256


def _kept(path: Path, places: Places, opener: Callable[[Path, Any, Any], Any]) -> Any:
    """What `opener` makes of the file, from memory if the file has not changed since it was opened."""
    if not places.keep or path.stat().st_size > _LARGEST_KEPT:
        return opener(path, places.storage, places.dtype)
    key = (_files.file_identity(path), str(places.device), str(places.dtype))
    with _lock:
        if key not in _recent:
            _recent[key] = opener(path, places.storage, places.dtype)
        _recent.move_to_end(key)
        while len(_recent) > _KEPT:
            _recent.popitem(last=False)
        return _recent[key]


def _open_bundle(path: Path, device: Any, dtype: Any) -> Any:
    import torch

    from ..dit_core.checkpoint import load_bundle

    with torch.inference_mode(False):  # ComfyUI runs nodes in inference mode; weights made there could not be trained
        return load_bundle(path, device, {"transformer": dtype, "text_encoder": _text_type(dtype)})


def _open_encoder(path: Path, device: Any, dtype: Any) -> tuple[Any, str]:
    import torch

    from ..dit_core.text import TextEncoder

    with torch.inference_mode(False):
        encoder = TextEncoder.from_folder(path.parent, dtype=_text_type(dtype)).to(device)
    return encoder, file_sha256(path)


def _text_type(dtype: Any) -> Any:
    """Type of the text encoder beside a transformer in `dtype`: float16 would overflow in T5's feed-forward."""
    import torch

    return torch.float32 if dtype == torch.float16 else dtype
