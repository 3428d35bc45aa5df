"""Training Options: every one arrives in the training, and without the node its defaults are taken."""

from __future__ import annotations

from dataclasses import asdict, fields

from sora_dit.nodes import _training

ODD = {"schedule": "cosine", "warmup": 7, "decay": 0.6, "accumulate": 3, "clip_gradient": 0.7, "weight_decay": 0.2,
       "ema": 0.5, "caption_dropout": 0.25, "known_frames": 0.8, "timesteps": "uniform", "held_out": 0.25,
       "held_out_every": 9, "precision": "float32", "checkpointing": True, "compile": True, "save_every": 33.0,
       "log_every": 4}  # fmt: skip


def test_every_option_arrives_where_it_belongs():
    options = _training.Options(**ODD)
    assert set(ODD) == {field.name for field in fields(options)}
    loop, drawn = options.loop(100, 6, 11), options.drawn()
    assert (loop.steps, loop.batch, loop.sample_every) == (100, 6, 11)
    for name in ("schedule", "warmup", "decay", "accumulate", "held_out_every", "save_every", "log_every"):
        assert getattr(loop, name) == ODD[name], name
    assert loop.clip == 0.7
    assert drawn == {"caption_dropout": 0.25, "known": 0.8, "uniform": 1.0, "precision": "float32",
                     "checkpoint_activations": True, "compile": True}  # fmt: skip
    assert _training.Options(compile=False).drawn()["compile"] is None


def test_without_the_options_node_its_defaults_are_taken(station):
    declared = {one.id: one.default for one in station["TrainingOptions"].GET_SCHEMA().inputs}
    assert declared == asdict(_training.Options())
