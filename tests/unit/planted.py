"""Search for planted identifiers in whatever lies in a folder, and vendors' files that carry them."""

import base64
import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from contextlib import suppress

import numpy as np
from scan_files import DWELL, MHZ

from mrs_synthesis import vendor_philips, vendor_twix

PERSON = {
    "PatientName": "QXDOEVZ^ZOËWQJ",
    "PatientID": "PQXID7VZ",
    "PatientBirthDate": "19530417",
    "PatientAge": "071QXY",
    "PatientWeight": "83.91827",
    "InstitutionName": "QXKLINIKVZ",
    "InstitutionAddress": "QXSTREETVZ 9",
    "ProtocolName": "QXPROTOCOLVZ",
    "AccessionNumber": "QXACC4711VZ",
    "OperatorsName": "QXOPERATORVZ",
    "StudyDescription": "QXSTUDYVZ",
    "SeriesDescription": "QXSERIESVZ",
    "StationName": "QXSTATIONVZ",
    "DeviceSerialNumber": "QXSERIAL667VZ",
    "StudyDate": "20170923",
    "StudyTime": "131313.570",
    "private": "QXPRIVATEVZ",
    "nested": "QXNESTEDVZ",
    "comment": "QXCOMMENTVZ",
    # What is kept only if it is what it should be
    "ManufacturersModelName": "QXROOMVZ",
    "SoftwareVersions": "QXSOFTWAREVZ",
    "TxCoil": "QXTXCOILVZ",
    "RxCoil": "QXRXCOILVZ",
    "SequenceName": "QXSEQVZ",
    "PatientPosition": "QXPOSVZ",
}
FOLDER, FILE = "QXDOE_JOHNVZ", "QXFILE_DOEVZ"  # names of the raw files and of their folder
# Headers must not have these fields at all; texts such as "F" cannot be searched for
FIELDS = (
    "PatientSex", "PatientWeight", "PatientDoB", "PatientName", "PatientID", "InstitutionName", "InstitutionAddress",
    "DeviceSerialNumber", "ProtocolName", "OriginalFile", "ConversionTime", "PulseSequenceFile", "IceProgramFile",
)  # fmt: skip
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")


def forms(marker):
    """Return the bytes that a text can be stored as: those compared without case, and those of base64."""
    plain = {text.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be") for text in (marker, marker.lower())}
    plain |= {marker.encode("latin-1"), json.dumps(marker)[1:-1].encode(), marker.encode().hex().encode()}
    plain = {one.lower() for one in plain}
    coded = set()
    for code in ("utf-8", "utf-16-le"):
        for shift in range(3):
            text = base64.b64encode(bytes(shift) + marker.encode(code))
            inner = text[4 if shift else 0 :].rstrip(b"=")[:-1]  # without what neighbours have a share in
            coded |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return plain, coded


def contents(data, depth=0):
    """Yield bytes, and what is packed in them: gzip, zlib in base64, zip (npz), base64."""
    yield data
    if depth > 3:
        return
    if data[:2] == b"\x1f\x8b":
        with suppress(EOFError, OSError, zlib.error):  # by chance, or cut
            yield from contents(gzip.decompress(data), depth + 1)
    elif data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                yield entry.filename.encode() + entry.comment + entry.extra
                yield from contents(archive.read(entry), depth + 1)
    for match in BASE64.finditer(data) if depth < 3 else ():
        text = match[0].replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
        inside = base64.b64decode(text + b"=" * (-len(text) % 4)) if len(text) % 4 != 1 else b""
        if inside[:2] == b"\x1f\x8b" or inside[:2] == b"PK":
            yield from contents(inside, depth + 1)
        elif inside[:1] == b"\x78":
            with suppress(zlib.error):
                yield from contents(zlib.decompress(inside), depth + 1)


def leaks(folder, markers):
    """Return `marker: file` of every marker that is in a file below a folder, or in the name of one."""
    known = {marker: forms(marker) for marker in markers}
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parts = [name.encode(), *(contents(path.read_bytes()) if path.is_file() else ())]
        for part in parts:
            lower = part.lower()
            found += [
                f"{marker}: {name}"
                for marker, (plain, coded) in known.items()
                if any(one in lower for one in plain) or any(one in part for one in coded)
            ]
    return sorted(set(found))


def _twix_buffers(protocol, n_points, _original=vendor_twix._buffers):
    """The header's buffers of a twix file with identifiers in every text that a scanner fills in."""
    buffers = _original(protocol, n_points)
    values = PERSON | {"PatientBirthDay": PERSON["PatientBirthDate"], "tProtocolName": PERSON["ProtocolName"]}
    values |= {"tSequenceFileName": PERSON["SequenceName"], "tICEProgramName": PERSON["private"]}
    values |= {"SequenceFileName": PERSON["SequenceName"]}
    if protocol.sequence != vendor_twix.EDITED:
        values["tSequenceString"] = PERSON["SequenceName"]
    for name, text in buffers.items():
        # spec2nii takes the line of scanners from it
        for key, value in (values | {"SoftwareVersions": f"syngo MR E11 {PERSON['SoftwareVersions']}"}).items():
            value = value.encode("latin-1", "replace").decode("latin-1")
            text = re.sub(rf'(<ParamString\."{key}">\s*\{{ ")[^"]*', lambda m, v=value: m[1] + v, text)
        weight = '"flUsedPatientWeight">  { <Precision> 6  '
        text = text.replace(f"{weight}0.0", f"{weight}{PERSON['PatientWeight']}")
        text = text.replace('"N4_VE11C', f'"{PERSON["comment"]} N4_VE11C')
        lines = "".join(f'<ParamString."{key}">  {{ "{value}" }}\n' for key, value in PERSON.items() if key not in text)
        coil = f'sCoilSelectMeas.aRxCoilSelectData[0].asList[0].sCoilElementID.tCoilID\t = \t"{PERSON["RxCoil"]}"\n'
        text = text.replace("### ASCCONV END", f"{coil}### ASCCONV END")
        buffers[name] = text if "### ASCCONV" in text else text + lines
    return buffers


def twix(path, rows, monkeypatch, sequence=vendor_twix.UNEDITED):
    """Siemens twix of the VD line."""
    monkeypatch.setattr(vendor_twix, "_buffers", _twix_buffers)
    protocol = vendor_twix.Protocol(sequence, DWELL, MHZ, 0.068, 2.0)
    vendor_twix.write_twix(path, rows[:, None].astype(np.complex64), protocol)
    return path


def twix_vb(path, rows, monkeypatch):
    """Siemens twix of the VB line: no list of measurements, and a header of 128 bytes before each channel's points."""
    monkeypatch.setattr(vendor_twix, "_buffers", _twix_buffers)
    protocol = vendor_twix.Protocol(vendor_twix.UNEDITED, DWELL, MHZ, 0.068, 2.0)
    header = vendor_twix._measurement_header(protocol, rows.shape[1])
    length = -(-max(len(header), 10240) // 32) * 32
    parts = [struct.pack("<I", length) + header[4:].ljust(length - 4, b"\0")]
    for index, points in enumerate([*rows.astype("<c8"), np.zeros(16, "<c8")]):
        last = index == len(rows)
        mdh = bytearray(128)
        struct.pack_into("<IIII", mdh, 0, 128 + 8 * len(points), 1, index + 1, index * 800)
        struct.pack_into(
            "<IIHH", mdh, 20, vendor_twix.ACQUISITION_END if last else vendor_twix.ONLINE, 0, len(points), 1
        )
        struct.pack_into("<H", mdh, 28 + 4 + 2 * 7, 0 if last else index)  # counter of sets
        struct.pack_into("<H", mdh, 64, len(points) // 2)
        parts += [bytes(mdh), points.tobytes()]
    path.write_bytes(vendor_twix._padded(b"".join(parts)))
    return path


def spar(sdat, rows):
    """Philips SDAT and SPAR."""
    vendor_philips.write_sdat(sdat, rows, DWELL, MHZ, 0.068, 2.0, PERSON["ProtocolName"])
    path = vendor_philips.spar_path(sdat)
    text = path.read_text()
    for key, name in {
        "examination_name": "PatientName",
        "patient_name": "PatientName",
        "patient_birth_date": "PatientBirthDate",
        "scan_date": "StudyDate",
        "patient_position": "PatientPosition",
        "equipment_sw_verions": "SoftwareVersions",
        "TSI_factor": "private",
    }.items():
        text = re.sub(rf"^{key} : .*$", f"{key} : {PERSON[name]}", text, flags=re.M)
    text += "".join(f"! {value}\n" for value in PERSON.values())
    text += "".join(f"{key.lower()}_x : {value}\n" for key, value in PERSON.items())
    path.write_text(text, encoding="latin-1")
    return sdat


def data_list(path, rows):
    """Philips data and list, with a SPAR beside them."""
    content = b"".join(row.astype("<c8").tobytes() for row in rows)
    lines = [f"# {key}: {value}" for key, value in PERSON.items() if value.isascii()]  # spec2nii reads it as UTF-8
    lines += [". 0 0 0  number_of_mixes                    :    1"]
    size = 8 * rows.shape[1]
    lines += [f"  STD 0 0 0 0 0 0 0 0 0 0 0 {n} 1 0 0 0 0 0 {size} {n * size}" for n in range(len(rows))]
    path.write_bytes(content)
    path.with_suffix(".list").write_text("\n".join(lines) + "\n", encoding="latin-1")
    spar(path.with_suffix(".SDAT"), rows)
    return path


def nifti(path, rows):
    """NIfTI-MRS with identifiers in standard, user-defined and nested fields, in NIfTI's texts and as gzip's name."""
    import nibabel as nib

    header = {
        "EchoTime": 0.068, "RepetitionTime": 2.0, "SpectrometerFrequency": [MHZ], "ResonantNucleus": ["1H"],
        "dim_5": "DIM_DYN", "dim_5_info": PERSON["comment"], "PatientSex": "F",
        "PatientDoB": PERSON["PatientBirthDate"],
        "dim_5_header": {"private_note": {"Value": [PERSON["private"]] * len(rows), "Description": PERSON["nested"]}},
        **PERSON, "PatientWeight": float(PERSON["PatientWeight"]), "OriginalFile": [PERSON["nested"]],
        "private_list": [{"private_name": PERSON["private"]}],
        "UserKey": {"Value": PERSON["nested"], "Description": PERSON["comment"]},
        "kSpace": [PERSON["nested"], False, False],
        "WaterSuppressed": PERSON["nested"], "WaterSuppressionType": PERSON["nested"], "TxOffset": 19530417,
        "SequenceTriggered": PERSON["nested"], "ConversionMethod": f"spec2nii v0.8 by {PERSON['OperatorsName']}",
        "ConversionTime": f"{PERSON['StudyDate']}T{PERSON['StudyTime']}", "Manufacturer": PERSON["StationName"],
        "EditPulse": {
            "ON": {"PulseOffset": 1.9, "PulseDuration": 0.014, "private_who": PERSON["OperatorsName"]},
            PERSON["PatientID"]: {"PulseOffset": 7.5},
            "OFF": {"PulseOffset": PERSON["nested"], "PulseDuration": [PERSON["nested"]]},
            "Description": PERSON["comment"],
        },
        "ProcessingApplied": [
            {
                "Time": PERSON["StudyDate"], "Program": "FSL-MRS", "Version": PERSON["comment"], "Method": "Phasing",
                "Details": f"phase, reference=/data/{PERSON['PatientID']}/w.nii.gz", "Link": PERSON["nested"],
                "private_x": [PERSON["private"]],
            },
            {"Method": PERSON["comment"], "Program": PERSON["OperatorsName"]},
            PERSON["nested"],
        ],
    }  # fmt: skip
    image = nib.Nifti2Image(np.conj(rows).T.reshape(1, 1, 1, rows.shape[1], -1).astype(np.complex64), np.eye(4) * 20)
    image.header["pixdim"][4] = DWELL
    image.header.set_xyzt_units("mm", "sec")
    for field, name in {"descrip": "PatientName", "aux_file": "comment", "intent_name": "PatientID"}.items():
        image.header[field] = PERSON[name].encode("latin-1")
    for code, text in ((44, json.dumps(header)), (6, PERSON["comment"]), (4, PERSON["private"])):
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, text.encode()))
    plain = path.with_name("plain.nii")
    nib.save(image, plain)
    with open(path, "wb") as stream, gzip.GzipFile(f"{PERSON['PatientID']}.nii", "wb", fileobj=stream) as packed:
        packed.write(plain.read_bytes())
    plain.unlink()
    side = {"EchoTime": 0.068, **PERSON}
    path.with_name(path.name.removesuffix(".nii.gz") + ".json").write_text(json.dumps(side))
    return path


def rda(path, original):
    """Siemens RDA, from a real one."""
    head, end, points = original.read_bytes().partition(b">>> End of header <<<")
    text = head.decode("latin-1")
    names = {"ModelName": "ManufacturersModelName", "SoftwareVersion[0]": "SoftwareVersions", "TransmitCoil": "TxCoil"}
    names |= {"SeriesDate": "StudyDate", "InstanceComments": "comment", "SequenceDescription": "private"}
    names |= {"SeriesTime": "StudyTime", "InstanceDate": "StudyDate", "InstanceTime": "StudyTime"}
    for key, name in (dict(zip(PERSON, PERSON, strict=True)) | names).items():
        text = re.sub(rf"^{re.escape(key)}: .*?(\r?)$", rf"{key}: {PERSON[name]}\1", text, flags=re.M)
    path.write_bytes(text.replace("PatientSex: O", "PatientSex: F").encode("latin-1", "replace") + end + points)
    return path


def dicom(folder, originals):
    """Siemens DICOM, from real files: standard, sequence and private elements, and texts inside private ones."""
    import pydicom
    from pydicom.dataset import Dataset

    folder.mkdir(parents=True)
    for number, original in enumerate(originals):
        content = pydicom.dcmread(original)
        for key, value in PERSON.items():
            if key in ("PatientWeight", "PatientAge", "PatientPosition"):
                continue
            if pydicom.datadict.tag_for_keyword(key):
                setattr(content, key, value)
        content.SpecificCharacterSet = "ISO_IR 100"
        content.PatientSex, content.PatientWeight, content.PatientAge = "F", PERSON["PatientWeight"], "071Y"
        inside = Dataset()
        inside.PatientName, inside.RequestedProcedureDescription = PERSON["PatientName"], PERSON["nested"]
        content.RequestAttributesSequence = [inside]
        block = content.private_block(0x0019, "QXCREATORVZ", create=True)
        block.add_new(0x01, "LO", PERSON["private"])
        for element in content:
            if element.VR in ("OB", "UN") and isinstance(element.value, bytes):
                old = b"MEGA_PRESS_WIP_TE68_ref"
                element.value = element.value.replace(old, PERSON["nested"].encode().ljust(len(old), b"_"))
        content.save_as(folder / f"{FILE}_{number}.IMA")
    return folder


def pfile(path, original):
    """GE P-file, from a real one: every text of the header but the sequence's name, by which the format is told."""
    from spec2nii.GE.ge_read_pfile import Pfile

    header = type(Pfile(str(original)).hdr)
    content = bytearray(original.read_bytes())
    names = {
        "rhe_patname": "PatientName", "rhe_patnameff": "PatientName", "rhe_patid": "PatientID",
        "rhe_patidff": "PatientID", "rhe_dateofbirth": "PatientBirthDate", "rhe_hospname": "InstitutionName",
        "rhs_se_desc": "SeriesDescription", "rhe_ex_desc": "StudyDescription", "rhe_reqnum": "AccessionNumber",
        "rhe_ex_sysid": "ManufacturersModelName", "rhe_uniq_sys_id": "DeviceSerialNumber", "rhi_cname": "RxCoil",
        "rhe_operator_new": "OperatorsName", "rhe_ex_verscre": "SoftwareVersions",
    }  # fmt: skip
    done = set()
    for name, kind, *_ in header._fields_:
        field = getattr(header, name)
        if kind.__name__.startswith("c_char_Array") and name in names and field.size >= 8:
            value = PERSON[names[name]].encode("latin-1")[: field.size]
            content[field.offset : field.offset + field.size] = value.ljust(field.size, b"\0")
            done.add(name)
    path.write_bytes(content)
    return path, done
