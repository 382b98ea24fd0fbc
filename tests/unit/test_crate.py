"""A study as an RO-Crate: everything it names is there, scans are counted, and a validator accepts it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrs_synthesis import crate
from mrs_synthesis.files import write_json
from mrs_synthesis.stage import InputError

TIMES = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:00+00:00"}
ENVIRONMENT = {"Python": "3.11.7", "numpy": "2.4.6"}


def finished(study, shards, size):
    """Write a made-up study of shards of scans and its provenance; return what is told of it."""
    texts = {
        "config.json": "{}",
        "units.tsv": "unit\n",
        "report.html": "<html></html>",
        "tables/bias.tsv": "bias\n",
        "tables/bias.json": "{}",
        "figures/bias.svg": "<svg/>",
        "model/model.safetensors": "weights",
        "model/README.md": "card",
        "basis/mega/OFF/NAA.json": "{}",
    }
    records = [f"records/convert/seen-{n:04d}.json" for n in range(1, shards + 1)]
    texts |= dict.fromkeys(records, "{}")
    for name, text in texts.items():
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        (study / name).write_text(text)
    files = {name: {"sha256": hashlib.sha256(text.encode()).hexdigest()} for name, text in texts.items()}
    files["basis/mega"] = {"sha256": "0" * 64, "files": 1}
    files["outside/config/samples.tsv"] = {"sha256": "1" * 64}
    files["grid/a/model/gone.npz"] = {"sha256": None}
    jobs = {
        "units": job("sheet", ["outside/config/samples.tsv"], ["units.tsv"]),
        "config": job("config_record", [], ["config.json"]),
        "train": job("train", ["basis/mega", *records], ["model/model.safetensors", "model/README.md"]),
        "evaluate": job("evaluate", [*records, "grid/a/model/gone.npz"], ["tables/bias.tsv", "tables/bias.json"]),
        "report": job("write_report", ["tables/bias.tsv", "config.json"], ["report.html", "figures/bias.svg"]),
    }
    for shard, record in enumerate(records):
        units = [f"sub-{shard * size + n:05d}_acq-megapress" for n in range(size)]
        told = json.dumps([{"unit": unit, "words": ["--metab", f"{unit}:metab"] * 4} for unit in units])
        own = job("convert", ["config.json"], [record])
        own["command"] = ["python", "-m", "mrs_synthesis.shard", "--units", told, "--", "convert", "%own"]
        jobs[f"convert/seen-{shard + 1:04d}"] = own | {"units": units}
    folder = study / "rawdata" / "sub-00000" / "mrs"
    folder.mkdir(parents=True)
    (folder / "sub-00000_acq-megapress_svs.nii.gz").write_text("x")
    workflow = {"name": "mrs-synthesis", "version": "0.1.0", "commit": "c" * 40, "sha256": "4" * 64, "snakemake": "9"}
    known = {
        "study": "s",
        "workflow": workflow,
        "config": {"path": "config.json"},
        "environments": {"environment-1": ENVIRONMENT},
        "jobs": jobs,
        "files": files,
    }
    write_json(study / "provenance.json", known)
    return known


def job(rule, inputs, outputs):
    command = ["python", "-m", f"mrs_synthesis.{rule}", "--seed", "1"]
    about = {"rule": rule, "command": command, "inputs": dict.fromkeys(inputs), "outputs": outputs}
    return about | {"environment": "environment-1", **TIMES}


def describe(study, *words):
    output = study / "ro-crate-metadata.json"
    given = ["--provenance", str(study / "provenance.json"), "--workflow", str(study / "workflow")]
    crate.main([*given, "--output", str(output), *words])
    return {entity["@id"]: entity for entity in json.loads(output.read_text())["@graph"]}


@pytest.fixture
def study(tmp_path):
    finished(tmp_path, 2, 3)
    return tmp_path


def listed(value):
    return value if isinstance(value, list) else [value]


def references(value):
    if isinstance(value, dict):
        yield value["@id"]
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_every_file_is_there_and_every_reference_leads_somewhere(study):
    graph = describe(study)
    for name, entity in graph.items():
        if {"File", "Dataset"} & set(listed(entity["@type"])):
            path = study / name
            assert path.is_dir() if name.endswith("/") else path.is_file(), name
        for key, value in entity.items():
            for target in references(value) if key != "@id" else ():
                assert target in graph or target.startswith("https://"), (name, key, target)
    assert graph["tables/bias.tsv"]["sha256"] == hashlib.sha256(b"bias\n").hexdigest()
    assert graph["tables/bias.tsv"]["encodingFormat"] == "text/tab-separated-values"
    assert {"@id": "report.html"} in listed(graph["./"]["hasPart"])


def test_a_job_is_an_action_with_its_inputs_results_tool_and_versions(study):
    graph = describe(study)
    train = graph["#job/train"]
    assert [one["@id"] for one in train["result"]] == ["model/model.safetensors", "model/README.md"]
    assert {"@id": "basis/mega/"} in train["object"]
    assert train["description"] == "python -m mrs_synthesis.train --seed 1"
    assert (train["startTime"], train["endTime"]) == (TIMES["started"], TIMES["ended"])
    tool = graph[train["instrument"]["@id"]]
    assert tool["name"] == "mrs_synthesis.train"
    assert {graph[one["@id"]]["softwareVersion"] for one in tool["softwareRequirements"]} == set(ENVIRONMENT.values())
    assert graph["#tool/convert"]["name"] == "mrs_synthesis.convert"  # of shards the stage, not the program of shards
    step = graph["workflow/Snakefile#train"]
    assert step["workExample"] == train["instrument"]
    assert {"@id": step["@id"]} in graph["workflow/Snakefile"]["step"]
    assert graph["#control/train"] | {"object": {"@id": "#job/train"}} == graph["#control/train"]
    assert len(graph["#control/convert"]["object"]) == 2
    # not among the results, or gone: name and hash only
    assert graph["#outside/config/samples.tsv"]["sha256"] == "1" * 64
    assert graph["#grid/a/model/gone.npz"]["@type"] == "CreativeWork"


def test_nobody_is_named_and_the_licence_is_the_studys_own(study):
    graph = describe(study)
    people = [name for name, entity in graph.items() if "Person" in listed(entity["@type"])]
    assert people == [] and str(study) not in json.dumps(graph)
    assert "No licence is stated" in graph[graph["./"]["license"]["@id"]]["description"]
    assert graph["workflow/Snakefile"]["license"]["@id"].endswith("BSD-3-Clause")
    graph = describe(study, "--licence", "CC-BY-4.0")
    assert graph["./"]["license"]["@id"] == "https://spdx.org/licenses/CC-BY-4.0"
    graph = describe(study, "--licence", "https://example.org/terms")
    assert graph["./"]["license"]["@id"] == "https://example.org/terms"


def test_workflow_is_copied_whole_and_equal_provenance_gives_equal_bytes(study, root):
    describe(study)
    first = (study / "ro-crate-metadata.json").read_bytes()
    assert (study / "workflow" / "Snakefile").read_bytes() == (root / "Snakefile").read_bytes()
    rule = Path("workflow") / "rules" / "train.smk"
    assert (study / "workflow" / rule).read_bytes() == (root / rule).read_bytes()
    assert not list((study / "workflow").rglob("__pycache__"))
    describe(study)
    assert (study / "ro-crate-metadata.json").read_bytes() == first


def test_a_large_studys_scans_are_counted_not_listed(tmp_path):
    finished(tmp_path, 40, 25)
    graph = describe(tmp_path)
    assert graph["rawdata/"]["description"].endswith("1 files of 1000 scans")
    assert not [name for name in graph if name.startswith("rawdata/sub")]
    assert (tmp_path / "ro-crate-metadata.json").stat().st_size < 300_000
    assert "mrs_synthesis.shard --units (the scans" in graph["#job/convert/seen-0001"]["description"]


def test_what_cannot_be_described_is_one_line(study, tmp_path):
    words = ["--provenance", str(study / "provenance.json"), "--workflow", str(study / "w")]
    with pytest.raises(InputError, match=r"expected ro-crate-metadata\.json"):
        crate.main([*words, "--output", str(study / "crate.json")])
    known = json.loads((study / "provenance.json").read_text())
    write_json(study / "provenance.json", known | {"jobs": {}})
    with pytest.raises(InputError, match="no job"):
        crate.main([*words, "--output", str(study / "ro-crate-metadata.json")])
    assert not (study / "w").exists()


@pytest.fixture(scope="session")
def validator(root, tmp_path_factory):
    """A Python with the validator: its pins (rich < 14) cannot be installed beside the project's."""
    folder = tmp_path_factory.mktemp("validator")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pins = root / "tests" / "crate" / "requirements.txt"
    call = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", pins]
    subprocess.run(call, check=True)
    return python


def validated(validator, root, study, profile):
    """Return whether the validator accepts a crate, and what it says against it."""
    report = study.parent / "validation.json"
    call = [validator, root / "tests" / "crate" / "validate.py", study, profile, report]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert report.exists(), done.stdout + done.stderr
    found = json.loads(report.read_text())
    report.unlink()
    return found["passed"], [issue["message"] for issue in found["issues"]]


@pytest.mark.slow
def test_the_validator_accepts_the_crate_and_refuses_a_broken_one(validator, root, tmp_path):
    study = tmp_path / "study"
    finished(study, 2, 3)
    describe(study)
    for profile in ("ro-crate-1.1", "process-run-crate", "workflow-run-crate", "provenance-run-crate"):
        assert validated(validator, root, study, profile) == (True, []), profile
    path = study / "ro-crate-metadata.json"
    content = json.loads(path.read_text())
    for entity in content["@graph"]:
        if entity["@id"] == "#control/train":
            del entity["instrument"]
    write_json(path, content)
    passed, issues = validated(validator, root, study, "provenance-run-crate")
    assert not passed and any("HowToStep" in issue for issue in issues)
