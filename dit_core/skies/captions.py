"""Captions: a small grammar of English for skies. The words name what they are given and nothing else.

A caption is a few phrases (clouds, light, object, rain, place, time), each with several wordings, put together in one
of several sentence shapes. `caption` drops attributes at random, so that short prompts belong to the language too.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ..errors import ConfigError
from .scene import SkyScene, attributes, check_attributes

LONGEST = 190
"""No caption has more bytes."""

_TIME = {
    "dawn": ("at dawn", "at daybreak", "at sunrise", "in the first light of dawn", "early in the morning at dawn"),
    "day": ("by day", "in broad daylight", "in the daytime", "at midday", "on a bright day", "during the day"),
    "sunset": ("at sunset", "at sundown", "in the glow of sunset", "during a fiery sunset", "as the sun sets"),
    "dusk": ("at dusk", "at nightfall", "at twilight", "in the purple dusk", "in the evening twilight"),
    "night": ("at night", "by night", "in the dark of night", "late at night", "during the night"),
}
_TIME_DULL = {
    "day": ("by day", "in the daytime", "at midday", "during the day"),
    "sunset": ("at sunset", "at sundown", "in the glow of sunset"),
}
_TIME_SKY = {
    "dawn": ("dawn sky", "sunrise sky", "pink dawn sky", "morning sky at dawn"),
    "day": ("daytime sky", "midday sky", "daylight sky"),
    "sunset": ("sunset sky", "sky at sunset", "glowing sunset sky"),
    "dusk": ("dusk sky", "twilight sky", "purple dusk sky"),
    "night": ("night sky", "dark night sky", "sky at night"),
}
_CLOUDS = {
    "clear": ("a few thin wisps in a clear sky", "hardly a cloud, just wisps", "thin wisps in a clear sky"),
    "scattered": ("scattered clouds", "a few puffy clouds", "some scattered clouds", "scattered puffs of cloud"),
    "broken": ("broken clouds", "many big clouds with gaps between", "broken cloud cover", "lots of broken clouds"),
    "overcast": ("an overcast sky", "a solid overcast", "a closed blanket of clouds", "thick overcast clouds"),
    None: ("clouds", "the clouds"),
}
_STILL_CLEAR = ("a clear sky", "clear skies", "a nearly cloudless sky", "an almost cloudless sky", "clear weather")
_ADJECTIVE = {
    "clear": ("clear", "nearly cloudless", "wide, clear"),
    "scattered": ("lightly clouded", "partly cloudy"),
    "broken": ("mostly cloudy", "broken-clouded"),
    "overcast": ("overcast", "heavily overcast", "completely overcast"),
}
_VERB = {
    "slow": ("drifting slowly", "creeping", "moving slowly", "gliding slowly", "drifting gently"),
    "moderate": ("moving steadily", "sailing at a moderate pace", "drifting steadily", "moving at a moderate speed"),
    "fast": ("racing", "rushing", "moving fast", "speeding", "streaming quickly"),
    None: ("drifting", "moving", "sailing", "floating"),
}
_WAY = {
    "left": ("left", "to the left", "leftwards", "from right to left", "towards the left"),
    "right": ("right", "to the right", "rightwards", "from left to right", "towards the right"),
    None: ("",),
}
_GROUND = {
    "sea": ("over the sea", "above the ocean", "over open water", "over the waves", "over a calm sea"),
    "hills": ("over rolling hills", "above the hills", "over hills", "above layered hills", "over hilly country"),
    "city": ("over a city", "above a city skyline", "over the roofs of a city", "above the town", "over the skyline"),
    "none": ("nothing but sky", "only sky in view", "no land in sight", "just the open sky"),
}
_PLACE = {
    "left": ("on the left", "at the left", "to the left side"),
    "center": ("in the middle", "in the center", "at the center"),
    "right": ("on the right", "at the right", "to the right side"),
}
_LIGHT = {
    "sun": ("the sun {}", "a bright sun {}", "sun {}", "the sun shining {}"),
    "moon": ("the moon {}", "a pale moon {}", "moon {}", "the moon shining {}"),
    "light": ("the light {}", "light shining {}"),
}
_NO_LIGHT = {
    "sun": ("no sun to be seen", "the sun hidden", "no sun", "the sun out of sight"),
    "moon": ("no moon to be seen", "the moon hidden", "no moon", "the moon out of sight"),
    "light": ("no sun or moon", "neither sun nor moon in view"),
}
_BALLOON = ("hot-air balloon", "hot air balloon", "balloon")
_BALLOON_VERB = ("rising", "floating", "floating up", "drifting upwards", "climbing slowly", "in flight", "ascending")
_BIRDS = ("a flock of birds", "birds", "some birds", "a group of birds", "a small flock of birds")
_BIRDS_VERB = ("flying", "passing", "flapping past", "on the wing", "crossing the sky")
_PLANE = ("a plane", "an airplane", "an airliner", "a jet", "a plane with a contrail", "a jet with a white trail")
_PLANE_VERB = ("flying", "passing", "crossing the sky", "crossing")
_GOING = {
    "balloon": ("drifting {}", "floating up and {}", "rising and drifting {}"),
    "birds": ("flying {}", "flapping {}", "crossing {}", "heading {}"),
    "plane": ("flying {}", "heading {}", "crossing {}"),
    "any": ("something flying {}",),
}
_NO_OBJECT = ("an empty sky", "nothing in the air", "no birds or balloons", "nothing flying", "no aircraft in sight")
_RAIN = {
    "yes": ("rain falling", "in the rain", "a rain shower", "rain pouring down", "rainy weather"),
    "no": ("no rain", "dry weather", "without rain"),
}
_KEEP = {
    "time": 0.82, "cover": 0.70, "direction": 0.62, "speed": 0.45, "ground": 0.78,
    "light": 0.85, "object_color": 0.92, "object_direction": 0.75, "rain": 0.85,
}  # fmt: skip


def caption(scene: SkyScene, seed: int, full: bool = False) -> str:
    """Describe a scene; the same scene and seed give the same words.

    Args:
        seed: which wording; other seeds name other attributes in other words.
        full: name every attribute instead of dropping some.
    Returns:
        20 to `LONGEST` bytes of English; without `full` usually 40 to 170.
    """
    rng, words = _choose(scene, seed, full)
    return _compose(words, rng, scene.luminary)


def named(scene: SkyScene, seed: int, full: bool = False) -> dict[str, str]:
    """The attributes that `caption` with the same arguments names, with their values."""
    return _choose(scene, seed, full)[1]


def _choose(scene: SkyScene, seed: int, full: bool) -> tuple[random.Random, dict[str, str]]:
    rng = random.Random(f"{seed}/{scene.variation[0]!r}/{scene.drift!r}")
    words = attributes(scene)
    return rng, words if full else _drop(words, rng)


def prompt_for(words: dict[str, str], seed: int) -> str:
    """A caption that names exactly the given attributes (keys and values of `scene.VALUES`).

    Raises:
        ConfigError: no attributes, an unknown attribute or value, or a colour asked of something that is no balloon.
    """
    check_attributes(words)
    if not words:
        raise ConfigError("A prompt needs at least one sky attribute to name; none was given.")
    if words.get("object_color", "none") != "none" and words.get("object", "balloon") != "balloon":
        raise ConfigError(f"Only a balloon has a colour; the object given is {words['object']!r}.")
    time = words.get("time")
    luminary = "light" if time is None else "moon" if time in ("dusk", "night") else "sun"
    return _compose(dict(words), random.Random(f"prompt/{seed}"), luminary)


def _drop(words: dict[str, str], rng: random.Random) -> dict[str, str]:
    """Keep some of the attributes; say seldom what is not there.

    What flies is always named: a prompt that names nothing in the air shall get nothing in the air.
    """
    terse = rng.random() < 0.25
    keep = {k for k in words if k == "object" or rng.random() < _KEEP[k] * (0.6 if terse else 1.0)}
    if words["object"] == "none" and rng.random() < 0.86:
        keep.discard("object")
    if words["rain"] == "no" and rng.random() < 0.95:
        keep.discard("rain")
    if words["light"] == "none" and rng.random() < 0.8:
        keep.discard("light")
    if words["ground"] == "none" and rng.random() < 0.5:
        keep.discard("ground")
    if words["object"] == "none":
        keep -= {"object_color", "object_direction"}
    if len(keep & {"time", "cover", "direction", "ground", "object"}) < 2:
        keep |= {"time", rng.choice(("cover", "direction", "ground"))}
    return {k: v for k, v in words.items() if k in keep}


def _compose(words: dict[str, str], rng: random.Random, luminary: str) -> str:
    """Try wordings until one is short enough; the shortest of sixty if none is."""
    best = ""
    goal = rng.choice((110, 140, 170, 170))
    for attempt in range(60):
        text = _sentence(words, rng, luminary)
        if not best or len(text) < len(best):
            best = text
        if len(text) <= (goal if attempt < 8 else 170):
            return text
    return best


def _clouds(words: dict[str, str], pick: Callable) -> str:
    cover, direction, speed = (words.get(k) for k in ("cover", "direction", "speed"))
    if direction is None and speed is None:
        return pick(_STILL_CLEAR if cover == "clear" else _CLOUDS[cover])
    motion = f"{pick(_VERB[speed])} {pick(_WAY[direction])}".strip()
    join = ", its clouds " if cover == "overcast" else " "
    noun = pick(_CLOUDS[cover])
    if cover == "overcast" and "cloud" in noun or noun == "a solid overcast":
        join = " "
    if cover == "clear":
        return pick((f"a clear sky with a few wisps {motion}", f"thin wisps {motion} in a clear sky"))
    return f"{noun}{join}{motion}"


def _object(words: dict[str, str], pick: Callable) -> str:
    kind, color = words.get("object"), words.get("object_color", "none")
    heading = words.get("object_direction", "none")
    if kind == "none":
        return pick(_NO_OBJECT)
    if color != "none":
        kind = "balloon"
    if kind is None:
        return pick(_GOING["any"]).format(pick(_WAY[heading])) if heading != "none" else ""
    noun, verb = {
        "balloon": (f"{color} {pick(_BALLOON)}", pick(_BALLOON_VERB)),
        "birds": (pick(_BIRDS), pick(_BIRDS_VERB)),
        "plane": (pick(_PLANE), pick(_PLANE_VERB)),
    }[kind]
    if kind == "balloon":
        noun = f"a {noun}".replace("a none ", "a ").replace("a orange", "an orange")
    if heading != "none":
        verb = pick(_GOING[kind]).format(pick(_WAY[heading]))
    return f"{noun} {verb}"


def _sentence(words: dict[str, str], rng: random.Random, luminary: str) -> str:
    pick = rng.choice
    has = words.__contains__
    clouds = _clouds(words, pick) if has("cover") or has("direction") or has("speed") else ""
    thing = _object(words, pick) if has("object") or has("object_color") or has("object_direction") else ""
    real_thing = bool(thing) and words.get("object") != "none"
    dull = words.get("cover") == "overcast" or words.get("rain") == "yes" or words.get("light") == "none"
    times = _TIME_DULL.get(words.get("time", ""), ()) if dull else ()
    time = pick(times or _TIME[words["time"]]) if has("time") else ""
    place = pick(_GROUND[words["ground"]]) if has("ground") else ""
    extras = []
    if has("light"):
        light = words["light"]
        wording = _NO_LIGHT if light == "none" else _LIGHT
        extras.append(pick(wording[luminary]).format(pick(_PLACE.get(light, ("",)))))
    if has("rain"):
        extras.append(pick(_RAIN[words["rain"]]))
    if words.get("ground") == "none":  # "over ..." belongs to a noun, "only sky in view" stands by itself
        extras.append(place)
        place = ""
    rng.shuffle(extras)
    return _finish(_arrange(words, clouds, thing, real_thing, time, place, extras, rng), rng)


def _arrange(words, clouds, thing, real_thing, time, place, extras, rng) -> list[list[str]]:
    """Sentences, each a list of phrases to be joined by commas."""
    setting = [p for p in (place, time) if p]
    if rng.random() < 0.25:
        setting.reverse()
    shape = rng.random()
    plain_sky = time and words.get("time") and rng.random() < 0.4
    if plain_sky and not real_thing:
        # "a partly cloudy dawn sky over the sea, ..."
        sky = rng.choice(_TIME_SKY[words["time"]])
        if "cover" in words:
            sky = f"{rng.choice(_ADJECTIVE[words['cover']])} {sky}"
            only = {k: v for k, v in words.items() if k in ("direction", "speed")}
            subject = "clouds" if words["cover"] != "clear" else "thin wisps"
            motion = _clouds(only, rng.choice) if only else ""
            clouds = motion.replace("the clouds", "clouds").replace("clouds", subject)
        article = "an" if sky[0] in "aeiou" else "a"
        rest = [clouds, *extras, thing]
        if shape < 0.3:
            return [[x for x in rest[:1] if x] + [f"{article} {sky} {place}".strip()], [x for x in rest[1:] if x]]
        return [[f"{article} {sky} {place}".strip(), *(x for x in rest if x)]]
    if real_thing:
        if shape < 0.45:
            return [[" ".join([thing, *setting]), *(x for x in (clouds, *extras) if x)]]
        if shape < 0.65:
            return [[" ".join([thing, *setting])], [x for x in (clouds, *extras) if x]]
        if shape < 0.85 and clouds:
            return [[" ".join([clouds, *setting]), *extras, thing]]
        if setting:
            return [[" ".join(setting), thing, *(x for x in (clouds, *extras) if x)]]
        return [[thing, *(x for x in (clouds, *extras) if x)]]
    rest = [*extras, *([thing] if thing else [])]
    if clouds and shape < 0.55:
        return [[" ".join([clouds, *setting]), *rest]]
    if clouds and shape < 0.8:
        return [[" ".join([clouds, *setting])], rest]
    if setting:
        return [[" ".join(setting), *([clouds] if clouds else ["the sky"] if not rest else []), *rest]]
    return [[*([clouds] if clouds else []), *rest]]


def _finish(sentences: list[list[str]], rng: random.Random) -> str:
    """Commas, full stops and capitals, or the plain style of a quick prompt."""
    parts = []
    for phrases in sentences:
        if not phrases:
            continue
        if len(phrases) > 1 and rng.random() < 0.12:
            phrases = [*phrases[:-2], f"{phrases[-2]} and {phrases[-1]}"]
        parts.append(", ".join(phrases))
    if rng.random() < 0.35:
        return ", ".join(parts)
    return " ".join(p[0].upper() + p[1:] + "." for p in parts)
