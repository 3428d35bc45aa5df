"""What a swapped word costs: the right clips, one word changed, and nothing lost by a model that reads none."""

import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.skies import VALUES, attributes

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import prompt_sensitivity as sensitivity  # noqa: E402
from generation import ClipSize  # noqa: E402

SIZE = ClipSize(5, 16, 24, 8.0)


@pytest.mark.parametrize("attribute", ["light", "object", "object_color", "object_direction", "cover"])
def test_one_word_is_swapped_in_scenes_that_show_it(attribute):
    for i, scene in enumerate(islice(sensitivity.scenes_with(attribute, seed=3), 6)):
        value = attributes(scene)[attribute]
        assert value != "none"
        true, swapped = sensitivity.prompt_pair(scene, attribute, i)
        assert true != swapped
        if attribute in ("object_color", "object_direction"):  # wordings keep the word itself
            assert value in true and any(v in swapped for v in VALUES[attribute] if v not in (value, "none"))


def test_an_unknown_attribute_is_named():
    with pytest.raises(ConfigError, match="no attribute 'clouds'; it has time"):
        next(sensitivity.scenes_with("clouds", seed=3))


def test_losses_are_those_of_the_objective(bundle):
    latents = torch.randn(2, 4, 2, 4, 6, generator=torch.Generator().manual_seed(2))
    got = sensitivity.clip_losses(bundle, latents, ["red", "blue"], 0.75)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    text = bundle.text_encoder.encode(["red", "blue"])
    with torch.no_grad():
        out = bundle.transformer(
            0.25 * latents + 0.75 * noise, torch.tensor([750.0] * 2), text.embeddings, text.mask, text.pooled
        )
    torch.testing.assert_close(got, (out - (noise - latents)).square().mean((1, 2, 3, 4)))


def test_a_model_that_reads_nothing_loses_nothing(bundle, monkeypatch):
    leaning = sensitivity.rise(bundle, "light", SIZE, 4, seed=3)
    assert any(not cell.startswith("+0.00 ± 0.00") for cell in leaning)
    encode = bundle.text_encoder.encode
    monkeypatch.setattr(bundle.text_encoder, "encode", lambda texts: encode(["the same"] * len(texts)))
    assert sensitivity.rise(bundle, "light", SIZE, 4, seed=3) == ["+0.00 ± 0.00"] * len(sensitivity.LEVELS)
