"""Inputs of the training nodes: a short way to write them, and the groups that several nodes share. No torch."""

from __future__ import annotations

from typing import Any

from . import host
from .host import io


def whole(name: str, default: int, low: int, high: int, tip: str, **more: Any) -> Any:
    """A whole number."""
    return host.given(io.Int.Input, name, default=default, min=low, max=high, tooltip=tip, **more)


def number(name: str, default: float, low: float, high: float, tip: str, step: float = 0.01, **more: Any) -> Any:
    """A number; it is rounded to a hundredth of `step`."""
    return host.given(
        io.Float.Input, name, default=default, min=low, max=high, step=step, round=step / 100, tooltip=tip, **more
    )


def choice(name: str, options: list[str], tip: str, default: str | None = None, **more: Any) -> Any:
    """One of several words, the first one if no other is the default."""
    return host.given(
        io.Combo.Input, name, options=options, default=options[0] if default is None else default, tooltip=tip, **more
    )


def switch(name: str, default: bool, tip: str, **more: Any) -> Any:
    """Yes or no."""
    return host.given(io.Boolean.Input, name, default=default, tooltip=tip, **more)


def words(name: str, default: str, tip: str, **more: Any) -> Any:
    """A text."""
    return host.given(io.String.Input, name, default=default, tooltip=tip, **more)


# --- Shared by the nodes that make clips ---------------------------------------------------------------------------


def length() -> Any:
    """How long clips are."""
    return whole(
        "frames", 25, 1, 401,
        "How many frames a clip has, 1 to 401: one more than a multiple of 4 (17, 25, 33, ...). Twice as many take "
        "more than twice the time and memory.",
    )  # fmt: skip


def frame_rate(tip: str) -> Any:
    """How fast clips play."""
    return number("fps", 12.0, 0.0, 120.0, tip, step=1.0, display_name="frames per second")


def clips_output() -> Any:
    """The clips."""
    return host.SoraClips.Output(
        "clips", display_name="clips", tooltip="The clips, for Dataset Doctor, Cache Latents and Train Autoencoder."
    )


# --- Shared by the nodes that train --------------------------------------------------------------------------------


def run(default: str, steps: int, batch: int, more: str = "", room: str = "") -> list[Any]:
    """Where a training keeps its state, how long it takes, how much it looks at in a step.

    more: what more steps do, a sentence; room: what to do about batches that do not fit into memory. Both for a
    transformer if not given.
    """
    more = more or "More make a better model until the held-out loss rises again."
    room = room or "more memory; for more than fits into memory see accumulate in Training Options."
    return [
        words(
            "run", default,
            "Name of this training: its state, curves and samples lie in the folder sora_dit_training/NAME of the "
            "output folder. Queued again under the same name it goes on where it was, and does nothing when it is "
            "finished. Give another name to begin anew or to try other settings.",
        ),
        whole(
            "steps", steps, 1, 10_000_000,
            f"How many steps in all, 1 to 10000000. {more} It can be raised later: the training then goes on.",
        ),
        whole(
            "batch", batch, 1, 4096,
            f"Clips in a step, 1 to 4096. More make steadier steps that take longer and need {room}",
        ),
    ]  # fmt: skip


def rate(suits: str) -> Any:
    """The learning rate. suits: which one 0 stands for, a sentence."""
    tip = (
        f"How far a step goes, 0 to 1. {suits} Too high and the loss jumps up: the training stops then and keeps the "
        "last good state. Too low and it takes for ever."
    )
    return number("learning_rate", 0.0, 0.0, 1.0, tip, step=0.0001, display_name="learning rate")


def samples() -> list[Any]:
    """What is shown while it trains."""
    return [
        words(
            "sample_prompts", "",
            "Prompts to look at while it trains, one a line, at most 4. Every so many steps the model makes a clip of "
            "each, always from the same noise, so that you see what it learns. Needs the VAE. Empty: no samples.",
            multiline=True, display_name="sample prompts",
        ),
        whole(
            "sample_every", 250, 0, 1_000_000,
            "Steps between samples, 0 to 1000000; 0 makes them at the end only. A sample takes about as long as a few "
            "steps.",
            display_name="sample every",
        ),
        whole(
            "training_seed", 1, 0, 2**31 - 1,
            "Number of the random choices, 0 to 2147483647: with the same number and settings the training comes out "
            "the same.",
            advanced=True, display_name="training seed",
        ),
    ]  # fmt: skip


def beside() -> list[Any]:
    """What may be connected to a training of the transformer."""
    return [
        io.Vae.Input("vae", optional=True, tooltip="The VAE, to show samples as pictures. Without it none are made."),
        host.SoraTrainingOptions.Input(
            "options",
            optional=True,
            tooltip="From Training Options, for all that is rarely changed. Without it the usual values are taken.",
        ),
    ]


def trained_outputs(words_: str) -> list[Any]:
    """A model and the name of its run."""
    return [
        host.SoraDit.Output("model", display_name="model", tooltip=words_),
        io.String.Output(
            "run", display_name="run", tooltip="The name of the training, for Training View to look at it afterwards."
        ),
    ]


HIDDEN = [io.Hidden.unique_id, io.Hidden.prompt]
