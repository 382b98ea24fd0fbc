"""Basis sets on disk: FSL-MRS JSON, LCModel .BASIS and FID-A .mat files, as the files state themselves.

What they state is checked, and corrected where need be, in `basis_check`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mrs_synthesis import spectra
from mrs_synthesis.files import write_text
from mrs_synthesis.metabolites import NOT_METABOLITES, canonical
from mrs_synthesis.names import shown
from mrs_synthesis.stage import InputError

TE_TOLERANCE_MS = 2.0
CARRIER_TOLERANCE_PPM = 0.005
LARGEST = 1e12  # of any number in a header
FIDA_CARRIER_PPM = 3.0  # where FID-A's MEGA-PRESS simulations without a ppm axis centre the spectrum
NAME = re.compile(r"[A-Za-z0-9+-][A-Za-z0-9+_.(),-]{0,39}", flags=re.ASCII)  # of a basis spectrum, and of its file
_NUMBER = re.compile(r"[-+]?\d*\.\d+(?:[EeDd][-+]?\d+)?", flags=re.ASCII)


@dataclass
class Basis:
    """Basis FIDs of one edit condition.

    Attributes
    ----------
    names
        Metabolites, one per row of `fids`.
    fids
        Complex, shape (n_metabolites, n_points), in the project's convention (plain FFT, increasing ppm).
    dwell_s
        Time between two points.
    frequency_mhz
        Spectrometer frequency for which they were simulated.
    te_ms
        Echo time for which they were simulated; None where the source does not state it.
    carrier_ppm
        What the source held at the carrier; `fids` have 4.65 ppm there if that was right.
    sequence
        Sequence for which they were simulated, in the source's words; None where it does not say.
    """

    names: list[str]
    fids: np.ndarray
    dwell_s: float
    frequency_mhz: float
    te_ms: float | None = None
    carrier_ppm: float = spectra.WATER_PPM
    sequence: str | None = None

    def select(self, names: Iterable[str]) -> Basis:
        """Return the named metabolites, in that order."""
        names = list(names)
        return replace(self, names=names, fids=self.fids[[self.names.index(name) for name in names]])

    def spectrum(self, name: str, broadening_hz: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
        """Return ppm and the spectrum of one metabolite, both (2 n_points,), Lorentzian-broadened and zero-filled."""
        n = self.fids.shape[1]
        decay = np.exp(-np.pi * broadening_hz * spectra.time_axis(n, self.dwell_s))
        fid = np.pad(self.fids[self.names.index(name)] * decay, (0, n))
        return spectra.ppm_axis(2 * n, self.dwell_s, self.frequency_mhz), spectra.to_spectrum(fid)


def write_json_folder(folder: Path, basis: Basis) -> None:
    """Write one FSL-MRS JSON file per metabolite; other JSON files in `folder` are removed.

    FSL-MRS's convention on disk: ``basis_re + i basis_im`` has increasing ppm with a plain FFT; dwell in s, centre in
    MHz, TE in ms. Its readers conjugate.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {p.name for p in folder.glob("*.json")} - {f"{name}.json" for name in basis.names}:
        (folder / stale).unlink()
    for name, fid in zip(basis.names, basis.fids, strict=True):
        content = {
            "basis": {
                "basis_re": fid.real.tolist(),
                "basis_im": fid.imag.tolist(),
                "basis_dwell": basis.dwell_s,
                "basis_centre": basis.frequency_mhz,
                "basis_width": None,
                "basis_name": name,
                "basis_nucleus": "1H",
            },
            "meta": {"SimVersion": "mrs-synthesis"} | ({} if basis.te_ms is None else {"TE": basis.te_ms}),
        }
        write_text(folder / f"{name}.json", json.dumps(content, allow_nan=False) + "\n")


def _same_te(folder: Path, echo_times: list[float | None]) -> float | None:
    stated = sorted({te for te in echo_times if te is not None})
    if stated and stated[-1] - stated[0] > TE_TOLERANCE_MS:
        raise InputError(
            f"{folder}: basis files for TE {stated[0]:g} ms and {stated[-1]:g} ms; put files of one simulation into it"
        )
    return stated[0] if stated else None


def same_raster(path: Path, rasters: list[tuple[int, float, float]]) -> None:
    """Raise InputError unless all (points, dwell s, MHz) are the same."""
    for raster in rasters[1:]:
        if raster[0] != rasters[0][0] or not np.allclose(raster[1:], rasters[0][1:], rtol=1e-6):
            raise InputError(
                f"{path}: basis files with different (points, dwell s, MHz): {rasters[0]} and {raster}; "
                "put files of one simulation into a folder"
            )


def read_json_folder(folder: Path) -> Basis:
    """Read a folder of FSL-MRS JSON basis files, sorted by file name.

    Raises
    ------
    InputError
        If there are none, they differ in raster, or one cannot be read.
    """
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise InputError(f"{folder}: no .json basis file; give a folder of FSL-MRS basis files")
    names, fids, rasters, echo_times = [], [], [], []
    for path in paths:
        try:
            whole = json.loads(path.read_text())
            content = whole["basis"]
            fid = np.array(content["basis_re"], float) + 1j * np.array(content["basis_im"], float)
            rasters.append((fid.size, float(content["basis_dwell"]), float(content["basis_centre"])))
            names.append(str(content["basis_name"]))
            te_ms = (whole.get("meta") or {}).get("TE")
            echo_times.append(None if te_ms is None else float(te_ms))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            said = f"{type(error).__name__}: {shown(str(error))}"
            raise InputError(f"{path}: not an FSL-MRS basis file ({said}); simulate or convert it again") from None
        fids.append(fid)
    same_raster(Path(folder), rasters)
    if len(set(names)) < len(names):
        raise InputError(f"{folder}: two files with one basis_name; remove the superfluous one")
    te_ms = _same_te(folder, echo_times)
    return _checked(folder, Basis(names, np.array(fids), rasters[0][1], rasters[0][2], te_ms))


def _checked(path: Path, basis: Basis) -> Basis:
    """Return the basis, whose names may become files' and whose points are numbers."""
    for name in basis.names:
        if not NAME.fullmatch(name):
            raise InputError(
                f"{path}: a basis spectrum is called {shown(name)}, expected letters, digits (ASCII) and + - _ . ( ) , "
                "at most 40, a letter, digit, + or - first; rename it"
            )
    bad = [name for name, fid in zip(basis.names, basis.fids, strict=True) if not np.all(np.isfinite(fid))]
    if bad:
        raise InputError(f"{path}: NaN or infinite points in {', '.join(bad)}; simulate the basis again")
    return basis


def read_lcmodel(path: Path) -> Basis:
    """Read an LCModel .BASIS file (text; not an encrypted one).

    The file holds spectra: rolled by -ISHIFT, inverse FFT and complex conjugation give FIDs in the project's
    convention, with 4.65 ppm (PPMSEP) at the carrier. CONC, TRAMP and VOLUME are not applied, as in FSL-MRS. ECHOT is
    the echo time in ms, SEQ the sequence.

    Raises
    ------
    InputError
        If a header field is missing or the count of numbers is not NDATAB.
    """
    text = Path(path).read_text(errors="replace")

    def header(name: str) -> float:
        found = re.search(rf"\b{name}\s*=\s*([-+\d.EeDd]+)", text)
        if not found:
            raise InputError(f"{path}: no {name} in the header, expected an LCModel .BASIS file")
        return number(name, found[1])

    def number(name: str, text: str) -> float:
        try:
            value = float(text.upper().replace("D", "E"))
        except ValueError:
            value = np.nan
        if not abs(value) < LARGEST:
            raise InputError(f"{path}: {name} = {shown(text)}, expected a number; the file is damaged")
        return value

    frequency, dwell, n_points = header("HZPPPM"), header("BADELT"), int(header("NDATAB"))
    if dwell <= 0:
        raise InputError(f"{path}: BADELT = {dwell}: an encrypted LCModel basis; use one simulated for your sequence")
    if n_points < 1:
        raise InputError(f"{path}: NDATAB = {n_points}, expected the number of points; the file is damaged")
    te = re.search(r"\bECHOT\s*=\s*([\d.]+)", text)
    te_ms = (number("ECHOT", te[1]) or None) if te else None
    sequence = re.search(r"\bSEQ\s*=\s*'([^']*)'", text)
    stated = (sequence[1].strip() or None) if sequence else None
    names, fids = [], []
    for block in re.split(r"\$BASIS\b", text, flags=re.IGNORECASE)[1:]:
        head, _, body = block.partition("$END")
        name = re.search(r"\bMETABO\s*=\s*'([^'\r\n]{1,40})'", head)
        if not name:
            raise InputError(f"{path}: $BASIS block without METABO; the file is damaged")
        shift = re.search(r"\bISHIFT\s*=\s*(-?\d{1,9})\b", head, re.ASCII)
        numbers = np.array([x.upper().replace("D", "E") for x in _NUMBER.findall(body.partition("$")[0])], float)
        if numbers.size != 2 * n_points:
            raise InputError(
                f"{path}: {shown(name[1])[1:-1]} has {numbers.size} numbers, expected {2 * n_points} (2 x NDATAB)"
            )
        spectrum = np.roll(numbers[::2] + 1j * numbers[1::2], -int(shift[1]) if shift else 0)
        names.append(canonical(name[1].strip()))
        fids.append(np.conj(np.fft.ifft(spectrum)))
    if not names:
        raise InputError(f"{path}: no $BASIS block, expected an LCModel .BASIS file")
    return _checked(path, _drop_references(Basis(names, np.array(fids), dwell, frequency, te_ms, sequence=stated)))


def read_fida(folder: Path, condition: str) -> Basis:
    """Read FID-A simulations ``<metabolite>_<condition>.mat``, or ``<metabolite>.mat`` if no name has a condition.

    The stored FIDs have increasing ppm with a plain FFT. The middle of the file's ppm axis is at the carrier (3.0 ppm
    in FID-A's MEGA-PRESS simulations, assumed where there is no axis); it is moved to 4.65 ppm.

    Raises
    ------
    InputError
        If there is no such file, it is not a FID-A structure, or the files differ in raster, carrier or echo time.
    """
    import scipy.io

    folder = Path(folder)
    paths, suffix = sorted(folder.glob(f"*_{condition}.mat")), f"_{condition}.mat"
    if not paths and not any(p.stem.endswith(("_OFF", "_ON", "_DIFF")) for p in folder.glob("*.mat")):
        paths, suffix = sorted(folder.glob("*.mat")), ".mat"
    if not paths:
        raise InputError(f"{folder}: no file named <metabolite>_{condition}.mat; check the folder and the condition")
    names, fids, rasters, carriers, echo_times = [], [], [], [], []
    for path in paths:
        try:
            content = scipy.io.loadmat(path, simplify_cells=True)
            content = content if "fids" in content else content[next(k for k in content if not k.startswith("__"))]
            fid = np.asarray(content["fids"], complex).ravel()
            rasters.append((fid.size, float(content["dwelltime"]), float(content["txfrq"]) / 1e6))
            axis = np.asarray(content.get("ppm", FIDA_CARRIER_PPM), float)
            te_ms = float(content.get("te", 0) or 0)
        except (KeyError, StopIteration, TypeError, ValueError, NotImplementedError) as error:
            raise InputError(f"{path}: not a FID-A structure ({error!r}); expected fids, dwelltime, txfrq") from None
        carriers.append(float(axis.min() + axis.max()) / 2)
        echo_times.append((te_ms if te_ms > 1 else 1e3 * te_ms) or None)  # some simulations write seconds
        names.append(canonical(path.name.removesuffix(suffix)))
        fids.append(fid)
    same_raster(folder, rasters)
    if np.ptp(carriers) > CARRIER_TOLERANCE_PPM:
        raise InputError(
            f"{folder}: ppm axes centred at {min(carriers):.2f} and {max(carriers):.2f} ppm; "
            "put files of one simulation into a folder"
        )
    _, dwell, frequency = rasters[0]
    basis = Basis(names, np.array(fids), dwell, frequency, _same_te(folder, echo_times), round(carriers[0], 3))
    return _checked(folder, _drop_references(moved(basis, basis.carrier_ppm - spectra.WATER_PPM)))


def moved(basis: Basis, ppm: float) -> Basis:
    """Return the basis with every line `ppm` higher."""
    hz = np.full(len(basis.names), ppm * basis.frequency_mhz)
    return replace(basis, fids=spectra.shift_and_phase(basis.fids, basis.dwell_s, hz, np.zeros(hz.size)))


def _drop_references(basis: Basis) -> Basis:
    return basis.select(name for name in basis.names if name not in NOT_METABOLITES)


def read(path: Path, condition: str) -> Basis:
    """Read a basis of any known format, recognised by what lies at `path`.

    A file is LCModel .BASIS; a folder holds FSL-MRS JSON files, a sub-folder named as the condition that does, or
    FID-A .mat files.
    """
    path = Path(path)
    if path.is_file():
        return read_lcmodel(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such basis; give a .BASIS file, or a folder of .json or FID-A .mat files")
    if any((path / condition).glob("*.json")):
        return read_json_folder(path / condition)
    if any(path.glob("*.json")):
        return read_json_folder(path)
    return read_fida(path, condition)
