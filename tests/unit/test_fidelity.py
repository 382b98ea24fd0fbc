"""Tables fidelity and embedding of a study made by hand: what is right and what is wrong with a source shows."""

import json

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import cells, embedding, fidelity, fidelity_data, spectra
from mrs_synthesis.embedding import Cloud, tsne
from mrs_synthesis.fidelity_errors import Errors
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.scans import Scan, sidecar_path, write_scan
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

MHZ, DWELL, POINTS, N = 123.25, 5e-4, 256, 16
WHOLE_PPM = spectra.ppm_axis(POINTS, DWELL, MHZ)
PPM = WHOLE_PPM[np.searchsorted(WHOLE_PPM, 0.0) :][:72]
SD, SUBJECTS, PER = 0.08, 16, 8


def lines(rng, n):
    """Complex spectra (n, conditions, W) of subjects: three lines of differing size, of which OFF alone has one."""
    shapes = np.stack([0.06 / (0.06 + 1j * (PPM - c)) for c in (2.0, 3.0, 3.7)])
    size = 1 + 0.3 * rng.standard_normal((n, 3))
    return np.stack([size @ shapes, size[:, 1:] @ shapes[1:]], axis=1)


def noise(rng, shape):
    return SD * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


class Made:
    """Eight training and eight test subjects of two sites; files as earlier stages write them."""

    def __init__(self, folder, split_unit="subject", n=N):
        self.folder, self.n, rng = folder, n, generator(1, "study")
        self.signals = lines(rng, SUBJECTS)
        self.rows = self.signals[:, :, None] + noise(rng, (SUBJECTS, 2, n, len(PPM)))
        self.scales = 1.0 + np.arange(SUBJECTS)
        self.units = [f"sub-{i:02d}_acq-x" for i in range(SUBJECTS)]
        folders = [unit.split("_")[0] for unit in self.units]
        write_table(folder / "units.tsv", pd.DataFrame({"unit": self.units, "folder": folders}))
        by_subject = split_unit == "subject"
        self.tests = range(PER, SUBJECTS) if by_subject else range(SUBJECTS)
        if by_subject:
            parts = {"training": [(i, "train") for i in range(PER)], "heldout": [(i, "test") for i in self.tests]}
        else:
            parts = {"training": [(i, None) for i in range(SUBJECTS)]}
        for name, members in parts.items():
            entries, values = [], []
            for i, split in members:
                for c, condition in enumerate(("OFF", "ON")):
                    for t in range(n):
                        values.append(self.rows[i, c, t])
                        entries.append(
                            {"row": len(entries), "unit": self.units[i], "subject": f"{i:02d}", "site": "ab"[i % 2]}
                            | {"condition": condition, "transient": t, "split": split or ("train", "test")[t % 2]}
                            | {"scale": self.scales[i], "noise_sd": SD * self.scales[i] / np.sqrt(POINTS)}
                            | {"n_points": POINTS}
                        )
            (folder / name).mkdir()
            np.save(folder / name / "spectra.npy", np.array(values, np.complex64))
            write_table(folder / name / "index.tsv", pd.DataFrame(entries))
            grid = {"ppm": PPM.tolist(), "conditions": ["OFF", "ON"], "split_unit": split_unit}
            write_json(folder / name / "grid.json", grid)
        self.heldout = folder / name

    def write(self, path, values, i, **facts):
        fids = spectra.from_window(values * self.scales[i], PPM, POINTS, DWELL, MHZ)
        tags = ("DIM_DYN", "DIM_EDIT")
        write_scan(path, Scan(fids[:, :, None], MHZ, DWELL, {"EchoTime": 0.07}, ("OFF", "ON"), dimensions=tags))
        write_json(sidecar_path(path), facts)

    def prefix(self, i):
        return self.folder / "derivatives" / self.units[i].split("_")[0] / "mrs" / self.units[i]

    def reconstruct(self, make):
        for i in self.tests:
            self.write(cells.reconstruction_path(self.prefix(i)), make(i), i)

    def synthesise(self, mode, decoder, make):
        """Write two replicates of six transients, of `make(subject, generator)`: (conditions, 12, W)."""
        plan = {"Replicates": [{"NReal": 2, "DynRange": [6 * r, 6 * r + 6]} for r in range(2)]}
        for i in self.tests:
            values = make(i, generator(2, mode, i))
            self.write(cells.synthetic_path(self.prefix(i), mode, decoder), values, i, Plan=plan)

    def run(self, *more, name="fidelity"):
        options = {"units": self.folder / "units.tsv", "training": self.folder / "training", "heldout": self.heldout}
        options |= {"derivatives": self.folder / "derivatives", "seed": 3, "bootstrap": 200}
        options |= {"output": self.folder / f"{name}.tsv", "embedding": self.folder / f"{name}_embedding.tsv"}
        fidelity.main([word for key, value in options.items() for word in (f"--{key}", str(value))] + list(more))
        return read_table(options["output"]), read_table(options["embedding"])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = Made(tmp_path_factory.mktemp("fidelity"))
    mean = made.signals[:PER].mean(axis=0)
    made.reconstruct(lambda i: np.repeat(made.signals[i][:, None], N, axis=1))
    shape = (2, 12, len(PPM))
    made.synthesise("interpolation", "sampled", lambda i, rng: made.signals[i][:, None] + noise(rng, shape))
    made.synthesise("random", "sampled", lambda i, rng: mean[:, None] + 0.3 * noise(rng, shape))
    made.synthesise("hybrid", "sampled", lambda i, rng: 2 * made.signals[i][:, None] + noise(rng, shape))
    return made


@pytest.fixture(scope="module")
def tables(study):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity.metrics, "MOST_GROUPS", 4)  # quicker
        patch.setattr(embedding, "MOST_POINTS", 300)
        return study.run("--decoders", "sampled")


def value(table, metric, source, condition="OFF", region="0.2-4.2", column="value"):
    names = {"metric": metric, "source": source, "condition": condition, "region_ppm": region}
    (found,) = table.loc[np.all([table[name] == text for name, text in names.items()], axis=0), column]
    return found


def test_ceiling_is_that_of_real_and_floor_that_of_noise(tables):
    table, _ = tables
    for column, source in (("ceiling", "real"), ("floor", "noise")):
        own = table[table["source"] == source]
        assert len(own) > 30
        np.testing.assert_allclose(own[column], own["value"])
    whole = table[table["source"] == "interpolation"]
    for name in ("precision", "recall", "coverage"):
        assert (whole.loc[whole["metric"] == f"{name}_transients", "floor"] == 0).all()
    assert set(table["condition"]) == {"OFF", "ON", "DIFF"}
    assert (table["n"] == PER).all()


@pytest.mark.parametrize("condition", ["OFF", "DIFF"])
def test_source_of_the_right_distribution_is_at_the_ceiling(tables, condition):
    table, _ = tables
    for name, margin in (("precision", 0.15), ("recall", 0.25), ("coverage", 0.25), ("frechet", 0.3), ("mmd", 0.05)):
        found = value(table, f"{name}_transients", "interpolation", condition)
        assert found == pytest.approx(value(table, f"{name}_transients", "real", condition), abs=margin), name
    assert value(table, "classifier_accuracy_transients", "interpolation", condition) < 0.7
    assert value(table, "mmd_p_transients", "interpolation", condition) > 0.05


def test_one_person_for_all_lacks_recall(tables):
    table, _ = tables
    for source in ("random", "population_mean_noisy"):
        assert value(table, "recall_transients", source) < value(table, "recall_transients", "real") / 2
        assert value(table, "precision_transients", source) > 0.9
    assert value(table, "frechet_averages", "random") > value(table, "frechet_averages", "real") + 0.3
    assert value(table, "classifier_accuracy_transients", "random") > 0.95  # too little noise


def test_wrong_size_is_not_scaled_away(tables):
    table, _ = tables
    assert value(table, "mmd_p_transients", "hybrid") < 0.05
    assert value(table, "mmd_transients", "hybrid", column="ci_low") > 0
    assert value(table, "precision_transients", "hybrid") < 0.5
    assert value(table, "frechet_averages", "hybrid") > 1


def test_reconstruction_without_noise_is_off_by_the_noise(tables, study):
    table, _ = tables
    for condition, variance in (("OFF", SD**2), ("DIFF", 2 * SD**2)):
        pick = (lambda x: x[:, 0]) if condition == "OFF" else (lambda x: x[:, 1] - x[:, 0])
        inside = (PPM >= 1.8) & (PPM <= 2.2)
        rows = pick(study.rows)[PER:, :, inside]
        expected = np.mean([2 * variance * inside.sum() * N / np.sum(np.abs(one) ** 2) for one in rows])
        assert value(table, "nmse_transients", "real", condition, "1.8-2.2") == pytest.approx(expected, rel=1e-4)
        found = value(table, "nmse_transients", "reconstruction", condition, "1.8-2.2")
        assert found == pytest.approx(expected, rel=0.15)
        assert value(table, "nmse_averages", "reconstruction", condition, "1.8-2.2") < 2 * expected / N
        assert value(table, "nmse_averages", "noise", condition, "1.8-2.2") > 0.9
        own, other = (value(table, "nmse_averages", s, condition) for s in ("reconstruction", "population_mean"))
        assert own < other / 5


def test_embedding(tables, study):
    _, places = tables
    assert list(places.columns) == ["method", "split", "source", "decoder", "site", "unit", "x", "y"]
    counts = places.groupby("method").size()
    assert set(counts.index) == {"pca", "tsne"}
    assert 200 < counts.max() <= 300
    pca = places[places["method"] == "pca"]
    assert set(pca["split"]) == {"training", "held-out", "synthetic", "noise"}
    np.testing.assert_allclose(pca.loc[pca["split"] == "training", ["x", "y"]].mean(), 0, atol=0.02)  # thinned
    assert set(pca.loc[pca["split"] == "held-out", "unit"]) == set(study.units[PER:])
    centres = places.groupby(["method", "source"])[["x", "y"]].mean()
    for method in ("pca", "tsne"):
        gap = np.linalg.norm(centres.loc[method, "noise"] - centres.loc[method, "real"])
        assert gap > 3 * np.linalg.norm(centres.loc[method, "interpolation"] - centres.loc[method, "real"])
    words = json.loads((study.folder / "fidelity_embedding.json").read_text())
    assert "%" in words["method"]["Levels"]["pca"]


def test_one_transient_of_each_scan_twice_the_same_bytes(tmp_path):
    made = Made(tmp_path, n=1)
    made.reconstruct(lambda i: made.rows[i])
    table, places = made.run("--modes")
    made.run("--modes", name="again")
    for name in ("{}.tsv", "{}_embedding.tsv", "{}.json"):
        first, second = ((tmp_path / name.format(one)).read_bytes() for one in ("fidelity", "again"))
        assert first == second, name
    assert not table["metric"].str.endswith("_averages").any()
    copies = table[(table["source"] == "reconstruction") & (table["metric"] == "nmse_transients")]
    np.testing.assert_allclose(copies["value"], 0, atol=1e-9)
    assert set(places["source"]) == {"real", "reconstruction", "noise"}


def test_split_by_transients_has_no_intervals(tmp_path):
    made = Made(tmp_path, split_unit="transient")
    made.reconstruct(lambda i: np.repeat(made.signals[i][:, None], N, axis=1))
    table, _ = made.run("--modes")
    assert table["ci_low"].isna().all()
    assert "same subjects" in json.loads((tmp_path / "fidelity.json").read_text())["TableDescription"]
    assert value(table, "precision_transients", "real") > 0.8


def test_file_without_plan_is_named(study, tmp_path):
    path = cells.synthetic_path(study.prefix(PER), "random", "mean")
    path.write_bytes(b"not empty")
    write_json(sidecar_path(path), {"Plan": {}})
    with pytest.raises(InputError, match=r"synthRandomMean_svs\.json: no plan"):
        fidelity_data.ranges_of(path)


def test_sizes_are_what_every_scan_has():
    ranges = [{("random", "mean"): [(0, 38), (38, 76)]}]
    assert fidelity_data.common_sizes(10, [70, 90], ranges) == fidelity_data.Sizes(40, 1, 38)
    assert fidelity_data.common_sizes(2, [30, 90], ranges) == fidelity_data.Sizes(30, 1, 30)
    assert fidelity_data.common_sizes(800, [30, 90], []) == fidelity_data.Sizes(1, 1, 30)


def test_averages_are_of_disjoint_transients():
    block = np.arange(12.0)[None, :, None]
    found = fidelity_data.averages([block], fidelity_data.Sizes(1, 3, 4), generator(1, "averages"))
    assert found.shape == (1, 3, 1)
    assert found.sum() * 4 == pytest.approx(66)


def test_subjects_are_chosen_as_the_other_groups_sites():
    sites = {f"a{i}": "a" for i in range(5)} | {f"b{i}": "b" for i in range(5)}
    chosen = fidelity_data.choose_subjects(sites, ["b", "b", "b", "c"], 4, generator(1, "choice"))
    assert sorted(sites[name] for name in chosen) == ["a", "b", "b", "b"]
    assert len(set(chosen)) == 4


def test_cloud_is_thinned_over_scans():
    cloud = Cloud("training", "real", None, list("abcd"), list("xxyy"), np.arange(24.0).reshape(4, 6, 1))
    spectra_, scans = cloud.thinned(8)
    assert spectra_[:, 0].tolist() == [0, 5, 6, 11, 12, 17, 18, 23]
    assert scans.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(cloud.thinned(2)[0]) == 2


def test_tsne_of_few_points_is_missing():
    assert np.isnan(tsne(np.ones((5, 2)), 1)).all()


def test_of_a_large_study_equal_groups_are_compared_and_all_are_averaged(tmp_path, monkeypatch):
    for module in (fidelity, fidelity_data):
        monkeypatch.setattr(module, "MOST_SUBJECTS", 3)
        monkeypatch.setattr(module, "MOST_AXES_POINTS", 4 * (fidelity_data.MOST_POINTS // 3))
    monkeypatch.setattr(embedding, "MOST_POINTS", 60)
    made = Made(tmp_path, n=2)
    made.reconstruct(lambda i: np.repeat(made.signals[i][:, None], 2, axis=1))
    table, places = made.run("--modes")
    compared = ~table["metric"].str.startswith("nmse")
    assert set(table.loc[compared, "n"]) == {3} and set(table.loc[~compared, "n"]) == {PER}
    said = json.loads((tmp_path / "fidelity.json").read_text())["TableDescription"]
    assert "3 test with 3 training subjects" in said and "axes come from 4 of 5 other training subjects" in said
    units = places[places["split"] != "training"].groupby("split")["unit"].unique()
    assert {len(names) for names in units} == {3}
    assert places.loc[places["split"] == "training", "unit"].nunique() == 7
    # The mean of all training subjects, not of those compared
    inside = (PPM >= 1.8) & (PPM <= 2.2)
    rows = made.rows.astype(np.complex64)[:, 0][..., inside]
    mean = rows[:PER].mean(axis=(0, 1))
    expected = np.mean([np.sum(np.abs(mean - one) ** 2) / np.sum(np.abs(one) ** 2) for one in rows[PER:]])
    assert value(table, "nmse_transients", "population_mean", "OFF", "1.8-2.2") == pytest.approx(expected, rel=1e-5)


def test_errors_of_scans_with_other_metrics_are_kept_apart():
    errors = Errors()
    errors.add("a", {("x",): 1.0})
    errors.add("b", {("y",): 5.0, ("x",): 3.0})
    errors.add("a", {("x",): 2.0})
    assert errors.means(("x",)).tolist() == [1.5, 3.0]
    assert errors.means(("y",)).tolist() == [5.0]
