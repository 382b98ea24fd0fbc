"""The report against a fake results folder, whose numbers are made up and written in the stages' formats."""

import base64
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake_results import DWELL, EVIL, FREQUENCY, KINDS, POINTS, FakeResults
from matplotlib.figure import Figure

from mrs_synthesis import (
    report,
    report_agreement,
    report_data,
    report_effective,
    report_figures,
    report_svg,
    report_words,
    scans,
)
from mrs_synthesis.files import write_json
from mrs_synthesis.report_words import BETTER, NOT_BETTER, OPEN, UNKNOWN, Worth
from mrs_synthesis.stage import InputError

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Structure(HTMLParser):
    """Collects elements, and checks that every element is closed by its own end tag."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.stack, self.ids, self.elements, self.headings, self.texts = [], [], [], [], []
        self.feed(page)
        self.close()
        assert not self.stack, f"not closed: {self.stack}"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-3:]} at {self.getpos()}"
        self.stack.pop()

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """A page of three subjects of whom one failed, with a site that tries to be markup."""
    fake = FakeResults(tmp_path_factory.mktemp("fake"), failed=True, site=EVIL)
    page = fake.page()
    return SimpleNamespace(fake=fake, page=page, html=Structure(page))


def own_parts(page):
    """The page without plotly.js, which mentions addresses that it never loads in the page's figures."""
    return re.sub(r'<script id="plotly">.*?</script>', "", page, flags=re.S)


def figure_data(page):
    blocks = re.findall(r'<script type="application/json" id="data-([\w-]+)">(.*?)</script>', page, re.S)
    return {name: json.loads(text) for name, text in blocks}


def test_page_is_well_formed_with_unique_ids_and_headings_in_order(edited):
    html = edited.html
    assert len(html.ids) == len(set(html.ids))
    assert html.headings.count(1) == 1 and html.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(html.headings, html.headings[1:], strict=False))
    targets = {a["href"][1:] for t, a in html.elements if t == "a" and a.get("href", "").startswith("#")}
    assert targets and targets <= set(html.ids)


def test_page_loads_nothing(edited):
    for tag, attrs in edited.html.elements:
        assert "src" not in attrs and tag not in ("link", "iframe", "object", "base"), (tag, attrs)
        assert attrs.get("href", "#").startswith(("#", "data:", "tables/"))
    own = own_parts(edited.page)
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", own)
    policy = next(a["content"] for t, a in edited.html.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "http" not in policy
    assert edited.page.count('<script id="plotly">') == 1 and len(edited.page) > 3e6


def test_strings_are_escaped(edited):
    own = own_parts(edited.page)
    assert "<img" not in own.lower()
    assert not [tag for tag, _ in edited.html.elements if tag == "img"]
    assert EVIL in edited.html.text  # shown, as text
    for spec in figure_data(edited.page).values():
        assert "<img" not in json.dumps(spec["layout"])


def test_script_json_cannot_leave_its_element():
    text = report.script_json({"a": "</script><!-- & \u2028"})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028"}


def test_buttons_are_real_and_figures_are_labelled(edited):
    buttons = [a for t, a in edited.html.elements if t == "button"]
    assert buttons and all(a.get("type") == "button" for a in buttons)
    plots = [a for t, a in edited.html.elements if a.get("class") == "plot"]
    assert {p["data-figure"] for p in plots} == set(figure_data(edited.page))
    assert all(p["role"] == "img" and p["aria-label"] for p in plots)
    labels = {a["for"] for t, a in edited.html.elements if t == "label"}
    assert labels == {a["id"] for t, a in edited.html.elements if t == "select"}
    assert {"spectra", "fits", "losses", "transients", "quality", "bias", "agreement", "effective"} <= set(
        figure_data(edited.page)
    )


def test_summary_has_the_tables_numbers(edited):
    text = edited.html.text
    assert "N eff 4.13 (3.3 to 4.95), slope 0.95" in text
    assert "N eff 9.5 (7.6 to 11.4), slope 0.95" in text
    assert "not better than the population mean control" in text
    assert "For none of the 2 metabolite ratios" in text
    assert "the largest bias is" in text and "for 0 of" in text
    assert "3.5 for synthetic fillings, 1 for real transients" in text


def test_summary_follows_the_tables(tmp_path):
    fake = FakeResults(tmp_path)

    def better(table):
        table.loc[(table["source"] == "hybrid") & (table["decoder"] == "sampled"), "n_eff"] = 23.4
        chosen = table["n_eff"] == 23.4
        table.loc[chosen, ["n_eff_ci_low", "n_eff_ci_high"]] = 17.1, 31.2
        table.loc[chosen & (table["metabolite"] == "tNAA"), "slope"] = 0.31
        return table

    fake.edit("effective_transients", better)
    text = Structure(fake.page()).text
    assert "For 1 of 2 metabolite ratios (GABA+/tCr (DIFF))" in text
    assert "hybrid (sampled): N eff 23.4 (17.1 to 31.2), slope 0.95" in text
    assert "with a slope of 0.31, below 0.8: differences between subjects are lost" in text


def test_failed_subject_is_named_and_left_out(edited):
    text = edited.html.text
    assert "1 of 3 scans failed" in text
    assert f"{EVIL} no signal" in text
    data = figure_data(edited.page)["spectra"]
    assert {t["when"]["unit"] for t in data["traces"]} == {"all", *edited.fake.units[:2]}


def test_provenance(edited):
    import hashlib

    text = edited.html.text
    assert hashlib.sha256(b"fake weights").hexdigest() in text
    assert "1234567" in text and "fakeset" in text and '"tost_margin_percent": 10' in text


def test_downloads_hold_the_whole_table(edited):
    links = {a["download"]: a["href"] for t, a in edited.html.elements if "download" in a}
    whole = base64.b64decode(links["bias.tsv"].split(",", 1)[1]).decode()
    assert whole == (edited.fake.root / "tables" / "bias.tsv").read_text()


def test_large_table_is_linked_not_embedded():
    table = pd.DataFrame({"value": np.random.default_rng(0).random(40000)})
    view = report.table_view("concentrations", table, {})
    assert view["link"] == "tables/concentrations.tsv" and not view["embedded"]
    assert len(view["rows"]) < 1000 and view["total"] == 40000


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
    mean, sd = (report_data.unpack(spec["arrays"][trace[key]["ref"]]) for key in ("y", "sd"))
    shown = report_data.unpack(spec["arrays"][trace["x"]["ref"]])
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
    packed = report_data.pack(values)
    np.testing.assert_allclose(report_data.unpack(packed), values, atol=3.2 / 65000)
    assert np.all(report_data.unpack(report_data.pack(np.zeros(3))) == 0)
    json.dumps(packed, allow_nan=False)


@pytest.mark.parametrize(
    ("series", "other", "expected"),
    [
        ((5, 4, 6), (2, 1, 3), BETTER),
        ((5, 2.5, 6), (2, 1, 3), OPEN),
        ((2, 1, 3), (2, 1, 3), NOT_BETTER),
        ((1, 0.5, 1.5), (2, 1, 3), NOT_BETTER),
        ((float("nan"), 4, 6), (2, 1, 3), UNKNOWN),
        ((5, float("nan"), 6), (2, 1, 3), OPEN),
    ],
)
def test_better_needs_separate_intervals(series, other, expected):
    a, b = Worth("random", "mean", *series, 1.0), Worth("real", None, *other, 1.0)
    assert report_words.compare(a, b) == expected


def test_comparison_with_nothing_is_never_better():
    series = Worth("random", "mean", 9.0, 8.0, 10.0, 1.0)
    assert report_words.compare(series, None) == UNKNOWN
    verdict = report_words.verdict([series], 2)
    assert verdict["kind"] == "open" and "null control" in verdict["text"]


def test_unknown_slope_is_not_worth_it():
    nan = float("nan")
    found = [Worth("real", None, 2, 1, 3, nan, 2), Worth("random", "mean", 9, 8, 10, nan, 2)]
    found.append(Worth("shrinkage", None, 3, 2, 4, nan, 2))
    verdict = report_words.verdict(found, 2)
    assert verdict["kind"] == "open" and "without a slope" in verdict["text"]


def test_a_filling_that_is_not_ruled_out_is_named_even_if_another_has_more():
    found = [Worth("real", None, 2, 1.5, 3, 1.0, 2), Worth("shrinkage", None, 3, 2, 4, 0.3, 2)]
    found += [Worth("random", "mean", 30, 20, 40, 0.05, 2), Worth("interpolation", "mean", 4, 2.5, 6, 0.9, 2)]
    verdict = report_words.verdict(found, 2)
    assert verdict["kind"] == "open" and "the nearest, interpolation (mean)" in verdict["text"]
    assert "not shown to be better than the 2 real transients alone or the linear shrinkage control" in verdict["text"]
    assert report_words.verdict(found[:3], 2)["kind"] == "no"


def test_all_real_is_not_taken_for_the_few_real():
    found = [Worth("real", None, 40, 30, 50, 1.0, 40), Worth("real", None, 2, 1, 3, 1.0, 2)]
    found += [Worth("random", "mean", 9, 8, 10, 1.0, 2), Worth("shrinkage", None, 3, 2, 4, 1.0, 2)]
    assert report_words.verdict(found, 2)["kind"] == "yes"


def test_clipped_numbers_are_marked():
    assert Worth("random", "mean", 80.0, 60.0, 80.0, 0.9, 2, "high").text().startswith("N_eff ≥ 80 ")


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
    spec = report_agreement.agreement_figure(*tables)
    points = next(t for t in spec["traces"] if t["mode"] == "markers")
    np.testing.assert_allclose(report_data.unpack(points["x"]), [1.1, 1.75], rtol=1e-4)
    np.testing.assert_allclose(report_data.unpack(points["y"]), [20.0, -25.0], rtol=1e-3)


def test_forest_plot_has_the_tables_interval_and_margin():
    row = {"metabolite": "GABA+", "condition": "DIFF", "source": "hybrid", "decoder": "mean", "bias_percent": 3.0}
    row |= {"bias_ci_low": -1.0, "bias_ci_high": 8.0, "loa_low": -20.0, "loa_high": 26.0, "slope": 0.4}
    spec = report_agreement.bias_figure(report_agreement.with_measure(pd.DataFrame([row])), 7.5)
    point = next(t for t in spec["traces"] if t["mode"] == "markers")
    assert point["x"] == [3.0]
    assert point["error_x"]["array"] == [5.0] and point["error_x"]["arrayminus"] == [4.0]
    assert any(t.get("x") == [-20.0, 26.0, None] for t in spec["traces"])
    assert [(s["x0"], s["x1"]) for s in spec["layout"]["shapes"] if s["type"] == "rect"] == [(-7.5, 7.5)]


def test_within_one_subject_and_phantom_are_said(tmp_path):
    fake = FakeResults(tmp_path, subjects=1, split_unit="transient", phantom=True)
    text = Structure(fake.page()).text
    assert "Within one subject." in text and "Digital phantom." in text
    assert "not seen in training" not in text


def test_between_subjects_is_not_called_within(edited):
    assert "Within one subject." not in edited.html.text and "Digital phantom." not in edited.html.text


def test_unedited_reconstruction_study(tmp_path):
    fake = FakeResults(tmp_path, edited=False)
    page = fake.page()
    text, figures = Structure(page).text, figure_data(page)
    assert "effective" not in figures and "Effective transients" not in text
    assert {t["when"]["condition"] for t in figures["spectra"]["traces"]} == {"UNEDITED"}
    # as in the table: bias -7.25 (-9 to 6) %, TOST p of 0.01, slope 0.5 without an interval
    assert "shows a bias within ±10 % for 1 of 1 metabolite ratios" in text
    assert "(slope of at least 0.8) for 0 of 1" in text
    assert "tNAA/tCr: bias -7.2 % (-9 to 6), shown to lie within ±10 %; by site from -7.2 % (site1)" in text
    assert "slope 0.5 (no interval), below 0.8" in text
    points = [t for t in figures["bias_by_site"]["traces"] if t["mode"] == "markers"]
    assert [t["y"] for t in points] == [["site1, n = 3", "site2, n = 3"], ["all sites, n = 3"]]
    assert [t["x"] for t in points] == [[-7.25, -7.25], [-7.25]]
    assert (tmp_path / "figures" / "effective.svg").is_file()


def test_reconstruction_is_judged_by_both_bias_and_slope():
    row = {"metabolite": "Ins", "condition": "UNEDITED", "source": "reconstruction", "bias_percent": -1.0}
    row |= {"bias_ci_low": -3.0, "bias_ci_high": 2.0, "tost_p": 0.001, "slope": 0.9, "slope_ci_low": 0.7}

    def judged(**changes):
        table = report_agreement.with_measure(pd.DataFrame([row | {"slope_ci_high": 1.1} | changes]))
        return report_words.reconstruction_verdicts(table, None, 10.0)["Ins/tCr"]

    assert judged()["kind"] == "yes"
    assert judged(slope=0.5)["kind"] == "open"  # its interval reaches 0.8
    assert judged(slope=0.5, slope_ci_high=0.7)["kind"] == "no"
    assert judged(slope=float("nan"))["kind"] == "open"
    assert judged(tost_p=0.2)["kind"] == "open"
    assert judged(bias_percent=14.0, bias_ci_low=11.0, bias_ci_high=17.0, tost_p=0.99)["kind"] == "no"


def test_page_of_a_study_where_everything_failed(tmp_path):
    fake = FakeResults(tmp_path, subjects=1, failed=True)
    for path in (tmp_path / "tables").iterdir():
        path.unlink()
    for path in (tmp_path / "model").iterdir():
        path.unlink()
    html = Structure(fake.page())
    assert "1 of 1 scans failed" in html.text and "no model" in html.text
    assert not figure_data(fake.page())


def test_same_results_give_the_same_bytes(edited):
    files = [edited.fake.root / "report.html", *sorted((edited.fake.root / "figures").glob("*.svg"))]
    before = [path.read_bytes() for path in files]
    edited.fake.page()
    assert [path.name for path in files[1:]] == ["bias.svg", "effective.svg", "spectra.svg"]
    assert [path.read_bytes() for path in files] == before


def test_missing_results_are_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"units\.tsv: no such file"):
        report_data.load("fake", tmp_path, "batched")


def test_size_of_twelve_subjects():
    n = 545  # bins of 0.2-4.4 ppm at 3 T with 2048 points over 2 kHz
    ppm = np.linspace(0.2, 4.4, n)
    series = ["real", "reconstruction", *(f"{m}|{d}" for m, d in KINDS)]
    random = np.random.default_rng(0)
    found = {(s, c): (random.random(n), random.random(n), 80) for s in series for c in ("OFF", "ON", "DIFF")}
    data = report_data.Transients(ppm, found, FREQUENCY)
    shown = [f"u{i}" for i in range(report.SPECTRA_UNITS)]
    size = len(report.script_json(report_figures.spectra_figure(dict.fromkeys(shown, data))))
    assert size < 1.2e6  # with 4.9 MB of plotly.js and three units' fits the page stays below 8 MB


def test_ratios_are_in_the_configured_order(tmp_path):
    fake = FakeResults(tmp_path)
    assert fake.measured[0][0] == "GABA+"  # the tables' order is the reverse of the configured one
    write_json(tmp_path / "tables" / "summary.json", {"ratios": ["OFF:tNAA", "DIFF:GABA+"]})
    page = fake.page()
    expected = ["tNAA/tCr (OFF)", "GABA+/tCr (DIFF)"]
    for name in ("effective", "bias", "bias_by_site", "agreement"):
        buttons = page.split(f'id="figure-{name}"')[1].split("</fieldset>")[0]
        assert re.findall(r'value="(\S+ \(\w+\))"', buttons) == expected
        assert list(dict.fromkeys(t["when"]["measure"] for t in figure_data(page)[name]["traces"])) == expected
    assert re.findall(r"<strong>(\S+/tCr \(\w+\)):", page) == expected


def test_unasked_ratios_come_last():
    table = pd.DataFrame({"metabolite": ["tCho", "Glx", "Ins"], "condition": ["OFF", "DIFF", "OFF"]})
    measures = report_agreement.measures(report_agreement.with_measure(table, ["OFF:Ins", "DIFF:Glx"]))
    assert measures == ["Ins/tCr (OFF)", "Glx/tCr (DIFF)", "tCho/tCr (OFF)"]


def test_only_fitted_conditions_are_listed(edited):
    assert json.loads((edited.fake.root / "training" / "grid.json").read_text())["conditions"] == ["OFF", "ON"]
    assert "fitting engine batched OFF, DIFF" in edited.html.text


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


def test_help_needs_nothing_heavy():
    code = (
        "import sys, mrs_synthesis.report; print(sorted({'pandas', 'plotly', 'torch', 'nibabel'} & set(sys.modules)))"
    )
    path = str(Path(report.__file__).parents[1])
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert found.stdout.strip() == "[]", found.stderr
