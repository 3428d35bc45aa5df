"""Checks of what a person typed or connected, with sentences in their units. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from ..dit_core.errors import ShapeError, SoraDiTError
from ..dit_core.memory import gigabytes, machine_memory

# What the models of this pack and of most others need; a loaded model's own factors are checked again when it runs.
SPATIAL_FACTOR, TEMPORAL_FACTOR = 8, 4
LARGEST_SIDE, MOST_FRAMES, LARGEST_BATCH = 4096, 4001, 64


Check = Callable[[], Any]
"""Raises `SoraDiTError` when something is wrong."""


def verdict(first: Mapping[str, Check] = MappingProxyType({}), /, **checks: Check) -> bool | str:
    """Run all `checks`, named by the input they look at: True, or "input: sentence" for each that raised, a line each.

    For `validate_inputs`; the headless check makes one problem of each line. first: an input that is refused by one of
    these is not looked at again.
    """
    found = {}
    for name, check in [*first.items(), *checks.items()]:
        try:
            if name not in found:
                check()
        except SoraDiTError as error:
            found[name] = f"{name}: {error}"
    return "\n".join(found.values()) or True


def within(node: Any, **values: float | None) -> dict[str, Check]:
    """Checks for `verdict` that each number is in the range that the node's schema gives for the input of that name.

    ComfyUI leaves ranges to `validate_inputs` where that takes the input. None = not known yet.
    """
    declared = {one.id: one.as_dict() for one in node.define_schema().inputs if one.id in values}

    def check(name: str, value: float) -> None:
        low, high = declared[name]["min"], declared[name]["max"]
        if not low <= value <= high:
            raise SoraDiTError(f"got {digits(value)}; expected {digits(low)} to {digits(high)}.")

    return {name: partial(check, name, value) for name, value in values.items() if value is not None}


def nearest(value: int, step: int, offset: int = 0) -> tuple[int, int]:
    """The two numbers `step * k + offset` around `value`, neither below the smallest that is at least 1."""
    least = offset if offset > 0 else step
    low = max(least, (value - offset) // step * step + offset)
    return low, low + step


def size_problem(name: str, pixels: int, factor: int) -> str | None:
    """A sentence if a width or height does not fit, else None."""
    if pixels > LARGEST_SIDE:
        return f"{name} is {digits(pixels)} pixels; the largest is {LARGEST_SIDE}."
    if pixels < 1 or pixels % factor:
        low, high = nearest(pixels, factor)
        unit = "pixel" if pixels == 1 else "pixels"
        got = f"{name} is {digits(pixels)} {unit}"
        return f"{got}, but must be a multiple of {factor}; the nearest are {low} and {high}."
    return None


def frames_problem(frames: int, factor: int) -> str | None:
    """A sentence if a number of frames does not fit, else None."""
    if frames > MOST_FRAMES:
        return f"frames is {digits(frames)}; the most is {MOST_FRAMES}."
    if frames < 1 or (frames - 1) % factor:
        low, high = nearest(frames, factor, 1)
        series = ", ".join(str(1 + factor * k) for k in range(4))
        return (
            f"frames is {digits(frames)}, but must be one more than a multiple of {factor} ({series}, ...); "
            f"the nearest are {low} and {high}."
        )
    return None


def digits(number: float) -> str:
    """A number as it stands in a sentence."""
    text = str(number) if isinstance(number, int) else f"{float(number):g}"
    return text if len(text) <= 24 else f"{text[:12]}... ({len(text)} digits)"


def memory_problem(width: int, height: int, frames: int, clips: int) -> str | None:
    """A sentence if the finished pictures alone would not fit into this machine's memory, else None.

    The system ends a program that asks for too much without a word, after all the work of denoising.
    """
    needed, there = width * height * 3 * 4 * frames * clips, machine_memory()
    if there is None or needed <= there:
        return None
    several = f"{clips} clips of " if clips > 1 else ""
    return (
        f"{several}{frames} {'frame' if frames == 1 else 'frames'} of {width} x {height} pixels take "
        f"{gigabytes(needed)} as pictures, and this machine has {gigabytes(there)} of memory. "
        "Use a smaller size, fewer frames or a smaller batch."
    )


def clip_problems(width: int | None, height: int | None, frames: int | None, factors: tuple[int, int]) -> list[str]:
    """Sentences about the size of a clip; None values are not known yet and are passed over."""
    space, time = factors
    found = [
        size_problem(name, value, space) for name, value in (("width", width), ("height", height)) if value is not None
    ]
    if frames is not None:
        found.append(frames_problem(frames, time))
    return [problem for problem in found if problem]


def factors_of(source: Any) -> tuple[int, int]:
    """(pixels per latent cell, frames per latent frame) of a SORA_DIT or of any VAE object.

    Raises:
        SoraDiTError: the object is neither.
    """
    if hasattr(source, "spatial_factor"):
        return source.spatial_factor, source.temporal_factor
    if hasattr(source, "spacial_compression_decode"):
        time = source.temporal_compression_decode() if hasattr(source, "temporal_compression_decode") else None
        return int(source.spacial_compression_decode()), int(time or 1)
    raise SoraDiTError(f"Expected a model or a VAE, got {described(source)}; connect one of Load Model's outputs.")


def channels_of(source: Any) -> int:
    """Latent channels of a SORA_DIT or of any VAE object; 16 if a VAE does not say."""
    config = getattr(source, "config", None)
    return int(getattr(source, "latent_channels", None) or getattr(config, "in_channels", None) or 16)


def samples_of(latent: Any, channels: int | None = None, consumer: str = "model") -> Any:
    """The tensor `[B, C, T, H, W]` of a LATENT; an image latent `[B, C, H, W]` becomes one frame.

    Raises:
        ShapeError: it is no latent, or has other than `channels` channels.
    """
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if samples is None or not hasattr(samples, "ndim") or getattr(samples, "is_nested", False):
        raise ShapeError(f"Expected a LATENT with one video, got {described(latent)}.")
    if samples.ndim == 4:
        samples = samples.unsqueeze(2)
    if samples.ndim != 5 or 0 in samples.shape:
        raise ShapeError(
            f"The latent has shape {list(samples.shape)}; expected [batch, channels, frames, height, width]."
        )
    if channels is not None and samples.shape[1] != channels:
        raise ShapeError(
            f"The latent has {samples.shape[1]} channels, but this {consumer} works with {channels}: "
            "it was made for another model. Use an Empty Latent or Encode node connected to the same file."
        )
    return samples


def images_of(images: Any) -> Any:
    """The frames `[F, H, W, 3]` of an IMAGE; transparency is dropped and grey is made colour.

    Raises:
        ShapeError: no frames, or not an IMAGE.
    """
    if not hasattr(images, "ndim") or images.ndim not in (4, 5):
        raise ShapeError(f"Expected images [frames, height, width, 3], got {described(images)}.")
    if images.ndim == 5:
        images = images.flatten(0, 1)
    if images.shape[0] == 0:
        raise ShapeError("There are no frames: the clip is empty.")
    if 0 in images.shape or images.shape[-1] not in (1, 3, 4):
        raise ShapeError(f"The images have shape {list(images.shape)}; expected [frames, height, width, 3].")
    return images.expand(*images.shape[:-1], 3) if images.shape[-1] == 1 else images[..., :3]


def prompts_of(conditioning: Any, name: str) -> list[tuple[Any, Any, Any, float]]:
    """(embeddings `[1, L, D]`, mask `[1, L]` bool or None, pooled `[1, P]` or None, weight) of each prompt in a
    CONDITIONING; a combine node puts several into one.

    Raises:
        ShapeError: it is none.
        SoraDiTError: a prompt is for a part of the picture or of the steps, which our sampler does not know.
    """
    try:
        entries = [(embeddings, dict(extra)) for embeddings, extra in conditioning]
    except (TypeError, ValueError):
        entries = []
    if not entries:
        raise ShapeError(f"{name} is {described(conditioning)}; expected the CONDITIONING of a text encode node.")
    return [_prompt(embeddings, extra, name) for embeddings, extra in entries]


# What core nodes put beside a prompt that changes what it means -> in words
_FOREIGN = {
    "area": "a prompt for a part of the picture",
    "mask": "a prompt for a part of the picture",
    "control": "a ControlNet",
    "gligen": "a prompt for a part of the picture",
    "hooks": "a hook",
    "start_percent": "a prompt for a part of the steps",
}


def _prompt(embeddings: Any, extra: dict[str, Any], name: str) -> tuple[Any, Any, Any, float]:
    foreign = [words for key, words in _FOREIGN.items() if extra.get(key) is not None]
    if foreign:
        raise SoraDiTError(
            f"{name} holds {foreign[0]}; this node takes prompts for the whole clip and all steps. "
            "For the rest use To ComfyUI Model with a core sampler."
        )
    if getattr(embeddings, "ndim", 0) != 3:
        raise ShapeError(f"{name} holds {described(embeddings)}; expected embeddings [batch, tokens, width].")
    if embeddings.shape[0] != 1:
        raise ShapeError(f"{name} holds a batch of {embeddings.shape[0]} prompts; expected one.")
    mask = extra.get("attention_mask")
    if mask is not None and tuple(mask.shape) != tuple(embeddings.shape[:2]):
        mask = None  # a concat node joins the embeddings and keeps the first prompt's mask
    weight = float(extra.get("strength", 1.0))
    return embeddings, None if mask is None else mask.bool(), extra.get("pooled_output"), weight


def check_widths(embeddings: Any, pooled: Any, config: Any, name: str) -> None:
    """Raise `ShapeError` if the text comes from an encoder that this model was not trained with."""
    if config.uses_cross and embeddings.shape[-1] != config.text_width:
        raise ShapeError(
            f"{name} comes from a text encoder of width {embeddings.shape[-1]}, but this model was trained with one of "
            f"width {config.text_width}. Connect the CLIP output of the same Load Model node to the text encode node."
        )
    wanted = config.pooled_width or config.text_width
    if config.uses_pooled and (pooled is None or pooled.shape[-1] != wanted):
        got = "no pooled text vector" if pooled is None else f"a pooled text vector of width {pooled.shape[-1]}"
        raise ShapeError(
            f"{name} has {got}, but this model was trained with one of width {wanted}. "
            "Connect the CLIP output of the same Load Model node to the text encode node."
        )


def check_finite(values: Any, what: str, advice: str) -> None:
    """Raise `SoraDiTError` if a tensor holds NaN or infinity, which would show as black frames."""
    finite = values.isfinite()
    if not finite.all():
        share = 1 - finite.sum().item() / finite.numel()
        raise SoraDiTError(f"{what} is damaged: {share:.0%} of its values are not numbers. {advice}")


def flat_frames(images: Any) -> int:
    """How many of the frames `[F, H, W, 3]` are one single colour."""
    flat = images.flatten(1, 2)
    return int(((flat.amax(1) - flat.amin(1)).amax(-1) < 1 / 255).sum())


def described(value: Any) -> str:
    """A few words for a value that should have been something else."""
    if value is None:
        return "nothing"
    shape = getattr(value, "shape", None)
    return f"a tensor of shape {list(shape)}" if shape is not None else f"a {type(value).__name__}"


def require_fit(size: Any, factors: tuple[int, int]) -> None:
    """Raise `ShapeError` unless (frames, height, width) of a clip fits."""
    frames, height, width = size
    if problems := clip_problems(width, height, frames, factors):
        raise ShapeError(" ".join(problems))


def latent_shape(width: int, height: int, frames: int, factors: tuple[int, int]) -> tuple[int, int, int]:
    """(latent frames, rows, columns) of a clip. Raises `ShapeError` with the nearest two values if it does not fit."""
    require_fit((frames, height, width), factors)
    space, time = factors
    return (frames - 1) // time + 1, height // space, width // space
