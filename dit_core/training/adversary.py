"""The adversarial half of the autoencoder's training: who plays, from when, how hard.

From step `start` on, each step first teaches the discriminator to tell clips from their reconstructions, then adds to
the decoder's loss how well it was seen through, weighed so that both pull equally at the decoder's last layer (VQGAN,
arXiv:2012.09841, equation 7):

    lambda = |grad_last(reconstruction)| / (|grad_last(adversarial)| + 1e-6)
    loss = reconstruction + ramp(step) * weight * lambda * adversarial

Before `start` nothing of this is evaluated: such steps are, bit for bit, those of a training without an adversary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .discriminator import LeCam, PatchDiscriminator, generator_loss, hinge_loss, r1_penalty
from .state import Rival

LARGEST_WEIGHT = 1e4  # of lambda: where the discriminator is flat its gradient says nothing


@dataclass(frozen=True)
class AdversarialSettings:
    """Raises `ConfigError` naming the field."""

    start: int = 1000  # first step with a discriminator: before it the decoder has nothing worth telling apart
    warmup: int = 200  # steps over which the decoder's adversarial loss grows to its weight
    weight: float = 0.5  # times lambda, 1 = as strong as the reconstruction
    channels: int = 16  # of the discriminator's first layer
    norm: str = "none"  # or spectral
    lr: float = 4e-4
    r1: float = 0.0  # weight of the gradient penalty, see discriminator.r1_penalty
    r1_every: int = 8  # steps between penalties, each counted that many times (lazy, arXiv:1912.04958)
    lecam: float = 0.0  # weight of the LeCam regularisation; for few clips

    def __post_init__(self) -> None:
        for name, least in (("start", 0), ("warmup", 0), ("channels", 1), ("r1_every", 1)):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= least):
                self._refuse(name, f"a whole number of at least {least}")
        for name in ("weight", "r1", "lecam", "lr"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                self._refuse(name, "a number of at least 0")

    def _refuse(self, name: str, allowed: str) -> None:
        raise ConfigError(f"The adversarial training has {name} = {getattr(self, name)!r}; allowed is {allowed}.")


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Lambda of the module's equation, a scalar without gradient; both losses must come from `last_layer`."""
    norms = [
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].float().norm()
        for loss in (reconstruction, adversarial)
    ]
    return (norms[0] / (norms[1] + 1e-6)).clamp(max=LARGEST_WEIGHT).detach()


class Adversary(Rival):
    """Discriminator, its regularisation and its optimiser; `TrainingState` keeps them as a rival of the autoencoder."""

    def __init__(self, settings: AdversarialSettings, seed: int, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):  # nobody else's draws change because there is an adversary
            torch.manual_seed(seed)
            discriminator = PatchDiscriminator(settings.channels, settings.norm)
        module = nn.ModuleDict({"discriminator": discriminator, "lecam": LeCam()}).to(device)
        # no momentum: the other player moves on and old gradients point at where it was
        optimiser = torch.optim.Adam(module.parameters(), lr=settings.lr, betas=(0.0, 0.99), eps=1e-8)
        super().__init__(module, [optimiser])
        self.settings = settings

    def strength(self, step: int) -> float:
        """Weight of the decoder's adversarial loss before lambda; 0 before the start."""
        since = step - self.settings.start
        if since < 0:
            return 0.0
        return self.settings.weight * min(1.0, (since + 1) / max(1, self.settings.warmup))

    def teach(self, step: int, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """One step of the discriminator on clips and their reconstructions [B, 3, F, H, W]; returns what to log."""
        settings, discriminator = self.settings, self.module["discriminator"]
        discriminator.requires_grad_(True)
        penalised = settings.r1 > 0 and (step - settings.start) % settings.r1_every == 0
        real = real.detach().requires_grad_(penalised)
        on_real, on_fake = discriminator(real), discriminator(fake.detach())
        loss = hinge_loss(on_real, on_fake)
        values = {"discriminator": loss, "score_real": on_real.mean(), "score_fake": on_fake.mean()}
        if settings.lecam:
            loss = loss + settings.lecam * self.module["lecam"](on_real, on_fake)
        if penalised:
            loss = loss + settings.r1 * settings.r1_every * r1_penalty(on_real, real)
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return {name: value.detach() for name, value in values.items()}

    def challenge(self, step: int, fake: Tensor, reconstruction: Tensor, last_layer: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's adversarial loss, weighed, and lambda. `fake` and `reconstruction` come from `last_layer`."""
        self.module["discriminator"].requires_grad_(False)  # only a judge here
        adversarial = generator_loss(self.module["discriminator"](fake))
        weight = adaptive_weight(reconstruction, adversarial, last_layer)
        return self.strength(step) * weight * adversarial, weight
