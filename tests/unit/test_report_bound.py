"""The figure and the words of errors beside the physical limit."""

import json

import numpy as np
import pandas as pd
import pytest
from fake_results import N_REAL, N_TOTAL, FakeResults

from mrs_synthesis import report, report_bound, report_svg
from mrs_synthesis.files import write_json
from mrs_synthesis.report_data import load
from mrs_synthesis.scans import read_scan, sidecar_path, write_scan
from mrs_synthesis.share_of_bound import BEYOND, NONE, SHRINKAGE

MEASURE = "GABA+/tCr (DIFF)"


@pytest.fixture
def table():
    rows = [
        # source, decoder, n_real, error, gain
        ("real", None, 1, 30.0, None),
        ("real", None, 2, 20.0, None),
        ("real", None, 4, 14.0, None),
        ("random", "sampled", 2, 11.0, SHRINKAGE),
        ("random", "sampled", 4, 12.0, NONE),
        ("hybrid", "sampled", 4, 7.0, BEYOND),
        ("hybrid", "sampled", 2, 9.0, BEYOND),
        ("duplicated", None, 2, 20.0, None),
        ("shrinkage", None, 2, 10.0, None),
        ("duplicated", None, 4, 14.0, None),
        ("low_rank", None, 4, 13.0, None),
    ]
    found = pd.DataFrame(rows, columns=["source", "decoder", "n_real", "rmse_percent", "gain"])
    found["bound_rmse_percent"] = found["n_real"].map({2: 8.0, 4: 6.0})  # no bound of one transient
    found["crb_rmse_percent"] = found["n_real"].map({2: 12.0, 4: 9.0})
    found["rmse_ci_low"], found["rmse_ci_high"] = 0.9 * found["rmse_percent"], 1.2 * found["rmse_percent"]
    found["share_of_bound"] = found["bound_rmse_percent"] / found["rmse_percent"]
    return found.assign(measure=MEASURE, slope=0.5)


def points(table):
    lines = {line.name: line for line in report_bound.bound_lines(table, MEASURE)}
    return {name: [(row["n_real"], row[line.value]) for row in line.rows] for name, line in lines.items()}


def test_lines_run_along_n_real_and_the_control_is_the_best_of_each(table):
    assert points(table) == {
        "Bayesian Cramér-Rao bound": [(2, 8), (4, 6)],
        "the same without a prior": [(2, 12), (4, 9)],
        "real transients alone": [(1, 30), (2, 20), (4, 14)],
        "best control": [(2, 10), (4, 13)],  # shrinkage, then low_rank
        "random (sampled)": [(2, 11), (4, 12)],
        "hybrid (sampled)": [(2, 9), (4, 7)],
    }


def test_figure_has_a_choice_of_ratios_and_intervals(table):
    both = pd.concat([table, table.assign(measure="tNAA/tCr (OFF)")])
    figure = report_bound.bound_figure(both)
    assert [option["value"] for option in figure["controls"][0]["options"]] == [MEASURE, "tNAA/tCr (OFF)"]
    own = [trace for trace in figure["traces"] if trace["when"]["measure"] == MEASURE]
    hybrid = next(trace for trace in own if trace["name"] == "hybrid (sampled)")
    assert hybrid["error_y"]["array"] == pytest.approx([1.8, 1.4])
    assert "share of the bound 0.89" in hybrid["text"][0] and BEYOND in hybrid["text"][0]
    assert len({trace["line"]["color"] + trace["line"]["dash"] for trace in own}) == len(own)  # told apart
    json.dumps(figure, allow_nan=False)
    assert report_bound.bound_figure(None) is None


def test_words_call_shrinkage_what_is_shrinkage(table):
    beyond, shrinkage, none = report_bound.bound_sentences(table)
    assert "beyond shrinkage" in beyond and "2 of 4" in beyond and "hybrid (sampled) from 2, 4 real" in beyond
    assert shrinkage.startswith("Only shrinkage") and "random (sampled) from 2 real" in shrinkage
    assert none.startswith("No smaller errors") and none.endswith(": 1.")  # whose they are is no news
    assert report_bound.bound_sentences(None) == []


def test_svg_is_the_same_every_time(table, tmp_path):
    for name in ("a", "b"):
        report_svg.write_bound(tmp_path / f"{name}.svg", table)
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes() and b"</svg>" in first


def test_page_of_a_grid_has_no_series_that_mixes_n_real(tmp_path):
    """To a study of 2 + 6 transients others of 4 + 4 are added, which would change every figure and verdict."""
    pages = {}
    for grid in (False, True):
        fake = FakeResults(tmp_path / str(grid))
        if grid:
            fake.config["augment"] |= {"n_real": [N_REAL, 4], "n_total": N_TOTAL}
            write_json(fake.root / "config.json", fake.config)
            for name, worse in {
                "effective_transients": "n_eff",
                "worth": "n_eff",
                "bias": "bias_percent",
                "concentrations": "per_tcr",
            }.items():
                fake.edit(name, lambda table, worse=worse: with_more(table, worse))
            add_transients(fake)
        study = load("fake", fake.root, "batched")
        pages[grid] = report.build(study)
        sizes = [report.cell_size(study, pages[grid]["effective"], name) for name in ("n_real", "n_total")]
        svg = tmp_path / f"{grid}.svg"
        report_svg.write_effective(svg, pages[grid]["effective"], *sizes)
    one, both = pages[False], pages[True]
    for measure, by_number in one["verdicts"].items():
        assert both["verdicts"][measure][2] == by_number[2] and set(both["verdicts"][measure]) == {2, 4}
    for name in ("effective", "bias", "agreement", "spectra"):
        assert shown(both["figures"][name]) == shown(one["figures"][name]), name
        own = [
            control["options"][0]["value"]
            for control in both["figures"][name]["controls"]
            if control["key"] == "n_real"
        ]
        assert own == ([] if name == "spectra" else ["2"])
    assert (tmp_path / "False.svg").read_bytes() == (tmp_path / "True.svg").read_bytes()
    cell = next(fact for fact in both["facts"] if fact["name"] == "transients per cell")
    assert cell["value"] == "2 + 6, 4 + 4" and "the smallest" in cell["note"]
    assert len(next(t for t in both["tables"] if t["name"] == "bias")["rows"]) > len(
        next(t for t in one["tables"] if t["name"] == "bias")["rows"]
    )


def shown(figure):
    """Return what a figure shows at first, without saying of which n_real it is."""
    found = []
    for part in (*figure["traces"], *figure.get("layouts", [])):
        when = dict(part["when"])
        if when.pop("n_real", "2") == "2":
            found.append(part | {"when": when})
    return found


def with_more(table, worse):
    """Add to the fillings and controls of a table as many of 4 real transients, before them, much larger."""
    filled = table[~table["source"].isin(["real", "reference", "reconstruction"])]
    more = filled.assign(n_real=4).assign(**{worse: 100 * filled[worse].abs() + 50})
    return pd.concat([more, table], ignore_index=True)


def add_transients(fake):
    """Append three zeros to every file of synthetic transients, as those of 4 real ones."""
    for path in fake.root.glob("derivatives/*/mrs/*_desc-synth*_svs.nii.gz"):
        scan = read_scan(path)
        fids = np.concatenate([scan.fids, np.zeros_like(scan.fids[:, :3])], axis=1)
        write_scan(path, scan.with_fids(fids))
        replicates = [{"NReal": 2, "DynRange": [0, 6]}, {"NReal": 4, "DynRange": [6, 9]}]
        write_json(sidecar_path(path), {"Plan": {"Replicates": replicates}})
