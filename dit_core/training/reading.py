"""Teaching a fresh text encoder to read captions before the transformer needs it.

Through the denoising loss alone a byte-level encoder takes very long to find words. Told what is in the scene it does
so in minutes: linear heads on the pooled vector name each attribute; the heads are thrown away.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..skies import VALUES, attributes, caption, sample_scene
from ..text import TextEncoder
from .callbacks import Callbacks
from .loop import LoopSettings, run_loop
from .optim import make_optimisers
from .state import TrainingState


@dataclass(frozen=True)
class ReadingSettings:
    """Optimiser and seed; `scenes` is the seed of the scenes whose captions are read."""

    optimiser: str = "muon"
    lr: float = 2e-3
    weight_decay: float = 0.01
    scenes: int = 44
    seed: int = 1


def new_heads(width: int) -> nn.ModuleDict:
    """A linear head for each attribute: pooled vector -> one score per value."""
    return nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in VALUES.items()})


def read_batch(start: int, count: int, scenes: int, split: str = "train") -> tuple[list[str], dict[str, Tensor]]:
    """Captions of scenes start .. start + count - 1, and for each attribute the index of its value [count].

    A caption leaves attributes out; then the value can only be guessed, and the loss has a floor.
    """
    drawn = [sample_scene(scenes, i, split) for i in range(start, start + count)]
    texts = [caption(scene, seed=start + i) for i, scene in enumerate(drawn)]
    named = [attributes(scene) for scene in drawn]
    targets = {name: torch.tensor([values.index(n[name]) for n in named]) for name, values in VALUES.items()}
    return texts, targets


def teach_reading(
    text: TextEncoder,
    folder: Path,
    loop: LoopSettings,
    settings: ReadingSettings,
    device: torch.device,
    callbacks: Callbacks | None = None,
) -> tuple[dict, bool]:
    """Train or go on; leaves the weights in `text`; returns the position and whether it is done."""
    torch.manual_seed(settings.seed)
    heads = new_heads(text.width).to(device)
    modules = {"text_encoder": text.module, "heads": heads}
    optimisers = make_optimisers({"text_encoder": text.module}, settings.optimiser, settings.lr, settings.weight_decay)
    optimisers += make_optimisers({"heads": heads}, "adamw", settings.lr, 0.0)
    described = {"kind": "reading", "text": text.config_dict(), "reading": asdict(settings), "batch": loop.batch}
    state = TrainingState(folder, modules, {}, optimisers, described)
    text.module.train()

    def step_function(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        texts, targets = read_batch(step * loop.batch, loop.batch, settings.scenes)
        ids, mask = text.tokenize(texts)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            pooled = text.forward_ids(ids.to(device), mask.to(device)).pooled
            losses = {n: F.cross_entropy(heads[n](pooled).float(), t.to(device)) for n, t in targets.items()}
        return torch.stack(list(losses.values())).mean(), {n: loss.detach() for n, loss in losses.items()}

    done = run_loop(state, step_function, loop, callbacks)
    text.module.eval()
    return state.position, done
