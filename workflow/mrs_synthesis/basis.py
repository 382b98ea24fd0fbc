"""Basis sets: reading the usual formats, checking them, and the one layout that the other stages read.

A set is a folder ``<set>/<CONDITION>/<Metabolite>.json`` in FSL-MRS's JSON format, with `basis.json` beside the
conditions. CONDITION is OFF, ON, DIFF or UNEDITED; DIFF is ON - OFF without a factor 1/2.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mrs_synthesis import spectra
from mrs_synthesis.files import sha256, write_json, write_text
from mrs_synthesis.metabolites import NOT_METABOLITES, add_macromolecules, canonical
from mrs_synthesis.stage import InputError, run

CONDITIONS = ("OFF", "ON", "DIFF", "UNEDITED")
PEAK_TOLERANCE_PPM = 0.03
FIDA_CARRIER_PPM = 3.0  # FID-A's MEGA-PRESS simulations centre the spectrum here
_NUMBER = re.compile(r"[-+]?\d*\.\d+(?:[EeDd][-+]?\d+)?")


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
    """

    names: list[str]
    fids: np.ndarray
    dwell_s: float
    frequency_mhz: float

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
    MHz. Its readers conjugate.
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
            "meta": {"SimVersion": "mrs-synthesis"},
        }
        write_text(folder / f"{name}.json", json.dumps(content, allow_nan=False) + "\n")


def _same_raster(path: Path, rasters: list[tuple[int, float, float]]) -> None:
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
    names, fids, rasters = [], [], []
    for path in paths:
        try:
            content = json.loads(path.read_text())["basis"]
            fid = np.array(content["basis_re"], float) + 1j * np.array(content["basis_im"], float)
            rasters.append((fid.size, float(content["basis_dwell"]), float(content["basis_centre"])))
            names.append(str(content["basis_name"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not an FSL-MRS basis file ({error!r}); simulate or convert it again") from None
        fids.append(fid)
    _same_raster(Path(folder), rasters)
    if len(set(names)) < len(names):
        raise InputError(f"{folder}: two files with one basis_name; remove the superfluous one")
    return _finite(folder, Basis(names, np.array(fids), rasters[0][1], rasters[0][2]))


def _finite(path: Path, basis: Basis) -> Basis:
    bad = [name for name, fid in zip(basis.names, basis.fids, strict=True) if not np.all(np.isfinite(fid))]
    if bad:
        raise InputError(f"{path}: NaN or infinite points in {', '.join(bad)}; simulate the basis again")
    return basis


def read_lcmodel(path: Path) -> Basis:
    """Read an LCModel .BASIS file (text; not an encrypted one).

    The file holds spectra: rolled by -ISHIFT, inverse FFT and complex conjugation give FIDs in the project's
    convention, with 4.65 ppm (PPMSEP) at the carrier. CONC, TRAMP and VOLUME are not applied, as in FSL-MRS.

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
        return float(found[1].upper().replace("D", "E"))

    frequency, dwell, n_points = header("HZPPPM"), header("BADELT"), int(header("NDATAB"))
    if dwell <= 0:
        raise InputError(f"{path}: BADELT = {dwell}: an encrypted LCModel basis; use one simulated for your sequence")
    names, fids = [], []
    for block in re.split(r"\$BASIS\b", text, flags=re.IGNORECASE)[1:]:
        head, _, body = block.partition("$END")
        name = re.search(r"\bMETABO\s*=\s*'([^']*)'", head)
        if not name:
            raise InputError(f"{path}: $BASIS block without METABO; the file is damaged")
        shift = re.search(r"\bISHIFT\s*=\s*(-?\d+)", head)
        numbers = np.array([x.upper().replace("D", "E") for x in _NUMBER.findall(body.partition("$")[0])], float)
        if numbers.size != 2 * n_points:
            raise InputError(f"{path}: {name[1]} has {numbers.size} numbers, expected {2 * n_points} (2 x NDATAB)")
        spectrum = np.roll(numbers[::2] + 1j * numbers[1::2], -int(shift[1]) if shift else 0)
        names.append(canonical(name[1].strip()))
        fids.append(np.conj(np.fft.ifft(spectrum)))
    if not names:
        raise InputError(f"{path}: no $BASIS block, expected an LCModel .BASIS file")
    return _finite(path, _drop_references(Basis(names, np.array(fids), dwell, frequency)))


def read_fida(folder: Path, condition: str) -> Basis:
    """Read FID-A simulations ``<metabolite>_<condition>.mat`` (ON or OFF; without condition: ``<metabolite>.mat``).

    The stored FIDs have increasing ppm with a plain FFT and 3.0 ppm at the carrier (MEGA-PRESS); they are moved to
    4.65 ppm at the carrier. `check_peaks` notices a set for which that is wrong.

    Raises
    ------
    InputError
        If there is no such file, or it is not a FID-A structure.
    """
    import scipy.io

    suffix = f"_{condition}.mat"
    paths = sorted(Path(folder).glob(f"*{suffix}"))
    if not paths:
        raise InputError(f"{folder}: no file named <metabolite>{suffix}; check the folder and the condition")
    names, fids, rasters = [], [], []
    for path in paths:
        try:
            content = scipy.io.loadmat(path, simplify_cells=True)
            content = content if "fids" in content else content[next(k for k in content if not k.startswith("__"))]
            fid = np.asarray(content["fids"], complex).ravel()
            frequency = float(content["txfrq"]) / 1e6
            rasters.append((fid.size, float(content["dwelltime"]), frequency))
        except (KeyError, StopIteration, TypeError, ValueError, NotImplementedError) as error:
            raise InputError(f"{path}: not a FID-A structure ({error!r}); expected fids, dwelltime, txfrq") from None
        names.append(canonical(path.name.removesuffix(suffix)))
        fids.append(fid)
    _same_raster(Path(folder), rasters)
    _, dwell, frequency = rasters[0]
    carrier_hz = (FIDA_CARRIER_PPM - spectra.WATER_PPM) * frequency
    moved = spectra.shift_and_phase(np.array(fids), dwell, np.full(len(names), carrier_hz), np.zeros(len(names)))
    return _finite(folder, _drop_references(Basis(names, moved, dwell, frequency)))


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


def _strongest(basis: Basis, name: str) -> tuple[float, complex]:
    ppm, spectrum = basis.spectrum(name)
    # Reference peaks of measured bases (0 and 8.44 ppm) lie outside; the mirror images of NAA and Cr lie inside
    inside = np.flatnonzero((ppm > 0.5) & (ppm < 8.2))
    peak = inside[np.argmax(np.abs(spectrum[inside]))]
    return float(ppm[peak]), complex(spectrum[peak])


def _expected(basis: Basis, condition: str | None) -> dict[str, float]:
    peaks = {"NAA": spectra.NAA_PPM} if condition != "ON" else {}  # the ON pulse saturates the singlet
    if condition != "DIFF":
        peaks |= {"Cr": spectra.TCR_PPM, "PCr": spectra.TCR_PPM}  # cancel in the difference
    return {name: ppm for name, ppm in peaks.items() if name in basis.names}


def check_peaks(basis: Basis, condition: str | None = None) -> dict[str, float]:
    """Check where the singlets of NAA (2.008 ppm) and Cr, PCr (3.027 ppm) lie and what sign they have.

    Parameters
    ----------
    basis
        One condition's basis.
    condition
        OFF, ON, DIFF or UNEDITED. None: NAA may have either sign.

    Returns
    -------
    dict
        ``{"NAA_ppm": ..., "Cr_ppm": ...}`` of those that the basis holds and the condition shows.

    Raises
    ------
    InputError
        If a singlet is more than 0.03 ppm off, or NAA has the wrong sign (positive, but negative in DIFF).
    """
    found = {}
    for name, expected in _expected(basis, condition).items():
        ppm, value = _strongest(basis, name)
        if abs(ppm - expected) > PEAK_TOLERANCE_PPM:
            raise InputError(
                f"basis {condition or ''}: strongest peak of {name} at {ppm:.3f} ppm, expected {expected}; "
                "the carrier or the sign of the imaginary part is wrong"
            )
        wanted = -1 if condition == "DIFF" else 1
        if name == "NAA" and condition and wanted * value.real < 0:
            raise InputError(
                f"basis {condition}: NAA is {'negative' if value.real < 0 else 'positive'} at 2.0 ppm; expected the "
                "opposite (DIFF is ON - OFF); exchange the inputs or change the basis' sign"
            )
        found[f"{name}_ppm"] = round(ppm, 4)
    return found


def orient(basis: Basis, condition: str | None = None) -> tuple[Basis, dict]:
    """Return the basis in the project's convention, and what was found and done.

    Tries the FIDs as they are and their conjugates; an offset of up to 0.1 ppm common to all known singlets (another
    water position, 4.68 ppm in some simulations) is removed. Raises InputError as `check_peaks` does.
    """
    expected = _expected(basis, condition)
    for conjugated in (False, True):
        trial = replace(basis, fids=np.conj(basis.fids)) if conjugated else basis
        offsets = [_strongest(trial, name)[0] - ppm for name, ppm in expected.items()]
        shift = float(np.mean(offsets)) if offsets else 0.0
        if offsets and (np.ptp(offsets) > 0.02 or abs(shift) > 0.1):
            continue
        if abs(shift) < 0.01:
            shift = 0.0
        hz = np.full(len(trial.names), -shift * trial.frequency_mhz)
        trial = replace(trial, fids=spectra.shift_and_phase(trial.fids, trial.dwell_s, hz, np.zeros(len(hz))))
        checks = check_peaks(trial, condition)
        return trial, checks | {"conjugated": conjugated, "moved_ppm": round(-shift, 4)}
    check_peaks(basis, condition)
    raise InputError(f"basis {condition or ''}: NAA and Cr disagree about the ppm axis; check how it was simulated")


def at_frequency(basis: Basis, frequency_mhz: float) -> Basis:
    """Return the basis for another spectrometer frequency, chemical shifts in ppm kept (J couplings scale along).

    Raises InputError if the frequencies differ by more than 5 %: the spin systems' pattern would be wrong.
    """
    ratio = basis.frequency_mhz / frequency_mhz
    if not 1 / 1.05 <= ratio <= 1.05:
        raise InputError(
            f"basis at {basis.frequency_mhz:.2f} MHz, data at {frequency_mhz:.2f} MHz: more than 5 % apart; "
            "give a basis simulated for this field strength"
        )
    return replace(basis, dwell_s=basis.dwell_s * ratio, frequency_mhz=frequency_mhz)


def difference(on: Basis, off: Basis) -> Basis:
    """Return ON - OFF of the metabolites that both have."""
    _same_raster(Path("ON and OFF"), [(b.fids.shape[1], b.dwell_s, b.frequency_mhz) for b in (on, off)])
    names = [name for name in on.names if name in off.names]
    if not names:
        raise InputError(f"ON has {', '.join(on.names)}, OFF has {', '.join(off.names)}: none in common")
    return replace(on.select(names), fids=on.select(names).fids - off.select(names).fids)


def _match_difference(bases: dict[str, Basis], checks: dict[str, dict]) -> None:
    """Bring a DIFF basis from elsewhere onto the OFF basis' scale by the NAA singlet, which must be inverted OFF."""
    if not all("NAA" in bases[c].names for c in ("OFF", "DIFF")):
        return
    area = {c: abs(_strongest(bases[c], "NAA")[1]) * bases[c].dwell_s for c in ("OFF", "DIFF")}
    ratio = area["DIFF"] / area["OFF"]
    factor = next((f for f in (1.0, 2.0, 0.5) if abs(ratio * f - 1) < 0.15), None)
    if factor is None:
        raise InputError(
            f"NAA singlet in DIFF is {ratio:.2f} times that in OFF, expected 1 (ON - OFF) or 1/2; "
            "give OFF and DIFF of one simulation"
        )
    bases["DIFF"] = replace(bases["DIFF"], fids=bases["DIFF"].fids * factor)
    checks["DIFF"] |= {"scaled_by": factor}


def write_set(folder: Path, bases: dict[str, Basis], checks: dict[str, dict], **facts: object) -> None:
    """Write ``<folder>/<CONDITION>/*.json`` and ``<folder>/basis.json``."""
    folder = Path(folder)
    for condition, basis in bases.items():
        write_json_folder(folder / condition, basis)
    summary = {
        "frequency_mhz": next(iter(bases.values())).frequency_mhz,
        "conditions": {
            condition: {"metabolites": b.names, "dwell_s": b.dwell_s, "n_points": b.fids.shape[1]}
            for condition, b in bases.items()
        },
        "checks": checks,
    }
    write_json(folder / "basis.json", summary | facts)


def main(argv: Sequence[str] | None = None) -> None:
    """Read basis sets of the edit conditions, check them, and write them in the project's layout."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.basis", description=main.__doc__)
    for condition in CONDITIONS:
        parser.add_argument(
            f"--{condition.lower()}",
            type=Path,
            help=f"{condition} basis: LCModel .BASIS file, folder of FSL-MRS .json, or folder of FID-A .mat",
        )
    parser.add_argument("--output", type=Path, required=True, help="folder of the set")
    parser.add_argument(
        "--add-mm", action=argparse.BooleanOptionalAction, default=False, help="add parametrised macromolecules"
    )
    args = parser.parse_args(argv)
    paths = {c: getattr(args, c.lower()) for c in CONDITIONS if getattr(args, c.lower()) is not None}
    if not paths:
        raise InputError("no basis given; give --unedited, or --off with --on or --diff")
    bases, checks = {}, {}
    for condition, path in paths.items():
        try:
            bases[condition], checks[condition] = orient(read(path, condition), condition)
        except InputError as error:
            raise InputError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    if {"ON", "OFF"} <= bases.keys() and "DIFF" not in bases:
        bases["DIFF"] = difference(bases["ON"], bases["OFF"])
        checks["DIFF"] = check_peaks(bases["DIFF"], "DIFF")
    elif {"OFF", "DIFF"} <= bases.keys():
        _match_difference(bases, checks)
    if args.add_mm:
        bases = {c: add_macromolecules(b, c) for c, b in bases.items()}
    sources = {c: sha256(p) for c, p in paths.items() if p.is_file()}
    write_set(args.output, bases, checks, source_sha256=sources, macromolecules_added=args.add_mm)
    for condition, basis in bases.items():
        print(f"{condition}: {len(basis.names)} basis spectra at {basis.frequency_mhz:.3f} MHz, {checks[condition]}")


if __name__ == "__main__":
    run(main)
