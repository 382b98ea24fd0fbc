"""Study cells and null controls on small scans whose averages and noise are known."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import augment, cells, controls, spectra
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.scans import Scan, read_scan, sidecar_path, write_scan
from mrs_synthesis.stage import InputError, SkippedError

N, DWELL, FREQUENCY, SD = 512, 5e-4, 123.25, 0.02
N_REAL, N_TOTAL, REPLICATES, N_TRANSIENTS, SEED = 2, 8, 2, 20, 3
UNIT = "sub-05_acq-test"
PPM = spectra.ppm_axis(N, DWELL, FREQUENCY)
WINDOW = PPM[(PPM > 0) & (PPM < 4.4)]


def line(ppm, area):
    t = spectra.time_axis(N, DWELL)
    return area * np.exp(t * (2j * np.pi * (ppm - spectra.WATER_PPM) * FREQUENCY - 20))


def transients(gaba, random, n=N_TRANSIENTS, noise=SD):
    off = line(2.008, 1.0) + line(3.027, 0.7)
    on = line(3.027, 0.7) + line(3.0, gaba)
    noise_part = random.standard_normal((2, 2, n, 1, N))
    return np.stack([off, on])[:, None, None] + noise * (noise_part[0] + 1j * noise_part[1])


def scan_of(fids):
    return Scan(fids, FREQUENCY, DWELL, conditions=("OFF", "ON"), dimensions=("DIM_DYN", "DIM_EDIT"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Training folder of four subjects; a test subject's scan and synthetic files."""
    folder = tmp_path_factory.mktemp("study")
    random = np.random.default_rng(0)
    rows, spectra_rows = [], []
    inside = slice(int(np.searchsorted(PPM, WINDOW[0])), int(np.searchsorted(PPM, WINDOW[0])) + WINDOW.size)
    for s, gaba in enumerate([0.1, 0.2, 0.3, 0.4, 0.9], start=1):
        fids = transients(gaba, random)
        unit = f"sub-{s:02d}_acq-test"
        values = spectra.to_spectrum(fids[:, :, 0])[..., inside]
        scale = np.abs(values[0].mean(axis=0)[(WINDOW > 1.8) & (WINDOW < 3.4)]).max()
        if unit == UNIT:
            write_scan(folder / f"{UNIT}_desc-preproc_svs.nii.gz", scan_of(fids))
            continue
        for c, condition in enumerate(("OFF", "ON")):
            for t in range(N_TRANSIENTS):
                rows.append((len(rows), unit, f"{s:02d}", "A", condition, t, "train", scale, SD))
                spectra_rows.append(values[c, t] / scale)
    columns = ["row", "unit", "subject", "site", "condition", "transient", "split", "scale", "noise_sd"]
    training = folder / "training"
    write_table(training / "index.tsv", pd.DataFrame(rows, columns=columns))
    np.save(training / "spectra.npy", np.array(spectra_rows, np.complex64))
    grid = {"ppm": WINDOW.tolist(), "frequency_mhz": FREQUENCY, "dwell_s": DWELL, "n_points": N}
    write_json(training / "grid.json", grid | {"conditions": ["OFF", "ON"], "split_unit": "subject"})
    plan = cells.plan(range(N_TRANSIENTS), N_REAL, N_TOTAL, REPLICATES, SEED, UNIT)
    described = {
        "Reference": list(plan.reference),
        "Replicates": [{"RealTransients": list(real)} for real in plan.replicates],
    }
    synthetic = transients(0.5, random, REPLICATES * (N_TOTAL - N_REAL), noise=0.0)
    synthetic[:, N_TOTAL - N_REAL :] *= 2  # the second replicate's are recognisable
    path = folder / f"{UNIT}_desc-synthRandomMean_svs.nii.gz"
    write_scan(path, scan_of(synthetic))
    write_json(sidecar_path(path), {"Plan": described})
    write_scan(folder / f"{UNIT}_desc-recon_svs.nii.gz", scan_of(transients(0.5, random, noise=0.0)))
    return folder


def run_augment(folder, *extra, n_real=N_REAL, design="augmentation"):
    output, index = folder / f"{UNIT}_desc-cells_svs.nii.gz", folder / f"{UNIT}_desc-cells_index.tsv"
    augment.main(
        [
            *f"--unit {UNIT} --design {design} --modes random --decoders mean --n-real {n_real}".split(),
            *f"--n-total {N_TOTAL} --seed {SEED} --replicates {REPLICATES} --real-curve 1 4".split(),
            f"--scan={folder / f'{UNIT}_desc-preproc_svs.nii.gz'}",
            f"--prefix={folder / UNIT}",
            f"--training={folder / 'training'}",
            f"--output={output}",
            f"--index={index}",
            *extra,
        ]
    )
    return output, index


@pytest.fixture(scope="module")
def result(study):
    output, index = run_augment(study)
    return read_scan(output).fids[:, :, 0], read_table(index)


def chosen(result, source, replicate=0, n_real=None):
    fids, index = result
    rows = index[(index["source"] == source) & (index["replicate"] == replicate)]
    if n_real is not None:
        rows = rows[rows["n_real"] == n_real]
    assert len(rows) == 1
    return fids[:, rows["cell"].iloc[0]]


@pytest.fixture(scope="module")
def measured(study):
    fids = read_scan(study / f"{UNIT}_desc-preproc_svs.nii.gz").fids[:, :, 0]
    return fids, cells.plan(range(N_TRANSIENTS), N_REAL, N_TOTAL, REPLICATES, SEED, UNIT)


def test_every_cell_of_the_design_is_there_once(result):
    fids, index = result
    assert index["cell"].tolist() == list(range(fids.shape[1]))
    counts = index.groupby("source").size().to_dict()
    # the learning curve of 1, 4 gets n_real = 2 and n_total = 8; of a pool of 8 there are 2, 2, 2, 1 replicates
    assert counts == {"reference": 1, "reconstruction": 1, "real": 7, "random": 2} | dict.fromkeys(controls.CONTROLS, 2)
    filled = index[index["source"].isin(["random", *controls.CONTROLS])]
    assert set(zip(filled["n_real"], filled["n_total"], strict=True)) == {(N_REAL, N_TOTAL)}


def test_reference_and_real_cells_are_means_of_their_transients(result, measured):
    fids, plan = measured
    expected = fids[:, list(plan.reference)].mean(axis=1)
    np.testing.assert_allclose(chosen(result, "reference"), expected, atol=1e-5)
    expected = fids[:, list(plan.pool[4:8])].mean(axis=1)
    np.testing.assert_allclose(chosen(result, "real", 1, 4), expected, atol=1e-5)


def test_filled_cells_hold_their_own_replicate(result, measured, study):
    fids, plan = measured
    synthetic = read_scan(study / f"{UNIT}_desc-synthRandomMean_svs.nii.gz").fids[:, 0, 0]
    for r, real in enumerate(plan.replicates):
        expected = (fids[:, list(real)].sum(axis=1) + (N_TOTAL - N_REAL) * synthetic * (1 + r)) / N_TOTAL
        np.testing.assert_allclose(chosen(result, "random", r), expected, atol=1e-5)
        np.testing.assert_allclose(chosen(result, "duplicated", r), fids[:, list(real)].mean(axis=1), atol=1e-5)


def test_population_mean_draws_the_subject_to_the_others_and_its_noise_is_as_told(result):
    def noise(source):
        return np.mean([spectra.noise_sd(chosen(result, source, r), DWELL, FREQUENCY) for r in range(REPLICATES)])

    assert noise("population_mean") == pytest.approx(SD * np.sqrt(N_REAL) / N_TOTAL, rel=0.15)
    assert noise("population_mean_noisy") == pytest.approx(SD / np.sqrt(N_TOTAL), rel=0.15)
    # GABA is 0.25 on average in training, 0.9 in this subject: 2 x 0.9 + 6 x 0.25 in 8
    at = int(np.argmin(np.abs(PPM - 3.0)))
    unit = spectra.to_spectrum(line(3.0, 1.0))[at].real
    creatine = spectra.to_spectrum(line(3.027, 0.7))[at].real
    value = np.mean([spectra.to_spectrum(chosen(result, "population_mean", r)[1])[at].real for r in range(REPLICATES)])
    assert (value - creatine) / unit == pytest.approx((2 * 0.9 + 6 * 0.25) / 8, abs=0.06)


def test_noise_of_the_noisy_control_is_the_same_every_time(study, result):
    output, _ = run_augment(study)
    np.testing.assert_array_equal(read_scan(output).fids[:, :, 0], result[0])


def test_shrinkage_weight_is_the_ratio_of_variances():
    population = controls.Population(WINDOW, np.zeros((2, 1)), np.array([3.0, 0]), np.array([8.0, 8]), ((), ()), 5)
    assert population.weight(2).tolist() == pytest.approx([3 / (3 + 4), 0])


def test_population_statistics_are_unbiased(tmp_path):
    random = np.random.default_rng(1)
    n_subjects, n, width, between, sd = 200, 4, 32, 2.0, 3.0

    def complex_normal(*shape):
        return (random.standard_normal(shape) + 1j * random.standard_normal(shape)) / np.sqrt(2)

    direction = complex_normal(width)
    direction /= np.linalg.norm(direction)
    subjects = 5 + np.sqrt(between) * complex_normal(n_subjects, 1, 1) * direction
    data = subjects + sd / np.sqrt(width) * complex_normal(n_subjects, n, width)
    np.save(tmp_path / "spectra.npy", data.reshape(-1, width).astype(np.complex64))
    table = pd.DataFrame({"row": np.arange(n_subjects * n), "subject": np.repeat(np.arange(n_subjects), n)})
    table = table.assign(unit=table["subject"], condition="UNEDITED", split="train", scale=2.0)
    # the variance of a bin is 2 n_points (noise_sd / scale)^2
    table["noise_sd"] = 2.0 * sd / np.sqrt(width) / np.sqrt(2 * 64)
    write_table(tmp_path / "index.tsv", table)
    grid = {"ppm": list(range(width)), "n_points": 64, "conditions": ["UNEDITED"], "split_unit": "subject"}
    write_json(tmp_path / "grid.json", grid)
    population = controls.read_population(tmp_path)
    assert population.within[0] == pytest.approx(sd**2, rel=0.05)
    assert population.between[0] == pytest.approx(between, rel=0.25)
    np.testing.assert_allclose(population.mean[0], 5, atol=0.35)
    assert len(population.components[0]) == 1  # subjects differ in one direction
    assert abs(population.components[0][0] @ direction.conj()) == pytest.approx(1, abs=0.05)


def test_hard_threshold_of_a_square_matrix_is_four_over_root_three():
    assert controls.hard_threshold(100, 100, 4.0) == pytest.approx(4 / np.sqrt(3) * 10 * 2)
    assert controls.hard_threshold(100, 30, 1.0) == controls.hard_threshold(30, 100, 1.0)


@pytest.mark.parametrize("n_rows", [20, 90])
def test_components_are_orthonormal_and_pure_noise_has_none(n_rows):
    random = np.random.default_rng(2)
    noise = random.standard_normal((n_rows, 50)) + 1j * random.standard_normal((n_rows, 50))
    assert len(controls.principal_components(noise, 2.0)) == 0
    signal = noise + 20 * np.outer(random.standard_normal(n_rows), np.exp(1j * np.arange(50)))
    found = controls.principal_components(signal, 2.0)
    np.testing.assert_allclose(found @ found.conj().T, np.eye(1), atol=1e-10)
    assert abs(found[0] @ np.exp(-1j * np.arange(50))) / np.sqrt(50) == pytest.approx(1, abs=0.01)


def test_low_rank_removes_noise_and_keeps_what_training_subjects_differ_in(study):
    population = controls.read_population(study / "training")
    noise_free, real = (
        transients(0.35, np.random.default_rng(8), N_REAL, noise=noise)[:, :, 0].mean(axis=1) for noise in (0.0, SD)
    )
    scale = np.abs(spectra.to_spectrum(noise_free[0])).max()
    inside = np.isin(PPM, WINDOW)
    found = controls.low_rank(real, scale, population, DWELL, FREQUENCY)
    error = [np.linalg.norm(spectra.to_spectrum(x - noise_free)[:, inside]) for x in (found, real)]
    ranks = [len(part) for part in population.components]
    assert ranks == [0, 1]  # OFF spectra are alike; ON differs in GABA
    assert error[0] < 0.4 * error[1]
    # one of W dimensions survives: the noise outside the window stands for that, and for none in OFF
    ratio = spectra.noise_sd(found, DWELL, FREQUENCY) / spectra.noise_sd(real, DWELL, FREQUENCY)
    assert ratio == pytest.approx([0, np.sqrt(1 / WINDOW.size)], abs=1e-3)


def test_reconstruction_design_has_two_cells(study):
    output, index = run_augment(study, design="reconstruction")
    table = read_table(index)
    assert table["source"].tolist() == ["reference", "reconstruction"]
    assert table["n_real"].tolist() == [N_TRANSIENTS] * 2
    fids = read_scan(output).fids[:, :, 0]
    whole = read_scan(study / f"{UNIT}_desc-preproc_svs.nii.gz").fids[:, :, 0].mean(axis=1)
    np.testing.assert_allclose(fids[:, 0], whole, atol=1e-5)
    run_augment(study)


def test_cells_of_a_grid_are_those_of_single_runs(tmp_path, study, result):
    """2 real of 8 and 4 of 8: all three plans have the same pool, since 2 x 4 = 8."""
    plan = cells.plan(range(N_TRANSIENTS), [N_REAL, 4], N_TOTAL, REPLICATES, SEED, UNIT)
    fids = transients(0.5, np.random.default_rng(7), plan.sets[-1].dyn_range[1])
    first, _ = result
    single = read_scan(study / f"{UNIT}_desc-synthRandomMean_svs.nii.gz").fids
    fids[:, : single.shape[1]] = single  # the first n_real's are those of its own run
    found = {}
    for n_real in ([N_REAL, 4], [4]):
        folder = tmp_path / "_".join(map(str, n_real))
        shutil.copytree(study, folder)
        own = cells.plan(range(N_TRANSIENTS), n_real, N_TOTAL, REPLICATES, SEED, UNIT)
        path = folder / f"{UNIT}_desc-synthRandomMean_svs.nii.gz"
        write_scan(path, scan_of(fids[:, -own.sets[-1].dyn_range[1] :]))
        replicates = [{"RealTransients": list(real)} for real in own.replicates]
        write_json(sidecar_path(path), {"Plan": {"Reference": list(own.reference), "Replicates": replicates}})
        output, index = run_augment(folder, "--n-real", *map(str, n_real))
        found[len(n_real)] = read_scan(output).fids[:, :, 0], read_table(index)
    grid, index = found[2]
    assert len(index) == 2 + 2 * 4 - 1 + 2 * 2 * (1 + len(controls.CONTROLS))
    for n_real, (expected, own) in ((N_REAL, result), (4, found[1])):
        for row in own.to_dict("records"):
            same = index[
                (index[["source", "replicate", "n_total"]] == pd.Series(row)[["source", "replicate", "n_total"]]).all(
                    axis=1
                )
            ]
            same = same[same["n_real"] == row["n_real"]]
            assert len(same) == 1, row
            np.testing.assert_allclose(grid[:, same["cell"].iloc[0]], expected[:, row["cell"]], atol=1e-7)
        assert (own.loc[own["source"] == "random", "n_real"] == n_real).all()
    assert first.shape[1] < grid.shape[1]


def test_synthetic_transients_of_another_plan_are_refused(study):
    with pytest.raises(InputError, match="synthesise again"):
        run_augment(study, "--seed", str(SEED + 1))
    with pytest.raises(InputError, match="run its stage again"):
        run_augment(study, n_real=1)  # 14 synthetic transients are needed, 12 are there


def test_a_failed_subject_is_recorded_and_leaves_empty_files(study, tmp_path):
    output, status = tmp_path / "x_desc-cells_svs.nii.gz", tmp_path / "status.json"
    run_augment(study, "--n-total", "30", "--status", str(status), "--output", str(output))
    record = json.loads(status.read_text())
    assert record["status"] == "failed" and "at least 31" in record["reason"]
    assert output.stat().st_size == 0
    run_augment(study)


def test_a_unit_without_test_transients_is_refused(study):
    with pytest.raises(SkippedError, match="not in the test split"):
        run_augment(study, "--unit", "sub-01_acq-test")
