"""Grids of variants: parts of the training set, names, sizes, the table from estimates of known error, the figure."""

import hashlib
import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import fitting, grid, grid_figure, grid_training, study_size
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.grid import Variant
from mrs_synthesis.stage import InputError
from mrs_synthesis.training_set import TrainingSet

POINTS = 8
# Subjects of each site by split; two sites of unequal size
SUBJECTS = {("A", "train"): 12, ("B", "train"): 4, ("A", "validation"): 3, ("B", "validation"): 1}


def index_table(subjects=None):
    """The index of a training set: two transients of OFF and ON of every subject."""
    rows = []
    for (site, split), number in (subjects or SUBJECTS).items():
        for n in range(number):
            name = f"{site}{split[0]}{n:02d}"
            for condition in ("OFF", "ON"):
                for transient in (0, 1):
                    rows.append({"row": len(rows), "unit": f"sub-{name}_x", "subject": name, "site": site})
                    rows[-1] |= {"condition": condition, "transient": transient, "split": split}
                    rows[-1] |= {"scale": 1.0, "noise_sd": 0.1, "n_points": 64}
    return pd.DataFrame(rows)


@pytest.fixture
def training(tmp_path):
    """A training set whose spectra hold the number of their row."""
    folder = tmp_path / "training"
    index = index_table()
    write_table(folder / "index.tsv", index)
    write_json(folder / "grid.json", {"ppm": [*range(POINTS)], "conditions": ["OFF", "ON"], "split_unit": "subject"})
    spectra = (np.arange(len(index))[:, None] + 1j * np.arange(POINTS)).astype(np.complex64)
    np.save(folder / "spectra.npy", spectra)
    return folder


def subjects_of(index, rows, split="train"):
    part = index.loc[rows]
    return set(part.loc[part["split"] == split, "subject"])


# Parts of the training set


def test_smaller_parts_are_contained_in_larger_ones_and_have_each_sites_share():
    index = index_table()
    parts = {n: grid_training.chosen_rows(index, n, None, 5) for n in (4, 8, 16)}
    taken = {n: subjects_of(index, rows) for n, rows in parts.items()}
    assert taken[4] < taken[8] < taken[16] == set(index.loc[index["split"] == "train", "subject"])
    # three quarters of the training subjects are of site A
    assert {n: sum(name[0] == "A" for name in names) for n, names in taken.items()} == {4: 3, 8: 6, 16: 12}
    kept = {n: subjects_of(index, rows, "validation") for n, rows in parts.items()}
    assert kept[4] < kept[8] < kept[16]
    assert [len(kept[n]) for n in (4, 8, 16)] == [1, 2, 4]
    assert set(parts[4]) < set(parts[8])
    assert subjects_of(index, grid_training.chosen_rows(index, 4, None, 6)) != taken[4]


def test_order_depends_on_nobody_elses_place_in_the_table():
    index = index_table()
    shuffled = index.sample(frac=1, random_state=1).reset_index(drop=True)
    shuffled["row"] = shuffled.index
    rows, other = grid_training.chosen_rows(index, 5, None, 5), grid_training.chosen_rows(shuffled, 5, None, 5)
    assert subjects_of(index, rows) == subjects_of(shuffled, other)


@pytest.mark.parametrize(("all_of", "of", "n", "kept"), [(16, 96, 8, 2), (2, 8, 1, 1), (4, 8, 8, 4), (3, 8, 7, 3)])
def test_validation_subjects_become_fewer_in_proportion(all_of, of, n, kept):
    assert grid_training.fewer(all_of, of, n) == kept


def test_part_without_a_site_has_no_row_of_it_and_the_spectra_of_its_rows(training, tmp_path):
    call = ["--training", str(training), "--seed", "5", "--output", str(tmp_path / "part")]
    grid_training.main([*call, "--without", "A", "--n", "3"])
    whole, part = TrainingSet(training), TrainingSet(tmp_path / "part")
    assert set(part.index["site"]) == {"B"} and part.index["split"].eq("train").sum() == 3 * 4
    digest = hashlib.sha256((tmp_path / "part" / "spectra.npy").read_bytes()).hexdigest()
    assert part.grid == whole.grid | {"spectra_sha256": digest, "part_of": whole.hashes()["spectra.npy"]}
    keys = ["unit", "condition", "transient"]
    origin = part.index.merge(whole.index, on=keys, suffixes=("", "_whole"), validate="one_to_one")
    np.testing.assert_array_equal(part.spectra[origin["row"]], whole.spectra[origin["row_whole"]])
    assert part.counts()["train"] == {"subjects": 3, "units": 3, "transients": 6, "spectra": 12}


def test_test_rows_are_no_part_of_a_part(training):
    index = index_table(SUBJECTS | {("A", "test"): 2})
    rows = grid_training.chosen_rows(index, None, None, 5)
    assert set(index.loc[rows, "split"]) == {"train", "validation"}
    assert len(rows) == 4 * 20


def test_parts_that_cannot_be_are_refused_in_one_line(training, tmp_path):
    index = index_table({("A", "train"): 2, ("B", "train"): 2, ("B", "validation"): 1})
    for without, reason in (("B", "no validation subject is left without site B"), ("C", "no such site")):
        with pytest.raises(InputError, match=reason) as error:
            grid_training.chosen_rows(index, 2, without, 5)
        assert "\n" not in str(error.value)
    write_json(training / "grid.json", json.loads((training / "grid.json").read_text()) | {"split_unit": "transient"})
    with pytest.raises(InputError, match="split by transient, expected by subject"):
        grid_training.write_part(training, tmp_path / "part", n=2, without=None, seed=5)


# Variants


def test_names_say_what_a_variant_is_and_are_read_back():
    full = Variant("subject", 2603, 8, "A")
    assert (full.name, full.part) == ("model-subject_seed-2603_n-8_without-A", "n-8_without-A")
    for variant in (full, Variant("paper", 1), Variant("paper", 1, 24), Variant("subject", 0, None, "site2")):
        assert Variant.of(variant.name) == variant
    assert Variant("paper", 1).part == ""
    with pytest.raises(InputError, match="expected a name like"):
        Variant.of("paper_8")


def test_variants_are_all_combinations_that_there_are_subjects_for():
    left = {"": 16, "A": 4, "B": 12}
    possible, too_few = grid.variants(["subject", "paper"], [1, 2], [4, 12], left)
    assert len(possible) == 2 * 2 * 5 and len(set(possible)) == len(possible)
    # of site B there are 4, and without it 12
    assert {variant.part for variant in possible} == {"n-4", "n-12", "without-A", "n-4_without-B", "without-B"}
    assert grid.variants(["subject"], [1], [4, 16], {"": 16})[0] == [Variant("subject", 1, 4), Variant("subject", 1)]
    assert {variant.part for variant in too_few} == {"n-12_without-A"} and len(too_few) == 4
    whole, none = grid.variants(["subject"], [1], [], {"": 16})
    assert whole == [Variant("subject", 1)] and not none
    with pytest.raises(InputError, match="training_subjects 24, but the study has 16"):
        grid.variants(["subject"], [1], [24], left)


# Size


def test_size_is_the_product_and_the_time_that_of_earlier_runs(tmp_path):
    size = study_size.GridSize(variants=4, trainings=3, scans=18, cells=10, fits=20, done=6, too_few=2)
    words = size.words(90)
    assert words.startswith("grid: 4 variants, 3 trainings, 180 cells, 360 fits, 6 of 18 scans fitted already")
    assert "2 variants are left out" in words and "about 1.5 min" in words
    assert "about" not in size.words(None)
    ask = {
        "trainings": {"subject": 2, "paper": 1},
        "model": "subject",
        "scans": 12,
        "cells": 10,
        "study_cells": 20,
        "fits": "quantify_batched",
    }
    assert study_size.duration(tmp_path, **ask) is None

    def benchmark(path, seconds):
        write_table(tmp_path / f"{path}.tsv", pd.DataFrame({"s": [seconds], "h:m:s": ["x"]}))

    def scans(path, *seconds):
        rows = [f"sub-{n}\t{kept}\t{s}\t0.1" for n, (s, kept) in enumerate((*((s, 0) for s in seconds), (900, 1)))]
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(["unit\tkept\tseconds\tcpu_seconds", *rows, "start-up\t0\t0\t800"])
        (tmp_path / f"{path}.units.tsv").write_text(text)

    for stage, seconds in (("synthesise", 3.0), ("augment", 1.0), ("quantify_batched", 8.0)):
        scans(f"{stage}/seen-0001", seconds - 0.5, seconds + 0.5)  # kept scans and start-up do not count
        scans(f"ablation/x/Mean/{stage}/seen-0001", 100 * seconds)  # another study's
    benchmark("train", 7.0)
    assert study_size.duration(tmp_path, **ask) is None  # nobody knows how long the model paper takes
    benchmark("grid/train/model-paper_seed-1_n-8", 50.0)
    # half as many cells as the study's take half of its fits' time
    assert study_size.duration(tmp_path, **ask) == pytest.approx(2 * 7 + 50 + 12 * (3 + 1 + 8 / 2))
    scans("grid/model-paper_seed-1_n-8/quantify_batched/heldout-0001", 5.0)
    scans("grid/model-paper_seed-1_n-8/cells/heldout-0001", 6.0)
    assert study_size.duration(tmp_path, **ask) == pytest.approx(2 * 7 + 50 + 12 * (6 + 5))


# The table

TRUTH = {"GABA+": np.array([0.20, 0.25, 0.30, 0.35]), "tNAA": np.array([1.2, 1.3, 1.5, 1.6])}
RATIOS = [("DIFF", "GABA+"), ("OFF", "tNAA")]
SITES = ["A", "A", "B", "B"]


def estimates(source, factors, n_real=2, n_total=8, decoder="n/a"):
    """Rows of a table of concentrations: the truth times a factor for each replicate, of four subjects."""
    rows = []
    for metabolite, values in TRUTH.items():
        for s, true in enumerate(values):
            for r, factor in enumerate(factors):
                rows.append({"unit": f"sub-{s}_x", "subject": f"{s}", "site": SITES[s], "session": None})
                rows[-1] |= {"source": source, "decoder": decoder, "n_real": n_real, "n_total": n_total}
                rows[-1] |= {"replicate": r, "cell": r, "metabolite": metabolite}
                rows[-1] |= {"condition": "DIFF" if metabolite == "GABA+" else "OFF", "per_tcr": true * factor}
    return pd.DataFrame(rows)


def tables(factor):
    study = [estimates("reference", [1.0], 20, 20), estimates("real", [1.2, 0.8]), estimates("real", [1.05], 8, 8)]
    study[1]["n_total"] = 2
    study = pd.concat(study, ignore_index=True)
    own = [estimates("reference", [1.0], 20, 20), estimates("duplicated", [1.2, 0.8])]
    own += [estimates("random", [factor, factor], decoder="sampled"), estimates("shrinkage", [1.3, 0.7])]
    return study, pd.concat(own, ignore_index=True)


def part_index(train, validation=1):
    return index_table({("A", "train"): train, ("A", "validation"): validation})


def make_table(factors, truth=None):
    """`factors`: of the estimates of each variant."""
    study = tables(1.0)[0]
    own = {variant: tables(factor)[1] for variant, factor in factors.items()}
    parts = {variant: part_index(variant.n or 16) for variant in factors}
    return grid.grid_table(study, own, parts, RATIOS, truth, n_resamples=100, seed=1)


def test_table_has_each_variants_error_beside_the_studys_real_transients():
    table = make_table({Variant("subject", 1, 4): 1.1, Variant("subject", 1): 1.05})
    assert set(table["test_site"]) == {"all"} and set(table["left_out_site"]) == {"none"}
    # of each variant and ratio: real ones alone (two and eight), the mode, and the control that knows other subjects
    assert len(table) == 2 * 2 * 4
    rows = table.set_index(["n_training", "source", "metabolite", "n_real"])
    for name in TRUTH:
        for n, percent in ((4, 10.0), (16, 5.0)):
            found = rows.loc[(n, "random", name, 2)]
            assert found["rmse_percent"] == pytest.approx(percent) and found["bias_percent"] == pytest.approx(percent)
            assert [found["rmse_ci_low"], found["bias_ci_high"]] == pytest.approx([percent, percent])
            slopes = found[["slope", "slope_ci_low", "slope_ci_high"]].tolist()
            assert slopes == pytest.approx([1 + percent / 100] * 3)
            real = rows.loc[(n, "real", name, 2)]
            assert real["rmse_percent"] == pytest.approx(20) and real["n"] == 4
        # between 20 % (two) and 5 % (eight), straight in log n against log error
        assert rows.loc[(4, "random", name, 2)]["n_eff"] == pytest.approx(4)
        assert rows.loc[(4, "shrinkage", name, 2)]["rmse_percent"] == pytest.approx(30)


def test_a_left_out_site_is_compared_on_its_own_subjects():
    table = make_table({Variant("subject", 1, None, "B"): 1.1, Variant("subject", 1): 1.05})
    made = table[(table["source"] == "random") & (table["metabolite"] == "tNAA")]
    keys = made[["left_out_site", "test_site", "n"]].itertuples(index=False, name=None)
    assert set(keys) == {("B", "B", 2), ("none", "all", 4), ("none", "A", 2), ("none", "B", 2)}
    assert len(made) == 4


def test_a_scan_that_failed_in_a_variant_is_left_out_of_its_real_transients_too():
    variant = Variant("subject", 1, 4)
    study, own = tables(1.1)
    own = own[own["unit"] != "sub-3_x"]
    table = grid.grid_table(study, {variant: own}, {variant: part_index(4)}, RATIOS, None, n_resamples=100, seed=1)
    assert set(table["n"]) == {3}


def test_on_the_phantom_estimates_are_compared_with_the_truth():
    rows = [
        {"subject": f"{s}", "metabolite": name, "per_tcr": value / 1.1}
        for name, true in TRUTH.items()
        for s, value in enumerate(true)
    ]
    table = make_table({Variant("subject", 1): 1.1}, pd.DataFrame(rows))
    assert table.loc[table["source"] == "random", "bias_percent"].tolist() == pytest.approx([21, 21])
    assert "reference" not in set(table["source"])


@pytest.fixture
def written(tmp_path):
    """The files of a study and two variants, of which one is the study itself."""
    study, own = tables(1.1)
    cells = pd.concat([study, own[~own["source"].isin(["reference"])]], ignore_index=True)
    fit = {"engine": "batched", "raw": 1.0, "crlb_percent": 5.0, "snr": 10.0, "fwhm_hz": 5.0, "converged": True}
    write_table(tmp_path / "concentrations.tsv", cells.assign(**fit))
    names = ("unit", "subject", "session", "site")
    units = study[list(names)].drop_duplicates().assign(folder=lambda t: "sub-" + t["subject"])
    write_table(tmp_path / "units.tsv", units)
    write_table(tmp_path / "training" / "index.tsv", part_index(16, 4))
    write_table(tmp_path / "grid" / "training" / "n-4" / "index.tsv", part_index(4))
    write_json(tmp_path / "training" / "grid.json", {"split_unit": "subject"})
    for unit, rows in own.groupby("unit"):
        base = tmp_path / "grid" / "model-subject_seed-1_n-4" / "derivatives" / unit.split("_")[0] / "mrs" / unit
        rows = rows.assign(cell=rows.groupby(["source", "replicate"], sort=False).ngroup(), **fit)
        columns = ["cell", "source", "decoder", "n_real", "n_total", "replicate"]
        write_table(f"{base}_desc-cells_index.tsv", rows[columns].drop_duplicates())
        fits = rows.assign(raw_sd=0.1).reindex(columns=fitting.COLUMNS)
        write_table(f"{base}_desc-batched_mrsfit.tsv", fits)
    return tmp_path


def call(folder, *more):
    names = ["model-subject_seed-1_n-4", "model-subject_seed-1"]
    files = {"units": "units.tsv", "training": "training", "concentrations": "concentrations.tsv", "folder": "grid"}
    words = [word for key, name in files.items() for word in (f"--{key}", str(folder / name))]
    words += ["--variants", *names, "--study", names[1], "--engine", "batched", "--seed", "1", "--bootstrap", "100"]
    return [*words, "--ratios", "DIFF:GABA+", "OFF:tNAA", "--output", str(folder / "tables" / "grid.tsv"), *more]


def test_table_is_written_with_its_dictionary_and_the_study_s_own_cells(written):
    grid.main(call(written))
    table = read_table(written / "tables" / "grid.tsv")
    described = json.loads((written / "tables" / "grid.json").read_text())
    assert set(table.columns) <= set(described) and "the reference" in described["TableDescription"]
    made = table[table["source"] == "random"]
    assert dict(zip(made["n_training"], made["n_validation"], strict=True)) == {4: 1, 16: 4}
    assert made["rmse_percent"].tolist() == pytest.approx([10] * 4)
    with pytest.raises(InputError, match=r"index\.tsv: no such file") as error:
        grid.main([word.replace("_n-4", "_n-8") for word in call(written)])
    assert "\n" not in str(error.value)


def test_a_scan_that_failed_is_left_out_and_stops_nothing(written, capsys):
    victim = next(written.rglob("sub-2_x_desc-batched_mrsfit.tsv"))
    victim.write_text("")
    grid.main(call(written))
    table = read_table(written / "tables" / "grid.tsv")
    counts = table[table["source"] == "random"].groupby("n_training")["n"].unique()
    assert counts[4].tolist() == [3] and counts[16].tolist() == [4]
    assert "left out:" in capsys.readouterr().out


# The figure


def figure_table():
    variants = {
        Variant(model, seed, n): 1 + 0.1 / n for model in ("subject", "paper") for seed in (1, 2) for n in (2, 8)
    }
    table = make_table(variants)
    table["decoder"] = table["decoder"].replace("n/a", np.nan)  # as it is read from a file
    return table


def test_figure_has_a_line_per_control_and_per_filling_of_each_model(tmp_path):
    table = figure_table()
    other = table.assign(n_real=4, n_total=16)
    rows = grid_figure.shown_rows(pd.concat([table, other, table.assign(test_site="A")]))
    assert len(rows) == len(table[(table["source"] != "real") | (table["n_real"] == 2)])
    lines = grid_figure.lines(rows)
    assert [(name, len(points)) for name, _, points in lines] == [
        ("linear shrinkage", 2 * 2),  # ratios x numbers
        ("random (sampled), model subject", 2 * 2 * 2),  # and seeds
        ("random (sampled), model paper", 2 * 2 * 2),
    ]
    styles = [(style["marker"], style["linestyle"]) for _, style, _ in lines]
    assert len(set(styles)) == 3  # they differ without colour


def test_figure_is_an_svg_of_equal_bytes(tmp_path):
    write_table(tmp_path / "grid.tsv", figure_table())
    for name in ("a", "b"):
        grid_figure.main(["--table", str(tmp_path / "grid.tsv"), "--output", str(tmp_path / f"{name}.svg")])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    axes = [part for part in root.iter() if part.get("id", "").startswith("axes_")]
    assert len(axes) == 2 * 2  # of each ratio the error and the slope
    with pytest.raises(InputError, match="no row of all sites"):
        grid_figure.write_figure(tmp_path / "c.svg", figure_table().assign(test_site="A"))
