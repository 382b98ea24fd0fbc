"""On a one-node Slurm: jobs killed, a node lost, Snakemake killed; the study ends as if nothing had happened."""

import os
import random
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from slurm.cluster import Cluster
from slurm.conftest import HERE
from workflow.conftest import Study, sheet_rows

from .killing import LEAVES, LONGEST, ROOT, Killing, Run, config_of, hidden, processes, stage_of

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
WHERE = ["--workflow-profile", str(ROOT / "profiles" / "slurm"), *HERE]
TARGET = "results/tiny/tables/concentrations.tsv"


@pytest.fixture
def cluster(tmp_path_factory, monkeypatch):
    if reason := Cluster.absent():
        pytest.skip(reason)
    for name in [name for name in os.environ if name.endswith("_NUM_THREADS")]:
        monkeypatch.delenv(name)
    with Cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def running(cluster):
    """Return the Slurm job of each stage that runs now."""
    found, inside = {}, set(cluster.processes())
    for pid, (_, words) in processes().items():
        if pid in inside and (stage := stage_of(words)):
            with suppress(OSError):  # it has ended
                variables = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
                found[stage] = dict(one.partition("=")[::2] for one in variables)["SLURM_JOB_ID"]
    return found


def until(cluster, run, stage):
    """Wait for a stage; return its Slurm job."""
    end = time.monotonic() + LONGEST
    while stage not in (jobs := running(cluster)):
        assert not run.ended() and time.monotonic() < end, run.log.read_text()[-5000:]
        time.sleep(0.05)
    return jobs[stage]


def made_again(log):
    """Return the jobs that were submitted after Snakemake had said that they are finished."""
    ended, again = set(), []
    for what, job in re.findall(r"^(Finished jobid:|Job) (\d+)(?: \(Rule| has been submitted)", log, re.MULTILINE):
        if what == "Job" and job in ended:
            again.append(job)
        elif what != "Job":
            ended.add(job)
    assert ended
    return again


def test_a_killed_job_a_lost_node_and_a_killed_snakemake_change_nothing(cluster, tmp_path, expected):
    study = Study(ROOT, tmp_path)
    study.write(config_of("subject"), sheet_rows())
    watched = Killing(study, expected, None, here=False)

    run = Run(study, TARGET, where=WHERE)
    try:
        cluster.kill_job(until(cluster, run, "phantom"))
        watched.look("after a job was killed")
        until(cluster, run, "convert")
        cluster.stop_node()
        watched.look("after the node was lost")
        time.sleep(2 * cluster.node_timeout)
        cluster.start_node()
        until(cluster, run, "synthesise")
        run.process.kill()
        run.process.wait()
        watched.look("after Snakemake was killed")
        assert Run(study, "--unlock").process.wait(LONGEST) == 0
        run = Run(study, TARGET, where=WHERE)  # while Slurm still has the jobs of the first
        cluster.kill_job(until(cluster, run, "quantify"))
        assert run.process.wait(LONGEST) == 0, run.log.read_text()[-5000:]
    finally:
        run.end()
    watched.look("at the end")
    assert watched.faults == []
    assert made_again(run.log.read_text()) == []
    assert hidden(study.results) == []
    assert (study.folder / TARGET).read_bytes() == expected["tables/concentrations.tsv"]


def test_one_job_of_each_stage_is_killed_and_its_next_try_makes_the_same(cluster, tmp_path, expected):
    study = Study(ROOT, tmp_path)
    study.write(config_of("subject"), sheet_rows())
    watched, rng, killed = Killing(study, expected, None, here=False), random.Random(4), {}
    run, end = Run(study, where=WHERE), time.monotonic() + 4 * LONGEST
    try:
        while not run.ended():
            assert time.monotonic() < end, run.log.read_text()[-5000:]
            time.sleep(rng.uniform(0, 0.5))
            if left := {stage: job for stage, job in running(cluster).items() if stage not in killed}:
                stage = rng.choice(sorted(left))
                cluster.kill_job(left[stage])
                killed[stage] = left[stage]
                watched.look(f"after a job of {stage} was killed")
        assert run.process.wait() == 0, run.log.read_text()[-5000:]
    finally:
        run.end()
    watched.compare()
    assert watched.faults == []
    assert made_again(run.log.read_text()) == []
    assert killed.keys() >= LEAVES.keys(), f"killed: {killed}"
    assert run.log.read_text().count("Trying to restart job") >= len(LEAVES)
