"""Basis sets in the one layout that the other stages read, made from any of the usual formats.

A set is a folder ``<set>/<CONDITION>/<Metabolite>.json`` in FSL-MRS's JSON format, with `basis.json` beside the
conditions. CONDITION is OFF, ON, DIFF or UNEDITED; DIFF is ON - OFF without a factor 1/2.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mrs_synthesis.basis_check import (
    FIELD_TOLERANCE,
    PEAK_TOLERANCE_PPM,
    check_against_data,
    check_peaks,
    find_axis,
    orient,
    strongest,
)
from mrs_synthesis.basis_read import (
    TE_TOLERANCE_MS,
    Basis,
    read,
    read_fida,
    read_json_folder,
    read_lcmodel,
    same_raster,
    write_json_folder,
)
from mrs_synthesis.files import sha256, write_json
from mrs_synthesis.metabolites import add_macromolecules
from mrs_synthesis.stage import InputError, run

# What other modules take from here
__all__ = [
    "Basis",
    "at_frequency",
    "check_against_data",
    "check_peaks",
    "choose_set",
    "difference",
    "orient",
    "read",
    "read_fida",
    "read_json_folder",
    "read_lcmodel",
    "write_json_folder",
    "write_set",
]
CONDITIONS = ("OFF", "ON", "DIFF", "UNEDITED")
NEEDED_IN_BOTH = ("GABA", "NAA")  # a difference basis without them is of no use
SAME_SCALE = 0.15


def at_frequency(basis: Basis, frequency_mhz: float) -> Basis:
    """Return the basis for another spectrometer frequency, chemical shifts in ppm kept (J couplings scale along).

    Raises InputError if the frequencies differ by more than 5 %: the spin systems' pattern would be wrong.
    """
    ratio = basis.frequency_mhz / frequency_mhz
    if not 1 / (1 + FIELD_TOLERANCE) <= ratio <= 1 + FIELD_TOLERANCE:
        raise InputError(
            f"basis at {basis.frequency_mhz:.2f} MHz, data at {frequency_mhz:.2f} MHz: more than 5 % apart; "
            "give a basis simulated for this field strength"
        )
    return replace(basis, dwell_s=basis.dwell_s * ratio, frequency_mhz=frequency_mhz)


def choose_set(
    folders: Sequence[Path], frequency_mhz: float, conditions: Sequence[str], te_ms: float | None = None
) -> tuple[Path, dict]:
    """Return the folder of the basis set nearest in frequency that has all conditions, and its bases.

    Sets for the data's echo time, or that state none, go before others.

    Raises
    ------
    InputError
        If no set has them, or the nearest is more than 5 % off.
    """
    candidates = []
    for folder in map(Path, folders):
        if not all(any((folder / condition).glob("*.json")) for condition in conditions):
            continue
        summary = folder / "basis.json"
        stated = json.loads(summary.read_text()) if summary.exists() else {}
        frequency = stated.get("frequency_mhz") or read_json_folder(folder / conditions[0]).frequency_mhz
        other = None not in (te_ms, stated.get("te_ms")) and abs(te_ms - stated["te_ms"]) > TE_TOLERANCE_MS
        candidates.append((other, abs(float(frequency) - frequency_mhz), str(folder), stated.get("sequence") or ""))
    if not candidates:
        raise InputError(
            f"{', '.join(map(str, folders))}: no basis set with {' and '.join(conditions)}; "
            "make one with `python -m mrs_synthesis.basis`"
        )
    *_, name, sequence = min(candidates)
    folder = Path(name)
    bases = {}
    for condition in conditions:
        basis = replace(read_json_folder(folder / condition), sequence=sequence or None)
        try:
            check_peaks(basis, condition)
            bases[condition] = at_frequency(basis, frequency_mhz)
        except InputError as error:
            raise InputError(f"{folder / condition}: {error}") from None
    return folder, bases


def difference(on: Basis, off: Basis) -> Basis:
    """Return ON - OFF of the metabolites that both have, in ON's order.

    Raises
    ------
    InputError
        If the rasters differ, nothing is in common, GABA or NAA is in one only, or the two are on different scales
        (the singlet of Cr or PCr, which editing leaves alone, differs by more than 15 %).
    """
    same_raster(Path("ON and OFF"), [(b.fids.shape[1], b.dwell_s, b.frequency_mhz) for b in (on, off)])
    names = [name for name in on.names if name in off.names]
    if not names:
        raise InputError(f"ON has {', '.join(on.names)}, OFF has {', '.join(off.names)}: none in common")
    for name in NEEDED_IN_BOTH:
        if (name in on.names) != (name in off.names):
            has, lacks = ("ON", "OFF") if name in on.names else ("OFF", "ON")
            raise InputError(
                f"{name} is in the {has} basis but not in {lacks}; simulate both with the same metabolites"
            )
    for name in ("Cr", "PCr"):
        if name in names:
            ratio = abs(strongest(on, name)[1]) / abs(strongest(off, name)[1])
            if abs(ratio - 1) > SAME_SCALE:
                raise InputError(
                    f"{name} is {ratio:.2f} times as high in the ON basis as in OFF; expected the same: "
                    "give ON and OFF of one simulation, on one scale"
                )
    return replace(on.select(names), fids=on.select(names).fids - off.select(names).fids)


def left_out(on: Basis, off: Basis) -> list[str]:
    """Return the metabolites that only one of ON and OFF has, and that their difference therefore lacks."""
    return sorted(set(on.names) ^ set(off.names))


def _match_difference(bases: dict[str, Basis], checks: dict[str, dict]) -> None:
    """Bring a DIFF basis from elsewhere onto the OFF basis' scale by the NAA singlet, which must be inverted OFF."""
    if not all("NAA" in bases[c].names for c in ("OFF", "DIFF")):
        return
    area = {c: abs(strongest(bases[c], "NAA")[1]) * bases[c].dwell_s for c in ("OFF", "DIFF")}
    ratio = area["DIFF"] / area["OFF"]
    factor = next((f for f in (1.0, 2.0, 0.5) if abs(ratio * f - 1) < SAME_SCALE), None)
    if factor is None:
        raise InputError(
            f"NAA singlet in DIFF is {ratio:.2f} times that in OFF, expected 1 (ON - OFF) or 1/2; "
            "give OFF and DIFF of one simulation"
        )
    bases["DIFF"] = replace(bases["DIFF"], fids=bases["DIFF"].fids * factor)
    checks["DIFF"] |= {"scaled_by": factor}


def _same_te(bases: dict[str, Basis]) -> float | None:
    """Return the echo time that the conditions state, None if none does."""
    stated = {condition: basis.te_ms for condition, basis in bases.items() if basis.te_ms is not None}
    if stated and max(stated.values()) - min(stated.values()) > TE_TOLERANCE_MS:
        found = ", ".join(f"{condition} {te:g} ms" for condition, te in stated.items())
        raise InputError(f"basis for different echo times: {found}; give conditions of one simulation")
    return next(iter(stated.values()), None)


def _read_all(paths: dict[str, Path]) -> tuple[dict[str, Basis], dict[str, dict]]:
    """Read the conditions, each brought into the project's convention."""
    bases, checks, axes = {}, {}, {}
    for condition, path in paths.items():
        try:
            basis = read(path, condition)
            axis = find_axis(basis, condition)
            # One reading of the axis for ON and OFF of one simulation, lest rounding shows in the difference
            other = axes.get("OFF")
            same = condition == "ON" and other is not None and axis.conjugated == other.conjugated
            if same and abs(axis.carrier_ppm - other.carrier_ppm) <= PEAK_TOLERANCE_PPM:
                axis = other
            axes[condition] = axis
            bases[condition], checks[condition] = orient(basis, condition, axis)
        except InputError as error:
            raise InputError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    return bases, checks


def write_set(folder: Path, bases: dict[str, Basis], checks: dict[str, dict], **facts: object) -> None:
    """Write ``<folder>/<CONDITION>/*.json`` and ``<folder>/basis.json``."""
    folder = Path(folder)
    for condition, basis in bases.items():
        write_json_folder(folder / condition, basis)
    summary = {
        "frequency_mhz": next(iter(bases.values())).frequency_mhz,
        "te_ms": _same_te(bases),
        "sequence": next((basis.sequence for basis in bases.values() if basis.sequence), None),
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
    bases, checks = _read_all(paths)
    facts: dict[str, object] = {}
    if {"ON", "OFF"} <= bases.keys() and "DIFF" not in bases:
        bases["DIFF"] = difference(bases["ON"], bases["OFF"])
        checks["DIFF"] = check_peaks(bases["DIFF"], "DIFF")
        if only := left_out(bases["ON"], bases["OFF"]):
            facts["left_out_of_diff"] = only
            print(f"DIFF: without {', '.join(only)}, which only one of ON and OFF has")
    elif {"OFF", "DIFF"} <= bases.keys():
        _match_difference(bases, checks)
    if args.add_mm:
        bases = {c: add_macromolecules(b, c) for c, b in bases.items()}
    sources = {c: sha256(p) for c, p in paths.items() if p.is_file()}
    write_set(args.output, bases, checks, source_sha256=sources, macromolecules_added=args.add_mm, **facts)
    for condition, basis in bases.items():
        print(f"{condition}: {len(basis.names)} basis spectra at {basis.frequency_mhz:.3f} MHz, {checks[condition]}")


if __name__ == "__main__":
    run(main)
