"""Two-sample tests by subject, and the table of residual water, on groups that are and are not alike."""

import json
import weakref

import fake_water
import numpy as np
import pytest

from mrs_synthesis import nuisance, spectra, two_sample, water_table
from mrs_synthesis.files import read_table

PPM = water_table.window_ppm()


def group(seed, n, amplitude=1.0, n_transients=24, **more):
    """Windows of subjects whose water is drawn from one distribution."""
    rng = np.random.default_rng(seed)
    matrix = spectra.window_matrix(PPM, fake_water.POINTS, fake_water.DWELL, fake_water.FREQUENCY)
    windows = []
    for _ in range(n):
        fids = fake_water.draw_subject(rng, amplitude, n_transients=n_transients, **more)["water_fid"]
        noise = fake_water.NOISE * (rng.standard_normal((*fids.shape, 2)) @ [1, 1j])
        windows.append((fids + noise) @ matrix)
    return windows


def compared(first, second):
    sites = (["x"] * len(first), ["x"] * len(second))
    return water_table.compare(first, second, sites, PPM, np.random.default_rng(0), 500)


def test_a_line_is_measured():
    t = spectra.time_axis(4096, 2.5e-4)
    place, damping, phase = 4.70, 40.0, 0.7
    hz = (place - 4.65) * fake_water.FREQUENCY
    fids = np.exp((2j * np.pi * hz - damping) * t + 1j * np.array([[phase, phase + 0.4]])[..., None])
    fids = np.concatenate([fids, 3 * fids])
    found = water_table.features(fids @ spectra.window_matrix(PPM, 4096, 2.5e-4, fake_water.FREQUENCY), PPM)
    assert found["amplitude"][2, 0] - found["amplitude"][0, 0] == pytest.approx(np.log(3))
    assert found["amplitude"][0, 0] == pytest.approx(np.log(1 / (damping * 2.5e-4)), abs=0.02)
    assert found["amplitude_change"] == pytest.approx(np.zeros((4, 1)), abs=1e-6)
    assert found["shift"][0, 0] == pytest.approx(place, abs=2e-3)
    # half of a Lorentzian's magnitude is sqrt(3) dampings away on either side
    assert found["width"][0, 0] == pytest.approx(np.sqrt(3) * damping / np.pi / fake_water.FREQUENCY, abs=0.014)
    angles = np.arctan2(found["phase"][:, 1], found["phase"][:, 0])
    assert angles == pytest.approx([-0.2, 0.2, -0.2, 0.2], abs=1e-6)


def test_energy_distance_of_points_is_what_one_computes_by_hand():
    # two constants: 2 |a - b| / 2 |a - b|; and a shared half: E|X-Y| = 1/2, E|X-X'| of means over subjects 0 and 1/2
    a, b = [np.zeros((3, 1))] * 2, [np.ones((3, 1))] * 2
    assert two_sample.energy_effect(two_sample.between([*a, *b]), np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])) == 1
    mixed = [np.zeros((3, 1)), np.ones((3, 1))]
    distances = two_sample.between([*a, *mixed])
    assert np.array_equal(distances[3], [1, 1, 1, 0])
    effect = two_sample.energy_effect(distances, np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]))
    assert effect == pytest.approx((2 * 0.5 - 0 - 0.5) / (2 * 0.5))


def test_p_values_are_uniform_although_transients_of_a_subject_are_alike():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(150):
        samples = [rng.normal(0, 1) + 0.1 * rng.standard_normal((20, 1)) for _ in range(12)]
        strata = (["x"] * 3 + ["y"] * 3,) * 2
        found.append(two_sample.energy_test(samples[:6], samples[6:], strata, rng, 200).p)
    assert np.mean(np.array(found) < 0.05) < 0.11  # of single transients it would be nearly 1
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)


def test_sites_are_not_mistaken_for_groups():
    rng = np.random.default_rng(2)
    site = [10.0 * (k % 2) for k in range(16)]
    samples = [value + rng.standard_normal((20, 1)) for value in site]
    strata = [str(value) for value in site]
    test = two_sample.energy_test(samples[:8], samples[8:], (strata[:8], strata[8:]), rng, 500)
    assert test.p > 0.05
    few = two_sample.energy_test(samples[:2], samples[2:4], (strata[:2], strata[2:4]), rng, 500)
    assert np.isnan(few.p)  # one of each site: nothing to permute


def test_the_same_distribution_passes():
    found = [compared(group(2 * k, 6), group(2 * k + 1, 6)) for k in range(4)]
    for name in ("amplitude", "amplitude_change", "phase", "shift", "width"):
        p = [one[f"{name}_p"][0] for one in found]
        assert np.mean(p) > 0.2 and min(p) > 0.005, name
    assert np.mean([one["classifier_accuracy"][0] for one in found]) == pytest.approx(0.5, abs=0.12)


def test_half_the_amplitude_is_found():
    found = compared(group(5, 10), group(6, 10, amplitude=0.5))
    assert found["amplitude_p"][0] < 0.01
    assert found["amplitude_effect"][0] > 0.3
    assert found["phase_p"][0] > 0.05
    assert found["classifier_accuracy"][0] > 0.65


def test_water_that_keeps_still_is_found_by_its_changes():
    still = [np.repeat(windows[:, :1], windows.shape[1], axis=1) for windows in group(7, 8)]
    found = compared(group(8, 8), still)
    assert found["amplitude_change_p"][0] < 0.01
    assert found["phase_p"][0] < 0.01


def test_the_classifier_finds_a_boundary_that_is_not_straight():
    rng = np.random.default_rng(9)
    inner = [0.5 * rng.standard_normal((60, 2)) for _ in range(4)]
    outer = [3 * np.stack([np.cos(a), np.sin(a)], axis=1) for a in rng.uniform(0, 2 * np.pi, (4, 60))]
    value, low, high = two_sample.classify(inner, outer, (["x"] * 4,) * 2, rng)
    assert value > 0.95 and low <= value <= high
    assert np.isnan(two_sample.classify(inner[:1], outer, (["x"], ["x"] * 4), rng)[0])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    rng = np.random.default_rng(10)
    unit = 1 / fake_water.DWELL  # amplitudes in units of a spectrum's height
    subjects = [
        {
            "arrays": fake_water.draw_subject(rng, 1.0, n_transients=24),
            "site": "A",
            "vendor": "siemens",
            "split": "test" if k % 2 else "train",
            "scale": 0.05 * unit,
        }
        for k in range(14)
    ]
    folder = fake_water.write_study(tmp_path_factory.mktemp("study"), subjects)
    nuisance.main(fake_water.words(folder, output=folder / "nuisance.safetensors"))
    return folder


def table(study, name):
    output = study / f"{name}.tsv"
    more = {"nuisance": study / "nuisance.safetensors", "output": output, "lines": study / f"{name}_lines.tsv"}
    more["heldout"] = study / "heldout"
    water_table.main([*fake_water.words(study, **more), "--bootstrap", "200", "--seed", "1"])
    return output


def test_table_tells_drawn_water_from_none(study):
    path = table(study, "water")
    found = read_table(path).set_index(["metric", "source"])
    assert set(found.index.get_level_values("source")) == {"drawn", "none", "training"}
    for name in ("amplitude", "amplitude_change", "phase", "shift", "width"):
        assert found.loc[(f"{name}_p", "drawn"), "value"] > 0.05, name
        assert found.loc[(f"{name}_p", "training"), "value"] > 0.01, name
    assert found.loc[("amplitude_p", "none"), "value"] < 0.02
    accuracy = found.loc["classifier_accuracy"]
    assert accuracy.loc["drawn", "value"] < 0.7 < 0.95 < accuracy.loc["none", "value"]
    assert (accuracy["ceiling"] == accuracy.loc["training", "value"]).all()
    assert (accuracy["floor"] == accuracy.loc["none", "value"]).all()
    lines = read_table(study / "water_lines.tsv")
    peaks = lines[lines["metric"] == "amplitude"].set_index("source").eval("x * density * width")
    middle = peaks.groupby(level=0).sum()  # mean log10 height; the subjects' spread is about 0.3
    assert abs(middle["drawn"] - middle["real"]) < 0.3 < middle["real"] - middle["none"]
    about = json.loads(path.with_suffix(".json").read_text())
    assert " of 7" not in about["TableDescription"] and set(found["n"]) == {7}
    assert {"metric", "ceiling", "floor", "n_source"} < set(about)


def test_averages_of_single_subjects_are_compared_without_a_crash(tmp_path):
    rng = np.random.default_rng(11)
    subjects = [
        {
            "arrays": fake_water.draw_subject(rng, 1.0, n_conditions=1, n_transients=1),
            "site": "A",
            "vendor": "philips",
            "split": "test" if k % 2 else "train",
        }
        for k in range(8)
    ]
    folder = fake_water.write_study(tmp_path, subjects, conditions=("UNEDITED",))
    nuisance.main(fake_water.words(folder, output=folder / "nuisance.safetensors"))
    path = table(folder, "water")
    found = read_table(path).set_index(["metric", "source"])["value"]
    assert path.read_bytes() == table(folder, "again").read_bytes()
    assert found["amplitude_p", "drawn"] > 0.05
    assert found["amplitude_effect", "none"] > 0.5


def test_of_a_large_study_some_scans_of_every_site_are_compared_one_in_memory(study, monkeypatch):
    monkeypatch.setattr(water_table, "MOST_SCANS", 4)
    monkeypatch.setattr(water_table, "N_DRAWS", 1)
    read, alive, most = water_table.read_scans, [], []

    def watched(*words):
        for row, data in read(*words):
            most.append(1 + sum(one() is not None for one in alive))
            alive.append(weakref.ref(data["fids"]))
            alive.append(weakref.ref(data["water"]))
            yield row, data

    monkeypatch.setattr(water_table, "read_scans", watched)
    path = table(study, "limited")
    found = read_table(path)
    assert len(alive) == 16 and max(most) <= 3  # that before is freed when the next one has been read
    assert set(found["n"]) == {4} and set(found.loc[found["source"] == "training", "n_source"]) == {4}
    said = json.loads(path.with_suffix(".json").read_text())["TableDescription"]
    assert "of 4 of 7 test scans" in said and "of 4 of 7 training scans" in said
    values = found.set_index(["metric", "source"])["value"]
    assert values["amplitude_effect", "none"] > values["amplitude_effect", "drawn"]
