"""Captions: a small grammar of English for skies. The words name what they are given and nothing else.

A caption is a few phrases (clouds, light, object, rain, place, time), each with several wordings (`words.py`), put
together in one of several sentence shapes. `caption` drops attributes at random, so that short prompts belong to the
language too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ConfigError
from . import words as say
from .scene import SkyScene, attributes, check_attributes

LONGEST = 190
"""No caption has more bytes."""

_KEEP = {
    "time": 0.82, "cover": 0.90, "direction": 0.62, "speed": 0.55, "ground": 0.78,
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
    return _compose_scene(scene, words, rng)


def twin_caption(pair: tuple[SkyScene, SkyScene], which: int, seed: int) -> str:
    """The caption of `pair[which]`: alike for both of these skies, but for the word they differ in, which both name.

    A pair whose captions leave that word out shows two pictures for one text, and teaches nothing of it. What flies is
    named anyway, and empty air seldom, see `_drop`.
    """
    first, second = map(attributes, pair)
    differ = {name for name in first if first[name] != second[name]}
    if "object" in differ:
        differ = set()  # and with it its colour and direction
    rng, words = _numbers(pair[0], seed), attributes(pair[which])
    kept = _drop(words, rng)
    words = {name: value for name, value in words.items() if name in kept or name in differ}
    return _compose_scene(pair[which], words, rng)


def named(scene: SkyScene, seed: int, full: bool = False) -> dict[str, str]:
    """The attributes that `caption` with the same arguments names, with their values."""
    return _choose(scene, seed, full)[1]


def _choose(scene: SkyScene, seed: int, full: bool) -> tuple[random.Random, dict[str, str]]:
    rng = _numbers(scene, seed)
    words = attributes(scene)
    return rng, words if full else _drop(words, rng)


def _numbers(scene: SkyScene, seed: int) -> random.Random:
    return random.Random(f"{seed}/{scene.variation[0]!r}/{scene.drift!r}")


def _compose_scene(scene: SkyScene, words: dict[str, str], rng: random.Random) -> str:
    somewhere = "light" not in words and scene.light != "none" and rng.random() < 0.4
    return _compose(words, rng, scene.luminary, somewhere)


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


def _compose(words: dict[str, str], rng: random.Random, luminary: str, somewhere: bool = False) -> str:
    """Try wordings until one is short enough; the shortest of sixty if none is."""
    best = ""
    goal = rng.choice((110, 140, 170, 170))
    for attempt in range(60):
        text = _around(_finish(_arrange(_phrases(words, rng, luminary, somewhere), rng), rng), rng)
        if not best or len(text) < len(best):
            best = text
        if len(text) <= (goal if attempt < 8 else 170):
            return text
    return best


@dataclass
class _Phrases:
    """What there is to say, each part in words; "" where nothing is to be said of it."""

    words: dict[str, str]
    clouds: str
    thing: str
    time: str
    place: str
    dull: bool  # no sun, moon or stars
    extras: list[str] = field(default_factory=list)

    @property
    def flies(self) -> bool:
        """Whether the thing is one, and not "nothing in the air"."""
        return bool(self.thing) and self.words.get("object") != "none"


def _phrases(words: dict[str, str], rng: random.Random, luminary: str, somewhere: bool) -> _Phrases:
    pick, has = rng.choice, words.__contains__
    clouds = _clouds(words, pick) if has("cover") or has("direction") or has("speed") else ""
    thing = _object(words, pick) if has("object") or has("object_color") or has("object_direction") else ""
    hidden = words.get("light") == "none"
    dull = words.get("cover") == "overcast" or words.get("rain") == "yes" or hidden
    lit = not dull and luminary != "light" and (somewhere or has("light"))
    said = _Phrases(words, clouds, thing, _time(words, pick, dull, lit) if has("time") else "", "", dull)
    if has("light"):
        wording = say.NO_LIGHT if hidden else say.LIGHT
        said.extras.append(pick(wording[luminary]).format(pick(say.PLACE.get(words["light"], ("",)))))
    elif somewhere:
        said.extras.append(pick(say.LIGHT_SOMEWHERE[luminary]))
    if has("rain"):
        said.extras.append(pick(say.RAIN[words["rain"]]))
    if has("ground"):
        place = pick(say.GROUND[words["ground"]])
        if words["ground"] == "none":  # "over ..." belongs to a noun, "only sky in view" stands by itself
            said.extras.append(place)
        else:
            said.place = place
    rng.shuffle(said.extras)
    return said


def _time(words: dict[str, str], pick: Callable, dull: bool, lit: bool) -> str:
    time = words["time"]
    if dull:
        return pick(say.TIME_DULL.get(time, say.TIME[time]))
    return pick(say.TIME[time] + (say.TIME_LIT.get(time, ()) if lit else ()))


def _clouds(words: dict[str, str], pick: Callable) -> str:
    cover, direction, speed = (words.get(k) for k in ("cover", "direction", "speed"))
    if direction is None and speed is None:
        return pick(say.STILL_CLEAR if cover == "clear" else say.CLOUDS[cover])
    motion = f"{pick(say.VERB[speed])} {pick(say.WAY[direction])}".strip()
    if cover == "clear":
        return pick((f"a clear sky with a few wisps {motion}", f"thin wisps {motion} in a clear sky"))
    noun = pick(say.CLOUDS[cover])
    join = ", its clouds " if cover == "overcast" and "cloud" not in noun and noun != "a solid overcast" else " "
    return f"{noun}{join}{motion}"


def _object(words: dict[str, str], pick: Callable) -> str:
    kind, color = words.get("object"), words.get("object_color", "none")
    heading = words.get("object_direction", "none")
    if kind == "none":
        return pick(say.NO_OBJECT)
    if color != "none":
        kind = "balloon"
    if kind is None:
        return pick(say.GOING["any"]).format(pick(say.WAY[heading])) if heading != "none" else ""
    noun, verb = {
        "balloon": (_balloon(color, pick), pick(say.BALLOON_VERB)),
        "birds": (pick(say.BIRDS), pick(say.BIRDS_VERB)),
        "plane": (pick(say.PLANE), pick(say.PLANE_VERB)),
    }[kind]
    if heading != "none":
        verb = pick(say.GOING[kind]).format(pick(say.WAY[heading]))
    return f"{noun} {verb}"


def _balloon(color: str, pick: Callable) -> str:
    one = pick(say.ONE)
    if one == "a" and color == "orange":
        one = "an"
    return " ".join(word for word in (one, "" if color == "none" else color, pick(say.BALLOON)) if word)


def _arrange(said: _Phrases, rng: random.Random) -> list[list[str]]:
    """Sentences, each a list of phrases to be joined by commas."""
    if said.time and rng.random() < 0.4 and not said.flies:
        return _plain_sky(said, rng)
    if said.time and said.place and rng.random() < 0.25:
        return _by_name(said, rng)
    clouds, thing, extras = said.clouds, said.thing, said.extras
    setting = [p for p in (said.place, said.time) if p]
    if rng.random() < 0.25:
        setting.reverse()
    shape = rng.random()
    if said.flies:
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


def _plain_sky(said: _Phrases, rng: random.Random) -> list[list[str]]:
    """ "a partly cloudy dawn sky over the sea, ..." """
    words, clouds = said.words, said.clouds
    time, cover = words["time"], words.get("cover")
    skies = say.TIME_SKY[time]
    if not said.dull and cover in ("clear", "scattered"):
        skies += say.TIME_SKY_OPEN.get(time, ())
    sky = rng.choice(skies)
    if cover is not None:
        sky = f"{rng.choice(say.ADJECTIVE[cover])} {sky}"
        only = {k: v for k, v in words.items() if k in ("direction", "speed")}
        motion = _clouds(only, rng.choice) if only else ""
        subject = "clouds" if cover != "clear" else "thin wisps"
        clouds = motion.replace("the clouds", "clouds").replace("clouds", subject)
    article = "an" if sky[0] in "aeiou" else "a"
    sky = f"{article} {sky} {said.place}".strip()
    if rng.random() < 0.3:
        return [[x for x in (clouds, sky) if x], [x for x in (*said.extras, said.thing) if x]]
    return [[sky, *(x for x in (clouds, *said.extras, said.thing) if x)]]


def _by_name(said: _Phrases, rng: random.Random) -> list[list[str]]:
    """ "sunset over the sea, ..." or "the sea at sunset, ..." """
    time = said.words["time"]
    if rng.random() < 0.5:
        nouns = say.TIME_NOUN_DULL.get(time) if said.dull else None
        view = f"{rng.choice(nouns or say.TIME_NOUN[time])} {said.place}"
    else:
        view = f"{rng.choice(say.GROUND_NOUN[said.words['ground']])} {said.time}"
    rest = [x for x in (said.clouds, *said.extras) if x]
    if said.flies and rng.random() < 0.5:
        return [[view, said.thing, *rest]]
    return [[view, *rest, *([said.thing] if said.thing else [])]]


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


def _around(text: str, rng: random.Random) -> str:
    """`text`, at times as people write prompts: "a video of ...", "..., cinematic"."""
    start, end = rng.random(), rng.random()
    if start < 0.06 and text.lower().startswith(("a ", "an ", "one ", "the ")):
        opening = rng.choice(say.OPENING)
        text = (opening.capitalize() if text[0].isupper() else opening) + text[0].lower() + text[1:]
    if end < 0.06:
        text = f"{text.rstrip('.')}, {rng.choice(say.ENDING)}"
    return text
