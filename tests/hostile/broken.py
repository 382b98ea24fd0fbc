"""Broken inputs: how each is made, the column that its error names, and the error.

`CASES` is the table. A case's function gets an empty folder and returns the scan's row of the sample sheet, of which
what is missing is filled in by `row`. Messages are regular expressions that the whole reason must match; in records
the files are called by the columns of the sheet.
"""

import os
import re
from functools import partial
from pathlib import Path

from broken_files import (
    ENDINGS,
    ROWS,
    WATER,
    called,
    cut,
    cut_end,
    cut_one,
    dicom,
    fifo_among,
    folder_as_file,
    holds,
    link_to,
    listing,
    locked,
    locked_folder,
    loop,
    mega,
    mixed,
    nifti,
    overwritten,
    pfile,
    rda,
    sdat,
    side,
    spar,
    special,
    stated,
    swapped_spar,
    text_among,
    twix,
    twix_bytes,
    twix_text,
    water,
    without,
)
from broken_nifti import NIFTI, NIFTI_AGAIN, NOT_NIFTI
from scan_files import edited, interleave

READ = "; check that the file is complete, holds single-voxel spectroscopy, and that its format is right"
TEXT = b"This is a letter, and no scan.\r\n" * 64
SPEC = r"metab: spec2nii could not read it as {} \(.+\)" + re.escape(READ)
SPECIAL = r"{}: no regular file or folder \({}\), expected a scan's file; check the path in the sample sheet"
UNREADABLE = r"{}: Permission denied, expected a file that can be read; give leave to read it, or copy it again"
MISSING = r"{}: no such file; check the path in the sample sheet"
NO_COUNTS = r"metab: its SPAR file has no samples and rows in it, expected their numbers; export the pair again"
NO_SPAR = r"metab: no \.SPAR file of the same name beside it; put it there or name it in the column aux"
NO_DICOM = r"metab: an empty folder, expected the DICOM files of one series; check the path in the sample sheet"
OTHER_NUCLEUS = r"metab: spectrometer frequency 49\.90 MHz, .+, expected that of 1H \(.+\); leave this scan out .+"
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
            "siemens_twix VB": {0.2: SPEC, 0.5: "VB", 0.97: "VB"},
            "philips_sdat": {100: SIZES, 0.5: SIZES, 0.999: SIZES},
            "philips_data_list": {0.25: "list", 0.999: "list"},
            "nifti_mrs": {8: NOT_NIFTI, 300: NOT_NIFTI, 0.5: NOT_NIFTI, 0.99: NOT_NIFTI},
        }.items()
        for part, text in parts.items()
        for message in [
            {
                "cut": r"metab: \d+ bytes, expected \d+ as its header says; the file is cut short: copy it again",
                "VB": r"metab: \d transients and no mark that ends the measurement after them, .+; .+: copy it again",
                "list": r"metab: \d+ bytes, expected 32768 as .+ says; copy the pair again",
                SPEC: SPEC.format(kind.split()[0]),
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
        lambda folder: {"format": "siemens_twix", "metab": overwritten(twix(folder))},
        r"metab: .+",
    ),
    **NIFTI,
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
        lambda folder: water(folder, lambda path: cut_end(nifti(path, WATER))),
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

# Those that only repeat another in a further field, format or place: not in the default run, as each starts spec2nii
REPEATED = {
    *(f"SPAR without {key}" for key in NEEDED if key not in ("samples", "rows", "sample_frequency", "echo_time")),
    "one byte: siemens_twix", "one byte: ge_pfile", "a letter: siemens_rda", "cut to 4: siemens_twix",
    "cut to 0.2: siemens_twix VB", "SPAR: sample_frequency 2", "SPAR: synthesizer_frequency many",
    "SPAR: synthesizer_frequency 49900000", "SPAR: repetition_time 2", "twix: no measurement",
    "twix: measurement in the middle of another", "twix: transient without length", "twix: unknown software",
    "DICOM: a letter among the files", "rda: header without end", "rda: no dwell time", "P-file: cut in the header",
    "P-file: zeros for a header", "twix: 2000 million measurements", "cut to 100: siemens_twix", "twix called .7",
    "unedited scan called edited",
}  # fmt: skip
assert (CASES | DATA_CASES).keys() >= REPEATED


def row(found):
    """Return a case's row with what is missing in it."""
    usual = {"edit_scheme": "none", "edit_order": "", "te_ms": "", "aux": "", "water": ""}
    whole = usual | {key: str(value) for key, value in found.items()}
    return whole | {"water_role": "both" if whole["water"] else "none"}
