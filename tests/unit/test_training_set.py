"""The training set on disk: what is read is what was written, and no more of it is held than was asked for."""

import hashlib
import tracemalloc

import numpy as np
import pytest

from mrs_synthesis import subject_fit, subject_model, training_set
from mrs_synthesis.files import write_json
from mrs_synthesis.stage import InputError, SkippedError
from mrs_synthesis.training_set import RowFile, write_spectra


def rows_of(n, width, seed=0):
    parts = np.random.default_rng(seed).standard_normal((2, n, width))
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


@pytest.mark.parametrize("shape", [(9, 5), (9, 2, 3)])
def test_rows_are_those_of_the_array(tmp_path, shape):
    values = np.random.default_rng(0).standard_normal(shape)
    np.save(tmp_path / "a.npy", values)
    file = RowFile(tmp_path / "a.npy")
    assert (file.shape, file.dtype, len(file), file.size) == (shape, values.dtype, 9, values.size)
    for rows in (slice(2, 7), slice(None, None, 3), np.array([8, 0, 1, 2, 2]), np.array([[3, 4], [7, 1]]), 5, []):
        picked = values[rows] if isinstance(rows, slice) else values[np.array(rows, int)]
        np.testing.assert_array_equal(file[rows], picked)
    assert len(list(file)) == 9
    for wrong in (9, -1):
        with pytest.raises(IndexError, match="it has 9"):
            file[wrong]


def test_a_file_that_became_shorter_or_is_no_array_of_rows_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 8)))
    file = RowFile(tmp_path / "a.npy")
    with open(tmp_path / "a.npy", "rb+") as stream:
        stream.truncate(128 + 3 * 8 * 8 + 5)
    np.testing.assert_array_equal(file[:3], 1)
    with pytest.raises(InputError, match="ends before row 3; assemble it again"):
        file[2:]
    (tmp_path / "a.npy").write_text("no array")
    with pytest.raises(InputError, match=r"a\.npy: no array of rows"):
        RowFile(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.ones((4, 8)).T)
    with pytest.raises(InputError, match="expected row after row"):
        RowFile(tmp_path / "a.npy")


def test_blocks_make_the_file_that_numpy_writes_and_its_hash(tmp_path):
    values = rows_of(7, 6)
    digest = write_spectra(tmp_path / "a.npy", 7, 6, (values[i : i + 3].astype(complex) for i in (0, 3, 6)))
    np.save(tmp_path / "b.npy", values)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert digest == hashlib.sha256((tmp_path / "b.npy").read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="7 rows, expected 8"):
        write_spectra(tmp_path / "c.npy", 8, 6, [values])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy"]


def test_memory_of_reading_and_writing_is_that_of_a_block(tmp_path):
    width, block, n = 1000, 20, 2000  # 16 MB in all, 160 kB a block
    values = rows_of(block, width)
    tracemalloc.start()
    write_spectra(tmp_path / "a.npy", n, width, (values for _ in range(n // block)))
    file = RowFile(tmp_path / "a.npy")
    for start in range(0, n, block):
        np.testing.assert_array_equal(file[start : start + block], values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5e6


def test_a_test_scan_is_known_from_the_index_by_its_whole_name(tmp_path):
    write_json(tmp_path / "grid.json", {})
    (tmp_path / "index.tsv").write_text(
        "row\tunit\ttransient\tsplit\tscale\n0\tsub-01_acq-a\t0\ttrain\t1.0\n1\tsub-012_acq-a\t0\ttrain\t1.0\n"
    )
    for unit in ("sub-012_acq-a", "sub-01_acq-a"):
        with pytest.raises(SkippedError, match="not in the test split"):
            training_set.held_out(tmp_path, unit, 3, "subject")
    for unit in ("sub-1_acq-a", "sub-01_acq-", "ub-01_acq-a", "sub-02_acq-a"):
        assert training_set.held_out(tmp_path, unit, 3, "subject") == ([0, 1, 2], None)


def test_subjects_are_read_in_blocks_and_blocks_do_not_matter(tmp_path, monkeypatch):
    width, n = 32, 40
    ppm = 2.0 + 0.02 * np.arange(width)
    rng = np.random.default_rng(3)
    line = 1 / (1 + 1j * (ppm - 2.2) / 0.04)
    spectra = np.einsum("n,w->nw", 1 + 0.3 * rng.standard_normal(n), line)[:, None] * np.ones((1, 2, 1))
    spectra = spectra + 0.01 * (rng.standard_normal(spectra.shape) + 1j * rng.standard_normal(spectra.shape))
    on_disk = training_set.spool(tmp_path, spectra.shape, spectra)
    assert not list(tmp_path.iterdir())  # the file has no name
    largest = []
    read = RowFile.__getitem__

    def spied(self, rows):
        found = read(self, rows)
        largest.append(len(found) if isinstance(rows, slice) else 1)
        return found

    monkeypatch.setattr(RowFile, "__getitem__", spied)
    models = []
    sites = tuple("ab"[i % 2] for i in range(n))
    for values, block in ((spectra, 512), (on_disk, 7)):
        monkeypatch.setattr(subject_model, "BLOCK", block)
        monkeypatch.setattr(subject_fit, "BLOCK", block)
        data = subject_model.Means(values, np.full(n, 1e-4), sites)
        models.append(subject_fit.fit_means(data, data, 0.02)[0])
    assert max(largest) == 7
    np.testing.assert_allclose(models[1].mean, models[0].mean, rtol=1e-12)
    np.testing.assert_allclose(models[1].variances, models[0].variances, rtol=1e-6, atol=1e-9)
    assert models[0].variances[0] > 10 * models[0].variances[2] > 0
