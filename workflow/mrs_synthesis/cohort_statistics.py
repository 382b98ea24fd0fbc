"""Means and SDs over subjects of two kinds, with bootstrap intervals and a two-sample test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrs_synthesis import two_sample

FEWEST = 3  # subjects for an SD with an interval
MOST_SYNTHETIC = 200  # in an energy test: more draws hardly add to what few real subjects tell
GROUPS = {"test": "held-out real (test)", "train": "training", "synthetic": "synthetic"}
COMPARISONS = {  # what is compared with what
    "test": ("synthetic", "test"),
    "train": ("synthetic", "train"),
    "ceiling": ("train", "test"),
}


@dataclass(frozen=True)
class Group:
    """Subjects of one kind: value, its SD by the Cramer-Rao bound, and site, each (subjects,)."""

    value: np.ndarray
    sd: np.ndarray
    site: np.ndarray

    def of(self, site: str) -> Group:
        """Return those of one site."""
        own = self.site == site
        return Group(self.value[own], self.sd[own], self.site[own])


@dataclass(frozen=True)
class Moments:
    """Number of subjects, mean and variance, and resampled means and variances (resamples,)."""

    n: int
    mean: float
    variance: float
    means: np.ndarray
    variances: np.ndarray


def moments(group: Group, weights: dict[str, float] | None, rng: np.random.Generator, n_resamples: int) -> Moments:
    """Return mean and variance over subjects, as they are and bootstrapped.

    Parameters
    ----------
    group
        The subjects.
    weights
        Of the sites, which the subjects' numbers then do not decide; None: every subject counts the same.
    rng, n_resamples
        Of the bootstrap, over subjects (with weights: of each site).
    """
    sites = [site for site, weight in (weights or {}).items() if weight > 0 and (group.site == site).any()]
    parts = [group.of(site).value for site in sites] if weights else [group.value]
    share = np.array([weights[site] for site in sites] if weights else [1.0])
    n = sum(part.size for part in parts)
    if not n:
        nothing = np.full(n_resamples, np.nan)
        return Moments(0, np.nan, np.nan, nothing, nothing)
    share = share / share.sum()
    mean, variance = np.zeros((n_resamples + 1, len(parts))), np.zeros((n_resamples + 1, len(parts)))
    for k, part in enumerate(parts):
        again = rng.choice(part, (n_resamples, part.size))
        mean[:, k] = [part.mean(), *again.mean(axis=1)]
        if part.size == 1:
            variance[:, k] = np.nan
            continue
        # A resample's variance is too small by (n - 1) / n, for the second time
        variance[:, k] = [part.var(ddof=1), *again.var(axis=1, ddof=1) * part.size / (part.size - 1)]
    centre = mean @ share
    spread = variance @ share + (mean - centre[:, None]) ** 2 @ share
    return Moments(n, float(centre[0]), float(spread[0]), centre[1:], spread[1:])


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(np.where(np.isnan(values), np.inf, values), [2.5, 97.5], method="nearest")
    return tuple(float(end) if np.isfinite(end) else float("nan") for end in (low, high))


def difference(first: Moments, second: Moments) -> tuple[float, float, float]:
    """Return the difference of the means in percent of the second one, and its 95 % interval."""
    if not first.n or not second.n:
        return (float("nan"),) * 3
    with np.errstate(divide="ignore", invalid="ignore"):
        value = 100 * (first.mean / second.mean - 1)
        ends = _interval(100 * (first.means / second.means - 1))
    return (value, *(ends if min(first.n, second.n) >= FEWEST else (np.nan, np.nan)))


def sd_ratio(first: Moments, second: Moments) -> tuple[float, float, float]:
    """Return the ratio of the SDs and its 95 % interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.sqrt(np.divide(first.variance, second.variance))
        ends = _interval(np.sqrt(first.variances / second.variances))
    enough = min(first.n, second.n) >= FEWEST
    return (float(value) if np.isfinite(value) else np.nan, *(ends if enough else (np.nan, np.nan)))


def energy_p(first: Group, second: Group, rng: np.random.Generator, n_permutations: int) -> float:
    """Return p of the energy test; subjects are permuted within sites. NaN where there are too few."""
    if not first.value.size or not second.value.size:
        return float("nan")
    # Draws of a site beyond these are left out; sites without a partner tell nothing
    each = max(FEWEST, MOST_SYNTHETIC // len(np.unique(second.site)))
    first = [first.of(site) for site in np.unique(second.site)]
    values = [part.value[:each] for part in first]
    strata = [part.site[:each] for part in first], second.site
    samples = np.concatenate(values)[:, None, None], second.value[:, None, None]
    if not len(samples[0]):
        return float("nan")
    return two_sample.energy_test(*samples, (np.concatenate(strata[0]), strata[1]), rng, n_permutations).p


def compare(groups: dict[str, Group], rng: np.random.Generator, n_resamples: int = 1000) -> dict[str, float]:
    """Return one row of the table, without site and ratio, of groups named as `GROUPS`."""
    real = np.concatenate([groups["test"].site, groups["train"].site])
    sites = np.unique(np.concatenate([real, groups["synthetic"].site]))
    counted = {str(site): float(np.sum(real == site)) if real.size else 1.0 for site in sites}
    own = {
        name: moments(group, counted if name == "synthetic" else None, rng, n_resamples)
        for name, group in groups.items()
    }
    row: dict[str, float] = {}
    for name, group in groups.items():
        crlb = float(np.median(group.sd)) if group.sd.size else np.nan
        sd = float(np.sqrt(own[name].variance))
        row |= {f"n_{name}": group.value.size, f"mean_{name}": own[name].mean, f"sd_{name}": sd, f"crlb_{name}": crlb}
        if name != "synthetic":
            row[f"sd_{name}_corrected"] = float(np.sqrt(np.maximum(sd**2 - crlb**2, 0.0)))
    for name, (first, second) in COMPARISONS.items():
        for what, found in (("difference", difference), ("sd_ratio", sd_ratio)):
            values = found(own[first], own[second])
            row |= dict(zip((f"{what}_{name}{end}" for end in ("", "_low", "_high")), values, strict=True))
        row[f"p_{name}"] = energy_p(groups[first], groups[second], rng, n_resamples)
    made = groups["synthetic"]
    noisy = made.value + np.nan_to_num(row["crlb_test"]) * rng.standard_normal(made.value.size)
    row["p_test_noise"] = energy_p(Group(noisy, made.sd, made.site), groups["test"], rng, n_resamples)
    return row
