"""The steps from the paper-like model to ours, and their tables, from estimates and transients of known kind."""

import itertools
import json
from dataclasses import asdict

import fake_water
import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import ablation, ablation_signal, cells, scans
from mrs_synthesis.files import write_json, write_table
from mrs_synthesis.stage import InputError

RATIOS = ["DIFF:GABA+", "OFF:tNAA"]
TRUTH = {"GABA+": np.array([0.20, 0.25, 0.30, 0.35]), "tNAA": np.array([1.2, 1.3, 1.5, 1.6])}
DWELL, POINTS = 5e-4, 1024
DATA = {"scale": 1.0, "dwell_s": DWELL, "frequency_mhz": fake_water.FREQUENCY}


def test_each_variant_is_the_one_before_with_one_element_changed():
    settings = [
        {key: value for key, value in asdict(variant).items() if key not in ("name", "added")}
        for variant in ablation.VARIANTS
    ]
    for before, after in itertools.pairwise(settings):
        assert sum(before[key] != after[key] for key in before) == 1, (before, after)
    first = {"model": "paper", "likelihood": "analytic", "prior": "standard", "decoder": "mean", "patterns": False}
    last = {"model": "subject", "likelihood": "known", "prior": "fitted", "decoder": "acquired", "patterns": True}
    assert (settings[0], settings[-1]) == (first, last)
    trained = ["analytic", *["known"] * 4, "subject", "subject_patterns"]
    assert [variant.trained for variant in ablation.VARIANTS] == trained


def estimates(source, values, n_real=2, n_total=8, decoder="n/a", first_cell=0):
    """Rows of a table of concentrations; `values` maps a metabolite to estimates (subjects, replicates)."""
    rows = []
    for metabolite, table in values.items():
        for s, line in enumerate(np.asarray(table)):
            for r, value in enumerate(line):
                rows.append(
                    {
                        "unit": f"sub-{s}_x",
                        "subject": f"{s}",
                        "cell": first_cell + r,
                        "source": source,
                        "n_real": n_real,
                    }
                    | {"n_total": n_total, "replicate": r, "decoder": decoder, "metabolite": metabolite}
                    | {"condition": "DIFF" if metabolite == "GABA+" else "OFF", "per_tcr": value, "crlb_percent": 5.0}
                )
    return pd.DataFrame(rows)


def times(*factors):
    """Estimates: the truth times a factor for each replicate."""
    return {name: true[:, None] * np.array(factors) for name, true in TRUTH.items()}


@pytest.fixture
def study():
    parts = [
        estimates("reference", times(1.0), 20, 20),
        estimates("real", times(1.2, 0.8, 3.0, 3.0), 2, 2, first_cell=10),
        estimates("real", times(1.05), 8, 8, first_cell=20),
        estimates("shrinkage", times(1.1, 0.9, 5.0), first_cell=30),
        estimates("shrinkage", times(7.0), n_real=4, first_cell=40),
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def truth():
    rows = [
        {"subject": f"{s}", "metabolite": name, "per_tcr": value}
        for name, true in TRUTH.items()
        for s, value in enumerate(true)
    ]
    return pd.DataFrame(rows)


def variants():
    population = {name: np.full((4, 2), true.mean()) for name, true in TRUTH.items()}
    made = pd.concat(
        [
            estimates("reference", times(1.0), 30, 30),
            estimates("random", population, decoder="mean", first_cell=50),
            estimates("interpolation", times(1.1, 1.1), decoder="mean", first_cell=60),
        ],
        ignore_index=True,
    )
    better = made.assign(per_tcr=np.where(made["source"] == "interpolation", made["per_tcr"] / 1.1, made["per_tcr"]))
    return {"paper": made, "known_noise": better}


def test_bias_slope_and_worth_of_estimates_of_known_error(study, truth):
    rows = ablation.quantification_rows(study, variants(), RATIOS, 2, truth)
    table = ablation.bias_rows(rows, 10.0, 200, 1).set_index(["variant", "source", "metabolite", "n_real"])
    for name, true in TRUTH.items():
        found = table.loc[("paper", "interpolation", name, 2)]
        assert found["bias_percent"] == pytest.approx(10) and found["rmse_percent"] == pytest.approx(10)
        assert found["slope"] == pytest.approx(1.1) and found["sd_ratio"] == pytest.approx(1.1)
        # between 20 % (two real ones) and 5 % (eight) on a straight line in log n against log error: four
        assert found["n_eff"] == pytest.approx(4)
        found = table.loc[("paper", "random", name, 2)]
        assert found["slope"] == pytest.approx(0, abs=1e-9) and found["sd_ratio"] == pytest.approx(0, abs=1e-9)
        assert found["bias_percent"] == pytest.approx(np.mean(100 * (true.mean() / true - 1)))
        assert table.loc[("known_noise", "interpolation", name, 2)]["rmse_percent"] == pytest.approx(0, abs=1e-9)
        # of the controls and of the real ones alone only as many replicates as of the variants, and no other n_real
        assert table.loc[("control", "shrinkage", name, 2)]["rmse_percent"] == pytest.approx(10)
        assert table.loc[("control", "real", name, 2)]["rmse_percent"] == pytest.approx(20)
        assert table.loc[("control", "real", name, 8)]["rmse_percent"] == pytest.approx(5)
    assert ("control", "shrinkage", "tNAA", 4) not in table.index
    assert len(table) == 2 * (2 + 1 + 2 * 2)


def test_without_a_truth_each_is_compared_with_its_own_reference(study):
    made = variants()
    own = made["paper"]["source"] == "reference"
    made["paper"].loc[own, "per_tcr"] *= 1.1
    rows = ablation.quantification_rows(study, made, RATIOS, 2, None)
    table = ablation.bias_rows(rows, 10.0, 200, 1).set_index(["variant", "source", "metabolite", "n_real"])
    assert table.loc[("paper", "interpolation", "tNAA", 2)]["bias_percent"] == pytest.approx(0, abs=1e-9)
    assert table.loc[("control", "real", "tNAA", 8)]["bias_percent"] == pytest.approx(5)


def test_cells_of_another_plan_are_refused_in_one_line(study, truth):
    other = variants()
    other["paper"] = other["paper"].assign(n_total=16)
    with pytest.raises(InputError, match=r"\(2, 16\).*expected one pair") as error:
        ablation.quantification_rows(study, other, RATIOS, 2, truth)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no cells of 2 real transients"):
        ablation.quantification_rows(study[study["source"] != "real"], variants(), RATIOS, 2, truth)


def test_training_time_is_the_benchmarks(tmp_path):
    for name, seconds in (("analytic", 30.0), ("known", 40.0)):
        write_table(tmp_path / f"train_{name}.tsv", pd.DataFrame({"s": [seconds], "h:m:s": ["x"]}))
    with pytest.raises(InputError, match=r"train_subject\.tsv: no such file") as error:
        ablation.read_seconds(tmp_path)
    assert "\n" not in str(error.value)
    for name, seconds in (("subject", 2.5), ("subject_patterns", 3.5)):
        write_table(tmp_path / f"train_{name}.tsv", pd.DataFrame({"s": [seconds], "h:m:s": ["x"]}))
    expected = {"analytic": 30, "known": 40, "subject": 2.5, "subject_patterns": 3.5}
    assert ablation.read_seconds(tmp_path) == expected
    assert ablation.read_seconds(None) == {}


def transients(seed, n=24, noise=0.02, naa=1.0):
    """One subject's transients of two conditions: NAA, and white noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(2 * POINTS) * DWELL
    clean = naa * np.exp((2j * np.pi * (2.0 - 4.65) * fake_water.FREQUENCY - 20) * t)
    fids = clean + noise * (rng.standard_normal((2, n, 2 * POINTS, 2)) @ [1, 1j])
    return ablation_signal.Transients(fids, 0.0, DATA)


def test_noise_columns_of_white_noise():
    pairs = [({"subject": f"{s}"}, transients(100 + s, noise=0.02), transients(s, noise=0.01)) for s in range(4)]
    row = ablation_signal.noise_columns(pairs, 0, 100, np.random.default_rng(0))
    assert row["noise_sd_ratio"] == pytest.approx(0.5, rel=0.03)
    assert row["noise_sd_ratio_ci_low"] < row["noise_sd_ratio"] < row["noise_sd_ratio_ci_high"]
    assert row["noise_averaging_slope"] == pytest.approx(-0.5, abs=0.03)
    assert row["noise_real_imaginary"] == pytest.approx(0, abs=0.02)
    assert row["n"] == 4


def fidelity(made):
    ppm = np.linspace(1.0, 3.0, 64)
    held = [transients(100 + s) for s in range(6)]
    sites = ["a"] * 6
    return ablation_signal.compared((held, made), (sites, sites), ppm, np.random.default_rng(0), 100)


def test_fidelity_is_chance_for_like_and_certain_for_unlike_transients():
    assert fidelity([transients(s) for s in range(6)])["fidelity_accuracy"] == pytest.approx(0.5, abs=0.1)
    assert fidelity([transients(s, noise=1e-4) for s in range(6)])["fidelity_accuracy"] > 0.9
    assert fidelity([transients(s, naa=0.5) for s in range(6)])["fidelity_accuracy"] > 0.97


def write_synthetic(path, fids, plan):
    edit = {"dim_6": "DIM_EDIT", "dim_6_header": {"EditCondition": ["OFF", "ON"]}}
    header = {"SpectrometerFrequency": [fake_water.FREQUENCY], "ResonantNucleus": ["1H"], "dim_5": "DIM_DYN"} | edit
    tags = ("DIM_DYN", "DIM_EDIT")
    path.parent.mkdir(parents=True, exist_ok=True)
    scan = scans.Scan(fids[:, :, None], fake_water.FREQUENCY, DWELL, header, ("OFF", "ON"), np.eye(4), tags)
    scans.write_scan(path, scan)
    write_json(scans.sidecar_path(path), {"Plan": plan} if plan else {})


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Four training and six test subjects, and variants whose transients have a tenth of the noise, or all of it."""
    monkeypatch.setattr(fake_water, "DWELL", DWELL)
    rng = np.random.default_rng(3)
    raster = {"n_transients": 24, "dwell": DWELL, "points": POINTS}
    subjects = [
        {"arrays": fake_water.draw_subject(rng, 0.05, **raster), "site": "a", "vendor": "x", "split": split}
        for split in ["train"] * 4 + ["test"] * 6
    ]
    fake_water.write_study(tmp_path, subjects)
    grid = tmp_path / "training" / "grid.json"
    grid.write_text(json.dumps(json.loads(grid.read_text()) | {"ppm": np.linspace(1.0, 3.0, 64).tolist()}))
    steps = (
        ablation.Variant("quiet", "", "paper", "analytic", "standard", "mean"),
        ablation.Variant("loud", "", "paper", "known", "standard", "sampled"),
    )
    plan = {"Reference": [*range(4, 24)], "Replicates": [{"DynRange": [0, 12]}, {"DynRange": [12, 24]}]}
    for number in range(4, 10):
        place = f"sub-{number:02d}/mrs/sub-{number:02d}_acq-x"
        real = scans.read_scan(tmp_path / "derivatives" / f"{place}_desc-preproc_svs.nii.gz")
        for variant, part in zip(steps, (0.1, 1.0), strict=True):
            for mode in ablation.MODES:
                noise = rng.standard_normal((2, 24, real.n_points, 2)) @ [1, 1j] * fake_water.NOISE
                noise[:, 12:] *= 50  # the second replicate, which does not count
                mean = real.fids[:, :, 0].mean(axis=1, keepdims=True)
                prefix = ablation.variant_derivatives(tmp_path / "ablation", variant) / place
                write_synthetic(cells.synthetic_path(prefix, mode, variant.decoder), mean + part * noise, plan)
    return tmp_path, steps


def signal_table(folder):
    units = pd.read_csv(folder / "units.tsv", sep="\t", dtype=str).to_dict("records")
    names = [folder / name for name in ("training", "heldout", "derivatives", "ablation")]
    return ablation.signal_table(units, *names, 100, 1, {"analytic": 30.0, "known": 40.0})


def test_table_of_signals_has_a_row_per_variant_and_mode_and_the_ceiling(written, monkeypatch):
    folder, steps = written
    monkeypatch.setattr(ablation, "VARIANTS", steps)
    table = signal_table(folder).set_index(["variant", "source"])
    assert len(table) == 2 * 2 + 1
    for mode in ablation.MODES:
        # NOISE is that of each of the two parts of the sum of one transient's noise and the mean's 1/24 of it
        assert table.loc[("quiet", mode)]["noise_sd_ratio"] == pytest.approx(0.1, rel=0.1)
        assert table.loc[("loud", mode)]["noise_sd_ratio"] == pytest.approx(1.0, rel=0.05)
        assert table.loc[("quiet", mode)]["fidelity_accuracy"] > 0.9
        assert table.loc[("loud", mode)]["fidelity_accuracy"] == pytest.approx(0.5, abs=0.15)
        # neither has water
        assert table.loc[("loud", mode)]["water_accuracy"] > 0.9
        assert table.loc[("loud", mode)]["water_amplitude_p"] < 0.05
    ceiling = table.loc[("control", "real")]
    assert ceiling["noise_sd_ratio"] == pytest.approx(1.0, rel=0.05)
    assert ceiling["fidelity_accuracy"] == pytest.approx(0.5, abs=0.15)
    assert ceiling["water_accuracy"] < 0.85
    assert table.loc[("quiet", "random")]["training_s"] == 30 and table.loc[("loud", "random")]["training_s"] == 40
    assert (table["n"] == 6).all()
    assert set(table.reset_index().columns) == {*ablation.ROWS, *ablation_signal.DESCRIPTIONS}


def test_synthetic_transients_without_a_plan_are_named_in_one_line(written, monkeypatch):
    folder, steps = written
    monkeypatch.setattr(ablation, "VARIANTS", steps)
    sidecar = next((folder / "ablation" / "quiet").rglob("sub-04*RandomMean_svs.json"))
    sidecar.write_text("{}")
    with pytest.raises(InputError, match="no plan of the synthesis; synthesise again") as error:
        signal_table(folder)
    assert "\n" not in str(error.value) and sidecar.name in str(error.value)


def test_a_subject_whose_synthesis_failed_is_left_out(written, monkeypatch, capsys):
    folder, steps = written
    monkeypatch.setattr(ablation, "VARIANTS", steps)
    sidecar = next((folder / "ablation" / "quiet").rglob("sub-04*RandomMean_svs.json"))
    sidecar.write_text("")
    table = signal_table(folder).set_index(["variant", "source"])
    assert table.loc[("quiet", "random")]["n"] == 5 and table.loc[("loud", "random")]["n"] == 6
    assert "left out: sub-04_acq-x" in capsys.readouterr().out


def test_transients_as_acquired_that_cannot_be_preprocessed_are_left_out(written, monkeypatch):
    from mrs_synthesis import preprocess_batched
    from mrs_synthesis.stage import SkippedError

    folder, steps = written

    def refuse(scan, water, options):
        assert scan.fids.shape[:2] == (2, 12)  # both conditions of the first replicate
        raise InputError("edit conditions are swapped")

    monkeypatch.setattr(preprocess_batched, "process", refuse)
    place = "sub-04/mrs/sub-04_acq-x"
    scan = scans.read_scan(folder / "derivatives" / f"{place}_desc-preproc_svs.nii.gz")
    prefix = ablation.variant_derivatives(folder / "ablation", steps[1]) / place
    path = cells.synthetic_path(prefix, "random", "sampled")
    assert ablation_signal.read_synthetic(path, scan, None)[0] == [*range(4, 24)]
    with pytest.raises(SkippedError, match="swapped"):
        ablation_signal.read_synthetic(path, scan, preprocess_batched.Options())
