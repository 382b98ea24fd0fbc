"""The table of signal quality of a small study whose answers are known, and against FSL-MRS's own QC."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import evaluate, fitting, fslmrs, lcm_model, lcm_quality, quality, quality_table, quantify, spectra
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.scans import Scan, read_scan, write_scan
from mrs_synthesis.stage import InputError

N, DWELL, FREQUENCY, SD = 1024, 5e-4, 123.25, 0.01
CELLS = [  # source, decoder, n_real, n_total
    ("reference", "n/a", 32, 32),
    ("real", "n/a", 8, 8),
    ("random", "mean", 8, 32),
    ("real", "n/a", 2, 2),
]
W = 8  # points of the fit's window
# SNR and width of the fitted metabolites in one cell, as FSL-MRS gives them: n/a is a width without a clear peak
QC = {
    "OFF": {"NAA": (40, 6.5), "NAAG": (5, 7.0), "Cr": (9, 6.0), "PCr": (21, 6.25), "GABA": (1, None)},
    "DIFF": {"NAA": (30, 6.5), "GABA": (4, 9.0), "MM3co": (2.5, 14.0)},
}


def lines(rng, edited):
    """Return FIDs (conditions, cells, N): tCr, and in ON GABA, with the noise of their real transients."""
    t = spectra.time_axis(N, DWELL)

    def line(ppm):
        return np.exp(2j * np.pi * (ppm - spectra.WATER_PPM) * FREQUENCY * t - 15 * t)

    signal = [line(spectra.TCR_PPM), line(spectra.TCR_PPM) + 0.3 * line(3.0) + 0.2 * line(3.75)][: 1 + edited]
    noise = rng.standard_normal((1 + edited, len(CELLS), N, 2)) @ [1, 1j] * SD
    # the mean of n_total, of which only n_real have noise
    share = np.array([np.sqrt(n_real) / n_total for *_, n_real, n_total in CELLS])
    return np.array(signal)[:, None] + noise * share[None, :, None]


def write_unit(folder, subject, rng, edited=True):
    base = folder / "derivatives" / f"sub-{subject}" / "mrs" / f"sub-{subject}_x"
    index = pd.DataFrame(CELLS, columns=["source", "decoder", "n_real", "n_total"])
    write_table(f"{base}_desc-cells_index.tsv", index.assign(cell=range(len(CELLS)), replicate=0))
    conditions = ("OFF", "ON") if edited else ("UNEDITED",)
    fids = lines(rng, edited)
    write_scan(f"{base}_desc-cells_svs.nii.gz", Scan(fids[:, :, None], FREQUENCY, DWELL, conditions=conditions))
    fitted = QC if edited else {"UNEDITED": QC["OFF"]}
    rows = [
        (cell, condition, name, (cell + 1) * snr, fwhm)
        for cell in range(len(CELLS) - 1)  # the last one could not be fitted
        for condition, values in fitted.items()
        for name, (snr, fwhm) in {**values, "tCr": (np.nan, np.nan)}.items()
    ]
    columns = ["cell", "condition", "metabolite", "snr", "fwhm_hz"]
    write_table(f"{base}_desc-batched_mrsfit.tsv", pd.DataFrame(rows, columns=columns))
    arrays = {}
    for condition in fitted:
        baseline = np.full((len(CELLS), W), 7.0)
        fit = baseline + np.array([0, 0, 12.0, 0, 0, 0, 0, 0])
        fit[-1] = np.nan
        # |residual| is 0.5 everywhere; of the real part +0.3 at the highest point
        data = fit + np.full(W, 0.3 + 0.4j)
        arrays[f"{condition}_cell"] = np.arange(len(CELLS))
        for part, values in (("data", data), ("fit", fit), ("baseline", baseline)):
            arrays[f"{condition}_{part}"] = values.astype(np.complex64)
    np.savez(f"{base}_desc-batched_fit.npz", **arrays)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for subject in ("01", "02"):
        write_unit(folder, subject, rng)
    return folder


UNITS = [
    {"unit": f"sub-{s}_x", "folder": f"sub-{s}", "subject": s, "session": "n/a", "site": "A"} for s in ("01", "02")
]


@pytest.fixture(scope="module")
def table(study):
    return quality_table.quality_table(UNITS, study / "derivatives", "batched")


def test_one_row_per_scan_and_cell_with_the_cells_columns(table):
    assert list(table.columns[:10]) == [*evaluate.IDENTIFIERS, *evaluate.CELL]
    assert len(table) == 2 * len(CELLS) and not table.duplicated(["subject", "cell"]).any()
    assert table["source"].tolist() == 2 * [source for source, *_ in CELLS]
    metrics = set(table.columns[10:])
    assert set(quality.DIFFERENCE_METRICS) <= metrics and table["challenge_snr"].notna().all()
    rest = metrics - set(quality.DIFFERENCE_METRICS)
    assert rest and all(name.endswith(("_off", "_on", "_diff")) for name in rest)


def test_noise_is_compared_with_that_of_as_many_real_transients(table):
    # noise of 8 real in a mean of 32: sqrt(8) / 32 over 1 / sqrt(32) = 1/2
    for condition in ("off", "on", "diff"):
        found = table.groupby("cell")[f"noise_ratio_{condition}"].mean()
        assert found.tolist() == pytest.approx([1, 1, 0.5, 1], rel=0.1)
    assert table["noise_sd_off"][0] == pytest.approx(SD / np.sqrt(32), rel=0.1)
    # and the SNR is that of filling up, twice what 32 real transients have, although nothing was learned
    mean = table.groupby("cell")["challenge_snr"].mean()
    assert mean[2] / mean[0] == pytest.approx(2, rel=0.2)


def test_sums_have_the_snr_of_their_members_and_the_width_of_the_strongest(table):
    own = table[table["subject"] == "01"]
    expected = {
        "fslmrs_snr_tnaa_off": 45,
        "fslmrs_fwhm_hz_tnaa_off": 6.5,
        "fslmrs_snr_tcr_off": 30,
        "fslmrs_fwhm_hz_tcr_off": 6.25,
        "fslmrs_snr_gaba_plus_diff": 6.5,
        "fslmrs_fwhm_hz_gaba_plus_diff": 9.0,
    }
    for column, value in expected.items():
        factor = np.array([1, 2, 3, np.nan]) if "_snr_" in column else np.array([1, 1, 1, np.nan])
        assert own[column].to_numpy() == pytest.approx(value * factor, nan_ok=True), column
    assert "fslmrs_snr_tnaa_diff" not in table and "fslmrs_snr_tnaa_on" not in table


def test_a_sum_whose_strongest_member_has_no_clear_peak_has_no_width():
    fit = pd.DataFrame(
        [(0, "DIFF", "GABA", 5.0, np.nan), (0, "DIFF", "MM3co", 1.0, 14.0)],
        columns=["cell", "condition", "metabolite", "snr", "fwhm_hz"],
    )
    found = quality_table.metabolite_columns(fit, "DIFF", np.array([0]))
    assert found["fslmrs_snr_gaba_plus_diff"] == [6] and np.isnan(found["fslmrs_fwhm_hz_gaba_plus_diff"][0])


def test_residual_by_hand(table):
    # highest |Re(data - baseline)| = 12 + 0.3; root mean square of the residual 0.5: 12.3 / (2 * 0.5)
    own = table[table["subject"] == "01"]
    assert own["fslmrs_snr_residual_off"].to_numpy() == pytest.approx([12.3, 12.3, 12.3, np.nan], nan_ok=True)
    # A bin of the spectrum sums N points of complex noise whose parts have noise_sd: sqrt(2 N) noise_sd
    expected = 0.5 / (np.sqrt(2 * N) * own["noise_sd_diff"].to_numpy()[:3])
    assert own["fit_residual_to_noise_diff"].to_numpy()[:3] == pytest.approx(expected)
    assert own["fit_residual_to_noise_diff"].isna().tolist() == [False, False, False, True]


def test_unedited_study(tmp_path):
    write_unit(tmp_path, "01", np.random.default_rng(1), edited=False)
    found = quality_table.quality_table(UNITS[:1], tmp_path / "derivatives", "batched")
    assert found["challenge_snr"].isna().all() and found["fslmrs_snr_tcr_unedited"][0] == 30
    assert found["fslmrs_snr_unedited"].notna().all() and found["tcr_fwhm_hz_unedited"].notna().all()


def test_command_writes_the_table_and_a_dictionary(study):
    write_table(study / "units.tsv", pd.DataFrame(UNITS).assign(split="test"))
    write_json(study / "training" / "grid.json", {"split_unit": "subject"})
    output = study / "tables" / "quality.tsv"
    words = ["--units", study / "units.tsv", "--training", study / "training", "--derivatives", study / "derivatives"]
    quality_table.main([str(word) for word in [*words, "--engine", "batched", "--output", output]])
    described = json.loads(output.with_suffix(".json").read_text())
    table = read_table(output)
    assert set(table.columns) <= set(described) and len(table) == 2 * len(CELLS)
    assert "21 January 2023" in described["challenge_mse"]["Description"]
    assert described["challenge_linewidth_ppm"]["Units"] == "ppm"
    assert "FSL-MRS 2.4.11" in described["fslmrs_snr_off"]["Description"]


def test_failed_units_are_left_out_and_contradictions_told(study, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(study / "derivatives", folder)
    (folder / "sub-02/mrs/sub-02_x_desc-batched_fit.npz").write_text("")
    assert set(quality_table.quality_table(UNITS, folder, "batched")["subject"]) == {"01"}
    assert "left out" in capsys.readouterr().out
    path = folder / "sub-01/mrs/sub-01_x_desc-cells_index.tsv"
    write_table(path, read_table(path).iloc[:-1])
    with pytest.raises(InputError, match="augment again"):
        quality_table.quality_table(UNITS, folder, "batched")
    with pytest.raises(InputError, match="all 1 test units failed"):
        quality_table.quality_table(UNITS[1:], folder, "batched")


JOBS = [
    ("press_034", "basis_press30", []),
    ("mega_025", "basis_mega68_diff_mm", ["Cr", "PCr", "Gly", "Scyllo", "PCh", "GPC"]),
]
RASTERS = [(2048, 2000, 123.25), (1024, 2500, 63.9), (512, 1200, 123.25), (4096, 5000, 297.2), (1024, 3000, 127.7)]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, shared_data):
    """FSL-MRS's QC of real spectra, and which points of noise it takes for noise: folder of its answers, the FIDs."""
    if shutil.which("fsl_mrs") is None:
        pytest.skip("needs `fsl_mrs` on PATH")
    folder, reference = tmp_path_factory.mktemp("fsl"), shared_data / "fslmrs-reference"
    jobs = [
        {"name": name, "file": str(reference / name.partition("_")[0] / "data" / f"{name}.nii.gz")}
        | {"basis": str(reference / basis), "ignore": ignore, "ppm_range": quality.FIT_PPM}
        for name, basis, ignore in JOBS
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    rng, arrays = np.random.default_rng(4), {}
    for i, (n, bandwidth, frequency) in enumerate(RASTERS):
        arrays[f"r{i}"] = rng.standard_normal((n, 2)) @ [1, 1j]
        arrays[f"r{i}_raster"] = np.array([bandwidth, frequency])
    np.savez(folder / "fids.npz", **arrays)
    environment = os.environ | fslmrs.ENVIRONMENT | {"PYTHONPATH": str(Path(quality.__file__).parents[1])}
    script = Path(__file__).with_name("fsl_quality_jobs.py")
    command = [fslmrs.find_interpreter(), script, folder / "jobs.json", folder / "fids.npz", folder]
    finished = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return folder, reference, arrays


@pytest.mark.fsl_mrs
@pytest.mark.data
@pytest.mark.parametrize(("name", "folder_of_basis"), [job[:2] for job in JOBS])
def test_columns_are_fsl_mrs_own_qc(name, folder_of_basis, theirs):
    folder, reference, _ = theirs
    answer = dict(np.load(folder / f"{name}.npz"))
    scan = read_scan(reference / name.partition("_")[0] / "data" / f"{name}.nii.gz")
    axis, fids = (scan.dwell_s, scan.frequency_mhz), scan.fids[0, :, 0]
    assert quality.fslmrs_snr(fids, *axis) == pytest.approx(float(answer["spectrum"]), rel=1e-6)
    noise = quality.noise_sd(fids, *axis)
    found = quality_table.residual_columns(answer, "UNEDITED", np.array([0]), noise, scan.n_points)
    assert found["fslmrs_snr_residual_unedited"] == pytest.approx(float(answer["residual"]), rel=1e-5)
    # SNR and width of the same model fitted by the engine `batched`
    basis = basis_sets.read_json_folder(reference / folder_of_basis).select(answer["names"].tolist())
    options = lcm_model.Options(ppm_range=quality.FIT_PPM)
    task = fitting.Task("UNEDITED", scan.n_points, *axis, basis, [0] * len(basis.names), options)
    fit = fitting.table({"UNEDITED": quantify.BatchedEngine(task, "cpu").fit(fids)}, "batched")
    found = quality_table.metabolite_columns(fit, "UNEDITED", np.array([0]))
    peaks, widths = (dict(zip(answer["names"], answer[key], strict=True)) for key in ("peaks", "fwhm"))
    assert found["fslmrs_snr_tnaa_unedited"] == pytest.approx(peaks["NAA"] + peaks["NAAG"], rel=1e-3)
    assert found["fslmrs_fwhm_hz_tnaa_unedited"] == pytest.approx(widths["NAA"], abs=0.01)


@pytest.mark.fsl_mrs
@pytest.mark.data
def test_noise_is_where_fsl_mrs_sees_it(theirs):
    folder, _, arrays = theirs
    masks = np.load(folder / "noise.npz")
    for i, (n, bandwidth, frequency) in enumerate(RASTERS):
        ppm = np.linspace(-bandwidth / 2, bandwidth / 2, n) / frequency + spectra.WATER_PPM
        ours = lcm_quality.noise_points(spectra.to_spectrum(arrays[f"r{i}"][None]), ppm)[0]
        assert np.array_equal(ours, masks[f"r{i}"]), RASTERS[i]
