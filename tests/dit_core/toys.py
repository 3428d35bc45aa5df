"""A training of one layer, for tests of the loop and of what it keeps."""

import torch
from sora_dit.dit_core.training.loop import LoopSettings, run_loop
from sora_dit.dit_core.training.optim import MovingAverage, make_optimisers
from sora_dit.dit_core.training.state import TrainingState
from torch import nn

NEVER = 1e9


class Toy:
    """A linear layer that learns to double; `spoil(number, loss)` may change the loss."""

    def __init__(self, folder, lr=0.01, spoil=lambda number, loss: loss, levels=False):
        torch.manual_seed(0)
        self.layer, self.spoil, self.levels = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1)), spoil, levels
        self.average = MovingAverage(self.layer, 0.9)
        optimisers = make_optimisers({"toy": self.layer}, "adamw", lr, 0.0)
        settings = {"training": {"lr": lr}}
        self.state = TrainingState(folder, {"toy": self.layer}, {"toy": self.average}, optimisers, settings)

    def step(self, number):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(number))
        self.layer.eval()  # dropout is here only to have a mode
        loss = self.spoil(number, (self.layer(x) - 2 * x).square().mean())
        self.layer.train()
        told = {}
        if self.levels:
            told = {"level_loss_sum": torch.ones(8), "level_count": torch.ones(8)}
            told["level_loss_sum"][5] = loss.detach()
        return loss, told

    def run(self, steps, callbacks=None, held_out=None, **loop):
        settings = LoopSettings(**dict(steps=steps, batch=8, warmup=0, schedule="constant", save_every=NEVER) | loop)
        return run_loop(self.state, self.step, settings, callbacks, held_out)
