"""Pins, hashes, licences, vulnerabilities and the bill of materials: what is installed is what was reviewed."""

import hashlib
import importlib.metadata as metadata
import json
import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

ENVS = Path(__file__).resolve().parents[2] / "envs"
sys.path.append(str(ENVS))

import audit  # noqa: E402
import install  # noqa: E402
import licences  # noqa: E402
import lock  # noqa: E402
import sbom  # noqa: E402

PARTS = ["default", "torch", "torch-cpu", "development", "tools"]


def pins(root, name):
    return [line for line in (root / name).read_text().splitlines() if not line.startswith("-r ")]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_exact_pins(root, name):
    lines = pins(root, name)
    assert len(lines) > 10
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.]*", line)] == []


def test_pins_follow_the_extras_that_a_package_asks_for():
    """Textual asks for markdown-it-py[linkify], whose extra needs linkify-it-py: pip installs that too."""
    try:
        found = lock.closure(["textual"])
    except metadata.PackageNotFoundError:
        pytest.skip("needs textual")
    assert [pin for pin in found if pin.startswith("linkify-it-py==")]


@pytest.mark.parametrize("part", PARTS)
def test_every_locked_pin_is_exact_and_has_hashes_and_no_address(part):
    text = (lock.LOCKS / f"{part}.lock").read_text()
    found = lock.blocks(text)
    assert found
    assert "://" not in text
    for name, block in found.items():
        first, *rest = re.sub(r" \\$", "", block.rstrip(), flags=re.MULTILINE).splitlines()
        assert re.fullmatch(rf"{name}==[0-9][A-Za-z0-9.+]*( ; .+)?", first), block
        assert rest, f"{name}: no hash"
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in rest), block


def test_locks_hold_exactly_the_pins(root):
    default = {*pins(root, "requirements.txt")}
    locked = {part: {f"{n}=={v}" for n, v in lock.pinned(lock.LOCKS / f"{part}.lock").items()} for part in PARTS}
    torch = {pin for pin in default if pin.startswith("torch==")}
    assert locked["default"] == default - torch
    assert torch < locked["torch"]
    assert locked["torch-cpu"] == {f"{pin}+cpu" for pin in torch}
    assert locked["development"] == {*pins(root, "requirements-dev.txt")}
    assert not lock.locks_that_differ()


def test_what_torch_needs_beyond_the_pins_is_asked_for_on_linux_alone():
    for name, block in lock.blocks((lock.LOCKS / "torch.lock").read_text()).items():
        assert name == "torch" or "sys_platform == 'linux'" in block.splitlines()[0]


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_a_pin_that_no_lock_holds_is_noticed(tmp_path, monkeypatch, root, file):
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (root / name).read_text()
        (tmp_path / name).write_text(text + ("new-package==1.0\n" if name == file else ""))
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    expected = "default" if file == "requirements.txt" else "development"
    assert [path.stem for path in lock.locks_that_differ()] == [expected]


# Installing


class Pip:
    """Stands in for pip: remembers which locks were asked for and fails as told."""

    def __init__(self, failing=None):
        self.asked, self.failing = [], failing or {}

    def __call__(self, *words, capture=False):
        name = Path(words[-1]).stem
        self.asked.append((name, "--require-hashes" in words and "--no-deps" in words))
        errors = self.failing.get(name, "")
        return SimpleNamespace(returncode=int(bool(errors)), stderr=errors)


def installed(monkeypatch, *words, here=install.TRIED, failing=None):
    """Return what the installation asked pip for, and its exit status."""
    pip = Pip(failing)
    monkeypatch.setattr(install, "pip", pip)
    monkeypatch.setattr(install, "here", lambda: here)
    monkeypatch.setattr(sys, "argv", ["install.py", *words])
    with pytest.raises(SystemExit) as end:
        install.main()
    return pip.asked, end.value.code


def test_every_file_is_checked_where_the_locks_were_tried(monkeypatch):
    asked, status = installed(monkeypatch, "--development")
    assert status == 0
    assert [name for name, _ in asked] == ["setuptools", "default", "torch-cpu", "development"]
    assert all(checked for _, checked in asked)


def test_the_index_s_own_torch_is_taken_where_there_is_no_other(monkeypatch):
    failing = {"torch-cpu": f"ERROR: {install.NONE_SUCH}==2.13.0+cpu\n"}
    asked, status = installed(monkeypatch, failing=failing)
    assert status == 0
    assert [name for name, _ in asked] == ["setuptools", "default", "torch-cpu", "torch"]


@pytest.mark.parametrize("name", ["setuptools", "default", "torch-cpu"])
def test_a_file_that_differs_ends_the_installation(monkeypatch, capfd, name):
    failing = {name: "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE\n"}
    asked, status = installed(monkeypatch, failing=failing)
    assert status
    assert asked[-1] == (name, True)
    assert "make HASHES=no" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "here", "checked"),
    [
        ((), ("CPython", "3.11", "Darwin", "arm64"), False),
        ((), ("CPython", "3.12", "Linux", "x86_64"), False),
        ((), ("CPython", "3.11", "Linux", "aarch64"), False),
        (("--hashes", "no"), install.TRIED, False),
        (("--hashes", "yes"), ("CPython", "3.11", "Darwin", "arm64"), True),
    ],
)
def test_where_hashes_are_asked_for(monkeypatch, capsys, words, here, checked):
    asked, status = installed(monkeypatch, *words, here=here)
    assert status == 0
    assert {one for _, one in asked} == {checked}
    assert [name for name, _ in asked] == ["requirements"] or checked
    assert ("Exact pins without hashes" in capsys.readouterr().out) == (not words)


def test_locks_of_other_pins_are_refused(monkeypatch):
    monkeypatch.setattr(install, "locks_that_differ", lambda: [install.LOCKS / "default.lock"])
    asked, status = installed(monkeypatch)
    assert not asked
    assert status.startswith("envs/locks/default.lock: pins differ")


def wheel(folder):
    """Write the smallest package there is; return its SHA-256."""
    about = {"METADATA": "Metadata-Version: 2.1\nName: tiny-one\nVersion: 1.0\n"}
    about["WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    about["RECORD"] = ""
    path = folder / "tiny_one-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny_one.py", "")
        for name, text in about.items():
            file.writestr(f"tiny_one-1.0.dist-info/{name}", text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pip_refuses_a_file_whose_hash_is_another(tmp_path, monkeypatch, capfd):
    pytest.importorskip("pip")
    right = wheel(tmp_path)
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
        "PIP_TARGET": str(tmp_path / "target"),
    }.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "tiny.lock"
    for digest, good in ((right[::-1], False), (right, True)):
        file.write_text(f"tiny-one==1.0 \\\n    --hash=sha256:{digest}\n")
        assert (install.locked(file).returncode == 0) == good
        assert (tmp_path / "target" / "tiny_one.py").exists() == good
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err


# Licences


def test_table_of_licences_lists_exactly_the_pins(root):
    rows = licences.read()
    listed = {(row["package"], row["version"]) for row in rows}
    wanted = {
        tuple(pin.split("==")) for name in ("requirements.txt", "requirements-dev.txt") for pin in pins(root, name)
    }
    cuda = set(lock.pinned(lock.LOCKS / "torch.lock").items())
    assert listed == wanted | cuda
    assert len(rows) == len(listed)


def test_every_licence_is_known_and_reviewed():
    assert licences.unreviewed(licences.read()) == []


def test_no_copyleft_package_is_needed_by_the_workflow_beyond_those_reviewed():
    care = {row["package"]: row["licence"] for row in licences.read() if row["used_for"] == "the workflow"}
    strict = {name for name, licence in care.items() if set(licences.parts(licence)) - licences.PERMISSIVE}
    assert strict == {"certifi", "tqdm"}  # MPL-2.0, which holds for their own files alone
    imports = re.compile(r"^\s*(?:from|import)\s+pingouin\b", re.MULTILINE)
    package = ENVS.parent / "workflow" / "mrs_synthesis"
    assert [path.name for path in package.glob("*.py") if imports.search(path.read_text())] == []


def test_table_of_licences_is_what_the_installed_packages_say():
    for row in licences.read():
        try:
            same = metadata.version(row["package"]).partition("+")[0] == row["version"]
        except metadata.PackageNotFoundError:
            same = False
        if same:
            assert licences.row(row["package"], row["version"], row["used_for"]) == row


@pytest.mark.parametrize(
    ("licence", "care", "good"),
    [
        ("MIT", "", True),
        ("(MIT OR Apache-2.0) AND BSD-3-Clause", "", True),
        ("", "", False),
        ("", "asked the authors", False),
        ("GPL-3.0-only", "", False),
        ("MIT AND LGPL-2.1-or-later", "", False),
        ("LGPL-2.1-or-later", "dynamically linked", True),
        ("LicenseRef-Something", "", False),
    ],
)
def test_a_licence_that_nobody_reviewed_is_found(licence, care, good):
    row = {"package": "x", "licence": licence, "care": care}
    assert licences.unreviewed([row]) == ([] if good else ["x"])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("License-Expression", "MIT"), ("License", "BSD")], ("MIT", "License-Expression")),
        ([("License", "Apache License, Version 2.0")], ("Apache-2.0", "License")),
        ([("Classifier", "License :: OSI Approved :: MIT License")], ("MIT", "Classifier")),
        ([("Classifier", "License :: OSI Approved :: BSD License")], ("", "")),  # which of them?
        (
            [
                ("Classifier", "License :: OSI Approved :: MIT License"),
                ("Classifier", "License :: OSI Approved :: GNU General Public License (GPL)"),
            ],
            ("", ""),
        ),
        ([("License", "see the file")], ("", "")),
        ([], ("", "")),
    ],
)
def test_what_a_package_says_of_its_licence(fields, expected):
    about = Message()
    for name, value in fields:
        about[name] = value
    assert licences.said(SimpleNamespace(metadata=about)) == expected


# Known vulnerabilities


def found(name, **more):
    return {"name": name, "version": "1.0", **more}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([found("a", vulns=[]), found("b", vulns=[])], 0, "2 packages: no known vulnerability"),
        (
            [
                found("a", vulns=[{"id": "PYSEC-1", "aliases": ["CVE-2"], "fix_versions": ["1.1"]}]),
                found("b", vulns=[]),
            ],
            1,
            "a 1.0: PYSEC-1, CVE-2; fixed in 1.1",
        ),
        ([found("a", vulns=[]), found("b", skip_reason="not found")], 1, "Not audited: 1 of 2 packages"),
        ([found("a", skip_reason="not found")], 2, "Not audited: the advisory database knew none"),
        ([], 2, "Not audited"),
    ],
)
def test_verdict_on_vulnerabilities(packages, status, words):
    lines, code = audit.verdict(json.dumps({"dependencies": packages}), "")
    assert code == status
    assert len(lines) == 1
    assert words in lines[0]


def test_no_network_is_one_line():
    lines, code = audit.verdict("", "Traceback ...\nrequests.exceptions.ProxyError: no route")
    assert code == 2
    assert len(lines) == 1
    assert "no advisory database was reached" in lines[0]
    assert "no route" in lines[0]


# Bill of materials


def listing(*names):
    versions = lock.pinned(lock.LOCKS / "default.lock") | lock.pinned(lock.LOCKS / "torch-cpu.lock")
    versions |= {"pip": "23.2.1", "pytest": "9.2.0"}
    components = [
        {"bom-ref": f"{name}-ref", "name": name.title(), "version": versions[name], "purl": f"pkg:pypi/{name}"}
        for name in names
    ]
    edges = [{"ref": f"{name}-ref", "dependsOn": ["pip-ref", "numpy-ref"]} for name in names]
    return {"components": components, "dependencies": edges, "metadata": {}}


def everything():
    return [*lock.pinned(lock.LOCKS / "default.lock"), "torch"]


def test_bill_of_materials_is_that_of_the_default_environment():
    bom = sbom.completed(listing(*everything(), "pip", "pytest"))
    assert {one["name"].lower() for one in bom["components"]} == set(everything())
    for one in bom["components"]:
        assert one["licenses"][0]["expression"]
        assert one["externalReferences"][-1]["hashes"], one["name"]
    refs = {one["bom-ref"] for one in bom["components"]} | {bom["metadata"]["component"]["bom-ref"]}
    assert all(edge["ref"] in refs and set(edge["dependsOn"]) <= refs for edge in bom["dependencies"])


def test_bill_of_materials_of_other_versions_or_of_too_few_is_refused():
    other = listing(*everything())
    other["components"][0]["version"] = "0.0.1"
    with pytest.raises(SystemExit, match="name another version"):
        sbom.completed(other)
    with pytest.raises(SystemExit, match="numpy: pinned, but not installed"):
        sbom.completed(listing(*(name for name in everything() if name != "numpy")))


@pytest.mark.slow
def test_bill_of_materials_is_valid(root, tmp_path):
    tools = root / ".venv" / "tools" / "bin" / "python"
    if not tools.exists():
        pytest.skip("needs the tools of `make sbom`")
    call = [tools, root / "envs" / "sbom.py", "--python", sys.executable, "--output", tmp_path / "sbom.json"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bom = json.loads((tmp_path / "sbom.json").read_text())
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert {one["purl"].partition("@")[0] for one in bom["components"]} >= {"pkg:pypi/numpy", "pkg:pypi/torch"}


# FSL-MRS's terms

TERMS = "FSL-MRS's licence allows non-commercial use only"


def snakemake(root, folder, *words):
    """Return what the workflow prints for the demo, in a folder of its own, without FSL-MRS on PATH."""
    (folder / "config").symlink_to(root / "config")
    call = [sys.executable, "-m", "snakemake", "--snakefile", root / "Snakefile", "--directory", folder, "--cores", "1"]
    done = subprocess.run(
        [*call, *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath])},
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("sections", "told"),
    [((), None), (("preprocess", "quantify"), "preprocess: engine: fsl-mrs and quantify: engine: fsl-mrs")],
)
def test_who_chooses_fsl_mrs_is_told_its_terms_once(root, tmp_path, sections, told):
    choice = [f"{section}={{engine: fsl-mrs}}" for section in sections]
    words = ["--config", *choice] if choice else []
    demo = ["--configfile", root / "config" / "config.yaml"]
    text = snakemake(root, tmp_path, "--dry-run", "--quiet", "rules", *demo, *words)
    assert "quantify" in text and "rror" not in text, text  # the jobs are planned
    assert text.count(TERMS) == bool(sections)
    assert not told or f"{told}: {TERMS}" in text


def test_a_target_that_needs_fsl_mrs_tells_its_terms_before_it_starts(root, tmp_path):
    text = snakemake(root, tmp_path, "--", "preprocess_agreement")
    assert text.count(TERMS) == 1
    assert text.index(f"preprocess_agreement: {TERMS}") < text.index("Execute 1 jobs")


def test_terms_stand_where_the_engine_is_described(root):
    rows = [row for row in (root / "config" / "README.md").read_text().splitlines() if row.startswith("| `engine` |")]
    assert len(rows) == 2
    assert all("non-commercial use only" in row for row in rows)
    assert "non-commercial use only" in (root / "envs" / "fsl-mrs.yaml").read_text()
    others = [path for path in (root / "envs").glob("*.yaml") if path.name != "fsl-mrs.yaml"]
    assert others
    assert not [path.name for path in others if re.search(r"fsl[-_]mrs", path.read_text())]
