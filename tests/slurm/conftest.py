"""A one-node Slurm for the tests in this folder, and how Snakemake is called on it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Cluster

# This cluster keeps no accounts, answers within seconds, and shares its disk with nobody
HERE = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "4", "--latency-wait", "10"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A running one-node Slurm with a GPU that is none; stopped in the end."""
    if reason := Cluster.absent():
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def on_slurm(
    root: Path, folder: Path, *arguments: str, snakefile: Path | None = None, seconds: int = 600
) -> subprocess.CompletedProcess:
    """Run Snakemake in `folder` through profiles/slurm, with what is particular to this cluster."""
    call = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile or root / "Snakefile")]
    call += ["--workflow-profile", str(root / "profiles" / "slurm"), *HERE, *arguments]
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    return subprocess.run(
        call, cwd=folder, env=environment | {"PATH": paths}, capture_output=True, text=True, timeout=seconds
    )
