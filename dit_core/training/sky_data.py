"""The synthetic skies as training data: endless clips for the autoencoder, a cache of latents for the transformer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..autoencoder import CausalVideoAutoencoder
from ..checkpoint.atomic import reason, whole_file
from ..checkpoint.save import write_tensors
from ..data import SkyClips
from ..device import autocast
from ..errors import CheckpointError
from ..latents.cache import encoding_dtype
from ..latents.identity import differences, identity, twins
from ..latents.protocol import Batch
from ..skies import EDITION, SkyScene, caption, render, sample_balanced, sample_scene, twin, twin_caption
from ..text import TextEncoder

WORDINGS = 4  # captions of a clip in a cache


@dataclass(frozen=True)
class SkySource:
    """Clips number 0, 1, 2, ... of an endless, seeded set."""

    seed: int
    frames: int = 17
    height: int = 128
    width: int = 128
    fps: float = 8.0
    split: str = "train"
    twins: bool = False  # clip 2 k + 1 is clip 2 k with one word changed; see `skies.twin`
    flying: tuple[float, ...] = ()  # shares of empty air, balloons, birds, planes; as nature has it where not said

    def scene(self, index: int) -> SkyScene:
        """Scene number `index`."""
        number = index // 2 if self.twins else index
        if self.flying:
            scene = sample_balanced(self.seed, number, self.split, self.flying)
        else:
            scene = sample_scene(self.seed, number, self.split)
        return twin(scene, index) if self.twins and index % 2 else scene

    def clips(self, start: int, count: int, device: torch.device | str) -> Tensor:
        """Clips start .. start + count - 1 as [count, 3, F, H, W] in -1..1, float32."""
        scenes = [self.scene(i) for i in range(start, start + count)]
        video = render(scenes, self.frames, self.height, self.width, self.fps, device)
        return video.permute(0, 4, 1, 2, 3).contiguous() * 2 - 1

    def captions(self, index: int, count: int) -> list[str]:
        """`count` wordings of clip `index`; those of twins are alike but for the word, see `skies.twin_caption`."""
        if not self.twins:
            scene = self.scene(index)
            return [caption(scene, seed=index * 16 + k) for k in range(count)]
        number, second = divmod(index, 2)
        pair = self.scene(2 * number), self.scene(2 * number + 1)
        return [twin_caption(pair, second, seed=number * 16 + k) for k in range(count)]

    def settings(self) -> dict[str, Any]:
        """Its fields and how skies are drawn, as data are told apart by. Fields that were added later are left out
        where they change nothing."""
        settings = asdict(self) | {"flying": list(self.flying), "edition": EDITION}
        return {name: value for name, value in settings.items() if value or name not in ("twins", "flying")}


@dataclass
class LatentCache:
    """Encoded clips and tokenised captions, on the training device: `Latents` in memory, for clips of one size.

    latents [N, C, T, h, w] normalised, half precision; tokens [N, wordings, L] int16, 0 = padding; identity: what they
    were made of, see `sky_identity`.
    """

    latents: Tensor
    tokens: Tensor
    identity: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.latents)

    def deviation(self, clips: int = 2048) -> tuple[float, ...]:
        """Standard deviation of each channel, over the first clips."""
        return tuple(self.latents[:clips].float().transpose(0, 1).flatten(1).std(1).tolist())

    def draw(self, batch: int, generator: torch.Generator) -> Batch:
        """Random clips and wordings, with replacement; see `Latents.draw`."""
        device, group = generator.device, 2 if twins(self.identity) and len(self) > 1 else 1
        count = -(-batch // group)
        index = torch.randint(len(self) // group, (count,), generator=generator, device=device)
        wording = torch.randint(self.tokens.shape[1], (count,), generator=generator, device=device)
        index = (index[:, None] * group + torch.arange(group, device=device)).flatten()
        if batch < group:  # or the second would never be drawn
            index = index[int(torch.randint(group, (1,), generator=generator, device=device)) :]
        index = index[:batch]
        wording = wording.repeat_interleave(group)[:batch]
        return Batch(self.latents[index].float(), self.tokens[index, wording].long(), group)

    def fingerprint(self) -> dict[str, Any]:
        """What it was made of, as `latents.identity.identity` has it; {} where that is not known."""
        return self.identity

    def save(self, path: Path) -> None:
        """Write one safetensors file that knows what it was made of; it is there whole or not at all.

        Raises `CheckpointError` when it cannot be written.
        """
        tensors = {"latents": self.latents, "tokens": self.tokens}
        metadata = {"format": "sora_dit_sky_latents", "identity": json.dumps(self.identity)}
        try:
            with whole_file(path) as temporary:
                write_tensors(temporary, tensors, {name: t.dtype for name, t in tensors.items()}, metadata)
        except OSError as error:
            raise CheckpointError(f"Latents {path}: cannot be written: {reason(error)}.") from error

    @classmethod
    def load(cls, path: Path, device: torch.device | str, wanted: dict[str, Any] | None = None) -> LatentCache:
        """Read back what `save` wrote. wanted: the fingerprint that it must have.

        Raises `CheckpointError` for a damaged file, and for latents of something else (says what differs).
        """
        anew = "Remove the file to make them anew, or use another folder."
        try:
            with safe_open(path, "pt") as file:
                identity = json.loads((file.metadata() or {}).get("identity", "{}"))
                tensors = {name: file.get_tensor(name).to(device) for name in ("latents", "tokens")}
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"Latents {path}: cannot be read ({error}); expected a whole file. {anew}") from error
        if wanted is not None and not identity:
            raise CheckpointError(
                f"Latents {path}: the file does not say what they were made of, as older versions wrote it; expected "
                f"that of which clips, autoencoder and tokenizer. {anew}"
            )
        if wanted is not None and (differ := differences(identity, wanted)):
            raise CheckpointError(f"Latents {path}: are others than asked for. {' '.join(differ)} {anew}")
        return cls(tensors["latents"], tensors["tokens"], identity)


def sky_identity(
    source: SkySource, autoencoder: CausalVideoAutoencoder, text: TextEncoder, count: int, wordings: int = WORDINGS
) -> dict[str, Any]:
    """The fingerprint of the cache that `build_cache` makes of these, JSON values."""
    return identity(SkyClips(source, count, wordings), autoencoder, text, {"dtype": "float16"})


@torch.no_grad()
def build_cache(
    source: SkySource,
    autoencoder: CausalVideoAutoencoder,
    text: TextEncoder,
    count: int,
    device: torch.device,
    batch: int = 64,
    wordings: int = WORDINGS,
    report: Callable[[dict], None] | None = None,
) -> LatentCache:
    """Render, encode (posterior mean, normalised by the autoencoder's statistics) and tokenise `count` clips."""
    latents, made_of = None, sky_identity(source, autoencoder, text, count, wordings)
    tokens = torch.zeros(count, wordings, text.max_length, dtype=torch.int16)
    statistics = autoencoder.statistics
    for start in range(0, count, batch):
        n = min(batch, count - start)
        video = source.clips(start, n, device)
        with autocast(device, encoding_dtype(autoencoder, device)):
            mean = autoencoder.encode(video).mean
        mean = statistics.normalise(mean.float())
        if latents is None:
            latents = torch.empty(count, *mean.shape[1:], dtype=torch.float16, device=device)
        latents[start : start + n] = mean.half()
        ids, _ = text.tokenize([c for i in range(start, start + n) for c in source.captions(i, wordings)])
        tokens[start : start + n, :, : ids.shape[1]] = ids.view(n, wordings, -1).short()
        if report and (start // batch) % 50 == 0:
            report({"cached": start + n, "of": count})
    return LatentCache(latents, tokens.to(device), made_of)
