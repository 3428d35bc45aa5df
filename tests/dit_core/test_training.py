"""Training: what moves, what does not, and that a stopped training goes on as if nothing had happened."""

import dataclasses
import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file
from sora_dit.dit_core.autoencoder import AutoencoderConfig
from sora_dit.dit_core.errors import CheckpointError
from sora_dit.dit_core.skies import VALUES
from sora_dit.dit_core.text import TextEmbedding, TextEncoder
from sora_dit.dit_core.training import autoencoder as autoencoder_training
from sora_dit.dit_core.training.autoencoder import AutoencoderTraining, new_autoencoder, train_autoencoder
from sora_dit.dit_core.training.known_frames import draw_known_frames
from sora_dit.dit_core.training.loop import LoopSettings, TrainingDiverged
from sora_dit.dit_core.training.optim import Muon, learning_rate, make_optimisers, orthogonalise
from sora_dit.dit_core.training.reading import (
    ReadingSettings,
    TokenHeads,
    moved,
    naming_losses,
    read_batch,
    teach_reading,
)
from sora_dit.dit_core.training.sky_data import LatentCache, SkySource, build_cache
from sora_dit.dit_core.training.transformer import (
    TransformerTraining,
    by_level,
    denoising_loss,
    draw_levels,
    train_transformer,
)
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

CPU = torch.device("cpu")
TEXT = {
    "family": "t5",
    "tokenizer": "byt5",
    "max_length": 48,
    "config": {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2,
               "dropout_rate": 0.0},
}  # fmt: skip
CONFIG = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=4, text_width=16, patch=(1, 1, 1))


def cache(clips: int = 12) -> LatentCache:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 250, (clips, 2, 48), generator=generator).short()
    flat = torch.randn(clips, 4, 1, 1, 1, generator=generator).expand(-1, -1, 3, 4, 4)  # something that can be learned
    return LatentCache(flat.half().contiguous(), tokens)


def models(objective: str = "flow"):
    torch.manual_seed(0)
    return VideoDiT(dataclasses.replace(CONFIG, objective=objective)), TextEncoder.from_config(TEXT)


def train(folder, steps, optimiser="muon", objective="flow", **changes):
    model, text = models(objective)
    training = TransformerTraining(optimiser=optimiser, **changes)
    loop = LoopSettings(steps=steps, batch=4, warmup=2, decay=0.0, log_every=5)
    position, done = train_transformer(model, text, cache(), folder, loop, training, CPU)
    return model, text, position, done


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_ten_steps_equal_six_and_four_more_bit_for_bit(tmp_path, optimiser):
    train(tmp_path / "whole", 10, optimiser)
    train(tmp_path / "parts", 6, optimiser)
    *_, position, done = train(tmp_path / "parts", 10, optimiser)
    assert done and position["step"] == 10 and position["samples"] == 40
    whole, parts = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert set(whole) == set(parts) and any(key.startswith("optimiser.") for key in whole)
    different = [key for key in whole if not torch.equal(whole[key], parts[key])]
    assert not different


@pytest.mark.parametrize("objective", ["flow", "epsilon", "v"])
def test_every_weight_of_transformer_and_text_encoder_moves(tmp_path, objective):
    before = models(objective)
    model, text, *_ = train(tmp_path, 3, objective=objective, train_text=True)
    for old, new in ((before[0], model), (before[1].module, text.module)):
        still = [
            name for (name, p), q in zip(old.named_parameters(), new.parameters(), strict=True) if torch.equal(p, q)
        ]
        assert not still


def test_a_text_encoder_that_can_read_stays_as_it_is(tmp_path):
    before = models()[1].module
    _, text, *_ = train(tmp_path, 3)
    assert all(torch.equal(p, q) for p, q in zip(before.parameters(), text.module.parameters(), strict=True))


@pytest.mark.parametrize("objective", ["flow", "epsilon", "v"])
def test_the_loss_falls_and_the_log_tells_it_by_level(tmp_path, objective):
    train(tmp_path, 60, objective=objective, known=0.0, lr=3e-3)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, last = (sum(line["loss"] for line in part) / len(part) for part in (lines[:3], lines[-3:]))
    assert last < 0.97 * first
    assert all(len(line["level_loss"]) == 8 and max(v or 0 for v in line["level_loss"]) > 0 for line in lines)


def test_another_configuration_is_refused_in_words(tmp_path):
    train(tmp_path, 2)
    with pytest.raises(CheckpointError, match=r"training\.lr was 0\.003 and is 0\.5\. Use .* another folder"):
        train(tmp_path, 4, lr=0.5)
    (tmp_path / "state.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{broken")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train(tmp_path, 4)


def test_divergence_stops_and_says_so(tmp_path):
    with pytest.raises(TrainingDiverged, match="diverged at step .*lower learning rate"):
        train(tmp_path, 40, optimiser="adamw", lr=1e30)


def test_a_failed_save_leaves_the_old_state(tmp_path, monkeypatch):
    from sora_dit.dit_core.training import state

    train(tmp_path, 2)
    old = (tmp_path / "state.safetensors").read_bytes()

    def full_disk(path, *_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "write_tensors", full_disk)
    with pytest.raises(CheckpointError, match="at step 4: the disk is full. The state saved before is whole"):
        train(tmp_path, 4)
    assert (tmp_path / "state.safetensors").read_bytes() == old
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("linear,moving", [("none", {"encoder", "decoder"}), ("both", {"encoder", "decoder", "linear"}),
                                           ("encoder", {"decoder"}), ("alone", set())])  # fmt: skip
def test_autoencoder_training_moves_what_it_should_and_goes_on(tmp_path, linear, moving, monkeypatch):
    monkeypatch.setattr(autoencoder_training, "fitting_clips", lambda source, device: [source.clips(0, 8, device)])
    config = AutoencoderConfig(
        latent_channels=4, patch=4, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=0,
        decoder_blocks=0, temporal_downsample=(True,), spatial_downsample=(True,), linear=linear,
    )  # fmt: skip
    source, training = SkySource(seed=1, frames=3, height=16, width=16), AutoencoderTraining(sizes=(16,))

    def fresh():
        return new_autoencoder(config, source, training, CPU)

    def run(folder, steps):
        loop = LoopSettings(steps=steps, batch=2, warmup=1, decay=0.0)
        return train_autoencoder(fresh(), source, folder, loop, training, CPU)[0]

    before, after = fresh(), run(tmp_path / "a", 4)
    moved = {n.split(".")[0] for (n, p), q in zip(before.named_parameters(), after.parameters(), strict=True)
             if not torch.equal(p, q)}  # fmt: skip
    assert moved == moving
    assert len(after.config.latent_mean) == 4 and min(after.config.latent_std) > 0
    run(tmp_path / "b", 2)
    again = run(tmp_path / "b", 4)
    assert all(torch.equal(p, q) for p, q in zip(after.parameters(), again.parameters(), strict=True))


def test_a_decoder_trained_on_keeps_the_latents_it_was_given(tmp_path):
    config = AutoencoderConfig(latent_channels=4, patch=4, encoder_channels=(8, 8), decoder_channels=(8, 8),
                               temporal_downsample=(True,), spatial_downsample=(True,), latent_mean=(0.0,) * 4,
                               latent_std=(2.0,) * 4)  # fmt: skip
    source, training = SkySource(seed=1, frames=3, height=16, width=16), AutoencoderTraining(sizes=(16,))
    model = new_autoencoder(config, source, training, CPU)
    before = {name: p.clone() for name, p in model.named_parameters()}
    loop = LoopSettings(steps=2, batch=2, warmup=1)
    model, *_ = train_autoencoder(model, source, tmp_path, loop, training, CPU)
    assert model.config.latent_std == (2.0,) * 4
    assert all(torch.equal(p, before[n]) == n.startswith("encoder") for n, p in model.named_parameters())


def test_known_frames_are_never_all_and_show_every_pattern():
    known = draw_known_frames(4000, 5, 0.5, torch.Generator().manual_seed(0))
    assert not known.all(1).any()
    share = known.any(1).float().mean().item()
    assert 0.42 < share < 0.52
    rows = {tuple(row) for row in known.int().tolist()}
    for pattern in (
        (1, 0, 0, 0, 0),
        (1, 1, 1, 1, 0),
        (0, 0, 0, 0, 1),
        (0, 1, 1, 1, 1),
        (1, 0, 0, 0, 1),
        (0, 1, 0, 1, 1),
    ):
        assert pattern in rows
    assert not draw_known_frames(50, 1, 1.0, torch.Generator()).any()


def test_known_frames_do_not_enter_the_loss():
    error, known = torch.ones(2, 4, 3, 2, 2), torch.tensor([[True, False, False], [False, False, False]])
    error[0, :, 0] = 100.0
    error[1, :, 2] = 2.0
    torch.testing.assert_close(denoising_loss(error, known), torch.tensor([1.0, (1 + 1 + 4) / 3]))


def test_levels_follow_the_logit_normal_with_its_uniform_share():
    settings = TransformerTraining(timestep_mean=0.5, timestep_std=1.0, uniform=0.0)
    level = draw_levels(20_000, settings, torch.Generator().manual_seed(1))
    logit = torch.logit(level)
    assert logit.mean().item() == pytest.approx(0.5, abs=0.02) and logit.std().item() == pytest.approx(1.0, abs=0.02)
    flat = draw_levels(20_000, dataclasses.replace(settings, uniform=1.0), torch.Generator().manual_seed(1))
    assert flat.mean().item() == pytest.approx(0.5, abs=0.01) and flat.var().item() == pytest.approx(1 / 12, abs=0.003)
    drawn = [
        draw_levels(32, dataclasses.replace(settings, uniform=1.0), torch.Generator().manual_seed(k)).mean()
        for k in range(100)
    ]
    assert torch.stack(drawn).std() < 0.01, "stratified: 32 that know nothing of each other have .05"
    sums = by_level(torch.tensor([2.0, 3.0, 5.0]), torch.tensor([0.01, 0.99, 1.0]))
    assert sums["level_loss_sum"].tolist() == [2, 0, 0, 0, 0, 0, 0, 8]
    assert sums["level_count"].tolist() == [1, 0, 0, 0, 0, 0, 0, 2]


def test_orthogonalised_matrices_have_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((16, 16), (8, 32), (32, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(3, *shape)))
        assert values.min() > 0.4 and values.max() < 1.3


def test_muon_steps_against_the_gradient_and_treats_stacked_matrices_one_by_one():
    torch.manual_seed(0)
    stacked = torch.nn.Parameter(torch.zeros(24, 8))
    single = [torch.nn.Parameter(torch.zeros(8, 8)) for _ in range(3)]
    grad = torch.randn(24, 8)
    stacked.grad = grad.clone()
    for p, g in zip(single, grad.chunk(3), strict=True):
        p.grad = g.clone()
    Muon([dict(params=[stacked], split=3)], lr=0.1).step()
    Muon(single, lr=0.1).step()
    torch.testing.assert_close(stacked.data, torch.cat([p.data for p in single]))
    assert (stacked.data * grad).sum() < 0
    # first and last layers and vectors stay with AdamW
    adamw, muon = make_optimisers({"m": models()[0]}, "muon", 1e-3, 0.0)
    names = {id(p): n for n, p in models()[0].named_parameters()}
    assert len(names) and sum(len(g["params"]) for o in (adamw, muon) for g in o.param_groups) == len(names)


def test_what_is_added_is_not_pulled_to_zero():
    model = models()[0]
    names = {p: n for n, p in model.named_parameters()}
    groups = [group for one in make_optimisers({"m": model}, "muon", 1e-3, 0.1) for group in one.param_groups]
    kept = {names[p] for group in groups if not group["weight_decay"] for p in group["params"]}
    assert {n for n, p in model.named_parameters() if p.ndim < 2 or "table" in n} == kept
    assert any("table" in name for name in kept), "or this says nothing of them"


def test_learning_rate_warms_up_stays_and_decays():
    rate = [learning_rate(step, 100, 10, 0.2) for step in range(101)]
    assert rate[0] == pytest.approx(0.1) and rate[9] == 1.0 and rate[79] == 1.0
    assert rate[85] == pytest.approx(1 - math.sqrt(5 / 20)) and rate[100] == pytest.approx(0.02)


def test_a_cache_holds_normalised_latents_and_readable_captions():
    config = AutoencoderConfig(
        latent_channels=4, patch=4, encoder_channels=(8, 8), decoder_channels=(8, 8), encoder_blocks=0,
        decoder_blocks=0, temporal_downsample=(True,), spatial_downsample=(True,), latent_mean=(1.0,) * 4,
        latent_std=(3.0,) * 4,
    )  # fmt: skip
    source = SkySource(seed=1, frames=3, height=16, width=16)
    model = new_autoencoder(config, source, AutoencoderTraining(), CPU)
    text = TextEncoder.from_config(TEXT | {"max_length": 200})
    made = build_cache(source, model, text, 5, CPU, batch=2, wordings=3)
    with torch.no_grad():
        raw = model.encode(source.clips(3, 1, CPU)).mean
    torch.testing.assert_close(made.latents[3:4].float(), (raw - 1) / 3, atol=2e-3, rtol=2e-3)
    tokens = made.tokens[3, 1]
    text_back = bytes((tokens[tokens > 2] - 3).tolist()).decode()
    assert text_back == source.captions(3, 3)[1]


def test_reading_teaches_the_encoder_and_goes_on_where_it_was(tmp_path):
    def teach(folder, steps):
        torch.manual_seed(0)
        text = TextEncoder.from_config(TEXT | {"max_length": 200})
        loop = LoopSettings(steps=steps, batch=8, warmup=2, decay=0.0, log_every=5)
        teach_reading(text, folder, loop, ReadingSettings(), CPU)
        return dict(text.module.named_parameters())

    before = dict(TextEncoder.from_config(TEXT).module.named_parameters())
    whole = teach(tmp_path / "whole", 30)
    teach(tmp_path / "parts", 13)
    parts = teach(tmp_path / "parts", 30)
    for name in whole:  # seen once to differ in the last bits; a wrong position would show at 1e-3
        torch.testing.assert_close(whole[name], parts[name], atol=2e-4, rtol=0, msg=name)
    assert all(not torch.equal(whole[name], before[name]) for name in whole)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.03


def test_a_reading_batch_names_what_its_captions_say():
    texts, targets = read_batch(0, 64, scenes=5)
    again, _ = read_batch(0, 64, scenes=5)
    assert texts == again and len(set(texts)) > 60
    for i, text in enumerate(texts):
        says = text.lower()
        if "balloon" in re.sub(r"no (birds or )?balloons", "", says):
            assert VALUES["object"][targets["object"][i]] == "balloon"
        if "overcast" in says:
            assert VALUES["cover"][targets["cover"][i]] == "overcast"
        words = ("left", "right")  # of clouds, of what flies, or of sun and moon
        if not any(word in says for word in words):
            assert targets["direction"][i] == targets["object_direction"][i] == -1
    assert (targets["object"] >= 0).all()
    assert 0 < (targets["speed"] < 0).sum() < 64


def test_complete_captions_leave_no_question_open():
    _, some = read_batch(0, 400, scenes=5, complete=0.5)
    _, every = read_batch(0, 40, scenes=5, complete=1.0)
    assert all((target >= 0).all() for target in every.values())
    open_questions = (some["direction"] < 0).float().mean().item()
    _, short = read_batch(0, 400, scenes=5)
    assert open_questions == pytest.approx((short["direction"] < 0).float().mean().item() / 2, abs=0.05)


def test_what_a_caption_does_not_name_is_not_asked():
    scores = {"rain": torch.tensor([[2.0, 0.0], [0.0, 0.0], [5.0, -5.0]], requires_grad=True)}
    losses = naming_losses(scores, {"rain": torch.tensor([0, 1, -1])})
    assert losses["rain"].item() == pytest.approx((math.log1p(math.exp(-2)) + math.log(2)) / 2)
    losses["rain"].backward()
    assert (scores["rain"].grad[2] == 0).all() and (scores["rain"].grad[:2] != 0).all()
    assert naming_losses(scores, {"rain": torch.tensor([-1, -1, -1])})["rain"].item() == 0


def test_token_heads_look_at_text_only():
    torch.manual_seed(0)
    heads, tokens = TokenHeads(16), torch.randn(2, 5, 16)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    padded = heads(TextEmbedding(tokens, mask, tokens.mean(1)))
    alone = heads(TextEmbedding(tokens[:1, :3], mask[:1, :3], tokens[:1].mean(1)))
    assert set(padded) == set(VALUES)
    for name, scores in alone.items():
        assert scores.shape == (1, len(VALUES[name]))
        torch.testing.assert_close(padded[name][:1], scores)


def test_a_reading_goes_on_near_what_the_encoder_was(tmp_path):
    def teach(anchor):
        torch.manual_seed(0)
        text = TextEncoder.from_config(TEXT | {"max_length": 200})
        loop = LoopSettings(steps=12, batch=8, warmup=2, decay=0.0, log_every=12)
        folder = tmp_path / f"anchor{anchor:g}"
        teach_reading(text, folder, loop, ReadingSettings(anchor=anchor), CPU)
        ids, mask = text.tokenize(["a plane flying left at dawn", "two"])
        torch.manual_seed(0)
        before = TextEncoder.from_config(TEXT | {"max_length": 200})
        return moved(text.forward_ids(ids, mask), before, ids, mask).item(), folder

    free, _ = teach(0.0)
    held, folder = teach(100.0)
    assert 0 < held < free / 4
    assert "moved" in json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
