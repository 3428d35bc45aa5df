"""What a sky looks like, in words and numbers: `SkyScene` and the rule that draws one from (seed, index).

A scene is drawn without any state: the same arguments give the same scene for ever, on every machine. The words
(time, cover, ...) are what captions speak of; the numbers place things and are only seen by the renderer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..errors import ConfigError

TIMES = ("dawn", "day", "sunset", "dusk", "night")
COVERS = ("clear", "scattered", "broken", "overcast")
GROUNDS = ("sea", "hills", "city", "none")
DIRECTIONS = ("left", "right")
SPEEDS = ("slow", "moderate", "fast")
LIGHTS = ("none", "left", "center", "right")
OBJECTS = ("none", "balloon", "birds", "plane")
EQUALLY = (1.0,) * len(OBJECTS)  # shares of what flies
COLORS = ("red", "yellow", "blue", "green", "white", "orange")
SPLITS = ("train", "heldout")

VALUES: dict[str, tuple[str, ...]] = {
    "time": TIMES,
    "cover": COVERS,
    "direction": DIRECTIONS,
    "speed": SPEEDS,
    "ground": GROUNDS,
    "light": LIGHTS,
    "object": OBJECTS,
    "object_color": ("none", *COLORS),
    "object_direction": ("none", *DIRECTIONS),
    "rain": ("no", "yes"),
}
"""Every attribute and the values it can take, in the spelling of `attributes()`."""

DRIFT = {"slow": 0.045, "moderate": 0.125, "fast": 0.26}
"""Mean drift of the clouds in frame widths a second; a scene varies by up to 12 % around it."""

HELD_OUT: tuple[tuple[str, str, str], ...] = (
    ("dawn", "scattered", "sea"),
    ("dawn", "overcast", "city"),
    ("day", "broken", "hills"),
    ("day", "clear", "city"),
    ("sunset", "broken", "city"),
    ("sunset", "clear", "hills"),
    ("dusk", "scattered", "none"),
    ("dusk", "broken", "sea"),
    ("night", "clear", "none"),
    ("night", "scattered", "hills"),
)
"""(time, cover, ground) triples that training never sees: 10 of 80; each value and pair occurs in other triples."""

_ALL = tuple((t, c, g) for t in TIMES for c in COVERS for g in GROUNDS)
_TRIPLES = {"train": tuple(x for x in _ALL if x not in HELD_OUT), "heldout": HELD_OUT}
_SHARE = {"balloon": 0.31, "birds": 0.12, "plane": 0.12, "none": 0.45}
_UP_TO = dict(zip(_SHARE, (0.31, 0.43, 0.55, 1.0), strict=True))  # running sums, exact
LIGHT_X = {"left": 0.2, "center": 0.5, "right": 0.8, "none": 0.5}
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class SkyScene:
    """One sky. Words first, then numbers in frame units: x and y in 0..1 from the top left, speeds per second."""

    time: str
    cover: str
    direction: str  # where the clouds go
    speed: str
    ground: str
    light: str  # where the sun (dawn, day, sunset) or the moon (dusk, night) stands; "none": not to be seen
    object: str
    object_color: str  # of a balloon; "none" otherwise
    object_direction: str  # where the object goes; "none" without object
    rain: bool
    drift: float  # widths a second, negative to the left
    horizon: float  # y of the horizon; beyond 1 where there is only sky
    light_x: float
    light_y: float
    moon_phase: float  # -1..1: 0 new, +-1 full, sign: which side is lit
    object_x: float  # where the object is in the middle of a two-second clip
    object_y: float
    object_vx: float
    object_vy: float
    object_size: float  # in frame heights
    variation: tuple[float, ...]  # eight numbers in 0..1 that choose clouds, hills, buildings, stars, waves

    @property
    def luminary(self) -> str:
        """ "sun" or "moon", by time of day."""
        return "moon" if self.time in ("dusk", "night") else "sun"


def sample_scene(seed: int, index: int, split: str = "train") -> SkyScene:
    """Draw scene `index` of the endless data set `seed`; pure and fast (about 10 us).

    Args:
        seed: which data set, any integer.
        index: which scene of it, any integer.
        split: "train" never yields a triple of `HELD_OUT`, "heldout" yields only those.
    Raises:
        ConfigError: unknown split.
    """
    if split not in SPLITS:
        raise ConfigError(f"The split of a sky data set must be 'train' or 'heldout', got {split!r}.")
    rng = random.Random((((seed & _MASK) << 64) | (index & _MASK)) * 2 + (split == "heldout"))
    u = rng.random
    triples = _TRIPLES[split]
    time, cover, ground = triples[int(u() * len(triples))]
    direction = DIRECTIONS[int(u() * 2)]
    speed = SPEEDS[int(u() * 3)]
    pick = u()
    light = "none" if cover == "overcast" or pick < 0.13 else LIGHTS[1 + int((pick - 0.13) / 0.87 * 3)]
    rain = u() < 0.35 and cover in ("broken", "overcast")
    pick = u()
    kind = next(kind for kind, most in _UP_TO.items() if pick < most)
    color = COLORS[int(u() * len(COLORS))]
    heading = DIRECTIONS[int(u() * 2)]
    horizon = {"sea": 0.66, "hills": 0.76, "city": 0.80, "none": 1.06}[ground] + 0.06 * u()
    low_sun = time in ("dawn", "sunset")
    light_y = min(horizon, 0.98) - 0.10 - 0.16 * u() if low_sun else 0.14 + 0.16 * u()
    if low_sun and ground in ("hills", "city"):
        light_y -= 0.06
    return SkyScene(
        time, cover, direction, speed, ground, light, kind,
        color if kind == "balloon" else "none",
        heading if kind != "none" else "none",
        rain,
        drift=(1 if direction == "right" else -1) * DRIFT[speed] * (0.88 + 0.24 * u()),
        horizon=horizon,
        light_x=LIGHT_X[light] + 0.12 * (u() - 0.5),
        light_y=light_y,
        moon_phase=(1 if u() < 0.5 else -1) * (0.3 + 0.7 * u()),
        **place_object(kind, 1 if heading == "right" else -1, horizon, u),
        variation=tuple(u() for _ in range(8)),
    )  # fmt: skip


def sample_balanced(seed: int, index: int, split: str = "train", shares: tuple[float, ...] = EQUALLY) -> SkyScene:
    """As `sample_scene`, from the same skies, but what flies comes as often as `shares` says, equally by default.

    What is small and rare is learned last; a training set of these needs fewer clips for it.

    Args:
        shares: weights of `OBJECTS`, in that order; none below 0, not all of them 0.
    Raises:
        ConfigError: unknown split; shares that are none.
    """
    if len(shares) != len(OBJECTS) or not all(0 <= share < float("inf") for share in shares) or not any(shares):
        raise ConfigError(
            f"The shares of what flies must be {len(OBJECTS)} numbers of at least 0 ({', '.join(OBJECTS)}), "
            f"one of them above 0; got {list(shares)}."
        )
    rarity = {kind: _SHARE[kind] / share for kind, share in zip(OBJECTS, shares, strict=True) if share}
    for attempt in range(64):
        scene = sample_scene(seed, index * 64 + attempt, split)
        drawn = random.Random(f"{seed}/{index}/{attempt}").random()
        if scene.object in rarity and drawn * rarity[scene.object] < min(rarity.values()):
            break
    return scene


def place_object(kind: str, sign: int, horizon: float, u) -> dict[str, float]:
    """Position, velocity and size of the object, so that it stays in the frame for two seconds."""
    a, b, c, d = u(), u(), u(), u()
    sky = min(horizon, 0.95)
    if kind == "balloon":
        size = 0.17 + 0.08 * c  # width of the envelope
        vx, vy = sign * (0.02 + 0.05 * d), -(0.035 + 0.035 * b)
        low, high = 0.75 * size, sky - 1.15 * size
        x, y = 0.18 + 0.64 * a, max(low + 0.05, min(0.30 + 0.30 * u(), high))
    elif kind == "birds":
        size = 0.12 + 0.04 * c  # wing span: smaller birds were not learned at 64 pixels
        vx, vy = sign * (0.10 + 0.08 * d), 0.04 * (b - 0.5)
        x, y = 0.5 + 0.3 * (a - 0.5), 0.16 + (sky - 0.4) * b
    else:
        size = 0.20 + 0.06 * c  # length of the plane
        vx, vy = sign * (0.14 + 0.10 * d), -0.05 * b
        x, y = 0.5 + 0.2 * (a - 0.5), 0.14 + (sky - 0.45) * u()
    return {"object_x": x, "object_y": y, "object_vx": vx, "object_vy": vy, "object_size": size}


def attributes(scene: SkyScene) -> dict[str, str]:
    """The words of a scene: every key of `VALUES` with one of its values."""
    words = {key: getattr(scene, key) for key in VALUES if key != "rain"}
    return {**words, "rain": "yes" if scene.rain else "no"}


def check_attributes(words: dict[str, str]) -> None:
    """Raise ConfigError for an attribute or a value that the skies do not have."""
    for key, value in words.items():
        if key not in VALUES:
            raise ConfigError(f"A sky has no attribute {key!r}; it has {', '.join(VALUES)}.")
        if value not in VALUES[key]:
            raise ConfigError(f"The sky attribute {key!r} cannot be {value!r}; it can be {', '.join(VALUES[key])}.")
