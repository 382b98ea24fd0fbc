"""Whether synthetic transients are nearer to training spectra than held-out real ones are, or even copies of them.

Every transient is a spectrum in the model's window, scaled as the training set (`assemble`); synthetic ones by their
replicate's scale, which undoes `synthesise`. Its distances to the nearest and second nearest training spectrum of its
edit condition are compared with those of the held-out real transients, in two spaces: the window (``_window``), and the
training set's principal components above the noise (``_components``), where noise hides least.

Less noise alone brings a spectrum nearer to all others. So white noise, seeded, is added to all, up to one level: the
highest measured SD of a test unit's transients, or the decoder's if that is higher. The decoder ``mean`` gets all of
it, the decoder ``sampled`` and the real transients what they lack. ``distance_ratio_as_made`` is without this.

Controls pass through the same steps. Nobody's copies: ``real`` (one half of a unit's held-out transients against the
other), ``real_other`` (those of other held-out subjects), ``population_mean_noisy`` (the training mean plus noise; what
is central is nearer to all). Copies: ``copier_0``, ``copier_0.5``, ``copier_1`` (training spectra plus fresh noise of
so many measured SDs), ``copier_subject`` (the mean of a training subject plus noise: not a spectrum is copied, but a
person; found in the components only).

Copies can be of any training spectrum, so that all of these are searched. Of the others, which are many in a large
study, `MOST_SPECTRA` of each source and condition are asked, evenly of `MOST_SUBJECTS` subjects, every site its share.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import cells, seeds, study_index, subset
from mrs_synthesis.assemble import preprocessed_path, read_preprocessed, unit_spectra
from mrs_synthesis.memorisation_controls import other_subjects
from mrs_synthesis.memorisation_metrics import Group, is_flagged, measures, resample
from mrs_synthesis.memorisation_queue import Queue
from mrs_synthesis.neighbours import Training
from mrs_synthesis.stage import InputError, SkippedError, require, run
from mrs_synthesis.training_set import RowFile

if TYPE_CHECKING:
    import pandas as pd

FEWEST_HELD_OUT = 2
# Which training spectrum is nearest is asked for all of them, of a limited number of others: the time for all pairs
# would grow as the square of the number of subjects. At 1 %, the standard error of a share is then 0.16 %; intervals
# over so many subjects have half widths of 0.17 SDs.
MOST_SUBJECTS = 128
MOST_SPECTRA = 4096  # of each source and condition
DESCRIPTIONS = {
    "metric": {
        "Description": "Synthetic against held-out real transients. distance_ratio: median distance to the nearest "
        "training spectrum over that of the same unit's held-out ones, mean over subjects (1 wanted). share_nearer: "
        "share with a smaller distance than the 1 % quantile of all held-out ones (0.01 wanted). auc: probability of "
        "being nearer than a held-out one of the same unit, mean over subjects (0.5 wanted; above: nearer). nndr: "
        "median ratio of the nearest to the second nearest distance (low: a copy). share_low_nndr: share below the 1 % "
        "quantile of all held-out ones (0.01 wanted). _window: the model's window; _components: the training set's "
        "leading principal components; both at one noise level for all. distance_ratio_as_made: in the window without "
        "added noise, where less noise alone is nearer"
    },
    "source": {
        "Description": "Synthesis mode, or a control. Nobody's copies: real (held-out halves), real_other (other "
        "held-out subjects), population_mean_noisy (training mean plus noise). Copies: copier_0, copier_0.5, copier_1 "
        "(training spectra plus fresh noise of so many measured SDs), copier_subject (a training subject's mean plus "
        "noise)"
    },
    "decoder": {"Description": "Decoder output, mean or sampled; white noise is added to both, see metric"},
    "value": {"Description": "The metric's value"},
    "ci_low": {"Description": "Lower end of the 95 % bootstrap interval over subjects; missing for one subject"},
    "ci_high": {"Description": "Upper end of this interval"},
    "ceiling": {"Description": "What no memorisation gives: the value of real, held-out against held-out"},
    "floor": {"Description": "What copies give: the value of copier_1"},
    "flagged": {
        "Description": "1: on the side of memorisation by more than sampling explains. auc: interval above 0.5 and "
        "value at least 0.56; shares: interval above 0.01 plus two standard errors of that level; distance_ratio and "
        "nndr: interval below 0.98 of 1 and of held-out ones' nndr (one subject: the value itself). Missing: says "
        "nothing of memory (in components what is central has low nndr too, as population_mean_noisy shows)"
    },
}
SENTENCES = {
    "copies": "copies training spectra: nearer to one of them than to any other",
    "nearer": "nearer to the training spectra than held-out real ones, but not copies of single ones",
    "not nearer": "not shown to be nearer to the training spectra than held-out real ones",
}


def read_sidecar(path: Path) -> dict:
    """Return the JSON sidecar of a NIfTI file.

    Raises
    ------
    InputError
        If there is none.
    """
    from mrs_synthesis.scans import sidecar_path

    try:
        return json.loads(require(sidecar_path(path)).read_text())
    except ValueError as error:
        raise InputError(f"{sidecar_path(path)}: not JSON ({error}); run the stage that writes it again") from None


def read_synthetic(
    path: Path, ppm: np.ndarray, conditions: Sequence[str], most: int
) -> tuple[dict[str, Group], dict, int]:
    """Read one file of synthetic transients as groups by condition, in the training set's scale, and its sidecar.

    Of several n_real only the smallest's transients are taken, of these at most `most`, evenly over the replicates;
    how many they were without this comes last.

    Raises
    ------
    InputError
        If the sidecar does not tell the replicates' scale and noise.
    SkippedError
        If the file is empty.
    """
    scan = read_preprocessed(path, conditions)
    facts = read_sidecar(path)
    try:
        replicates = cells.headline(facts["Plan"]["Replicates"])
        parts = [(slice(*r["DynRange"]), float(r["Scale"]), np.array(r["NoiseSD"], float)) for r in replicates]
        decoder = facts["Decoder"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: sidecar without a plan of replicates ({error!r}); run synthesise again") from None
    values = unit_spectra(scan, ppm)
    noise = np.zeros(values.shape[:2])
    for part, scale, measured in parts:
        values[:, part] /= scale
        # A decoder that samples with a SD of its own states it; else it is the measured one
        own = facts.get("DecoderSD", measured[:, None] * np.sqrt(scan.n_points) / scale)
        noise[:, part] = 0.0 if decoder == "mean" else own
    taken = np.r_[tuple(part for part, _, _ in parts)]
    few = taken[subset.evenly(len(taken), most)]
    return {name: Group(values[c, few], noise[c, few]) for c, name in enumerate(conditions)}, facts, len(taken)


def highest_noise(held_out: pd.DataFrame, paths: Sequence[Path]) -> float:
    """Return the highest RMS noise SD of a unit's held-out transients, or the highest SD that a decoder states."""
    levels = (held_out["sd"] ** 2).groupby([held_out["unit"], held_out["condition"]], observed=True).mean() ** 0.5
    return float(max(levels.max(), *(float(read_sidecar(path).get("DecoderSD", 0)) for path in paths)))


def table_of(found: dict, seed: int) -> pd.DataFrame:
    """Return the table of distances gathered by `add_unit`."""
    import pandas as pd

    rows = []
    for (condition, source, decoder, space), compared in found.items():
        n_held_out = sum(map(len, compared.held_out))
        values = measures(compared, resample(compared.subjects, seed))
        held_out_nndr = values.pop("nndr_held_out")[0]
        for name in ["distance_ratio"] if space == "as_made" else values:
            value, *resamples = values[name]
            low, high = np.quantile(resamples, [0.025, 0.975]) if resamples else (np.nan, np.nan)
            # Noise that is not matched says nothing of memory, nor do near neighbours of what is central
            silent = space == "as_made" or (space == "components" and "nndr" in name)
            flagged = None if silent else int(is_flagged(name, value, low, high, held_out_nndr, n_held_out))
            rows.append((f"{name}_{space}", condition, source, decoder, value, low, high, flagged))
    columns = ["metric", "condition", "source", "decoder", "value", "ci_low", "ci_high", "flagged"]
    table = pd.DataFrame(rows, columns=columns).astype({"flagged": "Int64"})
    for column, source in (("ceiling", "real"), ("floor", "copier_1")):
        limit = table[table["source"] == source].set_index(["metric", "condition"])["value"]
        table[column] = [limit.get(key, np.nan) for key in zip(table["metric"], table["condition"], strict=True)]
    table["decoder"] = table["decoder"].replace("n/a", None)
    return table[[*columns[:-1], "ceiling", "floor", "flagged"]]


def verdicts(table: pd.DataFrame) -> list[dict]:
    """Return, per source and decoder, ``copies``, ``nearer`` or ``not nearer``; which metrics say so; how much nearer.

    Distances are means over the edit conditions.
    """
    rows = []
    for (source, decoder), part in table.groupby(["source", "decoder"], sort=False, dropna=False):
        hits = part[part["flagged"].fillna(0).astype(bool)]
        word = "copies" if hits["metric"].eq("share_low_nndr_window").any() else "nearer" if len(hits) else "not nearer"
        means = part.groupby("metric")["value"].mean()
        rows.append(
            {
                "source": source,
                "decoder": decoder if isinstance(decoder, str) else None,
                "verdict": word,
                "sentence": SENTENCES[word],
                "flagged": (hits["metric"] + " (" + hits["condition"] + ")").tolist(),
            }
            | {name: round(float(means[name]), 4) for name in ("distance_ratio_window", "distance_ratio_components")}
        )
    return rows


def usable(
    tests: pd.DataFrame, derivatives: Path, folders: pd.Series, kinds: Sequence[tuple[str, str]]
) -> dict[str, dict[tuple, Path]]:
    """Return the files of synthetic transients by kind, of every test unit that can be compared; others are named."""
    files = {}
    for unit, own in tests.groupby("unit", sort=True, observed=True):
        base = preprocessed_path(derivatives, folders[unit], unit).parent / unit
        paths = {kind: cells.synthetic_path(base, *kind) for kind in kinds}
        try:
            for path in paths.values():
                require(path)
        except SkippedError as error:
            print(f"left out: {unit}: {error}", flush=True)
            continue
        if own.groupby("condition", observed=True).size().min() < FEWEST_HELD_OUT:
            print(f"left out: {unit}: fewer than {FEWEST_HELD_OUT} held-out transients", flush=True)
            continue
        files[unit] = paths
    if not files:
        raise InputError(
            f"{derivatives}: no test unit with synthetic and {FEWEST_HELD_OUT} real transients; see the failures"
        )
    return files


def thinned(tests: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return at most `most` rows of each unit and condition, evenly over the scan, in the order of the index."""
    parts = tests.groupby(["unit", "condition"], sort=False, observed=True).indices.values()
    return tests.iloc[np.sort(np.concatenate([part[subset.evenly(len(part), most)] for part in parts]))]


def study(
    training: Path,
    heldout: Path,
    derivatives: Path,
    units_path: Path,
    modes: Sequence[str],
    decoders: Sequence[str],
    seed: int,
) -> tuple[pd.DataFrame, dict, str]:
    """Return the table, the facts beside it, and what was left out, in words: nothing unless the study is large.

    Raises
    ------
    InputError
        If no unit of the test split has synthetic transients and at least `FEWEST_HELD_OUT` real ones.
    """
    from mrs_synthesis.files import read_table

    columns = ("row", "unit", "subject", "site", "condition", "split", "scale", "noise_sd", "n_points")
    index = study_index.read(training, heldout, columns)
    if not (index["split"] == "test").any():
        raise InputError(f"{heldout}/index.tsv: no row of split test; nothing can be compared")
    try:
        folders = read_table(units_path, ("unit", "folder")).set_index("unit")["folder"]
        grid = json.loads((training / "grid.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{training}, {heldout}: no training or held-out set ({error}); assemble them first") from None
    learned, rows = (RowFile(folder / "spectra.npy") for folder in (training, heldout))
    ppm, conditions = np.array(grid["ppm"]), grid["conditions"]
    # A bin's noise is that of the FID times the root of the unit's own number of points
    index["sd"] = index["noise_sd"] * np.sqrt(index["n_points"]) / index["scale"]
    sets = {}
    for name in conditions:
        part = index[(index["split"] == "train") & (index["condition"] == name)]
        who = part["subject"].cat.codes.to_numpy()
        sets[name] = Training(learned, part["row"].to_numpy(), part["sd"].to_numpy(), who)
    kinds = [(mode, decoder) for mode in modes for decoder in decoders]
    tests = index[index["split"] == "test"]
    del index
    files = usable(tests, derivatives, folders, kinds)
    every = tests.drop_duplicates("unit").set_index("unit")
    sites = {str(every.at[unit, "subject"]): str(every.at[unit, "site"]) for unit in files}
    chosen = subset.subjects(sites, MOST_SUBJECTS, seed, "memorisation", "subjects")
    files = {unit: files[unit] for unit in files if every.at[unit, "subject"] in chosen}
    tests = tests[tests["unit"].isin(files)]
    level = highest_noise(tests, [path for paths in files.values() for path in paths.values()])
    most = max(FEWEST_HELD_OUT, MOST_SPECTRA // len(files))
    longest = tests.groupby(["unit", "condition"], observed=True).size().max()
    tests = thinned(tests, most)
    found, models = {}, set()
    queues = {name: Queue(name, sets[name], level, found) for name in conditions}
    pools = {name: tests[tests["condition"] == name] for name in conditions}
    for unit, paths in files.items():
        subject = str(every.at[unit, "subject"])
        groups = {}
        for kind, path in paths.items():
            groups[kind], facts, n = read_synthetic(path, ppm, conditions, most)
            longest = max(longest, n)
            models.add(facts.get("ModelSHA256"))
        for name, queue in queues.items():
            pool, rng = pools[name], seeds.generator(seed, "memorisation", unit, name, "others")
            part = pool[pool["unit"] == unit]
            held_out = Group(rows[part["row"].to_numpy()], part["sd"].to_numpy())
            sources = {kind: group[name] for kind, group in groups.items()}
            if (others := other_subjects(unit, subject, pool, rows, rng)) is not None:
                sources = {("real_other", "n/a"): others} | sources
            queue.add(subject, sources, held_out, seed, unit)
        if any(queue.full() for queue in queues.values()):
            for queue in queues.values():
                queue.flush()
    for queue in queues.values():
        queue.flush()
    table = table_of(found, seed)
    facts = {
        "model_sha256": sorted(filter(None, models)),
        "split_unit": grid["split_unit"],
        "units": list(files),
        "noise_sd": float(f"{level:.6g}"),
        "training_spectra": {name: len(one.rows) for name, one in sets.items()},
        "components": {name: one.basis.shape[1] for name, one in sets.items()},
        "verdicts": verdicts(table),
    }
    few = len(chosen) < len(sites)
    left = f"; of {len(chosen)} of {len(sites)} test subjects, every site its share" if few else ""
    left += f"; of each scan, source and condition {most} spectra at most, evenly spread" if longest > most else ""
    return table, facts, left + ("; beside all training spectra" if left else "")


def main(argv: Sequence[str] | None = None) -> None:
    """Compare distances to the training spectra: synthetic transients against held-out real ones."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.memorisation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set")
    parser.add_argument("--heldout", type=Path, required=True, help="folder of the held-out set")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder with the synthetic transients")
    parser.add_argument("--modes", nargs="+", required=True, help="synthesis modes")
    parser.add_argument("--decoders", nargs="+", required=True, help="decoder outputs")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="table (TSV), one row per metric and source")
    parser.add_argument("--verdicts", type=Path, required=True, help="verdict per source (JSON)")
    a = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import write_json

    table, facts, left = study(a.training, a.heldout, a.derivatives, a.units, a.modes, a.decoders, a.seed)
    about = "Distances to training spectra against those of held-out real ones; one row per metric, condition, source"
    write_described_table(a.output, table, about + left, DESCRIPTIONS)
    write_json(a.verdicts, facts)
    within = " (within one subject)" if facts["split_unit"] == "transient" else ""
    for row in facts["verdicts"]:
        name = row["source"] + (f", decoder {row['decoder']}" if row["decoder"] else "")
        distances = [f"{row[f'distance_ratio_{space}']:.3f} ({space})" for space in ("window", "components")]
        print(f"{name}: {row['sentence']}{within}; median distance times {', '.join(distances)}", flush=True)


if __name__ == "__main__":
    run(main)
