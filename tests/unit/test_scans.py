"""NIfTI-MRS files: dimensions, sign convention, refusal of what is not a scan."""

import json
from pathlib import Path

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
    folder = tmp_path / "derivatives" / "sub-01" / "mrs"
    raw = tmp_path / "rawdata" / "sub-01" / "mrs" / "sub-01_svs.nii.gz"
    scans.write_sidecar(folder / "sub-01_desc-x_svs.nii.gz", make_scan(), [raw], Extra=1)
    content = json.loads((folder / "sub-01_desc-x_svs.json").read_text())
    assert content["ResonantNucleus"] == ["1H"]
    assert content["SpectralWidth"] == pytest.approx(2000.0)
    assert content["EchoTime"] == 0.068
    assert content["Sources"] == ["bids:raw:sub-01/mrs/sub-01_svs.nii.gz"]
    assert content["Extra"] == 1


@pytest.mark.parametrize("order", [("DIM_DYN", "DIM_EDIT"), ("DIM_EDIT", "DIM_DYN")])
def test_pieces_of_a_scan_are_those_of_the_whole(tmp_path, order):
    scan = make_scan(2, 7, 1)
    scans.write_scan(tmp_path / "s.nii.gz", scan)
    if order[0] == "DIM_EDIT":
        image = nib.load(tmp_path / "s.nii.gz")
        text = image.header.extensions[0].get_content().decode()
        for old, new in (("dim_5", "dim_x"), ("dim_6", "dim_5"), ("dim_x", "dim_6")):
            text = text.replace(old, new)
        swapped = nib.Nifti2Image(np.swapaxes(np.asarray(image.dataobj), 4, 5), image.affine, image.header)
        swapped.header.extensions[:] = [nib.nifti1.Nifti1Extension(44, text.encode())]
        nib.save(swapped, tmp_path / "s.nii.gz")
    whole = scans.read_scan(tmp_path / "s.nii.gz")
    with scans.ScanReader(tmp_path / "s.nii.gz") as reader:
        assert (reader.n_transients, reader.n_points, reader.conditions) == (7, 256, ("OFF", "ON"))
        assert (reader.frequency_mhz, reader.dwell_s) == (whole.frequency_mhz, whole.dwell_s)
        for start, stop in ((0, 3), (3, 6), (6, 7)):
            for i, condition in enumerate(("OFF", "ON")):
                assert np.array_equal(reader.chunk(condition, start, stop), whole.fids[i, start:stop, 0])


def test_reading_in_pieces_decompresses_nothing_twice(tmp_path):
    counter = Path("/proc/self/io")
    if not counter.exists():
        pytest.skip("needs /proc/self/io, which counts the bytes read")

    def bytes_read():
        return int(counter.read_text().split("rchar: ")[1].split()[0])

    noise = np.random.default_rng(0).normal(size=(2, 2, 600, 1, 256))  # noise, so that the file is not small
    scans.write_scan(tmp_path / "s.nii.gz", scans.Scan(noise[0] + 1j * noise[1], 127.7, 5e-4, {}, ("OFF", "ON")))
    size = (tmp_path / "s.nii.gz").stat().st_size
    with scans.ScanReader(tmp_path / "s.nii.gz") as reader:
        before = bytes_read()
        for start in range(0, 600, 10):
            for condition in ("OFF", "ON"):
                reader.chunk(condition, start, start + 10)
        # The handle of OFF reads half of the file, that of ON all of it; decompressing for each piece would be 90 files
        assert 1.4 * size < bytes_read() - before < 1.7 * size


def test_a_reader_returns_nan_as_it_is_and_tells_of_damage(tmp_path):
    scans.write_scan(tmp_path / "s.nii.gz", make_scan(1, 4, 1))
    image = nib.load(tmp_path / "s.nii.gz")
    data = np.asarray(image.dataobj).copy()
    data[..., 5, 2] = np.nan
    nib.save(nib.Nifti2Image(data, image.affine, image.header), tmp_path / "nan.nii.gz")
    with scans.ScanReader(tmp_path / "nan.nii.gz") as reader:
        good = np.isfinite(reader.chunk("UNEDITED", 0, 4))
    assert np.flatnonzero(~good.all(axis=1)).tolist() == [2] and not good[2, 5]
    with pytest.raises(InputError, match="NaN or infinite"):
        scans.read_scan(tmp_path / "nan.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "s.nii.gz").read_bytes()[:-3000])
    with pytest.raises(InputError, match="not a readable NIfTI"), scans.ScanReader(tmp_path / "cut.nii.gz") as reader:
        reader.chunk("UNEDITED", 0, 4)
    scans.write_scan(tmp_path / "coils.nii.gz", make_scan(1, 2, 2))
    with pytest.raises(InputError, match="combine the coils"):
        scans.ScanReader(tmp_path / "coils.nii.gz")


def test_a_header_without_frequency_is_one_line(tmp_path):
    scans.write_scan(tmp_path / "s.nii.gz", make_scan(1, 1, 1))
    image = nib.load(tmp_path / "s.nii.gz")
    image.header.extensions[:] = [nib.nifti1.Nifti1Extension(44, b'{"ResonantNucleus": ["1H"]}')]
    nib.save(nib.Nifti2Image(np.asarray(image.dataobj), image.affine, image.header), tmp_path / "s.nii.gz")
    with pytest.raises(InputError, match="without SpectrometerFrequency"):
        scans.read_scan(tmp_path / "s.nii.gz")
