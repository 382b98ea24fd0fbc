"""The whole state of a training run in one file, so that a run killed at any moment goes on as if undisturbed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mrs_synthesis.files import write_whole

NAME = "state.safetensors"


def write_checkpoint(
    folder: Path,
    state: dict[str, Any],
    model: torch.nn.Module,
    best: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    noise: torch.Generator,
) -> None:
    """Write weights, best weights so far, optimiser and random state; `state` (JSON) goes into the file's header.

    One file, renamed when complete: a kill leaves the previous checkpoint or the new one. Equal content gives equal
    bytes.
    """
    from safetensors.torch import save_file

    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in values.items()}
    tensors["noise"] = noise.get_state()
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps(state, sort_keys=True)
    with write_whole(Path(folder) / NAME) as temporary:
        # One entry: safetensors writes several in an order that differs from call to call
        save_file(tensors, temporary, metadata={"state": f"{digest_of(text, tensors)}\n{text}"})


def digest_of(text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a state and of names, types, shapes and bytes of tensors on the CPU."""
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.contiguous().numpy())
    return digest.hexdigest()


def _check(tensors: Mapping[str, torch.Tensor], model: torch.nn.Module) -> None:
    """Check names, types, shapes and values of a checkpoint's tensors against a model; ValueError if they differ."""
    own = {name: (value.dtype, value.shape) for name, value in model.state_dict().items()}
    moments = dict(enumerate(value.shape for value in model.parameters()))
    for prefix in ("model.", "best."):
        found = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
        if {name: (value.dtype, value.shape) for name, value in found.items()} != own:
            raise ValueError(f"{prefix[:-1]}: other tensors than the model's")
    for name, value in tensors.items():
        kind, *where = name.split(".", 2)
        if kind == "optimiser" and value.numel() > 1 and value.shape != moments.get(int(where[0])):
            raise ValueError(f"{name}: shape {tuple(value.shape)} is not its parameter's")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name}: numbers that are not finite")


def read_checkpoint(
    folder: Path,
    fingerprint: dict[str, Any],
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    noise: torch.Generator,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """Put a checkpoint's state into model, optimiser and generator; return its `state` and the best weights.

    None, with a message, if the file is unreadable or not as it was written, or its ``state["fingerprint"]`` (options
    and data) is another one; None if there is no file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as stream:
            digest, text = stream.metadata()["state"].split("\n", 1)
            state = json.loads(text)
            found = state["fingerprint"]
            if found != fingerprint:
                differing = sorted(k for k in found.keys() | fingerprint.keys() if found.get(k) != fingerprint.get(k))
                print(f"ignored the checkpoint of another run (other {', '.join(differing)}): {path}", flush=True)
                return None
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        if digest_of(text, tensors) != digest:
            raise ValueError("its SHA-256 is not that of its content")
        _check(tensors, model)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        print(f"ignored an unreadable checkpoint ({error}): {path}", flush=True)
        return None

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    model.load_state_dict(part("model."))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in part("optimiser.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    noise.set_state(tensors["noise"])
    return state, part("best.")
