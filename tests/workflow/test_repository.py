"""The repository itself: lint, formatting, pins, documented keys."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def run(root, *call):
    return subprocess.run([str(c) for c in call], cwd=root, capture_output=True, text=True)


@pytest.mark.parametrize(
    "call",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("snakefmt", "-S", "--check", "Snakefile", "workflow/rules"),
        ("snakemake", "--lint"),
        ("python", "envs/lock.py", "--check"),
    ],
    ids=lambda call: " ".join(call),
)
def test_clean(root, call):
    done = run(root, BIN / call[0], *call[1:])
    assert done.returncode == 0, done.stdout + done.stderr


def keys(schema, prefix=()):
    for name, content in schema.get("properties", {}).items():
        yield (*prefix, name), content
        yield from keys(content, (*prefix, name))
        yield from keys(content.get("items", {}), (*prefix, name))


def test_every_key_of_the_config_is_described_and_explained(root):
    schema = json.loads((root / "workflow" / "schemas" / "config.schema.json").read_text())
    explained = (root / "config" / "README.md").read_text()
    for path, content in keys(schema):
        assert content.get("description"), path
        assert f"`{path[-1]}`" in explained, path


def test_every_column_of_the_sheet_is_explained(root):
    schema = json.loads((root / "workflow" / "schemas" / "samples.schema.json").read_text())
    explained = (root / "config" / "README.md").read_text()
    assert all(f"`{column}`" in explained for column in schema["properties"])


def test_flags_of_the_config_exist_in_the_stages(root):
    schema = json.loads((root / "workflow" / "schemas" / "config.schema.json").read_text())
    for stage in ("preprocess", "assemble", "train", "synthesise", "augment", "quantify", "evaluate", "phantom"):
        text = run(
            root,
            BIN / "python",
            "-c",
            f"import sys; sys.path.insert(0, 'workflow'); sys.argv = ['x', '--help']; "
            f"from mrs_synthesis import {stage}; {stage}.main(None)",
        ).stdout
        flags = set(re.findall(r"--[a-z][a-z0-9-]*", text))
        for key in schema["properties"][stage]["properties"]:
            if (stage, key) in {
                ("augment", "design"),
                ("phantom", "basis"),
                ("train", "processes"),
                ("assemble", "split_unit"),  # decided with the sheet, before the graph is built
            } or "--" + key.replace("_", "-") in flags:
                continue
            pytest.fail(f"{stage}: {key} is a key of the config but no option of the stage")


def test_modules_are_short_and_no_path_is_absolute(root):
    for path in [*root.glob("workflow/**/*.py"), *root.glob("tests/**/*.py")]:
        text = path.read_text()
        assert "tests" in path.parts or text.count("\n") <= 420, path
        assert not re.search(r"[\"'](/home|/root|/usr|/opt)/", text), path


# What can run code that a file holds, or words that a file holds as code or in a shell
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "jsonpickle"}
HARMLESS = {"yaml": {"SafeLoader", "ScalarNode", "SequenceNode", "YAMLError", "compose"}}  # makes no objects
CALLS = {"eval", "exec", "__import__", "compile"}  # builtins
METHODS = {"torch": {"load"}, "hub": {"load"}, "jit": {"load"}, "pd": {"read_pickle"}, "pandas": {"read_pickle"}}
METHODS |= {"os": {"system", "popen"}}


def runs_code_of_files(source):
    """Yield what of a module's text may run code that a file holds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
            for name in names:
                own = {one.name for one in node.names} if isinstance(node, ast.ImportFrom) else set()
                if own and own <= HARMLESS.get(name, set()):
                    continue
                if name.partition(".")[0] in MODULES or own & METHODS.get(name.rpartition(".")[2], set()):
                    yield f"import of {name}"
        if not isinstance(node, ast.Call):
            continue
        called, given = node.func, {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if isinstance(called, ast.Name) and called.id in CALLS:
            yield called.id
        if given.get("shell"):
            yield "shell=True"
        if not isinstance(called, ast.Attribute):
            continue
        base = getattr(called.value, "id", getattr(called.value, "attr", ""))
        if called.attr in METHODS.get(base, ()):
            yield f"{base}.{called.attr}"
        if base in ("np", "numpy") and called.attr == "load" and given.get("allow_pickle", True) is not False:
            yield f"{base}.load without allow_pickle=False"
        if given.get("allow_pickle"):
            yield "allow_pickle"


def test_no_file_that_is_read_can_run_code(root):
    """Models are safetensors and JSON; arrays are read without pickles; nothing is evaluated, or given to a shell."""
    modules = [*root.glob("workflow/mrs_synthesis/**/*.py"), *root.glob("workflow/scripts/**/*.py")]
    assert len(modules) > 50
    found = {path.name: list(runs_code_of_files(path.read_text())) for path in modules}
    assert {name: what for name, what in found.items() if what} == {}
    for path in root.glob("workflow/rules/*.smk"):  # not Python alone; their shell is Snakemake's
        assert not re.search(r"\b(eval|exec|pickle|yaml\.load|os\.system)\(", path.read_text()), path


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import dill as d",
        "import torch\ntorch.load(path)",
        "from torch import load",
        "torch.load(path, weights_only=True)",
        "torch.jit.load(path)",
        "import yaml",
        "from yaml import unsafe_load",
        "from yaml import compose, load",
        "from yaml import *",
        "eval(text)",
        "exec(text)",
        "np.load(path)",
        "np.load(path, mmap_mode='r')",
        "numpy.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pd.read_pickle(path)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=1)",
    ],
)
def test_code_of_files_is_seen(source):
    assert list(runs_code_of_files(source))


def test_what_runs_no_code_is_left_alone():
    text = "model.eval()\nre.compile('x')\nnp.load(path, allow_pickle=False)\njson.load(stream)\nscans.load(path)"
    text += "\nfrom yaml import SafeLoader, compose"
    assert list(runs_code_of_files(text)) == []
