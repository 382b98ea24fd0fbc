"""Tables sort and are saved whole; figures are saved as SVG."""

import base64
import csv
import gzip
import io
import re
from pathlib import Path
from xml.etree import ElementTree

TABLES = """() => [...document.querySelectorAll("table.sortable")].map((table, number) => {
    const texts = () => [...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.textContent.trim()));
    const before = texts();
    const columns = [...table.tHead.rows[0].cells].map((heading, column) => {
        const keys = () => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.value
                                                                 ?? row.cells[column].textContent.trim());
        const sorted = {};
        for (const way of ["ascending", "descending"]) {
            heading.querySelector("button").click();
            const marked = [...table.tHead.rows[0].cells].filter((h) => h.getAttribute("aria-sort"));
            sorted[way] = {keys: keys(), rows: texts(), said: heading.getAttribute("aria-sort"), marked: marked.length};
        }
        return {name: heading.textContent.trim(), ...sorted};
    });
    return {number, before, columns};
})"""


def value(text):
    """A number, or None for text, as a reader would see it."""
    found = re.fullmatch(r"[<>≤≥]?\s*([-−+]?[\d.]+(?:e[-+]?\d+)?)(?:[\s%(].*)?", text, re.S)
    return float(found[1].replace("−", "-")) if found else None


def test_tables_sort_numbers_as_numbers_and_nothing_last(shared):
    tables = shared.evaluate(TABLES)
    assert len(tables) > 6
    numeric = with_missing = 0
    for table in tables:
        for column in table["columns"]:
            for way, sign in (("ascending", 1), ("descending", -1)):
                found = column[way]
                assert found["said"] == way and found["marked"] == 1
                assert sorted(found["rows"]) == sorted(table["before"])
                kept = [key for key in found["keys"] if key not in ("n/a", "")]
                assert found["keys"][: len(kept)] == kept, (column["name"], "missing ones are not last")
                with_missing += 0 < len(kept) < len(found["keys"])
                numbers = [value(key) for key in kept]
                if None in numbers:
                    continue
                numeric += len(set(numbers)) > 1
                assert [sign * n for n in numbers] == sorted(sign * n for n in numbers), column["name"]
    assert numeric > 40 and with_missing > 4


def test_text_columns_sort_alphabetically(shared):
    columns = [column for table in shared.evaluate(TABLES) for column in table["columns"] if column["name"] == "source"]
    sources = max(columns, key=lambda column: len(set(column["ascending"]["keys"])))
    assert sources["ascending"]["keys"] == sorted(sources["ascending"]["keys"])
    assert len(set(sources["ascending"]["keys"])) > 4


def test_saved_tables_are_the_whole_tables(shared, study):
    stored = dict(shared.locator("script[id^=tsv-]").evaluate_all("(all) => all.map((s) => [s.id.slice(4), s.text])"))
    assert {"bias", "quality", "concentrations", "effective_transients"} <= set(stored)
    for name, content in stored.items():
        whole = (study.root / "tables" / f"{name}.tsv").read_bytes()
        assert gzip.decompress(base64.b64decode(content)) == whole, name
        if name in ("bias", "concentrations"):  # a browser takes many downloads in a row for an attack
            with shared.expect_download() as saving:
                shared.locator(f"[data-table={name}]").click()
            assert saving.value.suggested_filename == f"{name}.tsv"
            assert Path(saving.value.path()).read_bytes() == whole
    beside = shared.locator("a[download]").evaluate_all("(links) => links.map((a) => a.getAttribute('href'))")
    assert all((study.root / path).is_file() for path in beside)


def test_tables_without_a_file_are_saved_as_shown(shared):
    buttons = shared.locator("button.save:not([data-table])")
    assert buttons.count() >= 3
    shared.evaluate(
        "() => document.querySelectorAll('main > :not(#tables) details').forEach((d) => { d.open = true; })"
    )
    for i in range(buttons.count()):
        with shared.expect_download() as saving:
            buttons.nth(i).click()
        text = Path(saving.value.path()).read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
        shape = buttons.nth(i).evaluate("""(b) => {
            const table = b.previousElementSibling.querySelector("table") || b.previousElementSibling;
            return [table.rows.length, table.rows[0].cells.length, table.rows[1].cells[0].textContent.trim()];
        }""")
        assert [len(rows), len(rows[0]), rows[1][0]] == shape
        assert len({len(row) for row in rows}) == 1
        assert saving.value.suggested_filename.endswith(".tsv")


SVG = """async (button) => {
    const keep = [URL.createObjectURL, HTMLAnchorElement.prototype.click];
    const blob = await new Promise((done) => {
        URL.createObjectURL = (made) => { done(made); return keep[0].call(URL, made); };
        HTMLAnchorElement.prototype.click = () => {};
        button.click();
    });
    await new Promise((done) => setTimeout(done, 0));
    [URL.createObjectURL, HTMLAnchorElement.prototype.click] = keep;
    return blob.text();
}"""


def test_every_figure_is_saved_as_svg_with_its_text(shared):
    with shared.expect_download() as saving:
        shared.locator("#figure-spectra [data-tool=svg]").click()
    assert saving.value.suggested_filename == "spectra.svg"
    first = Path(saving.value.path()).read_text(encoding="utf-8")
    names = shared.locator(".plot").evaluate_all("(plots) => plots.map((p) => p.dataset.figure)")
    assert len(names) > 7
    for name in names:
        text = first if name == "spectra" else shared.locator(f"#figure-{name} [data-tool=svg]").evaluate(SVG)
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and float(root.get("width")) >= 640
        assert not re.search(r"(?:href|src)=\"(?!#|data:)|@import|url\(['\"]?http", text)
        words = "".join(root.itertext())
        texts = ".xtitle, .ytitle, .y2title, .legendtext, .xtick text"
        titles = (
            shared.locator(f"[data-figure={name}]")
            .locator(texts)
            .evaluate_all("(found) => found.map((e) => e.textContent)")
        )
        assert len(titles) > 4 and all(title in words for title in titles), name
        assert len(re.findall(r"<path ", text)) > 5
