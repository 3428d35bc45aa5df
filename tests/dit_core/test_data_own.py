"""A data set of somebody's own: what it hands out is looked at where it comes in, and told by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sora_dit.dit_core.data import Bucket, Fingerprint, TrainingClips, captions_of, clip_of
from sora_dit.dit_core.errors import DataError


class Own(TrainingClips):
    """Two clips, whose pixels and captions are handed in."""

    def __init__(self, pixels=None, captions=("a grey clip",)) -> None:
        self.pixels, self.words = pixels, captions

    def __len__(self):
        return 2

    def bucket(self, index):
        return Bucket(5, 16, 24)

    def captions(self, index):
        return self.words

    def clip(self, index):
        return self.pixels

    def fingerprint(self):
        return Fingerprint("greys", {}, {})


GOOD = torch.linspace(-1, 1, 3 * 5 * 16 * 24).reshape(3, 5, 16, 24)


@pytest.mark.parametrize(("pixels", "got"), [
    (((GOOD + 1) * 127).to(torch.uint8), r"got uint8 of shape \[3, 5, 16, 24\]"),
    (GOOD.half(), "got float16"),
    (GOOD.movedim(0, -1), r"got float32 of shape \[5, 16, 24, 3\]"),
    (GOOD[:, :4], r"got float32 of shape \[3, 4, 16, 24\]"),
    (GOOD * 127.5 + 127.5, "got numbers from 0 to 255"),
    (GOOD * torch.nan, r"got numbers that are none \(NaN\)"),
    (GOOD.where(GOOD < 0.99, torch.inf), "got numbers from -1 to inf"),
    (GOOD.numpy(), "got ndarray"),
])  # fmt: skip
def test_a_clip_that_no_training_could_use_is_told_by_name(pixels, got):
    with pytest.raises(DataError, match=rf"Own.clip\(1\), clip 1: {got}.*expected a float32 tensor") as error:
        clip_of(Own(pixels), 1)
    assert r"[3, 5, 16, 24], as bucket(1) says, with numbers in -1..1" in str(error.value)


def test_a_good_clip_is_handed_on_as_it_is():
    assert clip_of(Own(GOOD), 0) is GOOD
    assert clip_of(Own(GOOD * (1 + 1e-6)), 0).amax() > 1  # rounding


@pytest.mark.parametrize("captions", ["one text", (), (None,), ("a", np.str_), {"a": 1}])
def test_captions_that_are_none_are_told_by_name(captions):
    with pytest.raises(DataError, match=r"Own.captions\(0\), clip 0: got .*expected a tuple of at least one text"):
        captions_of(Own(GOOD, captions), 0)


def test_a_method_that_was_forgotten_is_named():
    class Half(TrainingClips):
        def __len__(self):
            return 1

    with pytest.raises(TypeError, match="bucket.*captions.*clip.*fingerprint"):
        Half()


@pytest.mark.parametrize(("made", "said"), [
    (lambda: Fingerprint("greys", {"seed": 3}, {}), r"rules\['seed'\] = 3; expected texts only, so str\(3\)"),
    (lambda: Fingerprint("greys", {}, {"a.mp4": {"content": 1.5}}), r"files\['a.mp4'\]\['content'\] = 1.5"),
    (lambda: Fingerprint(None, {}, {}), "kind = None; expected a text"),
])  # fmt: skip
def test_a_fingerprint_is_of_texts(made, said):
    with pytest.raises(DataError, match=said):
        made()
