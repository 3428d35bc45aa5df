"""The memory between two chunks of one clip: for each causal convolution, the last frames it still needs."""

from __future__ import annotations

from torch import Tensor, nn


class Stream:
    """Frames that causal modules remember while one clip passes through them chunk by chunk.

    One stream belongs to one clip and to one direction (encode or decode). A module that the stream does not know
    yet is at the start of the clip.
    """

    def __init__(self) -> None:
        self._past: dict[nn.Module, Tensor] = {}

    def past(self, module: nn.Module) -> Tensor | None:
        """What `module` remembered, `[B, C, frames, H, W]`, or None at the start of the clip."""
        return self._past.get(module)

    def remember(self, module: nn.Module, frames: Tensor) -> None:
        """Keep `frames` `[B, C, frames, H, W]` for `module`'s next chunk; copied, so the chunk itself can be freed."""
        self._past[module] = frames.clone()

    @property
    def nbytes(self) -> int:
        """Bytes held at the moment; does not depend on how much of the clip has passed."""
        return sum(frames.numel() * frames.element_size() for frames in self._past.values())
