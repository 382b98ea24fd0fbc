"""The compact index of a study says what the tables say."""

import pandas as pd
import pytest

from mrs_synthesis import study_index, training_set
from mrs_synthesis.files import write_table
from mrs_synthesis.stage import InputError

COLUMNS = training_set.INDEX_COLUMNS


def write(folder, entries):
    rows = []
    for unit, subject, site, splits in entries:
        for condition in ("OFF", "ON"):
            for transient, split in enumerate(splits):
                rows.append((len(rows), unit, subject, site, condition, transient, split, 2.5, 0.1 + len(rows)))
    write_table(folder / "index.tsv", pd.DataFrame(rows, columns=list(COLUMNS)))


@pytest.fixture
def folders(tmp_path):
    write(tmp_path / "a", [("sub-2", "02", "z", ["train", "test", "train"]), ("sub-1", "01", None, ["validation"] * 2)])
    write(tmp_path / "b", [("sub-0", "00", "y", ["test"] * 3)])
    return tmp_path / "a", tmp_path / "b"


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_same_as_the_tables(folders, monkeypatch, chunk):
    monkeypatch.setattr(study_index, "CHUNK", chunk)
    found, known = study_index.read(*folders, COLUMNS), training_set.read_index(*folders, COLUMNS)
    assert list(found.columns) == list(known.columns)
    assert found["unit"].dtype.categories.tolist() == ["sub-0", "sub-1", "sub-2"]
    for name in COLUMNS:
        assert found[name].astype(object).where(found[name].notna(), "-").tolist() == (
            known[name].astype(object).where(known[name].notna(), "-").tolist()
        ), name
    names = [unit for unit, _ in found.groupby("unit", sort=True, observed=True)]
    assert names == [unit for unit, _ in known.groupby("unit", sort=True)]


def test_one_folder_for_both(folders):
    found = study_index.read(folders[0], folders[0], ("unit", "transient", "split"))
    assert found["split"].value_counts().to_dict() == {"train": 4, "validation": 4, "test": 2}


def test_names_take_no_memory(tmp_path):
    write(tmp_path, [(f"sub-{'x' * 50}{i}", "a", "b", ["train"] * 500) for i in range(4)])
    found = study_index.read(tmp_path, tmp_path, COLUMNS)
    assert found.memory_usage(index=False, deep=True).sum() < 60 * len(found)


def test_a_column_that_lacks_is_named(folders):
    with pytest.raises(InputError, match=r"a.index\.tsv: .*n_points.*assemble again"):
        study_index.read(*folders, ("unit", "split", "n_points"))
