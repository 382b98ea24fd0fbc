"""FSL-MRS's own fit of many spectra, with its Python interface, in one process or several.

Runs in FSL-MRS's environment (`mrs_synthesis.fslmrs`). The steps are those of the command `fsl_mrs` with
``--no_conj_fid --conj_basis``: automatic conjugation misfires on difference spectra.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import warnings
from typing import Any

import numpy as np

from mrs_synthesis import lcm_model, spectra
from mrs_synthesis.fitting import Fitted, Task

_WORKER: dict[str, Any] = {}  # what a worker process prepared once


def _prepare(task: Task) -> None:
    """Make FSL-MRS's basis and functions ready in this process."""
    from fsl_mrs.core import MRS
    from fsl_mrs.core import basis as fsl_basis
    from fsl_mrs.utils import fitting

    class CachedBasis(fsl_basis.Basis):
        """FSL-MRS resamples and scales its basis at every evaluation of the model; here it does so once."""

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
    # FSL-MRS holds JSON basis sets conjugated and turns them back when it uses them
    basis = CachedBasis(np.conj(task.basis.fids).T, list(task.basis.names), [header] * len(task.basis.names))
    found: list[Any] = []
    minimise = fitting.minimize

    def recording(*args: Any, **kwargs: Any) -> Any:
        result = minimise(*args, **kwargs)
        found.append(result)
        return result

    fitting.minimize = recording  # the optimiser's verdict is kept nowhere else
    _WORKER.update(task=task, basis=basis, mrs=MRS, fit=fitting.fit_FSLModel, found=found)


def _fit_one(fid: np.ndarray) -> dict[str, np.ndarray | float | bool] | str:
    """Fit one FID; return arrays, or the reason why FSL-MRS failed."""
    task, found = _WORKER["task"], _WORKER["found"]
    found.clear()
    mrs = _WORKER["mrs"](
        FID=fid, cf=task.frequency_mhz * 1e6, bw=1 / task.dwell_s, nucleus="1H", basis=_WORKER["basis"]
    )
    mrs.conj_Basis = True
    mrs.rescaleForFitting()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = _WORKER["fit"](
                mrs,
                ppmlim=tuple(task.ppm_range),
                method="Newton",
                baseline_order=task.baseline_order,
                metab_groups=list(task.groups),
                model="voigt",
            )
    except (np.linalg.LinAlgError, ValueError, FloatingPointError) as error:
        return repr(error)
    n = len(task.basis.names)
    scale = mrs.scaling["basis"] / mrs.scaling["FID"]
    first, last = mrs.ppmlim_to_range(tuple(task.ppm_range))
    window = slice(first, last)
    return {
        "raw": result.params[:n] * scale,
        "covariance": result.cov[:n, :n] * scale**2,
        "snr": np.array([result.SNR.peaks[f"SNR_{name}"].iloc[0] for name in mrs.names], float),
        "fwhm_hz": np.array([result.FWHM[f"fwhm_{name}"].iloc[0] for name in mrs.names], float),
        "converged": bool(found[-1].success) and bool(np.all(np.isfinite(result.params))),
        "objective": float(result.mse) * (last - first),
        "data": spectra.to_spectrum(fid)[window],
        "fit": spectra.to_spectrum(result.pred / mrs.scaling["FID"])[window],
        "baseline": spectra.to_spectrum(result.baseline / mrs.scaling["FID"])[window],
    }


def fit(task: Task, processes: int = 1) -> Fitted:
    """Fit all spectra of a task with FSL-MRS.

    Parameters
    ----------
    task
        What to fit.
    processes
        Worker processes; each uses one thread.

    Raises
    ------
    InputError
        If the basis is shorter than the data.
    """
    model = lcm_model.build(  # its checks of the basis, and the window
        task.basis, task.fids.shape[1], task.dwell_s, task.frequency_mhz, ppm_range=task.ppm_range
    )
    answers = []
    if processes == 1 or len(task.fids) == 1:
        _prepare(task)
        for fid in task.fids:
            answers.append(_fit_one(fid))
            _progress(task, len(answers))
    else:
        # Spawned workers read these at their start; large temporaries from mmap cost more than the arithmetic
        settings = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "1000000000"}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            context = multiprocessing.get_context("spawn")
            with context.Pool(min(processes, len(task.fids)), _prepare, (task,)) as pool:
                for answer in pool.imap(_fit_one, task.fids):
                    answers.append(answer)
                    _progress(task, len(answers))
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    return _gather(task, model, answers)


def _progress(task: Task, done: int) -> None:
    if done % 10 == 0 or done == len(task.fids):
        print(f"{task.condition}: {done} of {len(task.fids)} fits", flush=True)


def _gather(task: Task, model: lcm_model.Model, answers: list[dict | str]) -> Fitted:
    cells, n, width = len(answers), len(model.names), model.last - model.first
    shapes = {"raw": (n,), "covariance": (n, n), "snr": (n,), "fwhm_hz": (n,), "objective": ()}
    arrays = {name: np.full((cells, *shape), np.nan) for name, shape in shapes.items()}
    arrays |= {name: np.full((cells, width), np.nan, complex) for name in ("data", "fit", "baseline")}
    arrays["converged"] = np.zeros(cells, bool)
    for cell, answer in enumerate(answers):
        if isinstance(answer, str):
            print(f"{task.condition} cell {cell}: FSL-MRS failed: {answer}", file=sys.stderr)
            continue
        for name, array in arrays.items():
            array[cell] = answer[name]
    return Fitted(names=model.names, ppm=model.ppm, **arrays)
