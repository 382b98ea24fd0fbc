"""Where in the spectrum noise differs, against noise whose level in every band is known."""

import numpy as np
import pytest
from test_noise_table import DWELL, FREQUENCY, POINTS, REAL, SYNTHETIC, signal, white

from mrs_synthesis import noise_spectrum, scans, spectra
from mrs_synthesis.cells import synthetic_path
from mrs_synthesis.files import write_json

KIND = ("interpolation", "sampled")
MIDDLE = (noise_spectrum.EDGES_PPM[:-1] + noise_spectrum.EDGES_PPM[1:]) / 2


def ratios_of(folder, fids):
    """Ratios by source, of one unedited unit whose synthetic transients are `fids`."""
    header = {"dwell_s": DWELL, "frequency_mhz": FREQUENCY, "conditions": ("UNEDITED",)}
    prefix = folder / "sub-01_acq-press"
    real = (signal() + white(1, 2 * REAL))[None, :, None]
    scans.write_scan(f"{prefix}_desc-preproc_svs.nii.gz", scans.Scan(fids=real, **header))
    path = synthetic_path(prefix, *KIND)
    scans.write_scan(path, scans.Scan(fids=fids[None, :, None], **header))
    plan = {"Reference": list(range(REAL, 2 * REAL)), "Replicates": [{"NReal": 2, "DynRange": [0, len(fids)]}]}
    write_json(scans.sidecar_path(path), {"Plan": plan})
    found = noise_spectrum.unit_ratios(prefix, [KIND])
    return found["UNEDITED", "real", "n/a"][0], found["UNEDITED", *KIND][0]


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0])
def test_white_noise_of_another_sd_has_one_ratio_everywhere(tmp_path, factor):
    real, synthetic = ratios_of(tmp_path, signal() + factor * white(2, SYNTHETIC))
    assert np.isfinite(real).sum() > 60
    assert np.nanmean(real) == pytest.approx(1, abs=0.03)
    assert np.nanmean(synthetic) == pytest.approx(factor, abs=0.02)
    assert np.nanmax(np.abs(synthetic - factor)) < 0.2 * factor + 1e-3


def test_noise_that_lacks_in_one_region_is_found_there_alone(tmp_path):
    noise = spectra.to_spectrum(white(3, SYNTHETIC))
    ppm = spectra.ppm_axis(POINTS, DWELL, FREQUENCY)
    noise[:, (ppm > 2.0) & (ppm < 4.0)] *= 0.1
    _, synthetic = ratios_of(tmp_path, spectra.to_fid(noise))
    inside = (MIDDLE > 2.0) & (MIDDLE < 4.0)
    assert np.nanmax(synthetic[inside]) < 0.15
    assert np.nanmin(synthetic[~inside]) > 0.8


def test_a_band_beyond_the_spectrum_is_missing():
    found = noise_spectrum.band_sd(white(4, 8), 2 * DWELL, FREQUENCY)  # 1000 Hz: 0.74 to 8.56 ppm
    known = MIDDLE[np.isfinite(found)]
    assert known[0] == pytest.approx(0.9) and known[-1] == pytest.approx(8.3)
    assert found[np.isfinite(found)] == pytest.approx(np.sqrt(POINTS) * 0.3, rel=0.5)
