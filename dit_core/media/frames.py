"""Frames on their way into a file: checked one by one, in the shape the encoder takes, with remarks for the person."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import MediaError

# A frame whose brightest and darkest value differ by less, in every channel, counts as one flat colour.
_FLAT = 1 / 255


class FrameFeed:
    """Iterates over single frames `[H, W, 3]` float32 in 0..1, all of one size, on the CPU.

    Args:
        source: frames `[H, W, C]` or groups of frames `[F, H, W, C]`, C = 1, 3 or 4 (alpha is dropped); tensors or
            arrays, float in 0..1 or uint8; one tensor `[F, H, W, C]` is a source as well.
        even: pad odd sizes by one row or column that repeats the edge.

    Attributes:
        count: frames given out so far.
        height, width: size given out, after padding; 0 before the first frame.
        given: (width, height) that came in, None before the first frame.

    Raises:
        MediaError: while iterating, on a frame that is of another size or shape, or not finite; it names the frame.
    """

    def __init__(self, source: Iterable, even: bool):
        self._source, self._even = source, even
        self.count = self.height = self.width = 0
        self.given: tuple[int, int] | None = None
        self._flat: list[int] = []
        self._alpha = False

    def __iter__(self) -> Iterator[Tensor]:
        for group in self._source:
            group = torch.from_numpy(group) if isinstance(group, np.ndarray) else group
            if not isinstance(group, Tensor) or group.ndim not in (3, 4) or group.shape[-1] not in (1, 3, 4):
                got = list(group.shape) if isinstance(group, Tensor) else type(group).__name__
                raise MediaError(
                    f"Frame {self.count} of the video has shape {got}; expected [height, width, 3] or "
                    "[frames, height, width, 3]."
                )
            for frame in group if group.ndim == 4 else (group,):
                yield self._check(frame.detach())
                self.count += 1

    def notes(self) -> list[str]:
        """Remarks on what was changed or looks wrong, as sentences."""
        notes = []
        if self.given and self.given != (self.width, self.height):
            notes.append(
                f"The size {self.given[0]}x{self.given[1]} is odd, which this codec cannot hold: the edge was "
                f"repeated to {self.width}x{self.height}."
            )
        if self._alpha:
            notes.append("The frames have an alpha channel; it was dropped.")
        if self._flat:
            count, flat = self.count, len(self._flat)
            which = f"All {count}" if flat == count > 1 else f"{flat} of {count}"
            verb = "is" if flat == 1 else "are"
            first = f"(the first is frame {self._flat[0]})"
            notes.append(f"{which} frames {verb} one flat colour {first}: the picture may be wrong.")
        return notes

    def _check(self, frame: Tensor) -> Tensor:
        height, width, channels = frame.shape
        self.given = self.given or (width, height)
        if self.given != (width, height) or 0 in (width, height):
            first = "at least 1x1" if 0 in self.given else f"{self.given[0]}x{self.given[1]} as frame 0"
            raise MediaError(f"Frame {self.count} of the video is {width}x{height}; expected {first}.")
        self._alpha |= channels == 4
        whole_numbers = not frame.is_floating_point()
        frame = frame[..., :3].to("cpu", torch.float32).expand(height, width, 3)
        if whole_numbers:
            frame = frame / 255
        low, high = (float(value) for value in frame.aminmax())  # both are NaN where any value is
        if not math.isfinite(low + high):
            raise MediaError(
                f"Frame {self.count} of the video holds NaN or infinite values; expected numbers from 0 to 1. "
                "The model or a node before this one failed there."
            )
        if low < 0 or high > 1:
            frame = frame.clamp(0, 1)
        if _is_flat(frame[::8, ::8]) and _is_flat(frame):  # a few pixels tell for nearly every picture
            self._flat.append(self.count)
        if self._even and (height % 2 or width % 2):
            frame = pad(frame.permute(2, 0, 1)[None], (0, width % 2, 0, height % 2), "replicate")[0].permute(1, 2, 0)
        self.height, self.width = frame.shape[:2]
        return frame


def _is_flat(frame: Tensor) -> bool:
    low, high = frame.reshape(-1, 3).aminmax(dim=0)
    return bool((high - low).max() < _FLAT)


def to_yuv420(frame: Tensor) -> np.ndarray:
    """Convert RGB to 8-bit limited-range BT.709 with quarter-size chroma.

    Matrix: ITU-R BT.709-6, items 3.2 to 3.4 (luma 0.2126, 0.7152, 0.0722; 16..235 and 16..240). A chroma sample is the
    mean of its four pixels, hence lies between them: what FFmpeg's swscale (and so most readers) takes for granted;
    the codec table has H.264 and H.265 say so in the stream, since their own default is the left column.

    Args:
        frame: `[H, W, 3]` float in 0..1, H and W even.

    Returns: `[H * 3 / 2, W]` uint8, the planes Y, Cb, Cr one after the other, as PyAV takes "yuv420p".
    """
    height, width, _ = frame.shape
    weights = frame.new_tensor([0.2126, 0.7152, 0.0722])
    luma = frame @ weights  # [H, W]
    rows = frame[0::2] + frame[1::2]
    small = (rows[:, 0::2] + rows[:, 1::2]) / 4  # [H/2, W/2, 3]
    small_luma = small @ weights
    blue = (small[..., 2] - small_luma) / 1.8556
    red = (small[..., 0] - small_luma) / 1.5748
    planes = (luma * 219 + 16, blue * 224 + 128, red * 224 + 128)
    flat = torch.cat([plane.round().to(torch.uint8).flatten() for plane in planes])
    return flat.numpy().reshape(height * 3 // 2, width)


def to_rgb8(frame: Tensor) -> np.ndarray:
    """Round `[H, W, 3]` float in 0..1 to uint8."""
    return (frame * 255).round().to(torch.uint8).numpy()
