"""Building the models of a bundle: on the meta device, filled tensor by tensor, with a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from .assign import assign, compare
from .atomic import reason
from .hashing import ContentHash, canonical_order
from .header import COMPONENTS, Header, read_header
from .report import LoadReport
from .tensors import as_bytes, place, read_tensors

if TYPE_CHECKING:
    from ..autoencoder import CausalVideoAutoencoder
    from ..text import TextEncoder
    from ..transformer import VideoDiT


@dataclass(frozen=True)
class Bundle:
    """The models of one file, in eval mode; a part that the file does not hold is None."""

    transformer: VideoDiT | None
    text_encoder: TextEncoder | None
    autoencoder: CausalVideoAutoencoder | None
    header: Header
    report: LoadReport


def load_bundle(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | Mapping[str, torch.dtype] = torch.float32,
    verify: bool = True,
) -> Bundle:
    """Build the models of a bundle.

    Args:
        path: a file that `save_bundle` wrote.
        device: where the weights go, tensor by tensor.
        dtype: type of the weights in memory, whatever the file stores; or one for each component, float32 for those
            that are not named. A large model is never in memory in a wider type than it is to have.
        verify: compare the content with the checksum in the file (about 0.1 s per 50 MB).

    Raises:
        CheckpointError: not a bundle, damaged, or its tensors do not fit its configuration (all names are listed).
        ConfigError: its configuration asks for something this code does not implement.
    """
    header = read_header(path)
    # Read before anything is built: in a damaged file the configuration may be what is damaged.
    tensors = _read(header, torch.device(device), dtype, verify)
    with torch.device("meta"):
        models = {name: _build(path, name, config) for name, config in header.components.items()}
    report = _compare(header, models)
    report.require(path)
    for component, model in models.items():
        module, names = _module(model), _names(header, component, model)
        assign(module, {name: tensors[full] for name, full in names.items()})
        module.eval()
    return Bundle(*(models.get(name) for name in COMPONENTS), header, report)


def _build(path: str | Path, component: str, config: dict[str, Any]):
    """Build one component from its configuration; called under the meta device."""
    try:
        if component == "transformer":
            from ..transformer import TransformerConfig, VideoDiT

            return VideoDiT(TransformerConfig.from_dict(config))
        if component == "autoencoder":
            from ..autoencoder import AutoencoderConfig, CausalVideoAutoencoder

            return CausalVideoAutoencoder(AutoencoderConfig.from_dict(config))
        from ..text import TextEncoder

        return TextEncoder.from_config(config)
    except ConfigError as error:
        raise ConfigError(f"{path}, {component}: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}, {component}: its configuration cannot be used ({error}).") from error


def _module(model) -> nn.Module:
    return model if isinstance(model, nn.Module) else model.module


def _names(header: Header, component: str, model) -> dict[str, str]:
    """Name in the module -> full name in the file, of one component."""
    to_module = getattr(model, "module_name", lambda name: name)
    prefix = component + "."
    return {to_module(full[len(prefix) :]): full for full in header.tensors if full.startswith(prefix)}


def _compare(header: Header, models: dict[str, Any]) -> LoadReport:
    report = LoadReport()
    for component, model in models.items():
        shapes = {name: header.tensors[full].shape for name, full in _names(header, component, model).items()}
        report += compare(_module(model), shapes, component + ".")
    prefixes = tuple(component + "." for component in models)
    return report + LoadReport(unexpected=tuple(name for name in header.tensors if not name.startswith(prefixes)))


def _read(
    header: Header, device: torch.device, dtype: torch.dtype | Mapping[str, torch.dtype], verify: bool
) -> dict[str, Tensor]:
    """Read, check and place all tensors; they are hashed as they pass, so the file is read once."""
    raw, tensors = header.raw, {}
    types = dict.fromkeys(COMPONENTS, dtype) if isinstance(dtype, torch.dtype) else dtype
    digest = ContentHash(raw.metadata, raw.tensors)
    try:
        with open(raw.path, "rb") as file:
            for name, tensor in read_tensors(file, raw, canonical_order(raw.tensors)):
                if verify:
                    digest.update(as_bytes(tensor))
                tensors[name] = place(tensor, device, types.get(name.partition(".")[0], torch.float32))
    except OSError as error:
        raise CheckpointError(f"{raw.path} cannot be read: {reason(error)}.") from error
    if verify and digest.hexdigest() != header.sha256:
        raise CheckpointError(
            f"{raw.path} is damaged: the checksum of its content is {digest.hexdigest()[:12]}…, the file records "
            f"{header.sha256[:12]}…. Copy or download it again."
        )
    return tensors
