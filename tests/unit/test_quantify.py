"""The stage from files to table, on data made with known amplitudes."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from analytic_basis import LINES, MHZ, analytic_basis

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fitting, lcm_model, quantify
from mrs_synthesis.files import read_table, write_table
from mrs_synthesis.scans import Scan, read_scan, write_scan
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

N, DWELL, CELLS = 2048, 5e-4, 3
TIME = np.arange(N) * DWELL
TRUTH = {"Cr": 4.0, "GABA": 1.5, "Glu": 9.0, "Ins": 5.0, "NAA": 10.0, "PCh": 1.2, "PCr": 4.0, "MM3co": 1.2}


def write_set(folder, mhz=MHZ, n_points=N, te_ms=None):
    """A MEGA-PRESS set of OFF, ON and DIFF, ON with inverted NAA singlet, refocused GABA and MM3co."""
    options = {"mhz": mhz, "n_points": n_points}
    off = analytic_basis(LINES | {"MM3co": [(3.0, 0.0)]}, **options)
    on_lines = dict(LINES, NAA=[(2.6, 1.5)], GABA=[(3.01, 4), (2.28, 2)], Glu=[(2.34, 2), (3.75, 2)])
    on = analytic_basis(on_lines | {"MM3co": [(3.0, 2.0)]}, **options)
    t = np.arange(n_points) * DWELL
    on.fids[on.names.index("MM3co")] *= np.exp(-((np.pi * 14 * t) ** 2) / (4 * np.log(2)))
    bases = {"OFF": off.select(LINES), "ON": on, "DIFF": basis_sets.difference(on, off)}
    bases = {condition: replace(basis, te_ms=te_ms) for condition, basis in bases.items()}
    basis_sets.write_set(folder, bases, {})
    return off, on


def fids_of(basis, scale=1.0):
    t = np.arange(1, N + 1) * DWELL
    fid = sum(TRUTH[name] * fid for name, fid in zip(basis.names, basis.fids, strict=True))
    return scale * fid * np.exp(-(8 + 100 * t) * t)


@pytest.fixture
def study(tmp_path):
    """Cells of one subject: amplitudes 1, 2, 3 times the truth, in a file and an index."""
    off, on = write_set(tmp_path / "set")
    rng = generator(1, "test_quantify")
    fids = np.array([[fids_of(basis, 1e-3 * (1 + i)) for i in range(CELLS)] for basis in (off, on)])
    fids = fids + 2e-5 * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
    header = {"SpectrometerFrequency": [MHZ], "ResonantNucleus": ["1H"]}
    scan = Scan(fids[:, :, None], MHZ, DWELL, header, ("OFF", "ON"), dimensions=("DIM_DYN", "DIM_EDIT"))
    write_scan(tmp_path / "cells.nii.gz", scan)
    write_table(tmp_path / "index.tsv", pd.DataFrame({"cell": range(CELLS), "source": "real"}))
    return tmp_path


def arguments(study, *more, conditions=("OFF", "DIFF"), cells="cells.nii.gz", index=True):
    argv = ["--unit", "sub-01_acq-mega", "--cells", study / cells, "--basis", study / "set"]
    argv += ["--conditions", *conditions, "--output", study / "fit.tsv", "--curves", study / "fit.npz"]
    argv += ["--index", study / "index.tsv"] if index else []
    return [str(word) for word in [*argv, "--device", "cpu", *more]]


def test_amplitudes_ratios_sums_and_curves(study):
    quantify.main(arguments(study, "--baseline", "poly, 2"))
    table = read_table(study / "fit.tsv")
    assert tuple(table.columns) == fitting.COLUMNS and set(table["engine"]) == {"batched"}
    rows = table.set_index(["condition", "metabolite", "cell"])
    assert table["converged"].eq(1).all() and not rows.index.duplicated().any()
    for cell in range(CELLS):
        for condition, names in (("OFF", ("NAA", "Glu", "Ins", "tCr")), ("DIFF", ("NAA", "GABA+"))):
            truth = TRUTH | {"tCr": 8.0, "GABA+": 2.7}
            for name in names:
                row = rows.loc[condition, name, cell]
                assert row["raw"] == pytest.approx(truth[name] * 1e-3 * (1 + cell), rel=0.03), (condition, name)
                assert row["per_tcr"] == pytest.approx(truth[name] / 8, rel=0.03)
                assert row["crlb_percent"] == pytest.approx(100 * row["raw_sd"] / row["raw"], rel=1e-6)
    # Cr and PCr are nearly collinear, so their sum is known much better than either
    tcr, cr = rows.loc["OFF", "tCr", 0], rows.loc["OFF", "Cr", 0]
    assert tcr["raw_sd"] < 0.5 * cr["raw_sd"] and tcr["raw"] == pytest.approx(
        cr["raw"] + rows.loc["OFF", "PCr", 0]["raw"], rel=1e-6
    )
    # In the difference singlets cancel: they are not fitted; sums have neither SNR nor width
    assert ("DIFF", "Cr", 0) not in rows.index and ("DIFF", "tCr", 0) not in rows.index
    assert np.isnan(tcr["snr"]) and np.isnan(tcr["fwhm_hz"]) and rows.loc["OFF", "NAA", 0]["fwhm_hz"] > 4
    curves = np.load(study / "fit.npz", allow_pickle=False)
    for condition in ("OFF", "DIFF"):
        data, fit = curves[f"{condition}_data"], curves[f"{condition}_fit"]
        assert data.dtype == np.complex64 and data.shape == (CELLS, curves[f"{condition}_ppm"].size)
        assert list(curves[f"{condition}_cell"]) == [0, 1, 2]
        # What is left is noise of 2e-5 in the FID, hence 2e-5 sqrt(2 points) in the spectrum
        residual = np.sqrt(np.mean(np.abs(data - fit) ** 2))
        noise = 2e-5 * np.sqrt(2 * N) * (np.sqrt(2) if condition == "DIFF" else 1)
        assert residual == pytest.approx(noise, rel=0.1)


def test_same_input_same_bytes(study):
    quantify.main(arguments(study))
    first = [(study / name).read_bytes() for name in ("fit.tsv", "fit.npz")]
    quantify.main(arguments(study))
    assert first == [(study / name).read_bytes() for name in ("fit.tsv", "fit.npz")]


def test_alone_on_a_file_without_index_every_transient_is_a_cell(study):
    quantify.main(arguments(study, conditions=("OFF",), index=False))
    assert sorted(set(read_table(study / "fit.tsv")["cell"])) == [0, 1, 2]


def test_difference_alone_has_no_ratio(study):
    quantify.main(arguments(study, "--diff-ignore", "Glu", conditions=("DIFF",)))
    table = read_table(study / "fit.tsv")
    assert table["per_tcr"].isna().all() and "Glu" not in set(table["metabolite"])
    assert "n/a" in (study / "fit.tsv").read_text()


def test_nearest_basis_is_used(study):
    write_set(study / "far", mhz=123.25)
    folder, bases = basis_sets.choose_set([study / "far", study / "set"], 127.8, ["OFF", "DIFF"])
    assert folder == study / "set" and bases["OFF"].frequency_mhz == 127.8
    with pytest.raises(InputError, match="no basis set with UNEDITED"):
        basis_sets.choose_set([study / "set"], 127.8, ["UNEDITED"])
    with pytest.raises(InputError, match="5 %"):
        basis_sets.choose_set([study / "set"], 297.2, ["OFF"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("index", "2 cells, expected 0 to 2"),
        ("ignore", "--ignore Gul: not in"),
        ("condition", "has OFF, ON, not UNEDITED"),
        ("short", "basis OFF lasts 0.512 s, the data 1.024 s"),
        ("echo time", "basis OFF for TE 68 ms, data with TE 30 ms"),
        ("zero", "none of 3 cells can be fitted .OFF of cell 0 is zero everywhere"),
        ("mirrored", "mirror image of OFF"),
        ("shifted", r"OFF lies \+0.30 ppm from the basis"),
        ("baseline", "baseline"),
        ("cut", "not a readable NIfTI"),
    ],
)
def test_bad_input_is_one_line_and_recorded(study, change, message):
    more, conditions = [], ("OFF", "DIFF")
    scan = read_scan(study / "cells.nii.gz")
    if change == "index":
        write_table(study / "index.tsv", pd.DataFrame({"cell": [0, 1]}))
    elif change == "ignore":
        more = ["--ignore", "Gul"]
    elif change == "condition":
        basis_sets.write_json_folder(study / "set" / "UNEDITED", analytic_basis())
        conditions = ("OFF", "UNEDITED")
    elif change == "short":
        write_set(study / "set", n_points=1024)
    elif change == "echo time":
        write_set(study / "set", te_ms=68.0)
        more = ["--te-ms", "30"]
    elif change == "zero":
        scan = scan.with_fids(0 * scan.fids)
    elif change == "mirrored":
        scan = scan.with_fids(np.conj(scan.fids))
    elif change == "shifted":
        scan = scan.with_fids(scan.fids * shift(0.3))
    elif change == "baseline":
        more = ["--baseline", "cubic"]
    write_scan(study / "cells.nii.gz", scan)
    if change == "cut":
        (study / "cells.nii.gz").write_bytes((study / "cells.nii.gz").read_bytes()[:-9000])
    with pytest.raises(InputError, match=message):
        quantify.main(arguments(study, *more, conditions=conditions))
    quantify.main(arguments(study, *more, "--status", str(study / "status.json"), conditions=conditions))
    status = json.loads((study / "status.json").read_text())
    assert status["status"] == "failed" and "\n" not in status["reason"]
    assert (study / "fit.tsv").stat().st_size == 0 and (study / "fit.npz").stat().st_size == 0


def shift(ppm):
    return np.exp(2j * np.pi * ppm * MHZ * DWELL * np.arange(N))


def change_cells(study, change):
    """Change the cells' FIDs (conditions, cells, 1, points); `write_scan` would refuse NaN, so nibabel writes them."""
    image = nib.load(study / "cells.nii.gz")
    data = np.asarray(image.dataobj).copy()  # 1, 1, 1, points, cells, conditions
    fids = np.conj(data[0, 0, 0].transpose(2, 1, 0))
    data[0, 0, 0] = np.conj(change(fids)).transpose(2, 1, 0)
    nib.save(nib.Nifti2Image(data, image.affine, image.header), study / "cells.nii.gz")


def fit(study, *more, **options):
    """Run the stage; return its table by condition, metabolite, cell, and its status."""
    quantify.main(arguments(study, *more, "--status", str(study / "status.json"), **options))
    table = read_table(study / "fit.tsv").set_index(["condition", "metabolite", "cell"])
    return table.sort_index(), json.loads((study / "status.json").read_text())


def test_bad_cells_are_missing_with_a_note_and_the_others_are_the_same(study):
    before, _ = fit(study)

    def spoil(fids):
        fids[1, 0, 100] = np.nan  # ON of cell 0: OFF can still be fitted
        fids[:, 1] = 0
        return fids

    change_cells(study, spoil)
    after, status = fit(study)
    assert status["status"] == "ok" and (status["fitted"], status["missing"]) == (3, 3)
    numbers = ["raw", "raw_sd", "per_tcr", "per_tcr_sd", "crlb_percent"]
    for condition, cell, note in (
        ("DIFF", 0, "1 points NaN or infinite"),
        ("OFF", 1, "zero everywhere"),
        ("DIFF", 1, "zero everywhere"),
    ):
        rows = after.xs((condition, cell), level=("condition", "cell"))
        assert len(rows) > 4 and rows[numbers].isna().all(axis=None) and rows["converged"].eq(0).all()
        assert rows["note"].str.startswith(note).all()
    for condition, cell in (("OFF", 0), ("OFF", 2), ("DIFF", 2)):
        rows = after.xs((condition, cell), level=("condition", "cell"))
        wanted = before.xs((condition, cell), level=("condition", "cell"))
        assert np.allclose(rows[numbers], wanted[numbers], rtol=1e-6) and len(rows) == len(wanted)
    with np.load(study / "fit.npz") as curves:
        assert np.isfinite(curves["OFF_fit"]).all(axis=1).tolist() == [True, False, True]
        assert np.isfinite(curves["DIFF_fit"]).all(axis=1).tolist() == [False, False, True]


def test_frequency_offsets_of_scan_and_cell_are_taken_back_before_the_fit(study):
    before, status = fit(study)
    assert status["moved"] == 0 and before["note"].str.startswith("no water").all()

    def move(fids):
        fids[:, 0] *= shift(0.2)
        fids[:, 1] *= shift(0.2)
        fids[:, 2] *= shift(-0.12)
        return fids

    change_cells(study, move)
    after, status = fit(study)
    assert status["moved"] == 3 and abs(status["offset_ppm"]) > 0.05
    # The window now begins and ends at other points of the noise
    assert (np.abs(after["raw"] - before["raw"]) < 0.8 * before["raw_sd"]).all()
    notes = after.loc["DIFF", "GABA"]["note"].tolist()
    for note, ppm in zip(notes, (-0.2, -0.2, 0.12), strict=True):
        assert float(note.split()[2]) == pytest.approx(ppm, abs=0.011) and note.startswith("shifted by")


def test_upside_down_spectra_are_turned_and_negative_metabolites_stay_at_zero(study):
    before, _ = fit(study)
    change_cells(study, lambda fids: -fids)
    after, _ = fit(study)
    assert (np.abs(after["raw"] - before["raw"]) < 0.05 * before["raw_sd"]).all()
    off = analytic_basis()
    less = -1.2 * TRUTH["PCh"] * off.fids[off.names.index("PCh")] * np.exp(-(8 + 100 * TIME) * TIME) * 1e-3
    change_cells(study, lambda fids: -fids + less)  # choline is now negative in cell 0
    negative, _ = fit(study)
    assert negative.loc[("OFF", "PCh", 0), "raw"] == 0 and negative.loc[("OFF", "PCh", 0), "crlb_percent"] == 999
    assert negative.loc[("OFF", "NAA", 0), "raw"] == pytest.approx(before.loc[("OFF", "NAA", 0), "raw"], rel=0.03)


def one_metabolite(study, name):
    for condition in ("OFF", "ON", "DIFF"):
        for path in (study / "set" / condition).glob("*.json"):
            if path.stem != name:
                path.unlink()
    basis = analytic_basis()
    signal = 0.004 * basis.fids[basis.names.index(name)] * np.exp(-(8 + 100 * TIME) * TIME)
    noise = 2e-5 * generator(2, "one").normal(size=(2, CELLS, N, 2)).view(complex)[..., 0]
    change_cells(study, lambda fids: signal + noise)


def test_a_basis_of_one_metabolite(study):
    one_metabolite(study, "Cr")
    table, _ = fit(study, conditions=("OFF",))
    assert sorted(set(table.index.get_level_values("metabolite"))) == ["Cr", "tCr"]
    assert np.allclose(table["raw"], 0.004, rtol=0.01) and np.allclose(table["per_tcr"], 1)


def test_without_creatine_ratios_are_missing_and_the_note_says_so(study):
    one_metabolite(study, "NAA")
    table, _ = fit(study, conditions=("OFF",))
    assert np.allclose(table["raw"], 0.004, rtol=0.01) and table["per_tcr"].isna().all()
    assert table["note"].str.contains("no tCr fitted").all()


def test_equal_basis_spectra_are_warned_of_and_give_finite_numbers(study, capsys):
    before, _ = fit(study, conditions=("OFF",))
    twin = json.loads((study / "set" / "OFF" / "NAA.json").read_text())
    twin["basis"]["basis_name"] = "Twin"
    (study / "set" / "OFF" / "Twin.json").write_text(json.dumps(twin))
    after, _ = fit(study, conditions=("OFF",))
    assert [line for line in capsys.readouterr().out.splitlines() if "NAA and Twin cannot be told apart" in line]
    assert np.isfinite(after[["raw", "raw_sd"]]).all(axis=None)
    both = after.loc["OFF", "NAA"]["raw"] + after.loc["OFF", "Twin"]["raw"]
    assert np.allclose(both, before.loc["OFF", "NAA"]["raw"], rtol=1e-3)
    assert (after.loc["OFF", "NAA"]["raw_sd"] > 100 * before.loc["OFF", "NAA"]["raw_sd"]).all()


def write_water(study, amplitude):
    """Water of a known amplitude, 10 Hz wide."""
    fid = amplitude * np.exp(-np.pi * 10 * TIME)
    header = {"SpectrometerFrequency": [MHZ], "ResonantNucleus": ["1H"]}
    write_scan(study / "water.nii.gz", Scan(fid[None, None, None], MHZ, DWELL, header))
    return ["--water", str(study / "water.nii.gz")]


def test_absolute_concentrations_on_one_scale_in_both_conditions(study):
    """55.51 mol/kg x (amplitude per proton) / (water's per proton) x relaxation, 3 T: R = (1 - e^-TR/T1) e^-TE/T2."""
    more = [*write_water(study, 50.0), "--te-ms", "68", "--tr-ms", "2000"]
    table, status = fit(study, *more)
    r_water = (1 - np.exp(-2 / ((0.97 + 1.50) / 2))) * np.exp(-0.068 / ((0.073 + 0.088) / 2))
    r_metabolite = (1 - np.exp(-2 / 1.29)) * np.exp(-0.068 / 0.194)
    per_raw = 55510 / (50.0 / 2) * r_water / r_metabolite  # the basis has amplitude 1 per proton
    for condition, name in (("OFF", "NAA"), ("OFF", "tCr"), ("DIFF", "GABA")):
        rows = table.loc[condition, name]
        assert np.allclose(rows["molality_mmol_kg"], rows["raw"] * per_raw, rtol=0.03), (condition, name)
        assert np.allclose(rows["molality_sd_mmol_kg"] / rows["molality_mmol_kg"], rows["raw_sd"] / rows["raw"])
        # Without tissue fractions the voxel is pure water
        assert np.allclose(rows["molarity_mmol_l"], rows["molality_mmol_kg"])
    assert table["note"].isna().all() and status["absolute_concentrations"] == "yes"
    corrected, _ = fit(study, *more, "--tissue", "0.5", "0.4", "0.1")
    assert not np.allclose(corrected["molality_mmol_kg"], table["molality_mmol_kg"], rtol=0.01)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ([], "no water reference"),
        (["--te-ms", "68"], "no repetition time"),
        (["--tr-ms", "2000"], "no echo time"),
        (["--te-ms", "68", "--tr-ms", "2000", "--water-role", "ecc"], "eddy currents only"),
        (["--te-ms", "68", "--tr-ms", "2000", "damaged"], "water reference cannot be used"),
    ],
)
def test_what_water_scaling_lacks_stands_in_the_note(study, more, reason):
    if more:
        more = [*write_water(study, 50.0), *more]
    if "damaged" in more:
        more.remove("damaged")
        (study / "water.nii.gz").write_bytes(b"no water")
    table, status = fit(study, *more, conditions=("OFF",))
    assert table[["molality_mmol_kg", "molality_sd_mmol_kg", "molarity_mmol_l"]].isna().all(axis=None)
    assert table["note"].str.contains(reason).all() and reason in status["absolute_concentrations"]
    assert status["status"] == "ok" and table["raw"].notna().all()


def test_options_reach_the_model(study):
    words = ["--baseline", "spline, stiff", "--line-shape", "lorentzian", "--free-shift", "--ppm-range", "0.5", "4.0"]
    tasks = quantify.make_tasks(quantify.parser().parse_args(arguments(study, *words)))
    common = {"line_shape": "lorentzian", "free_shift": True}
    assert [task.options for task in tasks] == [
        lcm_model.Options((0.5, 4.0), "spline, stiff", **common),
        lcm_model.Options((0.5, 4.2), "poly, 2", **common),
    ]
    assert [(task.n_points, task.condition) for task in tasks] == [(N, "OFF"), (N, "DIFF")]


def test_a_basis_set_for_the_echo_time_goes_before_one_nearer_in_frequency(study):
    write_set(study / "short", te_ms=30.0)
    write_set(study / "long", mhz=127.0, te_ms=68.0)
    folders = [study / "short", study / "long"]
    assert basis_sets.choose_set(folders, MHZ, ["OFF"], 68.0)[0] == study / "long"
    assert basis_sets.choose_set(folders, MHZ, ["OFF"], None)[0] == study / "short"
