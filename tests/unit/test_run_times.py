"""Run times of stages: Snakemake's benchmarks and the shards' own counts as one table, and its figure and words."""

import json
from pathlib import Path

import pytest
from fake_results import FakeResults
from page_structure import Structure, figure_data

from mrs_synthesis import report_run_times, run_times
from mrs_synthesis.files import read_table
from mrs_synthesis.stage import InputError

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def benchmark(path, wall, cpu, memory):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}{wall}\t0:00:01\t{memory}\t1\t1\t1\t0\t0\t50\t{cpu}\n")


def units(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["unit\tkept\tseconds\tcpu_seconds", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def results(tmp_path):
    """Two shards of conversion, one left over from smaller shards, a training, two variants, an unfinished shard."""
    own = tmp_path / "benchmarks"
    benchmark(own / "convert" / "seen-0001.tsv", 10, 6, 300)
    benchmark(own / "convert" / "seen-0002.tsv", 4, "NA", "NA")  # too short to be seen
    benchmark(own / "convert" / "seen-0009.tsv", 1000, 1000, 9000)  # of no shard
    benchmark(own / "convert" / "sub-01" / "sub-01_acq-press.tsv", 1000, 1000, 9000)  # of a time without shards
    units(own / "convert" / "seen-0001.units.tsv", ("a", 0, 5, 4.5), ("b", 0, 4, 3.5), ("start-up", 0, 0, 1.5))
    units(own / "convert" / "seen-0002.units.tsv", ("c", 1, 0.1, 0.1), ("start-up", 0, 0, 0.5))
    units(own / "convert" / "seen-0003.units.tsv", ("d", 0, 1, 99))  # killed: no benchmark yet
    benchmark(own / "train.tsv", 20, 35, 500)
    benchmark(own / "report.tsv", 7, 7, 7)  # an earlier page's
    benchmark(own / "grid" / "train" / "large.tsv", 3, 2, 100)
    benchmark(own / "grid" / "large" / "cells" / "heldout-0001.tsv", 2, 1, 50)
    units(tmp_path / "grid" / "large" / "benchmarks" / "cells" / "heldout-0001.units.tsv", ("e", 0, 1, 0.5))
    return tmp_path


def records(results):
    return [results / "records" / "convert" / f"seen-000{n}.json" for n in (1, 2, 3)]


def test_a_stage_is_the_sum_of_its_present_jobs(results):
    run_times.main(
        ["--results", str(results), "--records", *map(str, records(results)), "--output", str(results / "t.tsv")]
    )
    table = read_table(results / "t.tsv").set_index("stage")
    assert list(table.index) == ["train", "convert", "grid/train", "grid/cells", "total"]
    row = table.loc["convert"]
    assert (row["jobs"], row["units"], row["kept"]) == (2, 3, 1)
    assert (row["wall_s"], row["longest_job_s"], row["max_rss_mb"]) == (14, 10, 300)
    # the first counted 4.5 + 3.5 + 1.5 itself, where Snakemake saw 6; of the second it saw nothing
    assert row["cpu_s"] == pytest.approx(9.5 + 0.6)
    assert row["work_cpu_s"] == pytest.approx(8.1) and row["start_up_cpu_s"] == pytest.approx(2.0)
    assert row["work_per_start_up"] == pytest.approx(4.05)
    assert table.loc["train", ["units", "work_cpu_s", "start_up_cpu_s", "work_per_start_up"]].isna().all()
    assert table.loc["grid/cells", "units"] == 1
    everything = table.loc["total"]
    assert (everything["jobs"], everything["wall_s"], everything["max_rss_mb"]) == (5, 39, 500)
    assert everything["cpu_s"] == pytest.approx(10.1 + 35 + 2 + 1) and everything.isna()["units"]
    dictionary = json.loads((results / "t.json").read_text())
    assert set(table.columns) <= set(dictionary) and "differ from run to run" in dictionary["TableDescription"]


@pytest.mark.parametrize(
    ("path", "stage", "job"),
    [
        ("benchmarks/train.tsv", "train", "train"),
        ("benchmarks/convert/seen-0001.units.tsv", "convert", "seen-0001"),
        ("benchmarks/grid/table.tsv", "grid/table", "table"),
        ("benchmarks/grid/training/n-8.tsv", "grid/training", "n-8"),
        ("benchmarks/ablation.tsv", "ablation", "ablation"),
        ("benchmarks/ablation/train_a.tsv", "ablation/train_a", "train_a"),
        ("benchmarks/ablation/a/mean/augment/heldout-0001.tsv", "ablation/augment", "a/mean/heldout-0001"),
        ("ablation/a/mean/benchmarks/augment/heldout-0001.units.tsv", "ablation/augment", "a/mean/heldout-0001"),
    ],
)
def test_a_files_place_tells_stage_and_job(path, stage, job):
    assert run_times.place(Path("r") / path, Path("r")) == (stage, job)


def test_without_benchmarks_or_with_half_a_line_it_ends_in_one_line(results, tmp_path):
    with pytest.raises(InputError, match="no benchmark of any job"):
        run_times.main(["--results", str(tmp_path / "none"), "--output", str(tmp_path / "t.tsv")])
    path = results / "benchmarks" / "train.tsv"
    path.write_text(HEADER + "20\t0:00")
    with pytest.raises(InputError, match=r"train\.tsv: a row has not the 10 fields"):
        run_times.read_jobs(results, [])
    path.write_text("")  # a job was killed while Snakemake wrote it
    assert "train" not in run_times.read_jobs(results, [])


def test_figure_stacks_start_up_on_work(results):
    table = run_times.run_times(run_times.read_jobs(results, records(results)))
    figure = report_run_times.run_times_figure(table)
    json.dumps(figure, allow_nan=False)
    bars = {trace["name"]: dict(zip(trace["y"], trace["x"], strict=True)) for trace in figure["traces"]}
    assert bars["work"]["convert"] + bars["start-up of jobs"]["convert"] == pytest.approx(10.1)
    assert (bars["work"]["train"], bars["start-up of jobs"]["train"]) == (35, 0)
    assert bars["wall time of all jobs"]["train"] == 20 and bars["largest memory of a job"]["convert"] == 300
    assert all("total" not in stages for stages in bars.values())
    assert report_run_times.run_times_figure(None) is None and report_run_times.run_times_sentences(None) == []


def test_page_has_a_section_of_run_times(tmp_path):
    fake = FakeResults(tmp_path)
    page = fake.page()
    text = Structure(page).text
    assert "3 jobs took 2 min one after the other, with 100 s of CPU time" in text
    assert "convert took most, 90 s" in text and "9 CPU seconds of work per CPU second" in text
    assert "run_times" in figure_data(page)
    (tmp_path / "tables" / "run_times.tsv").unlink()
    assert "run-times-section" not in Structure(fake.page()).ids
