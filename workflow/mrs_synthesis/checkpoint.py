"""The whole state of a training run in one file, so that a run killed at any moment goes on as if undisturbed."""

from __future__ import annotations

import json
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

    One file, renamed when complete: a kill leaves the previous checkpoint or the new one.
    """
    from safetensors.torch import save_file

    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in values.items()}
    tensors["noise"] = noise.get_state()
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with write_whole(Path(folder) / NAME) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(state, sort_keys=True)})


def read_checkpoint(
    folder: Path,
    fingerprint: dict[str, Any],
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    noise: torch.Generator,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """Put a checkpoint's state into model, optimiser and generator; return its `state` and the best weights.

    None, with a message, if the file is unreadable or its ``state["fingerprint"]`` (options and data) is another one;
    None if there is no file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as stream:
            state = json.loads(stream.metadata()["state"])
            found = state["fingerprint"]
            if found != fingerprint:
                differing = sorted(k for k in found.keys() | fingerprint.keys() if found.get(k) != fingerprint.get(k))
                print(f"ignored the checkpoint of another run (other {', '.join(differing)}): {path}", flush=True)
                return None
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
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
