"""The stage as a whole, on simulated scans whose every nuisance is known, and on scanner data."""

import json

import numpy as np
import pytest

from mrs_synthesis import preprocess, spectra
from mrs_synthesis.files import read_table
from mrs_synthesis.preprocess_batched import Options, check_editing, eddy_phase, process
from mrs_synthesis.scans import Scan, read_scan, write_scan
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

MHZ, DWELL, N = 127.7, 5e-4, 1024
T = np.arange(N) * DWELL
COLUMNS = [
    "condition",
    "transient",
    "kept",
    "reason",
    "shift_hz",
    "phase_deg",
    "noise_sd",
    "snr",
    "fwhm_hz",
    "water_residual",
]


def line(ppm, amplitude, fwhm=5.0, phase=0.0):
    return amplitude * np.exp(2j * np.pi * (ppm - 4.65) * MHZ * T - np.pi * fwhm * T + 1j * phase)


def singlets(naa):
    return line(2.008, naa) + line(3.027, 70.0) + line(3.21, 50.0) + line(3.91, 40.0) + line(0.9, 20.0, 20.0)


OFF = singlets(100.0)
ON = singlets(2.0) + line(2.95, 5.0) + line(3.07, 5.0)


def simulated(name, clean=(OFF, ON), transients=24, coils=4, noise_sd=4.0, drift_hz=6.0):
    """Return scan, water, and the truth: shifts (Hz), phases (rad), eddy-current phase (rad)."""
    rng = generator(7, "preprocess", name)
    shape = (len(clean), transients)
    shift = np.linspace(0, drift_hz, shape[0] * transients).reshape(transients, shape[0]).T + rng.normal(0, 0.5, shape)
    phase = rng.normal(0, 0.3, shape)
    eddy = 1.5 * np.exp(-T / 0.04) * np.sin(60 * T)
    sensitivity = rng.normal(size=coils) + 1j * rng.normal(size=coils) if coils > 1 else np.ones(1)
    residual = np.stack(
        [
            line(4.67, a, 8.0, p)
            for a, p in zip(rng.uniform(50, 300, shape[1]), rng.uniform(0, 6, shape[1]), strict=True)
        ]
    )
    fids = spectra.shift_and_phase(np.asarray(clean)[:, None] + residual, DWELL, shift, phase) * np.exp(1j * eddy)
    fids = fids[:, :, None] * sensitivity[:, None]
    fids = fids + noise_sd * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
    conditions = ("OFF", "ON") if len(clean) == 2 else ("UNEDITED",)
    header = {"EchoTime": 0.068, "RepetitionTime": 2.0}
    scan = Scan(fids, MHZ, DWELL, header, conditions, dimensions=("DIM_COIL", "DIM_DYN", "DIM_EDIT")[: 1 + len(clean)])
    water = line(4.65, 1e5, 8.0)[None, None, None] * np.exp(1j * eddy) * sensitivity[:, None]
    return scan, Scan(water, MHZ, DWELL, header), shift, phase, eddy


def run(tmp_path, scan, water=None, *more, unit="sub-01_acq-test"):
    write_scan(tmp_path / "svs.nii.gz", scan)
    arguments = ["--unit", unit, "--scan", str(tmp_path / "svs.nii.gz")]
    if water is not None:
        write_scan(tmp_path / "mrsref.nii.gz", water)
        arguments += ["--water", str(tmp_path / "mrsref.nii.gz"), "--output-ref", str(tmp_path / "ref.nii.gz")]
    for name, file in (("output", "out.nii.gz"), ("qc", "qc.tsv"), ("nuisance", "n.npz"), ("status", "s.json")):
        arguments += [f"--{name}", str(tmp_path / file)]
    preprocess.main([*arguments, *more])
    return json.loads((tmp_path / "s.json").read_text())


def test_everything_on_an_edited_scan_with_coils(tmp_path):
    scan, water, shift, phase, _ = simulated("mega")
    status = run(tmp_path, scan, water)
    assert status["status"] == "ok", status["reason"]
    out, table = read_scan(tmp_path / "out.nii.gz"), read_table(tmp_path / "qc.tsv")
    nuisance = np.load(tmp_path / "n.npz", allow_pickle=False)
    kept = nuisance["kept_index"]
    assert status["n_kept"] == kept.size >= 22
    assert out.conditions == ("OFF", "ON")
    assert out.fids.shape == (2, kept.size, 1, N)
    assert list(table.columns) == COLUMNS
    assert len(table) == 48
    assert nuisance["water_fid"].shape == (2, kept.size, N)
    assert nuisance["coil_noise_covariance"].shape == (4, 4)
    assert read_scan(tmp_path / "ref.nii.gz").fids.shape == (1, 1, 1, N)
    # What was applied is what was simulated, up to one shift and one phase for all.
    error_hz = nuisance["shift_hz"] + shift[:, kept]
    assert np.std(error_hz) < 0.15
    error_rad = np.angle(np.exp(1j * (nuisance["phase_rad"] + phase[:, kept])))
    assert np.std(error_rad - np.median(error_rad)) < 0.06
    # The averages are the clean signals, on one scale.
    average = out.fids[:, :, 0].mean(axis=1)
    ppm, inside = out.ppm, (out.ppm > 1.8) & (out.ppm < 4.1)
    found = spectra.to_spectrum(average)[:, inside]
    truth = spectra.to_spectrum(np.stack([OFF, ON]))[:, inside]
    gain = np.vdot(truth, found) / np.vdot(truth, truth)
    assert abs(np.angle(gain)) < 0.02
    assert np.linalg.norm(found / gain - truth) < 0.04 * np.linalg.norm(truth)
    assert abs(ppm[inside][np.argmax(found[0].real)] - 2.008) < 0.02
    assert status["difference_naa"] == pytest.approx(-0.98, abs=0.03)
    assert status["difference_gaba"] > 0
    words = [step["Method"] for step in out.header["ProcessingApplied"]]
    assert words[:2] == ["RF coil combination", "Eddy current correction"]
    assert out.header["OutlierRemoval"]["Description"].startswith("Outlier removal: above")  # no word of the standard


def test_measurements_mean_what_they_say(tmp_path):
    scan, water, *_ = simulated("measures", clean=(OFF,), coils=1)
    run(tmp_path, scan, water)
    table = read_table(tmp_path / "qc.tsv")
    assert table["noise_sd"].median() == pytest.approx(4.0, rel=0.03)
    assert table["fwhm_hz"].median() == pytest.approx(5.0, rel=0.1)
    height = 70.0 / (np.pi * 5.0 * DWELL)  # of a Lorentzian, per bin
    assert table["snr"].median() == pytest.approx(height / (4.0 * np.sqrt(N)), rel=0.1)
    assert table["water_residual"].median() < 0.2


def test_same_input_gives_the_same_bytes(tmp_path):
    scan, water, *_ = simulated("bytes", transients=8)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        run(folder, scan, water)
    for name in ("out.nii.gz", "qc.tsv", "n.npz", "ref.nii.gz"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_planted_transients_are_rejected_in_pairs(tmp_path):
    scan, water, *_ = simulated("planted")
    scan.fids[0, 3] += 300 * line(1.3, 1.0, 10.0)  # lipid in OFF only
    scan.fids[1, 10] *= np.exp(-np.pi * 15 * T)  # motion in ON only
    run(tmp_path, scan, water)
    table = read_table(tmp_path / "qc.tsv")
    dropped = {(r.condition, r.transient) for r in table[table.kept == 0].itertuples()}
    assert {("OFF", 3), ("ON", 3), ("OFF", 10), ("ON", 10)} <= dropped
    assert len(dropped) <= 8
    reasons = table.set_index(["condition", "transient"])["reason"]
    assert "unlike" in reasons["OFF", 3]
    assert "partner" in reasons["ON", 3]
    assert {3, 10}.isdisjoint(np.load(tmp_path / "n.npz")["kept_index"])


def test_one_averaged_unedited_spectrum(tmp_path):
    scan, _, *_ = simulated("averaged", clean=(OFF,), transients=1, coils=1, noise_sd=0.5)
    scan.dimensions = ()
    status = run(tmp_path, scan)
    assert status["status"] == "ok", status["reason"]
    assert status["n_kept"] == 1
    out = read_scan(tmp_path / "out.nii.gz")
    assert out.fids.shape == (1, 1, 1, N)
    assert out.conditions == ("UNEDITED",)


def test_swapped_conditions_are_recorded_as_failed(tmp_path):
    scan, water, *_ = simulated("swapped", clean=(ON, OFF), transients=8)
    status = run(tmp_path, scan, water)
    assert status["status"] == "failed"
    assert "order of the conditions is wrong" in status["reason"]
    for name in ("out.nii.gz", "out.json", "ref.nii.gz", "ref.json", "qc.tsv", "n.npz"):
        assert (tmp_path / name).stat().st_size == 0, name


def test_sign_check_needs_naa_to_go_down():
    scan = Scan(np.stack([OFF, ON])[:, None, None], MHZ, DWELL, {}, ("OFF", "ON"))
    found = check_editing(np.stack([OFF, ON]), scan)
    assert found["difference_naa"] == pytest.approx(-0.98, abs=0.02)
    assert found["difference_gaba"] > 0
    assert "warning" in check_editing(np.stack([OFF, singlets(2.0) - line(3.01, 5.0, 10.0)]), scan)
    with pytest.raises(InputError, match="does not go down"):
        check_editing(np.stack([OFF, OFF + line(3.0, 1.0)]), scan)
    with pytest.raises(InputError, match="does not go down"):
        check_editing(np.stack([ON, OFF]), scan)


def test_eddy_phase_is_the_waters_and_goes_on_where_water_has_decayed():
    rng = generator(3, "eddy")
    truth = 2.0 * np.exp(-T / 0.05) + 2 * np.pi * 1.5 * T
    noise = rng.normal(size=N) + 1j * rng.normal(size=N)
    found = eddy_phase(1e4 * np.exp(-T / 0.05 + 1j * truth) + noise, DWELL, N, DWELL)
    assert np.max(np.abs(found - truth)[T < 0.25]) < 0.05
    assert np.max(np.abs(found - truth)) < 0.4  # plain Klose: pi, from noise


def test_eddy_currents_are_corrected_only_if_the_water_may(tmp_path):
    scan, water, *_ = simulated("ecc", clean=(OFF,), transients=8, coils=1, noise_sd=1.0)
    distance = []
    for role in ("ecc", "concentration"):
        run(tmp_path, scan, water, "--water-role", role)
        out = read_scan(tmp_path / "out.nii.gz")
        inside = (out.ppm > 1.8) & (out.ppm < 4.1)
        found, truth = (spectra.to_spectrum(fid)[inside] for fid in (out.fids[0, :, 0].mean(axis=0), OFF))
        distance.append(np.linalg.norm(found - truth) / np.linalg.norm(truth))
    assert distance[0] < 0.03
    assert distance[1] > 0.15
    assert "Eddy current correction" not in [step["Method"] for step in out.header["ProcessingApplied"]]


def test_other_coils_in_the_water_are_an_error():
    scan, water, *_ = simulated("coils", transients=2)
    with pytest.raises(InputError, match="3 coils, expected 4"):
        process(scan, water.with_fids(water.fids[:, :, :3]), Options())


def test_a_frequency_off_by_half_a_ppm_is_an_error(tmp_path):
    scan, _, *_ = simulated("offset", clean=(OFF,), transients=4, coils=1)
    scan.fids = scan.fids * np.exp(2j * np.pi * 0.4 * MHZ * T)
    assert "from their places" in run(tmp_path, scan)["reason"]


def test_conditions_without_names_are_an_error(tmp_path):
    scan, _, *_ = simulated("names", transients=2)
    scan.conditions = ("EDIT0", "EDIT1")
    assert "expected OFF, ON" in run(tmp_path, scan)["reason"]


@pytest.mark.data
def test_shifts_and_phases_of_simulated_coil_data(shared_data):
    folder = shared_data / "fslmrs-reference" / "raw"
    truth = json.loads((folder / "truth_drift.json").read_text())["mega"]
    scan, water = read_scan(folder / "mega_metab.nii.gz"), read_scan(folder / "mega_wref.nii.gz")
    scan.conditions = ("OFF", "ON")
    done = process(scan, water, Options())
    hz, rad = (np.reshape(truth[key], (32, 2)).T for key in ("df", "dp"))  # interleaved
    error_hz = done.shift_hz + hz
    assert np.all(error_hz.std(axis=1) < 0.1)
    assert abs(error_hz[1].mean() - error_hz[0].mean()) < 0.08
    error_deg = np.degrees(np.angle(np.exp(1j * (done.phase_rad - rad))))
    other = np.degrees(np.angle(np.exp(1j * (done.phase_rad + rad))))
    error_deg = min(error_deg, other, key=np.std)  # the truth's sign is FSL-MRS's
    assert np.all(error_deg.std(axis=1) < 1.0)
    assert abs(error_deg[1].mean() - error_deg[0].mean()) < 1.5


@pytest.mark.data
def test_seven_tesla_coils(shared_data):
    folder = shared_data / "coils-steam-7t"
    scan, water = read_scan(folder / "metab_raw.nii.gz"), read_scan(folder / "wref_raw.nii.gz")
    done = process(scan, water, Options())
    average = spectra.to_spectrum(done.fids[0].mean(axis=0))
    inside = (scan.ppm > 1.8) & (scan.ppm < 3.4)
    assert scan.ppm[inside][np.argmax(average[inside].real)] == pytest.approx(2.008, abs=0.02)
    assert (done.reason == "").all()
    single = scan.fids[0, :, :].mean(axis=0)
    best_coil = max(
        np.abs(spectra.to_spectrum(fid))[inside].max() / spectra.noise_sd(fid, scan.dwell_s, scan.frequency_mhz)
        for fid in single
    )
    combined = done.fids[0].mean(axis=0)
    snr = np.abs(average[inside]).max() / spectra.noise_sd(combined, scan.dwell_s, scan.frequency_mhz)
    assert snr > 1.2 * best_coil
