"""Training a LoRA: the transformer, its text encoder and the autoencoder stay as they are, low-rank weights learn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from ..errors import ConfigError
from ..latents import Latents, weights_sha256
from ..lora import LoraConfig, LoraLayers, add_lora
from ..text import TextEncoder
from ..transformer import VideoDiT
from .callbacks import Callbacks
from .loop import LoopSettings
from .optim import MovingAverage, make_optimisers
from .precision import settled
from .state import TrainingState
from .transformer import TransformerTraining, defaults_before, described, run_denoising


@dataclass(frozen=True)
class LoraTraining(TransformerTraining):
    """What `TransformerTraining` says, with values for few weights and few clips, and the low-rank layers.

    Not Muon: its orthogonal steps are for whole matrices, not for factors of one. The text encoder never learns here.
    """

    optimiser: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0  # B starts at zero and is pulled there by nothing else
    ema: float = 0.99
    lora: LoraConfig = field(default_factory=LoraConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimiser == "muon":
            raise ConfigError(
                "LoRA training: got optimiser 'muon', which is for whole matrices; expected another, such as 'adamw'."
            )
        if self.train_text:
            raise ConfigError("LoRA training: the text encoder stays as it is; expected train_text off.")


def train_lora(
    model: VideoDiT,
    text: TextEncoder,
    latents: Latents,
    folder: Path,
    loop: LoopSettings,
    training: LoraTraining,
    device: torch.device,
    callbacks: Callbacks | None = None,
    held_out: Latents | None = None,
    provenance: dict | None = None,
) -> tuple[LoraLayers, dict, bool]:
    """Train low-rank layers on cached latents, or go on with a training that was stopped, bit for bit.

    Same data, draws and loss as `train_transformer`. Not one weight of `model` or `text` changes. The layers returned
    hold the averaged weights and are still in `model`, which so computes with them; `save_lora` writes them,
    `LoraLayers.remove` gives the model back.

    Args:
        held_out: clips whose loss is logged every `loop.held_out_every` steps.
        provenance: more to keep with the state, JSON values; another value is another training.

    Returns: the layers, position (step, samples, seconds, loss), whether the planned steps are done.
    Raises:
        CheckpointError: the state in `folder` belongs to another model, data set or settings.
        ConfigError: a target matches no layer.
        TrainingDiverged: as `run_loop`. After any error the layers are out of the model again.
    """
    text.module.requires_grad_(False)
    text.module.eval()
    base = {"base": weights_sha256(model, text.module)}
    settings = described(model, text, latents, loop, training) | {"kind": "LoRA"} | base | (provenance or {})
    training = replace(training, precision=settled(training.precision, folder, device))
    layers = add_lora(model, training.lora, seed=training.seed)
    try:
        modules = {"lora": layers}
        optimisers = make_optimisers(
            modules, training.optimiser, training.lr, training.weight_decay, training.precision
        )
        averages = {"lora": MovingAverage(layers, training.ema)}
        state = TrainingState(
            folder, modules, averages, optimisers, settings, defaults=defaults_before(training, settings)
        )
        layers.train()
        random = training.lora.dropout > 0
        done = run_denoising(state, model, text, latents, loop, training, device, callbacks, held_out, random)
        averages["lora"].swap()
    except BaseException:
        layers.remove()
        raise
    finally:
        layers.eval()
        model.eval()
    return layers, state.position, done
