"""The report against a fake results folder, whose numbers are made up and written in the stages' formats."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from fake_results import EVIL, FakeResults
from page_structure import Structure, figure_data, own_parts

from mrs_synthesis import report, report_data
from mrs_synthesis.files import write_json
from mrs_synthesis.stage import InputError


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """A page of three subjects of whom one failed, with a site that tries to be markup."""
    fake = FakeResults(tmp_path_factory.mktemp("fake"), failed=True, site=EVIL)
    page = fake.page()
    return SimpleNamespace(fake=fake, page=page, html=Structure(page))


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
    drawn = {"spectra", "fits", "losses", "transients", "quality", "bias", "agreement", "effective"}
    drawn |= {"metrics-fidelity", "embedding", "noise_spectrum", "water_lines"}
    assert drawn <= set(figure_data(edited.page))


def test_summary_has_the_tables_numbers(edited):
    text = edited.html.text
    assert "N eff 4.13 (3.3 to 4.95), slope 0.95" in text
    assert "N eff 9.5 (7.6 to 11.4), slope 0.95" in text
    assert "not shown to be better than the population mean control" in text
    assert "ruled out for 0, not decided for 2" in text
    assert "For none of the 2 metabolite ratios" in text
    assert "the largest bias is" in text and "for 0 of" in text
    assert "3.5 for synthetic fillings, 1 for real transients" in text


def test_summary_follows_the_tables(tmp_path):
    fake = FakeResults(tmp_path)

    def better(table):
        chosen = (table["source"] == "hybrid") & (table["decoder"] == "sampled")
        table.loc[chosen, ["n_eff", "n_eff_ci_low", "n_eff_ci_high"]] = 23.4, 17.1, 31.2
        table.loc[chosen, "worth"] = "yes"
        table.loc[table["metabolite"] == "tNAA", "worth"] = "no"
        table.loc[chosen & (table["metabolite"] == "tNAA"), "reason"] = "slope 0.31, below 0.8"
        return table

    fake.edit("worth", better)
    text = Structure(fake.page()).text
    assert "For 1 of 2 metabolite ratios (GABA+/tCr (DIFF))" in text
    assert "hybrid (sampled): N eff 23.4 (17.1 to 31.2), slope 0.95" in text
    assert "slope 0.31, below 0.8" in text


def test_without_comparisons_the_page_claims_nothing(tmp_path):
    fake = FakeResults(tmp_path)
    for name in ("worth", "comparisons"):
        (tmp_path / "tables" / f"{name}.tsv").unlink()
    text = Structure(fake.page()).text
    assert "were not compared with the real transients alone" in text
    assert text.count("no filling was compared with the controls") == 2
    assert not re.findall(r"(?:is|are) worth more than the \d", text)


def test_several_n_real_make_a_matrix(tmp_path):
    fake = FakeResults(tmp_path)

    def both(table):
        return pd.concat([table.assign(worth="no"), table.assign(n_real=4, worth="yes")])

    fake.edit("worth", both)
    page = fake.page()
    matrix = re.search(r'<table class="compact matrix">.*?</table>', page, re.S)[0]
    assert re.findall(r"<td class=\"(\w+)\">(\S+ \w+)</td>", matrix) == [("poor", "− no"), ("good", "+ yes")] * 2
    assert "For 2 of 4 combinations" in Structure(page).text


def test_failed_subject_is_named_and_left_out(edited):
    text = edited.html.text
    assert "1 of 3 scans failed" in text
    assert f"{EVIL} no signal" in text
    data = figure_data(edited.page)["spectra"]
    assert {t["when"]["unit"] for t in data["traces"]} == {"all", "scans", *edited.fake.units[:2]}


def test_provenance(edited):
    import hashlib

    text = edited.html.text
    assert hashlib.sha256(b"fake weights").hexdigest() in text
    assert "1234567" in text and "fakeset" in text and '"tost_margin_percent": 10' in text
    assert "spec2nii (conversion)" in text and "9.8.7" in text


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


def test_only_fitted_conditions_are_listed(edited):
    assert json.loads((edited.fake.root / "training" / "grid.json").read_text())["conditions"] == ["OFF", "ON"]
    assert "fitting engine batched OFF, DIFF" in edited.html.text


def test_help_needs_nothing_heavy():
    code = (
        "import sys, mrs_synthesis.report; print(sorted({'pandas', 'plotly', 'torch', 'nibabel'} & set(sys.modules)))"
    )
    path = str(Path(report.__file__).parents[1])
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert found.stdout.strip() == "[]", found.stderr


def test_every_table_of_the_rules_has_a_caption_and_every_caption_a_table():
    workflow = Path(report.__file__).parents[1]
    rules = "".join(path.read_text() for path in (workflow / "rules").glob("*.smk"))
    tables = re.findall(r'reported\(\s*"(\w+)",\s*"([^"]+)"', rules)
    captions = {path.stem: path.read_text() for path in (workflow / "report" / "tables").glob("*.rst")}
    assert len(tables) == len(captions) and {name for name, _ in tables} == set(captions)
    assert all(len(text.split()) > 5 for text in captions.values())
    files = re.findall(r'shown\(\s*"([\w/.]+)"', rules)
    assert {Path(file).stem for file in files} >= {"report", "bias", "effective", "bound", "spectra", "config"}
    assert all((workflow / "report" / f"{Path(file).stem}.rst").is_file() for file in files)
