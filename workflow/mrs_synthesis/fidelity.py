"""How like real spectra synthetic ones and reconstructions are: the tables `fidelity` and `embedding`.

Each source of the test subjects is compared with real spectra of training subjects, which no source is made of but by
the model. So are the test subjects' own real spectra (``real``), the best that can be wanted (ceiling), and noise of
their SD without a signal (``noise``, floor). ``population_mean_noisy`` is the training subjects' mean with that noise:
one person for all, which single transients hardly show. All groups are of one size: as many subjects, and as many
points of one scan of each. Two kinds of points: single transients, evenly spread over the scan, and averages of as many
transients as a replicate has synthetic ones, in which differences between subjects outgrow the noise.

Points are scores on the real training spectra's principal axes that have more variance than noise (one set of axes for
each condition and kind of points). Axes fit the noise of the spectra that they come from, which would so differ from
any others: they come from training subjects that nothing is compared with, or if these are too few, from every other
transient of all of them, and the points from the rest. Intervals leave subjects out, never transients. With a split by
transients, training and test spectra are of the same subjects, single transients count as independent, and there are no
intervals.

Of a large study, `fidelity_data.MOST_SUBJECTS` subjects are compared; errors of reconstructions and the mean of the
training subjects are those of all.

``nmse`` compares a reconstruction with the very transients that it was made of; for it ``real`` is the noise's share of
their energy, which a reconstruction free of noise is off by.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import fidelity_metrics as metrics
from mrs_synthesis import seeds, subset, two_sample
from mrs_synthesis.embedding import Cloud, descriptions, embed
from mrs_synthesis.fidelity_data import (
    LEVELS,
    MOST_AXES_POINTS,
    MOST_POINTS,
    MOST_SUBJECTS,
    NOISE,
    POPULATION_NOISY,
    REAL,
    RECONSTRUCTION,
    Key,
    ScanRows,
    Sizes,
    Study,
    Unit,
    averages,
    by_condition,
    choose_subjects,
    common_sizes,
    picked,
)
from mrs_synthesis.fidelity_errors import Errors, error_rows, reconstruction_errors, whole_region
from mrs_synthesis.stage import InputError, run

if TYPE_CHECKING:
    import pandas as pd

MODES = ("random", "interpolation", "hybrid")
DECODERS = ("mean", "sampled")
MOST_AXES = 10
FEWEST_POINTS = 10  # for balls of neighbours
N_PERMUTATIONS = 500
COLUMNS = ("metric", "source", "decoder", "condition", "region_ppm", "value", "ci_low", "ci_high", "ceiling", "floor")
DESCRIPTIONS = {
    "metric": {
        "Description": "Beside real spectra of training subjects, on principal axes. *_transients: single transients; "
        "*_averages: see TableDescription. Wanted is not 0 or 1, but what real ones of other subjects have: ceiling",
        "Levels": {
            "nmse": "Reconstruction: |estimate - real|^2 over |real|^2 of complex spectra (averages: of all held-out "
            "transients of a scan); mean over subjects. Above the ceiling: signal is lost; below: noise is copied",
            "precision": "Share inside the ball of a real point, which reaches to the real ones' neighbour no. "
            f"{metrics.NEIGHBOURS} of another subject; as the next three only of {FEWEST_POINTS} points or more",
            "recall": "Share of real points inside the ball of one of these: is the variety of real ones there",
            "density": f"In how many real balls one is, over {metrics.NEIGHBOURS}. A subject's transients tend to be "
            "in the same balls: far above 1, and far above the ceiling where all are in the middle",
            "coverage": "Share of real balls with one of these in it",
            "mmd": "Squared maximum mean discrepancy, Gaussian kernel, bandwidth the real points' median distance; "
            "pairs of different subjects only, so that it is 0 (or by chance below) for subjects of one population",
            "mmd_p": "Its p value, subjects exchanged within sites; missing where there are too few",
            "frechet": "Squared Frechet distance over the real points' total variance",
            "classifier_accuracy": "How often a classifier of the spectra (and of their roughness, which shows noise), "
            "trained on other subjects, tells these from real ones; 0.5: never better than chance",
        },
    },
    "source": {
        "Description": "real (held-out), a synthesis mode, reconstruction of held-out transients, population_mean (of "
        "the training subjects), population_mean_noisy (with noise of the held-out transients' SD), noise (that alone)"
    },
    "decoder": {"Description": "Decoder output of synthetic transients: mean or sampled"},
    "condition": {"Description": "OFF, ON, DIFF (= ON - OFF of a pair) or UNEDITED"},
    "region_ppm": {"Description": "Part of the spectrum", "Units": "ppm"},
    "value": {"Description": "The metric's value"},
    "ci_low": {
        "Description": "Lower end of the 95 % interval over subjects: jackknife (real and other subjects left out in "
        "turn); nmse and classifier_accuracy: bootstrap. Missing: under three subjects, or a split by transients"
    },
    "ci_high": {"Description": "Upper end of this interval"},
    "ceiling": {
        "Description": "The value of real, held-out against training subjects; nmse: the noise's share of the energy"
    },
    "floor": {"Description": "The value of noise"},
    "n": {"Description": "Subjects; in a comparison as many test as training subjects"},
}
Points = dict[str, np.ndarray]  # by level (conditions, n, W)
Values = dict[str, tuple[float, float, float]]


@dataclass
class Groups:
    """What the test scans give.

    Attributes
    ----------
    units
        The scans in comparisons, one of each subject.
    points
        By source, of each of these scans.
    errors
        NMSE of all scans.
    """

    units: list[Unit] = field(default_factory=list)
    points: dict[Key, list[Points]] = field(default_factory=dict)
    errors: Errors = field(default_factory=Errors)


def points_of(blocks: Sequence[np.ndarray], sizes: Sizes, inside: np.ndarray, names: tuple) -> Points:
    """Return the points of a scan, given blocks of its transients (conditions, n, W); `names` seed the averages."""
    found = {"transients": picked(blocks, sizes.n_transients)}
    if sizes.n_averaged > 1:
        found["averages"] = averages(blocks, sizes, seeds.generator(*names))
    return {level: values[..., inside].astype(np.complex64) for level, values in found.items()}


def noise_of(points: Points, sd: Mapping[str, float], rng: np.random.Generator) -> Points:
    """Return white noise in the shape of points, of a SD of the real part for each level."""
    return {
        level: (sd[level] * rng.standard_normal((*values.shape, 2)) @ [1, 1j]).astype(np.complex64)
        for level, values in points.items()
    }


def levels_of(unit: Unit, sizes: Sizes) -> dict[str, float]:
    """Return the RMS noise SD of a scan's points."""
    sd = float(np.sqrt(np.mean(unit.noise_sd**2)))
    return {"transients": sd, "averages": sd / np.sqrt(sizes.n_averaged)}


def halves(spectra: np.ndarray, apart: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the transients of a training scan (conditions, T, W) for points and for axes: all if they stay `apart`."""
    whole = apart or spectra.shape[1] < 2
    return (spectra, spectra) if whole else (spectra[:, 1::2], spectra[:, ::2])


def read_training(
    study: Study, scans: Sequence[ScanRows], used: set[str], sizes: Sizes, inside: np.ndarray, apart: bool, seed: int
) -> tuple[list[Points], list[Points], dict[str, float], np.ndarray]:
    """Return points and those for axes of the scans that are `used`, and of all noise SDs by level and the mean.

    The mean spectrum has shape (conditions, W). One scan is in memory at a time.
    """
    found, squares, total = ([], []), {level: [] for level in LEVELS}, None
    for scan in scans:
        unit = study.read(scan)
        if scan.unit in used:
            for points, part in zip(found, halves(unit.spectra, apart), strict=True):
                points.append(points_of([part], sizes, inside, (seed, "fidelity", scan.unit, "averages")))
        for level, sd in levels_of(unit, sizes).items():
            squares[level].append(sd**2)
        mean = unit.spectra.mean(axis=1)
        total = mean if total is None else total + mean
    sd = {level: float(np.sqrt(np.mean(values))) for level, values in squares.items()}
    return *found, sd, (total / np.int64(len(scans))).astype(total.dtype)


def read_tested(
    study: Study, tested: Sequence[tuple], compared: set[str], sizes: Sizes, mean: np.ndarray, inside: np.ndarray, seed
) -> Groups:
    """Return what all test scans give; `compared` are the scans whose points are."""
    groups = Groups()
    for scan, ranges in tested:
        name, unit = scan.unit, study.read(scan)
        sources = {REAL: [unit.spectra]}
        for key, blocks in study.made(unit, ranges if name in compared else {}):
            if key == RECONSTRUCTION:
                rng = seeds.generator(seed, "fidelity", name, "nmse noise")
                groups.errors.add(unit.subject, reconstruction_errors(unit, blocks[0], mean, study, rng))
            sources[key] = blocks
        if name not in compared:
            continue
        names = (seed, "fidelity", name, "averages")  # the same transients of the real ones and of the reconstruction
        points = {key: points_of(blocks, sizes, inside, names) for key, blocks in sources.items()}
        rng = seeds.generator(seed, "fidelity", name, "noise")
        points[NOISE] = noise_of(points[REAL], levels_of(unit, sizes), rng)
        points[POPULATION_NOISY] = {
            level: values + mean[:, None, inside].astype(np.complex64) for level, values in points[NOISE].items()
        }
        for key, values in points.items():
            groups.points.setdefault(key, []).append(values)
        groups.units.append(unit)
    return groups


def compare(
    real: np.ndarray,
    other: np.ndarray,
    axes: metrics.Axes,
    sites: tuple[Sequence[str], Sequence[str]],
    by_subject: bool,
    n_resamples: int,
    rng: np.random.Generator,
) -> Values:
    """Return value and interval of every metric.

    Parameters
    ----------
    real, other
        Complex spectra of both groups, (subjects, points, W).
    axes
        Of real ones.
    sites
        Of each group's subjects.
    by_subject
        False: every transient counts as independent, since both groups are of the same subjects.
    n_resamples, rng
        Of the classifier's interval; random numbers.
    """
    scores = [axes.scores(group.reshape(-1, group.shape[-1])) for group in (real, other)]
    counts = [len(group) if by_subject else len(group) * group.shape[1] for group in (real, other)]
    per_subject = len(scores[0]) // counts[0]
    within, across, beyond = (metrics.distances(scores[i], scores[j]) for i, j in ((0, 0), (0, 1), (1, 1)))
    bandwidth = float(np.median(within[np.triu_indices(len(within), 1)])) or 1.0
    kernel = metrics.mean_kernel(np.concatenate(scores), np.repeat(np.arange(sum(counts)), per_subject), bandwidth)

    strata = metrics.usable_strata([*sites[0], *sites[1]], counts[0]) if by_subject else None

    def statistic(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
        a, b = (np.flatnonzero(np.repeat(keep, per_subject)) for keep in (first, second))
        found = {}
        if min(across.shape) >= FEWEST_POINTS:
            blocks = within[np.ix_(a, a)], across[np.ix_(a, b)], beyond[np.ix_(b, b)]
            found = metrics.neighbours(*blocks, (a // per_subject, b // per_subject))
        absent = [np.zeros(count, bool) for count in counts]
        groups = np.concatenate([first, absent[1]]), np.concatenate([absent[0], second])
        found["mmd"] = metrics.mmd(kernel, *groups, strata)
        found["frechet"] = metrics.frechet(scores[0][a], scores[1][b])
        return found

    if not by_subject:
        values = statistic(*(np.ones(n, bool) for n in counts))
        return {name: (value, np.nan, np.nan) for name, value in values.items()}
    found = metrics.jackknife(statistic, *counts)
    p = metrics.permutation_p(kernel, counts[0], [*sites[0], *sites[1]], N_PERMUTATIONS, rng)
    rows = [[metrics.classifier_features(subject) for subject in group] for group in (real, other)]
    accuracy, *ends = two_sample.classify(*rows, sites, rng, n_resamples)
    if min(counts) < metrics.FEWEST_SUBJECTS:
        ends = [np.nan, np.nan]
    return found | {"mmd_p": (p, np.nan, np.nan), "classifier_accuracy": (accuracy, *ends)}


def comparison_rows(
    study: Study, level: str, learned: np.ndarray, reference: np.ndarray, sd: float, sites: tuple, groups: Groups, a
) -> list[dict]:
    """Return the table's rows of all sources at one level, and print what the axes explain.

    `learned` are the points for axes and `reference` those that are compared with, (scans, conditions, n, W).
    """
    rows, region = [], "{:g}-{:g}".format(*whole_region(study.ppm))
    parts = [by_condition(points.swapaxes(0, 1), study.conditions) for points in (learned, reference)]
    for condition, spectra in parts[0].items():
        real = parts[1][condition]
        n_points = len(real) * real.shape[1]
        most = max(2, min(MOST_AXES, n_points // 3))  # moments of a group must have a meaning
        noise = sd * np.sqrt(2 if condition == "DIFF" else 1)
        axes = metrics.fit_axes(spectra.reshape(-1, spectra.shape[-1]), noise, most)
        share = f"{len(axes.share)} axes with {100 * axes.share.sum():.1f} % of the variance of {condition} {level}"
        print(share, flush=True)
        for key, points in groups.points.items():
            other = by_condition(np.stack([one[level] for one in points], axis=1), study.conditions)[condition]
            rng = seeds.generator(a.seed, "fidelity", level, condition, *key)
            found = compare(real, other, axes, sites, study.by_subject, a.bootstrap, rng)
            names = {"source": key[0], "decoder": key[1], "condition": condition, "region_ppm": region}
            for metric, (value, low, high) in found.items():
                ends = {"value": value, "ci_low": low, "ci_high": high, "n": len(other), "axes": share}
                rows.append({"metric": f"{metric}_{level}"} | names | ends)
    return rows


def with_limits(rows: Sequence[dict]) -> pd.DataFrame:
    """Return the table, with ceiling and floor; metrics that could not be had are left out."""
    import pandas as pd

    table = pd.DataFrame(rows)
    place = ["metric", "condition", "region_ppm"]
    for column, source in (("ceiling", REAL[0]), ("floor", NOISE[0])):
        limit = table[table["source"] == source].set_index(place)["value"]
        table[column] = [limit.get(key, np.nan) for key in table[place].itertuples(index=False, name=None)]
    return table[table["value"].notna()].reset_index(drop=True)[[*COLUMNS, "n"]]


def fidelity(a: argparse.Namespace) -> tuple[tuple[pd.DataFrame, str], tuple]:
    """Return the table `fidelity` with what it is about, and the table `embedding` with its axes."""
    study = Study(a.training, a.heldout, a.units, a.derivatives)
    kinds = [(mode, decoder) for mode in a.modes for decoder in a.decoders]
    tested = study.tested(kinds)
    trained = study.units("train")
    if not trained:
        raise InputError(f"{a.training}: no row of split train; assemble it again")
    scans = [{one.subject: one for one in reversed(part)} for part in ([scan for scan, _ in tested], trained)]
    n = min(*map(len, scans), MOST_SUBJECTS)
    places = [{subject: one.site for subject, one in part.items()} for part in scans]
    chosen = [choose_subjects(places[0], [], n, seeds.generator(a.seed, "fidelity", "test"))]
    wanted = [places[0][subject] for subject in chosen[0]]
    chosen.append(choose_subjects(places[1], wanted, n, seeds.generator(a.seed, "fidelity", "train")))
    compared = {scans[0][subject].unit for subject in chosen[0]}
    others = {subject: places[1][subject] for subject in sorted(places[1]) if subject not in chosen[1]}
    for_axes = subset.subjects(others, MOST_AXES_POINTS // (MOST_POINTS // n), a.seed, "fidelity", "axes")
    learned = [scans[1][subject] for subject in sorted([*chosen[1], *for_axes])]
    used = [one for one in tested if one[0].unit in compared]
    reference = np.array([scan.subject in chosen[1] for scan in learned])
    apart = np.sum(~reference) >= n
    counts = [scan.n_transients for scan, _ in used]
    counts += [halves(np.empty((1, scan.n_transients, 0)), apart)[0].shape[1] for scan in learned]
    sizes = common_sizes(n, counts, [ranges for _, ranges in used])
    low, high = whole_region(study.ppm)
    inside = np.flatnonzero((study.ppm >= low) & (study.ppm <= high))
    whole = [scans[1][subject] for subject in sorted(scans[1])]
    names = {scan.unit for scan in learned}
    points, for_axes_points, sd, mean = read_training(study, whole, names, sizes, inside, apart, a.seed)
    groups = read_tested(study, tested, compared, sizes, mean, inside, a.seed)
    sites = ([places[1][subject] for subject in sorted(chosen[1])], [unit.site for unit in groups.units])
    rows = error_rows(groups.errors, study.by_subject, a.bootstrap, a.seed)
    for level in points[0]:
        every, rest = (np.stack([one[level] for one in part]) for part in (points, for_axes_points))
        axes_of = rest[~reference] if apart else rest
        rows += comparison_rows(study, level, axes_of, every[reference], sd[level], sites, groups, a)
    axes = "; ".join(dict.fromkeys(row.pop("axes") for row in rows if "axes" in row))
    kinds_of_points = f"{sizes.n_transients} transient(s)"
    if sizes.n_averaged > 1:
        kinds_of_points += f" and {sizes.n_averages} average(s) of {sizes.n_averaged}"
    about = (
        f"One metric of one source's spectra. Compared are {n} test with {n} training subjects, of each "
        f"{kinds_of_points}, on {axes}"
    )
    if len(for_axes) < len(others):
        about += f"; axes come from {len(for_axes)} of {len(others)} other training subjects, every site its share"
    if not study.by_subject:
        about += "; training and test transients are of the same subjects"

    def cloud(split: str, key: Key, values: Sequence[Points], units: Sequence[tuple[str, str]]) -> Cloud:
        whole = np.stack([one["transients"] for one in values]).swapaxes(1, 2)
        return Cloud(split, *key, *zip(*units, strict=True), whole.reshape(*whole.shape[:2], -1))

    names = [(unit.unit, unit.site) for unit in groups.units]
    clouds = [cloud("training", REAL, points, [(scan.unit, scan.site) for scan in learned])]
    for key, values in groups.points.items():
        split = {REAL: "held-out", NOISE: "noise"}.get(key, "synthetic")
        if key != POPULATION_NOISY:
            clouds.append(cloud(split, key, values, names))
    return (with_limits(rows), about), embed(clouds, sd["transients"], a.seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.fidelity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set")
    parser.add_argument("--heldout", type=Path, required=True, help="folder of the held-out set")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder of reconstructions and synthetic files")
    parser.add_argument("--modes", nargs="*", choices=MODES, default=list(MODES), help="none: only reconstructions")
    parser.add_argument("--decoders", nargs="*", choices=DECODERS, default=list(DECODERS), help="default: both")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the confidence intervals")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="the table, TSV; its data dictionary goes beside it")
    parser.add_argument("--embedding", type=Path, required=True, help="the table of the embedding, likewise")
    a = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table

    (table, about), (places, axes) = fidelity(a)
    write_described_table(a.output, table, about, DESCRIPTIONS)
    write_described_table(a.embedding, places, "One single transient in one projection", descriptions(axes))


if __name__ == "__main__":
    run(main)
