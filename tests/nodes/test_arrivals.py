"""Values that come over links: a node refuses in the run what it refuses when it is typed."""

from __future__ import annotations

import pytest

MANY = 10**15


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"batch_size": -1}, "batch_size is -1; expected 1 to 64."),
        ({"batch_size": MANY}, "batch_size is 1000000000000000; expected 1 to 64."),
        ({"width": 100, "frames": 6}, "width is 100 pixels, but must be a multiple of 8; the nearest are 96 and 104. "
                                      "frames is 6, but must be one more"),
        ({"width": "wide"}, "width is 'wide'; expected a whole number."),
        ({"frames": 4.5}, "frames is 4.5; expected a whole number."),
        ({"width": 4096, "height": 4096, "frames": 4001, "batch_size": 64}, "of memory. Use a smaller size"),
    ],
)  # fmt: skip
def test_sizes(say, parts, changes, sentence):
    assert sentence in say("EmptyLatent", model=parts[0], **changes)


@pytest.mark.parametrize(
    "name, changes, sentence",
    [
        ("TimestepConditioning", {"positive": 0, "steps": MANY}, "steps is 1000000000000000; expected 1 to 1000."),
        ("Denoise", {"conditioning": 0, "latent": 0, "seed": -9}, "seed is -9; expected 0 to 18446744073709551615."),
        ("Denoise", {"conditioning": 0, "latent": 0, "cfg": float("nan")}, "cfg is nan; expected 0 to 30."),
        ("Denoise", {"conditioning": 0, "latent": 0, "sampler": "x"}, "sampler is 'x'; expected one of: "),
        ("TrainingOptions", {"warmup": -1}, "warmup is -1; expected 0 to "),
    ],
)  # fmt: skip
def test_ranges_and_choices(say, parts, name, changes, sentence):
    model = {} if name == "TrainingOptions" else {"model": parts[0]}
    assert say(name, **model, **changes).startswith(sentence)
