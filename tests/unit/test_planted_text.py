"""Markup planted wherever a text from outside can get: in the page, figures, the model card, RO-Crate and provenance.

Some of these places refuse such texts earlier; here nothing before the writer is relied on.
"""

import copy
import json
import re
import shlex
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from fake_results import FakeResults
from page_structure import Structure, figure_data, own_parts
from test_crate import describe, finished
from test_modelcard import CONFIG as MODEL
from test_modelcard import run as write_card

from mrs_synthesis import provenance
from mrs_synthesis.files import read_table, write_json, write_table

PLANTED = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "{{7*7}}",
    '"onmouseover="alert(1)',
    "'onfocus='alert(1)",
    "<a href=javascript:alert(1)>x</a>",
    "\u2028",
)
EVIL = "".join(PLANTED).replace("\u2028", " ")


def plant(fake):
    """Plant the text in all of a study's tables, records and config; numbers stay."""
    for path in sorted((fake.root / "tables").glob("*.tsv")):
        table = read_table(path)
        texts = {"reason", "value", "item", "from", "section", "notes"} & set(table.columns)
        texts = {name for name in texts if table[name].dtype == object}
        table = table.assign(**dict.fromkeys(texts, EVIL))
        write_table(path, table.replace({"metabolite": {"tNAA": EVIL}}))
    for path in sorted((fake.root / "tables").glob("*.json")):
        write_json(path, json.loads(path.read_text()) | {"TableDescription": EVIL, "slope": {"Description": EVIL}})
    for path in fake.root.rglob("*_desc-preproc_qc.tsv"):
        if path.stat().st_size:
            table = read_table(path)
            write_table(path, table.assign(reason=table["reason"].where(table["kept"] == 1, EVIL)))
    for path in fake.root.glob("status/**/*.json"):
        record = json.loads(path.read_text())
        write_json(path, record | {"reason": EVIL if record["status"] == "failed" else ""})
    write_json(fake.root / "config.json", fake.config | {"samples": EVIL, "licence": EVIL, EVIL: [EVIL, {EVIL: EVIL}]})
    write_json(fake.root / "basis" / "fakeset" / "basis.json", {"frequency_mhz": 127.7, EVIL: EVIL})
    for path in (fake.root / "rawdata").rglob("*.json"):
        write_json(path, {"GeneratedBy": [{"Name": EVIL, "Version": EVIL}], "Manufacturer": EVIL})


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The page of a study with the text in every place."""
    fake = FakeResults(tmp_path_factory.mktemp("planted"), failed=True, site=EVIL)
    plant(fake)
    page = fake.page()
    return SimpleNamespace(fake=fake, page=page, own=own_parts(page), html=Structure(page))


def test_nothing_of_it_is_an_element_attribute_or_script(planted):
    tags = [tag for tag, _ in planted.html.elements]
    assert not {"img", "iframe"} & set(tags)
    assert planted.own.count("<script") == tags.count("script") - 1  # plotly.js
    for tag, attributes in planted.html.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert not (attributes.get("href") or "").lower().startswith("javascript"), (tag, attributes)


def test_it_is_shown_as_it_is(planted):
    for text in PLANTED:
        assert " ".join(text.split()) in planted.html.text
    assert planted.html.text.count("alert(1)") > 10


def test_blocks_of_data_stay_in_their_elements(planted):
    blocks = re.findall(r'<script type="application/(?:json|octet-stream)"[^>]*>(.*?)</script>', planted.page, re.S)
    assert len(blocks) > 5
    for block in blocks:
        assert not re.search("[<>&\u2028\u2029]", block)
    for name, figure in figure_data(planted.page).items():
        texts = [text for text in drawn_texts(figure) if re.search(r"<(?!/?(b|sub|br|extra)>)", text)]
        assert texts == [], name  # what plotly would read as markup


def drawn_texts(content):
    """Yield the texts of a figure that are drawn; `when` holds what they are chosen by."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list | dict):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            if key != "when":
                yield from drawn_texts(value)


def test_figures_and_their_descriptions_are_well_formed(planted):
    figures = list((planted.fake.root / "figures").glob("*.svg"))
    assert len(figures) >= 2
    for path in figures:
        tree = ElementTree.parse(path)
        names = {element.tag.rpartition("}")[2] for element in tree.iter()}
        assert not {"img", "script", "a", "foreignObject"} & names, path.name
        assert not [key for element in tree.iter() for key in element.attrib if key.startswith("on")], path.name


def test_the_model_card_has_no_markup_of_it(tmp_path):
    """Of the names in a study it holds only how many there are."""
    config = copy.deepcopy(MODEL)
    config["training"]["metabolites"] = [EVIL]
    config["architecture"] = {"sites": [EVIL]}
    text = write_card(tmp_path, config)
    assert "alert" not in text and "<" not in text and "1 metabolites" in text


def test_the_crate_is_json_that_says_it_as_it_is(tmp_path):
    known = finished(tmp_path, 2, 3)
    known["study"] = EVIL
    known["jobs"]["train"]["command"].append(EVIL)
    write_json(tmp_path / "provenance.json", known)
    graph = describe(tmp_path)
    assert EVIL in graph["#job/train"]["description"] or EVIL in graph["#job/train"]["description"].replace(
        "'\"'\"'", "'"
    )
    assert not [name for name in graph if "<" in name]


def test_words_of_a_command_are_what_they_were(tmp_path):
    """Provenance takes a job's command line apart as the shell does."""
    words = ["python", "-m", "x", EVIL, "a b;$(id)`id`'\"\\", "--output=x", "2>&1x", "\t"]
    line = " ".join(map(shlex.quote, words)) + " 2>&1 | tee " + shlex.quote(EVIL)
    assert provenance.words_of(line) == words
