"""Probes: a small network that looks at a clip and says what is in it, as `skies.attributes` would.

It learns from rendered clips of all combinations, half of them as they are, the others through the autoencoder (some
with noise on the latents), so that it leans on nothing that the autoencoder loses. How good it is at that is measured
by whoever uses it, on clips it has not seen: its ceiling.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from drift import motion_map
from reconstruction import encode_decode
from safetensors import safe_open
from safetensors.torch import save_file
from sora_dit.dit_core import skies
from sora_dit.dit_core.autoencoder import CausalVideoAutoencoder
from sora_dit.dit_core.errors import ShapeError
from sora_dit.dit_core.measures import luminance
from sora_dit.dit_core.skies import VALUES, SkyScene, attributes, render, sample_scene
from torch import Tensor, nn

SIDE = 64  # what the network looks at, whatever the clip's size
LOOKS = 5  # frames it looks at
APART = 0.5  # seconds between them
MOTION = 16  # cells along each side of the map of what moves where
FPS, FRAMES = 12.0, 25  # of the clips it learns from
MIRROR = {"left": "right", "right": "left"}
ONLY_WITH_OBJECT = ("object_color", "object_direction")
HEADS: dict[str, tuple[str, ...]] = {
    name: tuple(v for v in values if v != "none" or name not in ONLY_WITH_OBJECT) for name, values in VALUES.items()
}
"""What each head tells apart; colour and direction of an object only where there is one."""
VERSION = 3  # part of the cache's key: raise it when anything here changes what a probe learns


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is trained. One probe serves clips of every size."""

    rendered: int = 6000  # clips
    coded: int = 1600  # clips through the autoencoder
    steps: int = 2000
    batch: int = 64
    seed: int = 77_001
    channels: int = 32
    lr: float = 3e-3


class Looks(NamedTuple):
    """What a probe gets of B clips: frames [B, LOOKS, 3, SIDE, SIDE] in 0..1, motion [B, 3, MOTION, MOTION]."""

    frames: Tensor
    motion: Tensor


def look(clips: Tensor, fps: float) -> Looks:
    """What a probe looks at, of clips [B, F, H, W, 3] in 0..1. Raises ShapeError for clips that are too short."""
    index = [round(k * APART * fps) for k in range(LOOKS)]
    if index[-1] >= clips.shape[1]:
        raise ShapeError(
            f"A probe needs {(LOOKS - 1) * APART:g} seconds, {index[-1] + 1} frames at {fps:g} a second; "
            f"got {clips.shape[1]} frames."
        )
    clips = clips[:, : index[-1] + 1]
    motion = motion_map(_shrink(luminance(clips)), fps, MOTION)
    return Looks(_shrink(clips[:, index].permute(0, 1, 4, 2, 3).float()), motion)


def _shrink(x: Tensor) -> Tensor:
    """[..., H, W] -> [..., SIDE, SIDE]."""
    if x.shape[-2:] == (SIDE, SIDE):
        return x
    flat = x.reshape(-1, 1, *x.shape[-2:])
    small = F.interpolate(flat, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return small.view(*x.shape[:-2], SIDE, SIDE)


class SkyProbe(nn.Module):
    """`Looks` -> logits of every head, {name: [B, values]}."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        c = channels

        def block(before: int, after: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]

        self.fine = nn.Sequential(*block(3 * (2 * LOOKS - 1), c, 2), *block(c, 2 * c, 2))  # to MOTION x MOTION cells
        self.coarse = nn.Sequential(
            *block(2 * c + 3, 4 * c, 2), *block(4 * c, 4 * c, 1), *block(4 * c, 2 * c, 1), nn.Flatten()
        )
        self.hidden = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * c * (SIDE // 8) ** 2, 8 * c), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(8 * c, len(values)) for name, values in HEADS.items()})

    def features(self, looks: Looks) -> Tensor:
        """What the heads decide by, [B, 8 * channels]."""
        x = torch.cat([looks.frames - 0.5, 4 * looks.frames.diff(dim=1)], 1)  # changes are small beside colours
        x = self.fine(x.flatten(1, 2).contiguous(memory_format=torch.channels_last))
        return self.hidden(self.coarse(torch.cat([x, looks.motion], 1)))

    def forward(self, looks: Looks) -> dict[str, Tensor]:
        """Logits for B clips."""
        h = self.features(looks)
        return {name: head(h) for name, head in self.heads.items()}


@torch.inference_mode()
def read_clips(probe: SkyProbe, clips: Tensor, fps: float, batch: int = 64) -> list[dict[str, str]]:
    """What the probe sees in clips [B, F, H, W, 3]: for each all keys of `skies.VALUES` with one value."""
    probe.eval()
    read: list[dict[str, str]] = []
    for part in clips.split(batch):
        best = {name: logits.argmax(1).tolist() for name, logits in probe(look(part, fps)).items()}
        for i in range(len(part)):
            words = {name: HEADS[name][best[name][i]] for name in HEADS}
            if words["object"] != "balloon":
                words["object_color"] = "none"
            if words["object"] == "none":
                words["object_direction"] = "none"
            read.append(words)
    return read


# -- training ------------------------------------------------------------------------------------------------------


def get_probe(
    settings: ProbeSettings,
    autoencoder: CausalVideoAutoencoder,
    cache: Path,
    report: Callable[[str], None] = lambda line: None,
) -> SkyProbe:
    """The probe for these settings and this autoencoder: from the cache folder, or trained and put there."""
    about = {"version": VERSION, "skies": renderer(), "autoencoder": fingerprint(autoencoder)}
    key = json.dumps(about | asdict(settings), sort_keys=True)
    path = cache / f"probe-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    probe = SkyProbe(settings.channels)
    if path.exists():
        with safe_open(path, "pt") as file:
            probe.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        return probe.eval()
    started = time.monotonic()
    report(
        f"training a probe ({settings.rendered} rendered and {settings.coded} coded clips); it will be kept in {path}"
    )
    data = probe_data(settings, autoencoder, report)
    report(f"  clips ready after {time.monotonic() - started:.0f} s")
    train_probe(probe, data, settings, report)
    report(f"  trained after {time.monotonic() - started:.0f} s")
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({k: v.contiguous() for k, v in probe.state_dict().items()}, temporary, {"key": key})
    temporary.replace(path)
    return probe.eval()


def renderer() -> str:
    """A checksum of the code that draws skies: a probe that learned from others does not know these."""
    files = sorted(Path(skies.__file__).parent.glob("*.py"))
    spoken = ("captions.py", "words.py", "twins.py", "edition.py")
    drawing = [file for file in files if file.name not in spoken]
    return hashlib.sha256(b"".join(file.read_bytes() for file in drawing)).hexdigest()


def fingerprint(module: nn.Module) -> str:
    """A checksum of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class ProbeData(NamedTuple):
    """N clips to learn from; labels are indices into `HEADS`, -1 where there is no right answer."""

    frames: Tensor  # uint8 [N, LOOKS, 3, SIDE, SIDE]
    motion: Tensor  # float16 [N, 3, MOTION, MOTION]
    labels: Tensor  # int64 [N, heads]


def probe_data(
    settings: ProbeSettings,
    autoencoder: CausalVideoAutoencoder,
    report: Callable[[str], None] = lambda line: None,
    batch: int = 32,
) -> ProbeData:
    """Render, encode and decode what a probe learns from."""
    s = settings
    total = s.rendered + s.coded
    device = next(autoencoder.parameters()).device
    space, time_ = autoencoder.config.spatial_factor, autoencoder.config.temporal_factor
    side, frames = -(-SIDE // space) * space, -(-(FRAMES - 1) // time_) * time_ + 1
    torch.manual_seed(s.seed)
    parts: list[tuple[Tensor, ...]] = []
    for start in range(0, total, batch):
        numbers = range(start, min(start + batch, total, s.rendered if start < s.rendered else total))
        # every eighth clip from the combinations that training holds out: they are an eighth of all
        scenes = [sample_scene(s.seed, i, "heldout" if i % 8 == 0 else "train") for i in numbers]
        if start >= s.rendered:
            clips = render(scenes, frames, side, side, FPS, device)
            noise = torch.rand(len(scenes)) * 0.3 * (torch.rand(len(scenes)) < 0.5)
            clips = encode_decode(autoencoder, clips, noise)
        else:
            size = SIDE if (start // batch) % 4 else 2 * SIDE
            clips = render(scenes, FRAMES, size, size, FPS)
        seen = look(clips, FPS)
        parts.append(((seen.frames * 255).round().to(torch.uint8), seen.motion.half(), label(scenes)))
        if (start // batch) % 25 == 0:
            report(f"  {start} of {total} clips")
    return ProbeData(*(torch.cat(column) for column in zip(*parts, strict=True)))


def label(scenes: Sequence[SkyScene]) -> Tensor:
    """The right answers as indices [B, heads]; -1 where a head has none (the colour of no balloon)."""
    rows = [attributes(scene) for scene in scenes]
    return torch.tensor(
        [[v.index(row[name]) if row[name] in v else -1 for name, v in HEADS.items()] for row in rows], dtype=torch.long
    )


def train_probe(
    probe: SkyProbe, data: ProbeData, settings: ProbeSettings, report: Callable[[str], None] = lambda line: None
) -> None:
    """Fit `probe` to `probe_data`; AdamW, one cycle."""
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    for layer in probe.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    probe.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(probe.parameters(), lr=settings.lr, weight_decay=0.05)
    running = None
    for step in range(settings.steps):
        share = step / settings.steps
        rate = min(1.0, share / 0.1) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * rate + 1e-6
        index = torch.randint(len(data.labels), (settings.batch,), generator=generator)
        seen = Looks(data.frames[index].float() / 255, data.motion[index].float())
        seen, wanted = _augment(seen, data.labels[index], generator)
        logits = probe(seen)
        loss = sum(F.cross_entropy(logits[name], wanted[:, k], ignore_index=-1) for k, name in enumerate(HEADS))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 250 == 249:
            report(f"  step {step + 1} of {settings.steps}, loss {running:.3f}")
    probe.eval()


def _augment(looks: Looks, wanted: Tensor, generator: torch.Generator) -> tuple[Looks, Tensor]:
    """Mirror half of the clips with their answers; vary brightness, sharpness and grain a little."""
    seen, motion = looks
    b = len(seen)
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    mirrored = draw(b) < 0.5
    seen = torch.where(mirrored.view(-1, 1, 1, 1, 1), seen.flip(-1), seen)
    to_left = motion.flip(-1) * torch.tensor((-1.0, 1.0, -1.0)).view(3, 1, 1)
    motion = torch.where(mirrored.view(-1, 1, 1, 1), to_left, motion)
    motion = motion + 0.1 * draw(b, 1, 1, 1) * torch.randn(motion.shape, generator=generator)
    wanted = wanted.clone()
    for k, values in enumerate(HEADS.values()):
        if "left" in values:
            swap = torch.tensor([values.index(MIRROR.get(v, v)) for v in values])
            wanted[:, k] = torch.where(mirrored & (wanted[:, k] >= 0), swap[wanted[:, k]], wanted[:, k])
    soft = F.avg_pool2d(seen.flatten(0, 1), 3, 1, 1, count_include_pad=False).view_as(seen)
    seen = torch.lerp(seen, soft, draw(b, 1, 1, 1, 1) * (draw(b, 1, 1, 1, 1) < 0.5))
    gain = 1 + 0.12 * (draw(b, 1, 1, 1, 1) - 0.5) + 0.04 * (draw(b, 1, 3, 1, 1) - 0.5)
    grain = 0.03 * draw(b, 1, 1, 1, 1) * torch.randn(seen.shape, generator=generator)
    return Looks((seen * gain + grain).clamp(0, 1), motion), wanted
