"""What made each result: from Snakemake's records and those of shards, without anybody's name."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrs_synthesis import provenance
from mrs_synthesis.stage import InputError

SNAKEFILE = """
import json
RAW = config["raw"]
UNITS = json.dumps([{"unit": "sub-01_acq-x", "folder": "sub-01", "words": ["--metab", RAW], "reads": {"metab": RAW}}])

rule report:
    input: "results/s/tables/bias.tsv"
    output: "results/s/report.html"
    log: "results/s/logs/report.log"
    shell: "cp {input} {output} 2>&1 | tee {log:q}"

rule evaluate:
    input: "results/s/records/convert/seen-0001.json", "sheet.tsv"
    output: "results/s/tables/bias.tsv"
    log: "results/s/logs/evaluate.log"
    shell:
        r\"\"\"
        python work.py --output {output:q} \\
            --metab {RAW:q} --basis /home/jane/basis.json 2>&1 | tee {log:q}
        \"\"\"

rule convert:
    input: RAW
    output: "results/s/records/convert/seen-0001.json"
    log: "results/s/logs/convert/seen-0001.log"
    params: units=UNITS
    shell: "python work.py mrs_synthesis.shard --units {params.units:q} --output {output:q} 2>&1 | tee {log:q}"
"""
WORK = """
import hashlib, json, pathlib, sys
output = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
if "--units" in sys.argv:
    scan = pathlib.Path("results/s/rawdata/sub-01/mrs/sub-01_acq-x_svs.nii.gz")
    scan.parent.mkdir(parents=True)
    scan.write_text("scan")
    about = {"bytes": 4, "sha256": hashlib.sha256(b"scan").hexdigest()}
    key = {"command": "c", "reads": {"metab": hashlib.sha256(b"raw").hexdigest()}}
    unit = {"unit": "sub-01_acq-x", "key": key, "files": {"rawdata/sub-01/mrs/sub-01_acq-x_svs.nii.gz": about}}
    output.write_text(json.dumps({"stage": "convert", "shard": "seen-0001", "units": [unit]}))
else:
    output.write_text("bias")
print("some progress")
print('versions: {"Python": "3.11.7", "numpy": "2.4.6"}')
"""


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small workflow that the installed Snakemake ran, and what is told of it."""
    folder = tmp_path_factory.mktemp("run")
    raw = folder / "Jane_Doe" / "scan.dat"
    raw.parent.mkdir()
    raw.write_text("raw")
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "work.py").write_text(WORK)
    (folder / "sheet.tsv").write_text("sheet")
    call = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all", "--config", f"raw={raw}"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(call, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    here = Path.cwd()
    os.chdir(folder)
    try:
        words = ["--study", "s", "--results", "results/s", "--snakemake", "9", "--output", "results/s/provenance.json"]
        provenance.main(words)
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def known(run):
    return json.loads((run / "results" / "s" / "provenance.json").read_text())


def test_every_result_leads_back_to_its_inputs_by_hash(known):
    assert known["files"]["report.html"] == {"sha256": digest("bias"), "bytes": 4, "job": "report"}
    evaluate = known["jobs"][known["files"]["tables/bias.tsv"]["job"]]
    assert evaluate["rule"] == "evaluate" and evaluate["outputs"] == ["tables/bias.tsv"]
    record = "records/convert/seen-0001.json"
    assert evaluate["inputs"] == {
        record: known["files"][record]["sha256"],
        "outside/sheet.tsv": digest("sheet"),
    }
    # the files of scans are in the record, which is an output of the job that names them
    assert known["jobs"]["convert/seen-0001"]["units"] == ["sub-01_acq-x"]
    assert known["jobs"]["convert/seen-0001"]["outputs"] == [record]
    assert not [name for name in known["files"] if name.startswith("rawdata")]
    assert "records/<stage>/<shard>.json" in known["scans"]


def test_jobs_have_command_times_and_the_versions_of_their_log(known):
    job = known["jobs"]["evaluate"]
    # without what the job is piped into; the workflow's own paths stay
    assert job["command"][:4] == ["python", "work.py", "--output", "results/s/tables/bias.tsv"]
    assert "tee" not in job["command"] and "2>&1" not in job["command"]
    assert job["started"] <= job["ended"] and job["ended"].endswith("+00:00")
    assert known["environments"][job["environment"]] == {"Python": "3.11.7", "numpy": "2.4.6"}
    assert known["jobs"]["report"]["environment"] is None  # its log says nothing
    assert known["workflow"]["snakemake"] == "9" and len(known["workflow"]["sha256"]) == 64


def test_nobody_and_no_place_is_named(run, known):
    text = json.dumps(known)
    assert "Jane" not in text and str(run) not in text and "/home" not in text
    assert "basis.json" in known["jobs"]["evaluate"]["command"]  # of another absolute path its last name
    units = json.loads(known["jobs"]["convert/seen-0001"]["command"][4])
    assert units[0]["reads"] == {"metab": "sub-01_acq-x:metab"}
    assert units[0]["words"] == ["--metab", "sub-01_acq-x:metab"]
    assert known["jobs"]["convert/seen-0001"]["inputs"] == {}


def test_raw_files_on_relative_paths_are_not_named_either():
    raw = {"data/Jane_Doe/a.dat": "sub-01:metab"}
    words = ["--metab", "data/Jane_Doe/a.dat", "--units", json.dumps([{"reads": {"metab": "data/Jane_Doe/a.dat"}}])]
    assert "Jane" not in json.dumps(provenance.without_paths(words, raw))
    kept = ["--baseline", "poly, 3", "a/b", "https://w3id.org/x/y", "1/2", "[not json"]
    assert provenance.without_paths(kept, raw) == kept
    assert provenance.without_paths("--file=/home/jane/x.txt", {}) == "--file=x.txt"


def test_of_files_elsewhere_that_share_a_name_each_has_its_own(tmp_path):
    (tmp_path / "records").mkdir()
    history = provenance.History(Path("results/s"), provenance.Metadata(tmp_path / "records"))
    names = [history.name(Path(path)) for path in ("/a/x.json", "/b/x.json", "../x.json", "/a/x.json", "c/x.json")]
    assert names == ["outside/x.json", "outside/x.json~2", "outside/x.json~3", "outside/x.json", "outside/c/x.json"]


def test_long_names_and_unknown_formats_of_snakemakes_records(tmp_path):
    long = "results/" + "a" * 300 + ".tsv"  # its base64 is longer than a file's name may be
    name = base64.urlsafe_b64encode(long.encode()).decode()
    part = os.pathconf(tmp_path, "PC_NAME_MAX") - 1
    (tmp_path / f"@{name[:part]}").mkdir()
    record = {"record_format_version": 6, "rule": "x"}
    (tmp_path / f"@{name[:part]}" / name[part:]).write_text(json.dumps(record))
    metadata = provenance.Metadata(tmp_path)
    assert metadata.of(Path(long)) == record
    assert metadata.of(Path("results/b.tsv")) is None
    (tmp_path / f"@{name[:part]}" / name[part:]).write_text(json.dumps(record | {"record_format_version": 7}))
    with pytest.raises(InputError, match="format 7 of Snakemake's record of results/a"):
        metadata.of(Path(long))
    (tmp_path / f"@{name[:part]}" / name[part:]).write_text('{"rule": "x", "inp')  # killed while it was written
    assert metadata.of(Path(long)) is None
    with pytest.raises(InputError, match="no such folder"):
        provenance.Metadata(tmp_path / "none")


def test_the_last_versions_of_a_log_count_and_binary_noise_is_no_error(tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(b'versions: {"a": "1"}\n\xff\xfe noise\nversions: {"a": "2"}\n')
    assert provenance.versions_in(log) == {"a": "2"}
    assert provenance.versions_in(tmp_path / "none.log") is None
