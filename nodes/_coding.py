"""Between the decode and encode nodes and any VAE object: guards, fitting, and what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..dit_core.errors import SoraDiTError
from ..dit_core.memory import is_out_of_memory
from . import _checks, host
from .handles import SoraVae

FITS = ("error", "trim", "pad")


def decode(vae: Any, latent: Any, chunk_frames: int, progress: Callable[[int], Any]) -> tuple[Any, list[str]]:
    """LATENT -> IMAGE `[B * F, H, W, 3]` float32 in 0..1, and remarks for the user.

    progress: called with the number of frames, returns an object with `update(frame)`.

    Raises:
        ShapeError: the latent was made for a VAE with another number of channels.
        SoraDiTError: latent or pictures hold NaN.
    """
    samples = _checks.samples_of(latent, getattr(vae, "latent_channels", None), "VAE")
    advice = "Choose dtype float32 in the Load Model node, or a lower guidance scale."
    _checks.check_finite(samples, "The latent", advice)
    remarks: list[str] = []
    if isinstance(vae, SoraVae):
        images = _decode_ours(vae, samples, chunk_frames, progress, remarks)
    else:
        images = _decode_other(vae, samples)
    images = images.reshape(-1, *images.shape[-3:]).float()
    _checks.check_finite(images, "The decoded clip", advice)
    if flat := _checks.flat_frames(images):
        which = "All frames are" if flat == len(images) else f"{flat} of {len(images)} frames are"
        remarks.append(f"{which} one single colour; the latent and the VAE may belong to different models.")
    return images, remarks


def _decode_ours(
    vae: SoraVae, samples: Any, chunk_frames: int, progress: Callable[[int], Any], remarks: list[str]
) -> Any:
    bars: list[Any] = []

    def on_chunk(done: int, total: int) -> None:
        if not bars:
            bars.append(progress(total))
        bars[0].update(done)

    try:
        return vae.decode(samples, chunk_frames, on_chunk)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        host.free_memory()
        remarks.append("There was not enough memory for so many frames at a time; decoded in the smallest pieces.")
    return vae.decode(samples, vae.temporal_compression_decode(), on_chunk)


def _decode_other(vae: Any, samples: Any) -> Any:
    """A VAE of another model: video VAEs take the latent as it is, picture VAEs one frame after the other."""
    if getattr(vae, "latent_dim", 3) == 2:
        samples = samples.transpose(1, 2).flatten(0, 1)  # [B * T, C, h, w]
    images = vae.decode(samples)
    if getattr(images, "ndim", 0) not in (4, 5) or images.shape[-1] != 3:
        raise SoraDiTError(f"The VAE gave {_checks.described(images)}; expected pictures [frames, height, width, 3].")
    return images


def encode(vae: Any, frames: Any, progress: Callable[[int], Any]) -> Any:
    """Frames `[F, H, W, 3]` of one clip -> latent `[1, C, T, h, w]`; progress as in `decode`."""
    if isinstance(vae, SoraVae):
        bar = progress(len(frames))
        samples = vae.encode(frames, on_chunk=lambda done, total: bar.update(done))
    else:
        samples = vae.encode(frames)
    if samples.ndim == 4:  # a picture VAE has made one latent picture of each frame
        samples = samples.transpose(0, 1).unsqueeze(0)
    _checks.check_finite(samples, "The encoded clip", "The pictures may hold values that are not numbers.")
    return samples


def fitted(images: Any, vae: Any, fit: str) -> tuple[Any, str | None]:
    """The frames `[F, H, W, 3]` in a size that `vae` takes, and a remark if anything was changed.

    Raises:
        ShapeError: fit is "error" and the clip does not fit, or is smaller than the smallest that does when trimming.
    """
    frames = _checks.images_of(images)
    factors = _checks.factors_of(vae)
    count, height, width = size = tuple(frames.shape[:3])
    if not _checks.clip_problems(width, height, count, factors):
        return frames, None
    if fit == "pad":
        frames = _pad(frames, factors)
    elif fit == "trim" and min(height, width) >= factors[0]:
        frames = _trim(frames, factors)
    _checks.require_fit(frames.shape[:3], factors)
    now = tuple(frames.shape[:3])
    return frames, f"The clip was fitted: {_in_words(size)} became {_in_words(now)}."


def _in_words(size: tuple[int, ...]) -> str:
    frames, height, width = size
    return f"{frames} {'frame' if frames == 1 else 'frames'} of {width} x {height}"


def _trim(frames: Any, factors: tuple[int, int]) -> Any:
    """Leave out the last frames, and the edges evenly."""
    space, time = factors
    count, height, width = frames.shape[:3]
    top, left = height % space // 2, width % space // 2
    return frames[
        : count - (count - 1) % time, top : top + height // space * space, left : left + width // space * space
    ]


def _pad(frames: Any, factors: tuple[int, int]) -> Any:
    """Repeat the last frame, and the right and lower edges."""
    space, time = factors
    count, height, width = frames.shape[:3]

    def positions(size: int, longer: int) -> list[int]:
        return [min(place, size - 1) for place in range(size + longer)]

    frames = frames[positions(count, -(count - 1) % time)]
    frames = frames[:, positions(height, -height % space)]
    return frames[:, :, positions(width, -width % space)]
