"""FSL-MRS's own fit of many spectra, with its Python interface, in worker processes that load it once.

Runs in FSL-MRS's environment (`mrs_synthesis.fslmrs`). The steps are those of the command `fsl_mrs` with
``--no_conj_fid --conj_basis`` (its automatic conjugation misfires on difference spectra), and the numbers are the
same to the last digit.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis import lcm_baseline, spectra
from mrs_synthesis.fitting import Fitted, missing
from mrs_synthesis.fslmrs import ENVIRONMENT
from mrs_synthesis.stage import InputError, not_killed

if TYPE_CHECKING:
    from mrs_synthesis.fitting import Task

Answer = dict[str, Any] | str  # the arrays of one fit, or why there are none
MODELS = {  # (line shape, free shift): FSL-MRS's name
    ("voigt", False): "voigt",
    ("voigt", True): "free_shift",
    ("lorentzian", False): "lorentzian",
    ("lorentzian", True): "free_shift_lorentzian",
}
PROGRESS_S = 30.0


def baseline_words(text: str) -> str:
    """Return a baseline option as FSL-MRS's parser wants it, which is strict about case and blanks."""
    kind, value = lcm_baseline.parse(text)
    return {"off": "off", "poly": f"poly, {int(value)}", "spline": f"spline, {float(value)!r}"}[kind]


def as_stored(values: Any) -> Any:
    """Return numbers in single precision if they are the same there, unchanged otherwise.

    FSL-MRS computes with a file's precision, NIfTI-MRS files mostly have single precision, and the project reads them
    into double: what came from such a file is given to FSL-MRS as its command would have it.
    """
    values = np.asarray(values)
    with np.errstate(over="ignore"):
        single = values.astype(np.complex64 if np.iscomplexobj(values) else np.float32)
    return (single if np.array_equal(single, values) else values)[()]


class Fitter:
    """FSL-MRS set up in this process to fit spectra of one task, one at a time.

    Parameters
    ----------
    task
        What to fit.
    cache_basis
        Resample and scale the basis once per fit. FSL-MRS does it at every evaluation of its start-point search; the
        numbers are the same.
    """

    def __init__(self, task: Task, cache_basis: bool = True):
        from fsl_mrs import models
        from fsl_mrs.core import MRS
        from fsl_mrs.core import basis as fsl_basis
        from fsl_mrs.utils import fitting

        class CachedBasis(fsl_basis.Basis):
            def get_formatted_basis(self, *args: Any, **kwargs: Any) -> np.ndarray:
                key = repr((args, kwargs))
                cache = self.__dict__.setdefault("_cache", {})
                if key not in cache:
                    cache[key] = super().get_formatted_basis(*args, **kwargs)
                return cache[key]

        header = {
            "dwelltime": task.basis.dwell_s,
            "bandwidth": 1 / task.basis.dwell_s,
            "centralFrequency": task.basis.frequency_mhz * 1e6,
            "fwhm": None,
            "nucleus": "1H",
        }
        names = list(task.basis.names)
        # FSL-MRS holds JSON basis sets conjugated and turns them back when it uses them
        kind = CachedBasis if cache_basis else fsl_basis.Basis
        self.basis = kind(np.conj(task.basis.fids).T, names, [header] * len(names))
        self.task, self.new_mrs, self.fitting = task, MRS, fitting
        self.model = MODELS[task.options.line_shape, task.options.free_shift]
        self.split = models.getModelFunctions(self.model)[3]
        self.options = {
            "ppmlim": tuple(task.options.ppm_range),
            "method": "Newton",
            "baseline": baseline_words(task.options.baseline),
            "metab_groups": list(task.groups),
            "model": self.model,
        }

    def spectrum(self, fid: np.ndarray) -> Any:
        """Return FSL-MRS's object that holds one FID and the basis, scaled."""
        mrs = self.new_mrs(
            FID=as_stored(fid),
            cf=self.task.frequency_mhz,
            bw=1 / as_stored(self.task.dwell_s),
            nucleus="1H",
            basis=self.basis,
        )
        mrs.conj_Basis = True
        mrs.rescaleForFitting()
        return mrs

    def minimise(self, mrs: Any) -> tuple[Any, Any]:
        """Return FSL-MRS's results and its optimiser's verdict, which it keeps nowhere."""
        found = []
        minimise = self.fitting.minimize

        def recording(*args: Any, **kwargs: Any) -> Any:
            found.append(minimise(*args, **kwargs))
            return found[-1]

        self.fitting.minimize = recording
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.fitting.fit_FSLModel(mrs, **self.options), found[-1]
        finally:
            self.fitting.minimize = minimise

    def fit(self, fid: np.ndarray) -> Answer:
        """Fit one FID (n_points,); return the fields of `Fitted`, or the reason why FSL-MRS failed."""
        try:
            return self._fit(fid)
        except Exception as error:  # whatever it is, the other spectra must go on
            return _one_line(error)

    def _fit(self, fid: np.ndarray) -> Answer:
        mrs = self.spectrum(fid)
        result, verdict = self.minimise(mrs)
        if not np.all(np.isfinite(result.params)):
            return "parameters that are not finite"
        n, groups = len(mrs.names), max(self.task.groups) + 1
        c, gamma, *sigma, eps, phi0, phi1, _ = self.split(result.params, n, groups)
        scale = mrs.scaling["basis"] / mrs.scaling["FID"]
        window = slice(*mrs.ppmlim_to_range(self.options["ppmlim"]))
        return {
            "raw": c * scale,
            "covariance": result.cov[:n, :n] * scale**2,
            "snr": np.array([result.SNR.peaks[f"SNR_{name}"].iloc[0] for name in mrs.names], float),
            "fwhm_hz": np.array([result.FWHM[f"fwhm_{name}"].iloc[0] for name in mrs.names], float),
            "converged": bool(verdict.success),
            "objective": float(verdict.fun),
            "data": spectra.to_spectrum(fid)[window],
            "fit": spectra.to_spectrum(result.pred / mrs.scaling["FID"])[window],
            "baseline": spectra.to_spectrum(result.baseline / mrs.scaling["FID"])[window],
            "gamma": gamma,
            "sigma": sigma[0] if sigma else np.zeros(groups),
            "eps": eps,
            "phi0": phi0,
            "phi1": phi1,
        }


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _work(connection: Connection, task: Task) -> None:
    """Answer FIDs with fits until the connection ends; the first message is "" or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    try:
        fitter = Fitter(task)
    except Exception as error:
        connection.send(_one_line(error))
        return
    connection.send("")
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(fitter.fit(connection.recv()))


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Set `fslmrs.ENVIRONMENT` for processes started meanwhile."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Engine:
    """FSL-MRS's fit of spectra that come in chunks.

    Also a single worker is a process of its own: its memory settings take effect only at a start, and FSL-MRS cannot
    take the run down with it.

    Parameters
    ----------
    task
        What to fit.
    processes
        Most worker processes, one thread each. They are started when first needed and live until `close`.

    Raises
    ------
    InputError
        If the basis is shorter than the data, or zero.
    """

    def __init__(self, task: Task, processes: int = 1):
        # Its checks of the basis, and the window
        self.model = task.model()
        self.task = task
        self.done = 0
        self._told = time.monotonic()
        self._processes: dict[Connection, Any] = {}
        self._idle: set[Connection] = set()
        self._most = max(1, processes)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.task), daemon=True)
        with _environment():
            process.start()
        theirs.close()  # so that the worker's death ends the connection
        self._processes[ours] = process

    def _end(self, connection: Connection) -> int:
        """Take a worker out and return its exit status."""
        process = self._processes.pop(connection)
        self._idle.discard(connection)
        connection.close()  # an idle worker ends by itself
        process.join(timeout=5)
        if process.is_alive():
            process.kill()
            process.join()
        return process.exitcode

    def close(self) -> None:
        """End the workers."""
        for connection in list(self._processes):
            if connection not in self._idle:  # still loading or fitting, and nobody waits for that
                self._processes[connection].kill()
            self._end(connection)

    def fit(self, fids: np.ndarray, cells: Sequence[int] | None = None) -> Fitted:
        """Fit spectra.

        A fit that fails, or whose process dies, leaves NaN and ``converged`` False, and a line on stderr.

        Parameters
        ----------
        fids
            Complex, (cells, n_points), in the project's convention, any scale.
        cells
            Their numbers, for messages. None: counted on from the call before.

        Raises
        ------
        InputError
            If FSL-MRS cannot be loaded.
        """
        fids = np.asarray(fids)
        labels = range(self.done, self.done + len(fids)) if cells is None else cells
        usable = np.isfinite(fids).all(axis=1) & fids.any(axis=1)
        answers: dict[int, Answer] = {int(i): "zero everywhere or not finite" for i in np.flatnonzero(~usable)}
        for i, answer in answers.items():
            self._report(labels[i], answer)
        todo = deque(int(i) for i in np.flatnonzero(usable))
        taken: dict[Connection, int] = {}  # which spectrum a worker has
        while len(self._processes) < min(self._most, len(todo)):
            self._start()
        while len(answers) < len(fids):
            for connection in list(self._idle)[: len(todo)]:
                try:
                    connection.send(fids[todo[0]])
                except OSError:  # it died in the meantime
                    self._end(connection)
                    self._start()
                    continue
                self._idle.discard(connection)
                taken[connection] = todo.popleft()
            for connection in wait([each for each in self._processes if each not in self._idle]):
                i = taken.pop(connection, None)
                answer = self._receive(connection, loading=i is None)
                if i is not None:
                    answers[i] = answer
                    self._report(labels[i], answer)
        return self._gather([answers[i] for i in range(len(fids))])

    def _receive(self, connection: Connection, loading: bool) -> Answer:
        """Return a worker's message, or why there is none and start another worker."""
        try:
            answer = connection.recv()
        except (EOFError, OSError):
            status = not_killed(self._end(connection), "a process of FSL-MRS")
            answer = f"its process ended with status {status}"
            if not loading:
                self._start()
                return answer
        if loading and answer:
            raise InputError(f"FSL-MRS does not start ({answer}); check its installation with `fsl_mrs --help`")
        self._idle.add(connection)
        return answer

    def _report(self, label: int, answer: Answer) -> None:
        self.done += 1
        if isinstance(answer, str):
            print(f"{self.task.condition} cell {label}: not fitted: {answer}", file=sys.stderr, flush=True)
        if time.monotonic() - self._told > PROGRESS_S:
            self._told = time.monotonic()
            print(f"{self.task.condition}: {self.done} fits done", flush=True)

    def _gather(self, answers: list[Answer]) -> Fitted:
        fitted = missing(self.task, self.model.ppm, len(answers))
        for cell, answer in enumerate(answers):
            if not isinstance(answer, str):
                for name, value in answer.items():
                    getattr(fitted, name)[cell] = value
        return fitted
