"""From a decoded frame to a picture: its colours, its size, and which way up it is."""

from __future__ import annotations

from typing import Any

import numpy as np

# SWS_BICUBIC | FULL_CHR_H_INT | FULL_CHR_H_INP | ACCURATE_RND: without these, swscale repeats each chroma sample 2x2.
_SCALING = 4 | 0x2000 | 0x4000 | 0x40000
# AVColorSpace -> PyAV's name of the matrix (ITU-T H.273, table 4).
_MATRICES = {1: "ITU709", 4: "FCC", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}


def to_rgb(frame, own: tuple[int, int], size: tuple[int, int] | None = None) -> np.ndarray:
    """`[H, W, 3]` sRGB of one decoded frame, upright; 16 bits where the file has more than 8.

    own: the file's (width, height) before turning upright. size: (width, height) wanted, upright; None = its own.
    """
    deep = max((component.bits for component in frame.format.components), default=8) > 8
    options: dict[str, Any] = {}
    if not frame.format.is_rgb and frame.format.name not in ("pal8", "gray", "monow", "monob"):
        # Files that do not say are BT.709 when large and BT.601 when small, as players assume.
        guess = "ITU709" if frame.height >= 720 or frame.width >= 1280 else "ITU601"
        full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
        options = {
            "src_colorspace": _matrix(_MATRICES.get(int(frame.colorspace), guess)),
            "src_color_range": "JPEG" if full else "MPEG",
            # RGB has no range, but PyAV 14 skips the matrix when source and target range are equal.
            "dst_color_range": "MPEG" if full else "JPEG",
        }
    turns = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    width, height = own if size is None else size[::-1] if turns % 2 else size
    picture = frame.reformat(width, height, format="rgb48le" if deep else "rgb24", interpolation=_SCALING, **options)
    array = picture.to_ndarray()
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def plainly(frame, own: tuple[int, int], size: tuple[int, int] | None = None) -> np.ndarray:
    """`[H, W, 3]` uint8 of one decoded frame by PyAV's defaults; arguments as of `to_rgb`."""
    wanted = size or own
    if (frame.width, frame.height) != wanted:
        frame = frame.reformat(*wanted)
    return frame.to_ndarray(format="rgb24")


def _matrix(name: str) -> str:
    from av.video.reformatter import Colorspace

    return name if name in Colorspace.__members__ else "ITU709"  # older PyAV lacks BT2020
