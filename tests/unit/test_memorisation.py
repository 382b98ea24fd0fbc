"""Memorisation: copiers are flagged, honest generators are not, and noise alone does not decide."""

import json

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import cells, memorisation, memorisation_queue, neighbours, spectra
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.memorisation_metrics import (
    Compared,
    Group,
    is_flagged,
    measures,
    nndr,
    raise_noise,
    resample,
    share_below,
)
from mrs_synthesis.neighbours import Training
from mrs_synthesis.scans import Scan, sidecar_path, write_scan
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

MHZ, DWELL, POINTS, W = 123.25, 5e-4, 256, 64
PPM = spectra.ppm_axis(POINTS, DWELL, MHZ)[96:160]
SD, SCALE, N = 0.1, 7.0, 24


def signals(rng, subjects):
    """One smooth complex spectrum per subject: a common one, and three ways to differ from it."""
    x = np.linspace(-1, 1, W)
    ways = np.stack([np.exp(-((x - c) ** 2) / 0.01) for c in (-0.5, 0, 0.5)])
    return (1 + 0.3 * rng.standard_normal((subjects, 3))) @ ways * (1 + 0.2j)


def noise(rng, shape, sd=SD):
    return sd * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


class Study:
    """Six training and six test subjects with the noise SD `SD`, written as the earlier stages do."""

    def __init__(self, folder):
        self.folder, self.rng = folder, generator(1, "study")
        self.signals = signals(self.rng, 12)
        self.units = [f"sub-{i:02d}_acq-x" for i in range(12)]
        self.rows = np.repeat(self.signals, N, axis=0) + noise(self.rng, (12 * N, W))
        entries = [
            {"row": i % 6 * N + t, "unit": unit, "subject": f"{i:02d}", "condition": "UNEDITED", "transient": t}
            | {"site": "ab"[i % 2], "n_points": POINTS}
            | {"split": "train" if i < 6 else "test", "scale": SCALE, "noise_sd": SD * SCALE / np.sqrt(POINTS)}
            for i, unit in enumerate(self.units)
            for t in range(N)
        ]
        for part, name in enumerate(("training", "heldout")):
            own = slice(6 * part * N, 6 * (part + 1) * N)
            write_table(folder / name / "index.tsv", pd.DataFrame(entries[own]))
            np.save(folder / name / "spectra.npy", self.rows[own].astype(np.complex64))
        folders = [unit.split("_")[0] for unit in self.units]
        write_table(folder / "units.tsv", pd.DataFrame({"unit": self.units, "folder": folders}))
        grid = {"ppm": PPM.tolist(), "n_points": POINTS, "conditions": ["UNEDITED"], "split_unit": "subject"}
        write_json(folder / "training" / "grid.json", grid)

    def prefix(self, unit):
        return self.folder / "derivatives" / unit.split("_")[0] / "mrs" / unit

    def synthesise(self, decoder, make, sd):
        """Write `make(test subject)` (N, W), in the training set's scale, as synthetic transients of mode random."""
        for i in range(6, 12):
            values = make(i) * SCALE
            fids = spectra.from_window(values, PPM, POINTS, DWELL, MHZ)
            path = cells.synthetic_path(self.prefix(self.units[i]), "random", decoder)
            write_scan(path, Scan(fids[None, :, None], MHZ, DWELL, {"EchoTime": 0.03}))
            replicate = {"NReal": 2, "DynRange": [0, N], "Scale": SCALE, "NoiseSD": [SD * SCALE / np.sqrt(POINTS)]}
            facts = {"Decoder": decoder, "Plan": {"Replicates": [replicate]}, "ModelSHA256": "abc"}
            write_json(sidecar_path(path), facts | ({"DecoderSD": sd} if decoder == "sampled" else {}))

    def run(self, decoder):
        words = ["--units", "units.tsv", "--training", "training", "--heldout", "heldout", "--derivatives"]
        words += ["derivatives"]
        words = [str(self.folder / word) if not word.startswith("--") else word for word in words]
        output, said = self.folder / "memorisation.tsv", self.folder / "verdicts.json"
        words += ["--modes", "random", "--decoders", decoder, "--seed", "3"]
        memorisation.main([*words, "--output", str(output), "--verdicts", str(said)])
        facts = json.loads(said.read_text())
        return read_table(output), {row["source"]: row for row in facts["verdicts"]}, facts

    def said(self):
        """What the data dictionary says of the table."""
        return json.loads((self.folder / "memorisation.json").read_text())["TableDescription"]


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def test_nndr_by_hand():
    assert nndr(np.array([[1.0, 4.0], [0.0, 0.0]])).tolist() == [0.25, 0]


def test_components_are_those_above_the_noise():
    rng = generator(1, "components")
    ways = np.linalg.qr(rng.standard_normal((W, 3)))[0].T
    rows = rng.standard_normal((400, 3)) @ ways * 3 + noise(rng, (400, W))
    training = Training(rows, np.arange(400), np.full(400, SD), ["a"] * 400)
    assert training.basis.shape == (2 * W, 3)
    way = (ways[0] + 0j).view(float)  # its real part as a real vector
    assert np.linalg.norm(way @ training.basis) > 0.99
    assert np.linalg.norm((1j * ways[0]).view(float) @ training.basis) < 0.2


def test_noise_is_raised_to_the_level_and_never_lowered():
    rng = generator(1, "raise")
    group = Group(noise(rng, (2, 20000), np.array([[0.3], [2.0]])), np.array([0.3, 2.0]))
    raised = raise_noise(group, 1.0, rng)
    assert raised[0].real.std() == pytest.approx(1, rel=0.03)
    assert raised[0].imag.std() == pytest.approx(1, rel=0.03)
    assert raised[1] == pytest.approx(group.values[1])


def test_measures_by_hand():
    real = np.column_stack([np.arange(1.0, 101), np.full(100, 200.0)])
    near = np.array([[0.5, 200.0], [50.5, 200.0]])
    found = measures(Compared(["a"], [near], [real]), resample(["a"], 1))
    values = {name: value[0] for name, value in found.items()}
    # 0.5 is nearer than all of 1..100, 50.5 than fifty; medians 25.5 and 50.5; ratios 0.0025 and 0.2525 of 200
    assert values["auc"] == pytest.approx(0.75)
    assert values["distance_ratio"] == pytest.approx(25.5 / 50.5)
    assert values["nndr"] == pytest.approx(25.5 / 200)
    assert values["share_nearer"] == values["share_low_nndr"] == 0.5
    assert all(len(value) == 1 for value in found.values())


def test_share_is_against_all_held_out_ones_together():
    held_out = [np.linspace(1, 2, 100), np.linspace(11, 12, 100)]
    # The second unit is near for itself, but no nearer than the first
    shares = share_below([held_out[0], np.full(4, 5.0)], held_out, np.array([[1.0, 1.0], [0.0, 2.0]]))
    assert shares == pytest.approx([0.005, 1.0], abs=0.006)


def test_resamples_are_of_subjects():
    weights = resample(["a", "a", "b"], 1)
    assert weights[0] == pytest.approx([0.5, 0.5, 1])
    assert np.all(weights[:, 0] == weights[:, 1])
    assert set(weights[1:, 2]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("name", "value", "low", "high", "expected"),
    [
        ("auc", 0.7, 0.6, 0.8, True),
        ("auc", 0.55, 0.52, 0.58, False),
        ("auc", 0.7, 0.4, 0.9, False),
        ("auc", 0.3, 0.2, 0.4, False),
        ("share_nearer", 0.05, 0.04, 0.06, True),
        ("share_nearer", 0.02, 0.0, 0.04, False),
        ("distance_ratio", 0.9, 0.8, 0.95, True),
        ("distance_ratio", 0.99, 0.985, 0.995, False),
        ("nndr", 0.6, 0.5, 0.7, True),
        ("nndr", 0.9, 0.85, 0.95, False),
        ("auc", 0.7, np.nan, np.nan, True),
    ],
)
def test_flags(name, value, low, high, expected):
    assert is_flagged(name, value, low, high, held_out_nndr=0.9, n_held_out=1000) is expected


def test_controls_and_an_honest_generator(study):
    study.synthesise("sampled", lambda i: study.signals[i] + noise(study.rng, (N, W)), SD)
    table, verdicts, facts = study.run("sampled")
    assert verdicts["random"]["verdict"] == verdicts["real_other"]["verdict"] == "not nearer"
    for name in ("copier_0", "copier_0.5", "copier_1"):
        assert verdicts[name]["verdict"] == "copies", name
    assert verdicts["copier_subject"]["verdict"] == "nearer"
    assert facts["model_sha256"] == ["abc"]
    assert facts["components"]["UNEDITED"] in (3, 4)
    values = table.set_index(["metric", "source"])["value"]
    # A copier's fresh noise has as many dimensions as that of two strangers' difference, and half its variance
    assert values["distance_ratio_as_made", "copier_1"] == pytest.approx(np.sqrt(1 / 2), rel=0.08)
    assert values["distance_ratio_as_made", "copier_0"] == pytest.approx(0, abs=1e-3)
    assert set(table["ceiling"].dropna()) <= set(values.xs("real", level="source"))


def test_a_model_that_copies_is_flagged(study):
    study.synthesise("sampled", lambda i: study.rows[study.rng.integers(6 * N, size=N)] + noise(study.rng, (N, W)), SD)
    _, verdicts, _ = study.run("sampled")
    assert verdicts["random"]["verdict"] == "copies"
    assert "share_low_nndr_window (UNEDITED)" in verdicts["random"]["flagged"]


def test_few_copies_among_honest_ones_are_flagged(study):
    def make(i):
        copies = study.rows[study.rng.integers(6 * N, size=4)]
        return np.concatenate([copies, study.signals[i] + noise(study.rng, (N - 4, W))])

    study.synthesise("sampled", make, SD)
    assert study.run("sampled")[1]["random"]["verdict"] == "copies"


def test_a_noise_free_decoder_is_not_flagged_for_its_missing_noise(study):
    study.synthesise("mean", lambda i: np.repeat(study.signals[i][None], N, axis=0), 0)
    table, verdicts, facts = study.run("mean")
    values = table.set_index(["metric", "source"])["value"]
    assert values["distance_ratio_as_made", "random"] < 0.8
    assert values["distance_ratio_window", "random"] == pytest.approx(1, abs=0.03)
    assert verdicts["random"]["verdict"] == "not nearer"
    assert facts["noise_sd"] == pytest.approx(SD, rel=1e-4)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_decoder_with_another_noise_is_brought_to_the_same_level(study, factor):
    sd = factor * SD
    study.synthesise("sampled", lambda i: study.signals[i] + noise(study.rng, (N, W), sd), sd)
    table, verdicts, facts = study.run("sampled")
    values = table.set_index(["metric", "source"])["value"]
    assert abs(values["distance_ratio_as_made", "random"] - 1) > 0.1
    assert values["distance_ratio_window", "random"] == pytest.approx(1, abs=0.03)
    assert verdicts["random"]["verdict"] == "not nearer"
    assert facts["noise_sd"] == pytest.approx(max(sd, SD), rel=1e-4)


def brute_force_as_made(study, i, synthetic):
    """Median distance of a test subject's synthetic spectra to the nearest training spectrum, over its own ones'."""
    learned = study.rows[: 6 * N].astype(np.complex64)
    own = study.rows[i * N : (i + 1) * N].astype(np.complex64)
    nearest = [np.linalg.norm(part[:, None] - learned, axis=2).min(axis=1) for part in (synthetic, own)]
    return np.median(nearest[0]) / np.median(nearest[1])


def test_small_studies_are_compared_as_a_whole(study):
    made = {i: study.signals[i] + noise(study.rng, (N, W), 0.8 * SD) for i in range(6, 12)}
    study.synthesise("sampled", lambda i: made[i], 0.8 * SD)
    table, _, facts = study.run("sampled")
    values = table.set_index(["metric", "source"])["value"]
    expected = np.mean([brute_force_as_made(study, i, made[i]) for i in made])
    assert values["distance_ratio_as_made", "random"] == pytest.approx(expected, rel=1e-5)
    assert facts["units"] == study.units[6:]
    assert "of each scan" not in study.said() and "test subjects" not in study.said()


@pytest.fixture
def limits(monkeypatch):
    """Few of everything at a time: 4 of 6 subjects, 16 of 24 transients, blocks of 50 training spectra of 144."""
    monkeypatch.setattr(memorisation, "MOST_SUBJECTS", 4)
    monkeypatch.setattr(memorisation, "MOST_SPECTRA", 64)
    monkeypatch.setattr(neighbours, "BLOCK", 50)
    monkeypatch.setattr(memorisation_queue, "QUERIES", 100)


def test_a_large_study_is_compared_in_part_beside_all_training_spectra(study, limits):
    study.synthesise("sampled", lambda i: study.signals[i] + noise(study.rng, (N, W)), SD)
    counted = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            memorisation, "measures", lambda found, *more: measures(counted.setdefault(id(found), found), *more)
        )
        _, verdicts, facts = study.run("sampled")
    assert len(facts["units"]) == 4
    assert {study.units.index(unit) % 2 for unit in facts["units"]} == {0, 1}  # both sites
    sizes = {len(part) for found in counted.values() for part in [*found.synthetic, *found.held_out]}
    assert sizes == {16, 8}  # equal groups, and their halves
    assert facts["training_spectra"] == {"UNEDITED": 6 * N}
    assert "of 4 of 6 test subjects" in study.said() and "16 spectra at most" in study.said()
    assert verdicts["random"]["verdict"] == verdicts["real_other"]["verdict"] == "not nearer"
    for name in ("copier_0", "copier_0.5", "copier_1"):
        assert verdicts[name]["verdict"] == "copies", name
    assert verdicts["copier_subject"]["verdict"] == "nearer"


def test_copies_of_the_very_last_training_spectrum_are_found(study, limits):
    """It is in the last of three blocks; were training spectra left out as others are, it would be lost."""
    last = study.rows[6 * N - 1]

    def make(i):
        return np.concatenate(
            [last + noise(study.rng, (N // 2, W), SD / 2), study.signals[i] + noise(study.rng, (N // 2, W))]
        )

    study.synthesise("sampled", make, SD)
    assert study.run("sampled")[1]["random"]["verdict"] == "copies"


def test_a_unit_that_failed_is_left_out_and_all_are_an_error(study, capsys):
    study.synthesise("sampled", lambda i: study.signals[i] + noise(study.rng, (N, W)), SD)
    paths = [cells.synthetic_path(study.prefix(unit), "random", "sampled") for unit in study.units[6:]]
    paths[0].write_bytes(b"")
    assert study.run("sampled")[2]["units"] == study.units[7:]
    assert f"left out: {study.units[6]}" in capsys.readouterr().out
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no test unit with synthetic"):
        study.run("sampled")


def test_same_input_gives_the_same_bytes(study):
    study.synthesise("sampled", lambda i: study.signals[i] + noise(study.rng, (N, W)), SD)
    study.run("sampled")
    first = [(study.folder / name).read_bytes() for name in ("memorisation.tsv", "verdicts.json")]
    study.run("sampled")
    assert first == [(study.folder / name).read_bytes() for name in ("memorisation.tsv", "verdicts.json")]
