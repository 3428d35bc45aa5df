"""Help pictures of the nodes between prompt and latent. See help_pictures.py."""

from __future__ import annotations

import torch
from drawing import COLOURS, INK, LINE, PAPER, SOFT, Sheet, as_colours
from help_studio import PROMPT, WIDE, Studio
from sora_dit.dit_core.checkpoint import read_header
from sora_dit.dit_core.diffusion import get_objective, make_sigmas

_PARTS = (
    ("transformer", "model", "turns noise into a clip"),
    ("text_encoder", "clip", "reads the prompt"),
    ("autoencoder", "vae", "pictures to latent and back"),
)


def load_model(studio: Studio) -> Sheet:
    """One file, three parts, as large as they are in the file."""
    header = read_header(studio.path)
    sizes = {part: 0 for part, _, _ in _PARTS}
    for name, tensor in header.tensors.items():
        sizes[name.split(".")[0]] += tensor.end - tensor.begin
    whole, sheet = sum(sizes.values()), Sheet(WIDE, 210)
    sheet.text((20, 14), f"{studio.path.name}   {studio.path.stat().st_size / 1e6:.1f} MB", 16)
    left, right = 20, WIDE - 20
    for number, (part, output, words) in enumerate(_PARTS):
        width = (WIDE - 40) * sizes[part] / whole
        sheet.box(left, 44, left + width - 3, 88, fill=COLOURS[number], edge=COLOURS[number])
        middle, slot = left + width / 2, 130 + number * 250
        sheet.draw.line((middle, 88, middle, 106, slot, 106), fill=COLOURS[number], width=2)
        sheet.arrow((slot, 106), (slot, 128), COLOURS[number])
        sheet.text((slot, 134), output, 18, COLOURS[number], "ma")
        sheet.text((slot, 158), f"{part.replace('_', ' ')}, {sizes[part] / 1e6:.1f} MB", 13, INK, "ma")
        sheet.text((slot, 178), words, 13, SOFT, "ma")
        left += width
    sheet.box(20, 44, right - 3, 88)
    return sheet


def load_lora(studio: Studio) -> Sheet:
    """A layer's weights, the two thin matrices of a LoRA, and what becomes of them."""
    sheet, side, rank, scale = Sheet(WIDE, 272), 80, 4, 2
    whole = studio.bundle.transformer.blocks[0].attention.out.weight.detach()
    weight = whole[:side, :side] / whole[:side, :side].std()
    generator = torch.Generator().manual_seed(4)
    up, down = (torch.randn(shape, generator=generator) for shape in ((side, rank), (rank, side)))
    change, top, edge = up @ down / rank**0.5, 50, side * scale
    pieces = ((20, weight, "weights of a layer"), (540, weight + change, "the layer with the LoRA"))
    for left, values, name in pieces:
        sheet.frame((left, top), _signed(values), scale)
        sheet.text((left + edge / 2, top + edge + 10), name, 14, INK, "ma")
    sheet.text((228, top + edge / 2), "+ strength x", 15, INK, "mm")
    sheet.frame((276, top), _signed(up.repeat_interleave(2, 1)), scale)
    sheet.text((306, top + edge / 2), "x", 15, INK, "mm")
    sheet.frame((322, top + edge // 2 - 2 * rank), _signed(down.repeat_interleave(2, 0)), scale)
    sheet.text((508, top + edge / 2), "=", 18, INK, "mm")
    words = f"the LoRA's file: 2 x {rank} x {side} numbers"
    sheet.text((375, top + edge + 10), words, 14, COLOURS[1], "ma")
    sheet.text((375, top + edge + 30), f"(the layer: {side} x {side})", 13, SOFT, "ma")
    sheet.text((20, 14), "blue: below zero   orange: above zero", 13, SOFT)
    return sheet


def _signed(values: torch.Tensor) -> torch.Tensor:
    """A matrix as colours [rows, columns, 3]: blue below zero, orange above."""
    ends = torch.tensor([COLOURS[0], COLOURS[1]]) / 255
    share = (values / 2.5).clamp(-1, 1).unsqueeze(-1)
    return torch.where(share < 0, 1 + share * (1 - ends[0]), 1 - share * (1 - ends[1]))


def text_encode(studio: Studio) -> Sheet:
    """Every letter of two prompts with the colour of its embedding, and what the mask hides."""
    encoder, columns, size = studio.bundle.text_encoder, 48, 15
    texts = [PROMPT, "a city at night"]
    found = encoder.encode(texts)
    colours = as_colours(found.embeddings[found.mask].T[:, :, None, None])[:, 0, 0]
    sheet = Sheet(WIDE, 284)
    start = 0
    for row, text in enumerate(texts):
        read, top = int(found.mask[row].sum()), 14 + row * 126
        sheet.text((20, top), f'"{text}"', 14)
        for place in range(min(encoder.max_length, columns * 4)):
            x, y = 20 + place % columns * size, top + 24 + place // columns * 22
            if place < read:
                colour = tuple(int(255 * value) for value in colours[start + place].tolist())
                letter = text.encode()[place : place + 1].decode(errors="replace") if place < read - 1 else ""
                last = place == read - 1
                sheet.box(x, y, x + size - 2, y + 19, fill=INK if last else colour, edge=INK if last else colour)
                sheet.text((x + 6.5, y + 9), letter, 13, PAPER if sum(colour) < 330 else INK, "mm")
            else:
                sheet.box(x, y, x + size - 2, y + 19, fill=None, edge=LINE)
        start += read
    sheet.text((20, 256), "black: the end of the text   empty: not there for the model (the mask)", 13, SOFT)
    return sheet


def timestep_conditioning(studio: Studio) -> Sheet:
    """Noise level over the steps, for several values of shift and for the schedules of a flow model."""
    flow, sheet = get_objective("flow"), Sheet(WIDE, 304)
    shifts = [(f"shift {shift:g}", make_sigmas(flow, 24, "uniform", shift).tolist()) for shift in (0.5, 1, 3, 8)]
    names = [(name, make_sigmas(flow, 24, name).tolist()) for name in ("uniform", "cosine", "beta")]
    for left, title, lines in ((50, "schedule uniform, 24 steps", shifts), (430, "shift 1, 24 steps", names)):
        sheet.text((left, 12), title, 14)
        sheet.curves((left, 40, left + 310, 260), lines)
        for step in (0, 6, 12, 18, 24):
            sheet.text((left + 310 * step / 24, 266), str(step), 13, SOFT, "ma")
        sheet.text((left + 155, 282), "step", 13, SOFT, "ma")
    sheet.text((6, 16), "noise", 13, SOFT)
    return sheet


def empty_latent(studio: Studio) -> Sheet:
    """At the node's defaults: 25 frames become 7 latent frames, 96 x 96 pixels become 12 x 12 cells."""
    clip, latent = studio.default_clip, studio.default_latent
    (count, high, wide), (groups, rows, columns) = clip.shape[:3], latent.shape[2:]
    sheet, left, small, colours = Sheet(WIDE, 252), 14, 24, as_colours(latent[0])
    sheet.text((14, 8), f"frames: {count} of {wide} x {high} pixels", 15)
    sheet.text((14, 146), f"latent: {groups} of {columns} x {rows} cells", 15)
    for group in range(groups):
        first, many = (0, 1) if group == 0 else (4 * group - 3, 4)
        for k in range(many):
            sheet.frame((left + k * (small + 2), 36), resized(clip[first + k], small), 1)
            sheet.text((left + k * (small + 2) + small / 2, 64), str(first + k + 1), 13, SOFT, "ma")
        width = many * (small + 2) - 2
        middle = left + width / 2
        sheet.draw.line((left, 88, left + width, 88), fill=SOFT, width=2)
        sheet.arrow((middle, 88), (middle, 136))
        place = (max(int(middle - 2.5 * columns), 2), 176)
        sheet.frame(place, colours[group], 5)
        sheet.grid(*place, columns, rows, 5, PAPER)
        left += width + 14
    return sheet


def resized(frame: torch.Tensor, side: int) -> torch.Tensor:
    """A square frame [H, W, 3] made smaller."""
    picture = torch.nn.functional.interpolate(frame.permute(2, 0, 1)[None], size=(side, side), mode="area")
    return picture[0].permute(1, 2, 0)


def denoise(studio: Studio) -> Sheet:
    """From noise to a clip: two frames at several steps, and what the model expects the end to be."""
    steps, size = (1, 6, 12, 18, 21, 24), 110
    sheet = Sheet(WIDE, 26 + 3 * (size + 8) + 4)
    rows = (("frame 1", 0, 0), ("frame 17", 0, 16), ("frame 17, expected", 1, 16))
    for column, step in enumerate(steps):
        x = 72 + column * (size + 4)
        sheet.text((x + size / 2, 6), f"step {step} of 24", 13, INK, "ma")
        decoded = [studio.decode(latent) for latent in studio.walk[step]]
        for row, (_, kind, frame) in enumerate(rows):
            sheet.frame((x, 26 + row * (size + 8)), upscaled(decoded[kind][frame], size), 1)
    for row, (name, _, _) in enumerate(rows):
        for line, words in enumerate(name.replace(", ", " ").split(" ")):
            sheet.text((8, 26 + row * (size + 8) + 34 + 17 * line), words, 13, SOFT)
    return sheet


def decode(studio: Studio) -> Sheet:
    """The cells of a latent, and the frames that are made of them."""
    latent = studio.default_latent
    frames, colours = studio.decode(latent), as_colours(latent[0])
    (count, high, wide), (groups, rows, columns) = frames.shape[:3], latent.shape[2:]
    sheet, step, scale = Sheet(WIDE, 276), 108, 7
    sheet.text((8, 8), f"latent: {groups} of {columns} x {rows} cells, {latent.shape[1]} numbers in each", 15)
    sheet.text((8, 148), f"images: {count} of {wide} x {high} pixels (every fourth of them)", 15)
    for index in range(groups):
        x = 8 + index * step
        sheet.frame((x + (wide - columns * scale) // 2, 32), colours[index], scale)
        sheet.grid(x + (wide - columns * scale) // 2, 32, columns, rows, scale, PAPER)
        sheet.arrow((x + wide / 2, 122), (x + wide / 2, 144))
        sheet.frame((x, 172), frames[4 * index], 1)
    return sheet


def upscaled(frame: torch.Tensor, side: int) -> torch.Tensor:
    """A square frame [H, W, 3] at another size, pixels kept square."""
    picture = torch.nn.functional.interpolate(frame.permute(2, 0, 1)[None], size=(side, side), mode="nearest")
    return picture[0].permute(1, 2, 0)


def to_comfy_model(studio: Studio) -> Sheet:
    """The way from our loader through core's sampler: what needs the bridge, and what goes straight."""
    sheet, rows = Sheet(WIDE, 372), (110, 210, 310)
    types = {"model": COLOURS[0], "MODEL": COLOURS[1], "CLIP": COLOURS[2], "CONDITIONING": COLOURS[2],
             "LATENT": COLOURS[3], "VAE": COLOURS[4]}  # fmt: skip

    def node(left: int, right: int, top: int, bottom: int, words: str, colour) -> None:
        sheet.box(left, top, right, bottom, fill=(255, 255, 255), edge=colour, width=3)
        lines = words.split("\n")
        for number, line in enumerate(lines):
            y = (top + bottom) / 2 + 22 * (number - (len(lines) - 1) / 2)
            sheet.text(((left + right) / 2, y), line, 18, colour, "mm")

    def wire(left: int, right: int, y: int, words: str) -> None:
        sheet.arrow((left, y), (right, y), types[words], 3)
        sheet.text(((left + right) / 2, y - 6), words, 15, types[words], "mb")

    node(12, 120, 76, 344, "Load\nModel", COLOURS[0])
    middle = (("To ComfyUI\nModel", COLOURS[1]), ("Text Encode", COLOURS[0]), ("Empty Latent", COLOURS[0]))
    passed = (("model", "MODEL"), ("CLIP", "CONDITIONING"), ("model", "LATENT"))
    for y, (words, colour), (taken, given) in zip(rows, middle, passed, strict=True):
        node(194, 334, y - 34, y + 34, words, colour)
        wire(122, 192, y, taken)
        wire(336, 470, y, given)
    node(472, 586, 76, 344, "KSampler", SOFT)
    wire(588, 660, 210, "LATENT")
    node(662, 748, 176, 244, "VAE\nDecode", SOFT)
    sheet.draw.line((66, 76, 66, 36, 705, 36, 705, 150), fill=types["VAE"], width=3, joint="curve")
    sheet.arrow((705, 150), (705, 174), types["VAE"], 3)
    sheet.text((386, 30), "VAE", 15, types["VAE"], "mb")
    return sheet


DRAWINGS = {
    "LoadModel": load_model,
    "LoadLora": load_lora,
    "TextEncode": text_encode,
    "TimestepConditioning": timestep_conditioning,
    "EmptyLatent": empty_latent,
    "Denoise": denoise,
    "Decode": decode,
    "ToComfyModel": to_comfy_model,
}
