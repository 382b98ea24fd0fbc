"""A regressor on spectra of two Gaussian lines, the height of one of which is the label."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from analytic_basis import LINES, MHZ, analytic_basis, edited

torch = pytest.importorskip("torch")

from mrs_synthesis import basis as basis_sets  # noqa: E402
from mrs_synthesis import regressor, spectra, subject_model, training_examples, training_use  # noqa: E402
from mrs_synthesis.agreement import Paired, resample  # noqa: E402
from mrs_synthesis.files import read_table, sha256, write_json, write_table  # noqa: E402
from mrs_synthesis.regressor import train  # noqa: E402
from mrs_synthesis.scans import Scan, write_scan  # noqa: E402
from mrs_synthesis.stage import InputError  # noqa: E402
from mrs_synthesis.subject_model import SubjectModel, rotate  # noqa: E402
from mrs_synthesis.training_examples import FOLD, MOST, Drawn, Examples, Unit  # noqa: E402

POINTS, DWELL, TRANSIENTS = 256, 5e-4, 12
PPM = spectra.ppm_axis(POINTS, DWELL, MHZ)[64:128]  # 0.7 to 4.6 ppm
SD = 0.05  # of a transient's bin; the line of the scale has the height 1
RATIOS = [("DIFF", "GABA+")]
ALL = {"real", "synthetic", "both", "real_augmented", "synthetic_x10", "mean_only", "fit"}


def line(ppm):
    return np.exp(-0.5 * ((PPM - ppm) / 0.08) ** 2)


def clean(height):
    """OFF and ON of a subject; the difference is the line at 3 ppm."""
    off = line(2.0) + 0j
    return np.stack([off, off + height * line(3.0)])


def noisy(height, rng, n=TRANSIENTS):
    noise = rng.standard_normal((2, n, len(PPM), 2)) @ [SD, 1j * SD]
    return clean(height)[:, None] + noise


def unit(name, height, rng, n=TRANSIENTS):
    values = noisy(height, rng, n)
    fids = spectra.from_window(values.mean(axis=1, keepdims=True), PPM, POINTS, DWELL, MHZ)
    scan = Scan(fids[:, :, None], MHZ, DWELL, {}, ("OFF", "ON"))
    return Unit(name, name, "A", tuple(range(n)), scan, values.astype(np.complex64), SD / np.sqrt(POINTS))


def known(n=24, seed=0, mirrored=False):
    """What may be learnt from; `mirrored`: labels of synthetic subjects fall as the line rises."""
    rng = np.random.default_rng(seed)
    heights, held_out = rng.uniform(0.5, 1.5, n), rng.uniform(0.5, 1.5, 8)
    drawn = rng.uniform(0.5, 1.5, (n, FOLD))
    made = Drawn(np.array([[clean(h) for h in row] for row in drawn]), np.full(n, SD / np.sqrt(POINTS)))
    units = [[unit(f"{k}{i}", h, rng) for i, h in enumerate(hs)] for k, hs in (("t", heights), ("v", held_out))]
    labels = 2 - drawn if mirrored else drawn
    return training_use.Known(*units, heights[:, None], held_out[:, None], made, labels[..., None], PPM)


def averages(n=30, seed=9):
    rng = np.random.default_rng(seed)
    heights = rng.uniform(0.5, 1.5, n)
    noisy_ones = np.array([[noisy(h, rng, 2).mean(axis=1) for _ in range(2)] for h in heights])
    values = training_examples.normalised(noisy_ones.reshape(2 * n, 2, -1), PPM)
    values = values.reshape(noisy_ones.shape)
    fitted = heights[:, None, None] * (1 + 0.1 * np.array([1, -1])[:, None])
    names = pd.DataFrame({"unit": [f"x{i}" for i in range(n)], "subject": [f"x{i}" for i in range(n)]})
    return training_examples.Tested(names, {2: values}, {2: fitted}, heights[:, None]), heights[:, None]


def compared(what, seeds=2):
    held_out, truth = averages()
    table = training_use.compare(what, held_out, truth, RATIOS, n_seeds=seeds, n_resamples=200, seed=1)
    return table.set_index("source")


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regressor, "STEPS", 200)
        yield


@pytest.fixture(scope="module")
def table():
    return compared(known())


def test_every_source_learns_the_height_of_a_line(table):
    floor = table.at["mean_only", "value"]
    assert floor == pytest.approx(30, abs=10)  # SD of a uniform distribution from 0.5 to 1.5, over single heights
    for source in ("real", "synthetic", "both", "real_augmented", "synthetic_x10"):
        row = table.loc[source]
        assert row["value"] < 0.35 * floor and row["floor"] == floor, source
        assert row["slope"] == pytest.approx(1, abs=0.15) and row["correlation"] > 0.95, source
        assert row["ci_low"] < row["value"] < row["ci_high"] and row["seed_sd"] > 0
    assert table.at["mean_only", "slope"] == pytest.approx(0) and np.isnan(table.at["mean_only", "correlation"])
    assert table.at["mean_only", "verdict_real"] == "worse"
    assert table.at["fit", "value"] == pytest.approx(10) and table.at["fit", "bias_percent"] == pytest.approx(0)


def test_all_controls_are_there_and_numbers_are_equal(table):
    assert set(table.index) == ALL
    n = table["n_train"]
    assert n["real"] == n["synthetic"] == 24 * (TRANSIENTS // 2) and n["both"] == 2 * n["real"]
    assert n["synthetic_x10"] == n["real_augmented"] == 10 * n["real"]
    subjects = table["n_train_subjects"]
    assert (subjects["real"], subjects["synthetic"], subjects["both"]) == (24, 24, 48)
    assert (subjects["real_augmented"], subjects["synthetic_x10"]) == (24, 240)
    assert (table["n"] == 30).all() and (table["n_replicates"] == 60).all() and pd.isna(n["fit"])


def test_labels_of_synthetic_spectra_are_their_own(table):
    wrong = compared(known(mirrored=True), seeds=1)
    assert wrong.at["synthetic", "slope"] < 0 and wrong.at["synthetic", "verdict_real"] == "worse"
    assert wrong.at["real", "slope"] > 0.8  # which have nothing to do with it
    assert wrong.at["synthetic", "ratio_to_real"] == pytest.approx(
        wrong.at["synthetic", "value"] / wrong.at["real", "value"]
    )


@pytest.mark.parametrize("n", [1, 4])
def test_noise_of_all_sources_is_that_of_an_average(n, monkeypatch):
    for name in ("SHIFT_HZ", "PHASE_DEG", "WIDTH_HZ"):  # lines that are moved would count as noise
        monkeypatch.setattr(training_examples, name, 0.0)
    free = (PPM > 1.0) & (PPM < 1.5)
    for source, part in known(n=12).sets(n, 3).items():
        values = part.spectra[..., free]
        if source == "real_augmented":  # what is left of the noise in the mean of all is common to a subject's spectra
            values = values - np.stack([values[part.subject == s].mean(axis=0) for s in part.subject])
        sd = np.sqrt(np.mean(np.abs(values) ** 2) / 2)
        expected = SD * np.sqrt(1 / n - (1 / TRANSIENTS if source == "real_augmented" else 0))
        assert sd == pytest.approx(expected, rel=0.06), source


def test_averages_of_a_subject_have_no_transient_in_common_and_are_limited():
    rng = np.random.default_rng(0)
    one = unit("a", 1.0, rng, n=40)
    values = np.broadcast_to(np.eye(40)[None], (2, 40, 40))  # transient i is all in bin i
    one = replace(one, values=values)
    part = training_examples.real_averages([one], np.ones((1, 1)), np.linspace(1.8, 3.4, 40), 2, 0)
    used = np.abs(part.spectra[:, 0]) > 0
    assert len(used) == MOST and (used.sum(axis=1) == 2).all() and used.sum(axis=0).max() == 1


def test_missing_labels_do_not_count_and_a_ratio_without_any_is_refused():
    rng = np.random.default_rng(0)
    heights = rng.uniform(0.5, 1.5, (60, 1))
    values = training_examples.normalised(np.array([clean(h) for h in heights[:, 0]]), PPM)
    labels = np.hstack([heights, np.where(np.arange(60)[:, None] % 2, np.nan, 2 * heights)])
    part = Examples(values, labels, np.arange(60))
    found = train(part, part, 1).predict(values)
    assert np.sqrt(np.mean((found - heights * [1, 2]) ** 2, axis=0)) == pytest.approx(0, abs=0.15)
    for broken, words in ((np.nan, "fitted in none"), (1.0, "same label")):
        with pytest.raises(InputError, match=words):
            train(replace(part, labels=np.full((60, 1), broken)), part, 1)


def test_correlation_is_the_textbooks():
    rng = np.random.default_rng(0)
    truth, estimate = rng.standard_normal(20), rng.standard_normal((20, 3))
    pairs = Paired(estimate, truth, np.arange(20), 20)
    drawn = resample(20, 5, rng)
    found = training_use.correlation(pairs, drawn)
    for weights, value in zip(drawn, found, strict=True):
        rows = np.repeat(np.arange(20), weights.astype(int))
        assert value == pytest.approx(np.corrcoef(truth[rows], estimate.mean(axis=1)[rows])[0, 1])


def test_fits_come_back_in_order_from_scans_of_two_rasters(tmp_path):
    items, expected = [], []
    bases = {}
    for mhz in (MHZ, 123.25):
        off, on = edited(mhz=mhz)
        macromolecule = analytic_basis({"MM3co": [(3.0, 2.0)]}, mhz=mhz)
        on = replace(on, names=[*on.names, "MM3co"], fids=np.vstack([on.fids, macromolecule.fids]))
        zero = replace(off, names=[*off.names, "MM3co"], fids=np.vstack([off.fids, 0 * macromolecule.fids]))
        parts = {"OFF": off, "ON": on, "DIFF": basis_sets.difference(on, zero)}
        basis_sets.write_set(tmp_path / str(mhz), parts, {})
        bases[mhz] = (off, edited(mhz=mhz)[1])
    t = np.arange(2048) * DWELL
    for naa, mhz in ((8.0, MHZ), (10.0, 123.25), (12.0, MHZ)):
        amounts = dict.fromkeys(LINES, 2.0) | {"NAA": naa, "Cr": 4.0, "PCr": 4.0}
        fids = np.array([[amounts[m] for m in basis.names] @ basis.fids for basis in bases[mhz]])
        scan = Scan(fids[:, None, None], mhz, DWELL, {}, ("OFF", "ON"))
        items.append((scan, fids * np.exp(-8 * t)))
        expected.append(naa / 8)
    options = ["--basis", *(str(tmp_path / str(mhz)) for mhz in bases), "--device", "cpu", "--baseline", "off"]
    table = training_examples.fit_ratios(items, options, ["OFF:NAA"])
    np.testing.assert_allclose(table["OFF", "NAA"], expected, rtol=0.02)
    found = training_examples.ratios_of(table, [("OFF", "NAA"), ("OFF", "nothing")])
    assert np.isfinite(found[:, 0]).all() and np.isnan(found[:, 1]).all()


SPLITS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 4


def write_study(folder, changed=(), truth=1.0):
    """Scans of twelve subjects, a model of subjects and the tables; `changed` subjects have other transients."""
    rng = np.random.default_rng(4)
    rows, index, heights = [], [], rng.uniform(0.5, 1.5, len(SPLITS))
    for i, split in enumerate(SPLITS):
        name = f"sub-{i:02d}_acq-mega"
        values = noisy(heights[i] * (0.6 if i in changed else 1.0), np.random.default_rng(50 + i))
        rows.append((name, f"sub-{i:02d}", f"{i:02d}", "A"))
        index += [(name, k, split) for k in range(TRANSIENTS)]
        fids = spectra.from_window(values, PPM, POINTS, DWELL, MHZ)
        noise = np.random.default_rng(90 + i).standard_normal((*fids.shape, 2)) @ [SD / 16, 1j * SD / 16]
        scan = Scan((fids + noise)[:, :, None], MHZ, DWELL, {"EchoTime": 0.068}, ("OFF", "ON"))
        write_scan(folder / "derivatives" / rows[-1][1] / "mrs" / f"{name}_desc-preproc_svs.nii.gz", scan)
    write_table(folder / "units.tsv", pd.DataFrame(rows, columns=["unit", "folder", "subject", "site"]))
    table = pd.DataFrame(index, columns=["unit", "transient", "split"])
    write_table(folder / "training" / "index.tsv", table[table["split"] != "test"])
    write_table(folder / "heldout" / "index.tsv", table[table["split"] == "test"])
    true = pd.DataFrame({"subject": [r[2] for r in rows], "metabolite": "GABA+", "per_tcr": truth * heights})
    write_table(folder / "truth.tsv", true)
    direction = rotate(clean(1.0) - clean(0.0))
    size = np.linalg.norm(direction)
    model = SubjectModel(
        clean(1.0),
        direction[None] / size,
        np.array([(0.3 * size) ** 2]),
        np.array([[0.3 * size]]),
        np.zeros(1),
        n_subjects=6,
    )
    grid = {"ppm": PPM.tolist(), "conditions": ["OFF", "ON"], "split_unit": "subject"}
    subject_model.save(folder / "model", model, {"model": "subject", "grid": grid})
    write_json(folder / "training" / "grid.json", grid)
    return folder


def heights_as_fitted(items, options, wanted):
    """Stand in for the fits, of which these spectra have none: the line at 3 ppm over that at 2 ppm."""
    values = np.array([training_examples.window_spectra(f, PPM, DWELL, MHZ) for _, f in items])
    at = [int(np.argmin(np.abs(PPM - p))) for p in (2.0, 3.0)]
    ratio = ((values[:, 1] - values[:, 0]).real[:, at[1]] / line(3.0)[at[1]]) / (values[:, 0].real[:, at[0]])
    return pd.DataFrame({("DIFF", "GABA+"): ratio * line(2.0)[at[0]]})


def arguments(folder, *more):
    words = ["--units", folder / "units.tsv", "--derivatives", folder / "derivatives", "--training"]
    words += [
        folder / "training",
        "--heldout",
        folder / "heldout",
        "--model",
        folder / "model",
        "--truth",
        folder / "truth.tsv",
    ]
    words += ["--n-real", "2", "--n-total", "8", "--replicates", "3", "--seed", "5", "--seeds", "2"]
    return [str(w) for w in [*words, "--ratios", "DIFF:GABA+", "--output", folder / "table.tsv", *more]]


@pytest.fixture
def run_study(monkeypatch):
    """Run the command line with hardly any training; return the digest of all weights."""
    monkeypatch.setattr(regressor, "STEPS", 20)
    weights = []
    learn = training_use.learn

    def kept(*a):
        found = learn(*a)
        weights.append(b"".join(one.weights() for each in found[0].values() for one in each))
        return found

    monkeypatch.setattr(training_use, "learn", kept)
    monkeypatch.setattr(training_examples, "fit_ratios", heights_as_fitted)

    def run(folder, *more):
        training_use.main(arguments(folder, *more))
        return weights.pop()

    return run


def test_nothing_of_the_test_subjects_reaches_the_training(run_study, tmp_path):
    before = run_study(write_study(tmp_path / "a"))
    after = run_study(write_study(tmp_path / "b", changed=(8, 9, 10, 11), truth=3.0))
    assert before == after
    assert sha256(tmp_path / "a" / "table.tsv") != sha256(tmp_path / "b" / "table.tsv")
    assert run_study(write_study(tmp_path / "c", changed=(0,))) != before  # one of the training subjects


def test_same_inputs_same_bytes_and_a_described_table(run_study, tmp_path):
    folder = write_study(tmp_path)
    first = run_study(folder), sha256(folder / "table.tsv")
    assert (run_study(folder), sha256(folder / "table.tsv")) == first
    table = read_table(folder / "table.tsv")
    assert list(table.columns) == list(training_use.COLUMNS) and set(table["source"]) == ALL
    assert (table["n"] == 4).all() and set(table["n_transients"]) == {2}
    about = json.loads((folder / "table.json").read_text())
    assert "6 real training scans: few" in about["TableDescription"] and set(about["source"]["Levels"]) == ALL


def test_without_truth_the_reference_transients_count(run_study, tmp_path):
    folder = write_study(tmp_path, truth=2.0)
    run_study(folder)
    wrong = read_table(folder / "table.tsv").set_index("source")
    words = arguments(folder)
    where = words.index("--truth")
    training_use.main(words[:where] + words[where + 2 :])
    right = read_table(folder / "table.tsv").set_index("source")
    assert wrong.at["fit", "bias_percent"] == pytest.approx(-50, abs=8)  # the truth given was twice the heights
    assert right.at["fit", "bias_percent"] == pytest.approx(0, abs=8)


def test_bad_input_is_told_in_one_line(run_study, tmp_path):
    folder = write_study(tmp_path)

    def message(*more):
        with pytest.raises(InputError) as caught:
            training_use.main(arguments(folder, *more))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "GABA" in message("--ratios", "GABA") and "CONDITION:METABOLITE" in message("--ratios", "GABA")
    assert "none of OFF:tNAA was fitted" in message("--ratios", "OFF:tNAA")
    assert "--seeds 0" in message("--seeds", "0")
    assert "config.json" in message("--model", str(folder))
    assert "no such file" in message("--truth", str(folder / "none.tsv"))
    assert "12 eligible transients" in message("--n-real", "11", "--n-total", "12")
    index = read_table(folder / "training" / "index.tsv")
    write_table(folder / "training" / "index.tsv", index[index["split"] != "validation"])
    assert "0 validation scans" in message()
    write_table(folder / "training" / "index.tsv", index.assign(transient=index["transient"] + 5))
    assert "12 transients, but the training set names number 16" in message()
    write_json(folder / "model" / "config.json", {"model": "other"})
    assert "train the model again" in message()
