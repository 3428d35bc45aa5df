"""Where in the frame a token is (`frame_position`)."""

import dataclasses
import math

import pytest
import torch
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.training.starter.transformer import grown
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT
from sora_dit.dit_core.transformer.embed import frame_position

CONFIG = TransformerConfig(width=24, depth=1, heads=2, ff_width=32, in_channels=2, text_width=4, patch=(1, 1, 1))


def new_model(**changes) -> VideoDiT:
    torch.manual_seed(0)
    return VideoDiT(dataclasses.replace(CONFIG, **changes)).eval()


def run(model: VideoDiT, x: torch.Tensor) -> torch.Tensor:
    batch = len(x)
    text = torch.zeros(batch, 1, 4), torch.ones(batch, 1, dtype=torch.bool), torch.zeros(batch, 4)
    return model(x, torch.full((batch,), 500.0), *text)


def test_waves_by_hand():
    place = frame_position((2, 3), 2, torch.device("cpu"))
    assert place.shape == (6, 8)
    y, x = 0.75, 1 / 6  # row 1 of 2, column 0 of 3
    rows = [math.cos(math.pi * y), math.cos(2 * math.pi * y), math.sin(math.pi * y), math.sin(2 * math.pi * y)]
    columns = [math.cos(math.pi * x), math.cos(2 * math.pi * x), math.sin(math.pi * x), math.sin(2 * math.pi * x)]
    assert place[3].tolist() == pytest.approx(rows + columns, abs=1e-6)


def test_a_place_is_a_share_of_the_frame():
    small, large = (frame_position(grid, 8, torch.device("cpu")) for grid in ((2, 2), (6, 6)))
    assert torch.allclose(small[0], large[6 + 1], atol=1e-5)  # a quarter from the top and from the left
    assert torch.allclose(small[3], large[4 * 6 + 4], atol=1e-5)


def test_a_model_that_does_not_know_it_yet_goes_on_as_it_was():
    old, new = new_model(), new_model(frame_position=3)
    with torch.no_grad():
        for p in old.parameters():
            p.add_(torch.randn(p.shape) * 0.1)
    new.load_state_dict(grown(old, new))
    x = torch.randn(2, 2, 3, 4, 5)
    assert torch.equal(run(old, x), run(new, x))


def test_left_and_right_are_learned_in_a_frame_without_marks():
    """A target that is +1 left and -1 right; the input says nothing. Distances alone give each token the same view."""
    x = torch.zeros(1, 2, 1, 4, 8)
    target = torch.ones(8).index_fill(0, torch.arange(4, 8), -1.0).expand_as(x)
    left = {}
    for harmonics in (0, 4):
        model = new_model(frame_position=harmonics)
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            optimiser.zero_grad()
            loss = (run(model, x) - target).square().mean()
            loss.backward()
            optimiser.step()
        left[harmonics] = loss.item()
    assert left[4] < 0.1 < 0.9 < left[0]


@pytest.mark.parametrize("value", [-1, 1.5, True, "8"])
def test_other_numbers_are_refused(value):
    with pytest.raises(ConfigError, match="frame_position"):
        dataclasses.replace(CONFIG, frame_position=value)


def test_waves_are_made_once_for_all_steps(monkeypatch):
    from sora_dit.dit_core.transformer import model as module

    made = []
    monkeypatch.setattr(module, "frame_position", lambda *args: made.append(args) or frame_position(*args))
    model = new_model(frame_position=3)
    for _ in range(3):
        run(model, torch.randn(1, 2, 3, 4, 5))
    assert len(made) == 1
    run(model, torch.randn(1, 2, 3, 6, 5))
    assert len(made) == 2
