"""Prompts whose right answer is known, from combinations that training never saw."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from sora_dit.dit_core.skies import SkyScene, attributes, caption, prompt_for, sample_balanced, sample_scene

WORDINGS = ("named", "full", "both")
ALWAYS = ("time", "cover", "ground", "direction")


@dataclass(frozen=True)
class Asked:
    """A prompt, what it asks for, and a scene that answers it."""

    prompt: str
    words: dict[str, str]  # attribute -> value, only what the prompt names
    scene: SkyScene

    @property
    def balloon(self) -> bool:
        """Whether the prompt asks for a balloon."""
        return self.words.get("object") == "balloon"


def draw_asked(
    count: int, seed: int, split: str = "heldout", wording: str = "both", flying: tuple[float, ...] = ()
) -> list[Asked]:
    """`count` prompts, as many to the left as to the right, half of either with a balloon (up to rounding).

    wording: "named": time, cover, ground and direction, what is in the air, and at times more; "full": every attribute
        that there is; "both": in turn.
    flying: shares of what is in the air, see `sample_balanced`; nothing is balanced then.
    """
    if flying:
        scenes = [sample_balanced(seed, index, split, flying) for index in range(count)]
        return [
            _ask(scene, random.Random(f"{seed}/{i}"), wording == "full" or (wording == "both" and i % 2 == 1), i)
            for i, scene in enumerate(scenes)
        ]
    cells = [(direction, balloon) for direction in ("left", "right") for balloon in (True, False)]
    quota = {cell: (count + k) // len(cells) for k, cell in enumerate(cells)}
    got: Counter = Counter()
    asked: list[Asked] = []
    index = 0
    while len(asked) < count:
        scene = sample_scene(seed, index, split)
        cell = (scene.direction, scene.object == "balloon")
        if got[cell] < quota[cell]:
            full = wording == "full" or (wording == "both" and got[cell] % 2 == 1)
            asked.append(_ask(scene, random.Random(f"{seed}/{index}"), full, index))
            got[cell] += 1
        index += 1
    return asked


def _ask(scene: SkyScene, rng: random.Random, full: bool, seed: int) -> Asked:
    words = attributes(scene)
    if full:
        return Asked(caption(scene, seed, full=True), words, scene)
    named = set(ALWAYS)
    named |= {name for name in ("speed", "light") if rng.random() < 0.5}
    if scene.object != "none":
        named |= {"object", "object_color"} if scene.object == "balloon" else {"object"}
        named |= {"object_direction"} if rng.random() < 0.5 else set()
    if scene.rain:
        named.add("rain")
    words = {name: value for name, value in words.items() if name in named}
    return Asked(prompt_for(words, seed), words, scene)
