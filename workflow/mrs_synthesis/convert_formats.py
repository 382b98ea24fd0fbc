"""Read vendor files through spec2nii, and any NIfTI-MRS file, as raw arrays with tagged dimensions.

What spec2nii writes is not yet a `mrs_synthesis.scans.Scan`: dimensions can be unnamed, doubled or without edit
conditions. `mrs_synthesis.editing` arranges them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mrs_synthesis import raw_files
from mrs_synthesis.header import dimension, edit_conditions
from mrs_synthesis.raw_files import SUFFIXES, beside
from mrs_synthesis.scans import NIFTI_MRS_CODE
from mrs_synthesis.stage import InputError, not_killed

FORMATS = tuple(SUFFIXES)
KNOWN_SUFFIXES = {".spar", ".list", *(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)}
MAIN_OUTPUTS = ("", "_STD_0")  # what spec2nii appends to the name of the water-suppressed scan
# ... and of references inside the same file, best first: GE, Siemens XA and CMRR sequences, Philips data/list
REFERENCE_OUTPUTS = ("_ref", "_ref_ecc", "_ecc", "_quant", "_ref_no_ovs", "_vapor_ovs_rfoff", "_rf_off", "_STD_1")
# Python's own errors that speak of types and of the program's own names, not of what a file holds
HARMLESS = re.compile(r"(AttributeError|TypeError|IndexError|EOFError|struct\.error|ModuleNotFoundError): .*")
# What spec2nii may take, lest a broken file take all: it was seen to take 15 bytes of memory and 0.2 us for each byte
LIMITS = {"memory": (6 << 30, 32), "seconds": (600, 1e-5)}  # of any file, and more for each byte
IGNORED_OUTPUTS = ("_rf_grads_ovs_off", "_NOI", "_phasecorr")


@dataclass
class Raw:
    """One file's data before its dimensions are understood.

    Attributes
    ----------
    data
        complex64, shape (points, ...): the conjugate of the stored array, so that a plain FFT has increasing ppm.
    tags, tag_headers
        NIfTI-MRS tag (None if absent) and header of each axis after the first.
    header
        The remaining JSON header extension.
    """

    data: np.ndarray
    tags: list[str | None]
    tag_headers: list[dict]
    header: dict[str, Any]
    frequency_mhz: float
    dwell_s: float
    affine: np.ndarray


@dataclass
class Source:
    """What one input path gave: its scan, the water reference inside it (if any), and how it was read."""

    main: Raw
    reference: Raw | None = None
    files: list[Path] = field(default_factory=list)
    command: str = ""
    notes: list[str] = field(default_factory=list)
    before_echo: int = 0


def read_source(path: Path, format_name: str, aux: Path | None = None) -> Source:
    """Read one scan in a vendor's format or in NIfTI-MRS.

    Parameters
    ----------
    path
        The file; for ``siemens_dicom`` a folder with one series (or one file).
    format_name
        One of `FORMATS`.
    aux
        The file beside it: SPAR for ``philips_sdat`` and ``philips_data_list``. None: looked for under the same stem.

    Raises
    ------
    InputError
        If a file is missing, has another format's suffix, or spec2nii cannot convert it.
    """
    path = Path(path)
    raw_files.check_path(path, format_name)
    if format_name == "nifti_mrs":
        return Source(load_raw(path), files=[path])
    files, arguments, notes = _arguments(path, format_name, aux)
    with tempfile.TemporaryDirectory(prefix="convert_") as folder:
        outputs, patched = _spec2nii(path, format_name, arguments, Path(folder), raw_files.bytes_of(files))
        source = _sort_outputs(path, outputs)
    # What stands in sidecars must not name the files: their names can hold names of people
    names = {str(file): f"<file{file.suffix if file.suffix.lower() in KNOWN_SUFFIXES else ''}>" for file in files}
    names[str(path)] = "<folder>" if path.is_dir() else f"<scan{path.suffix}>"
    source.files = files
    source.command = " ".join(["spec2nii", *(names.get(argument, argument) for argument in arguments)])
    source.notes += [*notes, *patched]
    if format_name == "siemens_twix":
        source.before_echo = _points_before_echo(path, source.main.data.shape[0])
    return source


def load_raw(path: Path, label: Path | None = None) -> Raw:
    """Read a NIfTI-MRS file whatever its dimensions are; `label` is the path that errors name.

    Raises
    ------
    InputError
        If it is not single-voxel NIfTI-MRS with a frequency and a dwell time.
    """
    import nibabel as nib

    label = label or path
    try:
        raw_files.check_nifti(path, label)
        image = nib.load(path)
        stored = np.asanyarray(image.dataobj)
        texts = [e.get_content() for e in image.header.extensions if e.get_code() == NIFTI_MRS_CODE]
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever nibabel stumbles over
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{label}: not a readable NIfTI file ({said}); check that it is complete") from None
    if not texts:
        raise InputError(
            f"{label}: NIfTI without the MRS header extension (code 44), expected NIfTI-MRS; convert it with spec2nii"
        )
    try:
        header = json.loads(texts[0].decode() if isinstance(texts[0], bytes) else texts[0])
        frequency = float(np.ravel(header.pop("SpectrometerFrequency"))[0])
        nucleus = str(np.ravel(header.pop("ResonantNucleus"))[0])
    except KeyError as error:
        raise InputError(f"{label}: MRS header extension without {error}; convert it again") from None
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError):
        raise InputError(
            f"{label}: MRS header extension that is no JSON object with SpectrometerFrequency in MHz and "
            "ResonantNucleus; convert it again"
        ) from None
    if nucleus != "1H":
        known = nucleus if re.fullmatch(r"\d{1,3}[A-Z][a-z]?", nucleus) else "of another name"
        raise InputError(f"{label}: nucleus {known}, expected 1H; leave this scan out of the study")
    if stored.ndim < 4 or stored.shape[:3] != (1, 1, 1):
        raise InputError(
            f"{label}: shape {stored.shape}, expected one voxel (1, 1, 1, points, ...); give a single-voxel scan"
        )
    if stored.dtype.kind != "c":
        raise InputError(f"{label}: data of type {stored.dtype}, expected complex numbers; convert it again")
    if not np.isfinite(image.affine).all():
        raise InputError(f"{label}: position of the voxel is not finite, expected mm; convert it again")
    data = np.conj(stored.reshape(stored.shape[3:])).astype(np.complex64)
    tags = [dimension(header.get(f"dim_{axis + 5}")) for axis in range(data.ndim - 1)]
    tag_headers = [edit_conditions(header.get(f"dim_{axis + 5}_header")) for axis in range(data.ndim - 1)]
    header = {key: value for key, value in header.items() if not key.startswith("dim_")}
    unit = {8: 1.0, 16: 1e-3, 24: 1e-6}.get(int(image.header["xyzt_units"]) & 56, 1.0)
    dwell = float(f"{float(image.header['pixdim'][4]) * unit:.7g}")  # stored in single precision
    if not (1e-6 < dwell < 1e-2 and 1 < frequency < 2000):
        raise InputError(
            f"{label}: dwell time {dwell:g} s at {frequency:g} MHz, expected 1e-6 to 1e-2 s and 1 to 2000 MHz"
        )
    return Raw(data, tags, tag_headers, header, frequency, dwell, np.asarray(image.affine))


def fingerprint(raw: Raw) -> str:
    """Return a hash of the measured FIDs, in whatever order they are and whatever a header says of them.

    Noise makes every FID one of its kind: equal ones are the same measurement, also in files that differ.
    """
    rows = raw.data.reshape(len(raw.data), -1).T
    digests = sorted(hashlib.sha256(row.tobytes()).digest() for row in rows)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def run_spec2nii(arguments: list[str], size: int = 0) -> tuple[int, str]:
    """Run spec2nii's command line; return its exit status (negative for a signal) and what it said on stderr.

    In a forked process: the scans of a shard share one import of it, none meets what another one left behind, and it
    ends before it takes more memory or time than files of `size` bytes can need.
    """
    try:
        from spec2nii.spec2nii import main
    except ImportError:
        raise InputError("spec2nii: not installed, needed to read vendor files; pip install spec2nii==0.8.15") from None
    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _child(main, arguments, said.fileno(), size)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        code = not_killed(os.waitstatus_to_exitcode(status), "spec2nii")
        return code, said.read().decode(errors="replace")


def _child(main: Callable[[], int], arguments: list[str], stderr: int, size: int) -> NoReturn:
    """Be the command: all that it says goes to files of its own, and nothing of this program's end is run."""
    code = 1
    try:
        os.dup2(stderr, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # it must not wait for an answer
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", errors="replace")
        sys.argv = ["spec2nii", *arguments]
        _limit(size)
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def limit_seconds(size: int) -> int:
    """Return the CPU time that spec2nii may take for files of `size` bytes; waiting for a slow disk takes none."""
    return int(LIMITS["seconds"][0] + LIMITS["seconds"][1] * size)


def _limit(size: int) -> None:
    usage = Path("/proc/self/statm")
    limits = {resource.RLIMIT_CPU: limit_seconds(size), resource.RLIMIT_CORE: 0}
    if usage.exists():  # Linux, where this limit counts what is written to, not what is mapped
        taken = int(usage.read_text().split()[5]) * resource.getpagesize()
        limits[resource.RLIMIT_DATA] = taken + LIMITS["memory"][0] + LIMITS["memory"][1] * size
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _arguments(path: Path, format_name: str, aux: Path | None) -> tuple[list[Path], list[str], list[str]]:
    """Return the source files, spec2nii's arguments and notes."""
    if aux is not None:
        raw_files.check_aux(Path(aux))
    if format_name == "siemens_dicom":
        files = sorted(child for child in path.rglob("*") if child.is_file()) if path.is_dir() else [path]
        return files, ["dicom", str(path)], []
    if format_name == "siemens_twix":
        raw_files.check_twix(path)
        return [path], ["twix", "-e", "image", "-q", str(path)], []
    if format_name == "siemens_rda":
        raw_files.check_rda(path)
        return [path], ["rda", str(path)], []
    if format_name == "ge_pfile":
        return [path], ["ge", str(path)], []
    spar = Path(aux) if aux else beside(path, ".SPAR")
    if format_name == "philips_sdat":
        raw_files.check_sdat(path, spar)
        return [path, spar], ["philips", str(path), str(spar)], []
    listing = beside(path, ".list")
    notes = raw_files.check_list(path, listing)
    return [path, listing, spar], ["philips_dl", str(path), str(listing), str(spar)], notes


def _spec2nii(
    path: Path, format_name: str, arguments: list[str], folder: Path, size: int
) -> tuple[dict[str, Raw], list[str]]:
    """Run spec2nii; return its outputs by what it appended to their name, and notes."""
    # Zero rows are kept: dropping one would shift which rows are edit-ON in interleaved data.
    options = ["-o", str(folder), "-f", "raw", "--keep_zero_valued"]
    code, said = run_spec2nii([*arguments, *options], size)
    notes = []
    if code and format_name == "siemens_dicom" and "TypeError" in said:
        # spec2nii 0.8.15 calls float() on PatientWeight, which anonymised DICOM leaves empty.
        copies = folder / "patched"
        if _fill_patient_weight(path, copies):
            code, said = run_spec2nii([arguments[0], str(copies), *arguments[2:], *options], size)
            notes = ["empty PatientWeight filled in a temporary copy"]
    outputs = sorted(folder.glob("raw*.nii.gz"))
    if code or not outputs:
        reason = without_content(said) or "it wrote nothing"
        if code == -signal.SIGXCPU:
            reason = f"it took more than {limit_seconds(size)} s of computing"
        elif code < 0:
            reason = f"it crashed, signal {-code}"
        raise InputError(
            f"{path}: spec2nii could not read it as {format_name} ({reason}); "
            "check that the file is complete, holds single-voxel spectroscopy, and that its format is right"
        )
    return {file.name.removeprefix("raw").removesuffix(".nii.gz"): load_raw(file, path) for file in outputs}, notes


def without_content(said: str) -> str:
    """Return why spec2nii ended, from what it said on stderr, without what it read: that may be a patient's name.

    The kind of error and the place in the program; what an error says only where it speaks of the program.
    """
    lines = [line for line in said.splitlines() if line.strip()]
    places = re.findall(r'File "[^"]*?(\w+\.py)", line (\d+)', said)
    errors = [
        line for line in lines if re.match(r"([\w.]*(Error|Exception|Exit)\b|(spec2nii|mapvbvd)\.[\w.]+: )", line)
    ]
    if not places or not errors:
        return "it says why when run alone" if lines else ""
    kind, _, about = errors[-1].partition(": ")
    keys = (about, about.replace("'", '"'))  # as the program's own line may have it
    is_own = HARMLESS.fullmatch(errors[-1]) or (
        kind == "KeyError" and any(key in line for key in keys for line in lines[-3:-1])
    )
    return f"{errors[-1] if is_own else kind.rsplit('.', 1)[-1]}, {places[-1][0]} line {places[-1][1]}"


def _fill_patient_weight(path: Path, folder: Path) -> bool:
    """Copy DICOM files to `folder` with a number for an empty PatientWeight; False if none was empty."""
    import pydicom

    folder.mkdir()
    filled = False
    with warnings.catch_warnings():  # they would tell values
        warnings.simplefilter("ignore")
        for number, file in enumerate(sorted(path.rglob("*")) if path.is_dir() else [path]):
            if not file.is_file():
                continue
            try:
                content = pydicom.dcmread(file)
            except Exception:  # no DICOM, or a broken one
                continue
            if content.get("PatientWeight", 0) is None:
                content.PatientWeight = "0"
                filled = True
            content.save_as(folder / f"{number:06d}.dcm")
    return filled


def _sort_outputs(path: Path, outputs: dict[str, Raw]) -> Source:
    """Tell the scan from the references that spec2nii found in the same file."""
    main = [name for name in MAIN_OUTPUTS if name in outputs]
    if not main or set(outputs) - {*MAIN_OUTPUTS, *REFERENCE_OUTPUTS, *IGNORED_OUTPUTS}:
        names = ", ".join(name.strip("_") or "unnamed" for name in outputs)
        raise InputError(
            f"{path}: spec2nii found {len(outputs)} scans ({names}), expected one single-voxel scan with or without "
            "water reference; give each series its own folder or file"
        )
    references = [name for name in REFERENCE_OUTPUTS if name in outputs]
    source = Source(outputs[main[0]], outputs[references[0]] if references else None)
    unused = [name.strip("_") for name in outputs if name not in (main[0], *references[:1])]
    if unused:
        source.notes.append(f"left out of the file: {', '.join(unused)}")
    return source


def _points_before_echo(path: Path, n_points: int) -> int:
    """Return how many points a Siemens ADC sampled before the echo, which spec2nii keeps; 0 if the header says none.

    The first of the free parameters in the measurement header, as Gannet and Osprey read it.
    """
    from mapvbvd import mapVBVD

    try:
        content = mapVBVD(str(path), quiet=True)
        content = content[1] if isinstance(content, list) else content  # spec2nii's default measurement
        count = int(np.ravel(content["image"].freeParam)[0])
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, OSError):
        return 0
    return count if 0 < count < n_points // 16 else 0


def cut_points_before_echo(main: Source, water: Source | None) -> None:
    """Drop the points before the echo in place, if the signal is indeed lower there.

    Not every sequence fills that header field with this number, so the water reference (else the scan) must show it.
    """
    count = main.before_echo
    if not count:
        return
    shown = (water or main).main.data
    level = np.abs(shown[: 2 * count]).reshape(2, count, -1).mean(axis=(1, 2))
    if level[0] >= 0.9 * level[1]:
        main.notes.append(f"header names {count} points before the echo, but the signal starts at the first point")
        return
    for source in filter(None, (main, water)):
        source.main.data = source.main.data[count:]
    main.notes.append(f"{count} points before the echo dropped")
