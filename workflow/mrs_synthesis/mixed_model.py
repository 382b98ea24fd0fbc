"""Bias by vendor and site: a mixed model of the percent differences, with its variance components.

Percent differences of one series (metabolite ratio, source, n_real, n_total), averaged over the replicates and scans
of a subject, are modelled as intercept + vendor (fixed) + site (random) + subject (residual), by REML.
The variance of replicates about their subject is that of single estimates; what it leaves in the means is taken off
the residual to give the variance between subjects. With balanced replicates this is the full three-level model.

The ratio of the variances of sites and of subjects' means has the exact interval of Harville & Fenech (Biometrics
41:137, 1985; Wald's of 1940 where there is one vendor), and the p-value of `sd_site` is that of the F test of sites
within vendors. Fewer than three sites have no variance to estimate: they are compared as fixed effects. What was done
instead of the mixed model is said in `method` and `note`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import estimates
from mrs_synthesis.stage import InputError, require, run

if TYPE_CHECKING:
    import pandas as pd

FEWEST_SITES = 3  # for a variance between sites
LARGEST_RATIO = 1e6  # of variances
MIXED, FIXED, ONE, NOTHING = "mixed model", "fixed effects", "one site", "not estimated"
DESCRIPTIONS = {
    "term": {
        "Description": "intercept: mean percent difference (with vendors or fixed sites: of the one named in note); "
        "`vendor X - Y`, `site X - Y`: difference of the means; sd_site, sd_subject, sd_residual: SD between sites of "
        "a vendor, between subjects of a site, between replicates of a subject; icc_site: share of the site's variance "
        "in that of subjects' means"
    },
    "estimate": {"Description": "Estimate, in percent of the reference but for icc_site"},
    "ci_low": {"Description": "Lower end of the 95 % interval: t (sites less vendors as degrees of freedom) or exact"},
    "ci_high": {"Description": "Upper end of this interval"},
    "p": {"Description": "Two-sided p-value that it is 0; of sd_site the F test of sites within vendors"},
    "n_sites": {"Description": "Sites"},
    "n_vendors": {"Description": "Vendors"},
    "method": {
        "Description": "How it was estimated",
        "Levels": {
            MIXED: "Vendor fixed, site random, REML",
            FIXED: "Two sites: compared as fixed effects",
            ONE: "One site: mean over subjects",
            NOTHING: "Too few subjects, see note",
        },
    },
    "note": {"Description": "What could not be estimated or told apart, and which level the intercept stands for"},
}
COLUMNS = (
    *(*estimates.SERIES, "term", "estimate", "ci_low", "ci_high", "p"),
    *("n_sites", "n_vendors", "n", "method", "note"),
)


@dataclass(frozen=True)
class Subjects:
    """Percent differences of the subjects of one series.

    Attributes
    ----------
    mean
        Mean over a subject's values, shape (subjects,).
    count
        Number of its values, shape (subjects,).
    site, vendor
        Names, shape (subjects,).
    within
        Variance of single values about their subject's mean, and its degrees of freedom; NaN without repeated values.
    """

    mean: np.ndarray
    count: np.ndarray
    site: np.ndarray
    vendor: np.ndarray
    within: tuple[float, int]

    @property
    def sites(self) -> list[str]:
        """The sites, sorted."""
        return sorted(set(self.site))

    @property
    def vendors(self) -> list[str]:
        """The vendors, sorted."""
        return sorted(set(self.vendor))


def gather(rows: pd.DataFrame) -> Subjects:
    """Return the subjects of a series' rows, with columns subject, site, vendor, per_tcr, reference.

    A subject measured at two sites is one at each: visits count as different subjects.
    """
    rows = rows[(rows["reference"] > 0) & rows["per_tcr"].notna()]
    percent = 100.0 * (rows["per_tcr"] / rows["reference"] - 1.0)
    groups = percent.groupby([rows["vendor"], rows["site"], rows["subject"]], sort=True)
    count, mean = groups.size(), groups.mean()
    freedom = int((count - 1).sum())
    squares = float(((percent - groups.transform("mean")) ** 2).sum())
    return Subjects(
        mean.to_numpy(float),
        count.to_numpy(float),
        mean.index.get_level_values("site").to_numpy(object),
        mean.index.get_level_values("vendor").to_numpy(object),
        (squares / freedom, freedom) if freedom else (math.nan, 0),
    )


class Grouped:
    """Generalised least squares of ``y = fixed b + group + residual`` for any ratio of the two variances.

    Parameters
    ----------
    y
        Shape (n,).
    fixed
        Design matrix of the fixed effects, shape (n, p), of full rank.
    group
        Number of each observation's group, 0-based, shape (n,).
    """

    def __init__(self, y: np.ndarray, fixed: np.ndarray, group: np.ndarray) -> None:
        indicators = np.eye(group.max() + 1)[group]
        both = np.column_stack([fixed, y])
        self.size, self.products, self.sums = indicators.sum(axis=0), both.T @ both, indicators.T @ both
        whole = np.column_stack([fixed, indicators])
        rank = int(np.linalg.matrix_rank(whole))
        self.n, self.p = fixed.shape
        self.between, self.freedom = rank - self.p, y.size - rank
        rest = y - whole @ np.linalg.lstsq(whole, y, rcond=None)[0]
        self.residual = float(rest @ rest)  # sum of squares with the groups fixed
        self.exact = self.residual <= 1e-20 * float(y @ y)

    def fit(self, ratio: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the fixed effects, their covariance over the residual variance, and the sum of squares left."""
        weight = ratio / (1 + ratio * self.size)
        m = self.products - (self.sums * weight[:, None]).T @ self.sums
        inverse = np.linalg.inv(m[:-1, :-1])
        b = inverse @ m[:-1, -1]
        return b, inverse, float(m[-1, -1] - m[-1, :-1] @ b)

    def restricted(self, ratio: float) -> float:
        """Return minus twice the restricted log-likelihood at its best residual variance, but for a constant."""
        _, inverse, left = self.fit(ratio)
        spread = np.log1p(ratio * self.size).sum() - np.linalg.slogdet(inverse)[1]
        return (self.n - self.p) * math.log(left) + spread

    def reml(self) -> tuple[float, float]:
        """Return the ratio of the variances, and the residual variance, by REML; the ratio is 0 at its limit."""
        from scipy import optimize

        grid = np.linspace(0.0, math.log1p(LARGEST_RATIO), 60)
        values = [self.restricted(math.expm1(x)) for x in grid]
        best = int(np.argmin(values))
        ends = (grid[max(0, best - 1)], grid[min(grid.size - 1, best + 1)])
        found = optimize.minimize_scalar(
            lambda x: self.restricted(math.expm1(x)), bounds=ends, method="bounded", options={"xatol": 1e-9}
        )
        ratio = math.expm1(found.x) if found.fun < values[0] else 0.0
        return ratio, self.fit(ratio)[2] / (self.n - self.p)

    def pivot(self, ratio: float) -> float:
        """Return what has an F distribution if `ratio` is the true one; it falls with the ratio."""
        return (self.fit(ratio)[2] - self.residual) / self.between / (self.residual / self.freedom)

    def interval(self) -> tuple[float, float]:
        """Return the exact 95 % interval of the ratio."""
        from scipy import optimize, stats

        ends = []
        for level in (0.975, 0.025):
            target = stats.f.ppf(level, self.between, self.freedom)
            if self.pivot(0.0) <= target:
                ends.append(0.0)
            elif self.pivot(LARGEST_RATIO) > target:
                ends.append(math.inf)
            else:
                above = optimize.brentq(
                    lambda x, t=target: self.pivot(math.expm1(x)) - t, 0.0, math.log1p(LARGEST_RATIO), xtol=1e-10
                )
                ends.append(math.expm1(above))
        return ends[0], ends[1]

    def group_p(self) -> float:
        """Return the p-value of the F test that the groups do not differ."""
        from scipy import stats

        return float(stats.f.sf(self.pivot(0.0), self.between, self.freedom))


def terms(data: Subjects) -> tuple[list[dict], str, str]:
    """Return the terms of one series (term, estimate, ci_low, ci_high, p), the method, and a note."""
    n = data.mean.size
    if n < 3 or np.ptp(data.mean) == 0:
        note = "fewer than 3 subjects, or no differences between them"
        return [_term("intercept", float(data.mean.mean()) if n else math.nan)], NOTHING, note
    if len(data.sites) == 1:
        mean, error = float(data.mean.mean()), float(data.mean.std(ddof=1) / math.sqrt(n))
        rows = [_tested("intercept", mean, error, n - 1)]
        return rows + _spread(data, float(data.mean.var(ddof=1)), n - 1), ONE, "one site: nothing to compare"
    if len(data.sites) < FEWEST_SITES:
        return _fixed_sites(data)
    return _mixed(data)


def _mixed(data: Subjects) -> tuple[list[dict], str, str]:
    notes = []
    levels = data.vendors
    if len(levels) > 1 and len(data.sites) - len(levels) < 2:
        notes.append(f"{len(data.sites)} sites of {len(levels)} vendors: vendors cannot be told from sites, left out")
        levels = levels[:1]
    elif len(levels) == 1:
        notes.append(f"one vendor ({levels[0]})")
    fixed = np.column_stack([np.ones(data.mean.size), *(data.vendor == name for name in levels[1:])]).astype(float)
    group = np.searchsorted(data.sites, data.site.astype(str))
    model = Grouped(data.mean, fixed, group)
    if model.freedom < 1 or model.exact:
        rows, method, note = _one_sample(data)
        return rows, method, f"no more subjects than sites: these cannot be told apart; {note}"
    ratio, residual = model.reml()
    b, inverse, _ = model.fit(ratio)
    errors = np.sqrt(residual * np.diag(inverse))
    if ratio == 0:
        notes.append("variance between sites at its limit of 0")
    if len(levels) > 1:
        notes.append(f"intercept of vendor {levels[0]}")
    freedom = len(data.sites) - len(levels)
    rows = [_tested("intercept", b[0], errors[0], freedom)]
    for name, value, error in zip(levels[1:], b[1:], errors[1:], strict=True):
        rows.append(_tested(f"vendor {name} - {levels[0]}", value, error, freedom))
    square, ends, p = model.residual / model.freedom, model.interval(), model.group_p()
    rows.append(_term("sd_site", math.sqrt(ratio * residual), *(math.sqrt(end * square) for end in ends), p))
    rows += _spread(data, residual, model.freedom, square)
    shares = (end / (1 + end) if end < math.inf else 1.0 for end in ends)
    rows.append(_term("icc_site", ratio / (1 + ratio), *shares, p))
    return rows, MIXED, "; ".join(notes)


def _fixed_sites(data: Subjects) -> tuple[list[dict], str, str]:
    """Two sites as fixed effects: Welch's t-test of subjects' means."""
    from scipy import stats

    first, second = data.sites
    parts = [data.mean[data.site == name] for name in (first, second)]
    note = f"2 sites are too few for a variance; intercept of site {first}"
    if len(data.vendors) > 1:
        note += "; each site has its own vendor: site and vendor cannot be told apart"
    if min(part.size for part in parts) < 2:
        rows, method, rest = _one_sample(data)
        return rows, method, f"2 sites, one of a single subject: not compared; {rest}"
    rows = [_tested("intercept", parts[0].mean(), parts[0].std(ddof=1) / math.sqrt(parts[0].size), parts[0].size - 1)]
    test = stats.ttest_ind(parts[1], parts[0], equal_var=False)
    interval = test.confidence_interval(0.95)
    difference = float(parts[1].mean() - parts[0].mean())
    rows.append(_term(f"site {second} - {first}", difference, interval.low, interval.high, test.pvalue))
    freedom = data.mean.size - 2
    square = sum(float(np.sum((part - part.mean()) ** 2)) for part in parts) / freedom
    return rows + _spread(data, square, freedom), FIXED, note


def _one_sample(data: Subjects) -> tuple[list[dict], str, str]:
    n = data.mean.size
    row = _tested("intercept", float(data.mean.mean()), float(data.mean.std(ddof=1) / math.sqrt(n)), n - 1)
    return [row], NOTHING, "intercept: mean over subjects"


def _spread(data: Subjects, variance: float, freedom: int, square: float | None = None) -> list[dict]:
    """Return sd_subject and sd_residual from the variance of subjects' means within sites.

    `square`, `freedom`: mean square whose chi-square interval is taken (None: `variance`).
    """
    within, repeated = data.within
    taken = within * float(np.mean(1.0 / data.count)) if repeated else 0.0
    square = variance if square is None else square
    ends = (max(0.0, end - taken) for end in _chi_square(square, freedom))
    rows = [_term("sd_subject", math.sqrt(max(0.0, variance - taken)), *map(math.sqrt, ends))]
    if repeated:
        rows.append(_term("sd_residual", math.sqrt(within), *map(math.sqrt, _chi_square(within, repeated))))
    return rows


def _chi_square(variance: float, freedom: int) -> tuple[float, float]:
    from scipy import stats

    low, high = stats.chi2.ppf((0.975, 0.025), freedom)
    return variance * freedom / float(low), variance * freedom / float(high)


def _term(name: str, estimate: float, low: float = math.nan, high: float = math.nan, p: float = math.nan) -> dict:
    ends = (float(end) if math.isfinite(end) else math.nan for end in (low, high))
    return (
        {"term": name, "estimate": float(estimate)}
        | dict(zip(("ci_low", "ci_high"), ends, strict=True))
        | {"p": float(p)}
    )


def _tested(name: str, estimate: float, error: float, freedom: int) -> dict:
    """Return a term with the t interval and test of its standard error."""
    from scipy import stats

    if not (math.isfinite(error) and error > 0):
        return _term(name, estimate)
    half = float(stats.t.ppf(0.975, freedom)) * error
    return _term(name, estimate, estimate - half, estimate + half, 2 * stats.t.sf(abs(estimate) / error, freedom))


def mixed_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table, a row per series and term.

    Parameters
    ----------
    rows
        Estimates with the columns reference, site, vendor.
    """
    import pandas as pd

    rows = estimates.with_common_sizes(rows[rows["source"] != "reference"])
    filled = rows[~rows["source"].isin(("real", *estimates.NO_CURVE))]
    sizes = set(filled["n_real"]) | set(filled["n_total"])
    table = []
    for key, part in rows.groupby(list(estimates.SERIES), sort=False, dropna=False):
        if key[2] == "real" and sizes and key[4] not in sizes:
            continue
        data = gather(part)
        found, method, note = terms(data)
        about = {"n_sites": len(data.sites), "n_vendors": len(data.vendors), "n": data.mean.size}
        names = dict(zip(estimates.SERIES, key, strict=True))
        table += [names | term | about | {"method": method, "note": note or None} for term in found]
    return pd.DataFrame(table, columns=list(COLUMNS))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.mixed_model", description=__doc__.splitlines()[0])
    parser.add_argument("--concentrations", type=Path, required=True, help="estimates of every study cell")
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, which says each scan's vendor")
    parser.add_argument("--ratios", nargs="+", help="CONDITION:METABOLITE, e.g. DIFF:GABA+ (default: the usual ones)")
    parser.add_argument("--output", type=Path, required=True, help="table (TSV)")
    a = parser.parse_args(argv)

    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import read_table

    names = (*estimates.SERIES, "unit", "subject", "site", "replicate", "per_tcr")
    concentrations = estimates.read_concentrations(
        a.concentrations, names, lambda part: estimates.of_ratios(part, estimates.wanted_ratios(a.ratios))
    )
    try:
        units = read_table(require(a.units), ("unit", "vendor"))
    except ValueError as error:
        raise InputError(str(error)) from None
    unknown = sorted(set(concentrations["unit"]) - set(units["unit"]))
    if unknown:
        raise InputError(f"{a.units}: no scan {unknown[0]}, which {a.concentrations} has; give the study's own units")
    rows = estimates.with_reference(concentrations, estimates.choose_ratios(a.ratios, concentrations))
    vendor = rows["unit"].map(units.set_index("unit")["vendor"])
    rows = rows.assign(vendor=vendor.fillna("unknown").astype(str), site=rows["site"].fillna("unknown").astype(str))
    table = estimates.with_left_out(mixed_table(rows), estimates.test_units(a.units), visits=True)
    about = (
        "A term of the model of percent differences over vendors, sites and subjects, of one ratio to tCr and source"
    )
    write_described_table(a.output, table, about, DESCRIPTIONS)
    for (method, note), part in table.fillna({"note": ""}).groupby(["method", "note"], sort=False):
        series = part[list(estimates.SERIES)].drop_duplicates()
        print(f"{method}: {len(series)} series{': ' + note if note else ''}", flush=True)


if __name__ == "__main__":
    run(main)
