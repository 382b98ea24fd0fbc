"""What the tests of the BIDS datasets share: the two validators."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "bids-validator-deno"


def issues(dataset, severity="error"):
    """Return the validator's findings as (code, what, file). It needs neither network nor cache."""
    beside = Path(sys.executable).with_name(PROGRAM)
    program = str(beside) if beside.exists() else shutil.which(PROGRAM)
    if not program:
        pytest.skip(f"needs {PROGRAM} (requirements-dev.txt)")
    done = subprocess.run([program, str(dataset), "--format", "json"], capture_output=True, text=True)
    found = json.loads(done.stdout)["issues"]["issues"]
    return [(i["code"], i.get("subCode"), i.get("location")) for i in found if i["severity"] == severity]


def check_header(path):
    """Raise nifti_mrs's error if a file is no valid NIfTI-MRS, or an AssertionError if it goes beyond the standard."""
    from nifti_mrs.nifti_mrs import NIFTI_MRS
    from nifti_mrs.validator import validate_nifti_mrs

    from mrs_synthesis.sidecars import METHODS

    image = NIFTI_MRS(str(path))
    validate_nifti_mrs(image)
    header = json.loads(image.header.extensions[0].text)
    for i, length in enumerate(image.shape[4:], start=5):
        for values in header.get(f"dim_{i}_header", {}).values():
            assert len(values) == length, (path, i, values)
    for step in header.get("ProcessingApplied", []):
        assert step["Method"] in METHODS, (path, step)
        assert step["Program"], path
        assert step["Version"], path
    sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    assert sidecar["SpectrometerFrequency"] == header["SpectrometerFrequency"], path
    assert sidecar["ResonantNucleus"] == header["ResonantNucleus"], path
    assert abs(sidecar["SpectralWidth"] - 1 / float(image.header["pixdim"][4])) < 0.01, path
    assert sidecar["EchoTime"] == header["EchoTime"] < 1, path  # s


def as_raw(derivatives, folder):
    """Copy derivatives under names that the validator knows (rec- for desc-), so that it judges their sidecars."""
    folder.mkdir()
    (folder / "dataset_description.json").write_text('{"Name": "copy", "BIDSVersion": "1.10.0", "DatasetType": "raw"}')
    for path in derivatives.glob("sub-*/**/mrs/*_desc-*"):
        if path.name.endswith(("svs.nii.gz", "svs.json", "mrsref.nii.gz", "mrsref.json")):
            new = folder / path.relative_to(derivatives).with_name(path.name.replace("_desc-", "_rec-"))
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new)
    return folder
