"""Run by FSL-MRS's interpreter: ``python fsl_engine_jobs.py JOBS.json OUTPUT``; fits files with `quantify_fsl.Engine`.

A job is {"name", "files", "basis", "ignore", "own_group", "options", "processes"}, its results are OUTPUT/name.npz.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fitting, lcm_model, quantify_fsl
from mrs_synthesis.scans import read_scan


def main(jobs, output):
    for job in json.loads(Path(jobs).read_text()):
        scans = [read_scan(path) for path in job["files"]]
        fids = np.array([scan.fids[0, 0, 0] for scan in scans])
        basis = basis_sets.read_json_folder(Path(job["basis"]))
        basis = basis.select(name for name in basis.names if name not in job["ignore"])
        own = job["own_group"]
        task = fitting.Task(
            condition="UNEDITED",
            n_points=fids.shape[1],
            dwell_s=scans[0].dwell_s,
            frequency_mhz=scans[0].frequency_mhz,
            basis=basis,
            groups=[own.index(name) + 1 if name in own else 0 for name in basis.names],
            options=lcm_model.Options(**job["options"]),
        )
        with quantify_fsl.Engine(task, job["processes"]) as engine:
            fitted = engine.fit(fids)
        fitter = quantify_fsl.Fitter(task)
        factors = [fitter.spectrum(fid).scaling for fid in fids]
        arrays = {"scale": np.array([factor["basis"] / factor["FID"] for factor in factors])}
        for field in dataclasses.fields(fitting.Fitted):
            arrays[field.name] = np.asarray(getattr(fitted, field.name))
        np.savez(Path(output) / job["name"], **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
