"""Teaching a fresh text encoder to read captions before the transformer needs it.

Through the denoising loss alone a byte-level encoder takes very long to find words. Told what is in the scene it does
so in minutes: linear heads on the pooled vector name each attribute; the heads are thrown away.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..device import training_dtype
from ..skies import VALUES, attributes, caption, sample_balanced
from ..text import TextEmbedding, TextEncoder
from .callbacks import Callbacks
from .loop import LoopSettings, run_loop
from .optim import make_optimisers
from .state import TrainingState


@dataclass(frozen=True)
class ReadingSettings:
    """Optimiser and seed; `scenes` is the seed of the (balanced) scenes whose captions are read."""

    optimiser: str = "muon"
    lr: float = 2e-3
    weight_decay: float = 0.01
    scenes: int = 44
    # How much it counts that the embeddings stay what they were, as a share of their square: a transformer that knows
    # the old ones then understands the new ones almost at once.
    anchor: float = 0.0
    precision: str = "auto"  # of the products: auto | float32 | bfloat16, see `training_dtype`
    seed: int = 1


def new_heads(width: int) -> nn.ModuleDict:
    """A linear head for each attribute: pooled vector -> one score per value."""
    return nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in VALUES.items()})


def read_batch(start: int, count: int, scenes: int, split: str = "train") -> tuple[list[str], dict[str, Tensor]]:
    """Captions of scenes start .. start + count - 1, and for each attribute the index of its value [count].

    A caption leaves attributes out; then the value can only be guessed, and the loss has a floor.
    """
    drawn = [sample_balanced(scenes, i, split) for i in range(start, start + count)]
    texts = [caption(scene, seed=start + i) for i, scene in enumerate(drawn)]
    named = [attributes(scene) for scene in drawn]
    targets = {name: torch.tensor([values.index(n[name]) for n in named]) for name, values in VALUES.items()}
    return texts, targets


def moved(read: TextEmbedding, before: TextEncoder, ids: Tensor, mask: Tensor) -> Tensor:
    """How far embeddings are from those of `before`, as a share of the squares of these."""
    with torch.no_grad():
        old = before.forward_ids(ids, mask)
    pairs = ((read.embeddings, old.embeddings), (read.pooled, old.pooled))
    return torch.stack([(new - old).float().square().sum() / old.float().square().sum() for new, old in pairs]).mean()


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
    before = copy.deepcopy(text) if settings.anchor else None
    dtype = training_dtype(settings.precision, device)
    text.module.train()

    def step_function(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        texts, targets = read_batch(step * loop.batch, loop.batch, settings.scenes)
        ids, mask = text.tokenize(texts)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            read = text.forward_ids(ids.to(device), mask.to(device))
            losses = {n: F.cross_entropy(heads[n](read.pooled).float(), t.to(device)) for n, t in targets.items()}
        loss = torch.stack(list(losses.values())).mean()
        if before is not None:
            losses["moved"] = moved(read, before, ids.to(device), mask.to(device))
            loss = loss + settings.anchor * losses["moved"]
        return loss, {n: loss.detach() for n, loss in losses.items()}

    done = run_loop(state, step_function, loop, callbacks)
    text.module.eval()
    return state.position, done
