"""Classifier-free guidance: the formula, its exact case, and the rescale against diffusers."""

from __future__ import annotations

import pytest
import torch
from sora_dit.dit_core.diffusion import classifier_free, cpu_noise, get_objective
from sora_dit.dit_core.errors import SoraDiTError

COND, UNCOND = cpu_noise(0, (2, 3, 4, 5, 5)), cpu_noise(1, (2, 3, 4, 5, 5))


def test_by_hand():
    guided = classifier_free(torch.tensor([[3.0]]), torch.tensor([[1.0]]), 4.0)
    assert guided.item() == 9.0
    assert classifier_free(torch.tensor([[3.0]]), torch.tensor([[1.0]]), 0.0).item() == 1.0


def test_scale_one_is_the_prompt_alone_bit_for_bit():
    assert torch.equal(classifier_free(COND, None, 1.0), COND)
    assert torch.equal(classifier_free(COND, UNCOND, 1.0), COND)


@pytest.mark.parametrize("name", ["flow", "epsilon", "v"])
def test_guiding_predictions_or_denoised_latents_is_the_same(name):
    objective, x, sigma = get_objective(name), cpu_noise(2, COND.shape), 0.6
    early = objective.denoised(x, classifier_free(COND, UNCOND, 5.0), sigma)
    late = classifier_free(objective.denoised(x, COND, sigma), objective.denoised(x, UNCOND, sigma), 5.0)
    torch.testing.assert_close(early, late)


def test_rescale_restores_the_deviation_as_diffusers_does():
    guided = classifier_free(COND, UNCOND, 7.0)
    full = classifier_free(COND, UNCOND, 7.0, rescale=1.0)
    torch.testing.assert_close(full.std((1, 2, 3, 4)), COND.std((1, 2, 3, 4)))
    assert (guided.std((1, 2, 3, 4)) > 2 * COND.std((1, 2, 3, 4))).all()
    pipelines = pytest.importorskip("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion")
    for rescale in (0.3, 0.7):
        expected = pipelines.rescale_noise_cfg(guided, COND, guidance_rescale=rescale)
        torch.testing.assert_close(classifier_free(COND, UNCOND, 7.0, rescale), expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((COND, None, 3.0), "scale of 3.0 needs a negative prompt"), ((COND, UNCOND, 3.0, 1.5), "rescale of 1.5")],
)
def test_mistakes_are_refused_in_words(arguments, words):
    with pytest.raises(SoraDiTError, match=words):
        classifier_free(*arguments)
