"""The workflow as a whole: it runs through, does nothing twice, and reruns exactly what a change asks for."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mrs_synthesis.files import read_table

from .conftest import CONFIG, Study, sheet_rows

TABLES = ["conversion", "preprocessing", "concentrations", "quality", "bias", "effective_transients", "failures"]
TABLES += ["learning_curve", "comparisons", "worth", "mixed_model"]
TABLES += ["bayes_bound", "fit_truth", "memorisation", "noise", "share_of_bound", "noise_spectrum", "water"]
TABLES += ["water_lines", "fidelity", "embedding", "minimum_reporting"]


def test_demo_is_planned_to_the_report(root):
    call = [sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--cores", "2"]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for rule in ("phantom", "train", "quantify", "write_report", "complete"):
        assert f"rule {rule}:" in done.stdout + done.stderr


def test_run_ends_with_report_and_documented_tables(tiny):
    assert (tiny.results / "report.html").stat().st_size > 100_000
    assert json.loads((tiny.results / "complete.json").read_text())["complete"]
    for name in TABLES:
        table = read_table(tiny.results / "tables" / f"{name}.tsv")
        dictionary = json.loads((tiny.results / "tables" / f"{name}.json").read_text())
        assert set(table.columns) <= set(dictionary), name
    sources = set(read_table(tiny.results / "tables" / "concentrations.tsv")["source"])
    assert {"reference", "real", "random", "interpolation", "hybrid", "population_mean", "shrinkage"} <= sources


def test_snakemakes_own_report_holds_every_table_by_category_with_a_caption(tiny, tmp_path):
    done = tiny.snakemake("--report", str(tmp_path / "report.zip"))
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(tmp_path / "report.zip") as bundle:
        files = {Path(name).name for name in bundle.namelist()}
        page = bundle.read("report/report.html").decode()
    assert files >= {f"{name}.tsv" for name in TABLES} | {"report.html", "bias.svg", "effective.svg", "config.json"}
    for category in ("Summary", "Bias and agreement", "Effective transients", "Signal quality", "Fidelity", "Failures"):
        assert f'"{category}"' in page, category
    assert len(re.findall('"caption": "<p>', page)) >= len(TABLES)


def test_study_amounts_are_those_of_the_config(tiny):
    cells = read_table(tiny.results / "tables" / "concentrations.tsv")
    synthetic = cells[cells["source"].isin(["random", "interpolation", "hybrid"])]
    assert set(zip(synthetic["n_real"], synthetic["n_total"], strict=True)) == {(2, 8)}
    assert set(synthetic["replicate"]) == {0, 1}
    assert set(cells["subject"]) == {"04", "05", "06"}


def test_second_run_has_nothing_to_do(tiny):
    assert tiny.rules_to_run() == set()


def test_a_fit_option_refits_but_does_not_retrain(tiny):
    study = Study(tiny.root, tiny.folder, "changed.yaml")
    study.write(CONFIG | {"quantify": {"baseline": "poly, 3"}}, sheet_rows())
    rules = study.rules_to_run("--rerun-triggers", "params")
    assert rules >= {"quantify", "evaluate", "write_report"}
    assert not rules & {"phantom", "convert", "preprocess", "assemble", "train", "synthesise", "augment"}


def test_a_training_option_does_not_convert_again(tiny):
    study = Study(tiny.root, tiny.folder, "changed.yaml")
    study.write(CONFIG | {"train": {"epochs": 3}}, sheet_rows())
    rules = study.rules_to_run("--rerun-triggers", "params")
    assert rules >= {"train", "synthesise", "augment", "quantify", "write_report"}
    assert not rules & {"phantom", "convert", "preprocess", "assemble"}


def test_a_preprocessing_option_preprocesses_again_and_does_not_convert(tiny):
    study = Study(tiny.root, tiny.folder, "changed.yaml")
    study.write(CONFIG | {"preprocess": {"reject_sd": 2.5}}, sheet_rows())
    rules = study.rules_to_run("--rerun-triggers", "params")
    assert rules >= {"preprocess", "assemble", "train", "synthesise", "augment", "quantify", "write_report"}
    assert not rules & {"phantom", "convert"}


def test_a_changed_row_of_the_sheet_makes_its_shard_again(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "copy")
    rows = sheet_rows()
    rows[-1]["water_role"] = "ecc"
    study.write(CONFIG, rows)
    jobs = re.split(r"^(?:local)?rule ", study.snakemake("--dry-run").stdout, flags=re.MULTILINE)[1:]
    assert ["heldout-0002" in job for job in jobs if job.startswith("convert:")] == [True]
    assert not [job for job in jobs if job.startswith(("phantom:", "train:"))]


def added(splits):
    """Return the sheet with a new Siemens subject of each split, in its last rows."""
    rows = sheet_rows()
    for number, split in enumerate(splits, start=len(rows) + 1):
        new = {key: value.replace("sub-01", f"sub-{number:02d}") for key, value in rows[0].items()}
        rows.append(new | {"subject": f"{number:02d}", "split": split})
    return rows


def test_a_new_test_subject_adds_rows_and_nothing_is_made_again_of_the_others(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "copy")
    study.write(CONFIG, added(["test"]))
    done = study.snakemake("--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    assert "training set changes" not in text
    jobs = re.split(r"^(?:local)?rule ", text, flags=re.MULTILINE)[1:]
    of_shards = {"phantom", "convert", "preprocess", "synthesise", "augment", "quantify"}
    names = [job.partition(":")[0] for job in jobs]
    assert {name: names.count(name) for name in of_shards} == dict.fromkeys(of_shards, 1)
    assert all("shard=heldout-0002" in job for name, job in zip(names, jobs, strict=True) if name in of_shards)
    assert {"units", "heldout", "evaluate", "write_report"} <= set(names)
    seen = {"training_units", "assemble", "train", "nuisance", "simulate_basis", "config_record"}
    assert not seen & set(names)


def test_a_removed_test_subject_only_drops_rows(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "copy")
    study.write(CONFIG, sheet_rows()[:-1])
    rules = study.rules_to_run()
    assert {"heldout", "evaluate", "write_report"} <= rules
    assert not rules & {"phantom", "convert", "preprocess", "training_units", "assemble"}
    assert not rules & {"train", "nuisance", "synthesise", "augment", "quantify"}


def test_a_new_training_subject_is_told_and_makes_the_model_again(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "copy")
    study.write(CONFIG, added(["train"]))
    assert "training set changes: 1 subject(s) in, 0 out" in study.snakemake("--dry-run").stderr
    assert {"assemble", "train", "synthesise", "quantify"} <= study.rules_to_run()


COUNTS = "README.md"  # of scans
WHOLE = ("dataset_description.json", "participants.tsv", "participants.json", "descriptions.tsv", ".bidsignore")


def state(study, *names):
    """Return the bytes of all files in some folders of the results but counts, and the times of those of scans.

    What describes the whole data set may be written again when shards change, with the same bytes.
    """
    files = [path for name in names for path in sorted((study.results / name).rglob("*")) if path.is_file()]
    times = {path: path.stat().st_mtime_ns if path.name not in WHOLE else None for path in files}
    return {path: (time, path.read_bytes()) for path, time in times.items() if path.name != COUNTS}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["last", "first"])
def test_files_of_old_subjects_are_not_touched_by_a_new_one(tiny, tmp_path, place):
    study = tiny.copy_to(tmp_path / "copy")
    before = state(study, "model", "training", "derivatives")
    *old, new = added(["test"])
    study.write(CONFIG, [*old, new] if place == "last" else [new, *old])  # at first all shards of test scans change
    done = study.snakemake()
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    after = state(study, "model", "training", "derivatives")
    assert {path: after[path] for path in before} == before
    assert all("sub-07" in path.name for path in after.keys() - before.keys())
    concentrations = read_table(study.results / "tables" / "concentrations.tsv")
    assert set(concentrations["subject"]) == {"04", "05", "06", "07"}
    was = read_table(tiny.results / "tables" / "concentrations.tsv")
    kept = concentrations[concentrations["subject"] != "07"].sort_values(["unit", "cell"], kind="stable")
    assert kept.reset_index(drop=True).equals(was.sort_values(["unit", "cell"], kind="stable").reset_index(drop=True))


@pytest.mark.slow
def test_another_size_of_shards_makes_no_scan_anew(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "copy")
    before = state(study, "sourcedata", "rawdata", "derivatives")
    tables = {path.name: content for path, (_, content) in state(study, "tables").items()}
    study.write(CONFIG | {"shard_size": 3}, sheet_rows())
    done = study.snakemake()
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert state(study, "sourcedata", "rawdata", "derivatives") == before
    timed = {"run_times.tsv"}
    again = {path.name: content for path, (_, content) in state(study, "tables").items()}
    assert {name for name in tables if again[name] != tables[name]} <= timed
    assert study.rules_to_run() == set()


def test_a_lost_file_is_noticed_and_made_again_alone_when_it_is_needed(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "copy")
    before = state(study, "rawdata", "derivatives")
    victim = study.results / "derivatives" / "sub-01" / "mrs" / "sub-01_acq-megapress_desc-preproc_svs.nii.gz"
    victim.unlink()
    (study.results / "tables" / "preprocessing.tsv").unlink()
    done = study.snakemake("preprocessed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "files of sub-01_acq-megapress are gone" in done.stderr
    after = state(study, "rawdata", "derivatives")
    assert {path: content for path, (_, content) in after.items()} == {path: b for path, (_, b) in before.items()}
    changed = {path for path in before if after[path] != before[path]}
    assert victim in changed and all("sub-01" in path.name for path in changed)


def test_what_is_forced_is_made_anew(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "copy")
    before = state(study, "rawdata")
    done = study.snakemake("converted", "--forcerun", "convert")
    assert done.returncode == 0, done.stdout + done.stderr
    after = state(study, "rawdata")
    scans = [path for path in before if path.name.endswith("_svs.nii.gz")]
    assert all(after[path][0] > before[path][0] and after[path][1] == before[path][1] for path in scans)


def test_one_bad_file_stops_nobody_but_is_told(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "copy")
    victim = study.results / "sourcedata" / "philips" / "sub-06_act.SDAT"
    victim.write_bytes(victim.read_bytes()[:1000])
    done = study.snakemake("--rerun-triggers", "mtime", "--forcerun", "convert")  # the phantom's files are no input
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "sub-06_act.SDAT" in text
    failures = read_table(study.results / "tables" / "failures.tsv")
    assert failures["unit"].tolist() == ["sub-06_acq-megapress"]
    assert failures["stage"].tolist() == ["convert"]
    assert set(read_table(study.results / "tables" / "concentrations.tsv")["subject"]) == {"04", "05"}
    assert "sub-06" in (study.results / "report.html").read_text()
    assert not (study.results / "complete.json").exists()


def test_a_misspelt_key_is_refused(tmp_path, root):
    study = Study(root, tmp_path)
    study.write(CONFIG | {"agument": {}}, sheet_rows())
    done = study.snakemake("--dry-run")
    assert done.returncode != 0
    assert "agument" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"n_real": [2, 4], "n_total": [8, 8, 8]}, "one for all or one for each"),
        ({"n_real": [2, 8], "n_total": 8}, "expected 1 <= n_real < n_total"),
        ({"n_real": [2, 0]}, "n_real"),
        ({"n_real": [2, 2]}, "n_real"),
        ({"n_real": []}, "n_real"),
        ({"n_total": "many"}, "n_total"),
    ],
)
def test_amounts_that_do_not_fit_together_are_refused_before_anything_runs(tmp_path, root, numbers, reason):
    study = Study(root, tmp_path)
    study.write(CONFIG | {"augment": CONFIG["augment"] | numbers}, sheet_rows())
    done = study.snakemake("--dry-run")
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr


def test_grid_of_the_phantom_is_planned_and_its_size_printed(root):
    call = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "2", "--quiet", "rules"]
    done = subprocess.run([*call, "--configfile", "config/examples/phantom-grid.yaml"], cwd=root, capture_output=True)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    # a pool of 128: 2 + (4 x 1, 2, 4, 8, 16, 32; 3 x 40; 2 x 64; 1 x 128) real ones + 22 sets of 3 kinds and 5 controls
    assert f"{2 + 24 + 3 + 2 + 1 + 22 * 8} cells per unit" in text
    assert f"{208 * 48 * 2} fits in total" in text


def test_a_bad_row_of_the_sheet_is_named_before_anything_runs(tmp_path, root):
    study = Study(root, tmp_path)
    rows = sheet_rows()
    rows[2]["vendor"] = "simens"
    study.write(CONFIG, rows)
    done = study.snakemake("--dry-run")
    assert done.returncode != 0
    assert "samples.tsv row 4, column vendor" in done.stdout + done.stderr


@pytest.mark.data
@pytest.mark.parametrize("name", ["siemens-mega-press", "philips-press", "formats"])
def test_example_studies_are_planned(root, shared_data, name):
    call = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "2", "converted"]
    call += ["--configfile", f"config/examples/{name}.yaml"]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


OPTIONAL = ("cohort", "intervals", "training_use", "fit_truth", "ablation", "search", "alignment_study")
NOT_RUN = {"engine_agreement", "fit_published_fslmrs", "preprocess_agreement", "quantify_other_engine"}  # need FSL-MRS,
NOT_RUN |= {"read_published_fits", "fit_published", "simulate_published", "read_basis"}  # ... or files of others
NOT_RUN |= {"grid_nuisance", "verify"}  # one of another config; one that uses the standard library alone
TARGETS = {"converted", "preprocessed", "grid"}  # have no command, and are not asked for


@pytest.mark.slow
def test_every_rule_runs_in_its_own_environment(root, tmp_path):
    study = Study(root, tmp_path)
    study.write(CONFIG | {"grid": {"models": ["subject", "paper"], "training_subjects": [1, 2]}}, sheet_rows())
    own = {"path": str(root / "tests" / "conda_stand_in" / "bin")}
    conda = ("--software-deployment-method", "conda")
    done = study.snakemake("all", *OPTIONAL, *conda, **own)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert (study.results / "report.html").exists()
    last = study.snakemake("crate", *conda, **own)  # of a finished study
    assert last.returncode == 0, last.stdout[-5000:] + last.stderr[-5000:]
    # Snakemake shares an environment between files of equal content.
    files = {path.read_text() for path in (root / "envs").glob("*.yaml") if path.stem != "fsl-mrs"}
    assert len(list((tmp_path / ".snakemake" / "conda").glob("*.env_setup_done"))) == len(files)
    shutil.rmtree(tmp_path / ".snakemake")
    rules = {line.split()[0] for line in study.snakemake("--list-rules").stdout.splitlines()}
    said = "".join(one.stdout + one.stderr for one in (done, last))
    assert rules - set(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", said)) == NOT_RUN | TARGETS


def test_snakemake_report_holds_page_and_figures(tiny, tmp_path):
    done = tiny.snakemake("--report", str(tmp_path / "report.zip"))
    assert done.returncode == 0, done.stdout + done.stderr
    listing = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", tmp_path / "report.zip"], capture_output=True, text=True
    ).stdout
    for name in ("report.html", "bias.svg", "effective.svg", "spectra.svg", "losses.svg"):
        assert f"/{name}" in listing.partition("data/raw")[2], name
