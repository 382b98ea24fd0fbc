"""What happens between transients, fitted to the training subjects: frequency and phase tracks, and residual water.

Preprocessing measured all of it: the shifts and phases that it applied (the acquired transients had the opposite) and
the water that it took away. A track is a subject's offset, a linear drift, an autoregressive wander and white jitter
(`wander`), in steps of acquisition: the transients of a pair of edit conditions count as neighbours, OFF first. Memory
and share of jitter are those of all training subjects together; offset, drift, the conditions' difference and the size
of wander and jitter are drawn from their distribution between the subjects of the site (where there are at least
`FEWEST`, else of the vendor, else of all). Phase offsets are drawn on the circle. Water is drawn by `donors`, in the
frame of the preprocessed transients. Tracks and water are drawn independently. White jitter contains the error of the
alignment, so that tracks are those of corrections rather than of the magnet.

Of a large study, `MOST_SCANS` training scans are what the model is made of, so that it stays as small.

Scans too short for a track, such as one average for a subject, give none: drawn shifts and phases are then zero, and
water keeps still within a scan.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrs_synthesis import donors, model_files, spectra, study_index, subset, wander
from mrs_synthesis.stage import InputError, SkippedError, require, run

FEWEST = 3  # subjects of a site, or of a vendor, for their own distribution
SHORTEST = 2 * wander.NEIGHBOURS  # values in a track
# Training scans that the model is made of, every site its share: a distribution between subjects is known to 5 % of its
# SD from so many, while fitting, the file and what every drawing reads would go on growing
MOST_SCANS = 400
FEW_OF_SITE = 10  # of a small site so many, as long as there is room
TRACKS = ("shift_hz", "phase_rad")
FORMAT = 1


@dataclass(frozen=True)
class Tracks:
    """Tracks of S subjects; regression columns are offset, drift per step and, of two conditions, second less first.

    Attributes
    ----------
    subjects
        Positions of the S subjects among those of the model.
    found
        What `wander.fit` found.
    """

    subjects: np.ndarray
    found: wander.Wander

    def draw(
        self, rng: np.random.Generator, pool: np.ndarray, n_transients: int, n_conditions: int, *, angle: bool
    ) -> np.ndarray:
        """Draw a subject's track, shape (E, n_transients), from those of the subjects `pool` that have one."""
        rows = np.flatnonzero(np.isin(self.subjects, pool))
        rows = rows if rows.size else np.arange(self.subjects.size)
        found = self.found
        values, errors = found.coefficients[rows], found.errors[rows]
        offset = wander.redraw_angle(rng, values[:, 0]) if angle else wander.redraw(rng, values[:, 0], errors[:, 0])
        rest = [wander.redraw(rng, values[:, c], errors[:, c]) for c in range(1, values.shape[1])]
        sd = np.exp(wander.redraw(rng, np.log(np.maximum(found.sd[rows], 1e-12))))
        spread = (np.array([sd * np.sqrt(1 - found.share)]), np.array([sd * np.sqrt(found.share)]))
        n_steps = n_transients * n_conditions
        track = wander.simulate(rng, n_steps, found.memory, *spread)[0] if n_steps else np.zeros(0)
        track = track + design(n_steps, n_conditions) @ np.array([offset, *rest])
        return donors.by_condition(track, n_conditions)


@dataclass(frozen=True)
class Drawn:
    """Nuisances of one subject: corrections (E, n) that preprocessing would make, and water (E, n, N) after them."""

    shift_hz: np.ndarray
    phase_rad: np.ndarray
    water_fid: np.ndarray


@dataclass(frozen=True)
class NuisanceModel:
    """Tracks and water of the training subjects.

    Attributes
    ----------
    conditions
        Names of the E edit conditions.
    units
        Of each training scan: unit, site, vendor, and how many transients were used.
    vendors
        Vendor of each site of the training subjects.
    tracks
        By name (`TRACKS`); without an entry where scans are too short.
    water
        The donors, one for each unit.
    n_scans
        Of how many training scans these are; more than there are units only in a large study.
    """

    conditions: tuple[str, ...]
    units: tuple[dict, ...]
    vendors: dict[str, str]
    tracks: dict[str, Tracks]
    water: donors.Donors
    n_scans: int

    def pool(self, site: str | None, vendor: str | None = None) -> np.ndarray:
        """Return the positions of the units that stand for a site: its own, its vendor's or all.

        `vendor` is needed only for a site that no training subject is from.
        """
        sites = np.array([unit["site"] for unit in self.units])
        vendors = np.array([unit["vendor"] for unit in self.units])
        for mine in (sites == site, vendors == self.vendors.get(site or "", vendor or "")):
            if mine.sum() >= FEWEST:
                return np.flatnonzero(mine)
        return np.arange(len(self.units))

    def draw(
        self,
        rng: np.random.Generator,
        n_transients: int,
        *,
        scale: float,
        n_points: int,
        dwell_s: float,
        frequency_mhz: float,
        site: str | None,
        vendor: str | None = None,
    ) -> Drawn:
        """Draw the nuisances of a new subject.

        Parameters
        ----------
        rng
            Random numbers.
        n_transients
            How many for each edit condition, in order of acquisition.
        scale
            The subject's (`assemble.subject_scale`): water is proportional to it.
        n_points, dwell_s, frequency_mhz
            Raster of the FIDs.
        site
            The subject's site; None or an unknown one: the training subjects of its vendor, or all.
        vendor
            Of a site that no training subject is from.
        """
        pool, n_conditions = self.pool(site, vendor), len(self.conditions)
        found = {name: np.zeros((n_conditions, n_transients)) for name in TRACKS}
        for name, tracks in self.tracks.items():
            found[name] = tracks.draw(rng, pool, n_transients, n_conditions, angle=name == "phase_rad")
        water = donors.draw(
            self.water,
            pool,
            rng,
            n_transients,
            scale=scale,
            n_points=n_points,
            dwell_s=dwell_s,
            frequency_mhz=frequency_mhz,
        )
        return Drawn(found["shift_hz"], found["phase_rad"], water)

    def summary(self) -> dict:
        """Return what was found, for people and for `load`."""
        tracks = {}
        for name, track in self.tracks.items():
            found = track.found
            tracks[name] = {
                "n_scans": int(track.subjects.size),
                "memory_steps": found.memory,
                "white_share": found.share,
                "median_wander_sd": float(np.median(found.sd) * np.sqrt(1 - found.share)),
                "median_white_sd": float(np.median(found.sd) * np.sqrt(found.share)),
                "median_absolute_drift_per_step": float(np.median(np.abs(found.coefficients[:, 1]))),
            }
        state = "tracks and water" if self.tracks else "no tracks: scans are too short"
        wet = int(self.water.wet.sum())
        return {
            "format": FORMAT,
            "state": state if wet else state.replace("tracks and water", "tracks") + "; no water was removed",
            "conditions": list(self.conditions),
            "units": list(self.units),
            "vendors": self.vendors,
            "n_with_water": wet,
            "tracks": tracks,
        } | ({"n_training_scans": self.n_scans} if self.n_scans > len(self.units) else {})

    def save(self, path: Path) -> None:
        """Write the arrays to `path` (.safetensors), and everything else to a JSON file of the same stem."""
        from mrs_synthesis.files import write_json

        arrays = {f"water_{name}": array for name, array in self.water.arrays().items()}
        for name, track in self.tracks.items():
            arrays[f"{name}_subjects"] = track.subjects
            for part in ("sd", "coefficients", "errors"):
                arrays[f"{name}_{part}"] = getattr(track.found, part)
        digest = model_files.write_arrays(path, arrays)
        write_json(Path(path).with_suffix(".json"), self.summary() | {"sha256": digest})

    @classmethod
    def load(cls, path: Path) -> NuisanceModel:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the files are not such a model.
        """
        try:
            facts = model_files.read_object(require(Path(path).with_suffix(".json")))
            arrays = model_files.read_arrays(require(path), facts["sha256"])
            if facts["format"] != FORMAT:
                raise ValueError("of another version")
            tracks = {}
            for name in [name for name in TRACKS if name in facts["tracks"]]:  # the order of drawing
                about = facts["tracks"][name]
                parts = [arrays[f"{name}_{part}"] for part in ("sd", "coefficients", "errors")]
                found = wander.Wander(about["memory_steps"], about["white_share"], *parts)
                tracks[name] = Tracks(arrays[f"{name}_subjects"], found)
            water = {name[6:]: array for name, array in arrays.items() if name.startswith("water_")}
            units = tuple(facts["units"])
            n_scans = facts.get("n_training_scans", len(units))
            return cls(tuple(facts["conditions"]), units, facts["vendors"], tracks, donors.Donors(**water), n_scans)
        except (ValueError, KeyError, TypeError, OSError) as error:
            reason = model_files.one_line(error)
            raise InputError(f"{path}: no nuisance model ({reason}); run the stage nuisance again") from None


def design(n_steps: int, n_conditions: int, start: int = 0) -> np.ndarray:
    """Return the regression of a track, shape (n_steps, columns): offset, steps since the scan's begin, contrast."""
    step = np.arange(n_steps) + start * n_conditions
    columns = [np.ones(n_steps), step] + ([step % 2 - 0.5] if n_conditions == 2 else [])
    return np.stack(columns, axis=1)


def apply(fids: np.ndarray, drawn: Drawn, dwell_s: float) -> np.ndarray:
    """Turn aligned FIDs without water into such as are acquired: add the water, undo the corrections.

    Parameters
    ----------
    fids
        Shape (E, n, N), noisy or not.
    drawn
        From `NuisanceModel.draw`, for equally many. Shifting by its `shift_hz` and turning by its `phase_rad` (as
        `spectra.shift_and_phase` does), then taking away its water, gives `fids` again.
    dwell_s
        Dwell time.
    """
    return spectra.shift_and_phase(fids + drawn.water_fid, dwell_s, -drawn.shift_hz, -drawn.phase_rad)


def fit_tracks(values: Sequence[np.ndarray], index: Sequence[np.ndarray], *, angle: bool) -> Tracks | None:
    """Fit tracks of several subjects.

    Parameters
    ----------
    values
        Of each subject, shape (E, T).
    index
        Of each subject the transients' place in the acquisition, shape (T,).
    angle
        Whether values are angles in rad.

    Returns
    -------
    Tracks or None
        None if all tracks are too short. Too short ones are left out.
    """
    rows, designs, subjects = [], [], []
    for subject, (value, place) in enumerate(zip(values, index, strict=True)):
        if value.size < SHORTEST:
            continue
        track = donors.in_order(value, place)
        if angle:
            track = wander.unwrapped(track)
        rows.append(wander.without_outliers(track))
        designs.append(design(track.size, len(value), int(place[0])))
        subjects.append(subject)
    if not rows:
        return None
    length = max(map(len, rows))
    padded = np.full((len(rows), length), np.nan)
    columns = np.zeros((len(rows), length, designs[0].shape[1]))
    for i, (row, part) in enumerate(zip(rows, designs, strict=True)):
        padded[i, : len(row)], columns[i, : len(row)] = row, part
    return Tracks(np.array(subjects), wander.fit(padded, columns))


def fit_nuisance(training: Path, derivatives: Path, units: Path) -> NuisanceModel:
    """Fit the model to the transients of split train.

    Parameters
    ----------
    training
        Folder of the training set: its index and grid.
    derivatives
        Folder of the preprocessed scans and what was taken from them.
    units
        ``units.tsv``, at least its rows of the training set.

    Raises
    ------
    InputError
        If files are absent or contradict each other, or no scan is to train on.
    """
    from mrs_synthesis.files import read_table

    index = study_index.read(training, training, ("unit", "condition", "transient", "split", "scale"))
    try:
        table = read_table(require(units), ("unit", "folder", "site", "vendor")).set_index("unit")
    except ValueError as error:
        raise InputError(str(error)) from None
    conditions = tuple(json.loads(require(Path(training) / "grid.json").read_text())["conditions"])
    chosen = index[(index["split"] == "train") & (index["condition"] == conditions[0])]
    facts, shifts, phases, places, water = [], [], [], [], []
    sites = {str(unit): str(table.at[unit, "site"]) for unit in chosen["unit"].unique()}
    # Of a seed of its own: the model knows none, and a study drawn anew keeps its donors
    used = subset.subjects(sites, MOST_SCANS, 0, "nuisance", "scans", at_least=FEW_OF_SITE)
    where = chosen.groupby("unit", observed=True).indices
    for unit in used:
        rows = chosen.iloc[where[unit]]
        about = table.loc[unit]
        prefix = Path(derivatives) / about["folder"] / "mrs" / f"{unit}_desc-preproc"
        try:
            raster, arrays = read_unit(prefix)
        except SkippedError as error:
            raise InputError(f"{error}, but the training set has it; assemble again") from None
        kept, wanted = arrays["kept_index"], rows["transient"].to_numpy()
        if arrays["shift_hz"].shape[0] != len(conditions) or wanted.max() >= len(kept):
            raise InputError(f"{prefix}_nuisance.npz: not the transients of the training set; assemble again")
        place = kept[wanted]
        water.append(
            donors.describe(
                arrays["water_fid"][:, wanted],
                place,
                arrays["noise_sd"][:, wanted],
                **raster,
                scale=float(rows["scale"].iloc[0]),
            )
        )
        shifts.append(arrays["shift_hz"][:, wanted])
        phases.append(arrays["phase_rad"][:, wanted])
        places.append(place)
        names = {name: "n/a" if about[name] != about[name] else str(about[name]) for name in ("site", "vendor")}
        facts.append({"unit": unit, "n_transients": len(wanted), **names})
    if not facts:
        raise InputError(f"{training}/index.tsv: no transient of split train, expected some; see the splits")
    found = {"shift_hz": fit_tracks(shifts, places, angle=False), "phase_rad": fit_tracks(phases, places, angle=True)}
    tracks = {name: track for name, track in found.items() if track is not None}
    known = table[["site", "vendor"]].astype(object).where(table[["site", "vendor"]].notna(), "n/a")
    vendors = {str(row["site"]): str(row["vendor"]) for row in known.to_dict("records")}
    return NuisanceModel(conditions, tuple(facts), vendors, tracks, donors.stack(water), len(sites))


def read_unit(prefix: Path) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the raster (dwell_s, frequency_mhz) and the nuisance arrays of a scan, by the start of its files' names.

    Raises
    ------
    SkippedError
        If an earlier stage failed for it.
    InputError
        If a file is absent or damaged.
    """
    sidecar, path = Path(f"{prefix}_svs.json"), Path(f"{prefix}_nuisance.npz")
    try:
        facts = json.loads(require(sidecar).read_text())
        with np.load(require(path), allow_pickle=False) as file:
            arrays = dict(file)
        raster = {
            "dwell_s": 1.0 / float(facts["SpectralWidth"]),
            "frequency_mhz": float(facts["SpectrometerFrequency"][0]),
        }
    except (ValueError, KeyError, TypeError, OSError):
        raise InputError(f"{path}: damaged, or without a sidecar {sidecar.name}; preprocess again") from None
    return raster, arrays


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.nuisance", description=__doc__.splitlines()[0])
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder with what preprocessing measured")
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--output", type=Path, required=True, help="the model, NPZ; a JSON summary goes beside it")
    a = parser.parse_args(argv)
    model = fit_nuisance(a.training, a.derivatives, a.units)
    model.save(a.output)
    of_all = f" of {model.n_scans}" if model.n_scans > len(model.units) else ""
    print(f"{len(model.units)}{of_all} training scans: {model.summary()['state']}", flush=True)


if __name__ == "__main__":
    run(main)
