"""Conversion: positions of known peaks, order of edit conditions, one-line refusals, no personal data."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrs_synthesis import convert, editing, scans, spectra, vendor_philips, vendor_twix
from mrs_synthesis.convert_formats import Raw, Source, cut_points_before_echo
from mrs_synthesis.stage import InputError

MHZ = 123.25
DWELL = 5e-4
POINTS = 1024
LINES = {"NAA": (2.008, 10.0), "Cr": (3.027, 8.0), "Cho": (3.208, 6.0), "water": (4.65, 30.0)}


def fid(names, points=POINTS, shift_hz=0.0, phase=0.0, width_hz=5.0):
    """Lorentzian singlets; a plain FFT puts them at (ppm - 4.65) * MHZ."""
    t = np.arange(points) * DWELL
    lines = [LINES[n][1] * np.exp(2j * np.pi * ((LINES[n][0] - 4.65) * MHZ + shift_hz) * t) for n in names]
    return np.sum(lines, axis=0) * np.exp(1j * phase - np.pi * width_hz * t)


OFF = ("NAA", "Cr", "Cho", "water")
ON = ("Cr", "Cho", "water")


def edited(transients=8, coils=1, noise=0.5, drift_hz=0.0, seed=0):
    """(OFF, ON), transients, coils, points: drifting, with a phase that wanders, and noisy."""
    rng = np.random.default_rng(seed)
    clean = np.empty((2, transients, POINTS), complex)
    for i in range(transients):
        shift, phase = drift_hz * i / transients, rng.uniform(-np.pi, np.pi)
        clean[:, i] = [fid(names, shift_hz=shift, phase=phase) for names in (OFF, ON)]
    profile = rng.standard_normal(coils) + 1j * rng.standard_normal(coils) if coils > 1 else np.ones(1)
    fids = clean[:, :, None] * profile[:, None]
    return fids + noise * (rng.standard_normal(fids.shape) + 1j * rng.standard_normal(fids.shape))


def interleave(pair):
    """Rows in order of acquisition, first condition first."""
    return pair.swapaxes(0, 1).reshape(-1, pair.shape[-1])


def write_nifti(path, fids, header=None, conditions=("UNEDITED",), dimensions=("DIM_DYN",)):
    header = {"EchoTime": 0.068, "RepetitionTime": 2.0} if header is None else header
    scans.write_scan(path, scans.Scan(fids, MHZ, DWELL, header, conditions, dimensions=dimensions))
    return path


def sdat(path, rows, te=0.068, tr=2.0):
    vendor_philips.write_sdat(path, rows, DWELL, MHZ, te, tr, "MEGA")
    return path


def peak_ppm(signal, mhz, dwell, low, high):
    """Position of the highest peak of the power spectrum, by an oversampled Fourier transform."""
    size = 8 * signal.shape[-1]
    t = np.arange(signal.shape[-1]) * dwell
    power = (np.abs(np.fft.fft(signal * np.exp(-15 * t), size)) ** 2).reshape(-1, size).mean(axis=0)
    ppm = np.fft.fftfreq(size, dwell) / mhz + 4.65
    inside = np.flatnonzero((ppm > low) & (ppm < high))
    return ppm[inside[np.argmax(power[inside])]]


def scan_peak(path, low, high):
    scan = scans.read_scan(path)
    return peak_ppm(scan.fids, scan.frequency_mhz, scan.dwell_s, low, high)


# --- edit order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("coils", "noise", "drift"), [(1, 2.0, 8.0), (4, 4.0, 8.0), (1, 0.1, 0.0)])
def test_order_is_told_from_raw_transients(coils, noise, drift):
    fids = edited(16, coils, noise, drift)
    editing.check_edit_order(fids, DWELL, MHZ, "scan", "interleaved_off_on")
    with pytest.raises(InputError, match="set edit_order to interleaved_on_off"):
        editing.check_edit_order(fids[::-1], DWELL, MHZ, "scan", "interleaved_off_on")


def test_order_is_told_from_one_transient_each():
    fids = edited(1, noise=0.5, seed=3)
    editing.check_edit_order(fids, DWELL, MHZ, "scan", "interleaved_off_on")


def test_order_is_told_when_all_peaks_are_displaced():
    fids = edited() * np.exp(2j * np.pi * 0.15 * MHZ * np.arange(POINTS) * DWELL)
    editing.check_edit_order(fids, DWELL, MHZ, "scan", "interleaved_off_on")


@pytest.mark.parametrize("true", editing.EDIT_ORDERS[:4])
@pytest.mark.parametrize("stated", editing.EDIT_ORDERS[:4])
def test_wrong_order_is_named(true, stated):
    off, on = edited(6)
    pair = np.stack([on, off] if true.endswith("on_off") else [off, on])
    rows = interleave(pair[:, :, 0]) if true.startswith("inter") else pair[:, :, 0].reshape(12, -1)
    raw = Raw(rows.T, ["DIM_DYN"], [{}], {}, MHZ, DWELL, np.eye(4))
    fids, order, _ = editing.arrange(raw, "scan", "mega", stated)
    if stated == true:
        editing.check_edit_order(fids, DWELL, MHZ, "scan", order)
        np.testing.assert_array_equal(fids[0], off)
        np.testing.assert_array_equal(fids[1], on)
    else:
        with pytest.raises(InputError, match=f"set edit_order to {true}"):
            editing.check_edit_order(fids, DWELL, MHZ, "scan", order)


@pytest.mark.parametrize("content", ["noise", "unedited"])
def test_order_that_cannot_be_told_is_refused(content):
    fids = edited(6)
    fids[:] = fids[0] if content == "unedited" else np.random.default_rng(1).standard_normal(fids.shape)
    with pytest.raises(InputError, match="cannot be told"):
        editing.check_edit_order(fids, DWELL, MHZ, "scan", "interleaved_off_on")


def test_inverted_condition():
    fids = edited(6, noise=1.0)
    assert not editing.inverted_condition(fids, DWELL, MHZ)
    fids[1] *= -1
    assert editing.inverted_condition(fids, DWELL, MHZ)


# --- dimensions ---------------------------------------------------------------------------------------------------


def raw_of(shape, tags, headers=None):
    data = np.arange(np.prod((4, *shape)), dtype=np.float32).reshape(4, *shape).astype(np.complex64)
    return Raw(data, list(tags), headers or [{} for _ in tags], {}, MHZ, DWELL, np.eye(4))


def test_edit_dimension_by_its_header():
    raw = raw_of((3, 2, 5), ("DIM_COIL", "DIM_EDIT", "DIM_DYN"), [{}, {"EditCondition": ["EDIT_ON", "EDIT_OFF"]}, {}])
    fids, order, notes = editing.arrange(raw, "scan", "mega", "from_header")
    assert fids.shape == (2, 5, 3, 4)
    assert order == "dimension_on_off"
    assert fids[0, 4, 2, 3] == raw.data[3, 2, 1, 4]  # OFF is index 1
    assert fids[1, 0, 1, 2] == raw.data[2, 1, 0, 0]
    assert notes == []
    fids, order, notes = editing.arrange(raw, "scan", "mega", "interleaved_off_on")
    assert fids[0, 0, 0, 1] == raw.data[1, 0, 0, 0]
    assert "contradicts" in notes[0]


def test_untagged_pair_is_the_edit_dimension_and_loops_are_unrolled():
    raw = raw_of((5, 2), ("DIM_DYN", "DIM_USER_0"))
    fids, _, _ = editing.arrange(raw, "scan", "mega", "interleaved_off_on")
    assert fids.shape == (2, 5, 1, 4)
    assert fids[1, 3, 0, 2] == raw.data[2, 3, 1]
    raw = raw_of((2, 3), ("DIM_DYN", "DIM_DYN"))  # averages inside dynamics
    fids, _, _ = editing.arrange(raw, "scan", "none", "from_header")
    assert [int(v.real) for v in fids[0, :, 0, 0]] == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("shape", "tags", "scheme", "order", "message"),
    [
        ((7,), ("DIM_DYN",), "mega", "blocked_on_off", "7 transients, expected an even number"),
        ((8,), ("DIM_DYN",), "mega", "from_header", "no edit dimension"),
        ((4, 2), ("DIM_DYN", "DIM_EDIT"), "mega", "from_header", "EditCondition of the edit dimension is missing"),
        ((4, 4), ("DIM_DYN", "DIM_EDIT"), "mega", "interleaved_on_off", "4 edit conditions"),
        ((4, 2), ("DIM_DYN", "DIM_EDIT"), "none", "from_header", "edit_scheme is none"),
        ((4, 6), ("DIM_DYN", "DIM_INDIRECT_0"), "none", "from_header", "DIM_INDIRECT_0 of length 6"),
    ],
)
def test_dimensions_that_are_refused(shape, tags, scheme, order, message):
    with pytest.raises(InputError, match=message):
        editing.arrange(raw_of(shape, tags), "scan", scheme, order)


def test_points_before_the_echo():
    late = np.zeros((POINTS, 3), np.complex64)
    late[8:] = fid(OFF)[: POINTS - 8, None]
    for shown, kept in ((late, POINTS - 8), (np.repeat(fid(OFF)[:, None], 3, 1).astype(np.complex64), POINTS)):
        raw = Raw(shown, ["DIM_DYN"], [{}], {}, MHZ, DWELL, np.eye(4))
        source = Source(raw, before_echo=8)
        cut_points_before_echo(source, None)
        assert source.main.data.shape[0] == kept
        assert len(source.notes) == 1


# --- whole conversions --------------------------------------------------------------------------------------------


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
    assert set(scan.header) <= {"SpectrometerFrequency", "ResonantNucleus", *convert.KEPT_FIELDS}


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
    header = {
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
                "Method": "Alignment",
                "Details": "tool(/home/SECRET/a.nii)",
            }
        ],
    }
    metab = write_nifti(tmp_path / "in.nii.gz", fid(OFF)[None, None, None], header)
    for name in ("a", "b"):
        convert.convert(metab=metab, format_name="nifti_mrs", output=tmp_path / name / "u_svs.nii.gz")
    first, second = ((tmp_path / name / "u_svs.nii.gz").read_bytes() for name in ("a", "b"))
    assert first == second
    assert (tmp_path / "a" / "u_svs.json").read_bytes() == (tmp_path / "b" / "u_svs.json").read_bytes()
    content = gzip.decompress(first)
    assert b"SECRET" not in content
    assert b"svs_se" in content
    assert b"tool(a.nii)" in content


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
    header = {"no te": {}, "te": {"EchoTime": 35.0}, "tr": {"EchoTime": 0.035, "RepetitionTime": 0.002}}.get(case)
    if case == "zero":
        good = good * 0
    if case == "mirrored":
        good = np.conj(good)
    write_nifti(path, good, header)
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
        ("no spar", "no x.SPAR beside it"),
        ("aux", "nowhere.SPAR: no such file"),
        ("no te", "no EchoTime"),
        ("te", "EchoTime 35.0 s"),
        ("tr", "shorter than EchoTime"),
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
    assert "x.nii.gz" in record["reason"]
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


# --- scanner files ------------------------------------------------------------------------------------------------


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
