"""Rendered skies: captioned clips made from numbers, an endless data set whose answers are known.

`sample_scene` (or `sample_balanced`) draws a scene, `twin` one that differs from it in a word; `caption` describes it,
`render` makes the frames, `attributes` tells what is in it.
"""

from .captions import caption, named, prompt_for, twin_caption
from .edition import EDITION
from .render import render
from .scene import EQUALLY, HELD_OUT, VALUES, SkyScene, attributes, sample_balanced, sample_scene
from .twins import twin

__all__ = [
    "EDITION",
    "EQUALLY",
    "HELD_OUT",
    "VALUES",
    "SkyScene",
    "attributes",
    "caption",
    "named",
    "prompt_for",
    "render",
    "sample_balanced",
    "sample_scene",
    "twin",
    "twin_caption",
]
