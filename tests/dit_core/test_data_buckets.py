"""Frame rates, buckets and the plan of a cache: against numbers worked out by hand."""

from __future__ import annotations

import math
import re
import shutil
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sora_dit.dit_core.data import Bucket, BucketRules, CacheFormat, buckets, exact_times, plan_cache, resample
from sora_dit.dit_core.data.buckets import kept_area
from sora_dit.dit_core.data.timing import Timeline
from sora_dit.dit_core.errors import DataError, MediaError


def even(count, fps):
    return Timeline(np.arange(count) * fps.denominator, fps.numerator)


@pytest.mark.parametrize(
    ("fps", "target", "count", "expected"),
    [
        (8, 8, 5, [0, 1, 2, 3, 4]),
        (24, 8, 9, [0, 3, 6]),
        (30, 24, 10, [0, 1, 2, 4, 5, 6, 7, 9]),  # 3.75 -> 4, 8.75 -> 9; 2.5 and 7.5 lie between two: the earlier
        (8, 16, 4, [0, 0, 1, 1, 2, 2, 3, 3]),  # halves: the earlier
        (30, 20, 6, [0, 1, 3, 4]),  # 1.5 -> 1, 4.5 -> 4
        (25, None, 3, [0, 1, 2]),
    ],
)
def test_resampling_takes_the_nearest_frame(fps, target, count, expected):
    fps, target = Fraction(fps), target and Fraction(target)
    assert resample(even(count, fps), fps, target, 0, count) == expected


def test_resampling_never_drifts():
    ntsc = Fraction(30000, 1001)
    picked = resample(even(108_000, ntsc), ntsc, Fraction(24000, 1001), 0, 108_000)  # an hour
    assert len(picked) == 86_400 and picked[-4:] == [107995, 107996, 107997, 107999]


def test_a_stretch_is_resampled_from_its_own_first_frame():
    assert resample(even(20, Fraction(24)), Fraction(24), Fraction(12), 5, 12) == [5, 7, 9, 11]
    assert resample(even(20, Fraction(8)), Fraction(8), Fraction(12), 18, 20) == [18, 19, 19]


def test_variable_frame_rate_follows_the_clock():
    times = Timeline(np.array([0, 10, 20, 70, 80, 90]), 100)  # a frame that stays for half a second
    assert resample(times, Fraction(10), Fraction(10), 0, 6) == [0, 1, 2, 2, 2, 3, 3, 3, 4, 5]


@given(
    st.fractions(1, 120, max_denominator=1001), st.fractions(1, 120, max_denominator=1001),
    st.integers(0, 9), st.integers(1, 20),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_resampled_frame_is_one_of_the_nearest(fps, target, start, length):
    times = even(start + length + 5, fps)
    picked = resample(times, fps, target, start, start + length)
    assert picked == sorted(picked) and len(picked) >= 1
    for k, frame in enumerate(picked):
        instant = times.seconds(start) + k / target
        best = min(abs(times.seconds(other) - instant) for other in range(start, start + length))
        assert abs(times.seconds(frame) - instant) == best and start <= frame < start + length


def test_rounded_time_stamps_are_made_exact():
    ntsc = Fraction(24000, 1001)

    def seconds(times, fps):
        line = exact_times(times, fps)
        return [line.seconds(k) for k in range(len(times))]

    rounded = 5 + np.round(np.arange(50) / float(ntsc), 3)
    assert seconds(rounded, ntsc) == [k / ntsc for k in range(50)]
    assert seconds([0, 0.1, 0.35], Fraction(10)) == [0, Fraction(1, 10), Fraction(35, 100)]
    assert seconds([0, 0.5, 0.2], Fraction(10)) == [0, Fraction(1, 2), Fraction(1, 2)]  # a clock that goes back


def test_shapes_fill_the_pixels_and_nothing_more():
    rules = BucketRules(pixels=96 * 96, spatial_factor=16)
    assert rules.shapes() == ((64, 128), (80, 112), (96, 96), (112, 80), (128, 64))
    for height, width in BucketRules(pixels=832 * 480, max_aspect=2.5).shapes():
        assert height % 16 == width % 16 == 0 and 0.85 * 832 * 480 < height * width <= 832 * 480
        assert max(height / width, width / height) <= 2.5
    assert (480, 832) in BucketRules(pixels=832 * 480).shapes()
    assert BucketRules(pixels=16 * 16).shapes() == ((16, 16),)
    assert BucketRules(pixels=96 * 96, max_aspect=1).shapes() == ((96, 96),)


def shapes_by_definition(limit, max_aspect, aspect_step):
    """Every shape of at most `limit` squares that fits into no other, thinned out from the square outwards."""
    fitting = []
    for height in range(1, limit + 1):
        width = min(limit // height, int(height * max_aspect))
        if height <= width:
            fitting.append((height, width))
    fitting = [a for a in fitting if not any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in fitting)]
    chosen = []
    for height, width in sorted(fitting, key=lambda shape: shape[1] / shape[0]):
        if not chosen or math.log(width / height / (chosen[-1][1] / chosen[-1][0])) >= math.log(aspect_step) * 0.999:
            chosen.append((height, width))
    return {shape for h, w in chosen for shape in ((h, w), (w, h))}


def test_shapes_are_those_of_the_definition():
    for limit in range(1, 130):
        for aspect, step in ((1.0, 1.15), (1.5, 1.0), (2.0, 1.15), (2.35, 1.3), (16.0, 1.05)):
            found = BucketRules(pixels=limit, spatial_factor=1, max_aspect=aspect, aspect_step=step).shapes()
            assert set(found) == shapes_by_definition(limit, aspect, step), (limit, aspect, step)
            assert list(found) == sorted(found, key=lambda s: (-s[1] / s[0], s)), "flat to tall"


def test_the_finest_rules_are_no_work_for_each_file(monkeypatch):
    """Two million squares: trying each height against each other took 20 seconds, and that for every file."""
    logarithms = []
    monkeypatch.setattr(buckets, "log", lambda value: logarithms.append(value) or math.log(value))
    rules = BucketRules(pixels=1448 * 1448, spatial_factor=1)
    assert rules.shape_for(1080, 1920)[0] < 1448 and 0 < len(logarithms) < 5000
    work = len(logarithms)
    assert rules.shape_for(720, 1280) and rules.buckets() and len(logarithms) == work


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (dict(min_frames=17, max_frames=33), (33, 21, 17)),
        (dict(min_frames=1, max_frames=1), (1,)),
        (dict(min_frames=10, max_frames=34), (33, 21, 13)),
        (dict(min_frames=5, max_frames=9, temporal_factor=1, length_step=1), (9, 8, 7, 6, 5)),
    ],
)
def test_lengths_fit_the_temporal_factor(rules, expected):
    assert BucketRules(**rules).lengths() == expected


def test_a_clip_goes_to_the_shape_that_loses_least():
    rules = BucketRules(pixels=96 * 96)
    assert rules.shape_for(180, 320) == (64, 128) and rules.shape_for(320, 180) == (128, 64)
    assert rules.shape_for(500, 500) == (96, 96) and rules.shape_for(480, 640) == (80, 112)
    assert kept_area(180, 320, 64, 128) == pytest.approx(8 / 9)  # 16:9 in 2:1 loses a ninth
    assert kept_area(100, 100, 50, 100) == pytest.approx(0.5)
    for height, width in ((90, 160), (77, 31), (64, 65)):
        best = max(kept_area(height, width, *shape) for shape in rules.shapes())
        assert kept_area(height, width, *rules.shape_for(height, width)) == best


def test_long_stretches_become_windows():
    rules = BucketRules(min_frames=9, max_frames=33)
    assert rules.lengths() == (33, 21, 13, 9)
    pieces = rules.windows(range(100, 180))
    assert [len(piece) for piece in pieces] == [33, 33, 13] and pieces[1] == tuple(range(133, 166))
    assert rules.windows(range(8)) == [] and [len(p) for p in rules.windows(range(32))] == [21, 9]


@pytest.mark.parametrize(
    ("rules", "error", "words"),
    [
        (dict(pixels=100), DataError, "at least 256"),
        (dict(min_frames=10, max_frames=12), DataError, "nearest are 9 and 13"),
        (dict(min_frames=9, max_frames=5), DataError, "No frame count from 9 to 5"),
        (dict(spatial_factor=0), DataError, "spatial_factor is 0"),
        (dict(max_aspect=0.5), DataError, "max_aspect is 0.5"),
        (dict(fps=0), MediaError, "frame rate is 0"),
    ],
)
def test_rules_that_cannot_be_met(rules, error, words):
    with pytest.raises(error, match=words):
        BucketRules(**rules)


class Pretended:
    """Three clips in two buckets with 1, 2 and 3 wordings."""

    def __len__(self):
        return 3

    def bucket(self, index):
        return (Bucket(17, 64, 128), Bucket(17, 64, 128), Bucket(33, 96, 96))[index]

    def captions(self, index):
        return ("x",) * (index + 1)


FORM = CacheFormat(16, 8, 4, torch.float16, text_tokens=32, text_width=128, text_dtype=torch.float32)


def test_the_plan_counts_every_byte():
    plan = plan_cache(Pretended(), FORM)
    first, second = 2 * 16 * 5 * 8 * 16 * 2, 16 * 9 * 12 * 12 * 2
    assert [row[1:] for row in plan.rows] == [(2, (16, 5, 8, 16), first), (1, (16, 9, 12, 12), second)]
    assert plan.wordings == 6 and plan.text_bytes == 6 * 32 * 128 * 4
    assert plan.total_bytes == first + second + plan.text_bytes
    assert "2 x 17 frames of 128 x 64: latent 16 x 5 x 8 x 16, 41 kB" in plan.text()


@pytest.mark.parametrize(("memory", "said"), [
    (10**9, r"memory \(1.0 GB\) has room for all of it"),
    (150_000, r"memory \(150 kB\) does not hold it all, so a fast disk helps"),
    (None, "what fits stays in memory"),
])  # fmt: skip
def test_the_plan_tells_whether_memory_holds_it(monkeypatch, memory, said):
    monkeypatch.setattr("sora_dit.dit_core.data.plan.machine_memory", lambda: memory)
    text = plan_cache(Pretended(), FORM).text()
    assert re.search(said, text) and "At most 181 kB on disk" in text and "6 captions, 98 kB" in text


def test_a_disk_with_less_room_is_refused(tmp_path, monkeypatch):
    plan = plan_cache(Pretended(), FORM)
    assert plan.disk_refusal(tmp_path / "not" / "yet") is None
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=plan.total_bytes))
    sentence = plan.disk_refusal(tmp_path / "not" / "yet")
    assert "has 181 kB left" in sentence and "takes 184 kB" in sentence and str(tmp_path / "not" / "yet") in sentence


def test_a_plan_for_another_autoencoder_is_refused():
    with pytest.raises(DataError, match="33 frames of 96 x 96|17 frames of 128 x 64"):
        plan_cache(Pretended(), CacheFormat(16, 8, 3))
    with pytest.raises(DataError, match="latent_channels is 0"):
        CacheFormat(0, 8, 4)
