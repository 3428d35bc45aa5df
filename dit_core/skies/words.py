"""The words of the captions: for each value of each attribute, how people say it, and nothing else."""

from __future__ import annotations

TIME = {
    "dawn": (
        "at dawn", "at daybreak", "at sunrise", "in the first light of dawn", "early in the morning at dawn",
        "in the early morning", "in the morning", "at first light", "as the sun rises", "on a pink morning",
    ),
    "day": (
        "by day", "in broad daylight", "in the daytime", "at midday", "on a bright day", "during the day",
        "at noon", "in the afternoon", "in the middle of the day", "on a summer day", "in the daylight",
    ),
    "sunset": (
        "at sunset", "at sundown", "in the glow of sunset", "during a fiery sunset", "as the sun sets",
        "in the golden light of sunset", "in an orange sunset", "in the light of the setting sun", "during sunset",
    ),
    "dusk": (
        "at dusk", "at nightfall", "at twilight", "in the purple dusk", "in the evening twilight",
        "in the evening", "late in the evening", "as night falls", "in the twilight",
    ),
    "night": (
        "at night", "by night", "in the dark of night", "late at night", "during the night",
        "at midnight", "in the middle of the night", "under the stars", "on a starry night", "after dark",
    ),
}  # fmt: skip
TIME_DULL = {
    "dawn": ("at dawn", "at daybreak", "in the early morning", "in the morning"),
    "day": ("by day", "in the daytime", "at midday", "during the day", "at noon", "in the afternoon"),
    "sunset": ("at sunset", "at sundown", "in the glow of sunset", "during sunset"),
    "night": ("at night", "by night", "in the dark of night", "late at night", "during the night", "at midnight"),
}
"""Where the sky is closed, or sun and moon are said to be hidden."""
TIME_LIT = {
    "day": ("on a sunny day", "in the sunshine"),
    "dusk": ("on a moonlit evening",),
    "night": ("on a moonlit night", "in the moonlight"),
}
"""Also where the sun or the moon is named."""
TIME_SKY = {
    "dawn": ("dawn sky", "sunrise sky", "pink dawn sky", "morning sky at dawn", "morning sky", "early morning sky"),
    "day": ("daytime sky", "midday sky", "daylight sky", "afternoon sky", "noon sky", "sky at noon"),
    "sunset": ("sunset sky", "sky at sunset", "glowing sunset sky", "orange sunset sky", "burning sunset sky"),
    "dusk": ("dusk sky", "twilight sky", "purple dusk sky", "evening sky", "sky at dusk"),
    "night": ("night sky", "dark night sky", "sky at night", "black night sky", "midnight sky"),
}
TIME_SKY_OPEN = {"day": ("blue sky", "bright blue sky"), "night": ("starry sky", "starry night sky")}
"""Also where the sky is clear or has a few clouds."""
TIME_NOUN = {
    "dawn": ("dawn", "sunrise", "daybreak", "early morning", "a pink dawn", "morning"),
    "day": ("daytime", "midday", "a bright day", "noon", "a summer day", "afternoon"),
    "sunset": ("sunset", "a fiery sunset", "an orange sunset", "a sunset", "sundown", "a red sunset"),
    "dusk": ("dusk", "twilight", "nightfall", "evening", "a purple dusk"),
    "night": ("night", "a dark night", "a starry night", "midnight", "stars", "a sky full of stars"),
}
TIME_NOUN_DULL = {
    "dawn": ("dawn", "daybreak", "early morning", "morning"),
    "day": ("daytime", "midday", "noon", "afternoon"),
    "sunset": ("sunset", "a sunset", "sundown"),
    "night": ("night", "a dark night", "midnight"),
}
CLOUDS = {
    "clear": (
        "a few thin wisps in a clear sky", "hardly a cloud, just wisps", "thin wisps in a clear sky",
        "only thin wisps in the sky", "a few wisps in a cloudless sky",
    ),
    "scattered": (
        "scattered clouds", "a few puffy clouds", "some scattered clouds", "scattered puffs of cloud",
        "a few clouds", "some clouds", "a few small clouds", "a few fluffy clouds", "fair-weather clouds",
    ),
    "broken": (
        "broken clouds", "many big clouds with gaps between", "broken cloud cover", "lots of broken clouds",
        "many clouds", "lots of clouds", "big clouds with gaps", "a sky full of clouds", "many large clouds",
    ),
    "overcast": (
        "an overcast sky", "a solid overcast", "a closed blanket of clouds", "thick overcast clouds",
        "a sky covered in clouds", "dense clouds all over the sky", "a heavy overcast sky", "a gray overcast sky",
    ),
    None: ("clouds", "the clouds"),
}  # fmt: skip
STILL_CLEAR = (
    "a clear sky", "clear skies", "a nearly cloudless sky", "an almost cloudless sky", "clear weather",
    "a cloudless sky", "a perfectly clear sky", "no clouds", "not a cloud in the sky", "without clouds",
)  # fmt: skip
ADJECTIVE = {
    "clear": ("clear", "nearly cloudless", "wide, clear", "cloudless", "perfectly clear"),
    "scattered": ("lightly clouded", "partly cloudy", "slightly cloudy"),
    "broken": ("mostly cloudy", "broken-clouded", "cloudy", "very cloudy"),
    "overcast": ("overcast", "heavily overcast", "completely overcast", "gray, overcast"),
}
VERB = {
    "slow": (
        "drifting slowly", "creeping", "moving slowly", "gliding slowly", "drifting gently",
        "slowly drifting", "slowly moving", "hardly moving", "moving very slowly",
    ),
    "moderate": (
        "moving steadily", "sailing at a moderate pace", "drifting steadily", "moving at a moderate speed",
        "moving at a steady pace", "steadily drifting",
    ),
    "fast": (
        "racing", "rushing", "moving fast", "speeding", "streaming quickly",
        "moving quickly", "racing by", "driven by a strong wind", "quickly moving",
    ),
    None: ("drifting", "moving", "sailing", "floating", "passing", "going"),
}  # fmt: skip
WAY = {
    "left": ("left", "to the left", "leftwards", "leftward", "from right to left", "towards the left"),
    "right": ("right", "to the right", "rightwards", "rightward", "from left to right", "towards the right"),
    None: ("",),
}
GROUND = {
    "sea": (
        "over the sea", "above the ocean", "over open water", "over the waves", "over a calm sea",
        "over the ocean", "above the sea", "at sea", "over the water", "by the sea", "over a lake",
    ),
    "hills": (
        "over rolling hills", "above the hills", "over hills", "above layered hills", "over hilly country",
        "over the hills", "over the mountains", "above mountains", "over a hilly landscape", "over distant mountains",
    ),
    "city": (
        "over a city", "above a city skyline", "over the roofs of a city", "above the town", "over the skyline",
        "over the city", "above the city", "above skyscrapers", "over tall buildings", "over a town", "in the city",
    ),
    "none": (
        "nothing but sky", "only sky in view", "no land in sight", "just the open sky",
        "nothing but the sky", "only the sky", "no ground in sight",
    ),
}  # fmt: skip
GROUND_NOUN = {
    "sea": ("the sea", "the ocean", "open water", "a calm sea", "a seascape", "ocean waves", "a lake"),
    "hills": ("hills", "rolling hills", "mountains", "the hills", "a hilly landscape", "distant mountains"),
    "city": ("a city", "a city skyline", "the city", "a skyline", "a town", "skyscrapers", "the roofs of a city"),
}
PLACE = {
    "left": ("on the left", "at the left", "to the left side", "on the left side"),
    "center": ("in the middle", "in the center", "at the center", "in the middle of the sky", "in the centre"),
    "right": ("on the right", "at the right", "to the right side", "on the right side"),
}
LIGHT = {
    "sun": ("the sun {}", "a bright sun {}", "sun {}", "the sun shining {}", "the sun is {}", "with the sun {}"),
    "moon": ("the moon {}", "a pale moon {}", "moon {}", "the moon shining {}", "a bright moon {}", "with the moon {}"),
    "light": ("the light {}", "light shining {}"),
}
LIGHT_SOMEWHERE = {
    "sun": ("the sun in the sky", "the sun shining", "with the sun", "a bright sun", "sunshine"),
    "moon": ("the moon in the sky", "the moon shining", "with the moon", "a bright moon", "a moon", "moonlight"),
}
"""Sun or moon is there; where, the caption does not say."""
NO_LIGHT = {
    "sun": ("no sun to be seen", "the sun hidden", "no sun", "the sun out of sight", "without the sun"),
    "moon": ("no moon to be seen", "the moon hidden", "no moon", "the moon out of sight", "without a moon"),
    "light": ("no sun or moon", "neither sun nor moon in view"),
}
BALLOON = ("hot-air balloon", "hot air balloon", "balloon")
ONE = ("a", "a", "a", "a", "a", "one", "a single", "a lone", "a big", "a striped", "a bright", "the")
BALLOON_VERB = (
    "rising", "floating", "floating up", "drifting upwards", "climbing slowly", "in flight", "ascending",
    "flying", "hovering", "in the air", "in the sky", "going up", "drifting", "soaring",
)  # fmt: skip
BIRDS = (
    "a flock of birds", "birds", "some birds", "a group of birds", "a small flock of birds",
    "a few birds", "five birds", "seagulls", "a flock of seagulls", "gulls", "geese", "a flock of geese", "crows",
)  # fmt: skip
BIRDS_VERB = (
    "flying", "passing", "flapping past", "on the wing", "crossing the sky",
    "in the sky", "in flight", "flying by", "in the air", "flapping their wings",
)  # fmt: skip
PLANE = (
    "a plane", "an airplane", "an airliner", "a jet", "a plane with a contrail", "a jet with a white trail",
    "an aeroplane", "an aircraft", "a passenger plane", "a jet plane", "a plane leaving a contrail",
)  # fmt: skip
PLANE_VERB = (
    "flying", "passing", "crossing the sky", "crossing", "in the sky", "in flight", "flying by", "flying high",
)  # fmt: skip
GOING = {
    "balloon": (
        "drifting {}", "floating up and {}", "rising and drifting {}", "floating {}", "flying {}", "moving {}",
        "heading {}",
    ),
    "birds": ("flying {}", "flapping {}", "crossing {}", "heading {}", "moving {}", "passing {}", "going {}"),
    "plane": ("flying {}", "heading {}", "crossing {}", "moving {}", "passing {}", "going {}"),
    "any": ("something flying {}", "something moving {}"),
}  # fmt: skip
NO_OBJECT = (
    "an empty sky", "nothing in the air", "no birds or balloons", "nothing flying", "no aircraft in sight",
    "no birds", "no balloons", "no planes", "no birds, no planes",
)  # fmt: skip
RAIN = {
    "yes": (
        "rain falling", "in the rain", "a rain shower", "rain pouring down", "rainy weather",
        "heavy rain", "rain", "raining", "a rainstorm", "rain showers",
    ),
    "no": ("no rain", "dry weather", "without rain"),
}  # fmt: skip
OPENING = ("a video of ", "a clip of ", "a view of ", "a shot of ", "a timelapse of ", "footage of ", "a film of ")
ENDING = ("cinematic", "high quality", "4k", "beautiful", "realistic", "highly detailed", "a wide shot")
"""What people put around a prompt and what names nothing of the sky."""
