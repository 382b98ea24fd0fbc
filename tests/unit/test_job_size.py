"""What a job asks for: it covers what was measured, grows with the data and with each attempt, and names GPUs."""

import pytest

from mrs_synthesis import job_size
from mrs_synthesis.job_size import Need, Size
from mrs_synthesis.stage import InputError

# Measured: CPU seconds, largest memory in MB; of one scan of 10.6 MB (the demo) and of a whole study
ONE_SCAN = {
    ("phantom", 66): (0.5, 206),
    ("convert", 66): (3.0, 244),
    ("preprocess", 66): (6.3, 257),
    ("synthesise", 208): (9.3, 389),
    ("augment", 208): (11.9, 293),
    ("quantify", 66): (7.7, 525),
    ("quantify", 208): (15.3, 544),
}
STUDY_OF_160 = {"table": (33.7, 418), "train": (14.6, 638), "train_vae": (400.0, 439), "compare": (464.4, 905)}


@pytest.mark.parametrize(("kind", "cells"), ONE_SCAN)
def test_a_shards_request_covers_what_was_measured_but_not_a_hundred_times(kind, cells):
    seconds, megabytes = ONE_SCAN[kind, cells]
    size = Size(scans=64, scan_mb=10.6, cells=cells)
    assert 1.1 * megabytes < job_size.memory_mb(kind, size) < 8 * megabytes
    assert 1.5 * 64 * seconds < 60 * job_size.runtime_minutes(kind, size) + 64 * 3 < 100 * 64 * seconds


@pytest.mark.parametrize("kind", STUDY_OF_160)
def test_a_studys_request_covers_what_was_measured(kind):
    seconds, megabytes = STUDY_OF_160[kind]
    size = Size(scans=160, scan_mb=10.6, cells=208)
    assert 1.1 * megabytes < job_size.memory_mb(kind, size)
    assert 1.5 * seconds < 60 * job_size.runtime_minutes(kind, size)


def test_numbers_by_hand(monkeypatch):
    monkeypatch.setitem(job_size.NEEDS, "toy", Need(1000, 10, 2, seconds=60, per_scan=3, per_raw_mb=0.5, per_cell=0.1))
    size = Size(scans=100, scan_mb=50.0, cells=20)
    assert job_size.memory_mb("toy", size) == 3200  # (1000 + 10 * 100 + 2 * 50) * 1.5 = 3150, in hundreds
    assert job_size.runtime_minutes("toy", size) == 204  # (60 + 100 * (3 + 25 + 2)) s * 4 = 12240 s
    assert job_size.memory_mb("toy", size, attempt=3) == 9600
    assert job_size.runtime_minutes("toy", size, attempt=2) == 408


def test_small_jobs_ask_for_the_least():
    size = Size(scans=1, scan_mb=0.1, cells=1)
    assert job_size.memory_mb("phantom", size) == job_size.LEAST_MB
    assert job_size.runtime_minutes("phantom", size) == job_size.LEAST_MINUTES


@pytest.mark.parametrize("kind", job_size.NEEDS)
def test_more_data_never_ask_for_less_and_each_attempt_asks_for_more(kind):
    small, large = Size(16, 3.0, 66), Size(1600, 300.0, 660)
    for ask in (job_size.memory_mb, job_size.runtime_minutes):
        assert ask(kind, small) <= ask(kind, large)
        assert ask(kind, small, 1) < ask(kind, small, 2) < ask(kind, small, 3)
    assert job_size.runtime_minutes(kind, large) > job_size.runtime_minutes(kind, small)


def test_memory_of_a_shards_job_does_not_grow_with_its_scans():
    for kind in job_size.SHARDED:
        assert job_size.memory_mb(kind, Size(1, 10.0, 66)) == job_size.memory_mb(kind, Size(64, 10.0, 66))


def test_the_largest_scan_is_its_files_together_and_folders_count_whole(tmp_path):
    (tmp_path / "a.dat").write_bytes(b"x" * 3_000_000)
    (tmp_path / "w.dat").write_bytes(b"x" * 1_000_000)
    (tmp_path / "dicom" / "1").mkdir(parents=True)
    (tmp_path / "dicom" / "1" / "b.dcm").write_bytes(b"x" * 3_500_000)
    scan, folder, gone = [tmp_path / "a.dat", tmp_path / "w.dat"], [tmp_path / "dicom"], [tmp_path / "gone.dat"]
    assert job_size.largest_mb([scan, folder, gone]) == 4.0
    assert job_size.largest_mb([folder]) == 3.5
    assert job_size.largest_mb([gone]) == job_size.largest_mb([]) == 0.0


def test_a_gpu_in_both_of_slurms_languages():
    assert job_size.gpu("gpus") == {"gpu": 1}
    assert job_size.gpu("gres") == {"gres": "gpu:1"}
    assert job_size.gpu("gpus:a100", 2) == {"gpu": 2, "gpu_model": "a100"}
    assert job_size.gpu("gres:a100", 2) == {"gres": "gpu:a100:2"}


@pytest.mark.parametrize("request_", ["", "gpu", "gres:", "gres:gpu:1", "--gres=gpu:1"])
def test_another_request_is_refused_in_one_line(request_):
    with pytest.raises(InputError, match=r"^gpu_request: found .* expected gpus or gres.* correct the profile$"):
        job_size.gpu(request_)
