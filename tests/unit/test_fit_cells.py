"""Cells that pass the fit in chunks: nothing depends on the chunks, one failure costs one cell, memory stays."""

import tracemalloc

import numpy as np
import pytest
from analytic_basis import MHZ, analytic_basis

from mrs_synthesis import fit_cells, fit_checks, fitting, lcm_model
from mrs_synthesis.files import read_table
from mrs_synthesis.scans import Scan, write_scan
from mrs_synthesis.stage import InputError

N, DWELL, CELLS = 512, 5e-4, 9


class LinearEngine:
    """Least squares without line shapes: enough to follow each cell through the chunks."""

    def __init__(self, task, refused=()):
        self.task, self.ppm, self.refused, self.sizes = task, task.model().ppm, refused, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def fit(self, fids, cells):
        self.sizes.append(len(fids))
        if set(self.refused) & set(cells):
            raise np.linalg.LinAlgError("singular")
        answer = fitting.missing(self.task, self.ppm, len(fids))
        answer.raw[:] = np.linalg.lstsq(self.task.basis.fids.T, fids.T, rcond=None)[0].real.T
        answer.covariance[:] = 1e-4 * np.eye(answer.raw.shape[1])
        answer.data[:] = answer.raw[:, :1]
        answer.converged[:] = True
        return answer


def scan(path, cells=CELLS):
    """Cell i holds (i + 1) x the basis in OFF, twice that in ON."""
    fid = analytic_basis(n_points=N).fids.sum(axis=0)
    fids = np.arange(1, 3)[:, None, None, None] * np.arange(1, cells + 1)[None, :, None, None] * fid
    write_scan(path, Scan(fids, MHZ, DWELL, {}, ("OFF", "ON")))


def run(path, chunk, folder, refused=(), conditions=("OFF", "DIFF"), curves=True):
    basis = analytic_basis(n_points=N)
    tasks = [
        fitting.Task(condition, N, DWELL, MHZ, basis, [0] * len(basis.names), lcm_model.Options())
        for condition in conditions
    ]
    engines = {task.condition: LinearEngine(task, refused) for task in tasks}
    positions = fit_checks.Positions(tasks[0])
    output, npz = folder / f"{chunk}.tsv", folder / f"{chunk}.npz"
    with fit_cells.Cells(path, conditions) as cells:
        common = positions.check(cells.survey(conditions[0], chunk), str(path))
        work = fit_cells.Run(tasks, engines, positions, common)
        options = {"engine": "linear", "chunk": chunk, "per_raw": "no water reference"}
        fit_cells.fit(cells, work, output=output, curves=npz if curves else None, **options)
    return output, npz, engines, work


def test_chunks_leave_no_trace(tmp_path):
    scan(tmp_path / "s.nii.gz")
    texts, arrays = [], []
    for chunk in (2, 4, 100):
        output, npz, engines, work = run(tmp_path / "s.nii.gz", chunk, tmp_path)
        texts.append(output.read_text())
        with np.load(npz) as stored:
            arrays.append({name: stored[name] for name in stored.files})
        assert max(engines["OFF"].sizes) == min(chunk, CELLS) and sum(engines["DIFF"].sizes) == CELLS
        assert dict(work.counts) == {"moved": 0, "fitted": 2 * CELLS, "missing": 0, "not_converged": 0}
    assert texts[0] == texts[1] == texts[2]
    table = read_table(tmp_path / "2.tsv").set_index(["condition", "metabolite", "cell"])["raw"].sort_index()
    for condition in ("OFF", "DIFF"):  # ON - OFF is once OFF
        assert np.allclose(table.loc[condition, "NAA"], np.arange(1, CELLS + 1), rtol=1e-5)
    for name, array in arrays[0].items():
        assert all(np.array_equal(array, other[name], equal_nan=True) for other in arrays[1:]), name
        assert len(array) == CELLS or name.endswith("_ppm")
    assert arrays[0]["DIFF_cell"].tolist() == list(range(CELLS))
    assert np.allclose(arrays[0]["OFF_data"][:, 0].real, np.arange(1, CELLS + 1), rtol=1e-5)


def test_a_cell_that_breaks_the_algebra_is_missing_alone(tmp_path, capsys):
    scan(tmp_path / "s.nii.gz")
    output, _, _, work = run(tmp_path / "s.nii.gz", 6, tmp_path, refused=[4])
    table = read_table(output)
    assert set(table.loc[table["raw"].isna(), "cell"]) == {4}
    assert table.loc[table["cell"] == 4, "note"].str.startswith("fit failed").all()
    assert (work.counts["fitted"], work.counts["missing"]) == (2 * CELLS - 2, 2)
    assert capsys.readouterr().err.splitlines() == ["cell 4 could not be fitted: singular"] * 2


def test_answers_that_are_not_finite_never_pass_silently(tmp_path, monkeypatch):
    scan(tmp_path / "s.nii.gz")

    def broken(self, fids, cells):
        answer = fitting.missing(self.task, self.ppm, len(fids))
        answer.raw[:], answer.covariance[:], answer.converged[:] = 1.0, 1.0, True
        answer.covariance[list(cells).index(3), 0, 0] = np.inf
        return answer

    monkeypatch.setattr(LinearEngine, "fit", broken)
    table = read_table(run(tmp_path / "s.nii.gz", 100, tmp_path)[0])
    own = table[table["cell"] == 3]
    assert own["raw"].isna().all() and own["converged"].eq(0).all() and own["note"].str.contains("fit failed").all()
    assert table.loc[table["cell"] != 3, "raw"].notna().all()


def test_nothing_is_left_if_no_fit_succeeds(tmp_path):
    scan(tmp_path / "s.nii.gz")
    with pytest.raises(InputError, match="no spectrum could be fitted"):
        run(tmp_path / "s.nii.gz", 100, tmp_path, refused=range(CELLS))
    assert [path.name for path in tmp_path.iterdir()] == ["s.nii.gz"]


def test_a_file_that_holds_one_condition_only_may_be_a_difference(tmp_path):
    fid = analytic_basis(n_points=N).fids.sum(axis=0)
    write_scan(tmp_path / "s.nii.gz", Scan(np.tile(fid, (1, 3, 1, 1)), MHZ, DWELL))
    with fit_cells.Cells(tmp_path / "s.nii.gz", ["DIFF"]) as cells:
        assert cells.chunk(1, 3)["DIFF"].shape == (2, N)
    with pytest.raises(InputError, match="has UNEDITED, not OFF"):
        fit_cells.Cells(tmp_path / "s.nii.gz", ["OFF", "DIFF"])


def test_progress_says_how_much_how_fast_how_long(capsys, monkeypatch):
    clock = iter([0.0, 5.0, 20.0, 60.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = fit_cells.Progress(120)
    for done in (10, 40, 120):
        progress.report(done)
    # Nothing after 5 s; after 20 s two cells a second, so that 80 take 40 s
    assert capsys.readouterr().out.splitlines() == [
        "40 of 120 cells, 2 per s, 0.7 min left",
        "120 of 120 cells, 2 per s, 0.0 min left",
    ]


def test_memory_grows_with_the_chunk_not_with_the_study(tmp_path):
    peaks = []
    for cells in (64, 512):
        scan(tmp_path / "s.nii.gz", cells)
        run(tmp_path / "s.nii.gz", 32, tmp_path)
        tracemalloc.start()
        run(tmp_path / "s.nii.gz", 32, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
