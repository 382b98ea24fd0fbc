"""Of the tiny study: its manifest is whole, and the target `verify` names what changed and makes nothing."""

import json
import shutil

from mrs_synthesis import manifest
from mrs_synthesis.files import sha256

RECORDED = "derivatives/sub-04/mrs/sub-04_acq-megapress_desc-cells_svs.nii.gz"
LOST = "derivatives/sub-05/mrs/sub-05_acq-megapress_desc-cells_svs.nii.gz"


def read_json(path):
    return json.loads(path.read_text())


def everything(study):
    """Return times and bytes of all files but logs and what Snakemake keeps for itself."""
    paths = (path for path in study.folder.rglob("*") if path.is_file() and not {".snakemake", "logs"} & {*path.parts})
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_the_manifest_has_all_results_and_the_finished_study_agrees(tiny):
    listed = manifest.read(tiny.results / manifest.NAME)
    folders = ("tables", "figures", "model", "rawdata", "derivatives", "records", "training", "sourcedata", "basis")
    expected = {"report.html", "provenance.json", "config.json", "units.tsv"}
    for path in (path for folder in folders for path in (tiny.results / folder).rglob("*") if path.is_file()):
        if "checkpoint" not in path.parts and path.name != ".snakemake_timestamp":
            expected.add(path.relative_to(tiny.results).as_posix())
    assert expected <= set(listed) and len(expected) > 300
    assert not {name.partition("/")[0] for name in listed} & {"logs", "benchmarks", "status", manifest.NAME}
    assert manifest.recorded(tiny.results).keys() <= listed.keys()
    assert not any(manifest.verify(tiny.results).values())


def test_results_name_the_model(tiny):
    digest = sha256(tiny.results / "model" / "model.safetensors")
    assert read_json(tiny.results / "model" / "config.json")["weights_sha256"] == digest
    assert read_json(tiny.results / "tables" / "summary.json")["model_sha256"] == digest
    synthetic = [
        *(tiny.results / "derivatives").rglob("*_desc-synth*_svs.json"),
        *(tiny.results / "derivatives").rglob("*_desc-recon_svs.json"),
        *(tiny.results / "derivatives").rglob("*_desc-cells_svs.json"),
    ]
    assert len(synthetic) == 3 * (6 + 1 + 1)
    assert {read_json(path)["ModelSHA256"] for path in synthetic} == {digest}
    for name in ("model/README.md", "report.html"):
        assert digest in (tiny.results / name).read_text(), name


def test_verify_names_changes_and_changes_nothing(tiny, tmp_path):
    study = tiny.copy_to(tmp_path / "study")
    before = everything(study)
    done = study.snakemake("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "files are as in manifest.sha256, whose own SHA-256 is" in done.stdout + done.stderr
    assert everything(study) == before

    path = study.results / RECORDED
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (study.results / LOST).unlink()
    shutil.copy(study.results / "report.html", study.results / "tables" / "copy.html")
    (study.folder / "samples.tsv").touch()  # what would be made again because of it is not
    before = everything(study)
    done = study.snakemake("verify")
    assert done.returncode == 1
    said = [line for line in done.stdout.splitlines() + done.stderr.splitlines() if line]
    for words in (f"changed: {RECORDED}", f"missing: {LOST}", "added: tables/copy.html"):
        assert words in said
    assert [line for line in said if line.startswith(("rule ", "localrule "))] == ["localrule verify:"]
    assert everything(study) == before
    assert len([line for line in said if line.startswith(("changed: ", "missing: ", "added: "))]) == 3
