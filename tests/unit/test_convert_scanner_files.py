"""Conversion of real scanners' files: peaks where they belong, times and shapes as acquired."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scan_files import DWELL, scan_peak

from mrs_synthesis import convert, editing, scans, spectra
from mrs_synthesis.convert_formats import Raw
from mrs_synthesis.stage import InputError


def philips_pairs(folder: Path):
    found = (p for p in folder.rglob("*") if p.name.lower().endswith("_act.sdat"))
    return [(p, p.with_name(p.name.replace("_act", "_ref"))) for p in sorted(found)]


def check_positions(out, ref):
    """NAA where raw data may have it, creatine at its distance (so the axis has the right sign and scale), water."""
    naa = scan_peak(out, 2.008 - 0.15, 2.008 + 0.15)
    assert abs(naa - 2.008) < 0.12
    assert abs(scan_peak(out, naa + 0.92, naa + 1.12) - naa - 1.019) < 0.02
    if ref is not None:
        assert abs(scan_peak(ref, 0.0, 10.0) - 4.65) < 0.05


@pytest.mark.data
def test_siemens_dicom_mega(shared_data, tmp_path):
    folder = shared_data / "siemens-mega-press-68"
    out, ref = tmp_path / "u_svs.nii.gz", tmp_path / "u_mrsref.nii.gz"
    record = convert.convert(
        metab=folder / "svs", format_name="siemens_dicom", output=out, water=folder / "mrsref", water_role="both",
        output_ref=ref, edit_scheme="mega", edit_order="blocked_on_off",
    )  # fmt: skip
    scan = scans.read_scan(out)
    assert scan.fids.shape == (2, 128, 1, 2048)
    assert scans.read_scan(ref).fids.shape == (1, 16, 1, 2048)
    assert record["te_ms"] == 68
    check_positions(out, ref)
    spectrum = np.abs(spectra.to_spectrum(scan.fids[:, :, 0] * np.exp(-20 * np.arange(2048) * DWELL))).mean(axis=1)
    naa = np.abs(scan.ppm - 2.008) < 0.03
    assert spectrum[0, naa].max() > 2 * spectrum[1, naa].max()
    for wrong in ("blocked_off_on", "interleaved_on_off"):
        fids = scan.fids.reshape(256, 1, 2048)[np.r_[128:256, 0:128]]  # as acquired: ON, OFF
        raw = Raw(fids[:, 0].T, ["DIM_DYN"], [{}], {}, scan.frequency_mhz, scan.dwell_s, np.eye(4))
        arranged, order, _ = editing.arrange(raw, "scan", "mega", wrong)
        with pytest.raises(InputError, match="set edit_order to blocked_on_off"):
            editing.check_edit_order(arranged, scan.dwell_s, scan.frequency_mhz, "scan", order)


@pytest.mark.data
def test_siemens_dicom_without_weight_and_with_two_series(shared_data, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    folder = shared_data / "siemens-mega-press-68"
    (tmp_path / "series").mkdir()
    for file in sorted((folder / "mrsref").iterdir())[:3]:
        content = pydicom.dcmread(file)
        content.PatientWeight = None
        content.save_as(tmp_path / "series" / file.name)
    out = tmp_path / "u_svs.nii.gz"
    record = convert.convert(metab=tmp_path / "series", format_name="siemens_dicom", output=out)
    assert record["n_transients"] == 3
    assert "PatientWeight" in record["notes"]
    shutil.copy(folder / "svs" / "0001.IMA", tmp_path / "series" / "9.IMA")
    with pytest.raises(InputError, match="expected one single-voxel scan"):
        convert.convert(metab=tmp_path / "series", format_name="siemens_dicom", output=out)


@pytest.mark.data
@pytest.mark.parametrize("site", ["P1", "P3"])  # upper-case and lower-case names
def test_philips_sdat(shared_data, tmp_path, site):
    metab, water = philips_pairs(shared_data / "philips-press-35" / site)[0]
    out, ref = tmp_path / "u_svs.nii.gz", tmp_path / "u_mrsref.nii.gz"
    convert.convert(
        metab=metab, format_name="philips_sdat", output=out, water=water, water_role="both", output_ref=ref
    )  # fmt: skip
    check_positions(out, ref)


@pytest.mark.data
@pytest.mark.slow
def test_every_philips_sdat(shared_data, tmp_path):
    pairs = philips_pairs(shared_data / "philips-press-35")
    assert len(pairs) == 56
    out, ref = tmp_path / "u_svs.nii.gz", tmp_path / "u_mrsref.nii.gz"
    for metab, water in pairs:
        convert.convert(
            metab=metab, format_name="philips_sdat", output=out, water=water, water_role="both", output_ref=ref
        )
        check_positions(out, ref)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "format_name", "water", "role", "shape"),
    [
        ("siemens-rda-press-30/ACC_PRESS.rda", "siemens_rda", None, "none", (1, 1, 1, 2048)),
        ("ge-press-35/P29184.7", "ge_pfile", None, "embedded", (1, 32, 1, 2048)),
        (
            "coils-steam-7t/metab_raw.nii.gz",
            "nifti_mrs",
            "coils-steam-7t/wref_raw.nii.gz",
            "both",
            (1, 16, 4, 4096),
        ),
    ],
)
def test_other_scanner_files(shared_data, tmp_path, name, format_name, water, role, shape):
    out, ref = tmp_path / "u_svs.nii.gz", tmp_path / "u_mrsref.nii.gz"
    ref = None if role == "none" else ref
    convert.convert(
        metab=shared_data / name, format_name=format_name, output=out, water=water and shared_data / water,
        water_role=role, output_ref=ref,
    )  # fmt: skip
    assert scans.read_scan(out).fids.shape == shape
    check_positions(out, ref)
