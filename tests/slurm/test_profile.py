"""Small jobs through profiles/slurm: GPUs, cores and threads, more memory and time with each attempt, arrays."""

import re

import pytest

from mrs_synthesis import job_size

from .conftest import on_slurm

pytestmark = pytest.mark.slurm
FAILS = 1  # a shard of which the first attempt fails
MANY = ["--jobs", "10000", "--max-jobs-per-timespan", "10000/1s"]


def run(root, folder, *arguments, shards=1, fail="none", gpu="gpus", **more):
    """Run toy.smk; return how it ended."""
    defaults = [f"gpu_request={gpu}", "mem_mb=1000", "runtime=30"]
    words = ["--default-resources", *defaults, "--config", f"root={root}", f"shards={shards}", f"fail={fail}"]
    return on_slurm(root, folder, *arguments, *words, snakefile=root / "tests" / "slurm" / "toy.smk", **more)


def answers(folder, done):
    """Return what the jobs of a run wrote down, by file."""
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return {path.stem: path.read_text() for path in folder.glob("*.txt")}


@pytest.fixture(scope="module")
def toy(cluster, root, tmp_path_factory):
    """Two shards, one of which fails once, and jobs on a GPU."""
    folder = tmp_path_factory.mktemp("toy")
    return answers(folder, run(root, folder, shards=2, fail=FAILS))


def test_a_gpu_job_sees_its_gpu_asked_for_by_gpus_and_others_see_none(toy):
    for name in ("train", "fit_0", "fit_1"):
        assert "CUDA_VISIBLE_DEVICES=0" in toy[name], name
        assert "TresPerJob=gres:gpu:1" in toy[name], name
    assert "CUDA_VISIBLE" not in toy["convert_0"]
    assert "gres:gpu" not in toy["convert_0"]


def test_one_key_asks_by_gres_instead(cluster, root, tmp_path):
    files = answers(tmp_path, run(root, tmp_path, gpu="gres"))
    for name in ("train", "fit_0"):
        assert "CUDA_VISIBLE_DEVICES=0" in files[name], name
        assert "TresPerNode=gres:gpu:1" in files[name], name
    assert "gres:gpu" not in files["convert_0"]


def test_a_job_has_its_rules_cores_and_its_libraries_as_many_threads(toy):
    for name, cores in (("convert_0", 2), ("train", 1)):
        assert f"CPUs/Task={cores} " in toy[name]
        for library in ("OMP", "OPENBLAS", "MKL"):
            assert f"{library}_NUM_THREADS={cores}\n" in toy[name], name


def test_memory_and_time_are_what_the_data_need_and_grow_with_each_attempt(toy):
    size = job_size.Size(scans=3, scan_mb=10 * job_size.MB_PER_TRANSIENT, cells=2)
    for attempt in (1, 2):
        mem_mb, minutes = (
            job_size.memory_mb("convert", size, attempt),
            job_size.runtime_minutes("convert", size, attempt),
        )
        own = toy[f"attempt_{FAILS}_{mem_mb}"]
        assert f"mem_mb={mem_mb} runtime={minutes} " in own
        assert f"mem={mem_mb}M," in own  # Slurm's own words
        assert f"TimeLimit={minutes // 60:02d}:{minutes % 60:02d}:00" in own


def test_arrays_of_at_most_the_limit_whose_tasks_do_their_own(cluster, root, tmp_path):
    done = run(root, tmp_path, "--slurm-array-jobs", "convert", "--slurm-array-limit", "2", *MANY, shards=5)
    files = answers(tmp_path, done)
    arrays = {}
    for shard in range(5):
        own = files[f"convert_{shard}"]
        assert f"shard={shard}\n" in own
        arrays.setdefault(re.search(r"SLURM_ARRAY_JOB_ID=(\d+)", own)[1], []).append(shard)
    assert sorted(map(len, arrays.values())) == [1, 2, 2]


def test_arrays_with_few_jobs_at_a_time_are_refused_before_snakemake_waits_for_ever(cluster, root, tmp_path):
    done = run(root, tmp_path, "--slurm-array-jobs", "all", "--jobs", "3", shards=8, seconds=60)
    assert done.returncode == 1
    assert "jobs: 3 with job arrays may wait for ever; leave jobs at 10000 or more" in done.stderr
    assert not list(tmp_path.glob("*.txt"))
