"""The one configuration of the one transformer."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from ..diffusion.objectives import OBJECTIVES
from ..errors import ConfigError

CHOICES: dict[str, tuple[str, ...]] = {
    "modulation": ("per_block", "shared"),
    "text": ("pooled", "cross", "both"),
    "timestep_encoding": ("sinusoidal", "binary"),
    "objective": tuple(OBJECTIVES),
    "feed_forward": ("gelu", "swiglu", "relu"),
    "qk_norm": ("none", "head", "width"),
}


def is_positive(value: Any) -> bool:
    """Whether it is a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


@dataclass(frozen=True)
class TransformerConfig:
    """Architecture and objective of a `VideoDiT`; stored in a checkpoint's metadata.

    Raises `ConfigError` for a value that this code does not implement; nothing is guessed.
    """

    width: int  # D, size of a token
    depth: int  # number of blocks
    heads: int  # attention heads; width / heads is the head size
    ff_width: int  # hidden size of the feed-forward
    in_channels: int = 16  # latent channels C
    out_channels: int | None = None  # channels predicted; None = in_channels
    patch: tuple[int, int, int] = (1, 2, 2)  # latent frames, rows, columns in one token
    feed_forward: str = "gelu"  # gelu (tanh form) | swiglu | relu
    modulation: str = "shared"  # per_block: adaLN-Zero of DiT | shared: one projection plus a table, PixArt / Wan
    text: str = "both"  # pooled: text joins the timestep vector | cross: text attention | both
    text_width: int = 256  # size of a text embedding
    pooled_width: int | None = None  # size of the pooled text vector; None = text_width
    text_projection: bool = True  # two-layer projection of the text to `width` before text attention
    timestep_encoding: str = "sinusoidal"  # sinusoidal (DDPM) | binary (fixed-point bits)
    timestep_width: int = 256  # size of the sinusoidal encoding
    timestep_scale: float = 1000.0  # timesteps run from 0 to this
    objective: str = "flow"  # flow: velocity | epsilon: noise | v: v-prediction
    qk_norm: str = "head"  # RMS norm of queries and keys: none | head: over one head | width: over all heads (Wan)
    cross_norm: bool = True  # an affine layer norm before text attention (Wan)
    rope_theta: float = 10000.0  # base of the rotary frequencies
    # Harmonics of its place in the frame that a token is told (`frame_position`). Rotary positions are distances: with
    # them alone "on the left" has to be found out from the edges of the frame. 0 = none (DiT-likes of the Wan family).
    frame_position: int = 0
    norm_eps: float = 1e-6
    latent_mean: tuple[float, ...] | None = None  # latent statistics per channel; None = latents are used as they are
    latent_std: tuple[float, ...] | None = None
    # Standard deviation of each (normalised) latent channel. Given, the network only predicts what the best linear
    # estimate for such a Gaussian leaves over, so that it need not carry the noise itself through its blocks.
    skip_std: tuple[float, ...] | None = None
    training: dict[str, Any] = field(default_factory=dict)  # what the weights were trained with: shift, size, fps, ...

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"Transformer config: {name} is {value!r}; expected one of {', '.join(allowed)}.")
        self._check_numbers()
        object.__setattr__(self, "patch", tuple(self.patch))
        if len(self.patch) != 3 or any(not isinstance(p, int) or p < 1 for p in self.patch):
            raise ConfigError(
                f"Transformer config: patch is {self.patch!r}; expected three whole numbers of at least 1."
            )
        if self.width % self.heads or self.head_width % 2 or self.head_width < 6:
            raise ConfigError(
                f"Transformer config: width {self.width} over {self.heads} heads gives heads of "
                f"{self.width / self.heads:g}; expected an even whole number of at least 6 for 3-D rotary positions."
            )
        self._check_statistics()

    def _check_numbers(self) -> None:
        least = {name: 1 for name in ("width", "depth", "heads", "ff_width", "in_channels", "text_width")}
        least |= {"timestep_width": 2, "frame_position": 0}
        if self.pooled_width is not None:
            least["pooled_width"] = 1
        if self.out_channels is not None:  # more than go in: a learned variance, which is not used
            least["out_channels"] = self.in_channels
        for name, smallest in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
                raise ConfigError(
                    f"Transformer config: {name} is {value!r}; expected a whole number of at least {smallest}."
                )
        for name in ("timestep_scale", "rope_theta", "norm_eps"):
            if not is_positive(getattr(self, name)):
                raise ConfigError(f"Transformer config: {name} is {getattr(self, name)!r}; expected a number above 0.")
        for name in ("cross_norm", "text_projection"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"Transformer config: {name} is {getattr(self, name)!r}; expected true or false.")
        if not isinstance(self.training, dict):
            raise ConfigError(f"Transformer config: training is {self.training!r}; expected names and values.")
        for name in ("shift", "num_train_timesteps", "height", "width", "frames", "fps"):
            if not is_positive(self.training.get(name, 1)):
                raise ConfigError(
                    f"Transformer config: {name} in training is {self.training[name]!r}; expected a number above 0."
                )

    def _check_statistics(self) -> None:
        for name in ("latent_mean", "latent_std", "skip_std"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(float(v) for v in value))
                if len(value) != self.in_channels:
                    raise ConfigError(
                        f"Transformer config: {name} has {len(value)} values; expected one for each of "
                        f"the {self.in_channels} latent channels."
                    )
                wrong = [v for v in getattr(self, name) if not math.isfinite(v) or (name != "latent_mean" and v <= 0)]
                if wrong:
                    expected = "finite numbers" if name == "latent_mean" else "numbers above 0"
                    raise ConfigError(f"Transformer config: {name} has {wrong[0]:g}; expected {expected}.")
        if (self.latent_mean is None) != (self.latent_std is None):
            there, missing = ("std", "mean") if self.latent_mean is None else ("mean", "std")
            raise ConfigError(f"Transformer config: there is latent_{there} without latent_{missing}; expected both.")
        if self.skip_std is not None:
            if self.objective != "flow" or self.predicted_channels != self.in_channels:
                raise ConfigError(
                    f"Transformer config: skip_std with objective {self.objective!r} and {self.predicted_channels} "
                    f"predicted channels; expected objective 'flow' and {self.in_channels} channels, as many as go in."
                )

    @property
    def head_width(self) -> int:
        """Size of one attention head."""
        return self.width // self.heads

    @property
    def predicted_channels(self) -> int:
        """Channels the network puts out."""
        return self.out_channels or self.in_channels

    @property
    def uses_cross(self) -> bool:
        """Whether blocks have text attention."""
        return self.text in ("cross", "both")

    @property
    def uses_pooled(self) -> bool:
        """Whether the pooled text vector joins the modulation."""
        return self.text in ("pooled", "both")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dict that `from_dict` takes back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TransformerConfig:
        """Build from a dict; an unknown key raises `ConfigError`, because ignoring it would change the model."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"Transformer config: unknown key {', '.join(unknown)}; this version knows {', '.join(sorted(known))}."
            )
        missing = [n for n in ("width", "depth", "heads", "ff_width") if n not in values]
        if missing:
            raise ConfigError(f"Transformer config: {', '.join(missing)} missing.")
        return cls(**values)
