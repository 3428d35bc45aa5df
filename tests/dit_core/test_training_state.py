"""What a state on disk belongs to: parameters by name, trainings by kind, and differences in few words."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sora_dit.dit_core.errors import CheckpointError
from sora_dit.dit_core.training.optim import OPTIMISERS, make_optimisers, set_learning_rate
from sora_dit.dit_core.training.state import TrainingState
from torch import nn


class Net(nn.Module):
    """Two layers of one shape, registered in either order."""

    def __init__(self, order: str) -> None:
        super().__init__()
        for name in order:
            self.add_module(name, nn.Linear(12, 12, bias=False))


def trained(folder, order: str, kind: str = "muon") -> tuple[TrainingState, Net, list]:
    torch.manual_seed(0)
    net = Net(order)
    optimisers = make_optimisers({"net": net}, kind, 1e-2, 0.0)
    return TrainingState(folder, {"net": net}, {}, optimisers, {"kind": "denoising"}), net, optimisers


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_what_an_optimiser_remembers_goes_to_the_parameter_of_that_name(tmp_path, kind):
    state, net, optimisers = trained(tmp_path, "ab", kind)
    (net.a.weight.sum() - 3 * net.b.weight.square().sum()).backward()
    for optimiser in optimisers:
        optimiser.step()
    state.save()
    again, other, mine = trained(tmp_path, "ba", kind)
    assert again.load()
    for name in "ab":
        then, now = (
            next(o.state[n.get_submodule(name).weight] for o in group if n.get_submodule(name).weight in o.state)
            for n, group in ((net, optimisers), (other, mine))
        )
        assert then.keys() == now.keys() and len(then) > 0
        for key in then:
            torch.testing.assert_close(now[key], then[key], atol=0, rtol=0)


class Counting(torch.optim.Optimizer):
    """Steps are counted in the group of parameters, a sum of gradients is kept in bfloat16: as a third party might."""

    def __init__(self, parameters, lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "taken": 0, "nesterov": False})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            group["taken"] += 1
            for p in group["params"]:
                total = self.state[p].setdefault("total", torch.zeros_like(p, dtype=torch.bfloat16))
                total += p.grad
                p -= group["lr"] / group["taken"] * total


def test_an_optimiser_that_counts_by_group_and_keeps_another_type_goes_on_bit_for_bit(tmp_path, monkeypatch):
    make = lambda named, lr, weight_decay, dtype: [Counting([p for _, p in named], lr)]  # noqa: E731
    monkeypatch.setitem(OPTIMISERS, "counting", make)

    def steps(net, optimisers, count: int) -> None:
        for _ in range(count):
            net.zero_grad()
            (net.a.weight.square().sum() * 0.37 + net.b.weight.sin().sum()).backward()
            optimisers[0].step()

    _, straight, optimisers = trained(tmp_path / "straight", "ab", "counting")
    steps(straight, optimisers, 6)
    state, net, optimisers = trained(tmp_path / "stopped", "ab", "counting")
    steps(net, optimisers, 3)
    state.save()
    again, net, optimisers = trained(tmp_path / "stopped", "ab", "counting")
    assert again.load() and optimisers[0].param_groups[0]["taken"] == 3
    assert {entry["total"].dtype for entry in optimisers[0].state.values()} == {torch.bfloat16}
    steps(net, optimisers, 3)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), straight.parameters(), strict=True))


def test_what_an_optimiser_remembers_is_never_dropped_in_silence(tmp_path):
    """As for a state of an older version, or one of which a part was renamed."""
    state, net, optimisers = trained(tmp_path, "ab", "adamw")
    net.a.weight.sum().backward()
    optimisers[0].step()
    state.save()
    tensors, metadata = load_file(state.path), {}
    with safe_open(state.path, "pt") as file:
        metadata = file.metadata()
    save_file({key.replace(":", "."): value for key, value in tensors.items()}, state.path, metadata)
    again, *_ = trained(tmp_path, "ab", "adamw")
    with pytest.raises(CheckpointError, match="optimiser state of parameters that this training does not have"):
        again.load()


def test_an_optimiser_is_added_by_a_function(monkeypatch):
    plain = lambda named, lr, weight_decay, dtype: [torch.optim.SGD([p for _, p in named], lr=lr)]  # noqa: E731
    monkeypatch.setitem(OPTIMISERS, "sgd", plain)
    net = Net("ab")
    (optimiser,) = make_optimisers({"net": net}, "sgd", 0.5, 0.0)
    for factor in (0.1, 0.5, 1.0):  # always of the rate it was made with
        set_learning_rate([optimiser], factor)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.5 * factor)


def refused(tmp_path, saved: dict, now: dict) -> str:
    net = Net("a")
    TrainingState(tmp_path, {"net": net}, {}, [], saved).save()
    with pytest.raises(CheckpointError) as error:
        TrainingState(tmp_path, {"net": net}, {}, [], now).load()
    return str(error.value)


def test_another_kind_of_training_is_named_and_nothing_else(tmp_path):
    said = refused(tmp_path, {"kind": "LoRA", "batch": 4, "rank": 8}, {"kind": "autoencoder", "batch": 2})
    assert "It is the training of a LoRA, this is one of an autoencoder." in said and "batch" not in said


def test_many_differences_are_counted(tmp_path):
    then, now = ({f"s{i}": i + offset for i in range(9)} for offset in (0, 1))
    said = refused(tmp_path, {"kind": "LoRA"} | then, {"kind": "LoRA"} | now)
    assert "s5 was 5 and is 6. 3 more differ." in said and "s6" not in said


def test_a_state_that_moves_to_another_machine_remembers_the_number_type_it_has_there(tmp_path):
    there = trained(tmp_path, "ab")[0]
    there.position |= {"step": 7, "precision": {"device": "cuda", "type": "bfloat16"}}
    there.save()
    here = trained(tmp_path, "ab")[0]
    here.position |= {"precision": {"device": "cpu", "type": "float32"}}
    here.load()
    assert here.position["step"] == 7 and here.position["precision"] == {"device": "cpu", "type": "float32"}
