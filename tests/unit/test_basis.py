"""Basis sets against positions from the literature and files written by hand in each format."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
from analytic_basis import LINES, MHZ, analytic_basis, edited, highest_ppm

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fslmrs
from mrs_synthesis.stage import InputError


def write_lcmodel(path, basis, shift=0, scale_exponent=6):
    """Write a .BASIS file: LCModel holds the unshifted FFT of the conjugated FID, rolled by ISHIFT."""
    lines = [" $SEQPAR", f" HZPPPM = {basis.frequency_mhz:.6f},", " ECHOT = 68.,", " $END", " $BASIS1"]
    lines += [f" BADELT = {basis.dwell_s:.9f},", f" NDATAB = {basis.fids.shape[1]}", " $END", " $NMUSED", " $END"]
    for name, fid in zip(basis.names, basis.fids, strict=True):
        lines += [" $BASIS", f" ID = '{name}',", f" METABO = '{name}',", " CONC = 1.,", f" ISHIFT = {shift}", " $END"]
        spectrum = np.roll(np.fft.fft(np.conj(fid)), shift)
        lines += [f"{z.real:{scale_exponent + 9}.{scale_exponent}E}{z.imag:15.6E}" for z in spectrum]
    path.write_text("\n".join(lines) + "\n")


def write_fida(folder, basis, condition, te=68, ppm=None):
    folder.mkdir(exist_ok=True)
    for name, fid in zip(basis.names, basis.fids, strict=True):
        content = {"fids": fid[:, None], "dwelltime": basis.dwell_s, "txfrq": basis.frequency_mhz * 1e6, "te": te}
        if ppm is not None:
            content["ppm"] = np.linspace(ppm + 8, ppm - 8, fid.size)
        scipy.io.savemat(folder / f"{name}_{condition}.mat", content)


def test_json_round_trip_in_fsl_mrs_format(tmp_path):
    basis = analytic_basis(n_points=64)
    basis_sets.write_json_folder(tmp_path, basis)
    content = json.loads((tmp_path / "NAA.json").read_text())["basis"]
    assert content["basis_dwell"] == 5e-4 and content["basis_centre"] == MHZ and content["basis_name"] == "NAA"
    row = basis.fids[basis.names.index("NAA")]
    assert np.array_equal(np.array(content["basis_re"]) + 1j * np.array(content["basis_im"]), row)
    back = basis_sets.read_json_folder(tmp_path)
    assert back.names == sorted(basis.names) and np.array_equal(back.select(basis.names).fids, basis.fids)


def test_echo_time_is_kept_where_fsl_mrs_has_it(tmp_path):
    basis = analytic_basis(n_points=64)
    basis_sets.write_json_folder(tmp_path, basis)
    assert basis_sets.read_json_folder(tmp_path).te_ms is None
    basis_sets.write_json_folder(tmp_path, replace(basis, te_ms=68.0))
    assert json.loads((tmp_path / "NAA.json").read_text())["meta"]["TE"] == 68.0  # as `fsl_mrs_sim -e 68` does
    assert basis_sets.read_json_folder(tmp_path).te_ms == 68.0


def test_writing_again_leaves_no_metabolite_of_the_former_set(tmp_path):
    basis = analytic_basis(n_points=64)
    basis_sets.write_json_folder(tmp_path, basis)
    basis_sets.write_json_folder(tmp_path, basis.select(["NAA", "Cr"]))
    assert basis_sets.read_json_folder(tmp_path).names == ["Cr", "NAA"]


@pytest.mark.parametrize("change", ["dwell", "nan", "key", "none"])
def test_bad_json_folder_is_one_line(tmp_path, change):
    if change != "none":
        basis_sets.write_json_folder(tmp_path, analytic_basis(n_points=64))
        path = tmp_path / "NAA.json"
        text = path.read_text()
        content = json.loads(text)
        if change == "dwell":
            content["basis"]["basis_dwell"] = 1e-4
        elif change == "key":
            del content["basis"]["basis_re"]
        else:
            content["basis"]["basis_re"][3] = float("nan")
        path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        basis_sets.read_json_folder(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("shift", [0, 20])
def test_lcmodel_file(tmp_path, shift):
    basis = analytic_basis(n_points=512)
    write_lcmodel(tmp_path / "x.basis", basis, shift)
    back = basis_sets.read(tmp_path / "x.basis", "OFF")
    assert back.names == basis.names and back.frequency_mhz == MHZ and back.dwell_s == 5e-4
    assert np.allclose(back.fids, basis.fids, atol=1e-4)
    assert back.te_ms == 68


def test_lcmodel_damage_and_encryption(tmp_path):
    path = tmp_path / "x.basis"
    write_lcmodel(path, analytic_basis(n_points=64))
    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[:-3]))
    with pytest.raises(InputError, match="PCr has 122 numbers, expected 128"):
        basis_sets.read_lcmodel(path)
    path.write_text(whole.replace("BADELT = 0.0", "BADELT = -0.0"))
    with pytest.raises(InputError, match="encrypted"):
        basis_sets.read_lcmodel(path)
    path.write_text("nothing")
    with pytest.raises(InputError, match="HZPPPM"):
        basis_sets.read_lcmodel(path)


@pytest.mark.parametrize("points", ["0", "-2", "0.5"])
def test_lcmodel_basis_without_points_is_refused(tmp_path, points):
    """Found by fuzzing: an inverse FFT of nothing."""
    path = tmp_path / "x.basis"
    path.write_text(f" HZPPPM = 123.2\n BADELT = 5E-4\n NDATAB = {points}\n $BASIS\n METABO = 'NAA'\n $END\n")
    with pytest.raises(InputError) as caught:
        basis_sets.read_lcmodel(path)
    whole = int(float(points))
    assert str(caught.value) == f"{path}: NDATAB = {whole}, expected the number of points; the file is damaged"


def test_fida_carrier_at_three_ppm(tmp_path):
    write_fida(tmp_path, analytic_basis(carrier_ppm=3.0), "OFF")
    basis = basis_sets.read(tmp_path, "OFF")
    assert highest_ppm(basis, "NAA") == pytest.approx(2.008, abs=0.002)
    assert highest_ppm(basis, "Cr") == pytest.approx(3.027, abs=0.002)
    assert basis.carrier_ppm == 3.0 and basis.te_ms == 68
    with pytest.raises(InputError, match=r"_ON\.mat"):
        basis_sets.read(tmp_path, "ON")


def test_fida_carrier_from_the_ppm_axis_and_te_in_seconds(tmp_path):
    write_fida(tmp_path, analytic_basis(carrier_ppm=4.7), "OFF", te=0.035, ppm=4.7)
    basis = basis_sets.read(tmp_path, "OFF")
    assert highest_ppm(basis, "NAA") == pytest.approx(2.008, abs=0.002)
    assert basis.carrier_ppm == 4.7 and basis.te_ms == pytest.approx(35)


def test_fida_without_edit_conditions(tmp_path):
    write_fida(tmp_path, analytic_basis(n_points=64), "X")
    for path in list(tmp_path.glob("*.mat")):
        path.rename(tmp_path / path.name.replace("_X", ""))
    assert sorted(basis_sets.read(tmp_path, "UNEDITED").names) == sorted(LINES)


@pytest.mark.parametrize(("what", "message"), [("te", "TE 30 ms and 68 ms"), ("ppm", r"3\.00 and 4\.65 ppm")])
def test_fida_files_of_two_simulations_are_refused(tmp_path, what, message):
    basis = analytic_basis(n_points=64)
    write_fida(tmp_path, basis, "OFF", te=68, ppm=3.0)
    write_fida(tmp_path, basis.select(["NAA"]), "OFF", **({"te": 30, "ppm": 3.0} if what == "te" else {"ppm": 4.65}))
    with pytest.raises(InputError, match=message) as error:
        basis_sets.read(tmp_path, "OFF")
    assert "\n" not in str(error.value)


def test_reference_signals_are_left_out_and_names_are_canonical(tmp_path):
    lines = {"mI": LINES["Ins"], "Ch": [(3.2, 9)], "H2O": [(4.65, 2)], "Ref0ppm": [(0.0, 1)]}
    write_fida(tmp_path, analytic_basis(lines, n_points=64), "OFF")
    assert sorted(basis_sets.read_fida(tmp_path, "OFF").names) == ["Cho", "Ins"]


def test_difference_has_negative_naa_and_its_opposite_is_refused():
    off, on = edited()
    difference = basis_sets.difference(on, off)
    assert "NAA_ppm" in basis_sets.check_peaks(difference, "DIFF")
    # singlet of 3 protons, 1.5 Hz wide, on resonance: height = area x sum of the decay
    n, t = off.fids.shape[1], np.arange(off.fids.shape[1]) * off.dwell_s
    at_naa = difference.fids[difference.names.index("NAA")] @ np.exp(-2j * np.pi * (2.008 - 4.65) * MHZ * t)
    assert at_naa.real == pytest.approx(-3 * np.exp(-np.pi * 1.5 * t).sum(), rel=1e-3) and n == 2048
    with pytest.raises(InputError, match="ON - OFF"):
        basis_sets.check_peaks(basis_sets.difference(off, on), "DIFF")


def test_difference_ignores_the_order_of_metabolites():
    off, on = edited()
    reference = basis_sets.difference(on, off)
    turned = basis_sets.difference(on, off.select(sorted(off.names, reverse=True)))
    assert turned.names == reference.names and np.array_equal(turned.fids, reference.fids)


@pytest.mark.parametrize("name", ["GABA", "NAA"])
def test_difference_needs_gaba_and_naa_in_both(name):
    off, on = edited()
    with pytest.raises(InputError, match=f"{name} is in the ON basis but not in OFF"):
        basis_sets.difference(on, off.select(n for n in off.names if n != name))


def test_difference_of_two_scales_is_refused():
    off, on = edited()
    with pytest.raises(InputError, match=r"Cr is 2\.00 times as high in the ON basis"):
        basis_sets.difference(replace(on, fids=2 * on.fids), off)


def test_command_line_names_what_only_one_condition_has(tmp_path, capsys):
    off, on = edited()
    basis_sets.write_json_folder(tmp_path / "off", off.select(n for n in off.names if n != "Ins"))
    basis_sets.write_json_folder(tmp_path / "on", on.select(n for n in on.names if n != "PCh"))
    argv = ["--off", str(tmp_path / "off"), "--on", str(tmp_path / "on"), "--output", str(tmp_path / "set")]
    basis_sets.main(argv)
    assert "DIFF: without Ins, PCh, which only one of ON and OFF has" in capsys.readouterr().out
    facts = json.loads((tmp_path / "set" / "basis.json").read_text())
    assert facts["left_out_of_diff"] == ["Ins", "PCh"]
    assert not {"Ins", "PCh"} & set(facts["conditions"]["DIFF"]["metabolites"])


def test_conditions_of_two_echo_times_are_refused(tmp_path):
    off, on = edited()
    basis_sets.write_json_folder(tmp_path / "off", replace(off, te_ms=68.0))
    basis_sets.write_json_folder(tmp_path / "on", replace(on, te_ms=80.0))
    with pytest.raises(InputError, match="OFF 68 ms, ON 80 ms"):
        basis_sets.main(
            ["--off", str(tmp_path / "off"), "--on", str(tmp_path / "on"), "--output", str(tmp_path / "set")]
        )


def test_at_frequency_keeps_ppm():
    moved = basis_sets.at_frequency(analytic_basis(), 123.25)
    assert moved.frequency_mhz == 123.25 and highest_ppm(moved, "NAA") == pytest.approx(2.008, abs=0.002)
    with pytest.raises(InputError, match="5 %"):
        basis_sets.at_frequency(moved, 297.2)


def test_command_line_makes_the_difference(tmp_path, capsys):
    off, on = edited(carrier_ppm=3.0)
    write_fida(tmp_path / "fida", off, "OFF")
    write_fida(tmp_path / "fida", on, "ON")
    source, output = str(tmp_path / "fida"), tmp_path / "set"
    basis_sets.main(["--off", source, "--on", source, "--output", str(output)])
    facts = json.loads((output / "basis.json").read_text())
    assert set(facts["conditions"]) == {"OFF", "ON", "DIFF"} and facts["frequency_mhz"] == pytest.approx(MHZ)
    sets = {c: basis_sets.read_json_folder(output / c) for c in ("OFF", "ON", "DIFF")}
    assert np.allclose(sets["DIFF"].fids, sets["ON"].fids - sets["OFF"].fids)
    assert "DIFF: 7 basis spectra" in capsys.readouterr().out
    # What was found in the files is on record
    assert facts["te_ms"] == 68 and facts["checks"]["OFF"]["carrier_ppm"] == 3.0
    assert facts["checks"]["OFF"]["field_mhz"] == pytest.approx(MHZ, rel=0.005)


@pytest.mark.parametrize(("factor", "accepted"), [(1.0, True), (0.5, True), (0.25, False)])
def test_difference_from_elsewhere_is_brought_to_the_scale_of_off(tmp_path, factor, accepted):
    off, on = edited()
    difference = basis_sets.difference(on, off)
    write_lcmodel(tmp_path / "off.basis", off)
    write_lcmodel(tmp_path / "diff.basis", replace(difference, fids=factor * difference.fids))
    argv = ["--off", str(tmp_path / "off.basis"), "--diff", str(tmp_path / "diff.basis")]
    argv += ["--output", str(tmp_path / "set")]
    if not accepted:
        with pytest.raises(InputError, match=r"0\.25 times"):
            basis_sets.main(argv)
        return
    basis_sets.main(argv)
    back = basis_sets.read_json_folder(tmp_path / "set" / "DIFF").select(difference.names)
    assert np.allclose(back.fids, difference.fids, atol=1e-3)


@pytest.mark.fsl_mrs
def test_fsl_mrs_reads_what_is_written(tmp_path):
    basis = analytic_basis()
    basis_sets.write_json_folder(tmp_path, basis)
    code = (
        "import sys, numpy as np; from fsl_mrs.utils import mrs_io; b = mrs_io.read_basis(sys.argv[1]);"
        "np.savez(sys.argv[2], names=b.names, fids=b.original_basis_array.T, dwell=b.original_dwell, mhz=b.cf)"
    )
    interpreter = fslmrs.find_interpreter()
    if interpreter is None:
        pytest.skip("needs `fsl_mrs` on PATH")
    subprocess.run([str(interpreter), "-c", code, str(tmp_path), str(tmp_path / "read.npz")], check=True)
    read = np.load(tmp_path / "read.npz")
    assert list(read["names"]) == sorted(basis.names) and read["mhz"] == MHZ and read["dwell"] == 5e-4
    assert np.array_equal(np.conj(read["fids"]), basis.select(sorted(basis.names)).fids)
