"""Teaching a fresh text encoder to read captions before the transformer needs it.

Through the denoising loss alone a byte-level encoder takes very long to find words. Told what a caption names it does
so in minutes: heads on the pooled vector, and others that look at the tokens as cross attention will, tell the value of
each attribute; the heads are thrown away.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..device import autocast, training_dtype
from ..latents import weights_sha256
from ..skies import VALUES, caption, named, sample_balanced
from ..text import TextEmbedding, TextEncoder
from .callbacks import Callbacks
from .loop import LoopSettings, run_loop
from .optim import make_optimisers
from .precision import remembered, settled
from .seeding import seeded
from .state import TrainingState


@dataclass(frozen=True)
class ReadingSettings:
    """Optimiser and seed; `scenes` is the seed of the (balanced) scenes whose captions are read."""

    optimiser: str = "muon"
    lr: float = 2e-3
    weight_decay: float = 0.01
    scenes: int = 44
    complete: float = 0.5  # share of captions that name everything there is to name
    # How much it counts that the embeddings stay what they were, as a share of their square: a transformer that knows
    # the old ones then understands the new ones almost at once.
    anchor: float = 0.0
    precision: str = "auto"  # of the products: auto | float32 | bfloat16, see `training_dtype`
    seed: int = 1


class PooledHeads(nn.Module):
    """A linear score for every value of each attribute, from the pooled vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in VALUES.items()})

    def forward(self, read: TextEmbedding) -> dict[str, Tensor]:
        """Name of the attribute -> scores [B, values]."""
        return {name: head(read.pooled) for name, head in self.heads.items()}


class TokenHeads(nn.Module):
    """The same scores from the tokens: each attribute has a query that looks for the tokens which speak of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(len(VALUES), width) / width**0.5)
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in VALUES.items()})

    def forward(self, read: TextEmbedding) -> dict[str, Tensor]:
        """Name of the attribute -> scores [B, values]."""
        tokens = self.norm(read.embeddings)
        scores = torch.einsum("kw,blw->bkl", self.queries, tokens).masked_fill(~read.mask[:, None].bool(), -1e9)
        found = scores.float().softmax(-1).to(tokens.dtype) @ tokens
        return {name: head(found[:, k]) for k, (name, head) in enumerate(self.heads.items())}


def read_batch(
    start: int, count: int, scenes: int, split: str = "train", complete: float = 0.0
) -> tuple[list[str], dict[str, Tensor]]:
    """Captions of scenes start .. start + count - 1, and for each attribute the index of its value [count].

    The index is -1 where a caption does not name the attribute. A caption of empty air that does not speak of it counts
    as naming it: nothing shall fly there.
    """
    texts, told = [], []
    for i in range(start, start + count):
        scene = sample_balanced(scenes, i, split)
        full = (i * 0.618033988749895) % 1 < complete  # golden ratio: evenly spread over any run of captions
        texts.append(caption(scene, seed=start + i, full=full))
        told.append({"object": scene.object} | named(scene, seed=start + i, full=full))
    targets = {
        name: torch.tensor([values.index(words[name]) if name in words else -1 for words in told])
        for name, values in VALUES.items()
    }
    return texts, targets


def naming_losses(scores: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross entropy of each attribute over the captions that name it; 0 where none does."""
    losses = {}
    for name, target in targets.items():
        total = F.cross_entropy(scores[name].float(), target, ignore_index=-1, reduction="sum")
        losses[name] = total / (target >= 0).sum().clamp_min(1)
    return losses


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
    heads = nn.ModuleList([PooledHeads(text.width), TokenHeads(text.width)]).to(device)
    modules = {"text_encoder": text.module, "heads": heads}
    kind, lr, precision = settings.optimiser, settings.lr, settled(settings.precision, folder, device)
    optimisers = make_optimisers({"text_encoder": text.module}, kind, lr, settings.weight_decay, precision)
    optimisers += make_optimisers({"heads": heads}, "adamw", lr, 0.0, precision)
    described = {"kind": "reading", "text": text.config_dict(), "reading": asdict(settings), "batch": loop.batch}
    before = copy.deepcopy(text) if settings.anchor else None
    anchored = {} if before is None else {"anchored_to": weights_sha256(before.module)}
    state = TrainingState(folder, modules, {}, optimisers, described | anchored, defaults=anchored)
    state.position |= remembered(precision, device)
    dtype = training_dtype(precision, device)
    text.module.train()

    def step_function(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        texts, targets = read_batch(step * loop.batch, loop.batch, settings.scenes, complete=settings.complete)
        targets = {name: target.to(device) for name, target in targets.items()}
        ids, mask = text.tokenize(texts)
        with autocast(device, dtype):
            read = text.forward_ids(ids.to(device), mask.to(device))
            pooled, tokens = (naming_losses(head(read), targets) for head in heads)
        losses = {name: (pooled[name] + tokens[name]) / 2 for name in targets}
        loss = torch.stack(list(losses.values())).mean()
        if before is not None:
            losses["moved"] = moved(read, before, ids.to(device), mask.to(device))
            loss = loss + settings.anchor * losses["moved"]
        return loss, {n: loss.detach() for n, loss in losses.items()}

    done = run_loop(state, seeded(step_function, settings.seed, device), loop, callbacks)  # T5 may have dropout
    text.module.eval()
    return state.position, done
