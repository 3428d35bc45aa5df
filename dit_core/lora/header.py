"""What a LoRA file holds, from its header alone: ours, and others that name their matrices as is usual. No torch.

Names that are read (a layer may have a dot or, in kohya's files, an underscore between its parts):

    diffusion_model.LAYER.lora_A.weight, .lora_B.weight, .alpha      ours, and most published ones
    transformer.LAYER.lora_A.weight, ...                             diffusers
    lora_unet_LAYER.lora_down.weight, .lora_up.weight, .alpha        kohya
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint.foreign import describe_tensors
from ..checkpoint.header import FORMAT, RawHeader, read_safetensors_header
from ..errors import CheckpointError

LORA_FORMAT, LORA_FORMAT_VERSION = "sora_dit_lora", "1"
PREFIX = "diffusion_model."
KOHYA = "lora_unet_"
_PREFIXES = (PREFIX, "transformer.")
_DOWN = (".lora_A.weight", ".lora_A.default.weight", ".lora_down.weight")
_UP = (".lora_B.weight", ".lora_B.default.weight", ".lora_up.weight")
_ALPHA = ".alpha"
# Other kinds of small change, by what their tensors' names hold -> in words
_OTHER_KINDS = {
    ".dora_scale": "a DoRA", ".lora_mid": "a LoCon", ".hada_": "a LoHa", ".lokr_": "a LoKr", ".oft_": "an OFT",
}  # fmt: skip


@dataclass(frozen=True)
class LayerNames:
    """The names in the file of one layer's tensors; alpha is None when the file has none, which means alpha = rank."""

    down: str
    up: str
    alpha: str | None


@dataclass(frozen=True)
class LoraHeader:
    """What a LoRA file says about itself.

    Attributes:
        layers: layer as the file calls it (without prefix; with kohya's prefix if it has that) -> tensor names.
        rank: the largest of its layers.
        base_sha256: content checksum of the model it was trained on, "" if it does not say.
        base_model: name of that model's file or kind, "" if it does not say.
        provenance: how it was made, as the writer recorded it.
        targets: what was asked for when it was made.
        sha256: checksum of its content as recorded in the file, "" in files of others.
    """

    layers: dict[str, LayerNames]
    rank: int
    base_sha256: str = ""
    base_model: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    sha256: str = ""
    raw: RawHeader | None = field(default=None, repr=False)

    @property
    def made_for(self) -> str:
        """A few words on the model it was made for."""
        name = f'"{self.base_model}"' if self.base_model else ""
        checksum = f"checksum {self.base_sha256[:12]}" if self.base_sha256 else ""
        told = ", ".join(part for part in (name, checksum) if part)
        return told or "a model that the file does not name"


def read_lora_header(path: str | Path) -> LoraHeader:
    """Read what a LoRA file holds, without its weights.

    Raises:
        CheckpointError: it cannot be read, is damaged, is no LoRA (the message says what it looks like), or is of a
            kind that this code does not apply.
    """
    raw = read_safetensors_header(path)
    meta = raw.metadata
    if meta.get("format") == FORMAT:
        raise CheckpointError(f"{raw.path} is a whole Sora DiT model, not a LoRA; open it with Load Model.")
    for part, kind in _OTHER_KINDS.items():
        if any(part in name for name in raw.tensors):
            raise CheckpointError(f"{raw.path} is {kind}, which this code does not apply; it applies plain LoRAs.")
    layers = _layers(raw)
    rank = max(_check_shapes(raw, layer, names) for layer, names in layers.items())
    if meta.get("format") != LORA_FORMAT:
        others = ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name", "base_model")
        told = next((meta[key] for key in others if meta.get(key)), "")
        return LoraHeader(layers, rank, base_model=told, raw=raw)
    if meta.get("format_version") != LORA_FORMAT_VERSION:
        raise CheckpointError(
            f"{raw.path} is a LoRA of format version {meta.get('format_version')!r}; this code reads version "
            f"{LORA_FORMAT_VERSION}. A newer version of the pack is needed to read it."
        )
    provenance, targets = (_json(raw, key, kind) for key, kind in (("provenance", dict), ("targets", list)))
    base = (meta.get("base_sha256", ""), meta.get("base_model", ""))
    return LoraHeader(layers, rank, *base, provenance, tuple(map(str, targets)), meta.get("content_sha256", ""), raw)


def _layers(raw: RawHeader) -> dict[str, LayerNames]:
    """Layer -> its tensors; what belongs to no pair of matrices makes the file a foreign one."""
    parts: dict[str, dict[str, str]] = {}
    strange = []
    for name in raw.tensors:
        for kind, endings in (("down", _DOWN), ("up", _UP), ("alpha", (_ALPHA,))):
            ending = next((one for one in endings if name.endswith(one)), None)
            if ending is not None:
                layer = parts.setdefault(_layer_name(name[: -len(ending)]), {})
                if kind in layer:
                    raise CheckpointError(
                        f"{raw.path} is ambiguous: {layer[kind]} and {name} are for one and the same layer."
                    )
                layer[kind] = name
                break
        else:
            strange.append(name)
    pairs = [layer for layer, found in parts.items() if len(found.keys() & {"down", "up"}) == 2]
    if not pairs or strange:
        looks = describe_tensors(strange or raw.tensors)
        raise CheckpointError(f"{raw.path} is not a LoRA that this code can apply; it looks like {looks}.")
    if alone := [layer for layer in parts if layer not in pairs]:
        raise CheckpointError(f"{raw.path} is damaged: one of the two matrices is missing for {shortened(alone)}.")
    return {layer: LayerNames(found["down"], found["up"], found.get("alpha")) for layer, found in parts.items()}


def _layer_name(name: str) -> str:
    prefix = next((one for one in _PREFIXES if name.startswith(one)), "")
    return name[len(prefix) :]


def _check_shapes(raw: RawHeader, layer: str, names: LayerNames) -> int:
    """The rank of one layer, whose matrices must fit each other."""
    down, up = raw.tensors[names.down].shape, raw.tensors[names.up].shape
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or not down[0]:
        raise CheckpointError(
            f"{raw.path}, layer {layer}: the two matrices are {list(down)} and {list(up)}; expected [rank, inputs] and "
            "[outputs, rank]."
        )
    if names.alpha is not None and raw.tensors[names.alpha].shape not in ((), (1,)):
        raise CheckpointError(f"{raw.path}, layer {layer}: alpha is no single number.")
    return down[0]


def _json(raw: RawHeader, key: str, kind: type) -> Any:
    try:
        value = json.loads(raw.metadata[key])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{raw.path} is damaged: {key} in its metadata cannot be read ({error}).") from error
    if not isinstance(value, kind):
        raise CheckpointError(f"{raw.path} is damaged: {key} in its metadata is no {kind.__name__}.")
    return value


def shortened(names: Iterable[str], shown: int = 6) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
