"""Vendor files of the phantom, read back by the real spec2nii."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrs_synthesis import vendor_philips, vendor_twix

SPEC2NII = Path(sys.executable).with_name("spec2nii")
N, DWELL, TE, TR = 512, 0.0005, 0.068, 2.0
NAA_PPM = 2.008


def spec2nii(folder, *arguments):
    command = [str(SPEC2NII), *map(str, arguments), "-o", str(folder), "-f", "out"]
    subprocess.run(command, check=True, capture_output=True)
    return load(folder / "out.nii.gz")


def load(path):
    """Read NIfTI-MRS without the project's own reader."""
    import json

    import nibabel

    image = nibabel.load(path)
    header = json.loads(image.header.extensions[0].get_content())
    return np.asarray(image.dataobj), header, float(image.header["pixdim"][4])


def signals(shape, frequency_mhz, seed=0):
    """Noise of known values on a peak at NAA's place, in the project's convention."""
    rng = np.random.default_rng(seed)
    t = np.arange(N) * DWELL
    peak = 20 * np.exp((2j * np.pi * (NAA_PPM - 4.65) * frequency_mhz - 10) * t)
    return (rng.standard_normal((*shape, N)) + 1j * rng.standard_normal((*shape, N)) + peak).astype(np.complex64)


def peak_ppm(stored, frequency_mhz):
    """Peak of NIfTI-MRS data, whose convention is the conjugate of increasing ppm."""
    hz = np.fft.fftshift(np.fft.fftfreq(N, DWELL))
    return hz[np.argmax(np.abs(np.fft.fftshift(np.fft.fft(stored.conj()))))] / frequency_mhz + 4.65


@pytest.mark.parametrize(
    ("value", "expected"),
    [  # bytes by hand: (0.5 + fraction / 2**24) * 2**(exponent - 128), word with the exponent first
        (1.0, "80 40 00 00"),  # 0.5 * 2**1: exponent 129 = 0x81
        (-1.5, "c0 c0 00 00"),  # sign, 0.75 * 2**1: highest fraction bit
        (0.0, "00 00 00 00"),
        (np.float32(np.pi), "49 41 db 0f"),  # pi in DEC's F_floating: 0x0FDB4149
        (0.1, "cc 3e cd cc"),  # 0.8 * 2**-3
        (2.0**-127, "00 00 00 00"),  # below the smallest normal IEEE single
    ],
)
def test_vax_float_by_hand(value, expected):
    assert vendor_philips.to_vax(np.array([value])) == bytes.fromhex(expected)


@pytest.mark.parametrize("value", [2.0**127, np.inf, np.nan])
def test_vax_float_overflow(value):
    with pytest.raises(OverflowError):
        vendor_philips.to_vax(np.array([1.0, value]))


def test_edited_twix(tmp_path):
    mhz = 123.25
    fids = signals((6, 3), mhz)  # ON, OFF, ON, OFF, ON, OFF
    protocol = vendor_twix.Protocol(vendor_twix.EDITED, DWELL, mhz, TE, TR)
    vendor_twix.write_twix(tmp_path / "scan.dat", fids, protocol)
    stored, header, dwell = spec2nii(tmp_path, "twix", "-e", "image", "-q", tmp_path / "scan.dat")
    assert stored.shape == (1, 1, 1, N, 3, 2, 3)
    assert [header[f"dim_{i}"] for i in (5, 6, 7)] == ["DIM_COIL", "DIM_EDIT", "DIM_DYN"]
    assert header["dim_6_header"]["EditCondition"] == ["ON", "OFF"]
    assert header["EditPulse"]["ON"]["PulseOffset"] == 1.9
    assert header["EditPulse"]["OFF"]["PulseOffset"] == 7.5
    assert header["SpectrometerFrequency"] == [mhz]
    assert (header["EchoTime"], header["RepetitionTime"]) == pytest.approx((TE, TR))
    assert dwell == pytest.approx(DWELL)
    for transient in range(6):
        np.testing.assert_array_equal(stored[0, 0, 0, :, :, transient % 2, transient // 2], fids[transient].conj().T)
    assert peak_ppm(stored[0, 0, 0, :, 0, 0, 0], mhz) == pytest.approx(NAA_PPM, abs=0.02)


def test_unedited_twix(tmp_path):
    mhz = 123.25
    fids = signals((4, 2), mhz)
    protocol = vendor_twix.Protocol(vendor_twix.UNEDITED, DWELL, mhz, TE, TR)
    vendor_twix.write_twix(tmp_path / "water.dat", fids, protocol)
    stored, header, _ = spec2nii(tmp_path, "twix", "-e", "image", "-q", tmp_path / "water.dat")
    assert [header[f"dim_{i}"] for i in (5, 6)] == ["DIM_COIL", "DIM_DYN"]
    np.testing.assert_array_equal(stored[0, 0, 0], fids.conj().transpose(2, 1, 0))


def test_sdat(tmp_path):
    mhz = 127.74
    fids = signals((6,), mhz)
    sdat = tmp_path / "scan_act.SDAT"
    vendor_philips.write_sdat(sdat, fids, DWELL, mhz, TE, TR, "MEGA_PRESS")
    shape = ["-s", 2, 3, "-t", "DIM_EDIT", "DIM_DYN"]
    stored, header, dwell = spec2nii(tmp_path, "philips", sdat, sdat.with_suffix(".SPAR"), *shape)
    assert stored.shape == (1, 1, 1, N, 2, 3)
    assert [header["dim_5"], header["dim_6"]] == ["DIM_EDIT", "DIM_DYN"]
    assert header["SpectrometerFrequency"] == [mhz]
    assert (header["EchoTime"], header["RepetitionTime"]) == pytest.approx((TE, TR))
    assert dwell == pytest.approx(DWELL)
    for row in range(6):
        np.testing.assert_array_equal(stored[0, 0, 0, :, row % 2, row // 2], fids[row].conj())
    assert peak_ppm(stored[0, 0, 0, :, 1, 2], mhz) == pytest.approx(NAA_PPM, abs=0.02)
