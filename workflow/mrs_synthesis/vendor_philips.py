"""Write Philips SDAT/SPAR pairs of a single-voxel scan, for the digital phantom and for tests.

SDAT holds complex points as VAX F floats, row after row; SPAR is the text that says what they are. SPAR lists the
fields that readers of the format use.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mrs_synthesis.files import write_text, write_whole

VOXEL_MM = (30, 30, 30)


def to_vax(values: np.ndarray) -> bytes:
    """Return numbers as VAX F floats.

    A VAX F float is (-1)**sign * 0.1fraction * 2**(exponent - 128), in two 16-bit little-endian words, the one with
    sign, exponent and the fraction's high bits first. Against an IEEE single the exponent is larger by 2. Numbers
    smaller than 2**-126 (IEEE's subnormal ones) become 0.

    Raises
    ------
    OverflowError
        If a number is too large (2**127 or more) or not finite.
    """
    single = np.ascontiguousarray(values, dtype="<f4").ravel()
    if not np.all(np.abs(single) < 2.0**127):  # also false for NaN
        raise OverflowError("a number is not finite, or too large for a VAX F float (2**127)")
    bits = single.view("<u4")
    exponent = (bits >> 23) & 0xFF
    high = ((bits >> 31) << 15) | ((exponent + 2) << 7) | ((bits >> 16) & 0x7F)
    words = np.stack([high, bits & 0xFFFF], axis=-1)
    words[exponent == 0] = 0  # zero and subnormal numbers
    return words.astype("<u2").tobytes()


def spar_path(sdat: Path | str) -> Path:
    """Return the SPAR's path beside a SDAT, in the same case."""
    sdat = Path(sdat)
    return sdat.with_suffix(".spar" if sdat.suffix.islower() else ".SPAR")


def write_sdat(
    path: Path | str,
    fids: np.ndarray,
    dwell_s: float,
    frequency_mhz: float,
    te_s: float,
    tr_s: float,
    scan_id: str,
) -> None:
    """Write a SDAT and the SPAR beside it.

    Parameters
    ----------
    path
        The ``.SDAT`` file.
    fids
        Complex, shape (rows, points), in order of acquisition; the convention of `mrs_synthesis.spectra` is that of
        the file.
    scan_id
        The protocol's name.
    """
    rows, samples = fids.shape
    interleaved = np.stack([fids.real, fids.imag], axis=-1)
    with write_whole(path) as temporary:
        temporary.write_bytes(to_vax(interleaved))
    entries = _entries(rows, samples, dwell_s, frequency_mhz, te_s * 1e3, tr_s * 1e3, scan_id)
    text = "!   This file describes a digital phantom, not a person\n"
    write_text(spar_path(path), text + "".join(f"{key} : {value}\n" for key, value in entries.items()))


def _entries(
    rows: int, samples: int, dwell_s: float, frequency_mhz: float, te_ms: float, tr_ms: float, scan_id: str
) -> dict[str, object]:
    position = {f"{axis}_{field}": 0 for field in ("off_center", "angulation") for axis in ("ap", "lr", "cc")}
    return {
        "examination_name": "PHANTOM",
        "scan_id": scan_id,
        "scan_date": "2000.01.01 00:00:00",
        "patient_name": "PHANTOM",
        "patient_birth_date": "",
        "patient_position": '"head_first"',
        "patient_orientation": '"supine"',
        "samples": samples,
        "rows": rows,
        "synthesizer_frequency": round(frequency_mhz * 1e6),
        "offset_frequency": 0,
        "sample_frequency": round(1 / dwell_s),
        "echo_nr": 1,
        "mix_number": 1,
        "nucleus": "1H",
        "t0_mu1_direction": 0,
        "echo_time": f"{te_ms:g}",
        "repetition_time": f"{tr_ms:g}",
        "averages": 1,
        "volume_selection_enable": '"yes"',
        "volumes": 1,
        "ap_size": VOXEL_MM[0],
        "lr_size": VOXEL_MM[1],
        "cc_size": VOXEL_MM[2],
        **position,
        "volume_selection_method": 1,
        "phase_encoding_enable": '"no"',
        "nr_of_slices_for_multislice": 1,
        "slice_thickness": VOXEL_MM[2],
        "spec_data_type": "cf",
        "spec_num_col": samples,
        "spec_col_extension": "[sec]",
        "spec_num_row": rows,
        "spec_row_lower_val": 1,
        "spec_row_upper_val": rows,
        "spec_row_extension": "[index]",
        "num_dimensions": 2,
        "dim1_ext": '"[sec]"',
        "dim1_pnts": samples,
        "dim1_low_val": 0,
        "dim1_step": f"{dwell_s:g}",
        "dim2_ext": '"[num]"',
        "dim2_pnts": rows,
        "echo_acquisition": "HALF",
        "TSI_factor": 0,
        "spectrum_echo_time": f"{te_ms:g}",
        "spectrum_inversion_time": 0,
        "image_chemical_shift": 0,
        "equipment_sw_verions": "phantom",  # spelt so by the scanner
    }
