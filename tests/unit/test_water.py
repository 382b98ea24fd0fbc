"""Water-scaled concentrations: closed forms, hand-computed numbers, and FSL-MRS's own on in-vivo data."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from analytic_basis import LINES, MHZ, analytic_basis

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import lcm_model, water
from mrs_synthesis.relaxation import RELAXATION, Tissue, relaxation, seen, visible_water
from mrs_synthesis.scans import Scan, read_scan, write_scan
from mrs_synthesis.stage import InputError, SkippedError

N, DWELL = 2048, 5e-4
T = np.arange(N) * DWELL


def line(amplitude, width_hz, hz=0.0, phase=0.0, n=N, dwell=DWELL):
    t = np.arange(n) * dwell
    return amplitude * np.exp(1j * (2 * np.pi * hz * t + phase) - np.pi * width_hz * t)


def fits(raw, names=("Cr", "PCr"), gamma=0.0, sigma=0.0, eps=0.0, groups=None, free_shift=False, basis=None):
    """Return a task and what an engine would have found: `raw` (cells, n), one line shape or one per group."""
    raw = np.atleast_2d(np.asarray(raw, float))
    groups = [0] * len(names) if groups is None else groups
    basis = analytic_basis({name: LINES[name] for name in names}, width_hz=1.0) if basis is None else basis
    n_groups, n_shifts = max(groups) + 1, len(names) if free_shift else max(groups) + 1
    options = lcm_model.Options(free_shift=free_shift)
    task = SimpleNamespace(
        condition="OFF", n_points=N, dwell_s=DWELL, frequency_mhz=MHZ, basis=basis, groups=groups, options=options
    )
    shapes = {
        name: np.broadcast_to(value, (len(raw), width)).astype(float)
        for name, value, width in (("gamma", gamma, n_groups), ("sigma", sigma, n_groups), ("eps", eps, n_shifts))
    }
    return task, SimpleNamespace(names=list(names), raw=raw, **shapes)


def test_area_of_a_lorentzian_is_the_arctangent_law():
    """Half the amplitude, times the share (2 / pi) atan(2 L / w) of a line of width w within +- L."""
    for width in (3.0, 8.0, 20.0):
        share = 2 / np.pi * np.arctan(2 * 3.0 * MHZ / width)
        area = water.area(line(7.0, width), DWELL, MHZ, (1.65, 7.65))
        assert area == pytest.approx(3.5 * share, rel=3e-3)


def test_area_does_not_depend_on_the_raster():
    areas = [water.area(line(7.0, 6.0, n=n, dwell=d), d, MHZ, (1.65, 7.65)) for n, d in ((2048, 5e-4), (8192, 2.5e-4))]
    assert areas[0] == pytest.approx(areas[1], rel=3e-3)


@pytest.mark.parametrize(("hz", "phase"), [(0.0, 0.0), (-6.0, 2.2), (55.0, -1.0)])
def test_water_line_is_found_with_its_amplitude(hz, phase):
    """Whatever its place and phase; noise of 0.1 % and a residue beside it change little."""
    rng = np.random.default_rng(3)
    shape = np.exp(-18.0 * T - 90.0 * T**2)
    fid = 250 * shape * np.exp(1j * (2 * np.pi * hz * T + phase))
    found, explained = water.fit_line(fid, DWELL)
    np.testing.assert_allclose(found, 250 * shape, atol=1e-4)
    assert explained == pytest.approx(1, abs=1e-9)
    noisy = fid + 0.25 * (rng.standard_normal(N) + 1j * rng.standard_normal(N)) + line(1.0, 5.0, -300.0)
    area, clean = water.reference_area(np.array([noisy, fid]), DWELL, MHZ)
    assert area == pytest.approx(clean, rel=2e-3)


def test_negative_widths_are_not_fitted():
    """A rising FID has no decaying line in it; the best one does not decay."""
    found, _ = water.fit_line(np.exp(0.5 * T) + 0j, DWELL)
    assert np.ptp(found) < 1e-6


def test_what_is_no_water_is_refused():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(N) + 1j * rng.standard_normal(N)
    with pytest.raises(InputError, match="expected unsuppressed water"):
        water.reference_area(noise, DWELL, MHZ)
    for fid in (np.zeros(N, complex), np.full(N, np.nan + 0j)):
        with pytest.raises(InputError, match="zero or not finite"):
            water.reference_area(fid, DWELL, MHZ)


def test_relaxation_by_hand():
    """3 T, TE 30 ms, TR 2 s. Grey matter: (1 - exp(-2/1.5)) exp(-30/88) = 0.736403 x 0.711123 = 0.523673."""
    assert seen(1.5, 0.088, 0.030, 2.0) == pytest.approx(0.523673, abs=2e-6)
    times = relaxation(123.25)
    assert times is RELAXATION[3.0]
    # White: 0.872778 x 0.663033 = 0.578681; CSF: 0.360723 x 0.985330 = 0.355431
    white, grey, fluid = 0.578681, 0.523673, 0.355431
    litre = 55510 * (0.3 * 0.65 * white + 0.5 * 0.78 * grey + 0.2 * 0.97 * fluid)
    molal, molar = visible_water(times, 0.030, 2.0, Tissue(0.3, 0.5, 0.2))
    assert molar == pytest.approx(litre, rel=1e-5)
    assert molal == pytest.approx(litre / 0.779, rel=1e-5)  # 0.195 + 0.39 + 0.194 kg of water in a litre
    # Without fractions: T1 (0.97 + 1.5) / 2, T2 (73 + 88) / 2 ms, pure water
    pure = 55510 * (1 - np.exp(-2 / 1.235)) * np.exp(-30 / 80.5)
    assert visible_water(times, 0.030, 2.0, None) == pytest.approx((pure, pure), rel=1e-9)


def test_field_strengths():
    assert relaxation(63.87) is RELAXATION[1.5] and relaxation(297.2) is RELAXATION[7.0]
    for mhz in (85.0, 400.2):
        with pytest.raises(InputError, match="only at 1"):
            relaxation(mhz)


def test_concentration_of_a_solution_by_hand():
    """8 units of tCr per 55510 of water, both of 2 Hz: 8 mmol/kg times R_water / R_metabolite, no other factor."""
    task, fitted = fits([[5.0, 3.0], [2.5, 1.5], [1.0, 0.0]], gamma=np.pi * 1.0)
    reference = water.WaterReference(line(2 * 55510.0, 2.0), DWELL, MHZ)
    molal, molar = water.molality_factor(task, fitted, reference, 0.030, 2.0, None)
    r_water = (1 - np.exp(-2 / 1.235)) * np.exp(-30 / 80.5)
    r_metabolite = (1 - np.exp(-2 / 1.29)) * np.exp(-30 / 194)
    # Within 0.6 %: the tails of the creatine lines beyond 2 and 5 ppm
    np.testing.assert_allclose(molal, r_water / r_metabolite, rtol=6e-3)
    np.testing.assert_array_equal(molal, molar)
    # Fractions: CSF has no metabolites, and the litre holds 0.195 + 0.468 + 0.097 kg of water
    tissue = Tissue(0.3, 0.6, 0.1)
    with_tissue = water.molality_factor(task, fitted, reference, 0.030, 2.0, tissue)
    litre = (0.195 * 0.578681 + 0.468 * 0.523673 + 0.097 * 0.355431) / 0.9 / r_metabolite
    np.testing.assert_allclose(with_tissue[1] / molal * r_water / r_metabolite, litre, rtol=1e-5)
    np.testing.assert_allclose(with_tissue[0], with_tissue[1] / 0.76, rtol=1e-9)


def test_naa_serves_where_creatine_is_not_fitted():
    """Its methyl has 3 protons at 2.01 ppm; of a line of 4 Hz (2 / pi) atan(51 / 4) lie within 1.8-2.2 ppm."""
    task, fitted = fits([[10.0]], names=("NAA",), gamma=3 * np.pi)
    reference = water.WaterReference(line(2 * 55510.0, 4.0), DWELL, MHZ)
    molal, _ = water.molality_factor(task, fitted, reference, 1e-9, 1e3, None)
    inside = 2 / np.pi * np.arctan(0.4 * MHZ / 4) / (2 / np.pi * np.arctan(6 * MHZ / 4))
    assert inside < 0.96
    assert molal[0] == pytest.approx(inside, rel=0.01)  # and 0.4 % of the lines at 2.6 ppm
    assert water.choose_reference(["NAA", "Glu"]).members == ("NAA",)
    assert water.choose_reference(["PCr", "NAA"]).members == ("PCr",)
    assert water.choose_reference(["NAA", "PCr", "Cr"]).members == ("Cr", "PCr")
    task, fitted = fits([[10.0]], names=("Glu",))
    with pytest.raises(InputError, match="none of Cr, PCr and NAA"):
        water.molality_factor(task, fitted, reference, 0.03, 2.0, None)


def test_line_shapes_change_no_concentration_but_by_tails():
    reference = water.WaterReference(line(1e5, 5.0), DWELL, MHZ)
    wanted = water.molality_factor(*fits([[5.0, 3.0]], gamma=10.0), reference, 0.03, 2.0, None)[0][0]
    variants = (
        fits([[5.0, 3.0]], gamma=10.0, sigma=8.0),
        fits([[5.0, 3.0]], gamma=10.0, eps=2 * np.pi * 4.0),
        fits([[5.0, 3.0]], gamma=[[10.0, 14.0]], groups=[1, 0]),
        fits([[5.0, 3.0]], gamma=10.0, eps=[[9.0, -9.0]], free_shift=True),
    )
    for variant in variants:
        factor = water.molality_factor(*variant, reference, 0.03, 2.0, None)[0][0]
        assert factor == pytest.approx(wanted, rel=0.01) and factor != wanted


def test_groups_and_free_shifts_go_to_their_metabolites():
    """A creatine that a shift of its own moves out of 2-5 ppm does not count; a shift of another metabolite does."""
    names, reference = ("NAA", "Cr"), water.WaterReference(line(1e5, 5.0), DWELL, MHZ)
    away = 2 * np.pi * 4.5 * MHZ  # down by 4.5 ppm

    def factor(**more):
        return water.molality_factor(*fits([[5.0, 4.0]], names, gamma=5.0, **more), reference, 0.03, 2.0, None)[0][0]

    whole = factor(eps=0.0)
    assert factor(eps=[[away, 0.0]], free_shift=True) == pytest.approx(whole, rel=1e-9)
    assert factor(eps=[[0.0, away]], free_shift=True) < 0.2 * whole
    assert factor(eps=[[0.0, away]], groups=[1, 0]) == pytest.approx(whole, rel=1e-9)
    assert factor(eps=[[away, 0.0]], groups=[1, 0]) < 0.2 * whole


def test_cells_are_independent_and_failed_ones_missing():
    rng = np.random.default_rng(5)
    raw, gamma = rng.uniform(0, 5, (300, 2)), rng.uniform(0, 30, (300, 1))
    raw[17], raw[140], gamma[200] = 0, np.nan, np.nan
    task, fitted = fits(raw, gamma=gamma)
    reference = water.WaterReference(line(1e5, 5.0), DWELL, MHZ)
    molal, molar = water.molality_factor(task, fitted, reference, 0.03, 2.0, None)
    assert np.flatnonzero(np.isnan(molal)).tolist() == [17, 140, 200]
    np.testing.assert_array_equal(np.isnan(molal), np.isnan(molar))
    for cell in (0, 127, 128, 299):
        alone = water.molality_factor(*fits(raw[[cell]], gamma=gamma[[cell]]), reference, 0.03, 2.0, None)
        np.testing.assert_allclose([molal[cell], molar[cell]], np.ravel(alone), rtol=1e-12)


def test_a_longer_basis():
    longer = analytic_basis({name: LINES[name] for name in ("Cr", "PCr")}, n_points=8192, width_hz=1.0)
    reference = water.WaterReference(line(1e5, 5.0), DWELL, MHZ)
    factors = [
        water.molality_factor(*fits([[5.0, 3.0]], gamma=10.0, basis=basis), reference, 0.03, 2.0, None)[0][0]
        for basis in (None, longer)
    ]
    assert factors[1] == pytest.approx(factors[0], rel=1e-9)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.1), (-0.1, 1.0, 0.1), (0.4, 0.4, np.nan), (0, 0, 1.0)])
def test_wrong_tissue_fractions_are_told(fractions):
    with pytest.raises(InputError, match="WM GM CSF") as caught:
        Tissue(*fractions)
    assert "\n" not in str(caught.value)


def test_fractions_a_little_off_are_divided_by_their_sum():
    np.testing.assert_allclose(Tissue(0.408, 0.51, 0.102).fractions, [0.4, 0.5, 0.1])
    np.testing.assert_array_equal(Tissue(0.403, 0.5, 0.102).fractions, [0.403, 0.5, 0.102])


GOOD = {"water": "w.nii.gz", "role": "both", "te_s": 0.03, "tr_s": 2.0, "frequency_mhz": MHZ, "names": ["Cr", "PCr"]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"role": "concentration"}, None),
        ({"role": "embedded"}, None),
        ({"water": None}, "no water reference"),
        ({"role": "ecc"}, "water reference is for eddy currents only"),
        ({"te_s": None}, "no echo time"),
        ({"tr_s": None}, "no repetition time"),
        ({"te_s": 30.0}, "echo time of 30 s is impossible"),
        ({"tr_s": -1.0}, "repetition time of -1 s is impossible"),
        ({"frequency_mhz": 400.2}, "9.4 T: no relaxation times known, only at 1.5, 3 and 7 T"),
        ({"names": None}, "neither OFF nor UNEDITED is fitted"),
        ({"names": ["Glu"]}, "none of Cr, PCr and NAA is fitted"),
    ],
)
def test_reasons_for_no_absolute_concentrations(change, reason):
    assert water.why_not(**(GOOD | change)) == reason


def test_reading_the_reference(tmp_path):
    fids = np.stack([line(10.0, 5.0), line(12.0, 5.0)])
    scan = Scan(fids[None, :, None], MHZ, DWELL, {"EchoTime": 0.03}, ("UNEDITED",))
    path = tmp_path / "mrsref.nii.gz"
    write_scan(path, scan)
    reference = water.read_reference(path, MHZ)
    np.testing.assert_allclose(reference.fid, line(11.0, 5.0), rtol=1e-5)
    assert reference.area == pytest.approx(5.5, rel=0.02)
    with pytest.raises(InputError, match="the scan's own water"):
        water.read_reference(path, 1.03 * MHZ)
    write_scan(path, replace(scan, fids=fids[None, None]))
    with pytest.raises(InputError, match="2 coils"):
        water.read_reference(path, MHZ)
    write_scan(path, replace(scan, fids=0 * fids[None, :, None]))
    with pytest.raises(InputError, match="zero everywhere"):
        water.read_reference(path, MHZ)
    path.write_bytes(b"")
    with pytest.raises(SkippedError):
        water.read_reference(path, MHZ)


FITTED = ("Cr", "PCr", "NAA", "NAAG", "GPC", "Glu", "Gln", "Ins")  # few, for speed


def in_vivo(shared_data, folder, number):
    """Convert a Philips PRESS spectrum and its water to single-FID NIfTI-MRS."""
    site, subject = number
    raw = shared_data / "philips-press-35" / site / subject
    paths = []
    for part in ("act", "ref"):
        files = {p.suffix.lower(): p for p in raw.iterdir() if f"_{part}." in p.name.lower()}
        call = [Path(sys.executable).with_name("spec2nii"), "philips", files[".sdat"], files[".spar"]]
        subprocess.run([*map(str, call), "-o", str(folder), "-f", part], check=True, capture_output=True)
        paths.append(folder / f"{part}.nii.gz")
    return paths


def published(folder, flags):
    """Fit with the command fsl_mrs; return concentrations and parameters."""
    call = ["fsl_mrs", "--output", folder, "--overwrite", "--no_conj_fid", "--conj_basis", *flags]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([str(word) for word in call], check=True, capture_output=True, env=one_thread)
    table = pd.read_csv(folder / "concentrations.csv", header=[0, 1], index_col=0)
    parameters = pd.read_csv(folder / "all_parameters.csv").set_index("parameter")["mean"]
    return table["mean"], parameters


def as_fitted(data, basis_folder, concentrations, parameters, groups, free_shift=False):
    """Return a task and the fit that FSL-MRS's files describe, its amplitudes in the project's units."""
    scan, basis = read_scan(data), basis_sets.read_json_folder(basis_folder)
    fid = scan.fids.reshape(-1)
    resampled = lcm_model.resample(basis.fids, basis.dwell_s, scan.dwell_s, fid.size)
    scale = np.linalg.norm(fid) / np.linalg.norm(resampled.mean(axis=0))
    options = lcm_model.Options(free_shift=free_shift)
    task = SimpleNamespace(
        condition="UNEDITED",
        n_points=fid.size,
        dwell_s=scan.dwell_s,
        frequency_mhz=scan.frequency_mhz,
        basis=basis,
        groups=groups,
        options=options,
    )
    raw = concentrations["raw"][basis.names].to_numpy(float)[None] * scale
    shapes = {
        name: np.array([[v for k, v in parameters.items() if k.startswith(f"{name}_")]])
        for name in ("gamma", "sigma", "eps")
    }
    return task, SimpleNamespace(names=basis.names, raw=raw, **shapes)


@pytest.mark.fsl_mrs
@pytest.mark.data
@pytest.mark.parametrize(
    ("number", "te_s", "tr_s", "tissue", "flags"),
    [
        (("P1", "S01"), 0.035, 2.0, (0.30, 0.50, 0.185), ["--metab_groups", "Cr"]),
        (("P4", "S02"), 0.035, 2.0, (0.31, 0.57, 0.12), []),
        (None, 0.030, 3.0, None, ["--free_shift"]),
    ],
    ids=["in-vivo-groups-fractions-off-1", "in-vivo", "simulated-free-shift-no-tissue"],
)
def test_same_as_the_command_fsl_mrs(shared_data, tmp_path, number, te_s, tr_s, tissue, flags):
    """Molality and molarity of every metabolite, given FSL-MRS's own fit."""
    if shutil.which("fsl_mrs") is None:
        pytest.skip("needs `fsl_mrs` on PATH")
    simulated = shared_data / "fslmrs-reference"
    basis = tmp_path / "basis"
    basis.mkdir()
    for name in FITTED:
        shutil.copy(simulated / "basis_press30" / f"{name}.json", basis)
    if number is None:
        data, reference = simulated / "pp_press" / "metab.nii.gz", simulated / "pp_press" / "wref.nii.gz"
    else:
        data, reference = in_vivo(shared_data, tmp_path, number)
    more = ["--data", data, "--basis", basis, "--h2o", reference, "--TE", 1e3 * te_s, "--TR", tr_s, *flags]
    more += ["--tissue_frac", *tissue] if tissue else []
    theirs, parameters = published(tmp_path / "fit", more)
    names = basis_sets.read_json_folder(basis).names
    own = [flag for flag in flags if flag in names]
    groups = [own.index(name) + 1 if name in own else 0 for name in names]
    task, fitted = as_fitted(data, basis, theirs, parameters, groups, "--free_shift" in flags)
    signal = water.read_reference(reference, task.frequency_mhz)
    molal, molar = water.molality_factor(task, fitted, signal, te_s, tr_s, Tissue(*tissue) if tissue else None)
    assert (fitted.raw > 0).sum() >= 5
    np.testing.assert_allclose(fitted.raw[0] * molal, theirs["molality"][names], rtol=1e-3)
    np.testing.assert_allclose(fitted.raw[0] * molar, theirs["molarity"][names], rtol=1e-3)
    assert np.isfinite(molal).all()
