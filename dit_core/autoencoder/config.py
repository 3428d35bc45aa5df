"""What a causal video autoencoder is made of, as one frozen dataclass that travels in the checkpoint's metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import ConfigError


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of a `CausalVideoAutoencoder`.

    Per-resolution tuples go from the finest resolution (next to the pixels) to the coarsest (next to the latent);
    per-transition tuples have one entry fewer. Raises `ConfigError` naming field, value and what is allowed.
    """

    in_channels: int = 3  # colour channels of the video
    latent_channels: int = 16
    patch: int = 2  # spatial pixel-unshuffle at the encoder's door, pixel-shuffle at the decoder's exit
    encoder_channels: tuple[int, ...] = (32, 64, 128)  # one width per resolution
    decoder_channels: tuple[int, ...] = (64, 96, 128)  # one width per resolution, also finest first
    encoder_blocks: int | tuple[int, ...] = 1  # residual blocks at each resolution
    decoder_blocks: int | tuple[int, ...] = 2
    temporal_downsample: tuple[bool, ...] = (True, True)  # halve the frames at each transition?
    spatial_downsample: tuple[bool, ...] = (True, True)  # halve height and width at each transition?
    linear: str = "none"  # see linear.py; both: beside the convolutions | encoder: encodes alone | alone: no others
    lookahead: int = 0  # later latent frames that decoding looks at: 0, or 1 for a linear codec that stands alone
    linear_sides: int = 3  # rows and columns of latents that the linear codec looks at to decode a box, odd
    latent_mean: tuple[float, ...] | None = None  # per latent channel, measured after training
    latent_std: tuple[float, ...] | None = None
    # latent channels (and a constant) to red, green, blue, for previews; see colours.py
    latent_rgb: tuple[tuple[float, float, float], ...] | None = None
    kl: float = 1e-6  # weight of the KL term it was trained with

    def __post_init__(self) -> None:
        for name in ("in_channels", "latent_channels", "patch"):
            _require(_is_int(getattr(self, name), 1), self, name, "a whole number of at least 1")
        _require(_is_number(self.kl) and self.kl >= 0, self, "kl", "a number of at least 0")
        _require(self.linear in ("none", "both", "encoder", "alone"), self, "linear", "none, both, encoder or alone")
        _require(_is_int(self.lookahead, 0) and self.lookahead <= 1, self, "lookahead", "0 or 1")
        _require(self.lookahead == 0 or self.linear == "alone", self, "lookahead", '0 unless linear is "alone"')
        odd = _is_int(self.linear_sides, 1) and self.linear_sides % 2 == 1
        _require(odd, self, "linear_sides", "an odd whole number of at least 1")
        self._check_per_resolution()
        for name in ("temporal_downsample", "spatial_downsample"):
            value, count = getattr(self, name), self.resolutions - 1
            good = isinstance(value, tuple) and len(value) == count and all(isinstance(v, bool) for v in value)
            _require(good, self, name, f"{count} booleans, one per transition between resolutions")
        for name in ("latent_mean", "latent_std"):
            value, count = getattr(self, name), self.latent_channels
            good = isinstance(value, tuple) and len(value) == count and all(_is_number(v) for v in value)
            _require(value is None or good, self, name, f"{count} numbers, one per latent channel, or none")
        _require(self.latent_std is None or min(self.latent_std) > 0, self, "latent_std", "numbers above 0")
        rows, count = self.latent_rgb, self.latent_channels + 1
        good = isinstance(rows, tuple) and len(rows) == count and all(_is_colour(row) for row in rows)
        _require(rows is None or good, self, "latent_rgb", f"{count} rows of three numbers, or none")
        both = (self.latent_mean is None) == (self.latent_std is None)
        _require(both, self, "latent_std", "given exactly when latent_mean is")

    def _check_per_resolution(self) -> None:
        for name in ("encoder_channels", "decoder_channels"):
            value = getattr(self, name)
            good = isinstance(value, tuple) and len(value) > 0 and all(_is_int(v, 1) for v in value)
            _require(good, self, name, "one whole number of at least 1 per resolution")
        same = len(self.decoder_channels) == self.resolutions
        _require(same, self, "decoder_channels", f"as many entries as encoder_channels, {self.resolutions}")
        for name in ("encoder_blocks", "decoder_blocks"):
            value = getattr(self, name)
            one = _is_int(value, 0)
            each = isinstance(value, tuple) and len(value) == self.resolutions and all(_is_int(v, 0) for v in value)
            _require(one or each, self, name, f"a whole number of at least 0, or {self.resolutions} of them")

    @property
    def resolutions(self) -> int:
        """How many resolutions the encoder and the decoder each work at."""
        return len(self.encoder_channels)

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent cell along height and width."""
        return self.patch * 2 ** sum(self.spatial_downsample)

    @property
    def temporal_factor(self) -> int:
        """Video frames per latent frame (the first latent frame stands for one video frame only)."""
        return 2 ** sum(self.temporal_downsample)

    def blocks(self, which: str) -> tuple[int, ...]:
        """Residual blocks per resolution of `which`, "encoder" or "decoder", finest first."""
        value = self.encoder_blocks if which == "encoder" else self.decoder_blocks
        return (value,) * self.resolutions if isinstance(value, int) else value

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of `frames` video frames, which must be temporal_factor * k + 1."""
        return (frames - 1) // self.temporal_factor + 1

    def video_frames(self, latents: int) -> int:
        """Video frames that `latents` latent frames decode to."""
        return (latents - 1) * self.temporal_factor + 1

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values (tuples become lists)."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AutoencoderConfig:
        """The inverse of `to_dict`. Unknown keys and values that are not implemented raise `ConfigError`."""
        known = [field.name for field in fields(cls)]
        unknown = {key: value for key, value in values.items() if key not in known}
        if unknown:
            got = ", ".join(f"{key} = {value!r}" for key, value in unknown.items())
            raise ConfigError(f"The autoencoder configuration has unknown keys: {got}. Known: {', '.join(known)}.")
        return cls(**{key: _frozen(value) for key, value in values.items()})


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def _is_colour(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(_is_number(v) for v in value)


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(good: bool, config: AutoencoderConfig, name: str, allowed: str) -> None:
    if not good:
        value = getattr(config, name)
        raise ConfigError(f"The autoencoder configuration has {name} = {value!r}; allowed is {allowed}.")
