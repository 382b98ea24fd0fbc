"""Broken NIfTI-MRS files and their sidecars: a part of the table `broken.CASES`."""

import re
from functools import partial

import numpy as np
from broken_files import ROWS, bomb, of_nifti, patched, sidecar
from scan_files import POINTS

NIFTI_AGAIN = "; check that it is complete"
DEEP = b"[" * 100_000
NOT_NIFTI = r"metab: not a readable NIfTI file \(.+\)" + re.escape(NIFTI_AGAIN)
JSON_EXTENSION = (
    "metab: MRS header extension that is no JSON object with SpectrometerFrequency in MHz and ResonantNucleus; "
    "convert it again"
)
ANNOUNCED = r"metab: its header announces .+, (but the file has .+|expected .+)"
MANY_DIGITS = b'{"ResonantNucleus": ["1H"], "SpectrometerFrequency": [1' + b"0" * 400 + b"]}"

NIFTI = {
    "nifti: no header extension": (
        partial(of_nifti, extension=b""),
        r"metab: NIfTI without the MRS header extension \(code 44\), expected NIfTI-MRS; convert it with spec2nii",
    ),
    "nifti: broken JSON": (partial(of_nifti, extension=b'{"SpectrometerFrequency": [12'), JSON_EXTENSION),
    "nifti: JSON of a list": (partial(of_nifti, extension=b"[1, 2]"), JSON_EXTENSION),
    "nifti: JSON in Latin-1": (partial(of_nifti, extension=b'{"x": "\xe4"}'), JSON_EXTENSION),
    "nifti: JSON of depth 100,000": (partial(of_nifti, extension=DEEP), JSON_EXTENSION),
    "nifti: JSON of 80 MB": (
        lambda folder: of_nifti(folder, extension=b'{"x": "' + b"a" * 80_000_000 + b'"}'),
        r"metab: its header announces 80\d+ bytes of header extensions, expected at most \d+; convert it again",
    ),
    "nifti: frequency of many digits": (
        lambda folder: of_nifti(folder, extension=MANY_DIGITS),
        r"metab: (MRS header extension .+|dwell time .+); convert it again|metab: dwell time .+",
    ),
    "nifti: frequency not a number": (
        partial(of_nifti, header={"SpectrometerFrequency": [float("nan")]}),
        r"metab: dwell time 0\.0005 s at nan MHz, expected 1e-6 to 1e-2 s and 1 to 2000 MHz",
    ),
    "nifti: no frequency": (
        partial(of_nifti, header={"SpectrometerFrequency": None}),
        r"metab: MRS header extension without 'SpectrometerFrequency'; convert it again",
    ),
    "nifti: 31P": (
        partial(of_nifti, header={"ResonantNucleus": ["31P"], "SpectrometerFrequency": [49.9]}),
        r"metab: nucleus 31P, expected 1H; leave this scan out of the study",
    ),
    "nifti: 31P's frequency called 1H": (
        partial(of_nifti, header={"SpectrometerFrequency": [49.9]}),
        r"metab: spectrometer frequency 49\.90 MHz, .+, expected that of 1H \(.+\); leave this scan out .+",
    ),
    "nifti: echo time of many digits": (
        partial(of_nifti, header={"EchoTime": 10**400}),
        r"metab: EchoTime .+ in the header, expected .+; state te_ms.*",
    ),
    "nifti: echo time in a list, stated too": (
        partial(of_nifti, header={"EchoTime": [0.03, "Jane"], "RepetitionTime": {"a": 1}}, te_ms="30"),
        r"metab: RepetitionTime in the header is no number, expected seconds; state tr_ms in ms",
    ),
    "nifti: position not a number": (
        lambda folder: patched(folder, (400, "<d", float("nan"))),
        r"metab: position of the voxel is not finite, expected mm; convert it again",
    ),
    "nifti: real numbers": (
        lambda folder: of_nifti(folder, data=np.abs(ROWS), dtype=np.float32),
        r"metab: data of type float32, expected complex numbers; convert it again",
    ),
    "nifti: dwell time 0": (partial(of_nifti, dwell=0.0), r"metab: dwell time 0 s at 123\.25 MHz, expected .+"),
    "nifti: dwell time in ms": (partial(of_nifti, dwell=0.5), r"metab: dwell time 0\.5 s at 123\.25 MHz, expected .+"),
    "nifti: many voxels": (
        lambda folder: of_nifti(folder, shape=(2, 2, 1, POINTS, 1)),
        r"metab: shape \(2, 2, 1, 1024(, 1)?\), expected one voxel .+; give a single-voxel scan",
    ),
    "nifti: an image": (
        lambda folder: of_nifti(folder, shape=(32, 32, 4)),
        r"metab: shape \(32, 32, 4\), expected one voxel \(1, 1, 1, points, \.\.\.\); give a single-voxel scan",
    ),
    "nifti: one point": (
        lambda folder: of_nifti(folder, data=ROWS[:, :1]),
        r"metab: 1 points, expected at least \d+; .+",
    ),
    "nifti: 16 points": (
        lambda folder: of_nifti(folder, data=ROWS[:, :16]),
        r"metab: 16 points, expected at least \d+; .+",
    ),
    "nifti: a length of 0": (lambda folder: patched(folder, (16 + 8 * 4, "<q", 0)), r"metab: .+, expected .+"),
    "nifti: a negative length": (lambda folder: patched(folder, (16 + 8 * 4, "<q", -1024)), r"metab: .+, expected .+"),
    "nifti: 9 dimensions": (lambda folder: patched(folder, (16, "<q", 9)), r"metab: .+, expected .+|" + NOT_NIFTI),
    "nifti: announces exabytes": (lambda folder: patched(folder, (16 + 8 * 4, "<q", 1 << 58)), ANNOUNCED),
    "nifti.gz: announces exabytes": (
        lambda folder: patched(folder, (16 + 8 * 4, "<q", 1 << 58), ending=".nii.gz"),
        ANNOUNCED,
    ),
    "nifti.gz: announces a number that overflows": (
        lambda folder: patched(folder, (16 + 8 * 4, "<q", 1 << 62), (16 + 8 * 5, "<q", 1 << 62), ending=".nii.gz"),
        ANNOUNCED,
    ),
    "nifti: extension of gigabytes": (lambda folder: patched(folder, (544, "<i", 0x7FFFFFF0)), ANNOUNCED),
    "nifti: extension of negative length": (lambda folder: patched(folder, (544, "<i", -16)), ANNOUNCED),
    "nifti: extension without length": (lambda folder: patched(folder, (544, "<i", 0)), ANNOUNCED),
    "nifti: data far beyond the end": (lambda folder: patched(folder, (168, "<q", 1 << 60)), ANNOUNCED),
    "nifti: unknown type of data": (lambda folder: patched(folder, (12, "<h", 9999)), NOT_NIFTI),
    "bomb: 4 GB of transients": (lambda folder: bomb(folder, (16 + 8 * 5, "<q", 500_000)), ANNOUNCED),
    "bomb: extension of 2 GB": (
        lambda folder: bomb(folder, (544, "<i", 0x7FFFFFF0), (168, "<q", 0x80000220)),
        ANNOUNCED,
    ),
    "nifti: not finite": (
        lambda folder: of_nifti(folder, data=np.where(np.arange(POINTS) == 7, np.nan, ROWS)),
        r"metab: 4 points are NaN or infinite, expected numbers; convert it again or exclude it",
    ),
    "nifti: zeros": (
        lambda folder: of_nifti(folder, data=ROWS * 0),
        r"metab: all data are zero, expected a signal; exclude this scan",
    ),
    "nifti: complex-conjugated": (
        lambda folder: of_nifti(folder, data=np.conj(ROWS)),
        r"metab: the metabolites' signals lie at 5\.9-7\.5 ppm, expected 1\.8-3\.4 ppm: .+; convert the original .+",
    ),
    "sidecar of broken JSON": (
        partial(sidecar, b'{"EchoTime": 0.0'),
        r"(metab|a file of metab|.*): not valid JSON \(.+\); correct or remove it",
    ),
    "sidecar of a list": (
        partial(sidecar, b"[3]"),
        r".*: no JSON object, expected EchoTime and RepetitionTime in s; correct or remove it",
    ),
    "sidecar of depth 100,000": (partial(sidecar, DEEP), r".*: not valid JSON \(.+\); correct or remove it"),
}
