"""What a worker of `quantify_fsl` does when FSL-MRS is absent or misbehaves; named by what the tests replace it for."""

import os
import signal
import time

import numpy as np

WIDTH = {"raw": 7, "snr": 7, "fwhm_hz": 7, "gamma": 1, "sigma": 1, "eps": 1}
DIES, FAILS, SLOW, KILLED = 1e6, 2e6, 3e6, 4e6  # first points of FIDs


def answer(fid, task):
    window = len(task.model().ppm)
    fields = {name: np.full(n, fid[0].real) for name, n in WIDTH.items()}
    fields |= {name: np.zeros(window, complex) for name in ("data", "fit", "baseline")}
    covariance = np.eye(7) * float(os.environ["MALLOC_MMAP_THRESHOLD_"]) * float(os.environ["OMP_NUM_THREADS"])
    return fields | {"covariance": covariance, "converged": True, "objective": float(os.getpid()), "phi0": 0, "phi1": 0}


def work(connection, task):
    """Answer with the first point of the FID as amplitude, its process as objective, its settings as covariance."""
    connection.send("")
    while True:
        try:
            fid = connection.recv()
        except EOFError:
            return
        first = fid[0].real
        if first == DIES:
            os._exit(9)
        if first == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if first == SLOW:
            time.sleep(0.3)
        connection.send("LinAlgError: singular" if first == FAILS else answer(fid, task))


def never_starts(connection, task):
    connection.send("ModuleNotFoundError: No module named 'fsl_mrs'")


def dies_at_start(connection, task):
    os._exit(3)
