"""The checkpoint of a training: equal ones have equal bytes, and one that is not as it was written is ignored."""

import numpy as np
import pytest
import safetensors.torch
import torch

from mrs_synthesis import checkpoint


def state(seed=1):
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimiser.step()
    return model, optimiser, torch.Generator().manual_seed(seed)


def spoil_checkpoint(folder, change, vouched):
    path = folder / checkpoint.NAME
    with safetensors.safe_open(path, "pt") as stream:
        tensors, told = {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata()  # noqa: SIM118
    tensors, told = change(tensors, dict(zip(("sha256", "state"), told["state"].split("\n"), strict=True)))
    if vouched:
        told["sha256"] = checkpoint.digest_of(told["state"], tensors)
    path.write_bytes(safetensors.torch.save(tensors, {"state": "\n".join(told.values())}))


UNVOUCHED = "its SHA-256 is not that of its content"
CHECKPOINTS = {
    "a changed number": (lambda t, m: (t | {"model.bias": t["model.bias"] + 1}, m), False, UNVOUCHED),
    "another state": (lambda t, m: (t, m | {"state": m["state"].replace("11", "12")}), False, UNVOUCHED),
    "no digest": (
        lambda t, m: (t, {"state": m["state"]}),
        False,
        "not enough values to unpack (expected 2, got 1)",
    ),
    "no object": (lambda t, m: (t, m | {"state": "[]"}), False, "list indices must be integers or slices, not str"),
    "no weights": (
        lambda t, m: ({k: v for k, v in t.items() if k != "model.bias"}, m),
        True,
        "model: other tensors than the model's",
    ),
    "another shape": (
        lambda t, m: (t | {"best.weight": t["best.weight"][:1].clone()}, m),
        True,
        "best: other tensors than the model's",
    ),
    "another parameter's moments": (
        lambda t, m: (t | {"optimiser.0.exp_avg": torch.ones(5)}, m),
        True,
        "optimiser.0.exp_avg: shape (5,) is not its parameter's",
    ),
    "NaN": (
        lambda t, m: (t | {"optimiser.0.exp_avg": t["optimiser.0.exp_avg"] * np.nan}, m),
        True,
        "optimiser.0.exp_avg: numbers that are not finite",
    ),
}


def test_equal_checkpoints_have_equal_bytes(tmp_path):
    model, optimiser, noise = state()
    found = set()
    for _ in range(10):
        checkpoint.write_checkpoint(tmp_path, {"epoch": 1}, model, model.state_dict(), optimiser, noise)
        found.add((tmp_path / checkpoint.NAME).read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_a_checkpoint_that_is_not_what_was_written_is_ignored(tmp_path, capsys, damage):
    fingerprint = {"data": "d"}
    model, optimiser, noise = state()
    best = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint.write_checkpoint(tmp_path, {"fingerprint": fingerprint, "epoch": 11}, model, best, optimiser, noise)
    other, own, random = state(2)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    change, vouched, found = CHECKPOINTS[damage]
    spoil_checkpoint(tmp_path, change, vouched)
    assert checkpoint.read_checkpoint(tmp_path, fingerprint, other, own, random) is None
    path = tmp_path / checkpoint.NAME
    assert capsys.readouterr().out == f"ignored an unreadable checkpoint ({found}): {path}\n"
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())

    checkpoint.write_checkpoint(tmp_path, {"fingerprint": fingerprint, "epoch": 11}, model, best, optimiser, noise)
    again, _ = checkpoint.read_checkpoint(tmp_path, fingerprint, other, own, random)
    assert again["epoch"] == 11 and torch.equal(other.weight, model.weight)
