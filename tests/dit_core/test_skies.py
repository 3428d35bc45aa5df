"""The sky renderer shows what the scene says, the same way every time, alone or in a batch, small or large."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from sora_dit.dit_core.errors import ConfigError, ShapeError, SoraDiTError
from sora_dit.dit_core.skies import HELD_OUT, VALUES, attributes, render, sample_balanced, sample_scene
from sora_dit.dit_core.skies.scene import COLORS, COVERS, GROUNDS, OBJECTS, TIMES


def scene_with(split="train", **wanted):
    """The first scene with these attributes."""
    return next(s for s in (sample_scene(11, i, split) for i in range(200_000)) if has(s, wanted))


def has(scene, wanted):
    return all(getattr(scene, k) == v for k, v in wanted.items())


@pytest.fixture(scope="module")
def many():
    return [sample_scene(5, i) for i in range(12_000)]


@pytest.fixture(scope="module")
def mixed():
    scenes = [sample_scene(21, i) for i in range(20)]
    return scenes, render(scenes, 5, 48, 64)


def test_same_arguments_give_the_same_scene_and_frames():
    assert sample_scene(3, 8) == sample_scene(3, 8)
    assert len({sample_scene(s, i) for s in range(10) for i in range(10)}) == 100
    assert sample_scene(-1, 2**70).time in TIMES
    scenes = [sample_scene(3, i) for i in range(3)]
    assert torch.equal(render(scenes, 3, 32, 32), render(scenes, 3, 32, 32))


def test_scene_is_cheap_to_draw():
    start = time.process_time()
    for i in range(2000):
        sample_scene(1, i)
    assert (time.process_time() - start) / 2000 < 200e-6


def test_frames_are_in_range_and_shaped(mixed):
    scenes, video = mixed
    assert video.shape == (20, 5, 48, 64, 3) and video.dtype == torch.float32
    assert torch.isfinite(video).all() and video.min() >= 0 and video.max() <= 1
    assert video.permute(0, 4, 1, 2, 3).is_contiguous()
    assert (video.std(dim=(1, 2, 3)).amax(-1) > 0.01).all(), "a clip is one flat colour"


def test_scene_does_not_depend_on_its_batch(mixed):
    scenes, video = mixed
    for i in (0, 7, 13, 19):
        alone = render([scenes[i]], 5, 48, 64)[0]
        torch.testing.assert_close(alone, video[i], atol=2e-5, rtol=0)


def test_dtype_of_the_result():
    assert render([sample_scene(0, 0)], 1, 16, 16, dtype=torch.float16).dtype == torch.float16


def test_small_and_large_show_the_same_picture():
    scenes = [sample_scene(31, i) for i in range(24)]
    large = render(scenes, 3, 128, 128).permute(0, 1, 4, 2, 3).flatten(0, 1)
    small = render(scenes, 3, 64, 64).permute(0, 1, 4, 2, 3).flatten(0, 1)
    error = (F.avg_pool2d(large, 2) - small).abs().mean(dim=(1, 2, 3)).view(24, 3)
    assert error.mean() < 0.015 and error.max() < 0.04, error


def test_first_frames_do_not_depend_on_the_length():
    scenes = [sample_scene(2, i) for i in range(4)]
    torch.testing.assert_close(render(scenes, 7, 32, 32)[:, :3], render(scenes, 3, 32, 32), atol=2e-5, rtol=0)


def test_held_out_triples(many):
    held = set(HELD_OUT)
    assert len(held) == len(HELD_OUT) and 0.10 <= len(held) / 80 <= 0.14
    train = {(s.time, s.cover, s.ground) for s in many}
    assert not train & held and len(train) == 80 - len(held)
    assert {(s.time, s.cover, s.ground) for s in (sample_scene(5, i, "heldout") for i in range(500))} == held
    assert len({t[:2] for t in train}) == 20, "every (time, cover) is seen in training"
    assert len({t[1:] for t in train}) == 16 and len({t[::2] for t in train}) == 20


def test_attributes_are_balanced_and_independent(many):
    words = [attributes(s) for s in many]
    for key in VALUES:
        assert {w[key] for w in words} == set(VALUES[key]), key
    for key, count in (("time", 5), ("cover", 4), ("ground", 4), ("direction", 2), ("speed", 3)):
        for value in VALUES[key]:
            assert sum(w[key] == value for w in words) / len(words) == pytest.approx(1 / count, abs=0.03)
    for key in ("time", "cover", "ground", "light", "object", "object_direction"):
        for value in VALUES[key]:
            group = [w for w in words if w[key] == value]
            assert sum(w["direction"] == "left" for w in group) / len(group) == pytest.approx(0.5, abs=0.05)
            assert sum(w["speed"] == "slow" for w in group) / len(group) == pytest.approx(1 / 3, abs=0.05)
    lit = [w["light"] for w in words if w["light"] != "none"]
    assert all(lit.count(p) / len(lit) == pytest.approx(1 / 3, abs=0.03) for p in ("left", "center", "right"))
    share = {o: sum(w["object"] == o for w in words) / len(words) for o in VALUES["object"]}
    assert share["none"] == pytest.approx(0.45, abs=0.03) and share["balloon"] == pytest.approx(0.31, abs=0.03)


def test_attributes_agree_with_each_other(many):
    for s in many:
        assert not s.rain or s.cover in ("broken", "overcast")
        assert s.cover != "overcast" or s.light == "none"
        assert (s.object_color != "none") == (s.object == "balloon")
        assert (s.object_direction != "none") == (s.object != "none")
        assert (s.drift > 0) == (s.direction == "right")


def measured_drift(scene) -> float:
    """Displacement of the upper sky in widths a second, by cross-correlation of rows over half a second."""
    video = render([dataclasses.replace(scene, object="none", object_color="none")], 9, 64, 96)[0].mean(-1)
    still = video.mean(0)
    sky = (video - still)[:, : int(64 * min(scene.horizon, 1) * 0.8)]
    score = torch.zeros(97)
    for f in range(0, 5, 2):
        a, b = sky[f] - sky[f].mean(), sky[f + 4] - sky[f + 4].mean()
        for k in range(-48, 49):
            x, y = (a[:, : 96 - k], b[:, k:]) if k >= 0 else (a[:, -k:], b[:, : 96 + k])
            score[k + 48] += (x * y).sum() / (x.norm() * y.norm() + 1e-6) * (1 - abs(k) / 96)
    return (int(score.argmax()) - 48) / 96 / 0.5


@pytest.mark.parametrize("cover", COVERS)
def test_clouds_drift_as_named(cover):
    for direction, sign in (("left", -1), ("right", 1)):
        mean = {}
        for speed in VALUES["speed"]:
            # Without a light the picture less its mean is cloud alone.
            scenes = [scene_with(cover=cover, direction=direction, speed=speed, time=t, light="none", rain=False)
                      for t in ("day", "sunset")]  # fmt: skip
            scenes = [dataclasses.replace(s, ground="none", horizon=1.08) for s in scenes]
            found = [measured_drift(s) for s in scenes]
            mean[speed] = sign * sum(found) / len(found)
        assert 0 < mean["slow"] < mean["moderate"] < mean["fast"], (direction, mean)


@pytest.mark.parametrize("color", COLORS)
def test_balloon_has_the_named_color_and_is_only_there_when_asked(color):
    from sora_dit.dit_core.skies.palette import _BALLOON

    scene = dataclasses.replace(scene_with(object="balloon", time="day", cover="clear"), object_color=color)
    bare = dataclasses.replace(scene, object="none", object_color="none", object_direction="none")
    a, b = render([scene, bare], 3, 64, 64)
    changed = (a - b).abs().amax(-1) > 0.08
    assert 0.01 < changed.float().mean() < 0.12
    mean = a[changed].mean(0)
    table = torch.tensor(list(_BALLOON.values()))
    hue = F.normalize(table - 0.35, dim=1) @ F.normalize(mean - 0.35, dim=0)
    assert list(_BALLOON)[int(hue.argmax())] == color, (mean, hue)


@pytest.mark.parametrize("kind", ["balloon", "birds", "plane"])
@pytest.mark.parametrize("heading,sign", [("left", -1), ("right", 1)])
def test_objects_move_as_named_and_stay_in_the_frame(kind, heading, sign):
    scene = scene_with(object=kind, object_direction=heading)
    bare = dataclasses.replace(scene, object="none")
    a, b = render([scene, bare], 17, 64, 64)
    changed = ((a - b).abs().amax(-1) > 0.06).float()
    columns = torch.arange(64.0)
    if kind == "plane":  # its front tip: the contrail grows behind it
        front = [(sign * columns)[changed[f].amax(0) > 0].max() for f in (2, 14)]
        assert front[1] - front[0] > 4
    else:
        centre = [(changed[f].sum(0) * columns).sum() / changed[f].sum() for f in (0, 16)]
        assert sign * (centre[1] - centre[0]) > 1
    assert (changed.sum(dim=(1, 2)) > 0).all(), "it leaves the frame"


def test_times_covers_and_grounds_look_different():
    sky = {}
    for name in TIMES:
        scenes = [scene_with(time=name, cover=c, rain=False) for c in ("clear", "scattered")]
        sky[name] = render(scenes, 1, 32, 32).mean(dim=(0, 1, 2, 3))
    names = list(TIMES)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert (sky[a] - sky[b]).abs().max() > 0.08, (a, b)
    base = scene_with(time="day", cover="scattered", ground="none", light="none", object="none")
    low = [render([dataclasses.replace(base, ground=g, horizon=0.75)], 1, 64, 64)[0, 0, 50:] for g in GROUNDS]
    for i in range(4):
        for k in range(i):
            assert (low[i] - low[k]).abs().mean() > 0.1
    busy = [render([dataclasses.replace(base, cover=c)], 1, 64, 64)[0, 0].amin(-1) for c in COVERS]
    share = [float((x > 0.45).float().mean()) for x in busy]
    assert share[0] < share[1] < share[2] <= share[3]


def test_light_stands_where_it_is_said():
    for place, low, high in (("left", 0.1, 0.3), ("center", 0.4, 0.6), ("right", 0.7, 0.9)):
        scene = scene_with(time="day", light=place, cover="clear", object="none", ground="none")
        frame = render([scene], 1, 64, 64)[0, 0].mean(-1)
        ys, xs = torch.where(frame > 0.97)
        assert low < float(xs.float().mean()) / 64 < high


@pytest.mark.parametrize(
    "call, error",
    [
        (lambda: sample_scene(0, 0, "test"), ConfigError),
        (lambda: render([]), SoraDiTError),
        (lambda: render([sample_scene(0, 0)], frames=0), ShapeError),
        (lambda: render([sample_scene(0, 0)], height=7), ShapeError),
        (lambda: render([sample_scene(0, 0)], width=0), ShapeError),
        (lambda: render([sample_scene(0, 0)], fps=0), SoraDiTError),
        (lambda: render([sample_scene(0, 0)], fps=float("nan")), SoraDiTError),
        (lambda: render([dataclasses.replace(sample_scene(0, 0), time="noon")]), ConfigError),
        (lambda: render([dataclasses.replace(sample_scene(0, 0), object_color="pink")]), ConfigError),
    ],
)
def test_bad_input_is_refused_in_words(call, error):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).endswith(".") and len(str(caught.value)) > 30


def test_balanced_scenes_have_all_objects_equally_often():
    scenes = [sample_balanced(5, i) for i in range(4000)]
    counts = Counter(s.object for s in scenes)
    assert all(abs(counts[kind] / 4000 - 0.25) < 0.03 for kind in OBJECTS), counts
    assert scenes[:50] == [sample_balanced(5, i) for i in range(50)]
    assert len(set(scenes)) == 4000
    held = {(s.time, s.cover, s.ground) for s in (sample_balanced(5, i, "heldout") for i in range(400))}
    assert held == set(HELD_OUT)


def test_what_flies_comes_as_often_as_it_is_asked_for():
    shares = (0.0, 1.0, 3.0, 4.0)
    scenes = [sample_balanced(5, i, shares=shares) for i in range(4000)]
    counts = Counter(s.object for s in scenes)
    assert counts["none"] == 0
    assert all(abs(counts[kind] / 4000 - share / 8) < 0.03 for kind, share in zip(OBJECTS, shares, strict=True)), counts
    equal = [sample_balanced(5, i, shares=(2.0,) * 4) for i in range(50)]
    assert equal == [sample_balanced(5, i) for i in range(50)]


@pytest.mark.parametrize("shares", [(), (1.0, 1.0, 1.0), (0.0,) * 4, (1.0, -1.0, 1.0, 1.0), (1.0, float("nan"), 1, 1)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ConfigError, match=r"4 numbers of at least 0 \(none, balloon, birds, plane\)"):
        sample_balanced(5, 0, shares=shares)


@pytest.mark.parametrize("kind", ["balloon", "birds", "plane"])
def test_what_flies_is_large_enough_to_be_learned(kind):
    """At 64 pixels it changes a hundredth of the frame at least, with less nothing learned to draw it."""
    scenes = [sample_balanced(3, i, shares=tuple(float(kind == other) for other in OBJECTS)) for i in range(16)]
    gone = {"object": "none", "object_color": "none", "object_direction": "none"}
    empty = [dataclasses.replace(scene, **gone) for scene in scenes]
    seen = (render(scenes, 5, 64, 64, 3.0) - render(empty, 5, 64, 64, 3.0)).abs().amax(-1) > 0.05
    assert seen.float().mean((1, 2, 3)).min() > 0.01
