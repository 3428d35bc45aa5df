"""Cached latents: what is in them, that a stopped caching goes on, what is refused, and how batches are drawn."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace

import pytest
import torch
from sora_dit.dit_core.autoencoder import AutoencoderConfig, CausalVideoAutoencoder
from sora_dit.dit_core.data import Bucket, Fingerprint, TrainingClips, plan_cache
from sora_dit.dit_core.errors import Cancelled, CheckpointError, ConfigError, DataError, MediaError
from sora_dit.dit_core.latents import LatentStore, cache, cache_format, cache_latents, folder
from sora_dit.dit_core.lock import FolderInUse, folder_lock
from sora_dit.dit_core.text import TextEncoder

AUTOENCODER = AutoencoderConfig(
    latent_channels=3, patch=4, encoder_channels=(4, 4), decoder_channels=(4, 4), encoder_blocks=0, decoder_blocks=0,
    temporal_downsample=(True,), spatial_downsample=(True,), latent_mean=(0.2, 0.0, -0.1), latent_std=(0.5, 2.0, 1.0),
)  # fmt: skip
TEXT = {
    "family": "t5", "tokenizer": "byt5", "max_length": 40,
    "config": {"vocab_size": 259, "d_model": 8, "d_kv": 8, "d_ff": 8, "num_layers": 1, "num_heads": 1},
}  # fmt: skip
WIDE, TALL = Bucket(3, 16, 24), Bucket(5, 24, 16)


class Clips(TrainingClips):
    """24 little clips in two buckets, two of each file, with one, two or three captions; some may be broken."""

    def __init__(self, broken=(), seed=0, after=lambda index: None):
        self.broken, self.seed, self.after, self.asked = set(broken), seed, after, []

    def __len__(self):
        return 24

    def bucket(self, index):
        return TALL if index % 3 == 0 else WIDE

    def captions(self, index):
        return tuple(f"clip {index}, wording {k}" + " and more" * k for k in range(1 + index % 3))

    def group(self, index):
        return f"file {index // 2}"

    def clip(self, index):
        self.asked.append(index)
        self.after(index)
        if index in self.broken:
            raise MediaError(f"clip{index}.mp4 is left out: it ends early.")
        b = self.bucket(index)
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        return torch.rand(3, b.frames, b.height, b.width, generator=generator) * 2 - 1

    def fingerprint(self):
        return Fingerprint("clips of a folder", {"seed": str(self.seed)}, {})


def autoencoder(seed=0) -> CausalVideoAutoencoder:
    torch.manual_seed(seed)
    return CausalVideoAutoencoder(AUTOENCODER).eval()


def text(**changes) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder.from_config(TEXT | changes)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(cache, "PIXELS", 3 * 16 * 24 * 4)  # four wide clips, two tall ones


def make(path, clips=None, **options):
    return cache_latents(clips or Clips(), autoencoder(), text(), path, **{"shard_bytes": 500} | options)


def draws(store, count=40):
    return [store.draw(4, torch.Generator().manual_seed(k)) for k in range(count)]


def same(a, b):
    return all(torch.equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one[:2], two[:2], strict=True))


def words(tokens) -> list[str]:
    return [bytes((row[row > 2] - 3).tolist()).decode() for row in tokens]


def test_a_cache_holds_normalised_latents_and_the_captions_of_every_clip(tmp_path):
    store, clips, model = make(tmp_path, dtype=torch.float32), Clips(), autoencoder()
    assert len(store) == 24 and store.buckets() == {WIDE: 16, TALL: 8} and not store.skipped
    assert len(list(tmp_path.glob("shard_*.safetensors"))) > 4
    wanted = {}
    mean, std = (torch.tensor(x)[:, None, None, None] for x in (AUTOENCODER.latent_mean, AUTOENCODER.latent_std))
    for index in range(24):
        with torch.no_grad():
            wanted[index] = (model.encode(clips.clip(index)[None]).mean[0] - mean) / std
    seen = Counter()
    for latents, tokens, _ in draws(store, 150):
        for latent, caption in zip(latents, words(tokens), strict=True):
            index = int(caption.split()[1].strip(","))
            seen[caption] += 1
            torch.testing.assert_close(latent, wanted[index], atol=1e-5, rtol=1e-4)
    assert set(seen) == {c for i in range(24) for c in clips.captions(i)}, "every wording is drawn"
    deviation = torch.cat([w.flatten(1) for w in wanted.values()], 1).std(1)
    torch.testing.assert_close(torch.tensor(store.deviation()), deviation)
    assert make(tmp_path / "half").draw(2, torch.Generator()).latents.dtype == torch.float32


def test_a_long_clip_is_encoded_in_pieces_with_the_same_result(tmp_path, monkeypatch):
    whole = make(tmp_path / "whole", dtype=torch.float32)
    monkeypatch.setattr(cache, "PIXELS", 2 * 16 * 24)
    parts = make(tmp_path / "parts", dtype=torch.float32)
    for a, b in zip(draws(whole, 5), draws(parts, 5), strict=True):
        torch.testing.assert_close(a.latents, b.latents)


def test_batches_are_of_one_bucket_and_buckets_come_by_their_share(tmp_path):
    store = make(tmp_path)
    shapes = Counter(tuple(latents.shape[1:]) for latents, *_ in draws(store, 300))
    assert set(shapes) == {(3, 2, 2, 3), (3, 3, 3, 2)}
    assert 0.58 < shapes[3, 2, 2, 3] / 300 < 0.75  # two thirds
    assert same(draws(store), draws(LatentStore.open(tmp_path))), "a generator in the same state draws the same"
    generator = torch.Generator().manual_seed(0)
    assert not same([store.draw(4, generator)], [store.draw(4, generator)])


def test_a_stopped_caching_goes_on_where_it_was(tmp_path):
    polls = iter([False, False, True])
    with pytest.raises(Cancelled, match="stopped after 12 of 24"):
        make(tmp_path / "parts", stop=lambda: next(polls))
    with pytest.raises(DataError, match="no finished cache"):
        LatentStore.open(tmp_path / "parts")
    rest = Clips()
    parts = make(tmp_path / "parts", rest)
    assert len(rest.asked) == len(set(rest.asked)) == 12, "what was encoded is not encoded again"
    whole = make(tmp_path / "whole")
    assert same(draws(parts), draws(whole)) and parts.fingerprint() == whole.fingerprint()
    again = Clips()
    assert same(draws(make(tmp_path / "parts", again)), draws(whole)) and not again.asked


def test_an_error_of_the_callback_keeps_what_was_encoded(tmp_path):
    def cancelled(done, total, name):
        assert total == 24 and name.startswith("clip ")
        if done >= 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        make(tmp_path, on_progress=cancelled)
    rest = Clips()
    make(tmp_path, rest)
    assert len(rest.asked) == 16


def test_a_killed_caching_goes_on(tmp_path):
    """A real process, a real kill -9, wherever it is just then."""
    script = textwrap.dedent(f"""
        import sys, time
        sys.path[:0] = {[str(p) for p in sys.path]!r}
        import importlib.util
        spec = importlib.util.spec_from_file_location("latents_tests", {__file__!r})
        tests = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tests)
        tests.cache.PIXELS = 3 * 16 * 24 * 4
        tests.make(sys.argv[1], tests.Clips(after=lambda index: (print(index, flush=True), time.sleep(0.02))))
    """)
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")], stdout=subprocess.PIPE)
    for _ in range(13):
        process.stdout.readline()
    time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "index.json").exists()
    rest = Clips()
    store = make(tmp_path / "killed", rest)
    assert 0 < len(rest.asked) < 24
    assert same(draws(store), draws(make(tmp_path / "whole"))) and not list((tmp_path / "killed").glob("*.part"))


def test_a_corrupt_clip_is_reported_skipped_and_counted(tmp_path):
    store = make(tmp_path, Clips(broken={5, 21}))
    assert len(store) == 22 and set(store.skipped) == {5, 21} and "ends early" in store.skipped[5]
    assert set(LatentStore.open(tmp_path).skipped) == {5, 21}
    drawn = {caption.split(",")[0] for batch in draws(store, 100) for caption in words(batch.tokens)}
    assert "clip 5" not in drawn and "clip 4" in drawn
    with pytest.raises(DataError, match="None of the 24 clips can be decoded. clip1.mp4 is left out"):
        make(tmp_path / "none", Clips(broken=range(24)))


def test_clips_that_were_away_come_in_when_they_are_back(tmp_path):
    assert len(make(tmp_path, Clips(broken={5, 21}))) == 22
    back = Clips(broken={21})
    store = make(tmp_path, back)
    assert len(store) == 23 and set(store.skipped) == {21} and sorted(back.asked) == [5, 21]


def test_names_that_are_no_unicode_are_kept(tmp_path):
    class Latin(Clips):
        def group(self, index):
            return f"caf\udce9 {index // 2}"  # what Python makes of a file name in Latin-1

    store = make(tmp_path, Latin())
    kept, held = store.split(0.25)
    assert len(kept) + len(held) == 24 and len(held) % 2 == 0


def test_other_data_another_autoencoder_and_other_words_are_refused_in_words(tmp_path):
    make(tmp_path)
    with pytest.raises(DataError, match=r"other latents than asked for\. seed was 0 and is 7\. Choose another folder"):
        make(tmp_path, Clips(seed=7))
    with pytest.raises(DataError, match=r"wordings was 4 and is 2\."):
        make(tmp_path, wordings=2)
    with pytest.raises(DataError, match=r"The autoencoder is another one\."):
        cache_latents(Clips(), autoencoder(1), text(), tmp_path)
    with pytest.raises(DataError, match=r"longest prompt was 40 and is 30 tokens\."):
        cache_latents(Clips(), autoencoder(), text(max_length=30), tmp_path)
    polls = iter([True])
    with pytest.raises(Cancelled):
        make(tmp_path / "unfinished", stop=lambda: next(polls))
    with pytest.raises(DataError, match=r"seed was 0 and is 7\."):
        make(tmp_path / "unfinished", Clips(seed=7))


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    clips = Clips()
    clips.bucket = lambda index: Bucket(4, 16, 24)
    with pytest.raises(DataError, match="4 frames of 24 x 16; the autoencoder takes .* multiples of 8 and 2k"):
        make(tmp_path, clips)
    blank = autoencoder()
    blank.config = replace(AUTOENCODER, latent_mean=None, latent_std=None)
    with pytest.raises(ConfigError, match="does not know mean and deviation"):
        cache_latents(Clips(), blank, text(), tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 100}))
    with pytest.raises(DataError, match="has 100 bytes left"):
        make(tmp_path)
    assert not list(tmp_path.glob("*.json")) and not list(tmp_path.glob("shard*"))


def test_the_plan_is_kept(tmp_path):
    plan = plan_cache(Clips(), cache_format(autoencoder(), text()))
    make(tmp_path, shard_bytes=1 << 20)
    size = sum(path.stat().st_size for path in tmp_path.glob("shard_*"))
    assert plan.latent_bytes == 2 * 3 * (16 * 2 * 2 * 3 + 8 * 3 * 3 * 2)
    assert size < plan.total_bytes + 2 * 3000, "two shards with their headers"


def test_a_full_disk_is_said_and_what_is_done_is_kept(tmp_path, monkeypatch):
    real, calls = folder.write_tensors, []

    def full(path, *args):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return real(path, *args)

    monkeypatch.setattr(folder, "write_tensors", full)
    with pytest.raises(DataError, match=r"cannot be written: the disk is full\. The 16 clips cached before are kept"):
        make(tmp_path)
    rest = Clips()
    assert len(make(tmp_path, rest)) == 24
    assert len(rest.asked) == 24 - 16 - 6, "the shard that failed was written once more at the end"


def test_a_second_process_and_a_damaged_shard_are_refused(tmp_path):
    with folder_lock(tmp_path, "a caching of latents"), pytest.raises(FolderInUse, match=r"in use by a caching of lat"):
        make(tmp_path)
    make(tmp_path)
    shard = sorted(tmp_path.glob("shard_*"))[1]
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=r"cut short: .* Remove the folder .* to cache anew\.$"):
        LatentStore.open(tmp_path)
    shard.unlink()
    with pytest.raises(DataError, match="is missing or of another cache"):
        LatentStore.open(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(DataError, match="not the index"):
        LatentStore.open(tmp_path)


def test_a_split_is_the_same_each_time_and_keeps_files_together(tmp_path):
    store = make(tmp_path)
    train, held = store.split(0.25, seed=3)
    assert len(train) + len(held) == 24 and 4 <= len(held) <= 8

    def clips_of(view):
        return {int(c.split()[1].strip(",")) for batch in draws(view, 200) for c in words(batch.tokens)}

    trained, kept = clips_of(train), clips_of(held)
    assert len(trained) == len(train) and len(kept) == len(held)
    assert not {i // 2 for i in trained} & {i // 2 for i in kept}, "no file on both sides"
    again = LatentStore.open(tmp_path).split(0.25, seed=3)
    assert same(draws(again[1]), draws(held)) and again[1].fingerprint() == held.fingerprint()
    assert clips_of(store.split(0.25, seed=4)[1]) != kept
    assert train.fingerprint() != held.fingerprint() != store.fingerprint()
    assert store.split(0.0) == (store, None) and len(store.split(0.99)[0]) > 0 and len(store.split(0.001)[1]) == 2
    with pytest.raises(ConfigError, match="held-out share is 1.5"):
        store.split(1.5)
    one = Clips()
    one.group = lambda index: "the only file"
    train, held = make(tmp_path / "one", one).split(0.1)
    assert len(held) == 2 and len(train) == 22


@pytest.mark.parametrize("share, few, most", [(0.1, 1, 4), (0.25, 3, 12), (0.6, 7, 20)])
def test_a_large_file_does_not_take_nearly_all_clips_out_of_the_training(tmp_path, share, few, most):
    films = Clips()
    films.group = lambda index: "a long film" if index < 20 else f"short film {index // 3}"
    store = make(tmp_path, films)
    for seed in range(8):  # the long film comes first in some of these orders, last in others
        train, held = store.split(share, seed)
        assert len(train) + len(held) == 24 and few <= len(held) <= most, f"seed {seed}"


def test_files_stay_together_where_one_is_small_enough(tmp_path):
    films = Clips()
    films.group = lambda index: "a long film" if index < 20 else f"short film {index // 2}"
    for seed in range(8):
        held = make(tmp_path, films).split(0.1, seed)[1]
        numbers = {int(c.split()[1].strip(",")) for batch in draws(held, 50) for c in words(batch.tokens)}
        assert numbers in ({20, 21}, {22, 23}), f"seed {seed}"
