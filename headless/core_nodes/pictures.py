"""Between tensors and Pillow: reading a picture file as IMAGE and MASK, and 8-bit pictures for writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dit_core.checkpoint.atomic import reason
from ...dit_core.errors import MediaError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image as Pillow
    from torch import Tensor

_NO_MASK = 64  # rows and columns of the empty MASK that core gives for a picture without transparency


def to_picture(frame: Tensor, number: int) -> Pillow.Image:
    """Frame `[H, W, C]` in 0..1 as an 8-bit picture; fractions are cut off as in core, so k / 255 comes back as k.

    Raises:
        MediaError: frame `number` holds NaN or infinity.
    """
    import numpy as np
    from PIL import Image

    values = frame.detach().float().cpu().numpy() * 255.0
    if not np.isfinite(values).all():
        raise MediaError(
            f"Frame {number} of the images holds NaN or infinite values; expected numbers from 0 to 1. "
            "The model or a node before this one failed there."
        )
    pixels = np.clip(values, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def read_pictures(path: Path) -> tuple[Tensor, Tensor, list[str]]:
    """IMAGE `[F, H, W, 3]` and MASK of a picture file, and remarks; an animation or a document gives several frames.

    Turned as the camera says (EXIF). The MASK `[F, H, W]` is 1 where the picture is transparent; without transparency
    it is `[F, 64, 64]` of zeros, as in core. Pages of another size than the first are left out.

    Raises:
        MediaError: no picture, or a damaged one.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps, ImageSequence

    frames: list[np.ndarray] = []
    alphas: list[np.ndarray | None] = []
    skipped = 0
    with _damage_in_words(path), Image.open(path) as file:
        for page in ImageSequence.Iterator(file):
            picture = _eight_bit(ImageOps.exif_transpose(page))
            colours = np.asarray(picture.convert("RGB"))
            if frames and colours.shape != frames[0].shape:
                skipped += 1
                continue
            frames.append(colours)
            alphas.append(_alpha(picture))
            if file.format == "MPO":  # a photograph; its further pages are depth maps and thumbnails
                break
    height, width, _ = frames[0].shape
    empty = (height, width) if any(alpha is not None for alpha in alphas) else (_NO_MASK, _NO_MASK)
    masks = [
        torch.zeros(empty) if alpha is None else 1 - torch.from_numpy(alpha.copy()).float() / 255 for alpha in alphas
    ]
    notes = [f"{skipped} pages of {path.name} have another size than the first and were left out."] if skipped else []
    return torch.from_numpy(np.stack(frames)).float() / 255, torch.stack(masks), notes


def read_channel(path: Path, channel: str) -> Tensor:
    """One channel ("alpha", "red", "green", "blue") of a picture as MASK `[1, H, W]`; alpha is turned round.

    Raises:
        MediaError: no picture, or a damaged one.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    with _damage_in_words(path), Image.open(path) as file:
        picture = _eight_bit(ImageOps.exif_transpose(file)).convert("RGBA")
        values = np.array(picture.getchannel(channel[0].upper()))
    mask = torch.from_numpy(values).float() / 255
    return (1 - mask if channel == "alpha" else mask)[None]


def _eight_bit(picture: Pillow.Image) -> Pillow.Image:
    """16-bit grey as 8-bit grey by core's rule: a value counts 1/255 of itself, what is too bright is white."""
    import numpy as np
    from PIL import Image

    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray(np.clip(np.asarray(picture).astype(np.float64) / 255, 0, 255).astype(np.uint8))


def _alpha(picture: Pillow.Image) -> np.ndarray | None:
    """Opacity `[H, W]` uint8, None for a picture that has none."""
    import numpy as np

    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return np.asarray(picture.getchannel("A")) if "A" in picture.getbands() else None


@contextmanager
def _damage_in_words(path: Path) -> Iterator[None]:
    """One sentence in place of what Pillow raises for damaged files, which is nearly anything."""
    import struct

    from PIL import Image, UnidentifiedImageError

    def failed(why: str) -> MediaError:
        return MediaError(f"{path} cannot be read as a picture: {why}.")

    try:
        yield
    except Image.DecompressionBombError as error:
        raise failed("it has more pixels than can be meant") from error
    except UnidentifiedImageError as error:
        raise failed("it is damaged, or of a kind that Pillow does not know") from error
    except OSError as error:
        raise failed(reason(error) if error.errno else "it is damaged or incomplete") from error
    except (ValueError, LookupError, SyntaxError, EOFError, struct.error) as error:
        raise failed("it is damaged") from error


def png_texts(metadata: dict[str, str]) -> Any:
    """Text chunks of a PNG, one for each entry."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, text in metadata.items():
        info.add_text(name, text)
    return info


def apng_texts(metadata: dict[str, str]) -> Any:
    """The chunks `comf` in which ComfyUI keeps the texts of an animated PNG: name, a zero byte, text."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, text in metadata.items():  # texts are JSON with escapes, hence ASCII
        info.add(
            b"comf", name.encode("latin-1", "replace") + b"\0" + text.encode("latin-1", "replace"), after_idat=True
        )
    return info
