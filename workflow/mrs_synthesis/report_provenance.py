"""What the report says of how a study was made: versions of programs."""

from __future__ import annotations

from typing import Any

from mrs_synthesis.report_data import Study, read_json
from mrs_synthesis.scans import sidecar_path


def software(study: Study) -> dict[str, str]:
    """Return versions by program: this environment's, and those recorded in sidecars, basis and model."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from mrs_synthesis import __version__

    found = {"mrs-synthesis": __version__, "Python (report)": platform.python_version()}
    for package in ("numpy", "pandas", "plotly", "jinja2", "matplotlib", "nibabel", "nifti-mrs"):
        try:
            found[f"{package} (report)"] = version(package)
        except PackageNotFoundError:
            continue
    for part, content in (*((f"basis {name}", basis) for name, basis in study.basis.items()), ("model", study.model)):
        for key in ("versions", "software", "GeneratedBy"):
            found.update(_versions(content.get(key), part))
    if torch := study.model.get("training", {}).get("torch"):
        found["torch (training)"] = str(torch)
    raw = study.derivatives.parent / "rawdata"
    for row in study.units[~study.units["failed"]].itertuples(index=False):
        sidecar = read_json(raw / str(row.folder) / "mrs" / f"{row.unit}_svs.json")
        found.update(_versions(sidecar.get("GeneratedBy"), "conversion"))
    for unit in study.shown_units(1):
        for suffix in ("desc-preproc_svs.nii.gz", "desc-cells_svs.nii.gz"):
            sidecar = read_json(sidecar_path(study.path(unit, suffix)))
            for key in ("versions", "Software", "GeneratedBy"):
                found.update(_versions(sidecar.get(key), suffix.split("_")[0].removeprefix("desc-")))
    return found


def _versions(content: Any, part: str) -> dict[str, str]:
    if isinstance(content, dict):
        return {f"{key} ({part})": str(value) for key, value in content.items() if not isinstance(value, dict | list)}
    if isinstance(content, list):
        return {
            f"{item['Name']} ({part})": str(item.get("Version", "n/a"))
            for item in content
            if isinstance(item, dict) and "Name" in item and item["Name"] != "mrs-synthesis"
        }
    return {}
