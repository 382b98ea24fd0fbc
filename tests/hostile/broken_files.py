"""How broken scans are made: each function gets an empty folder and returns what the sample sheet says of the scan."""

import gzip
import json
import os
import re
import shutil
import struct
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from planted import data_list, twix_vb
from scan_files import DWELL, MHZ, OFF, fid
from scan_files import sdat as write_sdat

from mrs_synthesis import vendor_twix

ROWS = np.array([fid(OFF) * (1 + 0.01 * k) for k in range(4)])
WATER = np.array([500 * fid(("water",))] * 4)
ENDINGS = {
    "siemens_twix": ".dat", "siemens_rda": ".rda", "philips_sdat": ".SDAT", "philips_data_list": ".data",
    "ge_pfile": ".7", "nifti_mrs": ".nii.gz",
}  # fmt: skip
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RDA = DATA / "siemens-rda-press-30" / "ACC_PRESS.rda"
PFILE = DATA / "ge-press-35" / "P29184.7"
DICOM = DATA / "siemens-mega-press-68"


def sdat(folder, data=ROWS, name="S.SDAT"):
    return write_sdat(folder / name, data)


def spar(folder, change, data=ROWS):
    """SDAT with a changed SPAR: values by key; None removes the line."""
    path = sdat(folder, data)
    side = path.with_suffix(".SPAR")
    text = side.read_text()
    for key, value in change.items():
        line = "" if value is None else f"{key} : {value}\n"
        text, n = re.subn(rf"^{key} : .*\n", line, text, flags=re.M)
        assert n == 1, key
    side.write_text(text)
    return {"format": "philips_sdat", "metab": path}


def nifti(path, data=ROWS, header=None, extension=None, dwell=DWELL, dtype=np.complex64, shape=None, affine=None):
    """NIfTI-MRS with any header extension: a change of the usual one, or bytes in place of it (b"" for none)."""
    usual = {
        "EchoTime": 0.068, "RepetitionTime": 2.0, "SpectrometerFrequency": [MHZ], "ResonantNucleus": ["1H"],
        "dim_5": "DIM_DYN",
    }  # fmt: skip
    data = np.asarray(data)
    stored = np.conj(data).T if np.iscomplexobj(data) else data.T
    stored = stored.reshape(shape or (1, 1, 1, data.shape[-1], -1)).astype(dtype)
    image = nib.Nifti2Image(stored, np.eye(4) * 20 if affine is None else affine)
    image.header["pixdim"][4] = dwell
    image.header.set_xyzt_units("mm", "sec")
    if extension is None:
        changed = {key: value for key, value in (usual | (header or {})).items() if value is not None}
        extension = json.dumps(changed).encode()
    if extension:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(44, extension))
    nib.save(image, path)
    return path


def of_nifti(folder, **changes):
    words = {key: changes.pop(key) for key in ("edit_scheme", "edit_order", "te_ms") if key in changes}
    return {"format": "nifti_mrs", "metab": nifti(folder / "S.nii.gz", **changes), **words}


def patched(folder, *patches, ending=".nii"):
    """NIfTI-2 with other bytes in its header: (offset, struct's format, value)."""
    path = nifti(folder / "S.nii")
    content = bytearray(path.read_bytes())
    for offset, form, *values in patches:
        struct.pack_into(form, content, offset, *values)
    path.unlink()
    path = folder / f"S{ending}"
    path.write_bytes(gzip.compress(bytes(content)) if ending == ".nii.gz" else content)
    return {"format": "nifti_mrs", "metab": path}


def bomb(folder, *patches, megabytes=4096):
    """A small .nii.gz that inflates to gigabytes of zeros, as members of one gzip stream."""
    path = folder / "S.nii.gz"
    head = bytearray(nifti(folder / "S.nii").read_bytes()[:1024])
    for offset, form, *values in patches:
        struct.pack_into(form, head, offset, *values)
    (folder / "S.nii").unlink()
    zeros = gzip.compress(bytes(1 << 24), compresslevel=9, mtime=0)
    with open(path, "wb") as stream:
        stream.write(gzip.compress(bytes(head)))
        for _ in range(megabytes // 16):
            stream.write(zeros)
    return {"format": "nifti_mrs", "metab": path}


def twix(folder, data=ROWS[:, None], sequence=vendor_twix.UNEDITED, name="S.dat"):
    protocol = vendor_twix.Protocol(sequence, DWELL, MHZ, 0.068, 2.0)
    vendor_twix.write_twix(folder / name, data.astype(np.complex64), protocol)
    return folder / name


class NoPatch:
    """In place of pytest's monkeypatch, which a table has not."""

    setattr = staticmethod(lambda *_: None)


def vendor(kind, folder):
    """Return a good scan of any format that this project can write."""
    if kind == "siemens_twix":
        return twix(folder)
    if kind == "siemens_twix VB":
        return twix_vb(folder / "S.dat", ROWS, NoPatch)
    if kind == "philips_sdat":
        return sdat(folder)
    if kind == "philips_data_list":
        return data_list(folder / "S.data", ROWS)
    return nifti(folder / "S.nii.gz")


def cut(kind, part, folder):
    """A good file cut to a part of its length, or to so many bytes."""
    path = vendor(kind, folder)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part) if isinstance(part, float) else part])
    return {"format": kind.split()[0], "metab": path}


def holds(kind, content, folder):
    """These bytes in place of a scan; what belongs to it is there."""
    path = vendor(kind, folder) if kind.startswith("philips") else folder / f"S{ENDINGS[kind]}"
    path.write_bytes(content)
    return {"format": kind, "metab": path}


def called(kind, as_kind, folder):
    """A good file of one format called by another's suffix and stated as such."""
    path = vendor(kind, folder)
    new = path.rename(path.with_suffix("").with_suffix("").with_suffix(ENDINGS[as_kind]))
    return {"format": as_kind, "metab": new}


def stated(kind, as_kind, folder):
    return {"format": as_kind, "metab": vendor(kind, folder)}


def folder_as_file(folder):
    (folder / "S.dat").mkdir()
    return {"format": "siemens_twix", "metab": folder / "S.dat"}


def special(make, folder, kind="nifti_mrs", column="metab"):
    """Something that is no file under the name of one."""
    name = folder / ("S.SPAR" if column == "aux" else f"{column[0].upper()}{ENDINGS[kind]}")
    make(name)
    found = {"format": kind, "metab": name}
    if column == "aux":
        found = {"format": "philips_sdat", "metab": sdat(folder, name="other.SDAT"), "aux": name}
    elif column == "water":
        found |= {"metab": vendor(kind, folder), "water": name}
    return found


def link_to(target):
    return lambda path: path.symlink_to(target)


def loop(path):
    other = path.with_name("loop")
    other.symlink_to(path.name)
    path.symlink_to("loop")


def locked(folder, column="metab"):
    """Files that nobody may read; see `test_bad_files.no_override` for root."""
    found = {"format": "philips_sdat", "metab": sdat(folder)}
    if column == "water":
        found["water"] = sdat(folder, WATER, "W.SDAT")
    target = found[column] if column != "aux" else folder / "S.SPAR"
    target.chmod(0)
    return found


def locked_folder(folder):
    (folder / "in").mkdir()
    found = {"format": "philips_sdat", "metab": sdat(folder / "in")}
    (folder / "in").chmod(0)
    return found


def water(folder, make):
    return {"format": "nifti_mrs", "metab": nifti(folder / "S.nii.gz"), "water": make(folder / "W.nii.gz")}


def mega(folder, pair, order="interleaved_off_on"):
    return {
        "format": "philips_sdat", "metab": sdat(folder, pair), "edit_scheme": "mega", "edit_order": order,
    }  # fmt: skip


def swapped_spar(folder):
    """The SPAR of another scan, with other rows."""
    path = sdat(folder)
    other = sdat(folder, ROWS[:2], "T.SDAT")
    shutil.copy(other.with_suffix(".SPAR"), path.with_suffix(".SPAR"))
    return {"format": "philips_sdat", "metab": path}


def without(ending, folder, kind="philips_sdat"):
    path = vendor(kind, folder)
    path.with_suffix(ending).unlink()
    return {"format": kind, "metab": path}


def side(ending, content, folder, kind="philips_sdat"):
    path = vendor(kind, folder)
    path.with_suffix(ending).write_bytes(content)
    return {"format": kind, "metab": path}


def listing(change, folder):
    path = data_list(folder / "S.data", ROWS)
    text = path.with_suffix(".list").read_text(encoding="latin-1")
    path.with_suffix(".list").write_text(change(text), encoding="latin-1")
    return {"format": "philips_data_list", "metab": path}


def sidecar(content, folder):
    path = nifti(folder / "S.nii.gz", header={"EchoTime": None})
    (folder / "S.json").write_bytes(content)
    return {"format": "nifti_mrs", "metab": path}


def twix_bytes(folder, *patches):
    path = twix(folder)
    content = bytearray(path.read_bytes())
    for offset, form, value in patches:
        if offset is None:  # of the first transient
            offset = vendor_twix.HEADER_BYTES + struct.unpack_from("<I", content, vendor_twix.HEADER_BYTES)[0]
        struct.pack_into(form, content, offset, value)
    path.write_bytes(content)
    return {"format": "siemens_twix", "metab": path}


def twix_text(old, new, folder):
    path = twix(folder)
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return {"format": "siemens_twix", "metab": path}


def rda(change, folder):
    path = folder / "S.rda"
    path.write_bytes(change(RDA.read_bytes()))
    return {"format": "siemens_rda", "metab": path}


def pfile(change, folder):
    path = folder / "S.7"
    path.write_bytes(change(PFILE.read_bytes()))
    return {"format": "ge_pfile", "metab": path}


def dicom(folder, files=(), more=None):
    series = folder / "S01"
    series.mkdir()
    for number, file in enumerate(files):
        shutil.copyfile(file, series / f"{number:04d}.IMA")
    if more is not None:
        more(series)
    return {"format": "siemens_dicom", "metab": series}


def scans_of(name, n):
    return sorted((DICOM / name).glob("*.IMA"))[:n]


def mixed(folder):
    return dicom(folder, [*scans_of("svs", 2), *scans_of("mrsref", 2)])


def cut_one(folder):
    def cut_it(series):
        path = series / "0001.IMA"
        path.write_bytes(path.read_bytes()[:60_000])

    return dicom(folder, scans_of("mrsref", 2), cut_it)


def text_among(folder):
    return dicom(folder, scans_of("mrsref", 2), lambda series: (series / "0002.IMA").write_text("not DICOM\n" * 99))


def fifo_among(folder):
    return dicom(folder, scans_of("mrsref", 2), lambda series: os.mkfifo(series / "0002.IMA"))


def overwritten(path):
    content = path.read_bytes()
    path.write_bytes(content[:2000] + bytes(range(256)) * ((len(content) - 2000) // 256))
    return path


def cut_end(path):
    path.write_bytes(path.read_bytes()[:-3000])
    return path
