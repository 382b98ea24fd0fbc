"""The report's summary: sentences written from the tables' numbers by fixed rules that never assume success.

Rules, also printed on the page:

- A filling is *better* than a comparator if its whole confidence interval of N_eff lies above the comparator's; *not
  better* if its N_eff is not larger; else *not shown to be better*.
- A filling is *worth it* for a metabolite only if it is better than the real transients alone and than every null
  control that was run, and if the slope of its estimates on the reference is at least 0.8. Shrinking everybody to the
  mean gives small errors, and a slope near 0.
- A missing number never counts as better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_data import CONTROLS, SOURCE_NAMES, SYNTHETIC, Study
from mrs_synthesis.report_style import missing, series_name, series_rank

if TYPE_CHECKING:
    import pandas as pd

SLOPE_LIMIT = 0.8
ALPHA = 0.05
BETTER, NOT_BETTER, OPEN, UNKNOWN = "better", "not better", "not shown to be better", "unknown"
MARKS = {BETTER: "good", NOT_BETTER: "poor", OPEN: "unsure", UNKNOWN: "unsure"}


@dataclass(frozen=True)
class Worth:
    """N_eff of one series for one metabolite, with its interval, and the slope beside it."""

    source: str
    decoder: Any
    value: float
    low: float
    high: float
    slope: float
    n_real: float = float("nan")
    clipped: str = "no"

    @property
    def name(self) -> str:
        """The series in words."""
        return series_name(self.source, self.decoder)

    @property
    def number(self) -> str:
        """N_eff to three digits, marked where it was cut at the learning curve's ends."""
        return marked(self.value, self.clipped)

    @property
    def interval(self) -> str:
        """The 95 % interval of N_eff."""
        return _interval(self.low, self.high, 3)

    def text(self) -> str:
        """N_eff with its interval and, where known, slope, as the tables have them, to three digits."""
        slope = "" if missing(self.slope) else f", slope {short(self.slope, 2)}"
        return f"N_eff {self.number} ({self.interval}){slope}"


def short(value: Any, digits: int = 3) -> str:
    """Return a number with `digits` significant digits and no exponent where that is readable; ``n/a`` if missing."""
    if missing(value):
        return "n/a"
    if isinstance(value, str):
        return value
    value = float(value)
    if value == float("inf") or value == -float("inf"):
        return "∞" if value > 0 else "−∞"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.{digits}g}"
        return f"{value:.0f}" if "e" in text else text
    return f"{value:.{digits - 1}e}"


def marked(value: Any, clipped: Any) -> str:
    """Return N_eff to three digits, with a sign if it was cut there (`clipped` is low or high)."""
    return {"low": "≤ ", "high": "≥ "}.get(clipped, "") + short(value)


def compare(series: Worth, other: Worth | None) -> str:
    """Return whether `series` is worth more transients than `other`, by the rule of this module."""
    if other is None or missing(series.value) or missing(other.value):
        return UNKNOWN
    if series.value <= other.value:
        return NOT_BETTER
    if missing(series.low) or missing(other.high):
        return OPEN
    return BETTER if series.low > other.high else OPEN


def worths(table: pd.DataFrame, measure: str) -> list[Worth]:
    """Return the rows of `effective_transients` for one measure, in the usual order of sources."""
    rows = table[table["measure"] == measure].to_dict("records")
    rows.sort(key=lambda row: (series_rank(row["source"]), str(row.get("decoder"))))
    nan = float("nan")
    return [
        Worth(
            row["source"],
            row.get("decoder"),
            row["n_eff"],
            row.get("n_eff_ci_low", nan),
            row.get("n_eff_ci_high", nan),
            row.get("slope", nan),
            row.get("n_real", nan),
            str(row.get("n_eff_clipped")),
        )
        for row in rows
    ]


def verdict(found: Sequence[Worth], n_real: float) -> dict[str, Any]:
    """Judge the synthetic fillings of one metabolite.

    Returns
    -------
    dict
        ``kind`` (yes, no, open), ``text`` (sentences) and ``rows`` (per filling: worth, and comparisons by name).
    """
    alone = next((w for w in found if w.source == "real" and w.n_real == n_real), None)
    controls = [w for w in found if w.source in CONTROLS]
    rows = []
    for series in (w for w in found if w.source in SYNTHETIC):
        against = {"real": compare(series, alone)} | {c.source: compare(series, c) for c in controls}
        keeps_slope = not missing(series.slope) and series.slope >= SLOPE_LIMIT
        worth_it = keeps_slope and all(result == BETTER for result in against.values()) and bool(controls)
        ruled_out = NOT_BETTER in against.values() or (not missing(series.slope) and not keeps_slope)
        judged = {"keeps_slope": keeps_slope, "worth_it": worth_it, "ruled_out": ruled_out}
        rows.append({"worth": series, "against": against} | judged)
    if not rows:
        return {"kind": "open", "text": "no synthetic filling was evaluated.", "rows": []}
    good = [row["worth"] for row in rows if row["worth_it"]]
    undecided = [row for row in rows if not row["ruled_out"]]
    best = max(undecided or rows, key=lambda row: -1.0 if missing(row["worth"].value) else row["worth"].value)
    if good:
        text = (
            f"{_count(len(good), len(rows))} worth more than the {short(n_real)} real transients alone and than every "
            f"null control, with a slope of at least {SLOPE_LIMIT}: " + "; ".join(f"{w.name}: {w.text()}" for w in good)
        )
        return {"kind": "yes", "text": text + ".", "rows": rows}
    reasons = []
    against = best["against"]
    for result in (NOT_BETTER, OPEN, UNKNOWN):
        names = [_comparator(source, n_real) for source, found_result in against.items() if found_result == result]
        if names:
            word = {UNKNOWN: "not comparable with"}.get(result, f"{result} than")
            reasons.append(f"{word} {_join(names)}")
    if not controls:
        reasons.append("not compared with any null control")
    slope = best["worth"].slope
    if missing(slope):
        reasons.append("without a slope (it needs three subjects), so that lost differences would not show")
    elif not best["keeps_slope"]:
        reasons.append(f"with a slope of {short(slope, 2)}, below {SLOPE_LIMIT}: differences between subjects are lost")
    others = [w for w in (alone, *controls) if w is not None]
    first = "no filling is shown to be worth it; the nearest" if undecided else "even the filling of largest N_eff"
    text = f"{first}, {best['worth'].name} ({best['worth'].text()}), is " + "; ".join(reasons)
    strongest = max(others, key=lambda w: -1.0 if missing(w.value) else w.value, default=None)
    if strongest is not None:
        text += f". For comparison, {_comparator(strongest.source, n_real)}: {strongest.text()}"
    return {"kind": "open" if undecided else "no", "text": text + ".", "rows": rows}


def _comparator(source: str, n_real: float) -> str:
    if source == "real":
        return f"the {short(n_real)} real transients alone"
    return f"the {SOURCE_NAMES[source]} control"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]


def _count(n: int, total: int) -> str:
    return f"{n} of {total} synthetic fillings {'is' if n == 1 else 'are'}"


def lead(verdicts: dict[str, dict[str, Any]]) -> str:
    """Return the page's first sentence."""
    if not verdicts:
        return "This study holds no comparison of synthetic fillings with real transients."
    good = [name for name, verdict in verdicts.items() if verdict["kind"] == "yes"]
    if not good:
        return (
            f"For none of the {len(verdicts)} metabolite ratios was any synthetic filling shown to be worth more than "
            "both the real transients alone and every null control while keeping the differences between subjects."
        )
    return (
        f"For {len(good)} of {len(verdicts)} metabolite ratios ({', '.join(good)}) at least one synthetic filling was "
        "worth more than the real transients alone and than every null control, and kept the differences between "
        "subjects. " + ("For the others none was." if len(good) < len(verdicts) else "")
    ).strip()


def bias_sentences(table: pd.DataFrame | None, margin: float | None) -> list[str]:
    """Return what the table of biases says of the fillings and reconstructions, counted over metabolites and series."""
    if table is None:
        return []
    sentences = []
    for kind, sources in (("synthetic filling", SYNTHETIC), ("reconstruction", ("reconstruction",))):
        rows = table[table["source"].isin(sources)]
        if not len(rows):
            continue
        known = rows.dropna(subset=["bias_percent"])
        text = f"{kind.capitalize()}: {len(rows)} pair{'s' * (len(rows) != 1)} of metabolite ratio and series"
        if len(known):
            worst = known.loc[known["bias_percent"].abs().idxmax()]
            text += (
                f"; the largest bias is {short(worst['bias_percent'])} % "
                f"({worst['measure']}, {series_name(worst['source'], worst.get('decoder'))})"
            )
        if "tost_p" in rows and margin is not None:
            shown = int((rows["tost_p"] < ALPHA).sum())
            text += (
                f"; bias shown to lie within ±{short(margin)} % (two one-sided tests, p < {ALPHA}, "
                f"not corrected for their number) for {shown} of {len(rows)}"
            )
        sentences.append(text + ".")
    return sentences + _crlb_sentence(table)


def reconstruction_verdicts(
    bias: pd.DataFrame | None, by_site: pd.DataFrame | None, margin: float | None
) -> dict[str, dict[str, str]]:
    """Judge the reconstructions of each metabolite ratio by bias and slope.

    Returns
    -------
    dict
        By measure: ``kind`` (yes: bias shown to lie within the margin and slope of at least 0.8; no: an interval lies
        beyond either; else open), ``bias`` and ``slope`` (kinds of either), ``text``.
    """
    found = {}
    for row in [] if bias is None else bias[bias["source"] == "reconstruction"].to_dict("records"):
        low, high = row.get("bias_ci_low"), row.get("bias_ci_high")
        text = f"bias {short(row.get('bias_percent'), 2)} % ({_interval(low, high)})"
        within = "open"
        if margin is not None and not missing(row.get("tost_p")):
            beyond = not missing(low) and not missing(high) and (low > margin or high < -margin)
            within = "no" if beyond else "yes" if row["tost_p"] < ALPHA else "open"
            words = {"yes": "shown to lie within", "open": "not shown to lie within", "no": "beyond"}
            text += f", {words[within]} ±{short(margin)} %"
        if by_site is not None:
            own = by_site[(by_site["measure"] == row["measure"]) & (by_site["source"] == "reconstruction")]
            own = own.dropna(subset=["bias_percent"]).sort_values("bias_percent")
            if len(own) > 1:
                ends = [f"{short(r['bias_percent'], 2)} % ({r['site']})" for _, r in own.iloc[[0, -1]].iterrows()]
                text += f"; by site from {ends[0]} to {ends[1]}"
        slope, upper = row.get("slope"), row.get("slope_ci_high")
        if missing(slope):
            kept, words = "open", "no slope (it needs three subjects), so that lost differences would not show"
        else:
            words = f"slope {short(slope, 2)} ({_interval(row.get('slope_ci_low'), upper)}), "
            if slope >= SLOPE_LIMIT:
                kept, words = "yes", words + f"at least {SLOPE_LIMIT}: differences between subjects are kept"
            elif missing(upper) or upper < SLOPE_LIMIT:
                kept = "no"
                words += f"below {SLOPE_LIMIT}: differences between subjects are lost, at least partly"
            else:
                kept, words = "open", words + "differences between subjects are not shown to be kept"
        kinds = {within, kept}
        kind = "no" if "no" in kinds else "open" if "open" in kinds else "yes"
        found[row["measure"]] = {"kind": kind, "bias": within, "slope": kept, "text": f"{text}; {words}."}
    return found


def reconstruction_lead(verdicts: dict[str, dict[str, str]], margin: float | None) -> str:
    """Return the first sentences of a page of reconstructions."""
    start = (
        "Every scan is one averaged spectrum, so that nothing is filled up: each is compared with its reconstruction"
    )
    if not verdicts:
        return f"{start}. No bias was evaluated."
    n = len(verdicts)
    within, kept = (sum(v[key] == "yes" for v in verdicts.values()) for key in ("bias", "slope"))
    parts = [] if margin is None else [f"shows a bias within ±{short(margin)} % for {within} of {n} metabolite ratios"]
    parts.append(f"keeps the differences between subjects (slope of at least {SLOPE_LIMIT}) for {kept} of {n}")
    return f"{start}. The reconstruction {' and '.join(parts)}."


def _interval(low: Any, high: Any, digits: int = 2) -> str:
    return "no interval" if missing(low) or missing(high) else f"{short(low, digits)} to {short(high, digits)}"


def _crlb_sentence(table: pd.DataFrame) -> list[str]:
    """Return how far errors exceed the fits' Cramer-Rao bounds, for fillings beside real transients."""
    if "error_to_crlb" not in table:
        return []
    medians = {
        name: table.loc[table["source"].isin(sources), "error_to_crlb"].median()
        for name, sources in (("synthetic fillings", SYNTHETIC), ("real transients", ("real",)))
    }
    if missing(medians["synthetic fillings"]):
        return []
    parts = [f"{short(value, 2)} for {name}" for name, value in medians.items() if not missing(value)]
    text = "RMS error over the fits' Cramer-Rao bound (median over metabolite ratios and series): "
    return [
        text + ", ".join(parts) + ". The bound takes transients for independent, which synthetic ones are not, "
        "so that it is no precision for them."
    ]


def notices(study: Study) -> list[dict[str, str]]:
    """Return the banners that qualify everything on the page: kind (plain, warn, bad), title, text."""
    found = []
    if study.within_one_subject:
        text = "Training and test transients come from the same subjects (the data were split by transients)."
        text += " Nothing here says how the method does on a new subject, and a control's population is these subjects."
        found.append({"kind": "warn", "title": "Within one subject.", "text": text})
    if study.is_phantom:
        text = "The data are simulated, with known truth. Results on a scanner's data may differ."
        found.append({"kind": "plain", "title": "Digital phantom.", "text": text})
    test = study.units[(study.units["split"] == "test") & ~study.units["failed"]]
    subjects = (test if len(test) else study.units[~study.units["failed"]]).get("subject")
    if subjects is not None and subjects.nunique() < 10 and not study.within_one_subject:
        n = subjects.nunique()
        text = f"{n} evaluated subject{'s' * (n != 1)}: intervals are wide, agreement between subjects barely defined."
        found.append({"kind": "warn", "title": "Few subjects.", "text": text})
    failed = study.units[study.units["failed"]]["unit"].tolist()
    if failed:
        text = (
            f"{len(failed)} of {len(study.units)} scans failed and are in no number on this page; see Failed subjects."
        )
        found.append({"kind": "bad", "title": "Failed scans.", "text": text})
    return found
