"""The report's figures of spectra, fits, bias, agreement and effective transients."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake_results import DWELL, FREQUENCY, KINDS, POINTS, FakeResults
from matplotlib.figure import Figure
from page_structure import figure_data

from mrs_synthesis import (
    report,
    report_agreement,
    report_bland_altman,
    report_effective,
    report_figures,
    report_quality,
    report_style,
    report_svg,
    scans,
)
from mrs_synthesis.report_scans import Transients


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """A page of three subjects of whom one failed."""
    fake = FakeResults(tmp_path_factory.mktemp("fake"), failed=True)
    return SimpleNamespace(fake=fake, page=fake.page())


def test_spectra_are_means_and_sds_in_ppm(edited):
    fake, spec = edited.fake, figure_data(edited.page)["spectra"]
    unit = fake.units[0]
    scan = scans.read_scan(fake.root / "derivatives" / unit[:6] / "mrs" / f"{unit}_desc-preproc_svs.nii.gz")
    fids = scan.fids[:, :, 0].copy()
    fids[..., 0] /= 2
    full = np.fft.fftshift(np.fft.fft(fids), axes=-1).real
    ppm = np.fft.fftshift(np.fft.fftfreq(POINTS, DWELL)) / FREQUENCY + 4.65
    inside = (ppm > 1.8) & (ppm < 3.4)
    scale = np.abs(full[0].mean(0)[inside]).max()
    when = {"unit": unit, "condition": "DIFF", "series": "real"}
    trace = next(t for t in spec["traces"] if t["when"] == when and "sd" in t)
    mean, sd = (report_style.unpack(spec["arrays"][trace[key]["ref"]]) for key in ("y", "sd"))
    shown = report_style.unpack(spec["arrays"][trace["x"]["ref"]])
    assert shown.min() >= 0.2 and shown.max() <= 4.4
    kept = (ppm >= 0.2) & (ppm <= 4.4)
    difference = (full[1] - full[0]) / scale
    np.testing.assert_allclose(shown, ppm[kept], atol=2e-4)
    np.testing.assert_allclose(mean, difference.mean(0)[kept], atol=1e-4)
    np.testing.assert_allclose(sd, difference.std(0, ddof=1)[kept], atol=1e-4)
    assert mean[np.argmin(np.abs(shown - 2.008))] < -0.8  # NAA is inverted in the difference
    low, high = spec["layout"]["xaxis"]["range"]
    assert low > high  # ppm from right to left


def test_fits_show_reference_real_and_one_cell_per_source(edited):
    spec = figure_data(edited.page)["fits"]
    names = {t["when"]["cell"] for t in spec["traces"]}
    assert {"real reference", "real transients alone: 2", "hybrid (mean): 2 + 6", "reconstruction"} <= names
    assert "real transients alone: 8" not in names
    parts = {t["name"] for t in spec["traces"]}
    assert parts == {"data", "fit", "baseline", "residual (shifted up)"}


def test_pack_round_trip():
    values = np.array([1.0, -2.5, np.nan, 3.14159])
    packed = report_style.pack(values)
    np.testing.assert_allclose(report_style.unpack(packed), values, atol=3.2 / 65000)
    assert np.all(report_style.unpack(report_style.pack(np.zeros(3))) == 0)
    json.dumps(packed, allow_nan=False)


def test_bland_altman_points_are_percent_of_reference():
    estimates = pd.DataFrame(
        {
            "unit": ["a", "a", "b", "b"],
            "metabolite": "tNAA",
            "condition": "OFF",
            "source": ["reference", "hybrid"] * 2,
            "decoder": [None, "mean"] * 2,
            "n_real": [9, 2, 11, 2],
            "n_total": [9, 8, 11, 8],
            "per_tcr": [1.0, 1.2, 2.0, 1.5],
        }
    )
    bias = estimates.iloc[[1]].drop(columns=["unit", "per_tcr"]).assign(bias_percent=-2.5, loa_low=-60, loa_high=55)
    tables = [report_agreement.with_measure(table) for table in (estimates, bias)]
    spec = report_bland_altman.agreement_figure(*tables)
    points = next(t for t in spec["traces"] if t["mode"] == "markers")
    np.testing.assert_allclose(report_style.unpack(points["x"]), [1.1, 1.75], rtol=1e-4)
    np.testing.assert_allclose(report_style.unpack(points["y"]), [20.0, -25.0], rtol=1e-3)


def test_forest_plot_has_the_tables_interval_and_margin():
    row = {"metabolite": "GABA+", "condition": "DIFF", "source": "hybrid", "decoder": "mean", "bias_percent": 3.0}
    row |= {"bias_ci_low": -1.0, "bias_ci_high": 8.0, "loa_low": -20.0, "loa_high": 26.0, "slope": 0.4}
    spec = report_agreement.bias_figure(report_agreement.with_measure(pd.DataFrame([row])), 7.5)
    point = next(t for t in spec["traces"] if t["mode"] == "markers")
    assert point["x"] == [3.0]
    assert point["error_x"]["array"] == [5.0] and point["error_x"]["arrayminus"] == [4.0]
    assert any(t.get("x") == [-20.0, 26.0, None] for t in spec["traces"])
    assert [(s["x0"], s["x1"]) for s in spec["layout"]["shapes"] if s["type"] == "rect"] == [(-7.5, 7.5)]


def test_size_of_twelve_subjects():
    n = 545  # bins of 0.2-4.4 ppm at 3 T with 2048 points over 2 kHz
    ppm = np.linspace(0.2, 4.4, n)
    series = ["real", "reconstruction", *(f"{m}|{d}" for m, d in KINDS)]
    random = np.random.default_rng(0)
    found = {(s, c): (random.random(n), random.random(n), 80) for s in series for c in ("OFF", "ON", "DIFF")}
    data = Transients(ppm, found, FREQUENCY)
    shown = [f"u{i}" for i in range(report.SPECTRA_UNITS)]
    size = len(report.script_json(report_figures.spectra_figure(dict.fromkeys(shown, data))))
    assert size < 1.2e6  # with 4.9 MB of plotly.js and three units' fits the page stays below 8 MB


def test_unasked_ratios_come_last():
    table = pd.DataFrame({"metabolite": ["tCho", "Glx", "Ins"], "condition": ["OFF", "DIFF", "OFF"]})
    measures = report_agreement.measures(report_agreement.with_measure(table, ["OFF:Ins", "DIFF:Glx"]))
    assert measures == ["Ins/tCr (OFF)", "Glx/tCr (DIFF)", "tCho/tCr (OFF)"]


def effective_table():
    """Rows of one ratio: 2 and 8 real transients, a filling, and a control that was cut."""
    rows = [("real", None, 2, 2.0, 1.1, "no"), ("real", None, 8, 8.0, 1.0, "no")]
    rows += [("hybrid", "sampled", 2, 5.0, 0.6, "no"), ("shrinkage", None, 2, 16.0, 0.1, "high")]
    table = pd.DataFrame(rows, columns=["source", "decoder", "n_real", "n_eff", "slope", "n_eff_clipped"])
    table = table.assign(metabolite="GABA+", condition="DIFF", n_eff_ci_low=1.5, n_eff_ci_high=16.0, n=3)
    return report_agreement.with_measure(table)


def drawn(table):
    """Return the axes of the figure of effective transients, and its points (x, N_eff)."""
    figure = Figure()
    report_svg.draw_effective(figure, table, 2, 8)
    axes = figure.axes[0]
    points = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    return axes, [(float(p.get_xdata()[0]), float(p.get_ydata()[0])) for p in points]


def test_effective_figure_shows_worth_against_slope():
    axes, points = drawn(effective_table())
    assert "GABA+/tCr (DIFF)" in (axes.get_title(loc="left"), axes.get_title())
    assert points == [(1.1, 2.0), (1.0, 8.0), (0.6, 5.0), (0.1, 16.0)]
    levels = [line.get_ydata()[0] for line in axes.lines if line.get_transform() == axes.get_yaxis_transform()]
    assert levels == [2, 8] and {t.get_text() for t in axes.texts} >= {"2 real", "8 real"}
    arrows = [t.xy for t in axes.texts if getattr(t, "arrow_patch", None) is not None]
    assert arrows == [(0.1, 16.0)]  # the one that was cut


def test_effective_figure_without_slopes_is_by_source():
    axes, points = drawn(effective_table().assign(slope=np.nan))
    assert points == [(0.0, 2.0), (1.0, 8.0), (2.0, 5.0), (3.0, 16.0)]
    names = [tick.get_text() for tick in axes.get_xticklabels()]
    assert names == ["2 real transients", "8 real transients", "hybrid (sampled)", "linear shrinkage"]
    spec = report_effective.effective_figure(effective_table().assign(slope=np.nan), None)
    right = [t for t in spec["traces"] if t.get("xaxis") == "x2"]
    assert [t["x"][0] for t in right] == names and right[-1]["text"] == ["↑"]


def test_effective_figure_of_a_study_without_fillings_says_so(tmp_path):
    report_svg.write_effective(tmp_path / "effective.svg", None, float("nan"), float("nan"))
    report_svg.write_effective(tmp_path / "other.svg", effective_table(), 2, 8)
    sizes = [re.search(r'height="(\d+)', (tmp_path / f"{n}.svg").read_text())[1] for n in ("effective", "other")]
    assert int(sizes[0]) < int(sizes[1])


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_line_broadening_is_that_of_an_apodised_fid():
    """Compare the page's convolution with the spectrum of an FID times exp(-pi 5 t)."""
    n, width = 2000, 2000.0
    t, hertz = np.arange(n) / width, np.fft.fftshift(np.fft.fftfreq(n, 1 / width))
    fid = np.exp((2j * np.pi * 100 - 12) * t)
    fid[0] /= 2
    plain, expected = (np.fft.fftshift(np.fft.fft(f)).real for f in (fid, fid * np.exp(-np.pi * 5 * t)))
    script = (Path(report.__file__).parents[1] / "report" / "report.js").read_text()
    function = re.search(r"const broaden = .*?\n  };", script, re.S)[0]
    numbers = ", ".join(json.dumps(values.tolist()) for values in (hertz / 100, plain))
    code = f"{function} console.log(JSON.stringify(broaden({numbers}, 0.05)))"
    found = json.loads(subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True).stdout)
    np.testing.assert_allclose(found, expected, atol=0.02 * expected.max())


def test_gaba_region_and_broadening_are_offered_for_edited_data(edited):
    spec = figure_data(edited.page)["spectra"]
    assert spec["zooms"] == {"gaba": [2.6, 4.2]}
    assert {t["mhz"] for t in spec["traces"] if t.get("yaxis") != "y2"} == {FREQUENCY}
    html = edited.page.split('id="figure-spectra"')[1].split("</figure>")[0]
    assert "GABA region" in html and "Line broadening for display" in html
    assert "real, n = 6" in {t["name"] for t in spec["traces"]}


def test_bland_altman_is_on_the_log_scale_where_the_table_says_so():
    """Estimates at 2, 1/2 and 1 times their reference lie evenly about none on the log scale, at +-100 ln 2."""
    estimates = pd.DataFrame(
        {
            "unit": ["a", "b", "c"] * 2,
            "metabolite": "Glx",
            "condition": "OFF",
            "source": ["reference"] * 3 + ["random"] * 3,
            "decoder": [None] * 3 + ["mean"] * 3,
            "n_real": 2,
            "n_total": 8,
            "per_tcr": [1.0, 2.0, 3.0, 2.0, 1.0, 3.0],
        }
    )
    row = estimates.iloc[[3]].drop(columns=["unit", "per_tcr"])
    row = row.assign(bias_percent=0.0, loa_low=-60, loa_high=150, loa_high_ci_low=100, loa_high_ci_high=300)
    tables = [report_agreement.with_measure(table) for table in (estimates, row.assign(scale="log"))]
    spec = report_bland_altman.agreement_figure(*tables)
    points = next(t for t in spec["traces"] if t["mode"] == "markers")
    np.testing.assert_allclose(report_style.unpack(points["y"]), [69.31, -69.31, 0], atol=0.01)
    np.testing.assert_allclose(report_style.unpack(points["customdata"]), [100, -50, 0], atol=0.01)
    levels = [t["y"][0] for t in spec["traces"] if t["mode"] == "lines" and "fill" not in t]
    np.testing.assert_allclose(levels, [0, -91.63, 91.63], atol=0.01)  # 100 ln 0.4 and 100 ln 2.5
    band = next(t for t in spec["traces"] if t.get("fill"))
    np.testing.assert_allclose(band["y"], [69.315, 69.315, 138.63, 138.63], atol=0.01)
    axis = spec["layouts"][0]["layout"]["yaxis"]
    ticks = dict(zip(axis["ticktext"], axis["tickvals"], strict=True))
    assert ticks["100"] == pytest.approx(69.315, abs=0.01) and ticks["-50"] == -ticks["100"]


def test_several_numbers_of_real_transients_are_a_choice_and_never_mixed():
    rows = [("real", None, 1), ("real", None, 2), ("real", None, 4), ("random", "mean", 2), ("random", "mean", 4)]
    table = pd.DataFrame(rows, columns=["source", "decoder", "n_real"])
    table = table.assign(metabolite="tNAA", condition="OFF", bias_percent=[1.0, 2, 3, 4, 5], slope=0.5)
    spec = report_agreement.bias_figure(report_agreement.with_measure(table), 10)
    choice = next(c for c in spec["controls"] if c["key"] == "n_real")
    assert [option["value"] for option in choice["options"]] == ["2", "4"]
    for n_real, own in (("2", 4.0), ("4", 5.0)):
        shown = [t["x"][0] for t in spec["traces"] if t["mode"] == "markers" and t["when"]["n_real"] == n_real]
        assert sorted(shown) == [1.0, 2.0, 3.0, own]


def test_of_many_cells_so_many_are_drawn_that_the_quartiles_stay():
    values = np.random.default_rng(0).exponential(size=5000)
    thinned = report_quality.thinned(values)
    assert len(thinned) == report_quality.MOST_POINTS
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    assert np.quantile(thinned, shares) == pytest.approx(np.quantile(values, shares), rel=0.03)
    assert list(report_quality.thinned(values[:50])) == list(values[:50])
