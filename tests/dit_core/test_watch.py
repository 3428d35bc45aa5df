"""Looking at a training: what the log says, and that the pictures show it."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sora_dit.dit_core.errors import DataError, MediaError
from sora_dit.dit_core.watch import (
    EventWriter,
    Sample,
    draw_curves,
    draw_strip,
    duration,
    forget_samples,
    read_log,
    read_samples,
    reduced,
    save_picture,
    save_sample,
    summary,
)
from sora_dit.dit_core.watch.axes import scale_for
from sora_dit.dit_core.watch.canvas import Canvas
from sora_dit.dit_core.watch.curves import _LEVELS
from sora_dit.dit_core.watch.panel import running_mean


def line(step, loss=0.5, **more):
    return {"step": step, "samples": step * 4, "total": 100, "seconds": step * 0.5, "rate": 1.0, "loss": loss,
            "gradient_norm": 0.3, "level_loss": [loss, None] + [2 * loss] * 6} | more  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """`write(line, line, "raw text")`: a training's folder with this log."""

    def call(*lines):
        text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines)
        (tmp_path / "log.jsonl").write_text(text + "\n")
        return tmp_path

    return call


def test_steps_that_were_trained_twice_count_once_as_the_later_says(write):
    folder = write(line(10), line(20, 0.9), line(30, 0.8), line(20, 0.4), line(30, 0.3))
    assert read_log(folder).series("loss") == ([10, 20, 30], [0.5, 0.4, 0.3])
    # a state from between two lines: what was logged from there on is of a future that did not come
    folder = write(line(10), line(20), line(30), line(15, 0.7))
    assert read_log(folder).series("loss")[0] == [10, 15]


def test_half_a_line_and_events_do_not_disturb(write):
    folder = write(line(10), '{"event": "diverged", "step": 12}', "[1]", '{"step": 20, "lo')
    log = read_log(folder)
    assert log.step == 10 and log.events == ({"event": "diverged", "step": 12},)
    assert "diverged at step 12" in summary(log)


def test_a_value_that_is_no_number_is_left_out(write):
    log = read_log(write(line(10), line(20, float("nan")), line(30) | {"loss": None}))
    assert log.series("loss") == ([10], [0.5]) and log.step == 30
    draw_curves(log)


def test_loss_by_noise_level_also_of_older_logs_with_sums_and_counts(write):
    old = {key: value for key, value in line(20).items() if key != "level_loss"}
    log = read_log(write(line(10), old | {"level_loss_sum": [3.0, 1.0], "level_count": [4.0, 0.0]}))
    assert log.levels()[0] == ([10, 20], [0.5, 0.75]) and log.levels()[1] == ([], [])


def test_the_summary_says_how_far_how_fast_and_how_long(write):
    log = read_log(write(*(line(step) for step in range(10, 50, 10)), line(50, 0.25, held_out=0.27)))
    words = summary(log)
    # half a second a step, 4 clips a step, 50 steps to go
    assert words == "step 50 of 100, loss 0.25, held-out 0.27, 8 samples/s, about 25 s left"
    assert "left" not in summary(log, remaining=False)
    assert summary(read_log(write(""))) == "no step yet"


def test_durations_in_words():
    said = [duration(seconds) for seconds in (8.4, 59.6, 60, 185, 7800, 86400 * 3 + 4 * 3600)]
    assert said == ["8 s", "1 min", "1 min", "3 min 5 s", "2 h 10 min", "3 d 4 h"]


def test_a_folder_without_a_training_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no training; expected a folder in which"):
        read_log(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_log(tmp_path / "nowhere")


def test_axes_are_logarithmic_where_that_shows_more_and_ticks_are_round():
    wide, narrow = scale_for([0.01, 10.0]), scale_for([0.5, 0.6])
    assert wide.log and not narrow.log
    assert wide.at(0.01) < 0.1 < 0.9 < wide.at(10.0) and abs(wide.at(0.3162) - 0.5) < 0.01
    assert {0.01, 0.1, 1.0, 10.0} <= set(wide.ticks(4)) and all(0 <= wide.at(one) <= 1 for one in wide.ticks())
    assert set(narrow.ticks(4)) <= {0.5, 0.52, 0.525, 0.55, 0.575, 0.6, 0.54, 0.56, 0.58}
    for values in ([0.0], [3.0, 3.0], [1e-12, 2e-12], [-5.0, 5.0], [1e9, 1e15]):
        scale = scale_for(values)
        assert scale.ticks() and all(-1e-6 <= scale.at(one) <= 1 + 1e-6 for one in (*values, *scale.ticks()))


def test_a_smoothed_curve_does_not_lag():
    straight = [float(k) for k in range(200)]
    middle = running_mean(straight)[60:140]
    assert max(abs(a - b) for a, b in zip(middle, straight[60:140], strict=True)) < 0.5


def test_a_smoothed_curve_lies_where_its_values_are_on_a_logarithmic_axis():
    falling = [0.1 + 10 * math.exp(-k / 5) for k in range(200)]
    smooth = running_mean(falling, log=True)
    assert all(0.7 < smooth[k] / falling[k] < 1.4 for k in (20, 30, 40, 100))
    assert running_mean(falling)[20] > 2 * falling[20], "or this could not fail"


def drawn(picture, colour) -> np.ndarray:
    """Rows in which the colour is drawn."""
    return np.nonzero((np.abs(np.asarray(picture, int) - colour).sum(2) < 60).any(1))[0]


def test_curves_show_a_falling_loss_as_falling(write):
    log = read_log(write(*(line(step, 2.0 / step) for step in range(1, 100))))
    picture = draw_curves(log, 800)
    pixels = np.asarray(picture, int)
    blue = np.argwhere(np.abs(pixels[60:280] - (38, 104, 176)).sum(2) < 60)
    left, right = blue[blue[:, 1] < 200], blue[blue[:, 1] > 600]
    assert len(left) and len(right) and left[:, 0].mean() < right[:, 0].mean() - 60
    assert picture.width == 800
    assert len(drawn(draw_curves(read_log(write(line(1, held_out=0.4))), 800).crop((0, 60, 800, 280)), (217, 98, 30)))
    draw_curves(read_log(write("")))  # nothing logged yet


def test_the_held_out_loss_of_each_noise_level_is_drawn_beside_the_trained_one(write):
    levels = [None] * 7 + [3.0]  # the red one, above all that is trained on
    lines = [line(step, held_out=0.5, held_out_level_loss=levels) for step in (10, 50, 90)]
    plain = [line(step, held_out=0.5) for step in (10, 50, 90)]
    area = (0, 330, 800, 540)  # below the names of the levels
    red = [drawn(draw_curves(read_log(write(*which)), 800).crop(area), (190, 42, 56)) for which in (plain, lines)]
    assert len(red[0]) and np.ptp(red[0]) < 20 and np.ptp(red[1]) > 60  # one line; and dots, 3 being far from 1


@pytest.mark.parametrize("width", [512, 960])
def test_the_legend_of_noise_levels_has_all_colours_at_any_width(write, width):
    log = read_log(write(*(line(step, level_loss=[0.5] * 8) for step in (10, 50, 90))))
    tall = round(width * 0.29)
    top = 54 + tall + 12
    legend = draw_curves(log, width).crop((round(width * 0.45), top + 4, width, top + 26))
    assert all(len(drawn(legend, colour)) for colour in _LEVELS)


def test_autoencoder_trainings_show_their_psnr(write):
    lines = [{"step": step, "samples": step, "seconds": step, "loss": 1.0, "psnr": 20 + step / 10} for step in (1, 2)]
    log = read_log(write(*lines))
    assert "PSNR 20.2 dB" in summary(log)
    green = drawn(draw_curves(log, 800).crop((0, 300, 800, 540)), (30, 138, 92))
    assert len(green)


def sample(step, number=0, shade=0, frames=5, size=(8, 12)):
    return Sample(step, number, f"prompt {number} äöü", np.full((frames, *size, 3), shade, np.uint8))


def test_samples_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(1)
    made = Sample(40, 1, 'a "red" balloon, 日本', rng.integers(0, 255, (3, 8, 6, 3), np.uint8))
    for one in (sample(200), made):
        save_sample(tmp_path, one)
    (tmp_path / "samples" / "00000050_0.png").write_bytes(b"broken")
    first, second = read_samples(tmp_path)
    assert (first.step, first.number, first.prompt) == (40, 1, made.prompt) and (first.frames == made.frames).all()
    assert second.step == 200
    assert read_samples(tmp_path / "nowhere") == []


def test_a_sample_that_is_too_large_to_open_does_not_stop_a_training(tmp_path, monkeypatch):
    for one in (sample(200), sample(300, frames=50, size=(40, 40))):
        save_sample(tmp_path, one)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)  # from twice as many on it refuses
    assert [one.step for one in read_samples(tmp_path)] == [200]


@pytest.mark.parametrize("size", [(8, 12), (96, 96), (240, 416)])
def test_what_stays_in_memory_of_a_sample_is_what_a_strip_shows(size):
    rng = np.random.default_rng(1)
    full = [Sample(step, 0, "a", rng.integers(0, 255, (33, *size, 3), np.uint8)) for step in (1, 2)]
    kept = [reduced(one) for one in full]
    assert sum(one.frames.nbytes for one in kept) <= 2 * 4 * 96 * 167 * 3
    assert (np.asarray(draw_strip(kept)) == np.asarray(draw_strip(full))).all()


def test_the_strip_has_a_row_for_each_step_first_to_newest():
    samples = [sample(step, number, shade) for step, shade in ((0, 250), (50, 120), (100, 10)) for number in (0, 1)]
    bare = np.asarray(draw_strip(samples, frames=2, height=8, titles=False))
    assert [int(bare[8 + row * 16 + 4, 12, 0]) for row in range(3)] == [250, 120, 10]
    # two clips of two frames of 12, a pixel between frames
    assert bare.shape[1] == 8 + 2 * (2 * 12 + 1 + 8)
    newest = np.asarray(draw_strip(samples, height=8, rows=1, titles=False))
    assert newest.shape[0] == 24 and newest[12, 12, 0] == 10
    assert draw_strip(samples, height=8).width > bare.shape[1]
    assert draw_strip([]).width > 0


def test_samples_of_steps_that_are_gone_are_forgotten(tmp_path):
    for step in (10, 20, 30):
        save_sample(tmp_path, sample(step))
    (tmp_path / "samples" / "notes.txt").write_text("of a person")
    forget_samples(tmp_path, 20)
    assert [one.step for one in read_samples(tmp_path)] == [10, 20]
    forget_samples(tmp_path, 0)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["notes.txt"]
    forget_samples(tmp_path / "nowhere", 0)


def test_a_prompt_stands_above_the_first_row_that_was_made_with_it(monkeypatch):
    said = []
    monkeypatch.setattr(Canvas, "text", lambda self, place, words, *_: said.append((words, place)))
    first = [replace(sample(step), prompt="a red sky" if step < 30 else "a blue sky") for step in (10, 20, 30)]
    picture = draw_strip([*first, *(sample(step, 1) for step in (10, 20, 30))], frames=4, height=96)
    prompts = {words: place[1] for words, place in said if "sky" in words or "prompt" in words}
    rows = {words: place[1] for words, place in said if words.isdigit()}
    assert [words for words, _ in said if "prompt" in words] == ["prompt 1 äöü"], "said once"
    assert prompts["a red sky"] == prompts["prompt 1 äöü"] < rows["10"]
    assert rows["20"] < prompts["a blue sky"] < rows["30"]
    assert rows["30"] - rows["20"] > rows["20"] - rows["10"] and picture.height > rows["30"]


def test_many_steps_are_thinned_out_but_for_the_first_and_the_newest():
    samples = [sample(step, shade=step) for step in range(0, 250, 10)]
    bare = np.asarray(draw_strip(samples, frames=1, height=8, rows=4, titles=False))
    assert [int(bare[8 + row * 16 + 4, 12, 0]) for row in range(4)] == [0, 80, 160, 240]


def test_a_picture_that_cannot_be_written_is_said(tmp_path):
    picture = draw_strip([])
    assert save_picture(picture, tmp_path / "a.png").stat().st_size > 100
    with pytest.raises(MediaError, match=r'ends in "\.txt"; expected \.png'):
        save_picture(picture, tmp_path / "a.txt")
    with pytest.raises(MediaError, match="the folder does not exist"):
        save_picture(picture, tmp_path / "no" / "a.png")


def test_event_files_are_written_only_where_tensorboard_is(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    writer = EventWriter(tmp_path)
    writer.write(line(10))
    writer.close()
    assert list(tmp_path.iterdir()) == []

    class Fake:
        written: list = []

        def __init__(self, folder, purge_step):
            self.folder, self.purge_step = folder, purge_step

        def add_scalar(self, name, value, step):
            self.written.append((name, value, step))

        def flush(self):
            pass

        close = flush

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", type(sys)("tensorboard"))
    monkeypatch.setattr(sys.modules["torch.utils.tensorboard"], "SummaryWriter", Fake, raising=False)
    writer = EventWriter(tmp_path)
    writer.write(line(10, 0.5))
    writer.write({"event": "diverged"})
    assert ("loss", 0.5, 10) in Fake.written and ("loss by noise level/0.00 to 0.12", 0.5, 10) in Fake.written
    assert not any("0.12 to 0.25" in name for name, _, _ in Fake.written)  # no clip had that noise


def test_tensorboard_reads_what_is_written(tmp_path):
    """With the real one, where it is installed."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    writer = EventWriter(tmp_path)
    for step in (10, 20):
        writer.write(line(step, 5 / step, held_out=0.75))
    writer.close()
    events = accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 0.5), (20, 0.25)]
    assert events.Scalars("loss by noise level/0.88 to 1.00")[1].value == 0.5
    assert events.Scalars("held_out")[0].value == 0.75


def test_tensorboard_forgets_the_steps_that_were_lost(tmp_path):
    """As after kill -9: the log is taken back to the state on disk, and the events are told so."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps, loss in (((10, 20, 30), 0.5), ((20,), 0.25)):
        writer = EventWriter(tmp_path)
        for step in steps:
            writer.write(line(step, loss))
        writer.close()
    events = accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 0.5), (20, 0.25)]


def test_a_training_that_is_refused_leaves_no_event_file(tmp_path):
    writer = EventWriter(tmp_path)
    writer.write({"event": "refused", "step": 3})
    writer.close()
    assert list(tmp_path.iterdir()) == []
