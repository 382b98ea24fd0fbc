"""Broken inputs: how each is made, the column that its error names, and the error.

`CASES` is the table. A case's function gets an empty folder and returns the scan's row of the sample sheet, of which
what is missing is filled in by `row`. Messages are regular expressions that the whole reason must match; in records
the files are called by the columns of the sheet.
"""

import gzip
import json
import os
import re
import shutil
import struct
import sys
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from planted import data_list, twix_vb
from scan_files import DWELL, MHZ, OFF, POINTS, edited, fid, interleave
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
READ = "; check that the file is complete, holds single-voxel spectroscopy, and that its format is right"
NIFTI_AGAIN = "; check that it is complete"


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
    head = (folder / "S.nii", nifti(folder / "S.nii"))[0].read_bytes()[:1024]
    head = bytearray(head)
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
    return {"format": kind, "metab": path}


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


def twix_bytes(folder, *patches, vb=False):
    path = twix_vb(folder / "S.dat", ROWS, NoPatch) if vb else twix(folder)
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


TEXT = b"This is a letter, and no scan.\r\n" * 64
DEEP = b"[" * 100_000
SPEC = r"metab: spec2nii could not read it as {} \(.+\)" + re.escape(READ)
NOT_NIFTI = r"metab: not a readable NIfTI file \(.+\)" + re.escape(NIFTI_AGAIN)
SPECIAL = r"{}: no regular file or folder \({}\), expected a scan's file; check the path in the sample sheet"
JSON_EXTENSION = (
    "metab: MRS header extension that is no JSON object with SpectrometerFrequency in MHz and ResonantNucleus; "
    "convert it again"
)
ANNOUNCED = r"metab: its header announces .+, (but the file has .+|expected .+)"
UNREADABLE = r"{}: Permission denied, expected a file that can be read; give leave to read it, or copy it again"
MISSING = r"{}: no such file; check the path in the sample sheet"
NO_COUNTS = r"metab: its SPAR file has no samples and rows in it, expected their numbers; export the pair again"
NO_SPAR = r"metab: no \.SPAR file of the same name beside it; put it there or name it in the column aux"
NO_DICOM = r"metab: an empty folder, expected the DICOM files of one series; check the path in the sample sheet"
OTHER_NUCLEUS = r"metab: spectrometer frequency 49\.90 MHz, .+, expected that of 1H \(.+\); leave this scan out .+"
MANY_DIGITS = b'{"ResonantNucleus": ["1H"], "SpectrometerFrequency": [1' + b"0" * 400 + b"]}"
SIZES = r"metab: \d+ bytes, expected \d+ \(\d+ rows of \d+ points in .+\); copy the pair again"

NEEDED = (
    "samples", "rows", "sample_frequency", "synthesizer_frequency", "nucleus", "echo_time", "repetition_time",
    "spectrum_inversion_time", "offset_frequency", "volume_selection_enable", "scan_id", "ap_size", "lr_size",
    "cc_size", "ap_angulation", "lr_angulation", "cc_angulation", "ap_off_center", "lr_off_center", "cc_off_center",
)  # fmt: skip

CASES = {
    # Nothing, or something else, in place of a scan
    **{
        f"no bytes: {kind}": (partial(holds, kind, b""), r"metab: an empty file; copy it again from the scanner")
        for kind in ENDINGS
    },
    **{
        f"one byte: {kind}": (partial(holds, kind, b"\1"), message)
        for kind, message in {
            "siemens_twix": SPEC.format("siemens_twix"), "siemens_rda": SPEC.format("siemens_rda"),
            "philips_sdat": SIZES, "philips_data_list": r"metab: 1 bytes, expected 32768 as .+; copy .+ again",
            "ge_pfile": SPEC.format("ge_pfile"), "nifti_mrs": NOT_NIFTI,
        }.items()
    },
    **{
        f"a letter: {kind}": (partial(holds, kind, TEXT), message)
        for kind, message in {
            "siemens_twix": SPEC.format("siemens_twix"), "siemens_rda": SPEC.format("siemens_rda"),
            "philips_sdat": SIZES, "philips_data_list": r"metab: 2048 bytes, expected 32768 as .+; copy .+ again",
            "ge_pfile": SPEC.format("ge_pfile"), "nifti_mrs": NOT_NIFTI,
        }.items()
    },
    # Cut short
    **{
        f"cut to {part}: {kind}": (partial(cut, kind, part), message)
        for kind, parts in {
            "siemens_twix": {4: SPEC, 100: SPEC, 0.2: "cut", 0.5: "cut", 0.97: "cut"},
            "philips_sdat": {100: SIZES, 0.5: SIZES, 0.999: SIZES},
            "philips_data_list": {0.25: "list", 0.999: "list"},
            "nifti_mrs": {8: NOT_NIFTI, 300: NOT_NIFTI, 0.5: NOT_NIFTI, 0.99: NOT_NIFTI},
        }.items()
        for part, text in parts.items()
        for message in [
            {
                "cut": r"metab: \d+ bytes, expected \d+ as its header says; the file is cut short: copy it again",
                "list": r"metab: \d+ bytes, expected 32768 as .+ says; copy the pair again",
                SPEC: SPEC.format(kind),
            }.get(text, text)
        ]
    },
    # Another format than stated
    "twix as nifti_mrs": (
        partial(stated, "siemens_twix", "nifti_mrs"),
        r"metab: suffix \.dat, expected \.nii or \.nii\.gz for format nifti_mrs; correct the format",
    ),
    "sdat as rda": (
        partial(stated, "philips_sdat", "siemens_rda"),
        r"metab: suffix \.SDAT, expected \.rda for format siemens_rda; correct the format",
    ),
    "nifti called .dat": (partial(called, "nifti_mrs", "siemens_twix"), SPEC.format("siemens_twix")),
    "twix called .rda": (partial(called, "siemens_twix", "siemens_rda"), SPEC.format("siemens_rda")),
    "twix called .7": (partial(called, "siemens_twix", "ge_pfile"), SPEC.format("ge_pfile")),
    "sdat called .nii.gz": (partial(called, "philips_sdat", "nifti_mrs"), NOT_NIFTI),
    "nifti called .SDAT": (partial(called, "nifti_mrs", "philips_sdat"), NO_SPAR),
    # No files at all
    "no such file": (
        lambda folder: {"format": "nifti_mrs", "metab": folder / "S.nii.gz"},
        MISSING.format("metab"),
    ),
    "a folder in place of a file": (
        folder_as_file,
        r"metab: a folder, expected a \.dat file for format siemens_twix; check the path in the sample sheet",
    ),
    "a link to nowhere": (partial(special, link_to("nowhere")), MISSING.format("metab")),
    "a loop of links": (partial(special, loop), MISSING.format("metab")),
    "a loop of links: water": (
        lambda folder: special(loop, folder, "nifti_mrs", "water"),
        MISSING.format("water"),
    ),
    "a pipe": (partial(special, os.mkfifo), SPECIAL.format("metab", "a pipe")),
    "a pipe: twix": (partial(special, os.mkfifo, kind="siemens_twix"), SPECIAL.format("metab", "a pipe")),
    "a pipe: water": (partial(special, os.mkfifo, column="water"), SPECIAL.format("water", "a pipe")),
    "a pipe: aux": (partial(special, os.mkfifo, column="aux"), SPECIAL.format("aux", "a pipe")),
    "a folder: aux": (
        partial(special, Path.mkdir, column="aux"),
        r"aux: a folder, expected a SPAR file; check the column aux in the sample sheet",
    ),
    "a device without end": (partial(special, link_to("/dev/zero")), SPECIAL.format("metab", "a device")),
    "an empty device": (
        partial(special, link_to("/dev/null"), kind="siemens_twix"),
        SPECIAL.format("metab", "a device"),
    ),
    "a file that ends in an error of the disk": (
        partial(special, link_to("/proc/self/mem")),
        r"metab: (Input/output error, expected a file that can be read; .+|an empty file; copy it again .+)",
    ),
    "a name that is too long": (
        lambda folder: {"format": "nifti_mrs", "metab": folder / ("S" * 300 + ".nii.gz")},
        r"metab: (File name too long, expected a file that can be read; .+|no such file; .+)",
    ),
    "no leave to read: scan": (locked, UNREADABLE.format("metab")),
    "no leave to read: SPAR": (partial(locked, column="aux"), r"metab: .*Permission denied, expected .+"),
    "no leave to read: water": (partial(locked, column="water"), UNREADABLE.format("water")),
    "no leave to enter the folder": (locked_folder, UNREADABLE.format("metab")),
    # SPAR
    "no SPAR": (
        partial(without, ".SPAR"),
        NO_SPAR,
    ),
    "SPAR of another scan": (swapped_spar, SIZES),
    "SPAR without bytes": (
        partial(side, ".SPAR", b""),
        NO_COUNTS,
    ),
    "SPAR of random bytes": (
        partial(side, ".SPAR", bytes(range(256)) * 8),
        NO_COUNTS,
    ),
    "SPAR: the SDAT itself": (
        lambda folder: {"format": "philips_sdat", "metab": sdat(folder), "aux": folder / "S.SDAT"},
        NO_COUNTS.replace("metab", "aux"),
    ),
    **{
        f"SPAR without {key}": (
            partial(spar, change={key: None}),
            NO_COUNTS
            if key in ("samples", "rows")
            else rf"metab: spec2nii could not read it as philips_sdat \(KeyError: '{key}', .+\)" + re.escape(READ),
        )
        for key in NEEDED
    },
    **{
        f"SPAR: {key} {value[:9]}": (partial(spar, change={key: value}), message)
        for key, value, message in (
            ("rows", "5", SIZES),
            ("samples", "2048", SIZES),
            ("rows", "999999999999", SIZES),
            ("rows", "-4", NO_COUNTS),
            ("rows", "\u00b2", NO_COUNTS),
            ("rows", "9" * 5000, NO_COUNTS),
            ("sample_frequency", "0", SPEC.format("philips_sdat")),
            ("sample_frequency", "2", r"metab: dwell time 0\.5 s at .+, expected 1e-6 to 1e-2 s and .+"),
            ("synthesizer_frequency", "many", SPEC.format("philips_sdat")),
            ("synthesizer_frequency", "49900000", OTHER_NUCLEUS),
            ("nucleus", "31P", r"metab: nucleus 31P, expected 1H; leave this scan out of the study"),
            ("echo_time", "35000", r"metab: EchoTime 35000 ms in the header, expected 1 to 1000 ms .+; state te_ms .+"),
            ("repetition_time", "2", r"metab: RepetitionTime 2 ms in the header, expected .+; state tr_ms .+"),
        )
    },
    # Philips data and list
    "no list": (
        partial(without, ".list", kind="philips_data_list"),
        r"metab: no \.list file of the same name beside it; put it there",
    ),
    "list without bytes": (
        partial(side, ".list", b"", kind="philips_data_list"),
        r"metab: its \.list file has no lines of data, expected one per FID; export the pair again",
    ),
    "list of another scan": (
        partial(listing, lambda text: re.sub(r"  STD 0 (.*)\n", r"  STD 0 \1\n  STD 1 \1\n", text)),
        r"metab: 32768 bytes, expected 65536 as .+ says; copy the pair again",
    ),
    "list with a size of gigabytes": (
        partial(listing, lambda text: text.replace(" 8192 ", " 80000000000 ")),
        r"metab: 32768 bytes, expected 320000000000 as .+ says; copy the pair again",
    ),
    "list with a coil of high number": (
        partial(listing, lambda text: text.replace("STD 0 0 0 0 0 0", "STD 0 0 0 0 0 99999999", 1)),
        SPEC.format("philips_data_list"),
    ),
    # Siemens twix
    "twix: measurement far beyond the end": (
        lambda folder: twix_bytes(folder, (16, "<Q", 1 << 40)),
        r"metab: \d+ bytes, expected \d+ as its header says; the file is cut short: copy it again",
    ),
    "twix: measurement in the middle of another": (
        lambda folder: twix_bytes(folder, (16, "<Q", 10_500), (24, "<Q", 1000)),
        SPEC.format("siemens_twix"),
    ),
    "twix: 2000 million measurements": (
        lambda folder: twix_bytes(folder, (4, "<I", 2_000_000_000)),
        SPEC.format("siemens_twix"),
    ),
    "twix: no measurement": (lambda folder: twix_bytes(folder, (4, "<I", 0)), SPEC.format("siemens_twix")),
    "twix: header of gigabytes": (
        lambda folder: twix_bytes(folder, (10240, "<I", 0xFFFFFF00)),
        SPEC.format("siemens_twix"),
    ),
    "twix: transient without length": (
        lambda folder: twix_bytes(folder, (None, "<I", 0)),
        SPEC.format("siemens_twix"),
    ),
    "twix: unknown software": (
        partial(twix_text, b"syngo MR E11", b"syngo QX ZZZ"),
        SPEC.format("siemens_twix"),
    ),
    "twix: no dwell time": (
        partial(twix_text, b"sRXSPEC.alDwellTime[0]", b"sRXSPEC.alDwellTine[0]"),
        SPEC.format("siemens_twix"),
    ),
    "twix: bytes in place of all data": (
        lambda folder: {"format": "siemens_twix", "metab": _overwritten(twix(folder))},
        r"metab: .+",
    ),
    # NIfTI-MRS
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
    # Transients and water
    "one transient, edited": (
        lambda folder: mega(folder, ROWS[:1]),
        r"metab: 1 transients, expected an even number \(ON and OFF equally often\); was the scan cut short, .+",
    ),
    "odd number of edited transients": (
        lambda folder: mega(folder, interleave(edited(4)[:, :, 0])[:7]),
        r"metab: 7 transients, expected an even number \(ON and OFF equally often\); was the scan cut short, .+",
    ),
    "edited transients in another order": (
        lambda folder: mega(folder, interleave(edited(8)[:, :, 0]), "interleaved_on_off"),
        r"metab: .+, expected NAA in OFF only; set edit_order to interleaved_off_on",
    ),
    "unedited scan called edited": (
        lambda folder: mega(folder, ROWS),
        r"metab: .+, so OFF and ON cannot be told; is it MEGA editing at 1\.9 ppm\?",
    ),
    "water of another length": (
        lambda folder: water(folder, lambda path: nifti(path, WATER[:, :512])),
        r"water: water reference with 512 points, but the scan metab has 1024; check that it belongs .+",
    ),
    "water of other coils": (
        lambda folder: water(
            folder, lambda path: nifti(path, WATER, header={"dim_5": "DIM_COIL", "dim_6": None})
        ),
        r"water: water reference with 4 coils, but the scan metab has 1; check that it belongs .+",
    ),
    "water of another dwell time": (
        lambda folder: water(folder, lambda path: nifti(path, WATER, dwell=2.5e-4)),
        r"water: water reference with 0\.00025 s dwell time, but the scan metab has 0\.0005; check that .+",
    ),
    "water of another field": (
        lambda folder: water(folder, lambda path: nifti(path, WATER, header={"SpectrometerFrequency": [298.0]})),
        r"water: water reference with 298 MHz, but the scan metab has 123\.25; check that it belongs .+",
    ),
    "water cut short": (
        lambda folder: water(folder, lambda path: _cut(nifti(path, WATER))),
        r"water: not a readable NIfTI file \(.+\)" + re.escape(NIFTI_AGAIN),
    ),
    "no such water": (
        lambda folder: water(folder, lambda path: path),
        MISSING.format("water"),
    ),
    # Folders of DICOM files
    "DICOM: an empty folder": (dicom, NO_DICOM),
    "DICOM: nothing but folders": (
        partial(dicom, more=lambda series: (series / "a" / "b").mkdir(parents=True)),
        NO_DICOM,
    ),
    "DICOM: nothing but dangling links": (
        partial(dicom, more=lambda series: (series / "a.IMA").symlink_to("nowhere")),
        NO_DICOM,
    ),
    "DICOM: a loop of folders": (
        partial(dicom, more=lambda series: (series / "a").symlink_to(series)),
        NO_DICOM,
    ),
    "DICOM: a letter": (
        partial(dicom, more=lambda series: (series / "a.IMA").write_bytes(TEXT)),
        SPEC.format("siemens_dicom"),
    ),
    "DICOM: a pipe": (
        partial(dicom, more=lambda series: (os.mkfifo(series / "a.IMA"), (series / "b.IMA").write_bytes(TEXT))),
        r"a file of metab: no regular file or folder \(a pipe\), expected .+",
    ),
}  # fmt: skip

# From real scanners' files
DATA_CASES = {
    "DICOM: two series": (mixed, r"metab: .+; (give each series its own folder or file|.+its format is right)"),
    "DICOM: one file cut": (cut_one, SPEC.format("siemens_dicom")),
    "DICOM: a letter among the files": (text_among, SPEC.format("siemens_dicom")),
    "DICOM: a pipe among the files": (
        fifo_among,
        r"a file of metab: no regular file or folder \(a pipe\), expected .+",
    ),
    "rda: cut in the header": (partial(rda, lambda content: content[:900]), SPEC.format("siemens_rda")),
    "rda: cut in the data": (
        partial(rda, lambda content: content[:-4096]),
        r"metab: \d+ bytes of data, expected \d+ \(2048 points\); .+ copy it again",
    ),
    "rda: header without end": (
        partial(rda, lambda content: content.replace(b">>> End of header <<<", b">>> End of helder <<<")),
        SPEC.format("siemens_rda"),
    ),
    "rda: no dwell time": (
        partial(rda, lambda content: content.replace(b"DwellTime:", b"DwellTine:")),
        SPEC.format("siemens_rda"),
    ),
    "rda: matrix of gigabytes": (
        partial(rda, lambda content: re.sub(rb"VectorSize: \d+", b"VectorSize: 99999999999", content)),
        r"metab: 32768 bytes of data, expected \d+ .+ copy it again",
    ),
    "P-file: cut in the header": (partial(pfile, lambda content: content[:5000]), SPEC.format("ge_pfile")),
    "P-file: cut in the data": (partial(pfile, lambda content: content[:-200_000]), SPEC.format("ge_pfile")),
    "P-file: zeros for a header": (
        partial(pfile, lambda content: bytes(2048) + content[2048:]),
        SPEC.format("ge_pfile"),
    ),
}


def _overwritten(path):
    content = path.read_bytes()
    path.write_bytes(content[:2000] + bytes(range(256)) * ((len(content) - 2000) // 256))
    return path


def _cut(path):
    path.write_bytes(path.read_bytes()[:-3000])
    return path


def row(found):
    """Return a case's row with what is missing in it."""
    usual = {"edit_scheme": "none", "edit_order": "", "te_ms": "", "aux": "", "water": ""}
    whole = usual | {key: str(value) for key, value in found.items()}
    return whole | {"water_role": "both" if whole["water"] else "none"}
