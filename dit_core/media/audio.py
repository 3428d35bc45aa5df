"""Sound on its way into and out of a video file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import MediaError

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}  # PyAV cannot hand over more than 7 planes
_BLOCK = 16384  # samples handed to the encoder at a time


class Sound:
    """A checked waveform that is fed to an encoder as far as the pictures have come.

    Args:
        audio: `{"waveform": [1, C, S] or [C, S] in -1..1, "sample_rate": Hz}`; values beyond -1..1 are clipped.

    Raises:
        MediaError: another shape, a channel count that is not 1, 2 or 6, no samples, or values not finite.
    """

    def __init__(self, audio: dict[str, Any]):
        if not isinstance(audio, dict) or not {"waveform", "sample_rate"} <= set(audio):
            got = ", ".join(map(str, audio)) if isinstance(audio, dict) else type(audio).__name__
            raise MediaError(f"The audio is {got}; expected a dictionary with waveform and sample_rate.")
        wave = torch.as_tensor(audio["waveform"]).detach().to("cpu", torch.float32)
        shape = list(wave.shape)
        wave = wave[0] if wave.ndim == 3 and shape[0] == 1 else wave
        if wave.ndim != 2 or wave.shape[0] not in _LAYOUTS or wave.shape[1] == 0:
            raise MediaError(
                f"The audio waveform has shape {shape}; expected [1, channels, samples] with "
                f"{', '.join(map(str, _LAYOUTS))} channels and at least one sample."
            )
        if not torch.isfinite(wave).all():
            raise MediaError("The audio waveform holds NaN or infinite values; expected numbers from -1 to 1.")
        rate = audio["sample_rate"]
        if isinstance(rate, bool) or int(rate) != rate or not 1000 <= rate <= 768_000:
            raise MediaError(f"The audio's sample_rate is {rate!r}; expected a whole number from 1000 to 768000 Hz.")
        self.rate, self.layout, self.channels = int(rate), _LAYOUTS[wave.shape[0]], wave.shape[0]
        self._wave = wave.clamp(-1, 1).contiguous().numpy()
        self._sent = 0

    @property
    def samples(self) -> int:
        """Samples per channel."""
        return self._wave.shape[1]

    def until(self, seconds: Fraction | float) -> Iterator:
        """Audio frames from where the last call stopped up to `seconds`."""
        import av

        end = min(self.samples, math.ceil(seconds * self.rate))
        while self._sent < end:
            block = np.ascontiguousarray(self._wave[:, self._sent : min(end, self._sent + _BLOCK)])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=self.layout)
            frame.sample_rate, frame.time_base, frame.pts = self.rate, Fraction(1, self.rate), self._sent
            self._sent += block.shape[1]
            yield frame


def encoder_rate(encoder: str, rate: int) -> int:
    """Return `rate` where the encoder takes it, else 48000 Hz (the encoder resamples)."""
    import av

    allowed = av.codec.Codec(encoder, "w").audio_rates
    return rate if not allowed or rate in allowed else 48_000


def read_sound(path: Path, start: float, seconds: float) -> dict[str, Any] | None:
    """Decode the first sound track from `start` (on the file's own clock) for `seconds`.

    Returns: `{"waveform": [1, C, S] float32, "sample_rate": Hz}` of exactly that length, silent where the track has
    nothing; None when the file has no sound that can be decoded.
    """
    import av

    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        if stream.codec_context is None:  # FFmpeg has no decoder for it
            return None
        rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
        if not rate or not channels:
            return None
        layout = stream.codec_context.layout
        if channels > 7:  # see _LAYOUTS
            layout, channels = "stereo", 2
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        wave = np.zeros((channels, max(1, round(seconds * rate))), np.float32)
        for position, block in _blocks(container, stream, resampler, rate):
            first = position - round(start * rate)
            if first >= wave.shape[1]:
                break
            block = block[:, max(0, -first) :][:, : wave.shape[1] - max(0, first)]
            wave[:, max(0, first) : max(0, first) + block.shape[1]] = block
    return {"waveform": torch.from_numpy(wave)[None], "sample_rate": rate}


def _blocks(container, stream, resampler, rate: int) -> Iterator[tuple[int, np.ndarray]]:
    """(position in samples on the file's clock, `[C, n]` float32) of each decoded piece."""
    position = None
    for frame in _decoded(container, stream):
        if position is None or frame.pts is not None:
            # Time stamps are rounded (to a millisecond in Matroska); follow them only when they really jump.
            stamped = round((frame.time or 0.0) * rate)
            if position is None or abs(stamped - position) > rate // 50:
                position = stamped
        frame.pts = None
        for piece in resampler.resample(frame):
            block = piece.to_ndarray()
            yield position, block
            position += block.shape[1]


def _decoded(container, stream) -> Iterator:
    """Frames of sound, without those of damaged packets: the pictures are worth having without them."""
    import av

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        yield from frames
