"""The tables inside the page are whole, and the page stays small however many subjects there are."""

import base64
import gzip

import fake_results
import numpy as np
import pandas as pd
from fake_results import FakeResults

from mrs_synthesis import report_downloads
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
        qc = pd.DataFrame({"condition": np.repeat(self.conditions, 160), "transient": [*range(160)] * 2, "kept": 1})
        for column in ("shift_hz", "phase_deg", "noise_sd", "snr", "fwhm_hz", "water_residual"):
            qc[column] = self.random.standard_normal(len(qc))
        write_table(folder / f"{unit}_desc-preproc_qc.tsv", qc)

    def tables(self):
        self.measured = [(m, c) for m in ("GABA+", "Glx", "tNAA", "tCho", "Ins", "tCr") for c in ("DIFF", "OFF")]
        super().tables()


def test_page_of_200_subjects_is_below_15_mb(tmp_path, monkeypatch):
    monkeypatch.setattr(fake_results, "POINTS", 2048)
    few, many = (len(Many(tmp_path / str(n), subjects=n).page().encode()) for n in (20, 200))
    print(f"page of 20 subjects: {few / 1e6:.2f} MB, of 200: {many / 1e6:.2f} MB")
    assert 5e6 < few < many < 15e6
