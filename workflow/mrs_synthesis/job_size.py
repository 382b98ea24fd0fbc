"""What a job asks of a cluster: time and memory from the size of what it works on, and a GPU where one is wanted.

Too little ends a job, which is tried again with more; too much only keeps it waiting. So the numbers are measured ones,
made larger by `MARGIN`.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mrs_synthesis.stage import InputError

MARGIN = {"memory": 1.5, "time": 4.0}  # nodes differ in speed and share their disks
LEAST_MB, LEAST_MINUTES = 500, 10
STEP_MB = 100
MB_PER_TRANSIENT = 0.14  # of a phantom's scan, whose raw files are not there yet: 2 conditions, 8 coils
EPOCHS = 40  # that the time of `train_vae` is for
USUAL_MB = 50.0  # a scan whose raw files are not there


@dataclass(frozen=True)
class Size:
    """What a job works on.

    Attributes
    ----------
    scans
        Scans that it goes through.
    scan_mb
        Raw data of the largest scan, in MB.
    cells
        Study cells of a scan, each of which is averaged and fitted.
    """

    scans: int
    scan_mb: float
    cells: int


@dataclass(frozen=True)
class Need:
    """What jobs of one kind take on one core.

    Attributes
    ----------
    memory_mb, per_scan_mb, per_mb
        Memory in MB: at any rate; for each scan that the job goes through; for each MB of a scan.
    seconds, per_scan, per_raw_mb, per_cell
        Time in s: at any rate; for each scan; for each scan and MB of it; for each scan and cell of it.
    """

    memory_mb: float
    per_scan_mb: float
    per_mb: float
    seconds: float
    per_scan: float
    per_raw_mb: float
    per_cell: float


# CPU time and largest resident memory by the `benchmark:` files of the demo (16 scans of 3 to 11 MB, 66 cells each) and
# of a study of 160 such scans with 208 cells each. Shards go scan by scan: their memory does not grow with the scans.
# Nor does that of steps over the whole data set, but for tables of a row per scan: 100 to 393 MB for 100 to 1,000 small
# scans (`tests/benchmarks/bench_scale.py`).
NEEDS = {
    #                         memory: any, scan,  MB    time: any, scan,   MB, cell
    "phantom": Need(                   60,    0,  13,           1,  0.5,    0,    0),
    "convert": Need(                  150,    0,  10,           2,  0.5, 0.15,    0),
    "preprocess": Need(               150,    0,  12,           2,    1,  0.4,    0),
    "synthesise": Need(               200,    0,  20,           2,    0,    0, 0.05),
    "augment": Need(                  180,    0,  12,           2,    0,    0, 0.06),
    "cells": Need(                    200,    0,  20,           3,    0,    0, 0.11),  # both of them
    "quantify": Need(                 550,    0,   0,           4,    0,    0, 0.08),
    "quantify_fsl": Need(            3000,    0,   0,          10,    0,    0,  0.5),  # on 8 cores
    # A step over the whole data set that reads scan by scan: tables, training set, page
    "table": Need(                    300,  0.2,   0,          20,  0.5,    0,    0),
    # Synthetic spectra against real ones, of all scans
    "compare": Need(                 1000,  0.2,   0,          60,    4,    0,    0),
    # The model of subjects, and EPOCHS of the VAE
    "train": Need(                    500,  0.1,   0,          60,    1,    0,    0),
    "train_vae": Need(                600,  0.1,   0,          60,    4,    0,    0),
}  # fmt: skip
SHARDED = ("phantom", "convert", "preprocess", "synthesise", "augment", "cells", "quantify", "quantify_fsl")


def memory_mb(kind: str, size: Size, attempt: int = 1) -> int:
    """Return the memory in MB that a job asks for; each further attempt asks for once more of it."""
    need = NEEDS[kind]
    taken = need.memory_mb + need.per_scan_mb * size.scans + need.per_mb * size.scan_mb
    return attempt * max(LEAST_MB, STEP_MB * math.ceil(MARGIN["memory"] * taken / STEP_MB))


def runtime_minutes(kind: str, size: Size, attempt: int = 1) -> int:
    """Return the time in minutes after which a job may be ended; each further attempt has once more of it."""
    need = NEEDS[kind]
    per_scan = need.per_scan + need.per_raw_mb * size.scan_mb + need.per_cell * size.cells
    return attempt * max(LEAST_MINUTES, math.ceil(MARGIN["time"] * (need.seconds + size.scans * per_scan) / 60))


def largest_mb(scans: Iterable[Iterable[str]]) -> float:
    """Return the size in MB of the scan with most raw data, each given by its files or folders; 0 if none is there."""
    return max((sum(map(_bytes, files)) for files in scans), default=0) / 1e6


def _bytes(file: str) -> int:
    path = Path(file)
    try:
        about = path.stat()  # once: a shared disk takes its time, and a study has thousands of files
        if stat.S_ISDIR(about.st_mode):
            return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        return about.st_size
    except OSError:  # missing or not to be read: the stage that needs it tells
        return 0


def gpu(request: str, number: int = 1) -> dict[str, int | str]:
    """Return the resources by which Snakemake's Slurm executor asks for GPUs.

    Parameters
    ----------
    request
        ``gpus`` (``sbatch --gpus=1``) or ``gres`` (``sbatch --gres=gpu:1``), and a GPU's type behind a colon if one is
        wanted: ``gres:a100``.
    number
        How many.

    Raises
    ------
    InputError
        If the request is none of these.
    """
    match = re.fullmatch(r"(gpus|gres)(?::([A-Za-z0-9_.]+))?", request)
    if match is None:
        raise InputError(
            f"gpu_request: found {request!r}, expected gpus or gres, with a type as in gres:a100; correct the profile"
        )
    how, model = match.groups()
    if how == "gres":
        return {"gres": ":".join(filter(None, ("gpu", model, str(number))))}
    return {"gpu": number} | ({"gpu_model": model} if model else {})
