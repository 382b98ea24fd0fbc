"""The grid as a part of the workflow: as large as it is told, and nothing done twice."""

import re

import pytest

from mrs_synthesis.files import read_table

from .conftest import CONFIG, Study, sheet_rows


def planned(study, *arguments):
    """Return how many jobs of each rule a dry run plans, and all that it printed."""
    done = study.snakemake("--dry-run", "--quiet=rules", *arguments)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}, text


def test_as_many_jobs_are_planned_as_are_told(tmp_path, root):
    study = Study(root, tmp_path)
    axes = {"models": ["subject", "paper"], "seeds": [7, 8], "training_subjects": [1, 2]}
    study.write(CONFIG | {"grid": axes}, sheet_rows())
    jobs, text = planned(study)
    # two subjects are all there are: with the study's seed and model that is the study itself, which is not made again
    assert jobs["grid_training"] == 1
    assert jobs["grid_train"] + jobs["grid_train_subject"] == 7
    assert jobs["grid_quantify"] == jobs["grid_cells"] == 7 * 2  # shards of two and one test scans
    # reference, reconstruction; two replicates of 2 real ones and one of 8; 6 kinds and 4 controls of each replicate
    cells = 2 + 3 + 2 * (6 + 4)
    assert f"grid: 8 variants, 7 trainings, {21 * cells} cells, {2 * 21 * cells} fits\n" in text
    assert {"grid_table", "grid_figure", "write_report"} <= set(jobs)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"grid": {"leave_out_sites": True}}, "without site siemens1 no validation subject is left"),
        ({"grid": {"training_subjects": [3]}}, "the study has 2 training subjects"),
        ({"grid": {"training_subjects": [0]}}, "training_subjects"),
        ({"grid": {"sites": ["a"]}}, "sites"),
        ({"grid": {"seeds": [1]}, "augment": {"design": "reconstruction"}}, "needs the design augmentation"),
    ],
)
def test_grids_that_cannot_be_are_refused_before_anything_runs(tmp_path, root, changes, reason):
    study = Study(root, tmp_path)
    study.write(CONFIG | changes, sheet_rows())
    done = study.snakemake("--dry-run")
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr


@pytest.mark.slow
def test_results_accumulate(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "copy")
    only_paths = ("grid", "--rerun-triggers", "mtime", "params")
    config = CONFIG | {"synthesise": {"modes": ["interpolation"], "decoders": ["sampled"]}}
    study.write(config | {"grid": {"training_subjects": [1]}}, sheet_rows())
    done = study.snakemake("--quiet=rules", *only_paths)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    table = read_table(study.results / "tables" / "grid.tsv")
    assert set(table["n_training"]) == {1} and set(table["n"]) == {3}
    assert {"real", "interpolation", "shrinkage", "population_mean"} <= set(table["source"])
    assert (study.results / "figures" / "grid.svg").stat().st_size > 5000
    assert planned(study, *only_paths)[0] == {}

    study.write(config | {"grid": {"training_subjects": [1], "seeds": [7, 8]}}, sheet_rows())
    jobs, text = planned(study, *only_paths)
    assert jobs["grid_train_subject"] == 1 and "grid_training" not in jobs
    assert jobs["grid_cells"] == jobs["grid_quantify"] == 2
    assert "2 trainings" in text and "3 of 6 scans fitted already" in text and "by the benchmarks" in text

    study.write(config | {"grid": {"training_subjects": [1]}}, [*sheet_rows(), another()])
    jobs, _ = planned(study, *only_paths)
    assert not {"train", "grid_training", "grid_train_subject", "assemble"} & set(jobs)
    assert jobs["grid_cells"] == jobs["grid_quantify"] == 1


def another():
    """One more test subject, of the first one's site."""
    row = sheet_rows()[0] | {"subject": "07", "split": "test"}
    return {key: value.replace("sub-01", "sub-07") for key, value in row.items()}
