"""What makes folders BIDS datasets: descriptions, participants, read-me files, and which files validators pass over."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mrs_synthesis import __version__, sidecars
from mrs_synthesis.files import MISSING, write_json, write_text
from mrs_synthesis.sheet import TISSUE_COLUMNS, included, read_samples
from mrs_synthesis.stage import InputError, run

BIDS_VERSION = "1.10.0"  # the first with MR spectroscopy
CITATION = Path(__file__).resolve().parents[2] / "CITATION.cff"
COLUMNS = {
    "site": {"Description": "Site of the scanner"},
    "vendor": {"Description": "Vendor of the scanner"},
    "wm": {"Description": "Fraction of white matter in the voxel; of subjects whose scans all have the same"},
    "gm": {"Description": "Fraction of grey matter in the voxel, likewise"},
    "csf": {"Description": "Fraction of cerebrospinal fluid in the voxel, likewise"},
}
# BIDS 1.10 has no rule for MRS derivatives: their names follow its general rules, which validators do not know
DERIVATIVES_IGNORED = ("/sub-*/mrs/*_desc-*", "/sub-*/ses-*/mrs/*_desc-*")
SIMULATED = "SIMULATED: a digital phantom with known concentrations. No person was scanned."
SYNTHETIC = (
    "Files labelled desc-synth..., desc-recon and in part desc-cells are SYNTHETIC: made by a model, not measured."
)


def software() -> list[dict[str, str]]:
    """Return GeneratedBy; with CodeURL if CITATION.cff names the repository."""
    entry = {"Name": "mrs-synthesis", "Version": __version__}
    text = CITATION.read_text(encoding="utf-8") if CITATION.is_file() else ""
    if found := re.search(r"^repository-code:\s*[\"']?(https?://[^\s\"']+)", text, flags=re.MULTILINE):
        entry["CodeURL"] = found[1]
    return [entry]


def participants(rows: Sequence[dict[str, Any]]) -> tuple[list[list[str]], dict[str, dict[str, str]]]:
    """Return participants.tsv (header first) and its JSON from rows of the sample sheet.

    A column is left out if no subject has a value, and a value if a subject's scans differ in it; the tissue fractions
    go together, as the sample sheet wants them.
    """
    subjects: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        subjects.setdefault(row["subject"], []).append(row)
    table = []
    for subject in sorted(subjects):
        values = {name: {row.get(name) or MISSING for row in subjects[subject]} for name in COLUMNS}
        common = {name: min(found) if len(found) == 1 else MISSING for name, found in values.items()}
        if MISSING in (common[name] for name in TISSUE_COLUMNS):
            common |= dict.fromkeys(TISSUE_COLUMNS, MISSING)
        table.append([f"sub-{subject}", *common.values()])
    used = [i for i, name in enumerate(COLUMNS, start=1) if any(line[i] != MISSING for line in table)]
    names = ["participant_id", *COLUMNS]
    lines = [[line[i] for i in (0, *used)] for line in [names, *table]]
    about = {"participant_id": {"Description": "Subject"}} | {names[i]: COLUMNS[names[i]] for i in used}
    return lines, about


def empty_files(folder: Path) -> list[str]:
    """Return the files of scans whose conversion failed, as patterns of .bidsignore: there, they are empty."""
    found = [path for path in folder.glob("sub-*/**/mrs/*") if path.is_file() and path.stat().st_size == 0]
    return sorted(f"/{path.relative_to(folder).as_posix()}" for path in found)


def write_raw(study: str, samples: str, folder: Path, simulated: bool) -> None:
    """Write what belongs at the root of the raw dataset.

    Raises
    ------
    InputError
        If the sample sheet cannot be read.
    """
    rows = included(read_samples(samples))
    lines, about = participants(rows)
    write_json(
        folder / "dataset_description.json",
        {
            "Name": f"{study} (simulated phantom)" if simulated else study,
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "GeneratedBy": software(),
        },
    )
    write_text(folder / "participants.tsv", _table(lines))
    write_json(folder / "participants.json", about)
    failed = empty_files(folder)
    told = [f"{len(failed)} empty files stand for scans that could not be converted; .bidsignore lists them."]
    _write_readme(
        folder,
        [
            f"Raw data of the study {study}",
            *([SIMULATED] if simulated else []),
            f"MR spectroscopy of {len(lines) - 1} subjects, {len(rows)} scans: single-voxel spectra as NIfTI-MRS "
            "(*_svs.nii.gz) and water references (*_mrsref.nii.gz), converted from the files of the sample sheet by "
            f"mrs-synthesis {__version__}. Coils and transients are kept; edit conditions are ordered OFF, ON. Header "
            "fields that name the person, the place or the day are left out; sidecars identify the converted files by "
            "a hash of their content, not by name.",
            *(told if failed else []),
        ],
    )
    _write_ignored(folder, failed)


def write_derivatives(study: str, labels: Iterable[str], folder: Path, simulated: bool) -> None:
    """Write what belongs at the root of the derivative dataset.

    Parameters
    ----------
    labels
        Of the entity ``desc``, those that files of the dataset have.

    Raises
    ------
    InputError
        If one has no description.
    """
    labels = sorted(set(labels))
    unknown = [label for label in labels if label not in sidecars.LABELS]
    if unknown:
        raise InputError(f"--labels {unknown[0]}: no such label, expected among {', '.join(sidecars.LABELS)}")
    write_json(
        folder / "dataset_description.json",
        {
            "Name": f"{study}: preprocessed and synthetic transients, study cells, fits",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": software(),
            "DatasetLinks": {"raw": "../rawdata"},
            "SourceDatasets": [{"URL": "../rawdata"}],
        },
    )
    rows = [["desc_id", "description"]] + [[f"desc-{label}", sidecars.LABELS[label]] for label in labels]
    write_text(folder / "descriptions.tsv", _table(rows))
    _write_readme(
        folder,
        [
            f"Derivatives of the study {study}",
            *([SIMULATED] if simulated else []),
            SYNTHETIC,
            "descriptions.tsv says what each label means; Sources in a file's sidecar says what it was made from. "
            "Sidecars of tables describe their columns.",
        ],
    )
    _write_ignored(folder, DERIVATIVES_IGNORED)


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


def _write_readme(folder: Path, parts: Sequence[str]) -> None:
    title, *paragraphs = parts
    write_text(folder / "README.md", "\n\n".join([f"# {title}", *paragraphs]) + "\n")


def _write_ignored(folder: Path, patterns: Iterable[str]) -> None:
    write_text(folder / ".bidsignore", "".join(f"{pattern}\n" for pattern in patterns))


def main(argv: Sequence[str] | None = None) -> None:
    """Describe a folder of converted scans, or of what was made from them, as a BIDS dataset."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.bids", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    raw = commands.add_parser("raw", help="rawdata")
    raw.add_argument("--samples", required=True, help="sample sheet or BIDS folder")
    derivatives = commands.add_parser("derivatives", help="derivatives")
    derivatives.add_argument("--labels", nargs="+", required=True, metavar="LABEL", help="desc- labels of its files")
    for part in (raw, derivatives):
        part.add_argument("--study", required=True, help="name of the study")
        part.add_argument("--folder", type=Path, required=True, help="the dataset's root, with sub-* inside")
        part.add_argument("--simulated", action="store_true", help="the data are a phantom's")
    a = parser.parse_args(argv)
    if a.command == "raw":
        write_raw(a.study, a.samples, a.folder, a.simulated)
    else:
        write_derivatives(a.study, a.labels, a.folder, a.simulated)


if __name__ == "__main__":
    run(main)
