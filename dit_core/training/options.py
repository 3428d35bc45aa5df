"""What the options of the command line mean: the loop of any stage, and what the stage `autoencoder` has of its own."""

from __future__ import annotations

import argparse

from .adversary import AdversarialSettings
from .autoencoder import AutoencoderTraining
from .discriminator import NORMS
from .likelihood import DISTRIBUTIONS, LikelihoodSettings
from .loop import LoopSettings


def add_autoencoder_options(parser: argparse.ArgumentParser) -> None:
    """All are off by default: the fixed weights of `AutoencoderTraining`."""
    group = parser.add_argument_group("autoencoder")
    add = group.add_argument
    add("--sizes", type=int, nargs="+", default=[], help="of the clips trained on, in turn, instead of --size")
    add(
        "--freeze-encoder",
        action="store_true",
        help="train the decoder only (always so where latents are fixed)",
    )
    for name, what in (("squared", "squared error"), ("edges", "error of differences")):
        default = getattr(AutoencoderTraining, name)
        add(f"--{name}", type=float, default=default, metavar="WEIGHT", help=f"of the {what}; {default:g}")
    add("--likelihood", choices=DISTRIBUTIONS, help="reconstruct by maximum likelihood with a learned width")
    add("--beta", type=float, default=LikelihoodSettings.beta, help="weight of the KL beside the likelihood")
    add("--perceptual-weight", type=float, default=0.0, help="of the texture term; 0 = off, try 0.05")
    add("--adversarial-weight", type=float, default=0.0, help="1 = as strong as the reconstruction; 0 = off, try 0.5")
    add(
        "--adversarial-start",
        type=int,
        default=AdversarialSettings.start,
        help="step at which the discriminator joins; 0 for a decoder that is trained already",
    )
    add("--adversarial-warmup", type=int, default=AdversarialSettings.warmup, help="steps to the full weight")
    add("--discriminator-norm", choices=NORMS, default=AdversarialSettings.norm)
    add("--r1", type=float, default=0.0, help="weight of the discriminator's gradient penalty")
    add("--lecam", type=float, default=0.0, help="weight of the LeCam regularisation")


def loop_settings(args: argparse.Namespace, batch: int, log_every: int = LoopSettings.log_every) -> LoopSettings:
    """The loop that the command line asks for; `batch` is the stage's usual one."""
    return LoopSettings(
        steps=args.steps,
        minutes=args.minutes,
        batch=args.batch or batch,
        warmup=args.warmup,
        decay=args.decay,
        log_every=log_every,
    )


def autoencoder_training(args: argparse.Namespace) -> AutoencoderTraining:
    """The settings that the command line asks for. Raises `ConfigError` for numbers out of range."""
    adversarial = None
    if args.adversarial_weight:
        adversarial = AdversarialSettings(
            start=args.adversarial_start,
            warmup=args.adversarial_warmup,
            weight=args.adversarial_weight,
            norm=args.discriminator_norm,
            r1=args.r1,
            lecam=args.lecam,
        )
    return AutoencoderTraining(
        optimiser=args.optimiser,
        lr=args.lr or AutoencoderTraining.lr,
        freeze_encoder=args.freeze_encoder,
        precision=args.precision,
        seed=args.seed,
        sizes=tuple(args.sizes) or (args.size,),
        squared=args.squared,
        edges=args.edges,
        likelihood=LikelihoodSettings(args.likelihood, args.beta) if args.likelihood else None,
        perceptual=args.perceptual_weight,
        adversarial=adversarial,
    )
