"""The profiles are explained key by key, and no rule goes to a cluster without saying what it needs."""

import re
import subprocess
import sys

import pytest
import yaml

from mrs_synthesis import job_size


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_every_key_is_explained(root, profile):
    section = re.split(r"^## ", (root / "profiles" / "README.md").read_text(), flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(f"`{profile}`"))
    for key, value in yaml.safe_load((root / "profiles" / profile / "profile.yaml").read_text()).items():
        for name in value if isinstance(value, dict) else [key]:
            assert f"`{name}`" in text or f": {name}`" in text, name


def test_every_rule_of_more_than_a_second_says_what_it_needs(root):
    snakefile = (root / "Snakefile").read_text()
    local = re.findall(r"^    (\w+),$", snakefile.partition("localrules:")[2].partition("\n\n")[0], flags=re.MULTILINE)
    rules = 0
    for path in sorted((root / "workflow" / "rules").glob("*.smk")):
        for name, block in re.findall(r"^ *rule (\w+):\n((?: +.*\n|\n)+)", path.read_text(), flags=re.MULTILINE):
            if name in local or "shell:" not in block:
                continue
            rules += 1
            assert re.search(r"resources:\n +\*\*(needs|training_needs|fitting_needs)\(", block), f"{path.name}: {name}"
    assert rules > 40


def test_memory_and_time_of_a_plan_are_those_of_its_data(root, tmp_path):
    """The demo as planned: shards ask as a shard's size says, the study's tables as all scans do."""
    call = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(tmp_path)]
    call += ["--dry-run", "--workflow-profile", str(root / "profiles" / "default")]
    (tmp_path / "config").symlink_to(root / "config")
    done = subprocess.run([*call, "--config", "shard_size=3"], cwd=tmp_path, capture_output=True, text=True)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    found = dict(
        re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: .*?(mem_mb=\d+.*runtime=\d+|runtime=.*)", text, re.M)
    )
    scan_mb = yaml.safe_load((root / "config" / "config.yaml").read_text()).get("phantom", {}).get("transients", 80)
    size = job_size.Size(3, scan_mb * job_size.MB_PER_TRANSIENT, 66)
    assert f"mem_mb={job_size.memory_mb('convert', size)}" in found["convert"]
    assert f"runtime={job_size.runtime_minutes('convert', size)}" in found["convert"]
    assert f"mem_mb={job_size.memory_mb('compare', job_size.Size(16, 1, 1))}" in found["fidelity"]
    assert "gpu" not in text
