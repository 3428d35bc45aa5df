"""Help pictures of the training nodes. See help_pictures.py."""

from __future__ import annotations

import math

import torch
from drawing import COLOURS, INK, LINE, PAPER, SOFT, Sheet, as_colours, enlarged
from help_studio import WIDE, Studio, scene_like
from sora_dit.dit_core.skies import caption, render, sample_balanced
from sora_dit.dit_core.training.optim import learning_rate

FROZEN = (214, 216, 220)


def clip_dataset(studio: Studio) -> Sheet:
    """A file with a scene cut, at 24 frames a second, becomes clips of one rate and size."""
    sheet, small = Sheet(WIDE, 300), 56
    scenes = [scene_like(time="sunset", ground="sea", object="balloon"), scene_like(time="night", ground="hills")]
    frames = torch.cat([render([scene], 7, small, 96, 12)[0] for scene in scenes])
    sheet.text((20, 10), "holiday.mp4, 24 frames a second", 14)
    width = 52
    for k in range(14):
        picture = frames[k, :, 22 : 22 + width]
        sheet.frame((20 + k * width, 34), picture, 1)
    cut = 20 + 7 * width
    sheet.draw.line((cut, 28, cut, 34 + small + 8), fill=COLOURS[4], width=3)
    sheet.text((cut, 34 + small + 10), "scene cut", 14, COLOURS[4], "ma")
    for number, (scene, words) in enumerate(zip(scenes, ("clip 1", "clip 2"), strict=True)):
        left = 20 + number * 372
        sheet.arrow((left + 150, 112), (left + 150, 148), SOFT)
        video = render([scene], 9, 96, 96, 12)[0]
        for place, frame in enumerate((0, 4, 8)):
            sheet.frame((left + place * 100, 154), video[frame], 1)
        sheet.text((left, 258), f"{words}: 25 frames of 96 x 96, 12 a second", 13, INK)
    sheet.text((20, 280), 'its words: holiday.txt beside it, "a balloon over the sea, then night"', 13, SOFT)
    return sheet


def sky_dataset(studio: Studio) -> Sheet:
    """Some of the endless skies, with their words."""
    sheet, side, tall = Sheet(WIDE, 388), 118, 190
    for number in range(4):
        scene = sample_balanced(22, number)
        video = render([scene], 17, side, side, 12)[0]
        left, top = 14 + (number % 2) * 378, 12 + (number // 2) * tall
        for place, frame in enumerate((0, 8, 16)):
            sheet.frame((left + place * (side + 2), top), video[frame], 1)
        for row, line in enumerate(_broken(caption(scene, seed=number), 50)[:3]):
            sheet.text((left, top + side + 6 + row * 18), line, 14)
    return sheet


def dataset_doctor(studio: Studio) -> Sheet:
    """The contact sheet of a folder, and what the report says first."""
    report, picture = studio.examined
    picture = enlarged(picture, WIDE - 16)
    lines = [line for line in report.splitlines() if line.startswith(("x ", "! ", "- "))][:6]
    sheet = Sheet(WIDE, picture.height + 26 * len(lines) + 32)
    sheet.image.paste(picture, (8, 6))
    for row, line in enumerate(lines):
        colour = {"x": COLOURS[4], "!": COLOURS[1]}.get(line[0], SOFT)
        sheet.text((16, picture.height + 18 + row * 26), line[:90], 16, colour)
    return sheet


def train_autoencoder(studio: Studio) -> Sheet:
    """Frames, their latents, and what comes back."""
    sheet, clip = Sheet(WIDE, 318), studio.clip
    back, latent = studio.decode(studio.latent), as_colours(studio.latent[0])
    heads = ("clip", "encoder", "latent", "decoder", "what comes back", "", "what is wrong (x 8)")
    for column, words in enumerate(heads):
        sheet.text((84 + column * 99, 8), words, 14 if column % 2 == 0 else 13, INK if column % 2 == 0 else SOFT, "ma")
    for row, frame in enumerate((0, 16)):
        top = 34 + row * 142
        wrong = (clip[frame] - back[frame]).abs().mean(-1, keepdim=True).expand(-1, -1, 3) * 8
        pictures = ((clip[frame], 2), (latent[frame // 4], 16), (back[frame], 2), (1 - wrong.clamp(0, 1), 2))
        for column, (picture, scale) in enumerate(pictures):
            left = 20 + column * 198
            sheet.frame((left, top), picture, scale)
            if column < 2:
                sheet.arrow((left + 138, top + 64), (left + 188, top + 64))
    return sheet


def cache_latents(studio: Studio) -> Sheet:
    """A clip and its words, and what is kept of them."""
    sheet, clip, latent = Sheet(WIDE, 210), studio.clip, as_colours(studio.latent[0])
    for place, frame in enumerate((0, 8, 16)):
        sheet.frame((20 + place * 68, 30), clip[frame], 1)
    numbers, kept = clip.numel(), studio.latent.numel()
    sheet.text((20, 8), f"a clip, {numbers // 1000} 000 numbers", 13)
    sheet.arrow((236, 62), (280, 62))
    sheet.text((258, 44), "VAE", 14, COLOURS[2], "ma")
    for place in range(5):
        sheet.frame((292 + place * 68, 30), latent[place], 8)
    sheet.text((292, 8), f"its latent, {kept // 1000} 000 numbers of 2 bytes", 13)
    words = "a balloon drifts over a calm sea"
    sheet.text((20, 122), f'"{words}"', 13)
    sheet.arrow((236, 130), (280, 130))
    sheet.text((258, 112), "CLIP", 14, COLOURS[0], "ma")
    ids = studio.bundle.text_encoder.tokenize([words])[0][0].tolist()[:11]
    sheet.text((292, 122), " ".join(map(str, ids)) + " ...", 13)
    sheet.box(640, 30, WIDE - 20, 138, fill=(255, 255, 255))
    for row, name in enumerate(("shard_00000", "shard_00001", "index.json")):
        sheet.text((652, 44 + row * 28), name, 13, INK if row < 2 else SOFT)
    sheet.text(
        (20, 172), "Done once; a training of 4000 steps of 16 clips looks at each of 4000 clips 16 times.", 13, SOFT
    )
    return sheet


def new_model(studio: Studio) -> Sheet:
    """What the numbers mean, in a drawing of the model."""
    sheet = Sheet(WIDE, 256)
    latent = as_colours(studio.latent[0])
    sheet.frame((26, 84), latent[2], 10)
    sheet.grid(26, 84, 8, 8, 10)
    sheet.text((68, 194), "latent, in tokens", 13, INK, "ma")
    sheet.text((68, 212), "patch: cells a token", 13, COLOURS[1], "ma")
    sheet.arrow((112, 124), (140, 124))
    for block in range(6):
        left = 148 + block * 78
        sheet.box(left, 60, left + 64, 190, fill=(255, 255, 255), edge=COLOURS[0], width=2)
        for head in range(4):
            sheet.box(left + 8, 70 + head * 13, left + 56, 79 + head * 13, fill=COLOURS[0], edge=COLOURS[0])
        sheet.box(left + 8, 128, left + 56, 144, fill=COLOURS[2], edge=COLOURS[2])
        sheet.box(left + 8, 152, left + 56, 182, fill=COLOURS[1], edge=COLOURS[1])
        if block < 5:
            sheet.arrow((left + 66, 124), (left + 76, 124))
    sheet.arrow((606, 124), (632, 124))
    sheet.frame((640, 84), latent[3], 10)
    sheet.text((680, 194), "what is predicted:", 13, INK, "ma")
    sheet.text((680, 212), "objective", 13, COLOURS[1], "ma")
    sheet.text((380, 36), "depth: 6 blocks, each with tokens of width 256", 14, INK, "ma")
    for at, colour, words in (
        (148, 0, "attention (heads: 4)"),
        (330, 2, "looks at the words"),
        (500, 1, "feed-forward"),
    ):
        sheet.box(at, 226, at + 12, 238, fill=COLOURS[colour], edge=COLOURS[colour])
        sheet.text((at + 18, 224), words, 14, INK)
    return sheet


def training_options(studio: Studio) -> Sheet:
    """The learning rate over a training of 4000 steps, under each schedule; which noise levels are drawn."""
    sheet, steps = Sheet(WIDE, 250), 4000
    kinds = ("wsd", "cosine", "constant")
    lines = [(kind, [learning_rate(s, steps, 400, 0.3, schedule=kind) for s in range(0, steps, 40)]) for kind in kinds]
    sheet.text((50, 8), "learning rate over the steps", 14)
    _lines(sheet, (50, 36, 380, 214), lines)
    sheet.text((215, 222), "steps", 13, SOFT, "ma")
    sheet.text((440, 8), "how often a noise level is trained", 14)
    level = torch.linspace(0.01, 0.99, 99)
    logit = torch.log(level / (1 - level))
    normal = torch.exp(-((logit - 0.2) ** 2) / 2) / (level * (1 - level)) / math.sqrt(2 * math.pi)
    density = 0.85 * normal + 0.15
    curves = [("logit-normal", (density / 2.2).tolist()), ("uniform", [1 / 2.2] * 99)]
    _lines(sheet, (440, 36, WIDE - 20, 214), curves)
    sheet.text((440, 222), "0: no noise", 13, SOFT)
    sheet.text((WIDE - 20, 222), "1: only noise", 13, SOFT, "ra")
    return sheet


def train_model(studio: Studio) -> Sheet:
    """One step: noise is added, the model predicts it, the difference teaches. And what the node shows meanwhile."""
    clip, glance = studio.clip, enlarged(studio.training.glance, 500)
    sheet = Sheet(WIDE, max(glance.height + 54, 404))
    left = WIDE - glance.width - 8
    sheet.image.paste(glance, (left, 10))
    sheet.box(left - 1, 9, left + glance.width, 11 + glance.height)
    sheet.text((left + glance.width / 2, 20 + glance.height), "what the node shows while it runs", 15, SOFT, "ma")
    noise = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(2))
    noisy = 0.45 * clip[8] + 0.55 * noise
    rows = (
        (("a clip of", "your data"), clip[8]),
        (("some noise", "is added"), noisy),
        (("the model says:", "this is noise"), noise),
    )
    for row, (words, picture) in enumerate(rows):
        top = 14 + row * 106
        sheet.frame((14, top), picture, 1)
        for line, text in enumerate(words):
            sheet.text((88, top + 12 + 20 * line), text, 16)
        if row < 2:
            sheet.arrow((46, top + 68), (46, top + 102), COLOURS[row])
    sheet.text((14, 302), "How wrong it is: the loss.", 15, COLOURS[4])
    for line, text in enumerate(("The weights are moved a", "little so that it is less", "wrong. 4000 such steps.")):
        sheet.text((14, 326 + 20 * line), text, 15, SOFT)
    return sheet


def train_lora(studio: Studio) -> Sheet:
    """Frozen layers, and thin matrices beside them that learn."""
    sheet = Sheet(WIDE, 220)
    for block in range(6):
        left = 20 + block * 84
        sheet.box(left, 40, left + 44, 160, fill=FROZEN, edge=(170, 172, 178))
        sheet.text((left + 22, 100), "W", 18, SOFT, "mm")
        sheet.box(left + 50, 40, left + 56, 160, fill=COLOURS[1], edge=COLOURS[1])
        sheet.box(left + 60, 97, left + 76, 103, fill=COLOURS[1], edge=COLOURS[1])
    sheet.text((20, 12), "the model: grey stays, orange learns", 14)
    sheet.text((20, 172), "weights of the model: 7 000 000", 13, SOFT)
    sheet.text((20, 192), "of the LoRA (rank 16): 390 000, a file of 1.6 MB", 13, COLOURS[1])
    sheet.arrow((528, 100), (566, 100), COLOURS[1])
    sheet.box(576, 60, WIDE - 20, 140, fill=(255, 255, 255), edge=COLOURS[1], width=2)
    sheet.text((658, 90), "my_lora", 15, INK, "mm")
    sheet.text((658, 112), ".safetensors", 13, SOFT, "mm")
    sheet.text((658, 152), "for Load LoRA", 13, SOFT, "ma")
    return sheet


def training_view(studio: Studio) -> Sheet:
    """Curves and samples of a real, small training."""
    curves, strip = (enlarged(one, WIDE) for one in (studio.training.curves, studio.training.strip))
    sheet = Sheet(WIDE, curves.height + strip.height + 8)
    sheet.image.paste(curves, (0, 0))
    sheet.image.paste(strip, (0, curves.height + 8))
    return sheet


def save_model(studio: Studio) -> Sheet:
    """Three parts and their history become one file."""
    sheet = Sheet(WIDE, 200)
    parts = (("model", "what was trained"), ("clip", "reads the prompts"), ("vae", "latents to pictures"))
    for number, (name, words) in enumerate(parts):
        top = 20 + number * 58
        sheet.box(20, top, 210, top + 44, fill=COLOURS[number], edge=COLOURS[number])
        sheet.text((32, top + 6), name, 15, PAPER)
        sheet.text((32, top + 25), words, 13, PAPER)
        sheet.draw.line((210, top + 22, 300, top + 22, 340, 100), fill=COLOURS[number], width=2)
    sheet.arrow((340, 100), (380, 100))
    sheet.box(390, 20, WIDE - 20, 180, fill=(255, 255, 255))
    sheet.text((406, 32), "models/sora_dit/my_model.safetensors", 15)
    for row, line in enumerate((
        "weights of all three parts",
        "what they are: width, depth, objective, latent size",
        "how they were trained: steps, clips, loss, from what",
        "a checksum, so that damage is noticed",
    )):  # fmt: skip
        sheet.text((406, 64 + row * 26), line, 13, SOFT)
    return sheet


def _lines(sheet: Sheet, area: tuple[int, int, int, int], lines) -> None:
    """Smooth curves of values 0..1, their names in their colours."""
    left, top, right, bottom = area
    sheet.box(left, top, right, bottom, fill=(255, 255, 255), edge=LINE)
    for number, (name, values) in enumerate(lines):
        step = (right - left) / (len(values) - 1)
        points = [(left + i * step, bottom - value * (bottom - top - 12)) for i, value in enumerate(values)]
        sheet.draw.line(points, fill=COLOURS[number], width=3, joint="curve")
        sheet.text((left + 130, bottom - 62 + 18 * number), name, 13, COLOURS[number])


def _broken(text: str, most: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) + 1 > most:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]


DRAWINGS = {
    "ClipDataset": clip_dataset,
    "SkyDataset": sky_dataset,
    "DatasetDoctor": dataset_doctor,
    "TrainAutoencoder": train_autoencoder,
    "CacheLatents": cache_latents,
    "NewModel": new_model,
    "TrainingOptions": training_options,
    "TrainModel": train_model,
    "TrainLora": train_lora,
    "TrainingView": training_view,
    "SaveModel": save_model,
}
