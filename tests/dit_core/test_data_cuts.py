"""Scene cuts: found at the known frame, and not where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sora_dit.dit_core.data import CutFinder, analyse, scan, segments
from sora_dit.dit_core.data.cuts import PREVIEW, preview
from sora_dit.dit_core.media import write_video

CLIPS = Path(os.environ.get("SORA_DIT_CLIPS", "/nowhere"))


def place(seed, size=256):
    """A wide picture `[size, size, 3]` in 0..1: soft patches of a few colours."""
    noise = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    noise = noise * 0.7 + torch.rand(1, 3, 1, 1, generator=torch.Generator().manual_seed(seed + 99)) * 0.3
    big = torch.nn.functional.interpolate(noise, size=(size, size), mode="bicubic", align_corners=False)
    return big[0].permute(1, 2, 0).clamp(0, 1).numpy()


def shot(seed, count, speed=1.0, noise=0.01):
    """`[count, 64, 64, 3]` in 0..1: a camera that moves `speed` pixels of 64 a frame, with grain."""
    wide, grain = place(seed), np.random.default_rng(seed)
    frames = [wide[60:124, 10 + round(k * speed) :][:, :64] for k in range(count)]
    return np.stack(frames) + grain.normal(0, noise, (count, PREVIEW, PREVIEW, 3))


def cuts(*parts):
    finder = CutFinder()
    for frame in np.concatenate(parts):
        finder.add(preview((frame.clip(0, 1) * 255).astype(np.uint8)))
    return finder.finish()


@pytest.mark.parametrize("seed", range(6))
def test_hard_cuts_are_found_at_their_frame(seed):
    a, b, c = shot(seed, 20), shot(seed + 10, 15, speed=2), shot(seed + 20, 12, speed=0)
    assert cuts(a, b, c) == [20, 35]


@pytest.mark.parametrize("at", [1, 2, 3, 26, 27, 28, 29])
def test_cuts_near_the_ends_are_found(at):
    assert cuts(shot(1, at), shot(12, 30 - at)) == [at]


def test_a_cut_through_one_blended_frame_is_one_cut():
    a, b = shot(3, 15), shot(14, 15)
    assert cuts(a, (a[-1:] + b[:1]) / 2, b) in ([15], [16])


@pytest.mark.parametrize("length", [6, 10, 24])
def test_dissolves_and_fades_are_no_cuts(length):
    a, b = shot(3, 20 + length), shot(14, 20 + length)
    share = np.linspace(0, 1, length + 2)[1:-1, None, None, None]
    assert cuts(a[:20], a[20:] * (1 - share) + b[:length] * share, b[length:]) == []
    assert cuts(a[:20], a[20:] * (1 - share), np.zeros_like(a[:10])) == []


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("light", [1.0, 0.0])
def test_flashes_are_no_cuts(length, light):
    frames = shot(5, 30)
    frames[12 : 12 + length] = light
    assert cuts(frames) == []


@pytest.mark.parametrize("speed", [4, 8, 12])
def test_fast_pans_are_no_cuts(speed):
    still, moving = shot(7, 12, speed=0), shot(7, 12, speed)
    assert cuts(still, moving, np.repeat(moving[-1:], 12, 0)) == []


def test_jerks_of_the_camera_and_lamps_are_no_cuts():
    wide = place(8)
    before, after = wide[60:124, 10:74], wide[64:128, 26:90]
    assert cuts(np.stack([before] * 12), np.stack([after] * 12)) == []
    assert cuts(np.stack([before * 0.4] * 12), np.stack([before] * 12)) == []


def test_flicker_shaking_and_repeated_frames_are_no_cuts():
    frames = shot(9, 30)
    assert cuts(frames * np.where(np.arange(30) % 2, 1, 0.5)[:, None, None, None]) == []
    assert cuts(np.repeat(shot(9, 15, speed=6), 2, 0)) == []
    assert cuts(np.repeat(frames[:1], 30, 0)) == [] and cuts(frames[:1]) == []


def test_segments_lie_between_the_cuts():
    assert segments(10, []) == [(0, 10)]
    assert segments(10, [3, 7]) == [(0, 3), (3, 7), (7, 10)]


def test_an_encoded_film_with_a_cut(tmp_path):
    frames = np.concatenate([shot(1, 9), shot(11, 14)]).clip(0, 1)
    write_video(tmp_path / "film.mp4", torch.from_numpy(frames).float(), 8, quality="low")
    seen = []
    result = analyse(scan(tmp_path).clips[0], on_frame=seen.append)
    assert result.cuts == (9,) and result.frames == 23
    assert result.times == pytest.approx(np.arange(23) / 8)


@pytest.mark.skipif(not (CLIPS / "nasa_13013.mp4").is_file(), reason="set SORA_DIT_CLIPS to the folder of real clips")
def test_a_real_film_with_a_dissolve_and_a_cut():
    by_name = {clip.name: clip for clip in scan(CLIPS).clips}
    # Looked at by eye: a dissolve at frames 125 to 150, a hard cut at 202.
    assert analyse(by_name["nasa_13013.mp4"]).cuts == (202,)
