"""Training set: window, scale, exact undo, and who may see whom."""

import hashlib
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import assemble, spectra, splits, training_set
from mrs_synthesis.files import read_table, write_table
from mrs_synthesis.scans import Scan, write_scan
from mrs_synthesis.stage import InputError

FREQUENCY, DWELL, POINTS = 127.74, 5e-4, 2048


def lorentzian_fid(ppm, amplitude, decay, n=POINTS, dwell=DWELL, frequency=FREQUENCY):
    t = np.arange(n) * dwell
    return amplitude * np.exp((2j * np.pi * (ppm - 4.65) * frequency - decay) * t)


SPLITS = {"01": "train", "02": "validation", "03": "train", "04": "test", "05": "test"}


def make_study(folder, subjects, *, transients=6, sessions=(None,), rasters=None, splits_given=SPLITS, seed=0):
    """Write units.tsv and preprocessed scans with an NAA and a creatine peak; return FIDs by unit."""
    rng = np.random.default_rng(seed)
    rows, fids = [], {}
    for i, subject in enumerate(subjects):
        for session in sessions:
            n, dwell, frequency = (rasters or {}).get(subject, (POINTS, DWELL, FREQUENCY))
            unit = f"sub-{subject}" + (f"_ses-{session}" if session else "") + "_acq-mega"
            where = f"sub-{subject}" + (f"/ses-{session}" if session else "")
            base = [lorentzian_fid(2.008, 10 + i, 20, n, dwell, frequency), np.zeros(n)]
            both = lorentzian_fid(3.027, 6, 20, n, dwell, frequency)
            values = np.stack([np.broadcast_to(b + both, (transients, n)) for b in base])
            values = values + 0.1 * (rng.standard_normal((2, transients, n, 2)) @ [1, 1j])
            scan = Scan(values[:, :, None], frequency, dwell, {"EchoTime": 0.068}, ("OFF", "ON"))
            path = assemble.preprocessed_path(folder / "derivatives", where, unit)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_scan(path, scan)
            fids[unit] = values.astype(np.complex64)
            rows.append(
                {
                    "unit": unit,
                    "folder": where,
                    "subject": subject,
                    "session": session,
                    "site": "AB"[i % 2],
                    "edit_scheme": "mega",
                    "split": splits_given.get(subject),
                }
            )
    write_table(folder / "units.tsv", pd.DataFrame(rows))
    return fids


def run_cli(folder, *more, name="out"):
    out = folder / name
    arguments = ["--units", folder / "units.tsv", "--derivatives", folder / "derivatives", "--output", out]
    assemble.main([*map(str, arguments), "--seed", "7", *more])
    index = read_table(out / "index.tsv")
    return np.load(out / "spectra.npy", mmap_mode="r"), index, json.loads((out / "grid.json").read_text())


def test_window_is_made_of_bins_and_a_multiple_of_32():
    axis = spectra.ppm_axis(POINTS, DWELL, FREQUENCY)
    ppm = assemble.window_ppm(axis, 0.0, 4.4)
    # 4.4 ppm * 127.74 MHz / (2000 Hz / 2048) = 575.5 bins, so 576 = 18 * 32
    assert ppm.size == 576
    assert np.all(np.isin(ppm, axis))
    wide = assemble.window_ppm(axis, 1.0, 3.0)  # 261.6 bins -> 288, widened evenly
    assert wide.size == 288
    assert abs((1.0 - wide[0]) - (wide[-1] - 3.0)) < 2 * (axis[1] - axis[0])


@pytest.mark.parametrize("window", [(4.0, 1.0), (-9.0, 4.0), (1.0, 20.0)])
def test_bad_window_is_refused(window):
    with pytest.raises(InputError, match="--window-ppm"):
        assemble.window_ppm(spectra.ppm_axis(POINTS, DWELL, FREQUENCY), *window)


def test_rows_times_scale_give_back_the_fid_inside_the_window(tmp_path):
    fids = make_study(tmp_path, ["01", "02", "03", "04", "05"])
    rows, index, grid = run_cli(tmp_path)
    assert rows.dtype == np.complex64
    ppm = np.array(grid["ppm"])
    own = spectra.ppm_axis(POINTS, DWELL, FREQUENCY)
    inside = np.flatnonzero((own >= ppm[0] - 1e-9) & (own <= ppm[-1] + 1e-9))
    for entry in index.itertuples():
        back = spectra.from_window(rows[entry.row] * entry.scale, ppm, POINTS, DWELL, FREQUENCY)
        original = fids[entry.unit][["OFF", "ON"].index(entry.condition), entry.transient]
        np.testing.assert_allclose(
            spectra.to_spectrum(back)[inside], spectra.to_spectrum(original)[inside], atol=2e-6 * entry.scale
        )
    # 0.1 in the FID, in the table unnormalised
    assert index["noise_sd"].mean() == pytest.approx(0.1, rel=0.02)


def test_scale_is_the_peak_of_the_mean_off_spectrum():
    ppm = spectra.ppm_axis(POINTS, DWELL, FREQUENCY)
    # A Lorentzian's spectrum at its centre is amplitude / (decay * dwell); the mean of 1 and 3 is 2.
    on_bin = ppm[np.argmin(np.abs(ppm - 2.0))]
    values = spectra.to_spectrum(np.stack([lorentzian_fid(on_bin, a, 20) for a in (1.0, 3.0)]))
    assert assemble.subject_scale(values, ppm) == pytest.approx(2 / (20 * DWELL), rel=1e-3)
    # Lipids at 1.3 ppm do not count.
    lipid = values + spectra.to_spectrum(lorentzian_fid(1.0, 5, 20))
    assert np.abs(lipid).max() > 400
    assert assemble.subject_scale(lipid, ppm) == pytest.approx(200, rel=0.1)


def test_other_raster_is_evaluated_on_the_grid():
    ppm = assemble.window_ppm(spectra.ppm_axis(POINTS, DWELL, FREQUENCY), 0.0, 4.4)
    dwell, n, frequency, decay = 1 / 2500, 3000, 123.25, 25.0
    fid = lorentzian_fid(3.027, 1.0, decay, n, dwell, frequency)
    found = assemble.window_spectra(fid, ppm, dwell, frequency)
    expected = 1 / (decay + 2j * np.pi * (ppm - 3.027) * frequency) / dwell  # continuous Fourier transform / dwell
    assert np.abs(found - expected).max() < 0.005 * np.abs(expected).max()


def test_slice_equals_fourier_sum():
    rng = np.random.default_rng(0)
    fid = rng.standard_normal((2, 256)) + 1j * rng.standard_normal((2, 256))
    ppm = spectra.ppm_axis(256, DWELL, FREQUENCY)[100:132]
    direct = fid @ spectra.window_matrix(ppm, 256, DWELL, FREQUENCY)
    np.testing.assert_allclose(assemble.window_spectra(fid, ppm, DWELL, FREQUENCY), direct, atol=1e-9)


def test_sessions_of_a_subject_stay_together_and_failed_units_are_left_out(tmp_path):
    make_study(tmp_path, list(SPLITS), sessions=("1", "2"), transients=2)
    unit = "sub-02_ses-1_acq-mega"
    assemble.preprocessed_path(tmp_path / "derivatives", "sub-02/ses-1", unit).write_bytes(b"")
    _, index, grid = run_cli(tmp_path)
    assert grid["split_unit"] == "subject"
    assert unit not in set(index["unit"])
    assert index["unit"].nunique() == 5
    assert dict(index.groupby("subject")["split"].unique().str.join(" ")) == {
        s: split for s, split in SPLITS.items() if split != "test"
    }
    assert (index.groupby("unit")["scale"].nunique() == 1).all()


def read_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_test_subject_leaves_the_training_set_as_it_was(tmp_path):
    make_study(tmp_path / "three", ["01", "02", "03"])
    make_study(tmp_path / "five", list(SPLITS))
    for name in ("three", "five"):
        run_cli(tmp_path / name)
    assert read_bytes(tmp_path / "three" / "out") == read_bytes(tmp_path / "five" / "out")


def test_test_subjects_are_set_out_on_the_training_set_s_grid(tmp_path, capsys):
    rasters = {"05": (3000, 1 / 2500, 123.25), "07": (POINTS, 1e-2, FREQUENCY)}  # too narrow a band: 100 Hz
    subjects = [*SPLITS, "06", "07"]
    fids = make_study(tmp_path, subjects, splits_given=SPLITS | {"06": "test", "07": "test"}, rasters=rasters)
    assemble.preprocessed_path(tmp_path / "derivatives", "sub-06", "sub-06_acq-mega").write_bytes(b"")
    _, _, grid = run_cli(tmp_path)
    capsys.readouterr()
    rows, index, own = run_cli(tmp_path, "--grid", str(tmp_path / "out" / "grid.json"), name="heldout")
    digests = [parts.pop("spectra_sha256") for parts in (grid, own)]
    assert own == grid
    files = [(tmp_path / name / "spectra.npy").read_bytes() for name in ("out", "heldout")]
    assert digests == [hashlib.sha256(content).hexdigest() for content in files]
    assert list(index["unit"].unique()) == ["sub-04_acq-mega", "sub-05_acq-mega"] and set(index["split"]) == {"test"}
    assert index["row"].tolist() == list(range(24)) and rows.shape == (24, len(grid["ppm"]))
    said = capsys.readouterr().out
    assert "left out: sub-06_acq-mega" in said and "left out: sub-07_acq-mega" in said
    ppm = np.array(grid["ppm"])
    for entry in index.iloc[[0, 7, 13, 23]].itertuples():
        fid = fids[entry.unit][["OFF", "ON"].index(entry.condition), entry.transient]
        n, dwell, frequency = rasters.get(entry.subject, (POINTS, DWELL, FREQUENCY))
        direct = fid @ spectra.window_matrix(ppm, n, dwell, frequency)
        np.testing.assert_allclose(rows[entry.row] * entry.scale, direct, atol=1e-5 * entry.scale)


def test_no_usable_test_subject_makes_an_empty_set(tmp_path):
    make_study(tmp_path, ["01", "02", "03"])
    _, _, grid = run_cli(tmp_path)
    call = {"units": "units.tsv", "derivatives": "derivatives", "grid": "out/grid.json", "output": "none"}
    assemble.main([f"--{flag}={tmp_path / name}" for flag, name in call.items()])
    assert np.load(tmp_path / "none" / "spectra.npy").shape == (0, len(grid["ppm"]))
    assert read_table(tmp_path / "none" / "index.tsv", assemble.INDEX_COLUMNS).empty
    both = training_set.read_index(tmp_path / "out", tmp_path / "none", ("unit", "split"))
    assert set(both["split"]) == {"train", "validation"}


def test_few_subjects_are_split_by_transient_in_pairs(tmp_path):
    fids = make_study(tmp_path, ["01", "02"], transients=10, splits_given={})
    rows, index, grid = run_cli(tmp_path)
    assert grid["split_unit"] == "transient"
    assert (index.groupby(["unit", "transient"])["split"].nunique() == 1).all()
    first = index[(index["subject"] == "01") & (index["condition"] == "OFF")]
    assert Counter(first["split"]) == {"train": 6, "validation": 2, "test": 2}
    # The scale knows the training transients only.
    used = first.loc[first["split"] == "train", "transient"]
    ppm = np.array(grid["ppm"])
    values = assemble.window_spectra(fids["sub-01_acq-mega"][0, used], ppm, DWELL, FREQUENCY)
    band = (ppm >= 1.8) & (ppm <= 3.4)
    assert first["scale"].iloc[0] == pytest.approx(np.abs(values.mean(0))[band].max(), rel=1e-6)
    assert rows.shape == (40, len(ppm))
    with pytest.raises(InputError, match="split by transient; the training set holds the test transients itself"):
        run_cli(tmp_path, "--grid", str(tmp_path / "out" / "grid.json"))
    # The training set's folder is that of the held-out set, too
    both = training_set.read_index(tmp_path / "out", tmp_path / "out", ("row", "split"))
    assert sorted(both["row"]) == list(range(40))


def test_errors_name_the_row_and_what_to_do(tmp_path):
    make_study(tmp_path, ["01", "02", "03"], splits_given=dict.fromkeys(["01", "02", "03"], "validation"))
    with pytest.raises(InputError, match="no train subject"):
        run_cli(tmp_path)
    table = read_table(tmp_path / "units.tsv")
    table.loc[0, "split"] = None
    write_table(tmp_path / "units.tsv", table)
    with pytest.raises(InputError, match="sub-01_acq-mega: no split, but other scans state theirs"):
        run_cli(tmp_path)
    table["split"] = None
    write_table(tmp_path / "units.tsv", table)
    with pytest.raises(InputError, match="--fractions"):
        run_cli(tmp_path, "--fractions", "0.5", "0.2", "0.2")
    table.loc[0, "edit_scheme"] = "none"
    write_table(tmp_path / "units.tsv", table)
    with pytest.raises(InputError, match="edit_scheme mega, none"):
        run_cli(tmp_path)
    table["edit_scheme"] = "none"
    write_table(tmp_path / "units.tsv", table)
    with pytest.raises(InputError, match="edit conditions OFF, ON, expected UNEDITED"):
        run_cli(tmp_path)


def test_one_subject_in_two_splits_is_refused():
    rows = [
        {"unit": "sub-01_ses-1_acq-a", "subject": "01", "split": "train"},
        {"unit": "sub-01_ses-2_acq-a", "subject": "01", "split": "test"},
    ]
    with pytest.raises(InputError, match="sub-01_ses-2_acq-a"):
        splits.given_splits(rows)


def test_splits_are_stratified_by_site():
    sites = {f"{site}{k:02d}": site for site in "ABCD" for k in range(10)}
    assigned = splits.split_subjects(sites, {}, (0.6, 0.2, 0.2), seed=3)
    assert Counter(assigned.values()) == {"train": 24, "validation": 8, "test": 8}
    for name, expected in (("train", 6), ("validation", 2), ("test", 2)):
        for site in "ABCD":
            assert abs(sum(assigned[s] == name for s in sites if sites[s] == site) - expected) <= 1


def test_a_new_subject_moves_few_others_and_order_does_not_matter():
    sites = {f"{k:03d}": "AB"[k % 2] for k in range(60)}
    before = splits.split_subjects(sites, {}, (0.6, 0.2, 0.2), seed=1)
    assert splits.split_subjects(dict(reversed(sites.items())), {}, (0.6, 0.2, 0.2), seed=1) == before
    after = splits.split_subjects(sites | {"new": "A"}, {}, (0.6, 0.2, 0.2), seed=1)
    assert sum(before[s] != after[s] for s in sites) <= 4
    other = splits.split_subjects(sites, {}, (0.6, 0.2, 0.2), seed=2)
    assert sum(before[s] != other[s] for s in sites) > 10


@pytest.mark.parametrize("n", [3, 4, 5, 7, 13, 100])
def test_every_split_has_somebody(n):
    counts = splits.split_counts(n, (0.6, 0.2, 0.2))
    assert sum(counts) == n
    assert min(counts) >= 1
    assert all(abs(c - n * f) <= 1 for c, f in zip(counts, (0.6, 0.2, 0.2), strict=True))
