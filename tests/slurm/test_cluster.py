"""The one-node Slurm itself: a job is killed, the node is lost and comes back."""

import subprocess
import time

import pytest

from .cluster import Cluster

pytestmark = pytest.mark.slurm


def submit(folder) -> str:
    """Submit a job that sleeps; return its id when it runs."""
    call = ["sbatch", "--parsable", "--output", "/dev/null", "--chdir", str(folder), "--wrap", "sleep 600"]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_killed_job_leaves_no_process(cluster: Cluster, tmp_path):
    job = submit(tmp_path)
    wait_for(lambda: job in cluster.jobs("RUNNING") and len(cluster.processes()) >= 2)
    cluster.kill_job(job)
    wait_for(lambda: not cluster.processes())
    assert job not in cluster.jobs("RUNNING", "PENDING")
    assert job in cluster.jobs()


def test_lost_node_takes_its_jobs_along_and_comes_back(cluster: Cluster, tmp_path):
    job = submit(tmp_path)
    wait_for(lambda: job in cluster.jobs("RUNNING") and len(cluster.processes()) >= 2)
    try:
        cluster.stop_node()
        assert not cluster.processes()
    finally:
        cluster.start_node()
    wait_for(lambda: job not in cluster.jobs("RUNNING") or cluster.processes())  # Slurm starts it again, or gives it up
    cluster.kill_job(job)
    again = submit(tmp_path)
    wait_for(lambda: again in cluster.jobs("RUNNING"))
    cluster.kill_job(again)


def test_why_there_is_no_cluster_is_said(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None if name in ("munged", "sbatch") else f"/bin/{name}")
    assert Cluster.absent() == "needs Debian's slurm-wlm and munge; absent: munged, sbatch"
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert Cluster.absent() == "needs root, to start Slurm's daemons"
