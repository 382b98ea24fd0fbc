"""The cells of a scan on their way through the fit, chunk by chunk: memory does not grow with their number."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mrs_synthesis import fit_checks, fitting
from mrs_synthesis.files import ArraySpool, append_table
from mrs_synthesis.fitting import Engine, Fitted, Task
from mrs_synthesis.scans import ScanReader
from mrs_synthesis.stage import InputError

PROGRESS_S = 10.0
PerRaw = Callable[[Task, Fitted], tuple[np.ndarray, np.ndarray]]  # mmol/kg and mmol/l per unit of raw, of each cell


class Cells:
    """FIDs of a scan's cells (its transients) in the conditions to be fitted; DIFF is ON - OFF.

    Parameters
    ----------
    path
        NIfTI-MRS file.
    conditions
        To be fitted. If it is one and the file has one, that is taken whatever its name (a difference stored as such).

    Raises
    ------
    InputError
        If the file cannot be read, or lacks a condition.
    """

    def __init__(self, path: Path, conditions: Sequence[str]) -> None:
        self.reader = ScanReader(path)
        self.path, self.count = Path(path), self.reader.n_transients
        present = self.reader.conditions
        self._parts: dict[str, tuple[str, ...]] = {}  # one to read, or two to subtract
        for condition in conditions:
            if condition in present:
                self._parts[condition] = (condition,)
            elif condition == "DIFF" and {"ON", "OFF"} <= set(present):
                self._parts[condition] = ("ON", "OFF")
            elif len(conditions) == len(present) == 1:
                self._parts[condition] = present
            else:
                raise InputError(
                    f"{path}: has {', '.join(present)}, not {condition}; change --conditions, "
                    "or name the edit conditions in the file's EditCondition"
                )
        self._last: tuple[tuple[int, int], dict[str, np.ndarray]] = ((0, 0), {})

    def __enter__(self) -> Cells:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.__exit__()

    def chunk(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Return the FIDs (stop - start, n_points) of each condition; they may be zero, NaN or infinite."""
        if self._last[0] != (start, stop):
            names = dict.fromkeys(name for parts in self._parts.values() for name in parts)
            stored = {name: self.reader.chunk(name, start, stop) for name in names}
            fids = {}
            with np.errstate(invalid="ignore"):  # infinite - infinite
                for condition, (first, *second) in self._parts.items():
                    fids[condition] = stored[first] - stored[second[0]] if second else stored[first]
            self._last = ((start, stop), fids)
        return self._last[1]

    def survey(self, condition: str, chunk: int) -> np.ndarray:
        """Read everything once and return the mean FID (n_points,) of a condition, every cell scaled to norm 1.

        Raises
        ------
        InputError
            If the file is damaged, or no cell of any condition can be fitted.
        """
        total, usable, first = np.zeros(self.reader.n_points, complex), 0, ""
        for start in range(0, self.count, chunk):
            for name, fids in self.chunk(start, min(start + chunk, self.count)).items():
                texts = fit_checks.defects(fids)
                good = np.array([not text for text in texts])
                first = first or next((f"{name} of cell {start + i} is {t}" for i, t in enumerate(texts) if t), "")
                usable += int(good.sum())
                if name == condition:
                    total += (fids[good] / np.linalg.norm(fids[good], axis=1, keepdims=True)).sum(axis=0)
        if not usable:
            raise InputError(f"{self.path}: none of {self.count} cells can be fitted ({first}); make the file again")
        return total


class Progress:
    """A line now and then: how much is done, how fast, how long it will take."""

    def __init__(self, total: int) -> None:
        self.total, self.begin = total, time.monotonic()
        self.told = self.begin

    def report(self, done: int) -> None:
        """Say that `done` cells are done, unless the last line is too recent."""
        now = time.monotonic()
        if done < self.total and now - self.told < PROGRESS_S:
            return
        self.told = now
        rate = done / max(now - self.begin, 1e-9)
        left = (self.total - done) / rate
        print(f"{done} of {self.total} cells, {rate:.3g} per s, {left / 60:.1f} min left", flush=True)


def _careful_fit(engine: Engine, fids: np.ndarray, cells: np.ndarray, answer: Fitted, where: np.ndarray) -> None:
    """Fit, and if an algebraic failure of one cell stops all, halve until it is alone; it stays missing."""
    try:
        found = engine.fit(fids, cells)
    except (np.linalg.LinAlgError, FloatingPointError) as error:
        if len(fids) == 1:
            print(f"cell {cells[0]} could not be fitted: {error}", file=sys.stderr, flush=True)
            return
        half = len(fids) // 2
        for part in (slice(None, half), slice(half, None)):
            _careful_fit(engine, fids[part], cells[part], answer, where[part])
        return
    finite = np.isfinite(found.raw).all(axis=1) & np.isfinite(found.covariance).all(axis=(1, 2))
    answer.spread(found, where)
    for name in ("raw", "covariance", "snr", "fwhm_hz"):
        getattr(answer, name)[where[~finite]] = np.nan
    answer.converged[where[~finite]] = False


def _note(*texts: str) -> str:
    return "; ".join(filter(None, texts))


class Run:
    """Fits all conditions of chunks of cells, and counts what happened.

    Parameters
    ----------
    tasks, engines
        Of each condition.
    positions
        Compares the condition in which offsets are looked for, which is one of the tasks', with its basis.
    common_ppm
        How far above the basis the scan's mean lies.
    """

    def __init__(
        self, tasks: Sequence[Task], engines: Mapping[str, Engine], positions: fit_checks.Positions, common_ppm: float
    ) -> None:
        self.tasks, self.engines, self.positions, self.common = tasks, engines, positions, common_ppm
        self.windows = {task.condition: task.model().ppm for task in tasks}
        self.counts: Counter[str] = Counter()

    def chunk(self, fids: Mapping[str, np.ndarray], first: int) -> tuple[dict[str, Fitted], dict[str, list[str]]]:
        """Return fits and notes of the cells from number `first` on, for each condition."""
        texts = {condition: fit_checks.defects(own) for condition, own in fids.items()}
        count = len(next(iter(texts.values())))
        own, where = np.full(count, np.nan), self.positions.task.condition
        good = np.array([not text for text in texts[where]])
        if good.any():
            own[good] = self.positions.find(fids[where][good])
        moved = fit_checks.moves(own, self.common)
        self.counts["moved"] += int(np.count_nonzero(moved))
        results, notes = {}, {}
        for task in self.tasks:
            condition = task.condition
            answer = fitting.missing(task, self.windows[condition], count)
            good = np.array([not text for text in texts[condition]]) & np.isfinite(moved)
            todo = np.flatnonzero(good)
            if todo.size:
                usable = fit_checks.move(fids[condition][todo], moved[todo], task)
                _careful_fit(self.engines[condition], usable, first + todo, answer, todo)
            results[condition] = answer
            notes[condition] = [self._cell_note(texts[condition][i], moved[i], own[i], answer, i) for i in range(count)]
            fitted = np.isfinite(answer.raw).all(axis=1)
            self.counts["fitted"] += int(fitted.sum())
            self.counts["missing"] += int(np.count_nonzero(~fitted))
            self.counts["not_converged"] += int(np.count_nonzero(fitted & ~answer.converged))
        return results, notes

    @staticmethod
    def _cell_note(defect: str, moved: float, own: float, answer: Fitted, cell: int) -> str:
        if defect:
            return defect
        if np.isnan(moved):
            return f"not fitted, {own:+.2f} ppm from the basis"
        shift = f"shifted by {moved:+.2f} ppm" if moved else ""
        if not np.isfinite(answer.raw[cell]).all():
            return _note("fit failed", shift)
        return _note("" if answer.converged[cell] else "not converged", shift)


def fit(
    cells: Cells, run: Run, *, engine: str, chunk: int, output: Path, curves: Path | None, per_raw: PerRaw | str
) -> None:
    """Fit all cells and write the table, and the curves if wanted, whole or not at all.

    Parameters
    ----------
    cells, run
        What is fitted.
    engine
        Its name, for the table.
    chunk
        Cells in memory at once.
    output, curves
        TSV and NPZ file.
    per_raw
        Gives the factors from `raw` to absolute concentrations, or why there are none.

    Raises
    ------
    InputError
        If not a single fit succeeded.
    """
    progress = Progress(cells.count)
    reference = fitting.reference_condition([task.condition for task in run.tasks])
    with ExitStack() as stack:
        append = stack.enter_context(append_table(output))
        spool = stack.enter_context(ArraySpool(curves)) if curves is not None else None
        for start in range(0, cells.count, chunk):
            stop = min(start + chunk, cells.count)
            results, notes = run.chunk(cells.chunk(start, stop), start)
            factors = None
            if isinstance(per_raw, str):
                notes = {name: [_note(text, per_raw) for text in texts] for name, texts in notes.items()}
            else:
                task = next(task for task in run.tasks if task.condition == reference)
                factors = per_raw(task, results[reference])
            append(fitting.table(results, engine, notes=notes, per_raw=factors, first_cell=start))
            if spool is not None:
                for name, array in fitting.curves(results, start).items():
                    if start == 0 or not name.endswith("_ppm"):
                        spool.append(name, array)
            progress.report(stop)
        if not run.counts["fitted"]:
            raise InputError(f"{cells.path}: no spectrum could be fitted; see the messages above")
