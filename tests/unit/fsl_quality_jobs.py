"""Run by FSL-MRS's interpreter: ``python fsl_quality_jobs.py JOBS.json FIDS.npz OUTPUT``; FSL-MRS's own QC.

A job is {"name", "file", "basis", "ignore", "ppm_range"}; OUTPUT/name.npz holds FSL-MRS's answer (names, peaks, fwhm,
spectrum, residual) and the fit's curves, named as in `fitting.curves`, in FSL-MRS's units. FIDS.npz has FIDs of any
names and ``name_raster``, bandwidth in Hz and frequency in MHz; OUTPUT/noise.npz says which points are noise.
"""

import json
import sys
from pathlib import Path

import numpy as np
from fsl_mrs.core import MRS
from fsl_mrs.utils import qc
from fsl_mrs.utils.misc import FIDToSpec

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fitting, lcm_model, quantify_fsl
from mrs_synthesis.scans import read_scan


def main(jobs, fids, output):
    masks, arrays = {}, dict(np.load(fids))
    for name in (name for name in arrays if not name.endswith("_raster")):
        bandwidth, frequency = arrays[f"{name}_raster"]
        qc.NOISE_REGION["1H"] = ([None, -2], [10, None])  # FSL-MRS keeps the ends of the first spectrum it sees
        masks[name] = qc.idNoiseRegion(MRS(FID=arrays[name], cf=frequency, bw=bandwidth, nucleus="1H"))
    np.savez(Path(output) / "noise", **masks)
    for job in json.loads(Path(jobs).read_text()):
        scan = read_scan(job["file"])
        fid = scan.fids[0, 0, 0]
        basis = basis_sets.read_json_folder(Path(job["basis"]))
        basis = basis.select(name for name in basis.names if name not in job["ignore"])
        task = fitting.Task(
            condition="UNEDITED",
            n_points=fid.size,
            dwell_s=scan.dwell_s,
            frequency_mhz=scan.frequency_mhz,
            basis=basis,
            groups=[0] * len(basis.names),
            options=lcm_model.Options(ppm_range=tuple(job["ppm_range"])),
        )
        fitter = quantify_fsl.Fitter(task)
        spectrum = fitter.spectrum(fid)
        found = fitter.minimise(spectrum)[0]
        fwhm, snr = qc.calcQC(spectrum, found)
        answer = {"peaks": snr.peaks.iloc[0], "fwhm": fwhm.iloc[0], "spectrum": snr.spectrum, "residual": snr.residual}
        first, last = spectrum.ppmlim_to_range(ppmlim=found.ppmlim)
        for part, mode in (("fit", "Full"), ("baseline", "baseline")):
            fitted = FIDToSpec(found.predictedFID(spectrum, mode=mode))
            answer[f"UNEDITED_{part}"] = fitted[None, first:last]
        answer |= {"UNEDITED_cell": [0], "UNEDITED_data": spectrum.get_spec(ppmlim=found.ppmlim)[None]}
        np.savez(Path(output) / job["name"], names=basis.names, **answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
