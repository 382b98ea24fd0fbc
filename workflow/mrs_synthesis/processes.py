"""Train on several processes at once, one per GPU or CPU core; each does a part of every batch.

    python -m mrs_synthesis.processes --number 2 mrs_synthesis.train --training ... --output ...

is ``torchrun --standalone --nproc-per-node 2 -m mrs_synthesis.train ...``, which does as well, but ends in one line if
a process fails. The processes find each other by the variables that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK);
without them a process is alone.

The loss is that of the whole batch, not a mean of the processes' losses: sums over spectra are summed over the
processes before anything else is computed from them, so that the result is that of one process up to rounding.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mrs_synthesis.stage import InputError, run

if TYPE_CHECKING:
    import torch

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
REPORTED = "mrs_synthesis/errors"  # counter in torchrun's store: the first process that fails says why
LOST = 75  # exit status of a process that lost its connection to another one


class OtherProcessError(SystemExit):
    """Another process failed, and says why."""


@dataclass(frozen=True)
class Group:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes (and prints: `group` silences the others)."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Return this process's part of a batch of `n`; the parts differ by at most one and may be empty."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean over all elements of `values` in all processes, the same number in each of them.

        Its gradient is `size` times that with respect to this process's own values, so that the mean over processes of
        gradients of any function of such means (see `average_gradients`) is the gradient of that function.
        """
        if self.size == 1:
            return values.mean()
        import torch

        own = values.sum()
        both = torch.stack([own.detach().double(), own.new_tensor(values.numel(), dtype=torch.float64)])
        total, number = self._sum(both)
        return (total / number).to(values.dtype) + (own - own.detach()) * (self.size / number).to(values.dtype)

    def average_gradients(self, model: torch.nn.Module) -> None:
        """Replace the gradients of all parameters by their mean over the processes."""
        if self.size == 1:
            return
        import torch

        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = self._sum(torch.cat([g.flatten() for g in gradients])) / self.size
        for p, new in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = new.view_as(p)

    def agree(self, number: int, device: str) -> bool:
        """Tell whether `number` is the same in all processes."""
        if self.size == 1:
            return True
        import torch

        sums = self._sum(torch.tensor([number, number**2], dtype=torch.float64, device=device))
        return bool(sums[1] * self.size == sums[0] ** 2)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        import torch.distributed as dist

        try:
            dist.all_reduce(values)
        except RuntimeError as error:
            if dist.get_backend() != "gloo":
                raise
            time.sleep(1.0)  # a connection was closed: let the process that failed be the first to end
            raise OtherProcessError(LOST) from error
        return values


ALONE = Group()


@contextmanager
def group(device: str) -> Iterator[tuple[Group, str]]:
    """Join the processes that torchrun started, if any; yield the group and the device, ``cpu`` or ``cuda``.

    Once in a process: the names under which processes meet are not used again.

    Parameters
    ----------
    device
        ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``. Processes exchange by gloo or nccl; with ``cuda`` each
        takes the GPU of its LOCAL_RANK.

    Raises
    ------
    InputError
        If there is no GPU (for each process), or torchrun's variables are incomplete. Of errors of several processes
        one is raised, the other processes end without a word.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; use --device cpu or auto")
    found = [os.environ.get(name, "") for name in VARIABLES]
    if found[1] in ("", "1"):
        yield ALONE, device
        return
    if not all(text.isdigit() for text in found):
        raise InputError(f"{', '.join(VARIABLES)} are {found}, expected three numbers; start with torchrun")
    import torch.distributed as dist

    rank, size, local = map(int, found)
    if device == "cuda":
        if (gpus := torch.cuda.device_count()) <= local:
            if local == gpus:  # one line for all processes that lack one
                raise InputError(f"process {local + 1} has no GPU of its own, {gpus} found; lower train: processes")
            raise OtherProcessError(1)
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", rank=rank, world_size=size)
    try:
        members = Group(rank, size)
        members.agree(0, device)  # none may fail before all are connected
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere) if rank else nullcontext():
            yield members, device
    except InputError as error:
        if dist.distributed_c10d._get_default_store().add(REPORTED, 1) == 1:
            raise
        raise OtherProcessError(1) from error
    finally:
        dist.destroy_process_group()


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.processes",
        description="Run a module on several processes of this machine. One fails: all end, in one line.",
    )
    parser.add_argument("--number", type=int, required=True, help="of processes: at most one per GPU or core")
    parser.add_argument("module", help="mrs_synthesis.train")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the module")
    a = parser.parse_args(argv)
    if a.number < 1:
        raise InputError(f"--number {a.number}: expected at least 1")
    # The job's cores are shared out; Snakemake states them all in this variable
    cores = os.environ.get("OMP_NUM_THREADS", "")
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(cores) // a.number) if cores.isdigit() else 1)
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.ERROR)
    words: list[Any] = ["--standalone", "--nproc-per-node", str(a.number), "--module", a.module, *a.arguments]
    try:
        torchrun.main(words)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if 0 < failure.exitcode != LOST:  # it has said why itself
            sys.exit(failure.exitcode)
        how = "lost the others" if failure.exitcode == LOST else f"was ended by {failure.signal_name()}"
        raise InputError(
            f"process {rank + 1} of {a.number} {how} (out of memory?), so all were ended; run again to go on from the "
            "checkpoint"
        ) from None


if __name__ == "__main__":
    run(main)
