"""Between the nodes that make parts of a model and `dit_core`: new ones, trained ones, and files of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..dit_core.errors import CheckpointError, ConfigError, SoraDiTError
from . import _checks, _training, _training_data, host
from .handles import SoraDit

WIDTHS, HEADS = (24, 8192), (1, 128)  # least and most


def check_width(width: int | None, heads: int | None) -> None:
    """Raise `ConfigError` unless the width can be shared out to the heads."""
    if None in (width, heads) or not HEADS[0] <= heads <= HEADS[1]:
        return
    step, least = 2 * heads, 6 * heads
    if width % step or width < least:
        low, high = _checks.nearest(max(width, least), step)
        near = f"widths for {heads} heads are {low} and {high}" if high <= WIDTHS[1] else f"width is {low}"
        raise ConfigError(
            f"width is {width} and heads is {heads}, which gives heads of {width / heads:g}; expected an even whole "
            f"number of at least 6. The nearest {near}."
        )


def new_model(vae: Any, clip: Any, latents: Any, shape: dict[str, Any]) -> SoraDit:
    """A transformer with random weights for these parts. shape: the values of New Model.

    Raises:
        ConfigError, SoraDiTError: numbers or parts that do not go together.
    """
    import torch

    from ..dit_core.latents import weights_sha256
    from ..dit_core.transformer import TransformerConfig, VideoDiT

    latent, text = _training_data.autoencoder_of(vae).config, _training_data.encoder_of(clip)
    known = {} if latents is None else _training_data.shape_of(_training_data.require_latents(latents))
    tokens, extra = clip.encode_from_tokens_scheduled(clip.tokenize(""))[0]
    config = TransformerConfig(
        width=shape["width"],
        depth=shape["depth"],
        heads=shape["heads"],
        ff_width=4 * shape["width"],
        in_channels=latent.latent_channels,
        patch=(1, shape["patch"], shape["patch"]),
        objective=shape["objective"],
        modulation=shape["modulation"],
        text=shape["text"],
        text_width=tokens.shape[-1],
        pooled_width=extra["pooled_output"].shape[-1],
        text_projection=text.width > shape["width"],
        rope_theta=100.0,
        frame_position=shape["frame_position"],
        latent_mean=latent.latent_mean,
        latent_std=latent.latent_std,
        skip_std=latents.deviation() if latents is not None and shape["objective"] == "flow" else None,
        training={**known, "shift": 1.0},
    )
    with _training.learning(), torch.random.fork_rng([]):
        torch.manual_seed(shape["model_seed"])
        module = VideoDiT(config).eval().to(host.storage_device(vae.device))
    count = sum(parameter.numel() for parameter in module.parameters())
    place = vae.device
    return SoraDit(
        module,
        f"new model, {count / 1e6:.1f} million weights, not trained",
        weights_sha256(module),
        place,
        torch.float32,
        latent.spatial_factor,
        latent.temporal_factor,
        empty_prompt=[[tokens, extra]],
        weights=host.manager(place)("model", module, latent.latent_rgb),
        latent_rgb=latent.latent_rgb,
        trained=False,
    )


# --- Files -------------------------------------------------------------------------------------------------------


def save(target: Path, model: Any, clip: Any, vae: Any, dtype: str) -> dict[str, Any]:
    """Write the parts that are given into one file: facts for the manifest.

    Raises:
        SoraDiTError: no part, or one of another pack. CheckpointError: the file cannot be written.
    """
    import torch

    from ..dit_core.checkpoint import save_bundle

    parts, made = {}, {}
    if model is not None:
        if not isinstance(model, SoraDit):
            raise SoraDiTError(f"model is {_checks.described(model)}; connect Train Model or Load Model (Sora DiT).")
        model.weights.rest()
        parts["transformer"] = (model.config.to_dict(), model.exact or model.module.state_dict())
        made |= model.provenance or {"transformer": {"from": model.name, "sha256": model.sha256}}
    if clip is not None:
        encoder = _training_data.encoder_of(clip)
        clip.weights.rest()
        parts["text_encoder"] = (encoder.config_dict(), encoder.state_dict())
        made["text_encoder"] = getattr(clip, "provenance", None) or {"from": clip.name}
    if vae is not None:
        module = _training_data.autoencoder_of(vae)
        vae.weights.rest()
        parts["autoencoder"] = (module.config.to_dict(), module.state_dict())
        made["autoencoder"] = getattr(vae, "provenance", None) or {"from": vae.name}
    if not parts:
        raise SoraDiTError("Nothing is connected; expected a model, and the clip and vae that belong to it.")
    _spare_trained(target, model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode(False), torch.no_grad():
        header = save_bundle(target, parts, made, getattr(torch, dtype))
    return {"saved": target.name, "sha256": header.sha256, "parts": sorted(parts)}


def _spare_trained(target: Path, model: Any) -> None:
    """Raise `SoraDiTError` where a trained model would be replaced by nothing, or by random weights.

    That is what comes out when the training before this node is muted or bypassed.
    """
    from ..dit_core.checkpoint import read_header

    if model is not None and model.trained:
        return
    try:
        components = read_header(target).components
    except CheckpointError:  # not there, or nothing that could be opened
        return
    if "transformer" in components:
        got = "no model is connected" if model is None else "the model connected was never trained"
        raise SoraDiTError(
            f"{target} holds a model, and {got} (is a node before this one muted or bypassed?), so it is not replaced. "
            "Expected a trained model, or another name."
        )
