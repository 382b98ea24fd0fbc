"""Scans as NIfTI-MRS files: the only place where the sign convention of a file meets that of the memory.

In memory ``Scan.fids`` has four axes, whatever the file has: (edit conditions, transients, coils, points). NIfTI-MRS
stores the complex conjugate of what `mrs_synthesis.spectra` works with; dimensions are tagged DIM_COIL, DIM_DYN,
DIM_EDIT.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mrs_synthesis import __version__, raw_files, sidecars, spectra
from mrs_synthesis.files import write_json, write_whole
from mrs_synthesis.stage import InputError, require

AXES = ("DIM_EDIT", "DIM_DYN", "DIM_COIL")  # the order of the first three axes of Scan.fids
FILE_ORDER = ("DIM_COIL", "DIM_DYN", "DIM_EDIT")  # the order in a file
EDIT_ORDER = ("OFF", "ON")
NIFTI_MRS_CODE = 44
_READ_ERRORS = (
    *(OSError, EOFError, ValueError, AttributeError, TypeError, KeyError, OverflowError, zlib.error),
    *(nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError),
)


@dataclass
class Scan:
    """One single-voxel scan.

    Attributes
    ----------
    fids
        Complex, shape (edit conditions, transients, coils, points); a dimension that the scan lacks has length 1.
    frequency_mhz
        Spectrometer frequency.
    dwell_s
        Time between two points.
    header
        The JSON header extension: EchoTime and RepetitionTime in s, provenance, and so on, without the dimension tags.
    conditions
        Names along the first axis: ("OFF", "ON") for a MEGA-edited scan, ("UNEDITED",) otherwise.
    affine
        Voxel position in mm, shape (4, 4).
    dimensions
        Tags that the file carries although their length may be 1, e.g. ("DIM_DYN",).
    """

    fids: np.ndarray
    frequency_mhz: float
    dwell_s: float
    header: dict[str, Any] = field(default_factory=dict)
    conditions: tuple[str, ...] = ("UNEDITED",)
    affine: np.ndarray = field(default_factory=lambda: np.diag([1e4, 1e4, 1e4, 1.0]))
    dimensions: tuple[str, ...] = ("DIM_DYN",)

    @property
    def n_points(self) -> int:
        """Number of points of a FID."""
        return self.fids.shape[-1]

    @property
    def ppm(self) -> np.ndarray:
        """Chemical shift of each spectral bin, increasing."""
        return spectra.ppm_axis(self.n_points, self.dwell_s, self.frequency_mhz)

    def with_fids(self, fids: np.ndarray, **changes: Any) -> Scan:
        """Return a copy with other FIDs (four axes) and other attributes."""
        return replace(self, fids=fids, header=json.loads(json.dumps(self.header)), **changes)


@dataclass
class _Layout:
    """What a NIfTI-MRS file says of itself before its data are read."""

    image: nib.Nifti1Image
    header: dict[str, Any]
    tags: list[str | None]  # of the axes after the points
    conditions: tuple[str, ...]
    frequency_mhz: float
    dwell_s: float


def _unreadable(path: Path, error: Exception) -> InputError:
    said = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: not a readable NIfTI file ({said}); convert it again")


def _layout(path: Path) -> _Layout:
    """Open a single-voxel NIfTI-MRS file and check its header."""
    try:
        raw_files.check_nifti(path, path)
        image = nib.load(path)
        texts = [e.get_content() for e in image.header.extensions if e.get_code() == NIFTI_MRS_CODE]
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from None
    if not texts:
        raise InputError(f"{path}: NIfTI without the MRS header extension (code 44); convert it with spec2nii")
    content = texts[0]
    try:
        header = json.loads(content.decode() if isinstance(content, bytes) else content)
        frequency = float(np.ravel(header["SpectrometerFrequency"])[0])
        nucleus = str(np.ravel(header.get("ResonantNucleus", "1H"))[0])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError):
        raise InputError(
            f"{path}: MRS header extension without SpectrometerFrequency; convert it with spec2nii"
        ) from None
    shape = image.shape
    if len(shape) < 4 or shape[:3] != (1, 1, 1):
        raise InputError(f"{path}: shape {shape}, expected one voxel (1, 1, 1, points, ...)")
    if nucleus != "1H":
        raise InputError(f"{path}: nucleus {nucleus[:8]!a}, expected 1H; leave this scan out of the study")
    tags = [header.pop(f"dim_{i}", None) for i in (5, 6, 7)]
    for key in [k for k in header if k.startswith("dim_") and k.endswith("_info")]:
        del header[key]
    dimension_headers = {tag: header.pop(f"dim_{i}_header", None) for i, tag in zip((5, 6, 7), tags, strict=True)}
    used = [tags[i] if i < 3 else None for i in range(len(shape) - 4)]
    for tag, length in zip(used, shape[4:], strict=True):
        if tag not in AXES and length > 1:
            raise InputError(
                f"{path}: dimension {tag or 'without a tag'} of length {length}, expected {', '.join(FILE_ORDER)}; "
                "rename it with mrs_tools, or state edit_scheme and edit_order in the sample sheet"
            )
    n_conditions = shape[4 + used.index("DIM_EDIT")] if "DIM_EDIT" in used else 1
    dwell = float(image.header["pixdim"][4]) * {8: 1.0, 16: 1e-3, 24: 1e-6}.get(
        int(image.header["xyzt_units"]) & 56, 1.0
    )
    conditions = _conditions(path, n_conditions, dimension_headers.get("DIM_EDIT"))
    return _Layout(image, header, used, conditions, frequency, dwell)


def read_scan(path: Path | str) -> Scan:
    """Read a single-voxel NIfTI-MRS file.

    Raises
    ------
    InputError
        If the file is not single-voxel 1H NIfTI-MRS, has a dimension this project does not know, or holds NaN.
    SkippedError
        If the file is empty: an earlier stage failed for this subject.
    """
    path = require(Path(path))
    layout = _layout(path)
    try:
        stored = np.asanyarray(layout.image.dataobj)
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from None
    source = [layout.tags.index(tag) + 1 if tag in layout.tags else None for tag in AXES]
    flat = stored.reshape(stored.shape[3:])
    order = [axis for axis in source if axis is not None]
    rest = [axis for axis in range(1, flat.ndim) if axis not in order]
    fids = flat.transpose([*order, *rest, 0])
    shape = [flat.shape[axis] if axis is not None else 1 for axis in source]
    fids = np.conj(fids.reshape([*shape, flat.shape[0]])).astype(np.complex128)
    if not np.all(np.isfinite(fids)):
        raise InputError(f"{path}: {np.count_nonzero(~np.isfinite(fids))} points are NaN or infinite")
    return Scan(
        fids,
        layout.frequency_mhz,
        layout.dwell_s,
        layout.header,
        layout.conditions,
        np.asarray(layout.image.affine),
        tuple(tag for tag in FILE_ORDER if tag in layout.tags),
    )


class ScanReader:
    """A scan of one combined channel whose transients are read in pieces, as they are: also NaN.

    Every edit condition has a file handle of its own, so that reading forward decompresses nothing twice.

    Parameters
    ----------
    path
        Single-voxel NIfTI-MRS file.

    Attributes
    ----------
    header, conditions, frequency_mhz, dwell_s
        As in `Scan`.
    n_transients, n_points
        Lengths.

    Raises
    ------
    InputError
        As `read_scan`, except for NaN; and if there are several coils.
    SkippedError
        If the file is empty.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = require(Path(path))
        layout = _layout(self.path)
        self.header, self.conditions = layout.header, layout.conditions
        self.frequency_mhz, self.dwell_s = layout.frequency_mhz, layout.dwell_s
        self._tags, shape = layout.tags, layout.image.shape
        lengths = dict(zip(self._tags, shape[4:], strict=True))
        self.n_points, self.n_transients = shape[3], lengths.get("DIM_DYN", 1)
        if lengths.get("DIM_COIL", 1) != 1:
            raise InputError(
                f"{self.path}: {lengths['DIM_COIL']} coils, expected combined data; combine the coils first"
            )
        self._data: dict[str, Any] = {}

    def __enter__(self) -> ScanReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.clear()  # closes the files

    def chunk(self, condition: str, start: int, stop: int) -> np.ndarray:
        """Return complex FIDs (stop - start, n_points) of an edit condition.

        Raises
        ------
        InputError
            If the file ends before.
        """
        number = self.conditions.index(condition)
        if condition not in self._data:
            self._data[condition] = nib.load(self.path, keep_file_open=True).dataobj
        picks = {"DIM_DYN": slice(start, stop), "DIM_EDIT": number}
        index = (0, 0, 0, slice(None), *(picks.get(tag, 0) for tag in self._tags))
        try:
            stored = np.asarray(self._data[condition][index])
        except _READ_ERRORS as error:
            raise _unreadable(self.path, error) from None
        return np.conj(stored.reshape(self.n_points, -1).T).astype(np.complex128, order="C")


def _conditions(path: Path, n_conditions: int, edit_header: dict | None) -> tuple[str, ...]:
    if n_conditions == 1:
        return ("UNEDITED",)
    values = (edit_header or {}).get("EditCondition")
    if isinstance(values, dict):
        values = values.get("Value")
    names = tuple(str(v) for v in values) if values else tuple(f"EDIT{i}" for i in range(n_conditions))
    if len(names) != n_conditions:
        raise InputError(f"{path}: {n_conditions} edit conditions but EditCondition names {len(names)}")
    return names


def write_scan(path: Path | str, scan: Scan) -> None:
    """Write a NIfTI-MRS file (complex64). Dimensions of length 1 are written only if named in ``scan.dimensions``."""
    from nifti_mrs.create_nmrs import gen_nifti_mrs_hdr_ext
    from nifti_mrs.hdr_ext import Hdr_Ext

    if not np.all(np.isfinite(scan.fids)):
        raise ValueError(f"{path}: refusing to write NaN or infinite points")
    lengths = dict(zip(AXES, scan.fids.shape[:3], strict=True))
    kept = [tag for tag in FILE_ORDER if lengths[tag] > 1 or tag in scan.dimensions]
    data = np.moveaxis(scan.fids, -1, 0).transpose(0, 3, 2, 1)  # points, coil, dyn, edit
    data = data.reshape([1, 1, 1, scan.n_points, *(lengths[tag] for tag in kept)])
    extension = Hdr_Ext.from_header_ext(
        {"SpectrometerFrequency": [scan.frequency_mhz], "ResonantNucleus": ["1H"], **scan.header}
        | {f"dim_{5 + i}": tag for i, tag in enumerate(kept)}
    )
    if "DIM_EDIT" in kept:
        extension.set_dim_info(
            kept.index("DIM_EDIT"),
            "DIM_EDIT",
            hdr={"EditCondition": list(scan.conditions)},
        )
    image = gen_nifti_mrs_hdr_ext(data.astype(np.complex64), scan.dwell_s, extension, affine=scan.affine, no_conj=False)
    with write_whole(path) as temporary:
        image.save(str(temporary))


def add_processing(scan: Scan, method: str, details: str) -> None:
    """Record a step in the header.

    A `method` of the standard (`sidecars.METHODS`) goes to ProcessingApplied; any other becomes an object of its own,
    named by its words (``"Outlier removal"``: OutlierRemoval), with a Description as the standard wants it.
    No time is written, so that equal input gives equal bytes; the run's logs hold the times.
    """
    program = {"Program": "mrs-synthesis", "Version": __version__}
    if method in sidecars.METHODS:
        step = {**program, "Method": method, "Details": details}
        scan.header["ProcessingApplied"] = [*scan.header.get("ProcessingApplied", []), step]
    else:
        name = "".join(word[0].upper() + word[1:] for word in method.split())
        scan.header[name] = {**program, "Description": f"{method}: {details}"}


def sidecar_path(path: Path | str) -> Path:
    """Return the JSON sidecar's path of a ``.nii.gz`` or ``.tsv`` file."""
    path = Path(path)
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".tsv") + ".json")


def write_sidecar(path: Path | str, scan: Scan, sources: Sequence[Path | str], **facts: Any) -> None:
    """Write the BIDS JSON sidecar beside a NIfTI-MRS file: the fields that BIDS requires or recommends, and `facts`.

    Parameters
    ----------
    path
        The NIfTI-MRS file.
    scan
        What it holds.
    sources
        Paths of the files it was made from, named as URIs of the dataset. None for raw data, since names of vendors'
        files can hold names of people.
    facts
        Further fields.
    """
    content = {
        "ResonantNucleus": ["1H"],
        "SpectrometerFrequency": [scan.frequency_mhz],
        "SpectralWidth": 1.0 / scan.dwell_s,
        "NumberOfSpectralPoints": scan.n_points,
        "GeneratedBy": [{"Name": "mrs-synthesis", "Version": __version__}],
        **sidecars.fields(scan.header, scan.affine, path),
    }
    n_transients = int(scan.fids.shape[0] * scan.fids.shape[1])
    averaged = any(step.get("Method") == "Signal averaging" for step in scan.header.get("ProcessingApplied", []))
    if n_transients > 1 and not averaged and "Synthetic" not in scan.header:  # one may be an average of unknown size
        content["NumberOfTransients"] = n_transients
    if len(scan.conditions) > 1:
        content["EditCondition"] = list(scan.conditions)
    if sources:
        content["Sources"] = [sidecars.uri(source, path) for source in sources]
    if description := sidecars.LABELS.get(sidecars.label(path)):
        content["Description"] = description
    write_json(sidecar_path(path), content | facts)
