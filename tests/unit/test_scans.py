"""NIfTI-MRS files: dimensions, sign convention, refusal of what is not a scan."""

import json

import nibabel as nib
import numpy as np
import pytest
from nifti_mrs.nifti_mrs import NIFTI_MRS
from nifti_mrs.validator import validate_nifti_mrs

from mrs_synthesis import scans, spectra
from mrs_synthesis.stage import InputError, SkippedError


def make_scan(conditions=2, transients=3, coils=2, n=256, dwell=5e-4, mhz=127.7):
    t = np.arange(n) * dwell
    fid = np.exp((2j * np.pi * (2.0 - 4.65) * mhz - 15) * t)
    weight = np.arange(1, conditions * transients * coils + 1).reshape(conditions, transients, coils, 1)
    names = ("OFF", "ON") if conditions == 2 else ("UNEDITED",)
    return scans.Scan(weight * fid, mhz, dwell, {"EchoTime": 0.068, "RepetitionTime": 2.0}, names)


@pytest.mark.parametrize(("conditions", "transients", "coils"), [(2, 3, 2), (2, 3, 1), (1, 3, 2), (1, 1, 1), (2, 1, 1)])
def test_a_scan_comes_back_as_it_was_written(tmp_path, conditions, transients, coils):
    scan = make_scan(conditions, transients, coils)
    scans.write_scan(tmp_path / "s.nii.gz", scan)
    back = scans.read_scan(tmp_path / "s.nii.gz")
    assert back.fids.shape == (conditions, transients, coils, 256)
    assert np.allclose(back.fids, scan.fids, atol=1e-5)
    assert back.conditions == scan.conditions
    assert (back.frequency_mhz, back.dwell_s) == (127.7, pytest.approx(5e-4))
    assert back.header["EchoTime"] == 0.068


def test_the_file_holds_the_conjugate_and_tags_in_the_standard_order(tmp_path):
    scan = make_scan()
    scans.write_scan(tmp_path / "s.nii.gz", scan)
    image = nib.load(tmp_path / "s.nii.gz")
    assert image.shape == (1, 1, 1, 256, 2, 3, 2)
    header = json.loads(image.header.extensions[0].get_content())
    assert [header[f"dim_{i}"] for i in (5, 6, 7)] == ["DIM_COIL", "DIM_DYN", "DIM_EDIT"]
    assert header["dim_7_header"]["EditCondition"] == ["OFF", "ON"]
    stored = np.asanyarray(image.dataobj)[0, 0, 0]
    assert np.allclose(stored[:, 1, 2, 0], np.conj(scan.fids[0, 2, 1]), atol=1e-5)


def test_the_reference_library_accepts_the_file_and_sees_the_peak_at_its_ppm(tmp_path):
    scans.write_scan(tmp_path / "s.nii.gz", make_scan())
    image = NIFTI_MRS(str(tmp_path / "s.nii.gz"))
    validate_nifti_mrs(image)
    # Its [...] undoes the stored conjugation; then ppm increases with a plain FFT.
    fid = image[:].reshape(256, -1)[:, 0]
    top = np.argmax(np.abs(np.fft.fftshift(np.fft.fft(fid))))
    assert spectra.ppm_axis(256, 5e-4, 127.7)[top] == pytest.approx(2.0, abs=0.04)


def test_equal_scans_give_equal_bytes(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        scan = make_scan()
        scans.add_processing(scan, "Phasing", "test")
        scans.write_scan(tmp_path / name, scan)
    first, second = (nib.load(tmp_path / name).to_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert first == second


def test_empty_missing_and_foreign_files_are_told_apart(tmp_path):
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "text.nii.gz").write_text("no image")
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), tmp_path / "anatomy.nii.gz")
    with pytest.raises(SkippedError):
        scans.read_scan(tmp_path / "empty.nii.gz")
    with pytest.raises(InputError, match="no such file"):
        scans.read_scan(tmp_path / "absent.nii.gz")
    with pytest.raises(InputError, match="not a readable NIfTI"):
        scans.read_scan(tmp_path / "text.nii.gz")
    with pytest.raises(InputError, match="without the MRS header"):
        scans.read_scan(tmp_path / "anatomy.nii.gz")


def test_nan_is_neither_written_nor_read(tmp_path):
    scan = make_scan()
    scan.fids[0, 0, 0, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        scans.write_scan(tmp_path / "s.nii.gz", scan)
    assert not (tmp_path / "s.nii.gz").exists()


def test_sidecar_has_the_fields_bids_requires(tmp_path):
    scans.write_sidecar(tmp_path / "x_svs.nii.gz", make_scan(), ["bids:raw:a.nii.gz"], Extra=1)
    content = json.loads((tmp_path / "x_svs.json").read_text())
    assert content["ResonantNucleus"] == ["1H"]
    assert content["SpectralWidth"] == pytest.approx(2000.0)
    assert content["EchoTime"] == 0.068
    assert content["Sources"] == ["bids:raw:a.nii.gz"]
