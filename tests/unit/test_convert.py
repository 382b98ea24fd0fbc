"""Conversion: positions of known peaks, order of edit conditions, one-line refusals, no personal data."""

import gzip
import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from scan_files import DWELL, MHZ, OFF, POINTS, edited, fid, interleave, scan_peak, sdat, write_nifti

from mrs_synthesis import convert, editing, header, scans, vendor_twix
from mrs_synthesis.stage import InputError


def test_sdat_with_an_inverted_condition(tmp_path):
    """Philips rows ON, OFF, ON, ... with OFF stored negative; water rows of alternating sign."""
    off, on = edited(6, noise=0.2)
    metab = sdat(tmp_path / "S01_act.sdat", interleave(np.stack([on, -off])[:, :, 0]))
    water = np.stack([500 * fid(("water",)) * sign for sign in (1, -1, 1, -1)])
    reference = sdat(tmp_path / "S01_ref.SDAT", water)
    out, ref = tmp_path / "o" / "u_svs.nii.gz", tmp_path / "o" / "u_mrsref.nii.gz"
    record = convert.convert(
        metab=metab, format_name="philips_sdat", output=out, water=reference, water_role="both", output_ref=ref,
        edit_scheme="mega", edit_order="interleaved_on_off",
    )  # fmt: skip
    scan, water_scan = scans.read_scan(out), scans.read_scan(ref)
    assert scan.conditions == ("OFF", "ON")
    assert scan.fids.shape == (2, 6, 1, POINTS)
    np.testing.assert_allclose(scan.fids[1], on, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scan.fids[0], off, rtol=1e-5, atol=1e-4)
    assert "OFF, stored with opposite sign" in record["notes"]
    assert water_scan.fids.shape == (1, 4, 1, POINTS)
    np.testing.assert_allclose(
        np.abs(water_scan.fids.mean(axis=1)), np.abs(500 * fid(("water",)))[None, None], rtol=1e-3
    )
    assert abs(scan_peak(out, 1.8, 2.2) - 2.008) < 0.01
    assert (record["n_transients"], record["n_conditions"], record["te_ms"], record["water"]) == (6, 2, 68.0, 1)
    sidecar = json.loads(scans.sidecar_path(out).read_text())
    assert sidecar["NumberOfSourceFiles"] == 2
    assert sidecar["GeneratedBy"][1]["Name"] == "spec2nii"
    assert sidecar["GeneratedBy"][1]["Description"] == "spec2nii philips <scan.sdat> <file.spar>"
    assert str(tmp_path) not in scans.sidecar_path(out).read_text()
    assert "S01" not in scans.sidecar_path(out).read_text()  # such a name may be a person's


def test_twix_with_coils_by_its_header(tmp_path):
    off, on = edited(4, coils=3, noise=0.2)
    rows = np.stack([on, off], axis=1).reshape(8, 3, POINTS)
    protocol = vendor_twix.Protocol(sequence=vendor_twix.EDITED, dwell_s=DWELL, frequency_mhz=MHZ, te_s=0.068, tr_s=2.0)
    vendor_twix.write_twix(tmp_path / "meas.dat", rows.astype(np.complex64), protocol)
    out = tmp_path / "u_svs.nii.gz"
    record = convert.convert(metab=tmp_path / "meas.dat", format_name="siemens_twix", output=out, edit_scheme="mega")
    scan = scans.read_scan(out)
    assert scan.fids.shape == (2, 4, 3, POINTS)
    np.testing.assert_allclose(scan.fids[0], off, rtol=1e-5, atol=1e-4)
    assert record["n_coils"] == 3
    assert set(scan.header) <= {"SpectrometerFrequency", "ResonantNucleus", *header.KEPT}


def write_data_list(path, blocks):
    """Philips data/list with one mix per block of shape (averages, coils, points)."""
    lines, content = [f". 0 0 0  number_of_mixes                    : {len(blocks):4d}"], b""
    for mix, block in enumerate(blocks):
        for average, coils in enumerate(block):
            for coil, values in enumerate(coils):
                data = values.astype("<c8").tobytes()
                lines.append(f"  STD {mix} 0 0 0 0 {coil} 0 0 0 0 0 {average} 1 0 0 0 0 0 {len(data)} {len(content)}")
                content += data
    path.write_bytes(content)
    path.with_suffix(".list").write_text("\n".join(lines) + "\n")


def test_data_list_with_embedded_water(tmp_path):
    pair = edited(4, coils=2, noise=0.2)
    rows = pair.swapaxes(0, 1).reshape(8, 2, POINTS)
    water = np.repeat(300 * fid(("water",))[None, None], 2, axis=1).repeat(3, axis=0)
    write_data_list(tmp_path / "scan.data", [rows, water])
    sdat(tmp_path / "other.SDAT", rows[:, 0])
    out, ref = tmp_path / "u_svs.nii.gz", tmp_path / "u_mrsref.nii.gz"
    record = convert.convert(
        metab=tmp_path / "scan.data", format_name="philips_data_list", aux=tmp_path / "other.SPAR", output=out,
        output_ref=ref, water_role="embedded", edit_scheme="mega", edit_order="interleaved_off_on",
    )  # fmt: skip
    assert scans.read_scan(out).fids.shape == (2, 4, 2, POINTS)
    assert scans.read_scan(ref).fids.shape == (1, 3, 2, POINTS)
    np.testing.assert_allclose(scans.read_scan(out).fids, pair, rtol=1e-5, atol=1e-4)
    assert record["water"] == 1


def test_equal_input_gives_equal_bytes_and_no_personal_data(tmp_path):
    fields = {
        "EchoTime": 0.03,
        "RepetitionTime": 2.0,
        "PatientName": "SECRET",
        "PatientDoB": "SECRET",
        "InstitutionName": "SECRET",
        "ProtocolName": "SECRET",
        "OriginalFile": ["SECRET.dat"],
        "SequenceName": "svs_se",
        "ProcessingApplied": [
            {
                "Time": "2020",
                "Program": "x",
                "Version": "1",
                "Method": "Alignment of subtraction sub-spectra",
                "Details": "tool(/home/SECRET/a.nii)",
            }
        ],
    }
    metab = write_nifti(tmp_path / "in.nii.gz", fid(OFF)[None, None, None], fields)
    for name in ("a", "b"):
        convert.convert(metab=metab, format_name="nifti_mrs", output=tmp_path / name / "u_svs.nii.gz")
    first, second = ((tmp_path / name / "u_svs.nii.gz").read_bytes() for name in ("a", "b"))
    assert first == second
    assert (tmp_path / "a" / "u_svs.json").read_bytes() == (tmp_path / "b" / "u_svs.json").read_bytes()
    content = gzip.decompress(first)
    assert b"SECRET" not in content
    assert b"svs_se" in content
    assert b"Alignment of subtraction sub-spectra" in content


def test_stopped_scan_loses_whole_pairs(tmp_path):
    rows = interleave(edited(6, noise=0.2)[:, :, 0])
    rows[9:] = 0  # pair 4 is half there, pair 5 is not
    metab = sdat(tmp_path / "S.SDAT", rows)
    record = convert.convert(
        metab=metab, format_name="philips_sdat", output=tmp_path / "u_svs.nii.gz",
        edit_scheme="mega", edit_order="interleaved_off_on",
    )  # fmt: skip
    assert record["n_transients"] == 4
    assert "2 of 6 transients" in record["notes"]


def test_times_are_overridden_and_taken_from_a_sidecar(tmp_path):
    data = fid(OFF)[None, None, None]
    metab = write_nifti(tmp_path / "a.nii.gz", data, {"EchoTime": 35.0, "RepetitionTime": 2.0})
    record = convert.convert(metab=metab, format_name="nifti_mrs", output=tmp_path / "o.nii.gz", te_ms=35)
    assert record["te_ms"] == 35
    assert "replaced by 35 ms" in record["notes"]
    metab = write_nifti(tmp_path / "b.nii.gz", data, {})
    (tmp_path / "b.json").write_text('{"EchoTime": 0.03}')
    record = convert.convert(metab=metab, format_name="nifti_mrs", output=tmp_path / "o.nii.gz")
    assert (record["te_ms"], record["tr_ms"]) == (30, None)


def bad(tmp_path, case):
    """Return the arguments of a conversion that must be refused."""
    good = fid(OFF)[None, None, None].repeat(2, axis=1)
    path = tmp_path / "x.nii.gz"
    call = {"metab": path, "format_name": "nifti_mrs", "output": tmp_path / "o.nii.gz"}
    if case == "missing":
        return call
    if case == "folder":
        (tmp_path / "empty").mkdir()
        return call | {"metab": tmp_path / "empty", "format_name": "siemens_dicom"}
    if case in ("suffix", "garbage"):
        file = tmp_path / ("x.dat" if case == "suffix" else "x.rda")
        file.write_bytes(b"not a scan\r\n" * 50)
        return call | {"metab": file, "format_name": "siemens_rda"}
    if case in ("cut", "no spar"):
        file = sdat(tmp_path / "x.SDAT", good[0, :, 0])
        if case == "cut":
            file.write_bytes(file.read_bytes()[:-800])
        else:
            (tmp_path / "x.SPAR").unlink()
        return call | {"metab": file, "format_name": "philips_sdat"}
    times = {"no te": {}, "te": {"EchoTime": 35.0}, "tr": {"EchoTime": 0.035, "RepetitionTime": 0.002}}.get(case)
    if case == "zero":
        good = good * 0
    if case == "mirrored":
        good = np.conj(good)
    write_nifti(path, good, times)
    if case in ("nan", "nucleus", "plain"):
        image = nib.load(path)
        data = np.asanyarray(image.dataobj).copy()
        extensions = [e.get_content() for e in image.header.extensions]
        text = extensions[0].decode() if isinstance(extensions[0], bytes) else extensions[0]
        if case == "nan":
            data[..., 5, :] = np.nan
        new = nib.Nifti2Image(data, image.affine, image.header)
        new.header.extensions.clear()
        if case != "plain":
            text = text.replace('"1H"', '"31P"') if case == "nucleus" else text
            new.header.extensions.append(nib.nifti1.Nifti1Extension(44, text.encode()))
        nib.save(new, path)
    if case == "water":
        water = write_nifti(tmp_path / "w.nii.gz", fid(("water",), points=512)[None, None, None])
        return call | {"water": water, "water_role": "both", "output_ref": tmp_path / "r.nii.gz"}
    if case == "embedded":
        return call | {"water_role": "embedded", "output_ref": tmp_path / "r.nii.gz"}
    if case == "aux":
        return (
            call
            | {"metab": sdat(tmp_path / "y.SDAT", good[0, :, 0]), "format_name": "philips_sdat"}
            | {"aux": tmp_path / "nowhere.SPAR"}
        )
    return call


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "no such file"),
        ("folder", "empty folder"),
        ("suffix", "suffix .dat, expected .rda"),
        ("garbage", "spec2nii could not read it as siemens_rda"),
        ("cut", "bytes, expected 16384"),
        ("no spar", "no .SPAR file of the same name beside it"),
        ("aux", "nowhere.SPAR: no such file"),
        ("no te", "no EchoTime"),
        ("te", "EchoTime 35000 ms in the header"),
        ("tr", "RepetitionTime 2 ms in the header"),
        ("zero", "all data are zero"),
        ("mirrored", "complex-conjugated"),
        ("nan", "NaN"),
        ("nucleus", "nucleus 31P"),
        ("plain", "without the MRS header extension"),
        ("water", "512 points, but the scan x.nii.gz has 1024"),
        ("embedded", "no water reference inside"),
    ],
)
def test_refusals_are_one_line_and_name_the_file(tmp_path, case, message):
    call = bad(tmp_path, case)
    with pytest.raises(InputError) as caught:
        convert.convert(**call)
    text = str(caught.value)
    assert message in text
    assert str(tmp_path) in text
    assert "\n" not in text
    assert not call["output"].exists()


def test_swapped_order_fails_only_its_own_subject(tmp_path, capsys):
    metab = write_nifti(tmp_path / "x.nii.gz", edited()[::-1], conditions=("OFF", "ON"))
    out, status = tmp_path / "u_svs.nii.gz", tmp_path / "u.json"
    arguments = f"--unit u --format nifti_mrs --metab {metab} --edit-scheme mega --output {out} --status {status}"
    convert.main(arguments.split())
    record = json.loads(status.read_text())
    assert record["status"] == "failed"
    assert record["reason"].startswith("metab: ")
    assert str(metab) in capsys.readouterr().err  # the log names the file, whose name may be a person's
    assert "set edit_order to interleaved_on_off" in record["reason"]
    assert out.stat().st_size == 0
    assert scans.sidecar_path(out).stat().st_size == 0
    convert.main([*arguments.split(), "--edit-order", "interleaved_on_off"])
    assert json.loads(status.read_text())["status"] == "ok"
    assert scans.read_scan(out).fids.shape == (2, 8, 1, POINTS)


def test_water_options_must_agree(tmp_path):
    base = ["--unit", "u", "--format", "nifti_mrs", "--metab", "x.nii", "--output", str(tmp_path / "o.nii.gz")]
    for extra in (
        ["--water-role", "both"],
        ["--water", "w.nii"],
        ["--output-ref", "r.nii.gz"],
        ["--water-role", "both", "--output-ref", "r.nii.gz"],
        ["--water-role", "embedded", "--water", "w.nii", "--output-ref", "r.nii.gz"],
    ):
        with pytest.raises(SystemExit):
            convert.main([*base, *extra])


def test_water_without_a_role_is_left_out(tmp_path):
    metab = write_nifti(tmp_path / "x.nii.gz", fid(OFF)[None, None, None])
    arguments = f"--unit u --format nifti_mrs --metab {metab} --water {tmp_path}/w.nii --water-role none --output"
    convert.main([*arguments.split(), str(tmp_path / "o.nii.gz")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.json", "o.nii.gz", "x.nii.gz"]


def test_help_names_every_format(root):
    done = subprocess.run(
        [sys.executable, "-m", "mrs_synthesis.convert", "--help"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root / "workflow")}, check=True,
    )  # fmt: skip
    for name in convert.FORMATS:
        assert done.stdout.count(name) >= 2


def test_the_lists_of_the_command_line_are_those_of_the_modules():
    from mrs_synthesis import convert_formats

    assert convert.FORMATS == convert_formats.FORMATS
    assert convert.EDIT_ORDERS == editing.EDIT_ORDERS
