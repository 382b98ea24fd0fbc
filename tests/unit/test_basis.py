"""Basis sets against positions from the literature and files written by hand in each format."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
from analytic_basis import LINES, MHZ, analytic_basis

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fslmrs, metabolites, spectra
from mrs_synthesis.basis import Basis
from mrs_synthesis.stage import InputError


def highest_ppm(basis: Basis, name: str) -> float:
    """Position of the strongest line, by a plain FFT with 16-fold zero filling."""
    n = 16 * basis.fids.shape[1]
    spectrum = np.fft.fftshift(np.fft.fft(basis.fids[basis.names.index(name)], n))
    ppm = np.fft.fftshift(np.fft.fftfreq(n, basis.dwell_s)) / basis.frequency_mhz + 4.65
    return float(ppm[np.argmax(np.abs(spectrum))])


def write_lcmodel(path, basis, shift=0, scale_exponent=6):
    """Write a .BASIS file: LCModel holds the unshifted FFT of the conjugated FID, rolled by ISHIFT."""
    lines = [" $SEQPAR", f" HZPPPM = {basis.frequency_mhz:.6f},", " ECHOT = 68.,", " $END", " $BASIS1"]
    lines += [f" BADELT = {basis.dwell_s:.9f},", f" NDATAB = {basis.fids.shape[1]}", " $END", " $NMUSED", " $END"]
    for name, fid in zip(basis.names, basis.fids, strict=True):
        lines += [" $BASIS", f" ID = '{name}',", f" METABO = '{name}',", " CONC = 1.,", f" ISHIFT = {shift}", " $END"]
        spectrum = np.roll(np.fft.fft(np.conj(fid)), shift)
        lines += [f"{z.real:{scale_exponent + 9}.{scale_exponent}E}{z.imag:15.6E}" for z in spectrum]
    path.write_text("\n".join(lines) + "\n")


def write_fida(folder, basis, condition):
    folder.mkdir(exist_ok=True)
    for name, fid in zip(basis.names, basis.fids, strict=True):
        content = {"fids": fid[:, None], "dwelltime": basis.dwell_s, "txfrq": basis.frequency_mhz * 1e6}
        scipy.io.savemat(folder / f"{name}_{condition}.mat", content)


def edited(mhz=MHZ, **options):
    """OFF, ON and DIFF in which editing inverts or saturates as in MEGA-PRESS."""
    off = analytic_basis(mhz=mhz, **options)
    on_lines = dict(LINES, NAA=[(2.6, 1.5)], GABA=[(3.01, 3), (2.28, 2)], Glu=[(2.34, 2), (3.75, 2)])
    on = analytic_basis(on_lines, mhz=mhz, **options)
    return off, on


def test_json_round_trip_in_fsl_mrs_format(tmp_path):
    basis = analytic_basis(n_points=64)
    basis_sets.write_json_folder(tmp_path, basis)
    content = json.loads((tmp_path / "NAA.json").read_text())["basis"]
    assert content["basis_dwell"] == 5e-4 and content["basis_centre"] == MHZ and content["basis_name"] == "NAA"
    row = basis.fids[basis.names.index("NAA")]
    assert np.array_equal(np.array(content["basis_re"]) + 1j * np.array(content["basis_im"]), row)
    back = basis_sets.read_json_folder(tmp_path)
    assert back.names == sorted(basis.names) and np.array_equal(back.select(basis.names).fids, basis.fids)


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


def test_fida_carrier_at_three_ppm(tmp_path):
    write_fida(tmp_path, analytic_basis(carrier_ppm=3.0), "OFF")
    basis = basis_sets.read(tmp_path, "OFF")
    assert highest_ppm(basis, "NAA") == pytest.approx(2.008, abs=0.002)
    assert highest_ppm(basis, "Cr") == pytest.approx(3.027, abs=0.002)
    with pytest.raises(InputError, match=r"_ON\.mat"):
        basis_sets.read(tmp_path, "ON")


def test_reference_signals_are_left_out_and_names_are_canonical(tmp_path):
    lines = {"mI": LINES["Ins"], "Ch": [(3.2, 9)], "H2O": [(4.65, 2)], "Ref0ppm": [(0.0, 1)]}
    write_fida(tmp_path, analytic_basis(lines, n_points=64), "OFF")
    assert sorted(basis_sets.read_fida(tmp_path, "OFF").names) == ["Cho", "Ins"]


def test_check_finds_a_wrong_sign_of_the_imaginary_part():
    basis = analytic_basis()
    found = basis_sets.check_peaks(basis, "UNEDITED")
    assert found["NAA_ppm"] == pytest.approx(2.008, abs=0.005) and found["Cr_ppm"] == pytest.approx(3.027, abs=0.005)
    mirrored = replace(basis, fids=np.conj(basis.fids))
    with pytest.raises(InputError, match=r"NAA at 7\.29"):
        basis_sets.check_peaks(mirrored, "UNEDITED")
    oriented, facts = basis_sets.orient(mirrored, "UNEDITED")
    assert facts["conjugated"] and np.allclose(oriented.fids, basis.fids)


def test_a_basis_with_water_at_4_68_ppm_is_moved():
    oriented, facts = basis_sets.orient(analytic_basis(carrier_ppm=4.68), "OFF")
    assert facts["moved_ppm"] == pytest.approx(0.03, abs=0.004)
    assert highest_ppm(oriented, "NAA") == pytest.approx(2.008, abs=0.005)


def test_a_wrong_carrier_is_an_error():
    with pytest.raises(InputError, match="NAA"):
        basis_sets.orient(analytic_basis(carrier_ppm=4.0), "OFF")


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


def test_at_frequency_keeps_ppm():
    moved = basis_sets.at_frequency(analytic_basis(), 123.25)
    assert moved.frequency_mhz == 123.25 and highest_ppm(moved, "NAA") == pytest.approx(2.008, abs=0.002)
    with pytest.raises(InputError, match="5 %"):
        basis_sets.at_frequency(moved, 297.2)


def test_co_edited_macromolecule_has_gabas_integral():
    off, on = edited()
    basis = metabolites.add_macromolecules(basis_sets.difference(on, off), "DIFF")
    areas = {}
    for name in ("GABA", "MM3co"):
        fid = np.pad(basis.fids[basis.names.index(name)], (0, 2048))
        spectrum = spectra.to_spectrum(fid)
        ppm = spectra.ppm_axis(4096, basis.dwell_s, basis.frequency_mhz)
        areas[name] = spectrum.real[(ppm > 2.75) & (ppm < 3.25)].sum()
    assert areas["MM3co"] == pytest.approx(areas["GABA"], rel=0.1) and areas["GABA"] > 0
    assert metabolites.add_macromolecules(basis, "DIFF").names == basis.names


def test_broad_macromolecules_lie_where_lcmodel_has_them():
    basis = metabolites.add_macromolecules(analytic_basis(), "UNEDITED")
    for name, ppm in {"MM09": 0.91, "MM12": 1.21, "MM14": 1.43, "MM17": 1.67, "MM20": 2.08}.items():
        assert highest_ppm(basis, name) == pytest.approx(ppm, abs=0.03)
    # areas in protons: MM09 has 3, as the methyl singlet of Cr
    assert basis.fids[basis.names.index("MM09"), 0].real == pytest.approx(3, rel=0.1)


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


@pytest.mark.data
def test_real_basis_files(shared_data):
    folder = shared_data / "basis"
    lcmodel = folder / "mega-press-68-lcmodel"
    cases = [
        (folder / "mega-press-68-fida", "OFF", 28, 127.731),
        (folder / "mega-press-68-fida", "ON", 28, 127.731),
        (lcmodel / "3t_IU_MP_te68_748_ppm_inv.basis", "OFF", 14, 123.261),
        (lcmodel / "3t_IU_MP_te68_diff_yesNAAG_noLac_Kaiser.basis", "DIFF", 6, 123.261),
        (lcmodel / "3t_IU_MP_te68_diff_yesNAAG_noLac_c.basis", "DIFF", 6, 123.261),
        (folder / "press-35-lcmodel" / "3T_PRESS_Philips_35ms_noMM.BASIS", "UNEDITED", 17, 127.731),
        (shared_data / "fslmrs-reference" / "basis_press30_mm", "UNEDITED", 25, 127.728),
        (shared_data / "fslmrs-reference" / "basis_mega68_diff", "DIFF", 20, 127.728),
    ]
    for path, condition, count, mhz in cases:
        basis, facts = basis_sets.orient(basis_sets.read(path, condition), condition)
        assert len(basis.names) == count and basis.frequency_mhz == pytest.approx(mhz, abs=1e-3)
        assert not facts["conjugated"]
        if condition != "ON":
            assert highest_ppm(basis, "NAA") == pytest.approx(2.008, abs=0.01)
        if condition != "DIFF" and "Cr" in basis.names:
            assert highest_ppm(basis, "Cr") == pytest.approx(3.027, abs=0.01)


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
