"""Twins: the same sky with one word changed, so that a training sees what that word does and nothing else.

In two clips drawn at random nearly all of the difference is clouds; which side the sun is on is a hundredth of it, and
learning that means averaging the rest away. Twins have the same clouds (common random numbers).
"""

from __future__ import annotations

import random
from dataclasses import replace

from .scene import (
    COLORS,
    COVERS,
    DIRECTIONS,
    DRIFT,
    HELD_OUT,
    LIGHT_X,
    LIGHTS,
    OBJECTS,
    SPEEDS,
    SkyScene,
    place_object,
)

_SHARES = {
    "cover": 0.40,
    "speed": 0.18,
    "light": 0.09,
    "object_direction": 0.10,
    "object_color": 0.08,
    "object": 0.12,
    "direction": 0.05,
}
_ALIKE = ({"scattered", "broken"}, {"broken", "overcast"})  # taken for each other: twins of these come more often


def twin(scene: SkyScene, seed: int) -> SkyScene:
    """`scene` with one attribute changed, which one and to what by `seed`; of the same split as the scene.

    The attribute is drawn by how hard it is to learn, of those that the scene has: a sky without anything in the air
    has no direction of it to change.
    """
    rng = random.Random(f"twin/{seed}/{scene.variation[0]!r}")
    can = {name: share for name, share in _SHARES.items() if _has(scene, name)}
    if scene.cover == "clear":
        can["speed"] *= 2  # wisps are faint: how fast they are is learned last
    name = rng.choices(list(can), list(can.values()))[0]
    return _CHANGES[name](scene, rng)


def _has(scene: SkyScene, name: str) -> bool:
    if name == "light":
        return scene.cover != "overcast"
    if name == "object_direction":
        return scene.object != "none"
    if name == "object_color":
        return scene.object == "balloon"
    return name != "cover" or bool(_covers(scene))


def _covers(scene: SkyScene) -> list[str]:
    """What the cover can be with all else as it is."""
    barred = {scene.cover} | ({"clear", "scattered"} if scene.rain else set())
    barred |= {"overcast"} if scene.light != "none" else set()
    held_out = _held_out(scene, scene.cover)
    return [c for c in COVERS if c not in barred and _held_out(scene, c) == held_out]


def _held_out(scene: SkyScene, cover: str) -> bool:
    return (scene.time, cover, scene.ground) in HELD_OUT


def _other(rng: random.Random, values: tuple[str, ...] | list[str], but: str) -> str:
    return rng.choice([value for value in values if value != but])


def _light(scene: SkyScene, rng: random.Random) -> SkyScene:
    light = _other(rng, LIGHTS, scene.light)
    return replace(scene, light=light, light_x=scene.light_x - LIGHT_X[scene.light] + LIGHT_X[light])


def _cover(scene: SkyScene, rng: random.Random) -> SkyScene:
    covers = _covers(scene)
    weights = [3 if {cover, scene.cover} in _ALIKE else 1 for cover in covers]
    return replace(scene, cover=rng.choices(covers, weights)[0])


def _direction(scene: SkyScene, rng: random.Random) -> SkyScene:
    return replace(scene, direction=_other(rng, DIRECTIONS, scene.direction), drift=-scene.drift)


def _speed(scene: SkyScene, rng: random.Random) -> SkyScene:
    speed = _other(rng, SPEEDS, scene.speed)
    return replace(scene, speed=speed, drift=scene.drift * DRIFT[speed] / DRIFT[scene.speed])


def _object_direction(scene: SkyScene, rng: random.Random) -> SkyScene:
    heading = _other(rng, DIRECTIONS, scene.object_direction)
    return replace(scene, object_direction=heading, object_vx=-scene.object_vx)


def _object_color(scene: SkyScene, rng: random.Random) -> SkyScene:
    return replace(scene, object_color=_other(rng, COLORS, scene.object_color))


def _object(scene: SkyScene, rng: random.Random) -> SkyScene:
    kind = _other(rng, OBJECTS, scene.object)
    if kind == "none":
        heading = "none"
    else:
        heading = scene.object_direction if scene.object != "none" else rng.choice(DIRECTIONS)
    return replace(
        scene,
        object=kind,
        object_color=rng.choice(COLORS) if kind == "balloon" else "none",
        object_direction=heading,
        **place_object(kind, 1 if heading == "right" else -1, scene.horizon, rng.random),
    )


_CHANGES = {
    "light": _light,
    "cover": _cover,
    "direction": _direction,
    "speed": _speed,
    "object": _object,
    "object_color": _object_color,
    "object_direction": _object_direction,
}
