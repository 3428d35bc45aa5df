"""A training step of ours beside a plain loop over diffusers' WanTransformer3DModel: same shape, weights, optimiser.

    python benchmarks/training_step.py [--rounds 12] [--precision float32 bfloat16] [--compile]

Ours is the whole training of the studio: clips drawn from a cache on disk, text encoder, noise levels, known frames,
gradient clipping, moving average, watch for divergence, log. Theirs is what one writes down first: noise, forward,
squared error, backward, clipping, AdamW. Both get clips of one size, as much text from the same text encoder, and AdamW
with the same settings. They take turns, so that a noisy machine is noisy for both; medians.

"data" and "log" are shares of our step: drawing the batch; log and watch. The usual shape is the starter's. Where a CPU
has matrix units for bfloat16 ours trains in it unasked; a plain loop is float32 until somebody writes more.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import describe, table
from sora_dit.dit_core.data import Bucket
from sora_dit.dit_core.families.wan import wan_config, wan_key_map
from sora_dit.dit_core.latents import LatentStore
from sora_dit.dit_core.latents.folder import CacheFolder, Entry
from sora_dit.dit_core.text import TextEncoder
from sora_dit.dit_core.training.callbacks import Callbacks
from sora_dit.dit_core.training.divergence import DivergenceWatch
from sora_dit.dit_core.training.log import TrainingLog
from sora_dit.dit_core.training.loop import LoopSettings
from sora_dit.dit_core.training.optim import make_optimisers
from sora_dit.dit_core.training.transformer import TransformerTraining, train_transformer
from sora_dit.dit_core.transformer import VideoDiT

CPU = torch.device("cpu")
CHANNELS, TEXT_WIDTH, TEXT_TOKENS = 16, 256, 128


def build(args: argparse.Namespace):
    """diffusers' model, ours with its weights, and a small text encoder."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    theirs = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=args.heads, attention_head_dim=args.width // args.heads,
        in_channels=CHANNELS, out_channels=CHANNELS, text_dim=TEXT_WIDTH, freq_dim=256, ffn_dim=args.ff_width,
        num_layers=args.layers, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
    ).train()  # fmt: skip
    config = wan_config(args.width, args.layers, args.heads, args.ff_width, CHANNELS, text_width=TEXT_WIDTH)
    ours = VideoDiT(config)
    shapes = {name: value.shape for name, value in ours.state_dict().items()}
    weights, unknown = wan_key_map(config, "diffusers").convert(theirs.state_dict(), shapes)
    assert not unknown, unknown
    ours.load_state_dict(weights)
    settings = dict(vocab_size=384, d_model=TEXT_WIDTH, d_kv=32, num_heads=4, d_ff=512, num_layers=1, dropout_rate=0.0)
    text = {"family": "t5", "tokenizer": "byt5", "max_length": TEXT_TOKENS, "config": settings}
    return theirs, ours, TextEncoder.from_config(text)


def cached(folder: Path, grid: tuple[int, int, int], clips: int = 64) -> LatentStore:
    """A cache of random latents of T x h x w tokens, in four shards; every caption fills the text encoder's length."""
    folder.mkdir()
    place, generator = CacheFolder(folder), torch.Generator().manual_seed(0)
    place.start({})
    t, h, w = grid
    shape = (CHANNELS, t, 2 * h, 2 * w)
    for start in range(0, clips, clips // 4):
        place.write([
            Entry(i, Bucket(4 * t - 3, 16 * h, 16 * w), str(i), torch.randn(shape, generator=generator).half(),
                  torch.randint(3, 258, (1, TEXT_TOKENS), generator=generator).short())
            for i in range(start, start + clips // 4)
        ])  # fmt: skip
    place.finish()
    return LatentStore.open(folder)


def plain_step(theirs, text: TextEncoder, store: LatentStore, batch: int, dtype: torch.dtype) -> Callable[[], None]:
    """One step of the plain loop. Its clips are in memory: reading them is no part of it."""
    clips, tokens, _ = store.draw(batch, torch.Generator().manual_seed(0))
    optimiser = make_optimisers({"theirs": theirs}, "adamw", 1e-4, 0.01)[0]

    def step() -> None:
        noise, level = torch.randn_like(clips), torch.rand(batch)
        sigma = level[:, None, None, None, None]
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            with torch.no_grad():
                words = text.forward_ids(tokens, tokens != 0).embeddings
            noisy = (1 - sigma) * clips + sigma * noise
            got = theirs(noisy, level * 1000, words, return_dict=False)[0]
        loss = F.mse_loss(got.float(), noise - clips)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


@contextmanager
def timed_parts(store: LatentStore, seconds: dict[str, float]):
    """Adds up the time of what is no training: drawing clips, log, watch."""
    parts = [(type(store), "draw", "data"), (TrainingLog, "add", "log"), (TrainingLog, "flush", "log"),
             (DivergenceWatch, "add", "log")]  # fmt: skip
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in parts]

    def wrapped(real, part):
        def call(*args, **kwargs):
            started = time.perf_counter()
            try:
                return real(*args, **kwargs)
            finally:
                seconds[part] += time.perf_counter() - started

        return call

    for owner, name, part in parts:
        setattr(owner, name, wrapped(getattr(owner, name), part))
    try:
        yield
    finally:
        for owner, name, real in before:
            setattr(owner, name, real)


def measure(args: argparse.Namespace, precision: str) -> list[list[object]]:
    """Table rows for one precision."""
    theirs, ours, text = build(args)
    times: dict[str, list[float]] = {"diffusers, plain loop": [], "ours, the studio's training": []}
    parts: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        store = cached(Path(folder) / "cache", tuple(args.grid))
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        plain = plain_step(theirs, text, store, args.batch, dtype)
        since = [time.perf_counter()]

        def turn(step: int, total: int | None) -> None:
            now = time.perf_counter()
            if step > args.warmup:
                times["ours, the studio's training"].append(now - since[0])
            else:
                parts.clear()
            plain()
            since[0] = time.perf_counter()
            if step > args.warmup:
                times["diffusers, plain loop"].append(since[0] - now)

        loop = LoopSettings(steps=args.warmup + args.rounds, batch=args.batch, log_every=args.log_every)
        training = TransformerTraining(
            optimiser="adamw", lr=1e-4, precision=precision, caption_dropout=0.0, compile=args.compile
        )
        with timed_parts(store, parts):
            train_transformer(ours, text, store, Path(folder) / "run", loop, training, CPU, Callbacks(step=turn))
    whole = sum(times["ours, the studio's training"])
    base = statistics.median(times["diffusers, plain loop"])
    rows = []
    for name, values in times.items():
        seconds, mine = statistics.median(values), name.startswith("ours")
        shares = [f"{100 * parts[part] / whole:.2f} %" if mine else "" for part in ("data", "log")]
        name = f"{precision}: {name}" + (", compiled" if mine and args.compile else "")
        rows.append([name, seconds, args.batch / seconds, base / seconds, *shares])
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    parser.add_argument("--grid", type=int, nargs=3, default=[5, 8, 8], help="latent frames, rows, columns of tokens")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--ff-width", type=int, default=1024)
    parser.add_argument("--compile", action="store_true", help="compile our blocks (needs a C++ compiler)")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--log-every", type=int, default=LoopSettings.log_every)
    args = parser.parse_args()
    rows = [row for precision in args.precision for row in measure(args, precision)]
    print(table(["one step", "seconds", "samples/s", "times theirs", "data", "log"], rows))
    tokens = args.grid[0] * args.grid[1] * args.grid[2]
    print(f"{args.batch} clips of {tokens} tokens, width {args.width}, {args.layers} layers; {describe()}")


if __name__ == "__main__":
    main()
