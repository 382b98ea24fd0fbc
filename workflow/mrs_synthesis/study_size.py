"""How large a study is, in words, before it runs; and how long it may take, from the benchmarks of earlier runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 50  # benchmarks read of each stage


@dataclass(frozen=True)
class GridSize:
    """What a grid asks for.

    Attributes
    ----------
    variants, trainings
        Points of the grid, and those that train a model of their own.
    scans
        Test scans of all these together.
    cells, fits
        Of a scan: study cells, and on average fits.
    done
        Scans that were fitted in earlier runs.
    too_few
        Points that are left out since too few training subjects are there.
    """

    variants: int
    trainings: int
    scans: int
    cells: int
    fits: float
    done: int = 0
    too_few: int = 0

    def words(self, seconds: float | None) -> str:
        """Return one line; `seconds`: what `duration` says of the scans to do."""
        text = (
            f"grid: {self.variants} variants, {self.trainings} trainings, {self.scans * self.cells} cells, "
            f"{round(self.scans * self.fits)} fits"
        )
        if self.done:
            text += f", {self.done} of {self.scans} scans fitted already"
        if self.too_few:
            text += f"; {self.too_few} variants are left out: fewer training subjects than asked for"
        if seconds is not None and self.done < self.scans:
            text += f"; about {in_words(seconds)}, one job after the other, by the benchmarks of earlier runs"
        return text


def in_words(seconds: float) -> str:
    """Return a duration to two digits: in minutes below two hours, else in hours."""
    value, unit = (seconds / 60, "min") if seconds < 7200 else (seconds / 3600, "h")
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"


def mean_seconds(paths: Iterable[Path]) -> float | None:
    """Return the mean wall time of Snakemake's benchmarks; None if there are none."""
    found = []
    for path in sorted(paths)[:MOST_FILES]:
        lines = path.read_text().split("\n")
        if len(lines) > 1 and lines[0].startswith("s\t"):
            found.append(float(lines[1].split("\t")[0]))
    return sum(found) / len(found) if found else None


def seconds_per_scan(paths: Iterable[Path]) -> float | None:
    """Return the mean wall time of scans in the times that shards left (`mrs_synthesis.shard`), or None."""
    found = []
    for path in sorted(paths)[:MOST_FILES]:
        for line in path.read_text().splitlines()[1:]:
            unit, kept, seconds, _ = line.split("\t")
            if kept == "0" and unit != "start-up":
                found.append(float(seconds))
    return sum(found) / len(found) if found else None


def duration(
    benchmarks: Path,
    trainings: Mapping[str, int],
    model: str,
    scans: int,
    cells: int,
    study_cells: int,
    fits: str,
) -> float | None:
    """Return how long the jobs of a grid would take one after the other, in seconds; None if a stage never ran.

    Earlier jobs of the grid tell, or else the study's own; fits of the study are scaled to the number of cells.

    Parameters
    ----------
    benchmarks
        Folder of the study's benchmarks.
    trainings
        How many of each model are to be trained.
    model
        The study's own.
    scans
        Test scans of all variants that are to be done.
    cells, study_cells
        Of a scan, in the grid and in the study.
    fits
        Name of the stage that fits.
    """
    total = 0.0
    for name, number in trainings.items():
        one = mean_seconds((benchmarks / "grid" / "train").glob(f"model-{name}_*.tsv"))
        if one is None and name == model:
            one = mean_seconds(benchmarks.glob("train.tsv"))
        if one is None:
            return None
        total += number * one
    for stage, own in {"cells": ("synthesise", "augment"), fits: (fits,)}.items():  # a grid's, and the study's like it
        one = seconds_per_scan((benchmarks / "grid").glob(f"*/{stage}/*.units.tsv"))
        if one is None:
            parts = [seconds_per_scan(benchmarks.glob(f"{name}/*.units.tsv")) for name in own]
            if None in parts:
                return None
            one = sum(parts) * (cells / study_cells if stage != "cells" else 1)
        total += scans * one
    return total
