"""The noise table against noise of known kind: white, coloured, absent, circular or not, copied, independent or not."""

import json

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import cells, noise_spectrum, noise_table, scans
from mrs_synthesis import noise_statistics as statistics
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.stage import SkippedError

FREQUENCY, DWELL, POINTS = 127.74, 5e-4, 2048
SD, REAL, SYNTHETIC = 0.3, 32, 38


def white(seed, n, sd=SD):
    return sd * (np.random.default_rng(seed).standard_normal((n, POINTS, 2)) @ [1, 1j])


def signal(n=1):
    """NAA and creatine, lines of 6 Hz; amplitudes differ between transients by 10 %."""
    t = np.arange(POINTS) * DWELL
    lines = sum(a * np.exp((2j * np.pi * (p - 4.65) * FREQUENCY - 6 * np.pi) * t) for p, a in {2.0: 3, 3.03: 2}.items())
    return (1 + 0.1 * np.random.default_rng(99).standard_normal((n, 1))) * lines


def values_of(fids, seed=1):
    """The metrics of one block of synthetic transients beside real ones with white noise."""
    levels, _ = statistics.real_values(signal(REAL) + white(seed, REAL), DWELL, FREQUENCY, REAL)
    blocks = {"01": statistics.synthetic_values([fids], DWELL, FREQUENCY, levels, REAL)}
    random = np.random.default_rng(0)
    return {name: noise_table.summarise(blocks, name, 0, random)["value"] for name in noise_table.METRICS}


def test_white_noise_of_the_real_sd_passes_everything():
    found = values_of(signal(SYNTHETIC) + white(2, SYNTHETIC))
    for name in ("sd_ratio_free", "sd_ratio_window_late", "sd_window_to_free"):
        assert found[name] == pytest.approx(1, abs=0.03), name
    assert found["band_sd_lowest_to_highest"] > 0.92
    assert found["correlation_length_free"] == pytest.approx(1, abs=0.02)
    for name in ("real_to_imaginary_free", "real_to_imaginary_fid"):
        assert found[name] == pytest.approx(1, abs=0.03), name
    for name in ("correlation_real_imaginary_free", "correlation_real_imaginary_fid"):
        assert abs(found[name]) < 0.03, name
    for name in ("correlation_transients_free", "correlation_transients_window"):
        assert abs(found[name]) < 0.006, name
    assert found["correlation_transients_largest"] < 0.2
    for place in ("free", "window"):
        assert found[f"averaging_slope_{place}"] == pytest.approx(-0.5, abs=0.03)
        assert found[f"averaging_deviation_{place}"] < 0.12


@pytest.mark.parametrize("factor", [0.25, 2.0])
def test_sd_ratio_is_the_ratio_of_the_noise_levels(factor):
    found = values_of(white(3, SYNTHETIC, factor * SD))
    for name in ("sd_ratio_free", "sd_ratio_window_late"):
        assert found[name] == pytest.approx(factor, rel=0.03)
    assert found["averaging_slope_free"] == pytest.approx(-0.5, abs=0.03)


def test_signals_that_vary_are_not_noise():
    clean = signal(SYNTHETIC)
    found = values_of(clean)
    assert found["sd_ratio_window"] > 0.2  # 10 % of NAA's peak is above the noise of a bin
    assert found["sd_ratio_window_late"] < 0.01
    assert found["sd_ratio_free"] < 0.01


def test_noise_free_copies_have_no_noise_and_no_shape_of_it():
    copies = np.repeat(signal(1), SYNTHETIC, axis=0)
    found = values_of(copies)
    for name in ("sd_ratio_free", "sd_ratio_window", "sd_ratio_window_late"):
        assert found[name] < 2e-3, name
    assert values_of(np.zeros((SYNTHETIC, POINTS)))["sd_ratio_free"] == 0
    assert np.isnan(values_of(np.zeros((SYNTHETIC, POINTS)))["averaging_slope_free"])


def test_copies_of_one_noisy_transient_do_not_average_down():
    found = values_of(np.repeat(white(4, 1), SYNTHETIC, axis=0))
    assert found["sd_ratio_free"] == pytest.approx(1, abs=0.1)
    for place in ("free", "window"):
        assert found[f"averaging_slope_{place}"] == pytest.approx(0, abs=1e-6)
        assert found[f"averaging_deviation_{place}"] == pytest.approx(np.sqrt(SYNTHETIC) - 1)
        assert found[f"correlation_transients_{place}"] == pytest.approx(1)


def test_partly_shared_noise_averages_as_its_correlation_says():
    share = 0.2  # of the variance: SD(n) sqrt(n) / SD(1) = sqrt(1 + (n - 1) share)
    fids = np.sqrt(share) * white(5, 1) + np.sqrt(1 - share) * white(6, SYNTHETIC)
    found = values_of(fids)
    assert found["correlation_transients_free"] == pytest.approx(share, abs=0.04)
    assert found["averaging_deviation_free"] == pytest.approx(np.sqrt(1 + 37 * share) - 1, rel=0.15)


def test_a_single_pair_of_equal_noise_is_found():
    fids = white(7, SYNTHETIC)
    fids[20] = fids[3]
    assert values_of(fids)["correlation_transients_largest"] == pytest.approx(1)


def test_coloured_noise_is_flagged():
    spectrum = np.fft.fft(white(8, SYNTHETIC))
    frequency = np.abs(np.fft.fftfreq(POINTS))
    found = values_of(np.fft.ifft(spectrum * np.where(frequency < 0.3, 1.0, 0.5)))  # less at the spectrum's ends
    assert found["sd_window_to_free"] == pytest.approx(2, rel=0.05)
    assert found["band_sd_lowest_to_highest"] < 0.55


def test_smoothed_spectrum_is_flagged():
    # exp(-|t| / T) of the FID multiplies; |r_k|^2 of neighbouring bins follows from its Fourier transform
    decay = np.exp(-np.arange(POINTS) / (POINTS / 10))
    found = values_of(white(9, SYNTHETIC) * decay)
    power = np.abs(np.fft.fft(decay**2) / np.sum(decay**2)) ** 2
    assert found["correlation_length_free"] == pytest.approx(1 + 2 * power[1 : statistics.LAGS + 1].sum(), rel=0.1)
    assert found["correlation_length_free"] > 5


def test_real_equal_to_imaginary_is_flagged_in_either_domain():
    fid = white(10, SYNTHETIC).real * (1 + 1j)
    assert values_of(fid)["correlation_real_imaginary_fid"] == pytest.approx(1)
    spectrum = white(11, SYNTHETIC).real * (1 + 1j)
    found = values_of(np.fft.ifft(spectrum) * np.sqrt(POINTS))
    assert found["correlation_real_imaginary_free"] > 0.98  # halving the FID's first point takes a little
    assert found["real_to_imaginary_free"] == pytest.approx(1, abs=0.02)


def test_unequal_parts_are_flagged():
    noise = white(12, SYNTHETIC)
    assert values_of(noise.real + 0.5j * noise.imag)["real_to_imaginary_fid"] == pytest.approx(2, rel=0.03)
    found = values_of(np.fft.ifft(noise.real + 0.5j * noise.imag) * np.sqrt(POINTS))
    assert found["real_to_imaginary_free"] == pytest.approx(2, rel=0.05)


def test_too_small_a_bandwidth_is_left_out():
    with pytest.raises(SkippedError, match="signal-free"):
        statistics.Noise(white(0, 4), 1e-3, FREQUENCY)


def test_interval_is_over_subjects():
    blocks = {str(i): [{"sd_ratio_free": value}, {"sd_ratio_free": value}] for i, value in enumerate((0.8, 1.0, 1.2))}
    found = noise_table.summarise(blocks, "sd_ratio_free", 2000, np.random.default_rng(0))
    assert (found["value"], found["n"]) == (pytest.approx(1), 3)
    assert found["ci_low"] == pytest.approx(0.8, abs=0.02)  # one of 27 draws is three times the lowest
    assert found["ci_high"] == pytest.approx(1.2, abs=0.02)
    one = noise_table.summarise({"0": blocks["0"]}, "sd_ratio_free", 100, np.random.default_rng(0))
    assert (one["n"], one["ci_low"]) == (1, pytest.approx(0.8))


def scan_of(fids):
    return scans.Scan(fids[:, :, None], FREQUENCY, DWELL, {"EchoTime": 0.068}, ("OFF", "ON"))


@pytest.fixture
def study(tmp_path):
    """Three subjects: eight pool and 20 held-out transients, two replicates of 10 synthetic ones."""
    names = ["01", "02", "03"]
    rows = [
        {"unit": f"sub-{i}_acq-m", "folder": f"sub-{i}", "subject": i, "session": "n/a", "site": "s", "split": "test"}
        for i in names
    ]
    write_table(tmp_path / "units.tsv", pd.DataFrame(rows))
    write_json(tmp_path / "training" / "grid.json", {"split_unit": "subject"})
    for k, row in enumerate(rows):
        prefix = tmp_path / "derivatives" / row["folder"] / "mrs" / row["unit"]
        real = np.stack([signal(28) + white(100 * k + c, 28) for c in range(2)])
        real[:, :8] *= 50.0  # of the pool, which must not count
        scans.write_scan(f"{prefix}_desc-preproc_svs.nii.gz", scan_of(real))
        plan = {"Reference": list(range(8, 28)), "Replicates": [{"NReal": 2, "DynRange": [n, n + 10]} for n in (0, 10)]}
        noises = {
            "mean": np.zeros((2, 20, POINTS)),
            "sampled": np.stack([white(100 * k + 10 + c, 20) for c in range(2)]),
        }
        for decoder, noise in noises.items():
            path = cells.synthetic_path(prefix, "random", decoder)
            scans.write_scan(path, scan_of(signal(20) + noise))
            write_json(scans.sidecar_path(path), {"Plan": plan})
    return tmp_path


def call(study, output, *more):
    flags = ["--units", study / "units.tsv", "--training", study / "training", "--derivatives", study / "derivatives"]
    flags += ["--modes", "random", "--seed", 5, "--bootstrap", 50, "--output", output, *more]
    noise_table.main([str(flag) for flag in flags])
    return read_table(output)


def test_table_from_files(study):
    table = call(study, study / "noise.tsv")
    assert tuple(table.columns) == noise_table.COLUMNS
    assert "test subjects" not in json.loads((study / "noise.json").read_text())["TableDescription"]
    assert set(table["condition"]) == {"OFF", "ON", "DIFF"}
    assert set(table["metric"]) == set(noise_table.METRICS)
    dictionary = json.loads((study / "noise.json").read_text())
    assert set(noise_table.METRICS) == set(dictionary["metric"]["Levels"])
    rows = table.set_index(["metric", "condition", "source", "decoder"])
    for condition in ("OFF", "ON", "DIFF"):
        for metric in ("sd_ratio_free", "sd_ratio_window_late"):
            sampled, mean = (rows.loc[(metric, condition, "random", d)] for d in ("sampled", "mean"))
            assert sampled["value"] == pytest.approx(1, abs=0.04)
            assert sampled["ci_low"] <= sampled["value"] <= sampled["ci_high"]
            assert mean["value"] < 0.02  # the paper's failure
            assert mean["ceiling"] == pytest.approx(1, abs=0.08)
            assert mean["n"] == 3
    assert (study / "noise.tsv").read_bytes() == (call(study, study / "b.tsv"), (study / "b.tsv").read_bytes())[1]


def test_failed_subject_is_left_out(study):
    path = study / "derivatives" / "sub-02" / "mrs" / "sub-02_acq-m_desc-preproc_svs.nii.gz"
    path.write_bytes(b"")
    table = call(study, study / "noise.tsv")
    assert table["n"].max() == 2


def test_of_many_subjects_a_part_is_read(study, monkeypatch):
    monkeypatch.setattr(noise_table, "MOST_SUBJECTS", 2)
    table = call(study, study / "noise.tsv")
    assert table["n"].max() == 2
    assert "of 2 of 3 test subjects" in json.loads((study / "noise.json").read_text())["TableDescription"]
    flags = ["--units", study / "units.tsv", "--training", study / "training", "--derivatives", study / "derivatives"]
    flags += ["--modes", "random", "--seed", 5, "--bootstrap", 50, "--output", study / "spectrum.tsv"]
    noise_spectrum.main([str(flag) for flag in flags])
    assert set(read_table(study / "spectrum.tsv")["n"]) == {2}
    assert "of 2 of 3 test subjects" in json.loads((study / "spectrum.json").read_text())["TableDescription"]
