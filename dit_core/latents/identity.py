"""What latents were made of, so that other clips, another autoencoder or another tokenizer are noticed."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from ..autoencoder import CausalVideoAutoencoder
from ..data import Fingerprint, TrainingClips
from ..data.fingerprint import digest
from ..text import TextEncoder

TWINS = "twins"


def twins(identity: dict[str, Any]) -> bool:
    """Whether latents are of clips that come in twins; see `TrainingClips.twins`."""
    return bool((identity.get("form") or {}).get(TWINS))


def weights_sha256(*modules: nn.Module) -> str:
    """SHA-256 of the weights of `modules` by name, 64 hex characters: tells one model from another."""
    found = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            if flat.numel():
                found.update(memoryview(flat.view(torch.uint8).numpy()))
    return found.hexdigest()


def identity(
    clips: TrainingClips, autoencoder: CausalVideoAutoencoder, text: TextEncoder, form: dict[str, Any]
) -> dict[str, Any]:
    """The fingerprint of a cache, JSON values: data, autoencoder, text, and how they are stored.

    The text encoder's weights do not count: only its tokens are stored.
    """
    config = text.config_dict()
    if clips.twins:
        form = form | {TWINS: True}
    return {
        "data": clips.fingerprint().to_dict(),
        "autoencoder": {"weights": weights_sha256(autoencoder), "config": digest(autoencoder.config.to_dict())},
        "text": {"tokenizer": digest(config["tokenizer"]), "max_length": config["max_length"]},
        "form": form,
    }


def summary(fingerprint: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint of a cache in a few lines, for the provenance of a checkpoint: files are counted, not named."""
    data = fingerprint.get("data") or {}
    files = data.get("files") or {}
    short = {"kind": data.get("kind"), "rules": data.get("rules"), "files": len(files), "sha256": digest(data)}
    return {**fingerprint, "data": short}


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is other `now` than it was, as sentences; [] for the same. Both are fingerprints of `Latents`."""
    found = []
    if then.get("data") != now.get("data"):
        found += Fingerprint.from_dict(then.get("data")).differences(Fingerprint.from_dict(now.get("data")))
    if then.get("autoencoder") != now.get("autoencoder"):
        found.append("The autoencoder is another one.")
    before, after = then.get("text") or {}, now.get("text") or {}
    if before.get("tokenizer") != after.get("tokenizer"):
        found.append("The tokenizer of the text encoder is another one.")
    if before.get("max_length") != after.get("max_length"):
        found.append(f"The longest prompt was {before.get('max_length')} and is {after.get('max_length')} tokens.")
    before, after = then.get("form") or {}, now.get("form") or {}
    found += [
        f"{name} was {before.get(name)} and is {after.get(name)}."
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if then.get("part") != now.get("part"):
        found.append("The clips held out are other ones.")
    return found
