"""A model that goes on with more blocks: it computes what it did, and the new blocks learn."""

import dataclasses

import pytest
import torch
from sora_dit.dit_core.errors import ConfigError
from sora_dit.dit_core.training.starter.transformer import grown
from sora_dit.dit_core.transformer import TransformerConfig, VideoDiT

CONFIG = TransformerConfig(width=24, depth=2, heads=2, ff_width=32, in_channels=2, text_width=4, patch=(1, 1, 1))
KINDS = [
    pytest.param({"modulation": "shared", "text": "both", "cross_norm": True, "text_projection": False}, id="shared"),
    pytest.param({"modulation": "per_block", "text": "both"}, id="per block"),
    pytest.param({"modulation": "per_block", "text": "pooled"}, id="no text attention"),
]


def build(seed: int, **changes) -> VideoDiT:
    torch.manual_seed(seed)
    return VideoDiT(dataclasses.replace(CONFIG, **changes)).eval()


def trained(**changes) -> VideoDiT:
    """Every weight has been moved: no block is the identity any more."""
    model = build(0, **changes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)
    return model


def run(model: VideoDiT) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    x, text, pooled = (torch.randn(*s, generator=generator) for s in ((2, 2, 3, 4, 5), (2, 3, 4), (2, 4)))
    return model(x, torch.tensor([300.0, 900.0]), text, torch.ones(2, 3, dtype=torch.bool), pooled)


@pytest.mark.parametrize("depth", [3, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_more_blocks_change_nothing_at_first_and_learn_then(kind, depth):
    old, new = trained(**kind), build(3, **kind, depth=depth)
    new.load_state_dict(grown(old, new))
    assert torch.allclose(run(old), run(new), atol=1e-5)
    (run(new) - 1).square().mean().backward()
    learns = {name.split(".")[1] for name, p in new.named_parameters()
              if name.startswith("blocks.") and p.grad is not None and p.grad.abs().max() > 0}  # fmt: skip
    rows = (
        new.block_table.grad
        if kind["modulation"] == "shared"
        else new.modulation.bias.grad[: -2 * 24].view(depth, 6, 24)
    )
    assert learns | {str(k) for k, row in enumerate(rows) if row.abs().max() > 0} == {str(k) for k in range(depth)}


def test_the_blocks_it_had_stand_evenly_among_the_new_ones():
    old, new = trained(), build(3, depth=6)
    weights, had = grown(old, new), old.state_dict()
    name = "blocks.{}.feed_forward.inner.weight"
    stays = [k for k in range(6) if any(torch.equal(weights[name.format(k)], had[name.format(b)]) for b in range(2))]
    assert stays == [1, 4]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"depth": 1}, "block"), ({"width": 32, "depth": 3}, "block_table"), ({"ff_width": 48}, "feed_forward")],
)
def test_what_cannot_be_grown_is_said(changes, words):
    with pytest.raises(ConfigError, match=f"--start: .*{words}.*; the wanted transformer has"):
        grown(trained(), build(3, **changes))
