"""A tiny study of the phantom, run once through the whole workflow."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

CONFIG = {
    "study": "tiny",
    "samples": "samples.tsv",
    "seed": 7,
    "shard_size": 2,
    "phantom": {"transients": 14, "basis": {"siemens": "mega123", "philips": "mega128"}},
    "assemble": {"fractions": [0.5, 0.17, 0.33]},
    "train": {"epochs": 2},
    "synthesise": {"modes": ["random", "interpolation", "hybrid"], "decoders": ["mean", "sampled"]},
    "augment": {"n_real": 2, "n_total": 8, "replicates": 2, "real_curve": [1, 2, 4, 8]},
    "basis": {
        "sets": [
            {"name": "mega123", "simulate": {"sequence": "mega-press", "te_ms": 68, "frequency_mhz": 123.25}},
            {"name": "mega128", "simulate": {"sequence": "mega-press", "te_ms": 68, "frequency_mhz": 127.74}},
        ]
    },
    "evaluate": {"ratios": ["DIFF:GABA+", "OFF:tNAA", "OFF:tCho"], "bootstrap": 100},
}
COLUMNS = ["subject", "site", "vendor", "format", "sequence", "edit_scheme", "edit_order"]
COLUMNS += ["metab", "water", "water_role", "split"]
SPLITS = ["train", "train", "validation", "test", "test", "test"]


@dataclass
class Study:
    """A folder with a config and a sample sheet, and how to run the workflow there."""

    root: Path
    folder: Path
    config: str = "study.yaml"

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    def write(self, config: dict, rows: list[dict]) -> None:
        (self.folder / self.config).write_text(yaml.safe_dump(config))
        lines = ["\t".join(COLUMNS)] + ["\t".join(row[c] for c in COLUMNS) for row in rows]
        sheet = self.folder / "samples.tsv"
        text = "\n".join(lines) + "\n"
        if not sheet.exists() or sheet.read_text() != text:  # an equal sheet keeps its time
            sheet.write_text(text)

    def snakemake(self, *arguments: str, path: str = "") -> subprocess.CompletedProcess:
        call = [sys.executable, "-m", "snakemake", "--snakefile", str(self.root / "Snakefile")]
        call += ["--directory", str(self.folder), "--cores", "2", *arguments, "--configfile", self.config]
        paths = [path, str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = os.environ | {"PATH": os.pathsep.join(filter(None, paths))}
        return subprocess.run(call, cwd=self.folder, env=environment, capture_output=True, text=True)

    def rules_to_run(self, *arguments: str) -> set[str]:
        """Return the names of the rules that a dry run would run."""
        done = self.snakemake("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        text = done.stdout + done.stderr
        return {line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith(("rule ", "localrule "))}

    def copy_to(self, folder: Path) -> "Study":
        shutil.copytree(self.folder, folder, copy_function=shutil.copy2)
        return Study(self.root, folder)


def sheet_rows() -> list[dict]:
    rows = []
    for number, split in enumerate(SPLITS, start=1):
        subject, siemens = f"{number:02d}", number % 2 == 1
        vendor = "siemens" if siemens else "philips"
        stem = f"results/tiny/sourcedata/{vendor}/sub-{subject}"
        rows.append(
            {
                "subject": subject,
                "site": f"{vendor}1",
                "vendor": vendor,
                "format": "siemens_twix" if siemens else "philips_sdat",
                "sequence": "megapress",
                "edit_scheme": "mega",
                "edit_order": "from_header" if siemens else "interleaved_on_off",
                "metab": f"{stem}_megapress.dat" if siemens else f"{stem}_act.SDAT",
                "water": f"{stem}_water.dat" if siemens else f"{stem}_ref.SDAT",
                "water_role": "both",
                "split": split,
            }
        )
    return rows


@pytest.fixture(scope="session")
def tiny(root, tmp_path_factory) -> Study:
    """A finished run of the tiny study. Tests that change something work on a copy."""
    study = Study(root, tmp_path_factory.mktemp("tiny"))
    study.write(CONFIG, sheet_rows())
    done = study.snakemake()
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return study
