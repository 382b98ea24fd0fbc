"""Names that a shell, Snakemake or a job's placeholders would take for something else, through the workflow itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mrs_synthesis.files import read_table

from .conftest import CONFIG, sheet_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from scan_files import edited, write_nifti

FOLDER = "it's $(touch HIT1)"
SCANS = ["a b;touch HIT2;'\"`touch HIT3`$(touch HIT4)&|*?!#~\\ 100%.nii.gz", "--output=HIT5;$HOME \u00e9.nii.gz"]
TEXT = "<img src=x onerror=alert(1)> {shard} {{7*7}} <results> %own $(touch HIT6) `touch HIT7` \"'; </script>"
# Stands in for any executor of jobs elsewhere: it notes what it is given, and runs nothing
ELSEWHERE = """
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings
common_settings = CommonSettings(non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False)
class Executor(RemoteExecutor):
    def run_job(self, job):
        open("given", "a").write(job.name)
        raise RuntimeError("no job can run here")
    async def check_active_jobs(self, jobs):
        yield
    def cancel_jobs(self, jobs):
        pass
"""
PRESS = {"sequence": "mega-press", "te_ms": 68, "frequency_mhz": 123.25}
STUDY = {
    "study": "odd",
    "samples": f"{FOLDER}/samples.tsv",
    "seed": 1,
    "minimum_reporting": {"rf_coils": TEXT, "shimming": {"A": TEXT}},
    "basis": {"sets": [{"name": "m", "simulate": PRESS}]},
    "evaluate": {"ratios": ["DIFF:GABA+"]},
}


def snakemake(root, folder, *words, text="", **changes):
    """Run the workflow in a folder with a config, whose text may be given."""
    (folder / "odd.yaml").write_text(text or yaml.safe_dump(STUDY | changes, allow_unicode=True))
    call = [sys.executable, "-m", "snakemake", *words, "--snakefile", str(root / "Snakefile")]
    call += [] if "--jobs" in words else ["--cores", "1"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [*call, "--directory", str(folder), "--configfile", "odd.yaml"],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )


def write_sheet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join('"' + row[name].replace('"', '""') + '"' for name in rows[0]) for row in rows]
    path.write_text("\n".join(["\t".join(rows[0]), *lines]) + "\n", encoding="utf-8")


def row(number, metab):
    about = {"subject": f"0{number}", "site": "A", "vendor": "siemens", "format": "nifti_mrs", "sequence": "mega"}
    return about | {"edit_scheme": "mega", "edit_order": "from_header", "metab": metab, "exclude": ""}


def test_odd_names_of_folders_files_and_texts_run_nothing_and_lose_nothing(root, tmp_path):
    program = tmp_path / "the program's $(touch HIT8)"
    for name in ("Snakefile", "workflow", "profiles", "envs", "config"):
        (shutil.copytree if (root / name).is_dir() else shutil.copy)(root / name, _made(program) / name)
    folder = _made(tmp_path / "study")
    pair = edited(6)
    for name in SCANS:
        write_nifti(_made(folder / FOLDER) / name, pair, conditions=("OFF", "ON"))
    write_sheet(folder / FOLDER / "samples.tsv", [row(i, name) for i, name in enumerate(SCANS, start=1)])
    done = snakemake(program, folder, "results/odd/tables/conversion.tsv", "results/odd/config.json")
    assert done.returncode == 0, done.stdout + done.stderr
    table = read_table(folder / "results" / "odd" / "tables" / "conversion.tsv")
    assert table["status"].tolist() == ["ok", "ok"] and table["n_transients"].tolist() == [6, 6]
    kept = json.loads((folder / "results" / "odd" / "config.json").read_text())["minimum_reporting"]
    assert kept == {"rf_coils": TEXT, "shimming": {"A": TEXT}}
    assert list(tmp_path.rglob("HIT*")) == []
    assert {path.name for path in folder.iterdir()} == {FOLDER, "odd.yaml", "results", ".snakemake"}


def test_a_name_that_no_job_of_a_cluster_can_be_given_is_refused(root, tmp_path, monkeypatch):
    (_made(tmp_path / "snakemake_executor_plugin_elsewhere") / "__init__.py").write_text(ELSEWHERE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    name = "$(touch HIT9).nii.gz"
    write_nifti(tmp_path / name, edited(6), conditions=("OFF", "ON"))
    write_sheet(tmp_path / "samples.tsv", [row(1, name)])
    words = ["results/odd/tables/conversion.tsv", "--executor", "elsewhere", "--jobs", "2"]
    done = snakemake(root, tmp_path, *words, samples="samples.tsv")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert (
        f"'{name}' has '$', which no job of a cluster can be given safely; rename the file or folder, or run the study "
        "on this machine (--executor local)"
    ) in said
    assert "Traceback" not in said
    assert not (tmp_path / "given").exists()
    write_nifti(tmp_path / "a b.nii.gz", edited(6), conditions=("OFF", "ON"))
    write_sheet(tmp_path / "samples.tsv", [row(1, "a b.nii.gz")])
    snakemake(root, tmp_path, *words, samples="samples.tsv")
    assert (tmp_path / "given").read_text() == "convert"


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"study": "x\n"}, r"config, study: found 'x\n', expected: Name of the study"),
        ({"samples": "{shard}.tsv"}, "config, samples: found '{shard}.tsv', expected: Sample sheet"),
    ],
)
def test_a_refusal_by_the_workflow_is_one_line(root, tmp_path, changes, words):
    done = snakemake(root, tmp_path, "--dry-run", **changes)
    assert done.returncode == 1
    (line,) = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("config, ")]
    assert line.startswith(words)
    assert "Traceback" not in done.stdout + done.stderr


def test_a_section_that_stands_twice_in_the_config_ends_the_run(root, tmp_path):
    text = "study: odd\nquantify: {engine: batched}\nquantify: {baseline: stiff}\n"
    done = snakemake(root, tmp_path, "--dry-run", text=text)
    assert done.returncode == 1
    said = (done.stdout + done.stderr).splitlines()
    assert f"{tmp_path}/odd.yaml row 3: the key 'quantify' stands in row 2 already; make one of the two" in said
    assert "Traceback" not in done.stderr


def test_a_phantom_writes_nowhere_but_in_its_results(root, tmp_path):
    rows = sheet_rows()
    for one in rows:
        one |= {name: one[name].replace("/tiny/", "/odd/") for name in ("metab", "water")}
    rows[0]["metab"] = "results/odd/sourcedata/../../../../victim.dat"
    write_sheet(tmp_path / "samples.tsv", rows)
    done = snakemake(
        root, tmp_path, "--dry-run", phantom=CONFIG["phantom"], basis=CONFIG["basis"], samples="samples.tsv"
    )
    assert done.returncode == 1
    assert (
        "samples.tsv, sub-01_acq-megapress, column metab: '../victim.dat', expected a file in results/odd/sourcedata/, "
        "where the phantom's raw files are written; correct the sheet or remove `phantom`"
    ) in done.stdout + done.stderr


def test_what_a_config_file_itself_may_run(root, tmp_path):
    """Snakemake 9.27.1 reads a file that says `__use_yte__: true` as a template with Python; tags run nothing."""
    study = yaml.safe_dump(STUDY)
    for text, ran in (
        (f"__use_yte__: true\n__definitions__:\n  - open('RAN', 'w').close()\n{study}", True),
        (f"__definitions__:\n  - open('RAN', 'w').close()\n{study}", False),
        (f"{study}licence: ?open('RAN', 'w').close() or 'MIT'\n", False),
        (f"{study}licence: !!python/object/apply:os.system ['touch RAN']\n", False),
        (f"{study}licence: !!python/name:os.system\n", False),
    ):
        (tmp_path / "config.yaml").write_text(text)
        code = "import sys; from snakemake.common.configfile import load_configfile; load_configfile(sys.argv[1])"
        subprocess.run([sys.executable, "-c", code, "config.yaml"], cwd=tmp_path, capture_output=True)
        assert (tmp_path / "RAN").exists() == ran, text[:60]
        (tmp_path / "RAN").unlink(missing_ok=True)
