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
    sheet = Sheet(WIDE, 262)
    start = 0
    for row, text in enumerate(texts):
        read, top = int(found.mask[row].sum()), 14 + row * 126
        sheet.text((20, top), f'"{text}"', 14)
        for place in range(min(encoder.max_length, columns * 4)):
            x, y = 20 + place % columns * size, top + 24 + place // columns * 22
            if place < read:
                colour = tuple(int(255 * value) for value in colours[start + place].tolist())
                letter = text.encode()[place : place + 1].decode(errors="replace") if place < read - 1 else "end"
                sheet.box(x, y, x + size - 2, y + 19, fill=colour, edge=colour)
                light = sum(colour) < 330
                sheet.text((x + 6.5, y + 9), letter, 12 if len(letter) == 1 else 7, PAPER if light else INK, "mm")
            else:
                sheet.box(x, y, x + size - 2, y + 19, fill=None, edge=LINE)
        start += read
    return sheet


def timestep_conditioning(studio: Studio) -> Sheet:
    """Noise level over the steps, for several values of shift and for the schedules of a flow model."""
    flow, sheet = get_objective("flow"), Sheet(WIDE, 300)
    shifts = [(f"shift {shift:g}", make_sigmas(flow, 24, "uniform", shift).tolist()) for shift in (0.5, 1, 3, 8)]
    names = [(name, make_sigmas(flow, 24, name).tolist()) for name in ("uniform", "cosine", "beta")]
    for left, title, lines in ((50, "schedule uniform, 24 steps", shifts), (430, "shift 1, 24 steps", names)):
        sheet.text((left, 12), title, 14)
        sheet.curves((left, 40, left + 310, 260), lines)
        for step in (0, 6, 12, 18, 24):
            sheet.text((left + 310 * step / 24, 266), str(step), 11, SOFT, "ma")
        sheet.text((left + 155, 280), "step", 12, SOFT, "ma")
    sheet.text((10, 22), "noise", 11, SOFT)
    return sheet


def empty_latent(studio: Studio) -> Sheet:
    """17 frames become 5 latent frames, 64 x 64 pixels become 8 x 8 cells."""
    sheet, left, colours = Sheet(WIDE, 222), 20, as_colours(studio.latent[0])
    sheet.text((20, 8), "frames: 17 of 64 x 64 pixels", 14)
    sheet.text((20, 136), "latent: 5 of 8 x 8 cells", 14)
    for group in range(5):
        first, count = (0, 1) if group == 0 else (4 * group - 3, 4)
        for k in range(count):
            sheet.frame((left + k * 34, 34), studio.clip[first + k, ::2, ::2], 1)
            sheet.text((left + k * 34 + 16, 68), str(first + k + 1), 11, SOFT, "ma")
        width = count * 34 - 2
        sheet.draw.line((left, 88, left + width, 88), fill=SOFT, width=2)
        sheet.arrow((left + width / 2, 88), (left + width / 2, 122))
        place = (int(left + width / 2 - 24), 160)
        sheet.frame(place, colours[group], 6)
        sheet.grid(*place, 8, 8, 6, PAPER)
        left += width + 24
    return sheet


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
            sheet.text((8, 26 + row * (size + 8) + 40 + 15 * line), words, 12, SOFT)
    return sheet


def decode(studio: Studio) -> Sheet:
    """The cells of a latent, and the frames that are made of them."""
    frames, colours = studio.decode(studio.latent), as_colours(studio.latent[0])
    sheet = Sheet(WIDE, 270)
    sheet.text((10, 8), f"latent: 5 of 8 x 8 cells, {studio.latent.shape[1]} numbers in each", 14)
    sheet.text((10, 134), "images: 17 of 64 x 64 pixels (five of them)", 14)
    for index in range(5):
        x = 34 + index * 148
        sheet.frame((x, 30), colours[index], 10)
        sheet.grid(x, 30, 8, 8, 10, PAPER)
        sheet.arrow((x + 40, 112), (x + 40, 130))
        sheet.frame((x - 14, 156), upscaled(frames[4 * index], 108), 1)
    return sheet


def upscaled(frame: torch.Tensor, side: int) -> torch.Tensor:
    """A square frame [H, W, 3] at another size, pixels kept square."""
    picture = torch.nn.functional.interpolate(frame.permute(2, 0, 1)[None], size=(side, side), mode="nearest")
    return picture[0].permute(1, 2, 0)


def to_comfy_model(studio: Studio) -> Sheet:
    """The way from our loader through core's sampler: what needs the bridge, and what goes straight."""
    sheet, top, bottom = Sheet(WIDE, 214), 40, 130
    boxes = (
        ("Load Model", 14, COLOURS[0]),
        ("To ComfyUI Model", 176, COLOURS[1]),
        ("KSampler", 380, SOFT),
        ("VAE Decode", 560, SOFT),
    )
    for words, left, colour in boxes:
        sheet.box(left, top, left + 140, top + 44, edge=colour, width=2)
        sheet.text((left + 70, top + 22), words, 14, colour, "mm")
    for left, right, words in ((154, 174, ""), (316, 378, "MODEL"), (520, 558, "LATENT")):
        sheet.arrow((left, top + 22), (right, top + 22), COLOURS[1] if words == "MODEL" else SOFT)
        sheet.text(((left + right) / 2, top - 8), words, 12, SOFT, "mb")
    for words, left in (("Text Encode", 14), ("Empty Latent", 176)):
        sheet.box(left, bottom, left + 140, bottom + 44, edge=COLOURS[0], width=2)
        sheet.text((left + 70, bottom + 22), words, 14, COLOURS[0], "mm")
    sheet.arrow((84, top + 44), (84, bottom - 2), SOFT)
    sheet.text((78, top + 66), "CLIP", 12, SOFT, "rm")
    for corners, words, place in (
        ((84, bottom + 44, 84, 194, 470, 194, 470, top + 48), "CONDITIONING", (210, 191)),
        ((316, bottom + 22, 430, bottom + 22, 430, top + 48), "LATENT", (372, bottom + 18)),
        ((84, top, 84, 18, 630, 18, 630, top - 2), "VAE", (210, 15)),
    ):
        sheet.draw.line(corners, fill=SOFT, width=2)
        sheet.text(place, words, 12, SOFT, "mb")
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
