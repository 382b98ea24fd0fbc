"""The report's figures of signal quality, metrics between ceiling and floor, embedding, noise, water and grids."""

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import report_grid, report_metrics, report_noise, report_quality, report_tables
from mrs_synthesis.report_agreement import with_measure
from mrs_synthesis.report_style import unpack


def metrics():
    rows = [
        ("nmse", "real", None, "OFF", "0.2-1.8", 0.3),
        ("nmse", "real", None, "OFF", "0.2-4.2", 0.1),
        ("nmse", "reconstruction", "mean", "OFF", "0.2-4.2", 0.2),
        ("mmd", "real", None, "OFF", "0.2-4.2", 0.01),
        ("mmd", "random", "mean", "OFF", "0.2-4.2", 2.0),
        ("mmd", "random", "mean", "ON", "0.2-4.2", 3.0),
        ("effect", "none", None, "OFF", "0.2-4.2", 0.5),
    ]
    table = pd.DataFrame(rows, columns=["metric", "source", "decoder", "condition", "region_ppm", "value"])
    return table.assign(ci_low=table["value"] / 2, ci_high=table["value"] * 2, ceiling=0.01, floor=4.0)


def values(spec, **when):
    """Return the points (not the limits) of a view by name."""
    shown = [t for t in spec["traces"] if all(t["when"].get(k, v) == v for k, v in when.items())]
    return {t["x"][0]: t["y"][0] for t in shown if t.get("showlegend") is False}


def test_conditions_and_regions_are_not_mixed():
    spec = report_metrics.metrics_figure(metrics(), "metrics-fidelity")
    assert values(spec, metric="mmd", condition="ON") == {"random (mean)": 3.0}
    assert values(spec, metric="mmd", condition="OFF") == {"held-out real": 0.01, "random (mean)": 2.0}
    assert values(spec, metric="nmse", region="0.2-1.8", condition="ON") == {"held-out real": 0.3}  # has one condition
    choices = {c["key"]: [o["value"] for o in c["options"]] for c in spec["controls"]}
    assert choices["metric"] == ["mmd", "nmse", "effect"]  # the synthetic ones' first
    assert choices["condition"] == ["OFF", "ON"]
    assert choices["region"] == ["0.2-4.2", "0.2-1.8"]  # the widest first


def test_ceiling_and_floor_stand_at_every_source_and_wide_ranges_are_logarithmic():
    spec = report_metrics.metrics_figure(metrics(), "m")
    shown = [t for t in spec["traces"] if t["when"] == {"metric": "mmd", "condition": "OFF"}]
    limits = {t["name"]: (t["x"], t["y"]) for t in shown if "name" in t}
    assert limits["floor"] == (["held-out real", "random (mean)"], [4.0, 4.0])
    assert limits["real (ceiling)"][1] == [0.01, 0.01]
    bars = next(t["error_y"] for t in shown if t["x"] == ["random (mean)"] and "error_y" in t)
    assert (bars["array"], bars["arrayminus"]) == ([2.0], [1.0])
    axes = {one["when"]["metric"]: one["layout"]["yaxis"].get("type") for one in spec["layouts"]}
    assert axes["mmd"] == "log"
    assert report_metrics.metrics_figure(pd.DataFrame({"a": [1]}), "m") is None


def test_definitions_are_the_dictionarys():
    dictionary = {"metric": {"Description": "All.", "Levels": {"mmd_p": "A p value"}}}
    found = report_metrics.definitions(metrics(), dictionary)
    assert found == [{"name": "", "text": "All."}, {"name": "mmd p", "text": "A p value"}]


def test_embedding_shows_every_point_in_its_group():
    rows = [("training", "real", None), ("held-out", "real", None), ("synthetic", "random", "sampled")]
    rows += [("synthetic", "random", "mean"), ("noise", "noise", None)]
    table = pd.concat(
        [pd.DataFrame(rows, columns=["split", "source", "decoder"]).assign(method=m) for m in ("pca", "tsne")]
    )
    table = table.assign(site="s", unit="<u>", x=np.arange(10.0), y=-1.0)
    spec = report_metrics.embedding_figure(table)
    shown = {t["name"]: unpack(t["x"])[0] for t in spec["traces"] if t["when"]["method"] == "tsne"}
    expected = {"training real": 5, "held-out real": 6, "random (sampled)": 7, "random (mean)": 8, "noise": 9}
    assert shown == pytest.approx(expected, abs=1e-3)
    on = [o["value"] for o in spec["controls"][1]["options"] if o["on"]]
    assert on == ["training real", "held-out real", "random (sampled)"]
    assert all("<" not in text for t in spec["traces"] for text in t["text"])


def test_noise_is_by_ppm_in_order_with_its_interval():
    table = pd.DataFrame({"ppm": [3.0, 1.0, 2.0], "ratio": [0.9, 0.5, 0.7], "source": "random", "decoder": "sampled"})
    table = table.assign(condition="OFF", ratio_ci_low=table["ratio"] - 0.1, ratio_ci_high=table["ratio"] + 0.1)
    spec = report_noise.noise_figure(table)
    low, high, line = spec["traces"]
    np.testing.assert_allclose(unpack(line["x"]), [1, 2, 3], atol=1e-3)
    np.testing.assert_allclose(unpack(line["y"]), [0.5, 0.7, 0.9], atol=1e-3)
    np.testing.assert_allclose(unpack(high["y"]) - unpack(low["y"]), 0.2, atol=1e-3)
    assert high["fill"] == "tonexty" and spec["layout"]["xaxis"]["range"] == [3.0, 1.0]  # ppm from right to left


def test_water_is_drawn_as_steps_over_the_bins_middles():
    table = pd.DataFrame({"source": ["real", "real", "drawn", "drawn"], "metric": "phase_deg", "x": [1.0, 3.0] * 2})
    spec = report_noise.water_figure(table.assign(width=2.0, density=[0.1, 0.4, 0.3, 0.2], n=3))
    assert all(t["line"]["shape"] == "hvh" for t in spec["traces"])
    assert [t["name"] for t in spec["traces"]] == ["held-out real", "drawn by the model"]
    np.testing.assert_allclose(unpack(spec["traces"][0]["y"]), [0.1, 0.4], atol=1e-4)


def quality():
    table = pd.DataFrame({"source": ["real", "random", "random", "shrinkage"], "decoder": [None, "mean", "mean", None]})
    table = table.assign(unit="u", cell=range(4), n_real=[2, 2, 4, 2], n_total=[2, 8, 8, 8], replicate=0)
    return table.assign(fslmrs_snr_off=[1.0, 2, 3, 4], challenge_mse=[1e-4, 1, 2, 3], tcr_snr_off=np.nan)


def test_quality_offers_every_metric_that_has_values_and_splits_by_n_real():
    spec = report_quality.quality_figure(quality())
    choices = {c["key"]: [o["value"] for o in c["options"]] for c in spec["controls"]}
    assert choices == {"metric": ["fslmrs_snr_off", "challenge_mse"], "n_real": ["2", "4"]}
    snr = {(t["name"], t["when"].get("n_real")): unpack(t["y"])[0] for t in spec["traces"] if isinstance(t["y"], dict)}
    expected = {("2 real transients", None): 1, ("random (mean)", "2"): 2, ("random (mean)", "4"): 3}
    assert snr == pytest.approx(expected | {("linear shrinkage", "2"): 4}, abs=1e-3)
    wide = [t["y"] for t in spec["traces"] if t["when"]["metric"] == "challenge_mse"]
    assert wide == [[1e-4], [1.0], [2.0], [3.0]]  # 16 bits would not do on a logarithmic axis
    assert report_quality.metric_name("fslmrs_fwhm_hz_gaba_plus_diff") == "FSL-MRS: FWHM GABA+ / Hz (DIFF)"


def test_quality_has_its_definitions():
    found = report_quality.definitions(quality(), {"fslmrs_snr_off": {"Description": "Peak over noise"}})
    assert found == [{"name": "FSL-MRS: SNR (OFF)", "column": "fslmrs_snr_off", "text": "Peak over noise"}]


def grid():
    rows = [
        ("subject", "random", "sampled", 8, "none", "all", 9.0, 0.5),
        ("subject", "random", "sampled", 4, "none", "all", 12.0, 0.3),
        ("subject", "random", "sampled", 8, "none", "A", 8.0, 0.6),
        ("subject", "random", "sampled", 6, "A", "A", 14.0, 0.2),
        ("subject", "real", None, 8, "none", "all", 20.0, 1.0),
    ]
    columns = ["model", "source", "decoder", "n_training", "left_out_site", "test_site", "rmse_percent", "slope"]
    table = pd.DataFrame(rows, columns=columns).assign(seed=1, metabolite="tNAA", condition="OFF", n_real=2, n_total=8)
    low, high = table["rmse_percent"] - 1, table["rmse_percent"] + 2
    return with_measure(table.assign(rmse_ci_low=low, rmse_ci_high=high, slope_ci_low=0.1, slope_ci_high=0.9))


def test_grid_is_error_and_slope_along_the_training_subjects():
    spec = report_grid.grid_figure(grid())
    lines = {(t["name"], t["when"]["view"], t.get("yaxis", "y")): t for t in spec["traces"]}
    error, slope = (lines["random (sampled)", "all", axis] for axis in ("y", "y2"))
    assert (error["x"], error["y"], slope["y"]) == ([4, 8], [12, 9], [0.3, 0.5])
    assert (error["error_y"]["array"], error["error_y"]["arrayminus"]) == ([2, 2], [1, 1])
    without = lines["random (sampled), without A", "A", "y"]
    assert without["y"] == [14.0] and "open" in without["marker"]["symbol"]
    assert lines["real transients alone", "all", "y"]["y"] == [20.0]
    assert report_grid.grid_figure(None) is None


def test_minimum_reporting_is_item_by_site():
    table = pd.DataFrame(
        [
            ("1. Hardware", "field", "A", "3 T", "header"),
            ("1. Hardware", "field", "B", "7 T", "sheet"),
            ("2. Acquisition", "TR", "A", None, None),
        ],
        columns=["section", "item", "site", "value", "from"],
    )
    found = report_tables.site_facts(table)
    assert found["sites"] == ["A", "B"]
    assert [section["name"] for section in found["sections"]] == ["1. Hardware", "2. Acquisition"]
    assert found["sections"][0]["rows"][0]["cells"] == [
        {"value": "3 T", "from": "header"},
        {"value": "7 T", "from": "sheet"},
    ]
    assert found["sections"][1]["rows"][0]["cells"] == [{"value": "n/a", "from": "n/a"}] * 2
    assert report_tables.site_facts(None) is None
