"""Spectra whose fits make and check intervals: draws from the posterior of a subject, and means of all transients.

A draw is a noise-free spectrum that agrees with a replicate's real transients as well as the model of subjects can
tell: the mean over transients that the subject might have, were there infinitely many. How far the fits of the draws
differ is what the real transients leave open. The mean of all transients of a phantom's subject shows, beside its
truth, what error the fit makes by itself.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mrs_synthesis import seeds
from mrs_synthesis.sidecars import model_facts
from mrs_synthesis.stage import InputError, add_status_argument, require, run, run_subject

INDEX_COLUMNS = ("cell", "unit", "n_real", "replicate", "draw")


def real_sets(sidecar: Path, replicates: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return replicate and real transients of the study's first replicates of each n_real.

    Parameters
    ----------
    sidecar
        Of the unit's study cells.
    replicates
        How many of each n_real.

    Raises
    ------
    InputError
        If it names no real transients.
    """
    try:
        listed = json.loads(require(sidecar).read_text(encoding="utf-8"))["RealTransients"]
        if not listed or not all(listed):
            raise ValueError("no transients")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{sidecar}: no RealTransients of filled cells ({error}); augment again with the design augmentation"
        ) from None
    seen: Counter[int] = Counter()
    sets = []
    for numbers in listed:
        if seen[len(numbers)] < replicates:
            sets.append((seen[len(numbers)], tuple(numbers)))
        seen[len(numbers)] += 1
    return sets


def _write(a: argparse.Namespace, scan: object, rows: Sequence[tuple], facts: dict) -> None:
    import pandas as pd

    from mrs_synthesis import scans
    from mrs_synthesis.dictionary import write_table_sidecar
    from mrs_synthesis.files import write_table

    scans.write_scan(a.output, scan)
    scans.write_sidecar(a.output, scan, [a.scan], **facts)
    write_table(a.index, pd.DataFrame(rows, columns=list(INDEX_COLUMNS)))
    draw = {"draw": {"Description": "Draw of the same real transients, 0-based; 0 for a mean"}}
    write_table_sidecar(a.index, "One row per element of DIM_DYN of the file of the same label", [a.scan], draw)


def draws(a: argparse.Namespace) -> dict:
    """Write draws from the posterior of one unit's subject, for each set of real transients; return their number.

    Raises
    ------
    InputError
        If the model is not one of subjects, or does not fit the unit's data.
    SkippedError
        If the unit failed earlier, or is not in the test split.
    """
    from mrs_synthesis import generator, spectra
    from mrs_synthesis.synthesise import KEPT_HEADER, STATEMENT, read_subject, synthetic_mark

    config = generator.read_config(a.model, a.training)
    if config["model"] != "subject":
        raise InputError(
            f"{a.model}: the model {config['model']!r} has no posterior of a subject; expected train: model: subject"
        )
    subject, site = read_subject(a.unit, a.training, a.scan, config["grid"]), a.site
    model = generator.SubjectGenerator.load(a.model, site).model
    scan, ppm = subject.scan, np.asarray(config["grid"]["ppm"])
    rows, parts = [], []
    for replicate, numbers in real_sets(a.plan, a.replicates):
        n = len(numbers)
        if max(numbers) >= scan.fids.shape[1]:
            raise InputError(f"{a.plan}: transient {max(numbers)}, {a.scan} has {scan.fids.shape[1]}; augment again")
        mean = subject.values[:, list(numbers)].mean(axis=1)
        sd = float(np.sqrt(np.mean(subject.bin_sd(numbers) ** 2)))
        try:
            own = model.posterior(mean, sd, n, site)
        except ValueError as error:
            raise InputError(f"{a.scan}: transients {list(numbers)}: {error}; exclude it") from None
        drawn = own.draw(seeds.generator(a.seed, "intervals", a.unit, n, replicate), a.draws)
        parts.append(spectra.from_window(drawn, ppm, scan.n_points, scan.dwell_s, scan.frequency_mhz))
        rows += [(len(rows) + k, a.unit, n, replicate, k) for k in range(a.draws)]
    fids = np.moveaxis(np.concatenate(parts), 0, 1)[:, :, None]
    result = scan.with_fids(fids, dimensions=("DIM_DYN", "DIM_EDIT") if len(fids) > 1 else ("DIM_DYN",))
    details = f"{STATEMENT} Noise-free draws from the posterior of the subject. Weights {config['weights_sha256']}."
    result.header = {key: value for key, value in result.header.items() if key in KEPT_HEADER}
    result.header["Synthetic"] = synthetic_mark("Synthesis by the model subject", details)
    _write(a, result, rows, model_facts(config) | {"Draws": a.draws, "Replicates": a.replicates, "Seed": a.seed})
    return {"cells": len(rows)}


def mean(a: argparse.Namespace) -> dict:
    """Write the mean of all preprocessed transients of one unit as a file of one cell; return how many they are."""
    from mrs_synthesis.scans import add_processing, read_scan

    scan = read_scan(a.scan)
    if scan.fids.shape[2] != 1:
        raise InputError(f"{a.scan}: {scan.fids.shape[2]} coils, expected combined ones; preprocess the scan")
    n = scan.fids.shape[1]
    result = scan.with_fids(scan.fids.mean(axis=1, keepdims=True))
    add_processing(result, "Signal averaging", f"all {n} transients per edit condition")
    _write(a, result, [(0, a.unit, n, 0, 0)], {"NReal": n})
    return {"transients": n}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.interval_cells", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    parts = {
        "draws": commands.add_parser("draws", help="from the posterior of a test subject"),
        "mean": commands.add_parser("mean", help="of all transients"),
    }
    for part in parts.values():
        part.add_argument("--unit", required=True)
        part.add_argument("--scan", type=Path, required=True, help="preprocessed transients")
        part.add_argument("--output", type=Path, required=True, help="NIfTI-MRS file with DIM_DYN")
        part.add_argument("--index", type=Path, required=True, help="TSV: what each element of DIM_DYN is")
        add_status_argument(part)
    part = parts["draws"]
    part.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    part.add_argument("--training", type=Path, required=True, help="folder of the training set (for the split)")
    part.add_argument("--site", help="of the scan, as in the sample sheet (default: not known)")
    part.add_argument("--plan", type=Path, required=True, help="sidecar (JSON) of the unit's study cells")
    part.add_argument("--draws", type=int, default=24, help="of each set of real transients (default: 24)")
    part.add_argument("--replicates", type=int, default=1, help="sets of each n_real (default: 1)")
    part.add_argument("--seed", type=int, required=True)
    a = parser.parse_args(argv)
    if a.command == "draws" and (a.draws < 3 or a.replicates < 1):
        raise InputError(f"--draws {a.draws}, --replicates {a.replicates}: expected at least 3 and at least 1")
    from mrs_synthesis.scans import sidecar_path

    work = {"draws": draws, "mean": mean}[a.command]
    outputs = [a.output, sidecar_path(a.output), a.index, sidecar_path(a.index)]
    run_subject(lambda: work(a), stage=f"intervals {a.command}", unit=a.unit, outputs=outputs, status=a.status)


if __name__ == "__main__":
    run(main)
