"""The measures of the evaluation tell good clips from bad ones; what it generates is what the nodes would."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from sora_dit.dit_core.checkpoint import load_bundle, save_bundle
from sora_dit.dit_core.errors import CheckpointError, ConfigError, ShapeError
from sora_dit.dit_core.generate import denoise_latent
from sora_dit.dit_core.measures import TokenGrid, coherence, psnr, ssim, time_ratio, to_frames
from sora_dit.dit_core.skies import HELD_OUT, VALUES, attributes, render, sample_scene
from sora_dit.dit_core.training.export import export_bundle
from sora_dit.dit_core.training.export import main as export_main
from sora_dit.dit_core.training.optim import MovingAverage
from sora_dit.dit_core.training.state import TrainingState

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import asked as asking  # noqa: E402
import contact_sheet as sheets  # noqa: E402
import drift as drifting  # noqa: E402
import evaluate_starter as evaluation  # noqa: E402
import frechet  # noqa: E402
import generation  # noqa: E402
import probes  # noqa: E402
import scoring  # noqa: E402

GRID = TokenGrid(8, 8, 1, 4)
SIZE = generation.ClipSize(5, 16, 24, 8.0)


@pytest.fixture(scope="module")
def reference():
    """Twelve held-out scenes, and their clips [12, 17, 64, 64, 3]."""
    asked = asking.draw_asked(12, 5, wording="full")
    return asked, render([a.scene for a in asked], 17, 64, 64).contiguous()


# -- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wording", asking.WORDINGS)
def test_prompts_are_balanced_and_held_out(wording):
    asked = asking.draw_asked(32, 3, wording=wording)
    assert sum(a.words["direction"] == "left" for a in asked) == 16
    assert [sum(a.balloon for a in asked if a.words["direction"] == d) for d in ("left", "right")] == [8, 8]
    for a in asked:
        assert (a.words["time"], a.words["cover"], a.words["ground"]) in HELD_OUT
        assert a.words.items() <= attributes(a.scene).items()
        assert ("balloon" in re.sub("no (birds or )?balloons", "", a.prompt)) == a.balloon
    assert asking.draw_asked(32, 3, wording=wording) == asked
    full = sum(len(a.words) == len(VALUES) for a in asked)
    assert full == {"named": 0, "full": 32, "both": 16}[wording]


# -- motion ----------------------------------------------------------------------------------------------------------


def test_drift_is_seen_and_turns_with_the_clip(reference):
    asked, clips = reference
    wanted = [a.words["direction"] for a in asked]
    other = [probes.MIRROR[d] for d in wanted]
    assert drifting.drift_direction(clips) == wanted
    assert drifting.drift_direction(clips.flip(3)) == other
    assert drifting.drift_direction(clips.flip(1)) == other


def test_drift_of_a_still_picture_is_nothing(reference):
    _, clips = reference
    grain = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0)) * 0.02
    still = clips[:, :1] + grain
    assert drifting.drift(still).abs().max() < 0.3 < drifting.drift(clips).abs().median()
    assert drifting.drift(clips[:, :1].expand_as(clips)).abs().max() == 0


# -- seams -----------------------------------------------------------------------------------------------------------


def mosaic(clips, cell=8, strength=0.15):
    """Every cell and every latent frame off by something of its own."""
    generator = torch.Generator().manual_seed(1)
    n, f, h, w, _ = clips.shape
    offsets = torch.randn(n, (f - 1) // 4 + 1, h // cell, w // cell, 1, generator=generator) * strength
    offsets = offsets.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    return clips + offsets[:, [(i + 3) // 4 for i in range(f)]]


def test_seams_are_found_where_they_are(reference):
    _, clips = reference
    good, bad = coherence(clips, GRID), coherence(mosaic(clips), GRID)
    assert all(0.8 < value < 1.15 for value in good.values()), good
    assert all(value > 2 for value in bad.values()), bad
    sideways = clips.clone()
    sideways[:, :, :, 8:] += 0.3  # one vertical edge, on the grid
    got = coherence(sideways, GRID)
    assert got["columns"] > 1.3 and got["rows"] == pytest.approx(good["rows"], rel=0.1)
    off_grid = mosaic(clips).roll((4, 4), dims=(2, 3))
    assert coherence(off_grid, GRID)["columns"] < 1


def test_token_borders_in_time():
    assert GRID.first_frames(17) == [1, 5, 9, 13]
    assert TokenGrid(8, 8, 2, 4).first_frames(17) == [5, 13]
    clips = torch.arange(17.0).view(1, 17, 1, 1, 1).expand(1, 17, 8, 8, 3).clone() * 0.01
    assert time_ratio(clips, GRID).item() == pytest.approx(1, abs=1e-3)
    clips[:, 5:] += 0.04
    assert time_ratio(clips, GRID).item() == pytest.approx(2, abs=1e-3)  # (0.05 + 3 * 0.01) / 4 over 0.01


def test_psnr_and_ssim():
    clips = torch.rand(2, 3, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    assert psnr(clips + 0.1, clips).tolist() == pytest.approx([20, 20], abs=1e-3)
    assert ssim(clips, clips).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert ssim(clips.flip(2), clips).max() < 0.5


# -- probes ----------------------------------------------------------------------------------------------------------


def test_mirrored_evidence_is_that_of_the_mirrored_clip(reference):
    asked, clips = reference
    looks, wanted = probes.look(clips, 8.0), probes.label([a.scene for a in asked])
    mirrored = probes.look(clips.flip(3), 8.0)
    torch.testing.assert_close(mirrored.frames, looks.frames.flip(-1))
    turned = looks.motion.flip(-1) * torch.tensor((-1.0, 1.0, -1.0)).view(3, 1, 1)
    torch.testing.assert_close(mirrored.motion, turned, atol=0.02, rtol=0.0)
    _, answers = probes._augment(looks, wanted, torch.Generator().manual_seed(0))
    names = list(probes.HEADS)
    for row, a in zip(answers, asked, strict=True):
        read = {name: probes.HEADS[name][int(i)] for name, i in zip(names, row, strict=True) if i >= 0}
        turned = {k: probes.MIRROR.get(v, v) for k, v in a.words.items()}
        assert read.items() <= a.words.items() or read.items() <= turned.items()
        assert ("object_color" in read) == a.balloon


def test_look_takes_any_size_and_refuses_short_clips(reference):
    _, clips = reference
    large = clips.repeat_interleave(2, 2).repeat_interleave(2, 3)
    looks = probes.look(large, 8.0)
    assert looks.frames.shape == (12, 5, 3, 64, 64) and looks.motion.shape == (12, 3, 16, 16)
    assert (looks.frames - probes.look(clips, 8.0).frames).abs().mean() < 0.02
    with pytest.raises(ShapeError, match="17 frames"):
        probes.look(clips[:, :13], 8.0)


def test_a_probe_learns_and_is_kept(parts, tmp_path, monkeypatch):
    autoencoder = parts(0)[2].eval()
    settings = probes.ProbeSettings(rendered=96, coded=2, steps=60, batch=16, channels=8)
    lines = []
    probe = probes.get_probe(settings, autoencoder, tmp_path, lines.append)
    assert lines and len(list(tmp_path.glob("probe-*.safetensors"))) == 1
    scenes = [sample_scene(6, i) for i in range(24)]
    clips = render(scenes, 17, 64, 64)
    read = probes.read_clips(probe, clips, 8.0)
    assert all(words[name] in VALUES[name] for words in read for name in VALUES)
    truth = [attributes(s) for s in scenes]
    for name in ("time", "direction"):
        test = scoring.says(name)
        assert scoring.share_right(truth, read, test)["share"] > 0.3 + scoring.chance(truth, read, test), name
    again = []
    assert probes.read_clips(probes.get_probe(settings, autoencoder, tmp_path, again.append), clips, 8.0) == read
    assert not again
    monkeypatch.setattr(probes, "renderer", lambda: "skies that look otherwise")
    monkeypatch.setattr(probes, "probe_data", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # it is taught anew
        probes.get_probe(settings, autoencoder, tmp_path)
    assert probes.fingerprint(autoencoder) != probes.fingerprint(parts(1)[2])


def test_what_no_prompt_asks_for_is_neither_met_nor_missed():
    words = [{"time": "day", "object": "birds", "direction": "left", "drift": "left"}] * 2
    seen = [words[0] | {"cover": "clear", "ground": "sea", "object_color": "none", "object_direction": "left",
                        "light": "none", "speed": "slow", "rain": "no"}] * 2  # fmt: skip
    kinds = [evaluation.Clips(torch.zeros(2, 1), words, seen) for _ in range(3)]
    met = {row.measure: row.met for row in evaluation.word_rows(*kinds)}
    assert met["balloon asked for is there"] is None and met["cloud cover"] is None
    assert met["no balloon asked for, none there"] is True and met["time of day"] is True


def test_prompts_can_ask_for_what_is_seldom():
    drawn = asking.draw_asked(60, 5, flying=(0, 0, 1, 1))
    assert {a.scene.object for a in drawn} == {"birds", "plane"} and all("object" in a.words for a in drawn)
    assert 15 < sum(a.scene.object == "birds" for a in drawn) < 45
    assert sum("object_direction" in a.words for a in drawn) > 30


# -- scores ----------------------------------------------------------------------------------------------------------


def test_scores_know_right_from_wrong():
    truth = [attributes(sample_scene(1, i)) for i in range(40)]
    constant = [dict(truth[0])] * 40
    for name in VALUES:
        test = scoring.says(name)
        assert scoring.share_right(truth, truth, test)["share"] == 1
        assert scoring.chance(truth, truth, test) < 0.75
        rate = scoring.share_right(truth[1:], constant[1:], test)["share"]
        assert scoring.chance(truth[1:], constant[1:], test) == pytest.approx(rate)
    assert scoring.says("speed")({"time": "day"}, truth[0]) is None
    assert scoring.says("object_color")({"object_color": "none"}, truth[0]) is None
    assert scoring.says("object")({"object": "none"}, {"object": "birds"}) is False
    low, high = scoring.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))


def test_balloons_asked_for_and_not():
    balloon, nothing = {"object": "balloon"}, {}
    assert scoring.balloon_there(balloon, {"object": "birds"}) is False
    assert scoring.balloon_there(nothing, {"object": "birds"}) is None
    assert scoring.balloon_absent(nothing, {"object": "balloon"}) is False
    assert scoring.balloon_absent(nothing, {"object": "plane"}) is True
    assert scoring.balloon_absent(balloon, {"object": "plane"}) is None


def test_frechet_distance_is_that_of_scipy_and_of_the_formula():
    linalg = pytest.importorskip("scipy.linalg")
    generator = torch.Generator().manual_seed(4)
    a, b = (torch.randn(300, 6, generator=generator).double() @ torch.randn(6, 6, generator=generator).double()
            for _ in range(2))  # fmt: skip
    root = torch.from_numpy(linalg.sqrtm((a.T.cov() @ b.T.cov()).numpy()).real)
    means = (a.mean(0) - b.mean(0)).square().sum()
    want = means + a.T.cov().trace() + b.T.cov().trace() - 2 * root.trace()
    assert frechet.frechet_distance(a, b) == pytest.approx(want.item(), rel=1e-6)
    assert frechet.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    scaled = 3 * (a - a.mean(0)) + a.mean(0) + 2  # |2|^2 in 6 dimensions, and (3 - 1)^2 of the variance
    assert frechet.frechet_distance(a, scaled) == pytest.approx(24 + 4 * a.T.cov().trace().item(), rel=1e-6)


def clips_of(clips, asked, seen):
    kind = evaluation.Clips(clips, [a.words | {"drift": a.words["direction"]} for a in asked])
    kind.seen = [words | {"drift": words["direction"]} for words in seen]
    return kind


def test_the_table_accepts_good_clips_and_refuses_bad_ones(reference):
    asked, clips = reference
    truth = [a.words for a in asked]
    shuffled = [truth[(i + 5) % 12] for i in range(12)]
    right, wrong = clips_of(clips, asked, truth), clips_of(mosaic(clips), asked, shuffled)
    good = evaluation.word_rows(right, right, right) + evaluation.coherence_rows(GRID, right, right, right)
    assert [row.met for row in good if row.required] == [True] * 9
    bad = evaluation.word_rows(right, right, wrong) + evaluation.coherence_rows(GRID, right, right, wrong)
    verdicts = {row.measure: row.met for row in bad if row.required}
    assert len(verdicts) == 9 and not verdicts["cloud cover"] and sum(verdicts.values()) <= 2
    none = evaluation.word_rows(right, right, None) + evaluation.coherence_rows(GRID, right, right, None)
    assert all(row.met is None and row.generated is None for row in none)
    table = scoring.markdown(good).splitlines()
    assert len({line.count("|") for line in table}) == 1 and "| time of day | 1.00 | 1.00 | 1.00 |" in table[2]
    json.dumps(scoring.as_json(bad), allow_nan=False)


# -- clips -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "guidance", "until"), [("euler", 3.0, 0.0), ("heun", 3.0, 0.8), ("ddpm", 1.0, 0.0)]
)
def test_a_batch_of_prompts_is_what_the_nodes_make_one_by_one(bundle, sampler, guidance, until):
    sampling = generation.Sampling(steps=3, guidance=guidance, sampler=sampler, shift=2.0, guidance_until=until)
    prompts = ["a red balloon", "night", "the open sea by day"]
    clips = generation.generate(bundle, prompts, 7, SIZE, sampling, batch=2)
    assert clips.shape == (3, 5, 16, 24, 3)
    for i, prompt in enumerate(prompts):
        latent = denoise_latent(
            bundle.transformer, generation.conditioning_for(bundle, prompt, sampling),
            torch.zeros(generation.latent_shape(bundle, SIZE)), seed=7 + i, guidance_scale=guidance, sampler=sampler,
            guidance_until=until,
        )  # fmt: skip
        with torch.inference_mode():
            one = to_frames(bundle.autoencoder.decode(latent))
        torch.testing.assert_close(clips[i], one[0], atol=1e-5, rtol=1e-4)
    assert (clips[0] - clips[1]).abs().max() > 1e-3


def test_sizes_that_the_model_cannot_make_are_refused(bundle):
    with pytest.raises(ConfigError, match="4k\\+1 frames"):
        generation.latent_shape(bundle, dataclasses.replace(SIZE, frames=6))
    assert generation.ClipSize.of(bundle) == generation.ClipSize(17, 64, 64, 8.0)


def test_contact_sheet_and_animation(tmp_path):
    clips = torch.zeros(2, 17, 16, 24, 3)
    clips[0, -1], clips[1, :, ..., 2] = 1.0, 1.0
    sheet = sheets.contact_sheet(clips, ["first", "second " * 60], columns=6, scale=2)
    assert sheet.size == (6 * 52 + 4, 2 * (32 + 22 + 4) + 4)
    top = 4 + 22
    assert sheet.getpixel((10, top + 5)) == (0, 0, 0)
    assert sheet.getpixel((4 + 5 * 52 + 10, top + 5)) == (255, 255, 255)
    assert sheet.getpixel((10, top + 58 + 5)) == (0, 0, 255)
    for name in ("moving.webp", "moving.gif"):
        sheets.animation(clips, ["first", "second " * 60], 8.0, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.n_frames >= 2
    assert len(set(sheets.PROMPTS)) == 16 and "a red hot-air balloon rising over the sea at sunset" in sheets.PROMPTS


def test_a_blind_sheet_says_which_is_which_in_a_file_of_its_own(bundle_path, tmp_path):
    sheet = tmp_path / "blind.png"
    options = ["--model", bundle_path, "--blind", 3, "--steps", 2, "--size", 16, "--frames", 5, "--output", sheet]
    assert sheets.main([str(option) for option in options]) == 0
    rows = sheet.with_suffix(".txt").read_text().splitlines()
    kinds = [row.split(" ")[1] for row in rows]
    assert sorted(kinds) == ["generated:"] * 3 + ["rendered:"] * 3 and kinds != ["rendered:", "generated:"] * 3
    with Image.open(sheet) as image:
        assert image.height == 6 * (32 + 22 + 4) + 4


def test_the_whole_evaluation_runs(bundle_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "get_probe", lambda settings, *rest: probes.SkyProbe(4).eval())
    output, sheet = tmp_path / "results.json", tmp_path / "sheet.png"
    options = [
        "--model",
        bundle_path,
        "--prompts",
        4,
        "--rendered",
        8,
        "--steps",
        2,
        "--output",
        output,
        "--sheet",
        sheet,
    ]
    assert evaluation.main([str(option) for option in options]) == 0
    assert "| time of day |" in capsys.readouterr().out and sheet.exists()
    record = json.loads(output.read_text(encoding="utf-8"))
    assert len(record["prompts"]) == 4 and record["clip_seconds"]["total"] > 0
    row = next(r for r in record["rows"] if r["measure"].startswith("autoencoder PSNR"))
    assert row["coded"] < 20 and row["met"] is False  # random weights
    assert evaluation.main(["--model", str(tmp_path / "absent.safetensors")]) == 1
    assert "absent.safetensors" in capsys.readouterr().err


# -- a bundle from a training ----------------------------------------------------------------------------------------


@pytest.fixture()
def training(parts, tmp_path):
    """A saved state whose averages differ from the live weights -> (folder, averages)."""
    transformer, text, _ = parts(3)
    modules = {"transformer": transformer, "text_encoder": text.module}
    averages = {name: MovingAverage(module, 0.9) for name, module in modules.items()}
    with torch.no_grad():
        for module in modules.values():
            for parameter in module.parameters():
                parameter.add_(1.0)
    settings = {"config": transformer.config.to_dict(), "text": text.config_dict(), "batch": 24, "clips": 99}
    state = TrainingState(tmp_path / "state", modules, averages, [], settings)
    state.position |= {"step": 12, "samples": 288, "total": 40, "loss": 0.5}
    state.save()
    return tmp_path / "state", {name: average.values for name, average in averages.items()}


def test_export_writes_the_averages(training, bundle_path, tmp_path, capsys):
    folder, averages = training
    output = tmp_path / "snapshot.safetensors"
    before = (folder / "state.safetensors").read_bytes()
    assert export_main(["--state", str(folder), "--autoencoder", str(bundle_path), "--output", str(output)]) == 0
    assert "step 12" in capsys.readouterr().out
    assert (folder / "state.safetensors").read_bytes() == before
    got = load_bundle(output)
    modules = {"transformer": got.transformer, "text_encoder": got.text_encoder.module}
    for name, module in modules.items():
        for key, value in module.named_parameters():
            torch.testing.assert_close(value, averages[name][key], atol=1e-3, rtol=1e-3)
    assert got.autoencoder is not None and {info.dtype for info in got.header.tensors.values()} == {"F16"}
    made = got.header.provenance["transformer"]
    assert (made["step"], made["samples"], made["clips"], made["finished"]) == (12, 288, 99, False)


def test_export_refuses_what_does_not_fit(training, parts, bundle_path, tmp_path, capsys):
    folder, _ = training
    with pytest.raises(CheckpointError, match="does not exist"):
        export_bundle(tmp_path, bundle_path, tmp_path / "out.safetensors")
    other = parts(0)[2]
    config = dataclasses.replace(other.config, latent_mean=(1.1,) * 4)
    wrong = tmp_path / "other.safetensors"
    save_bundle(wrong, {"autoencoder": (config.to_dict(), other.state_dict())}, {})
    with pytest.raises(CheckpointError, match="not the autoencoder"):
        export_bundle(folder, wrong, tmp_path / "out.safetensors")
    damaged = folder / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert export_main(["--state", str(folder), "--autoencoder", str(bundle_path), "--output", "x.safetensors"]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()
