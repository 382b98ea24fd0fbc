"""The tables inside the page are whole, and the page stays small however many subjects there are."""

import base64
import gzip
import re

import fake_results
import numpy as np
import pandas as pd
from fake_results import FakeResults

from mrs_synthesis import report_data, report_downloads
from mrs_synthesis.files import write_table


def tables_of(random, **rows):
    return {
        name: pd.DataFrame({"unit": [f"sub-{i}" for i in range(n)], "v": random.random(n)}) for name, n in rows.items()
    }


def test_packed_table_is_the_file_that_the_stages_write(tmp_path):
    table = pd.DataFrame({"unit": ["sub-01", "µ\n"], "value": [1 / 3, np.nan], "n": [1, 2]})
    write_table(tmp_path / "t.tsv", table)
    packed = report_downloads.packed(table)
    assert gzip.decompress(base64.b64decode(packed)) == (tmp_path / "t.tsv").read_bytes()
    assert packed == report_downloads.packed(table)  # no time in it


def test_smallest_tables_are_embedded_while_there_is_room():
    tables = tables_of(np.random.default_rng(0), long=3000, short=10, middle=300, none=0)
    sizes = {name: len(report_downloads.packed(table)) for name, table in tables.items()}
    room = sizes["short"] + sizes["middle"] + 100
    names = ["long", "none", "short", "middle"]
    views = report_downloads.table_views(tables, {}, {"short": "Few rows"}, names, room)
    assert [view["name"] for view in views] == ["long", "short", "middle"]  # without the one that has no rows
    assert [bool(view["packed"]) for view in views] == [False, True, True]
    assert views[0]["link"] == "tables/long.tsv" and views[0]["total"] == 3000
    assert len(views[0]["rows"]) == report_downloads.SHOWN_ROWS
    assert [view["title"] for view in views] == ["Long", "Few rows", "Middle"]


def test_a_huge_table_is_not_even_compressed():
    n = report_downloads.MOST_FIELDS // 2 + 1
    table = pd.DataFrame({"a": np.zeros(n), "b": np.zeros(n)})
    (view,) = report_downloads.table_views({"huge": table}, {}, {}, ["huge"])
    assert view["packed"] == "" and view["total"] == n


class Many(FakeResults):
    """Many subjects in as many transients, cells and ratios as a real study has; spectra of those that are shown."""

    def unit_files(self, unit, empty):
        shown = np.unique(np.linspace(0, len(self.units) - 1, 6).round().astype(int))
        if unit in [self.units[i] for i in shown]:
            super().unit_files(unit, empty)
            return
        folder = self.root / "derivatives" / unit[:6] / "mrs"
        folder.mkdir(parents=True, exist_ok=True)
        qc = pd.DataFrame({"condition": np.repeat(self.conditions, 40), "transient": [*range(40)] * 2, "kept": 1})
        for column in ("shift_hz", "phase_deg", "noise_sd", "snr", "fwhm_hz", "water_residual"):
            qc[column] = self.random.standard_normal(len(qc))
        write_table(folder / f"{unit}_desc-preproc_qc.tsv", qc)

    def tables(self):
        self.measured = [(m, c) for m in ("GABA+", "Glx", "tNAA", "tCho", "Ins", "tCr") for c in ("DIFF", "OFF")]
        super().tables()


def test_page_does_not_grow_with_subjects(tmp_path, monkeypatch):
    monkeypatch.setattr(fake_results, "POINTS", 2048)
    few, many = (Many(tmp_path / str(n), subjects=n).page() for n in (20, 320))
    sizes = [len(page.encode()) for page in (few, many)]
    print(f"page of 20 subjects: {sizes[0] / 1e6:.2f} MB, of 320: {sizes[1] / 1e6:.2f} MB")
    assert 5e6 < sizes[0] < sizes[1] < sizes[0] + 3.5e6 < 15e6
    # What is not all on the page says so, and where the rest is
    drawn = int(re.search(r"Points of (\d+) of 320 scans", many)[1])
    assert 40 <= drawn < 300 and "Shown are 12 of 320 scans" in many
    assert "the 100 of 320 scans that lost the largest share; all are in tables/preprocessing.tsv" in many
    assert "Points of" not in few and "largest share" not in few


def test_large_tables_are_not_held_and_the_page_draws_the_same(tmp_path, monkeypatch):
    FakeResults(tmp_path, subjects=5)
    whole = report_data.load("fake", tmp_path, "batched")
    monkeypatch.setattr(report_data, "LARGE_BYTES", 0)
    monkeypatch.setattr(report_data, "CHUNK", 7)
    monkeypatch.setattr(report_data, "SHOWN_ROWS", 9)
    study = report_data.load("fake", tmp_path, "batched")
    n = len(whole.tables["concentrations"])
    assert len(study.tables["concentrations"]) == 9 and study.totals == {"concentrations": n} and not whole.totals
    pd.testing.assert_frame_equal(study.estimates, whole.estimates, check_dtype=False)
    assert study.fitted == whole.fitted == {"DIFF", "OFF"}
    assert set(study.tables) == set(whole.tables) and len(study.tables["bias"]) == len(whole.tables["bias"])
    views = report_downloads.table_views(study.tables, {}, {}, ["concentrations", "bias"], totals=study.totals)
    assert [(view["total"], bool(view["packed"])) for view in views] == [(n, False), (len(whole.tables["bias"]), True)]
    monkeypatch.setattr(report_data, "MOST_SCANS", 2)
    few = report_data.load("fake", tmp_path, "batched").estimates
    assert list(few["unit"].unique()) == [whole.units["unit"].iloc[0], whole.units["unit"].iloc[-1]]


def test_many_failures_are_grouped_by_stage_and_reason(tmp_path):
    fake = FakeResults(tmp_path, failed=True)
    rows = [(f"sub-{i:03d}_acq-x", "convert", f"raw/sub-{i:03d}/x.dat: {i} bytes, expected more") for i in range(60)]
    rows += [(f"sub-{i:03d}_acq-x", "preprocess", "no signal") for i in range(60, 67)]
    rows += [(f"sub-{i:03d}_acq-x", "excluded", f"moved <{i} times>") for i in range(67, 69)]
    write_table(tmp_path / "tables" / "failures.tsv", pd.DataFrame(rows, columns=["unit", "stage", "reason"]))
    page = fake.page()
    words = "2 excluded by the sample sheet, 60 failed in convert, 7 failed in preprocess"
    assert f"Left out: {words}." in page and f"({words})" in page.split('id="failed"')[0]
    section = page.split('id="failed"')[1].split("</section>")[0]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in section.split("<tbody>")[1].split("<tr>")[1:]]
    assert [(row[0], row[1]) for row in cells] == [("convert", "60"), ("preprocess", "7"), ("excluded", "2")]
    assert cells[0][2].endswith("0 bytes, expected more") and cells[0][3].count("sub-") == 3
    assert "tables/failures.tsv" in section and "sub-059" not in section
