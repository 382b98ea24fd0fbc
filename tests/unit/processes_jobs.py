"""What the tests of `processes` run on every process: `python -m mrs_synthesis.processes ... processes_jobs FOLDER`."""

import itertools
import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from mrs_synthesis import checkpoint, processes, train, vae_training
from mrs_synthesis.stage import InputError, run

SMALL = (
    "--model",
    "paper",
    "--latent-size",
    "4",
    "--channels",
    "8",
    "8",
    "--batch-size",
    "33",
    "--device",
    "cpu",
    "--seed",
    "3",
)
JOBS = {  # 33 leaves a last batch of 1 of the 100 validation rows: nothing for one of two processes
    "analytic": ("--epochs", "4", "--checkpoint-seconds", "0"),
    "known": ("--epochs", "2", "--likelihood", "known"),
}


def command(folder, name, training="training"):
    return ["--training", str(folder / training), "--output", str(folder / name), *SMALL, *JOBS[name]]


def meet_anew():
    """Let these processes form one group after the other, which torchrun's store is not made for."""
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    join, numbers = dist.init_process_group, itertools.count()
    dist.init_process_group = lambda *words, **more: join(
        *words, **more, store=dist.PrefixStore(f"group {next(numbers)}", store)
    )


def attempt(folder, training):
    """Return what ends a training that cannot succeed, as this process sees it."""
    try:
        train.main([*command(folder, "analytic", training), "--output", str(folder / "failed")])
    except InputError as error:
        return f"InputError: {error}"
    except processes.OtherProcessError as error:
        return f"OtherProcessError {error.code}"


def fail(folder, rank):
    """Fail in all processes at once, and in the second alone, while the first is training."""
    found = {"all": attempt(folder, "incomplete")}
    epoch = vae_training._epoch

    def fails(*arguments):
        if rank == 1 and arguments[7] is None:
            raise InputError("the second process cannot go on")
        return epoch(*arguments)

    vae_training._epoch = fails
    found["one"] = attempt(folder, "training")
    vae_training._epoch = epoch
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


def be_killed(folder, rank):
    """End the second process in the third epoch as the kernel does if memory is short."""
    epoch, write, calls = vae_training._epoch, checkpoint.write_checkpoint, []

    def ends(*arguments):
        calls.append(1)
        if rank == 1 and len(calls) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return epoch(*arguments)

    def noted(where, *more):
        write(where, *more)
        (folder / f"written-{rank}").touch()

    vae_training._epoch, checkpoint.write_checkpoint = ends, noted
    train.main([*command(folder, "analytic"), "--output", str(folder / "killed")])


def main(_):
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    meet_anew()
    for name in JOBS:
        train.main(command(folder, name))
    fail(folder, rank)
    be_killed(folder, rank)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(main)
