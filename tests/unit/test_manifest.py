"""The manifest of a study: what it lists, that sha256sum reads it, and that every kind of change is named."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from mrs_synthesis import manifest
from mrs_synthesis.files import sha256
from mrs_synthesis.stage import InputError

ODD = ["an e with acute \u00e9.tsv", "back\\slash", "line\nbreak", "return\rhere", "<img onerror>", "$(id)", "a  b"]
LISTED = {
    ".bidsignore": "x",
    "report.html": "page",
    "tables/bias.tsv": "1",
    "model/model.safetensors": "w",
    "records/convert/seen-0001.json": "",
    "rawdata/sub-1/mrs/sub-1_svs.nii.gz": "raw",
    "grid/a/tables/t.tsv": "2",
    **{f"odd/{name}": name for name in ODD},
}
LEFT_OUT = ["logs/train.log", "benchmarks/a.tsv", "status/a/b.json", "model/checkpoint/state.safetensors"]
LEFT_OUT += ["complete.json", "basis/set/.snakemake_timestamp", "tables/.bias.0123456789abcdef.tsv"]
LEFT_OUT += ["grid/a/status/x/y.json", "grid/a/model/checkpoint/state.safetensors"]


def put(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def record(folder, name="records/convert/seen-0001.json", digest=None, file="rawdata/sub-1/mrs/sub-1_svs.nii.gz"):
    about = {"bytes": 3, "sha256": digest or sha256(folder / file)}
    put(folder, name, json.dumps({"units": [{"unit": "sub-1", "files": {file: about}}]}))


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    for name, text in LISTED.items():
        put(folder, name, text)
    for name in LEFT_OUT:
        put(folder, name, "no result")
    record(folder)
    manifest.main(["make", str(folder)])
    return folder


def check(folder, capsys):
    """Verify as the program does; return its exit status and lines."""
    capsys.readouterr()
    try:
        manifest.main(["verify", str(folder)])
    except InputError as error:
        assert "\n" not in str(error)
        return 1, [*capsys.readouterr().out.splitlines(), str(error)]
    return 0, capsys.readouterr().out.splitlines()


def everything(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_it_lists_results_and_nothing_else(study, capsys):
    listed = manifest.read(study / "manifest.sha256")
    assert set(listed) == set(LISTED)
    assert all(digest == sha256(study / name) for name, digest in listed.items())
    before = everything(study)
    status, lines = check(study, capsys)
    assert status == 0
    assert lines == [
        f"{study}: all {len(LISTED)} files are as in manifest.sha256, whose own SHA-256 is "
        f"{sha256(study / 'manifest.sha256')}"
    ]
    assert everything(study) == before


def test_equal_files_give_an_equal_manifest(study):
    first = (study / "manifest.sha256").read_bytes()
    manifest.main(["make", str(study)])
    assert (study / "manifest.sha256").read_bytes() == first


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
def test_sha256sum_reads_it_and_writes_the_same(study):
    def sums(*words):
        return subprocess.run(["sha256sum", *words], cwd=study, capture_output=True)

    done = sums("--check", "--strict", "--quiet", "manifest.sha256")
    assert done.returncode == 0, done.stderr
    theirs = sums("--", *manifest.read(study / "manifest.sha256")).stdout
    assert theirs == (study / "manifest.sha256").read_bytes()
    put(study, "odd/line\nbreak", "other")
    assert sums("--check", "--quiet", "manifest.sha256").returncode != 0


def change(folder):
    put(folder, "tables/bias.tsv", "9")


def change_a_bit_and_keep_the_time(folder):
    path = folder / "rawdata/sub-1/mrs/sub-1_svs.nii.gz"
    before = path.stat()
    path.write_text("rav")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_a_folder(folder):
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()


CHANGES = [
    (change, ["changed: tables/bias.tsv"], "1 changed"),
    (change_a_bit_and_keep_the_time, ["changed: rawdata/sub-1/mrs/sub-1_svs.nii.gz"], "1 changed"),
    (lambda f: (f / "report.html").unlink(), ["missing: report.html"], "1 missing"),
    (lambda f: shutil.rmtree(f / "rawdata"), ["missing: rawdata/sub-1/mrs/sub-1_svs.nii.gz"], "1 missing"),
    (replace_by_a_folder, ["missing: report.html"], "1 missing"),
    (lambda f: put(f, "tables/more.tsv", ""), ["added: tables/more.tsv"], "1 added"),
    (lambda f: put(f, "new/.hidden", ""), ["added: new/.hidden"], "1 added"),
    (lambda f: put(f, "a\n\x1b[2J", ""), ["added: 'a\\n\\x1b[2J'"], "1 added"),
    (lambda f: (f / ".bidsignore").rename(f / "b"), ["missing: .bidsignore", "added: b"], "1 missing, 1 added"),
]


def many(folder):
    for k in range(25):
        put(folder, f"n/{k:02d}", "")


CHANGES.append((many, [*(f"added: n/{k:02d}" for k in range(20)), "added: 5 more"], "25 added"))


@pytest.mark.parametrize(("damage", "lines", "counts"), CHANGES)
def test_every_change_is_named(study, capsys, damage, lines, counts):
    damage(study)
    before = everything(study)
    status, said = check(study, capsys)
    assert status == 1
    assert said == [
        *lines,
        f"{study}: {counts}, expected the files of manifest.sha256 alone, unchanged; take them from where the study "
        "was kept, or, if you made them, start the study again and list them with `--forcerun manifest`",
    ]
    assert everything(study) == before


def test_what_is_no_result_may_change(study, capsys):
    for name in LEFT_OUT:
        put(study, name, "other")
    put(study, "logs/more.log", "")
    assert check(study, capsys)[0] == 0


BAD = "take the manifest from where the study was kept"
MANIFESTS = {
    "": 1,
    "no manifest\n": 1,
    f"{'a' * 64}  ../../etc/passwd\n": 1,
    f"{'a' * 64}  /etc/passwd\n": 1,
    f"{'a' * 63}  report.html\n": 1,
    f"{'A' * 64}  report.html\n": 1,
    f"{'a' * 64}  report.html\n{'b' * 64}  report.html\n": 2,
    f"{'a' * 64}  report.html\n\n{'b' * 64}  x\n": 2,
}


@pytest.mark.parametrize("text", MANIFESTS)
def test_a_damaged_manifest_is_refused(study, capsys, text):
    put(study, "manifest.sha256", text)
    path = study / "manifest.sha256"
    expected = f"{path}: line {MANIFESTS[text]} is no SHA-256 and new name of a file in this folder; {BAD}"
    assert check(study, capsys) == (1, [expected])


def test_without_a_manifest(tmp_path, capsys):
    assert check(tmp_path, capsys) == (
        1,
        [
            f"{tmp_path / 'manifest.sha256'}: No such file or directory, expected the manifest of a finished study; "
            "finish it"
        ],
    )


def test_a_file_that_is_not_what_its_job_recorded_is_not_listed(study, capsys):
    """Its record is the older witness; a record of an earlier shard of the same scan may be out of date."""
    record(study, "records/convert/seen-0002.json", digest="0" * 64)
    manifest.main(["make", str(study)])
    before = (study / "manifest.sha256").read_bytes()
    put(study, "rawdata/sub-1/mrs/sub-1_svs.nii.gz", "rav")
    with pytest.raises(InputError) as caught:
        manifest.main(["make", str(study)])
    assert str(caught.value) == (
        f"{study}: rawdata/sub-1/mrs/sub-1_svs.nii.gz not as the job left them that made them (records/); remove them "
        "and start again"
    )
    assert (study / "manifest.sha256").read_bytes() == before


def test_progress_of_a_large_study_is_told(study, monkeypatch, capsys):
    monkeypatch.setattr(manifest, "EVERY_S", -1.0)
    manifest.main(["verify", str(study)])
    assert f"3 of {len(LISTED)} files" in capsys.readouterr().err


def test_links_are_followed_to_files_but_not_to_folders(study, tmp_path, capsys):
    put(tmp_path, "elsewhere/file", "x")
    (study / "loop").symlink_to(study)
    (study / "nowhere").symlink_to(study / "absent")
    os.mkfifo(study / "pipe")
    assert check(study, capsys)[0] == 0
    (study / "link").symlink_to(tmp_path / "elsewhere" / "file")
    assert "added: link" in check(study, capsys)[1]


def test_it_is_read_only_and_ends_with_status_1_as_a_program(study, root, tmp_path):
    (tmp_path / ".snakemake").mkdir()
    call = [sys.executable, "-m", "mrs_synthesis.manifest", "verify", str(study)]
    environment = os.environ | {"PYTHONPATH": str(root / "workflow"), "PYTHONDONTWRITEBYTECODE": "1"}
    before = everything(tmp_path)
    assert subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True).returncode == 0
    assert everything(tmp_path) == before
    change(study)
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "changed: tables/bias.tsv\n"
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
