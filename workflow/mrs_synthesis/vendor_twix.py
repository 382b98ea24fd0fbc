"""Write Siemens raw data ("twix", VD line) of a single-voxel scan, for the digital phantom and for tests.

The layout follows what readers of the format expect: a multi-raid header, protocol buffers (XProtocol and ASCCONV
text), then one measurement data header (MDH) per ADC with a channel header before each coil's points, and an end mark.
Only the fields that spec2nii reads are filled; the values of the others are 0 or stand-ins.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrs_synthesis.files import write_whole

EDITED = "mgs_svs_ed"  # spec2nii reads this sequence's averages as ON, OFF, ON, OFF, ...
UNEDITED = "svs_se"
BLOCK = 512
HEADER_BYTES = 10240
MDH_BYTES, SCAN_HEADER_BYTES, CHANNEL_HEADER_BYTES = 184, 192, 32
ACQUISITION_END, ONLINE = 1, 8  # bits of the evaluation mask
END_POINTS = 16
TICK_S = 0.0025  # of the MDH's time stamp
VOXEL_MM = (30.0, 30.0, 30.0)
NAME = "PHANTOM"


@dataclass(frozen=True)
class Protocol:
    """What the header says of a scan: times in s, frequencies in MHz and ppm, the name of the sequence."""

    sequence: str
    dwell_s: float
    frequency_mhz: float
    te_s: float
    tr_s: float
    edit_on_ppm: float = 1.9
    edit_off_ppm: float = 7.5
    edit_pulse_s: float = 0.014


def write_twix(path: Path | str, fids: np.ndarray, protocol: Protocol) -> None:
    """Write one twix file.

    Parameters
    ----------
    path
        The ``.dat`` file.
    fids
        Complex, shape (transients, coils, points), in order of acquisition; the convention of `mrs_synthesis.spectra`
        is that of the file. For `EDITED`, transients alternate ON, OFF.
    protocol
        What the header says.
    """
    n_transients, n_coils, n_points = fids.shape
    parts = [_measurement_header(protocol, n_points)]
    for index, coils in enumerate(np.ascontiguousarray(fids).astype("<c8")):
        parts.append(_scan_header(n_points, n_coils, index, ONLINE, protocol.tr_s))
        for channel, points in enumerate(coils):
            parts.append(_channel_header(channel))
            parts.append(points.tobytes())
    parts.append(_scan_header(END_POINTS, n_coils, n_transients, ACQUISITION_END, protocol.tr_s))
    parts.append(bytes(n_coils * (CHANNEL_HEADER_BYTES + 8 * END_POINTS)))
    measurement = _padded(b"".join(parts))
    with write_whole(path) as temporary, open(temporary, "wb") as stream:
        stream.write(_raid_header(len(measurement)))
        stream.write(measurement)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def _raid_header(length: int) -> bytes:
    """One measurement: id, file id, offset, length."""
    header = struct.pack("<II", 0, 1) + struct.pack("<IIQQ", 1, 1, HEADER_BYTES, length)
    return header.ljust(HEADER_BYTES, b"\0")


def _scan_header(n_points: int, n_coils: int, index: int, mask: int, tr_s: float) -> bytes:
    length = SCAN_HEADER_BYTES + n_coils * (CHANNEL_HEADER_BYTES + 8 * n_points)
    header = bytearray(SCAN_HEADER_BYTES)
    struct.pack_into("<IIII", header, 0, length, 1, index + 1, round(index * tr_s / TICK_S))
    struct.pack_into("<II", header, 40, mask, 0)
    struct.pack_into("<HH", header, 48, n_points, n_coils)
    struct.pack_into("<HH", header, 52, 0, 0 if mask == ACQUISITION_END else index)  # counters: line, average, ...
    struct.pack_into("<H", header, 84, n_points // 2)  # centre column
    return bytes(header)


def _channel_header(channel: int) -> bytes:
    header = bytearray(CHANNEL_HEADER_BYTES)
    struct.pack_into("<H", header, 24, channel)
    return bytes(header)


def _measurement_header(protocol: Protocol, n_points: int) -> bytes:
    """Return the protocol buffers, filled up to whole blocks: total length, their number, then name, length, text."""
    body = b""
    buffers = _buffers(protocol, n_points)
    for name, text in buffers.items():
        content = text.encode("latin-1")
        body += name.encode("ascii") + b"\0" + struct.pack("<I", len(content)) + content
    length = 8 + len(body)
    length += -length % BLOCK
    return (struct.pack("<II", length, len(buffers)) + body).ljust(length, b"\0")


def _buffers(protocol: Protocol, n_points: int) -> dict[str, str]:
    hertz = round(protocol.frequency_mhz * 1e6)
    te_us, tr_us = round(protocol.te_s * 1e6), round(protocol.tr_s * 1e6)
    position = {f"sSpecPara.sVoI.sPosition.d{axis}": 0.0 for axis in ("Sag", "Cor", "Tra")}
    protocol_text = _ascconv(
        {
            "tProtocolName": f'"{protocol.sequence}"',
            "sProtConsistencyInfo.tBaselineString": '"N4_VE11C_LATEST"',
            "sTXSPEC.asNucleusInfo[0].tNucleus": '"1H"',
            "sTXSPEC.asNucleusInfo[0].lFrequency": hertz,
            "sRXSPEC.alDwellTime[0]": round(protocol.dwell_s * 1e9),
            "alTE[0]": te_us,
            "alTR[0]": tr_us,
            "adFlipAngleDegree[0]": 90.0,
            "sGroupArray.asGroup[0].nSize": 1,
            "sSpecPara.lVectorSize": n_points,
            "sSpecPara.sVoI.dPhaseFOV": VOXEL_MM[0],
            "sSpecPara.sVoI.dReadoutFOV": VOXEL_MM[1],
            "sSpecPara.sVoI.dThickness": VOXEL_MM[2],
            "sSpecPara.sVoI.sNormal.dTra": 1.0,
            "sSpecPara.sVoI.dInPlaneRot": 0.0,
            **position,
            "sWipMemBlock.alFree[7]": 0,  # MEGA, not HERMES
            "sWipMemBlock.alFree[12]": round(protocol.edit_pulse_s * 1e6),
            "sWipMemBlock.adFree[8]": protocol.edit_on_ppm,
            "sWipMemBlock.adFree[9]": 0.0,
            "sWipMemBlock.adFree[10]": 0.0,
            "sWipMemBlock.adFree[11]": protocol.edit_off_ppm,
        }
    )
    measurement = {
        "tSequenceString": protocol.sequence,
        "tSequenceFileName": f"%CustomerSeq%\\{protocol.sequence}",
        "tICEProgramName": "none",
        "Frequency": hertz,
        "ResonantNucleus": "1H",
        "TR_Time": tr_us,
        "FlipAngle": 90.0,
        "dDeltaFrequency": 0.0,
        "PatientPosition": "HFS",
        "PatientName": NAME,
        "PatientID": NAME,
        "PatientBirthDay": "19000101",
        "PatientSex": 3,
        "flUsedPatientWeight": 0.0,
        "lFinalMatrixSizeSlice": 1,
        "lFinalMatrixSizePhase": 1,
        "lFinalMatrixSizeRead": 1,
    }
    dicom = {
        "Manufacturer": "SIEMENS",
        "ManufacturersModelName": NAME,
        "DeviceSerialNumber": "0",
        "SoftwareVersions": "syngo MR E11",
        "InstitutionName": NAME,
        "InstitutionAddress": NAME,
        "tProtocolName": protocol.sequence,
        "lFrequency": hertz,
    }
    return {
        "Config": _xprotocol({"SequenceFileName": protocol.sequence}),
        "Dicom": _xprotocol(dicom),
        "Meas": _xprotocol(measurement) + protocol_text,
        "MeasYaps": protocol_text,
        "Phoenix": protocol_text,
        "Spice": _xprotocol({}),
    }


def _ascconv(values: dict[str, float | int | str]) -> str:
    lines = "".join(f"{key}\t = \t{value}\n" for key, value in values.items())
    return f"### ASCCONV BEGIN ###\n{lines}### ASCCONV END ###\n"


def _xprotocol(values: dict[str, float | int | str]) -> str:
    lines = ["<XProtocol>", "{"]
    for key, value in values.items():
        if isinstance(value, str):
            lines.append(f'<ParamString."{key}">  {{ "{value}" }}')
        elif isinstance(value, float):
            lines.append(f'<ParamDouble."{key}">  {{ <Precision> 6  {value} }}')
        else:
            lines.append(f'<ParamLong."{key}">  {{ {value} }}')
    return "\n".join([*lines, "}", ""])
