"""Captions say what they should, nothing that is not so, in many words and of useful length."""

from __future__ import annotations

import re

import pytest
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.skies import VALUES, attributes, caption, prompt_for, sample_scene

# Words that only a caption of the given value may contain.
MARKS = {
    "time": {
        "dawn": r"dawn|daybreak|sunrise|morning|first light|sun rises",
        "day": r"\bday|daylight|daytime|midday|noon|in the sunshine|sunny|blue sky",
        "sunset": r"sunset|sundown|sun sets|setting sun",
        "dusk": r"dusk|nightfall|twilight|evening|night falls",
        "night": r"\bnight\b(?! falls)|midnight|stars|starry|after dark|moonlit night|in the moonlight",
    },
    "cover": {
        "clear": r"clear|cloudless|hardly a cloud|wisps|no clouds|not a cloud|without clouds",
        "scattered": r"scattered|a few (puffy|small|fluffy)? ?clouds|some clouds|fair-weather"
        r"|(lightly|partly|slightly) cloud",
        "broken": r"broken|many (big |large )?clouds|big clouds|lots of clouds|full of clouds"
        r"|(?<!partly )(?<!slightly )\bcloudy",
        "overcast": r"overcast|blanket|covered in clouds|dense clouds",
    },
    "ground": {
        "sea": r"\bsea\b|ocean|water|waves|seascape|\blake",
        "hills": r"hill|mountain",
        "city": r"city|town|skyline|skyscrapers|buildings",
        "none": r"nothing but (the )?sky|only (the )?sky|no land|open sky|no ground",
    },
    "object": {
        "none": r"empty sky|nothing in the air|nothing flying|\bno (birds|balloons|planes|aircraft)",
        "balloon": r"balloon\b",
        "birds": r"(?<!no )\bbirds|gulls|geese|crows",
        "plane": r"\ba plane|plane\b|airliner|\bjet\b|(?<!no )aircraft",
    },
    "speed": {
        "slow": r"slowly(?! above)|creeping|gently|hardly moving",
        "moderate": r"steadily|moderate|steady pace",
        "fast": r"racing|rushing|fast|speeding|quickly|strong wind",
    },
    "rain": {"yes": r"(?<!no )(?<!without )rain\b|rainy|raining|rainstorm", "no": r"no rain|dry weather|without rain"},
    "light": {
        "none": r"no sun|no moon|sun hidden|moon hidden|out of sight|neither sun|without (the sun|a moon)",
        "left": r"(sun|moon)( shining| is)? (on|at|to) the left",
        "center": r"(sun|moon)( shining| is)? (in|at) the (middle|center|centre)",
        "right": r"(sun|moon)( shining| is)? (on|at|to) the right",
    },
}


def named(text: str, key: str) -> set[str]:
    text = text.lower()
    if key == "speed":
        text = text.replace("climbing slowly", "climbing")
    if key == "time":
        for twice, once in (("nightfall", "twilight"), ("daybreak", "dawn"), ("late in the evening", "evening")):
            text = text.replace(twice, once)
    return {value for value, mark in MARKS[key].items() if re.search(mark, text)}


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(8, i) for i in range(2500)]


@pytest.mark.parametrize("key", MARKS)
def test_caption_never_contradicts_its_scene(scenes, key):
    mentioned = 0
    for i, scene in enumerate(scenes):
        text = caption(scene, i)
        said = named(text, key)
        assert said <= {attributes(scene)[key]}, (key, text)
        mentioned += bool(said)
    assert mentioned > 0.05 * len(scenes)


@pytest.mark.parametrize("key", MARKS)
def test_full_caption_names_everything(scenes, key):
    for i, scene in enumerate(scenes[:800]):
        text = caption(scene, i, full=True)
        assert named(text, key) == {attributes(scene)[key]}, (key, text)
        assert len(text.encode()) <= 190


def test_full_caption_names_color_and_directions(scenes):
    for i, scene in enumerate(scenes[:800]):
        text = caption(scene, i, full=True)
        assert scene.direction in text
        if scene.object != "none":
            assert scene.object_direction in text
        if scene.object == "balloon":
            assert re.search(rf"{scene.object_color} (hot|balloon)", text), text


def test_color_is_only_named_for_its_balloon(scenes):
    for i, scene in enumerate(scenes):
        colors = re.findall(r"\b(red|yellow|blue|green|white|orange) (?:hot|balloon)", caption(scene, i))
        assert set(colors) <= {scene.object_color}


def test_lengths_and_variety(scenes):
    texts = [caption(s, i) for i, s in enumerate(scenes)]
    lengths = sorted(len(t.encode()) for t in texts)
    assert lengths[0] >= 12 and lengths[-1] <= 190
    assert 40 <= lengths[len(lengths) // 20] + 10 and lengths[-len(lengths) // 20] <= 170
    assert len(set(texts)) > 0.9 * len(texts)
    assert len({caption(scenes[0], k) for k in range(100)}) > 80
    assert len({w for t in texts for w in re.findall(r"[a-z]+", t.lower())}) > 130
    assert all(t.isascii() and "  " not in t and " ," not in t and ",," not in t and ".." not in t for t in texts)
    assert not any(re.search(r"\ba [aeio]|\ban [^aeiou]|\bnone\b|\{", t.lower()) for t in texts)


def test_caption_is_deterministic(scenes):
    assert caption(scenes[3], 5) == caption(scenes[3], 5)


def test_empty_skies_are_seldom_mentioned(scenes):
    empty = [(i, s) for i, s in enumerate(scenes) if s.object == "none"]
    said = sum(bool(named(caption(s, i), "object")) for i, s in empty) / len(empty)
    assert 0.03 < said < 0.3


@pytest.mark.parametrize("key", MARKS)
def test_prompt_names_exactly_what_is_given(key):
    for value in VALUES[key]:
        for seed in range(40):
            text = prompt_for({key: value}, seed)
            if key == "light":
                assert value == "none" or value.replace("center", "") in text or "middle" in text
            else:
                assert named(text, key) == {value}, text
            for other in set(MARKS) - {key, "light"}:
                # A sentence may need a noun: wisps and clouds are spoken of only with cover or motion.
                assert not named(text, other), (text, other)


def test_prompt_with_several_attributes():
    words = {"time": "sunset", "ground": "sea", "object": "balloon", "object_color": "red", "direction": "left"}
    for seed in range(60):
        text = prompt_for(words, seed)
        for key in ("time", "ground", "object"):
            assert named(text, key) == {words[key]}
        assert "red" in text and "left" in text and not named(text, "cover")


@pytest.mark.parametrize(
    "words",
    [{}, {"time": "noon"}, {"weather": "fine"}, {"object": "birds", "object_color": "red"}, {"rain": "maybe"}],
)
def test_bad_attributes_are_refused_in_words(words):
    with pytest.raises(ConfigError, match=r"^[A-Z].*\.$"):
        prompt_for(words, 0)


def test_what_flies_is_always_named(scenes):
    words = {"balloon": "balloon", "birds": "bird|gulls|geese|crows", "plane": "plane|jet|airliner|aircraft"}
    for i, scene in enumerate(scenes):
        text = caption(scene, i)
        if scene.object != "none":
            assert re.search(words[scene.object], text.lower()), (scene.object, text)
