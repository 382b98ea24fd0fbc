"""The end of a study: complete, or the scans that failed."""

import json

import pandas as pd
import pytest

from mrs_synthesis import collect
from mrs_synthesis.files import write_table
from mrs_synthesis.stage import InputError


def table(folder, rows):
    write_table(folder / "failures.tsv", pd.DataFrame(rows, columns=["unit", "stage", "reason"]))
    return [folder / "failures.tsv"]


def test_a_scan_that_failed_in_two_stages_counts_once(tmp_path, capsys):
    rows = [("sub-01", "synthesise", "few"), ("sub-01", "augment", "few"), ("sub-02", "excluded", "moved")]
    with pytest.raises(InputError, match=r"^1 scan\(s\) failed .*failures\.tsv.*`exclude`"):
        collect.complete(table(tmp_path, rows), tmp_path / "complete.json")
    assert "failed: sub-01: augment: few" in capsys.readouterr().out
    assert not (tmp_path / "complete.json").exists()


def test_an_excluded_scan_is_no_failure(tmp_path):
    collect.complete(table(tmp_path, [("sub-02", "excluded", "moved")]), tmp_path / "complete.json")
    assert json.loads((tmp_path / "complete.json").read_text()) == {"complete": True, "excluded": 1}
