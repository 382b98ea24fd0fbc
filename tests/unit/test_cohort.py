"""Synthetic subjects beside real ones: known populations, missing groups, files."""

import json

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import cohort, interval_cells, spectra, subject_model
from mrs_synthesis import cohort_statistics as statistics
from mrs_synthesis.cohort_statistics import Group
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.scans import Scan, read_scan, write_scan
from mrs_synthesis.stage import InputError, SkippedError

RATIO = {"condition": "OFF", "metabolite": "Ins"}


def group(rng, n, mean=1.0, sd=0.1, noise=0.0, site="A"):
    value = mean + np.hypot(sd, noise) * rng.standard_normal(n)
    return Group(value, np.full(n, noise), np.full(n, site))


def groups(rng, synthetic=(100, 1.0, 0.1), noise=0.0, n=30):
    return {
        "test": group(rng, n, noise=noise),
        "train": group(rng, n, noise=noise),
        "synthetic": group(rng, *synthetic),
    }


def test_equal_populations_have_sd_ratio_one_and_intervals_that_hold_it():
    """Over 200 studies: mean log ratio 0, and the intervals hold 1 and a difference of 0 nearly as promised."""
    logs, hits = [], []
    for k in range(200):
        rng = np.random.default_rng(k)
        made = groups(rng)
        own = {name: statistics.moments(part, None, rng, 200) for name, part in made.items()}
        ratio, low, high = statistics.sd_ratio(own["synthetic"], own["test"])
        _, below, above = statistics.difference(own["synthetic"], own["test"])
        logs.append(np.log(ratio))
        hits.append((low <= 1 <= high, below <= 0 <= above))
    assert abs(np.mean(logs) - 0.5 * (1 / 29 - 1 / 99)) < 0.03  # E log s = -1 / (2 (n - 1)) nearly; SE 0.011
    assert (np.mean(hits, axis=0) > 0.86).all() and (np.mean(hits, axis=0) < 0.995).all()


def test_p_is_uniform_where_populations_are_equal_and_small_where_they_are_not():
    values, found = [], []
    for k in range(60):
        rng = np.random.default_rng(k)
        made = groups(rng, (40, 1.0, 0.1), n=8)
        values.append(statistics.energy_p(made["synthetic"], made["test"], rng, 200))
        narrow = group(rng, 40, sd=0.01)
        found.append(statistics.energy_p(narrow, made["test"], rng, 200))
    assert 0.35 < np.mean(values) < 0.65  # SE 0.037
    assert np.mean(np.array(values) < 0.05) <= 0.15
    assert np.mean(np.array(found) < 0.05) > 0.8


def test_measurement_noise_is_taken_off_the_sd_and_put_on_for_the_test():
    rng = np.random.default_rng(3)
    row = statistics.compare(groups(rng, (400, 1.0, 0.1), noise=0.15, n=400), rng, 200)
    assert row["sd_test"] == pytest.approx(np.hypot(0.1, 0.15), rel=0.12)
    assert row["sd_test_corrected"] == pytest.approx(0.1, rel=0.3) and row["crlb_test"] == 0.15
    assert row["sd_ratio_test"] == pytest.approx(0.1 / np.hypot(0.1, 0.15), rel=0.15)
    assert row["sd_ratio_test_high"] < 0.7
    assert row["p_test"] < 0.02 < row["p_test_noise"]


def test_all_sites_count_synthetic_subjects_by_the_real_ones():
    """Two sites of means 1 and 2, three times as many real subjects at the first: 1.25, and 0.433 between sites."""
    rng = np.random.default_rng(1)
    made = {
        "synthetic": Group(np.repeat([1.0, 2.0], 50), np.zeros(100), np.repeat(["A", "B"], 50)),
        "test": Group(np.repeat([1.0, 2.0], [6, 2]), np.zeros(8), np.repeat(["A", "B"], [6, 2])),
        "train": Group(np.repeat([1.0, 2.0], [3, 1]), np.zeros(4), np.repeat(["A", "B"], [3, 1])),
    }
    row = statistics.compare(made, rng, 200)
    assert row["mean_synthetic"] == pytest.approx(1.25) and row["sd_synthetic"] == pytest.approx(np.sqrt(3) / 4)
    assert row["difference_test"] == pytest.approx(0) and row["n_synthetic"] == 100
    assert row["p_test"] == 1.0  # permuted within sites nothing changes


def test_groups_of_no_or_few_subjects_have_no_interval():
    rng = np.random.default_rng(1)
    made = groups(rng) | {"train": group(rng, 0), "test": group(rng, 2)}
    row = statistics.compare(made, rng, 200)
    assert row["n_train"] == 0
    assert np.isnan([row["mean_train"], row["sd_train"], row["difference_train"], row["p_ceiling"]]).all()
    assert np.isfinite([row["difference_test"], row["sd_ratio_test"], row["p_test"]]).all()
    assert np.isnan([row["difference_test_low"], row["sd_ratio_test_high"]]).all()


# The table, from files


def fits_of(base, what, values, index):
    table = pd.DataFrame({"cell": range(len(values)), **RATIO, "per_tcr": values, "per_tcr_sd": 0.01})
    write_table(f"{base}_desc-{what}_mrsfit.tsv", table)
    write_table(f"{base}_desc-{what}_index.tsv", pd.DataFrame(index, columns=list(interval_cells.INDEX_COLUMNS)))


@pytest.fixture
def study(tmp_path):
    """Site A: 6 test and 8 training subjects; site B: 4 test subjects only; truth 0.9 of every estimate."""
    rng = np.random.default_rng(5)
    units, index, cells, truth = [], [], [], []
    for k, (site, split) in enumerate([("A", "test")] * 6 + [("A", "train")] * 8 + [("B", "test")] * 4):
        unit, value = f"sub-{k:02d}_acq-x", 1 + 0.1 * rng.standard_normal()
        units.append((unit, f"sub-{k:02d}", f"{k:02d}", site, split))
        truth.append((f"{k:02d}", "Ins", 0.9 * value))
        if split == "test":
            cells += [(unit, f"{k:02d}", "reference", value, 0.01), (unit, f"{k:02d}", "real", 9.0, 0.01)]
        else:
            index.append((unit, split))
            base = tmp_path / "derivatives" / f"sub-{k:02d}" / "mrs" / unit
            fits_of(base, "mean", [value], [(0, unit, 80, 0, 0)])
    for site in "AB":
        values = 1 + 0.1 * rng.standard_normal(50)
        fits_of(tmp_path / "cohort" / site, "random", values, [(k, site, 0, 0, k) for k in range(50)])
    write_table(tmp_path / "units.tsv", pd.DataFrame(units, columns=["unit", "folder", "subject", "site", "split"]))
    write_table(tmp_path / "training" / "index.tsv", pd.DataFrame(index, columns=["unit", "split"]))
    columns = ["unit", "subject", "source", "per_tcr", "per_tcr_sd"]
    write_table(tmp_path / "concentrations.tsv", pd.DataFrame(cells, columns=columns).assign(**RATIO))
    write_table(tmp_path / "truth.tsv", pd.DataFrame(truth, columns=["subject", "metabolite", "per_tcr"]))
    return tmp_path


def tabulate(folder, *more):
    words = ["table", "--ratios", "OFF:Ins", "--seed", "1", "--bootstrap", "100", "--output", str(folder / "out.tsv")]
    for name in ("units.tsv", "training", "concentrations.tsv", "derivatives", "cohort"):
        words += [f"--{name.partition('.')[0]}", str(folder / name)]
    cohort.main([*words, *more])
    return read_table(folder / "out.tsv").set_index("site")


def test_table_of_a_study_with_a_site_that_was_not_trained_on(study):
    table = tabulate(study, "--truth", str(study / "truth.tsv"))
    assert table.index.tolist() == ["A", "B", "all"]
    assert table["n_test"].tolist() == [6, 4, 10] and table["n_train"].tolist() == [8, 0, 8]
    assert table["n_synthetic"].tolist() == [50, 50, 100]
    cells = read_table(study / "concentrations.tsv")
    real = cells[cells["source"] == "reference"]["per_tcr"]
    assert table.loc["all", "mean_test"] == pytest.approx(real.mean())
    assert table.loc["B", "sd_test"] == pytest.approx(real[-4:].std())
    assert table.loc["B", "mean_truth"] == pytest.approx(0.9 * real[-4:].mean())
    assert np.isnan(table.loc["B", ["mean_train", "sd_ratio_train", "p_ceiling"]].astype(float)).all()
    assert table.loc["A", "p_ceiling"] > 0.001
    dictionary = json.loads((study / "out.json").read_text())
    assert set(table.columns) <= set(dictionary)


def test_table_is_the_same_again_and_needs_no_truth(study):
    tabulate(study)
    first = (study / "out.tsv").read_bytes()
    assert "mean_truth" not in tabulate(study).columns
    assert (study / "out.tsv").read_bytes() == first


def test_a_site_whose_synthesis_failed_is_left_out(study, capsys):
    (study / "cohort" / "B_desc-random_mrsfit.tsv").write_text("")
    table = tabulate(study)
    assert table.loc["B", "n_synthetic"] == 0 and np.isnan(table.loc["B", "sd_ratio_test"])
    assert "left out: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "units.tsv").write_text("unit\tfolder\n"), "no column subject"),
        (lambda f: (f / "cohort" / "A_desc-random_mrsfit.tsv").unlink(), "no such file"),
        (lambda f: fits_of(f / "cohort" / "A", "random", [1.0, 2.0], [(0, "A", 0, 0, 0)]), "quantify these again"),
        (
            lambda f: write_table(
                f / "concentrations.tsv",
                read_table(f / "concentrations.tsv").assign(source="real"),
            ),
            "no reference cell",
        ),
        (lambda f: [(f / "cohort" / f"{s}_desc-random_mrsfit.tsv").write_text("") for s in "AB"], "no site has"),
    ],
)
def test_errors_are_one_line(study, damage, words):
    damage(study)
    with pytest.raises(InputError, match=words) as error:
        tabulate(study)
    assert "\n" not in str(error.value)


# Draws


@pytest.fixture
def trained(tmp_path):
    """A model with one code of prior variance 0.04, whose mean is 0.5 at site A; and one scan."""
    points, dwell, frequency = 512, 5e-4, 123.25
    ppm = spectra.ppm_axis(points, dwell, frequency)
    ppm = ppm[(ppm > 0) & (ppm < 4.4)]
    mean = 10 * np.exp(-0.5 * ((ppm - 3.03) / 0.05) ** 2)[None].astype(complex)
    direction = np.concatenate([np.exp(-0.5 * ((ppm - 2.0) / 0.05) ** 2), 0 * ppm])
    direction /= np.linalg.norm(direction)
    model = subject_model.SubjectModel(
        mean, direction[None], np.array([0.04]), np.array([[0.2]]), np.zeros(1), {"A": np.array([0.5])}, 10**9
    )
    grid = {"ppm": ppm.tolist(), "conditions": ["UNEDITED"], "split_unit": "subject"}
    grid |= {"n_points": points, "dwell_s": dwell, "frequency_mhz": frequency}
    subject_model.save(tmp_path / "model", model, {"model": "subject", "grid": grid})
    write_json(tmp_path / "grid.json", grid)
    header = {"EchoTime": 0.035, "PatientName": "somebody"}
    write_scan(tmp_path / "scan.nii.gz", Scan(np.ones((1, 1, 1, points), complex), frequency, dwell, header))
    (tmp_path / "failed.nii.gz").write_text("")
    return tmp_path, ppm, direction


def draw(folder, site="A", scans=("failed", "scan"), draws=400, seed=1):
    words = ["draws", "--unit", site, "--site", site, "--model", str(folder / "model"), "--seed", str(seed)]
    words += ["--training", str(folder)]
    words += ["--scans", *(str(folder / f"{name}.nii.gz") for name in scans), "--draws", str(draws)]
    cohort.main([*words, "--output", str(folder / "out.nii.gz"), "--index", str(folder / "out.tsv")])
    return read_scan(folder / "out.nii.gz")


def test_draws_are_those_of_the_site_on_the_grid_s_raster(trained):
    folder, ppm, direction = trained
    for site, expected in (("A", 0.5), ("elsewhere", 0.0)):
        scan = draw(folder, site)
        values = scan.fids[0, :, 0] @ spectra.window_matrix(ppm, scan.n_points, scan.dwell_s, scan.frequency_mhz)
        codes = values.real @ direction[: ppm.size]
        assert codes.size == 400 and codes.mean() == pytest.approx(expected, abs=0.04)  # 4 standard errors
        assert codes.std() == pytest.approx(0.2, rel=0.15)
    assert "SYNTHETIC" in scan.header["Synthetic"]["Description"] and scan.header["EchoTime"] == 0.035
    assert "PatientName" not in scan.header
    assert json.loads((folder / "out.json").read_text())["Synthetic"] is True
    assert read_table(folder / "out.tsv")["draw"].tolist() == list(range(400))


def test_draws_follow_the_seed_and_the_site(trained):
    folder, *_ = trained
    first = draw(folder).fids
    bytes_ = (folder / "out.nii.gz").read_bytes()
    draw(folder)
    assert (folder / "out.nii.gz").read_bytes() == bytes_
    assert not np.allclose(draw(folder, seed=2).fids, first)


def test_draws_refuse_what_they_cannot_use(trained):
    folder, *_ = trained
    with pytest.raises(InputError, match="at least 3"):
        draw(folder, draws=2)
    with pytest.raises(SkippedError, match="no scan was preprocessed"):
        draw(folder, scans=["failed"])
    config = json.loads((folder / "model" / "config.json").read_text())
    write_json(folder / "model" / "config.json", config | {"model": "other"})
    with pytest.raises(InputError, match="train the model again") as error:
        draw(folder)
    assert "\n" not in str(error.value)
    write_json(folder / "model" / "config.json", config)
    write_json(folder / "grid.json", config["grid"] | {"frequency_mhz": 127.7})
    with pytest.raises(InputError, match=r"trained on another study \(other frequency_mhz\)"):
        draw(folder)


def test_the_paper_s_model_draws_from_its_prior(tmp_path):
    """Codes come from the standard normal prior, the same for both conditions of a pair, whatever any subject's are."""
    torch = pytest.importorskip("torch")
    from mrs_synthesis import generator
    from mrs_synthesis.vae import to_complex

    class Decoder:
        code_covariance = torch.eye(3).expand(2, 3, 3)

        def decode(self, codes, condition):
            return torch.stack([codes, 0 * codes], dim=1) + condition[:, None, None]

    made = generator.PaperGenerator(Decoder(), {}, None, None, 0.5)
    drawn = cohort.random_spectra(made, 2000, np.random.default_rng(0))
    assert drawn.shape == (2, 2000, 3) and to_complex(torch.ones(1, 2, 3)).shape == (1, 3)
    assert np.allclose((drawn[1] - drawn[0]).real, 1, atol=1e-5)
    assert drawn[0].real.std() == pytest.approx(1, abs=0.05) and abs(drawn[0].real.mean()) < 0.06
