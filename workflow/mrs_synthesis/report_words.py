"""The report's summary: sentences written from the tables' numbers by fixed rules that never assume success.

Rules, also printed on the page; the tables `comparisons` and `worth` hold the numbers behind them:

- A filling is compared with a comparator within the same subjects (paired). *better* and *worse* are the table's words
  for a difference of errors that is shown, corrected for the number of comparisons; else no difference is shown.
- A filling is *worth it* (yes) only if its errors are shown to be smaller than those of the real transients alone and
  of every null control, and if the slope of its estimates on the reference is at least 0.8. *no*: the slope is lower,
  or its error is not smaller than some comparator's. *open*: neither.
- What was not compared is open, and said to be so; a missing number never counts for a filling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_data import CONTROLS, SOURCE_NAMES, SYNTHETIC, Study
from mrs_synthesis.report_style import metric_source, missing, series_name, series_rank
from mrs_synthesis.report_tables import failures, left_out

if TYPE_CHECKING:
    import pandas as pd

SLOPE_LIMIT = 0.8  # as in `comparisons`, which this module must not import: it has heavier needs
ALPHA = 0.05
KINDS = ("yes", "open", "no")
MARKS = {"better": "good", "worse": "poor", "no difference shown": "unsure"}
NOT_COMPARED = "not compared"
AS_MANY = "as many real transients"  # as the filled-up cell has in all


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


def numbers(row: dict[str, Any]) -> str:
    """Return N_eff with its interval and, where known, the slope, as the tables have them."""
    slope = "" if missing(row.get("slope")) else f", slope {short(row['slope'], 2)}"
    ends = interval(row.get("n_eff_ci_low"), row.get("n_eff_ci_high"), 3)
    return f"N_eff {marked(row.get('n_eff'), row.get('n_eff_clipped'))} ({ends}){slope}"


def judged(rows: Sequence[dict], comparisons: Sequence[dict]) -> list[dict[str, Any]]:
    """Return one entry per synthetic filling of one ratio and n_real, in the usual order.

    Parameters
    ----------
    rows
        Its rows of `worth`, or, where that table is absent, of `effective_transients`; others are left out.
    comparisons
        Its rows of `comparisons`.

    Returns
    -------
    list of dict
        ``row``, ``name``, ``worth`` (yes, no, open), ``reason`` and ``against``: by comparator in words, verdict, mark
        (good, poor, unsure), ratio of errors with its interval, and p.
    """
    found = []
    chosen = [row for row in rows if row["source"] in SYNTHETIC]
    for row in sorted(chosen, key=lambda row: (series_rank(row["source"]), str(row.get("decoder")))):
        own = [c for c in comparisons if (c["source"], str(c["decoder"])) == (row["source"], str(row.get("decoder")))]
        own.sort(key=lambda c: (series_rank(c["against"]), c.get("against_n_real", 0)))
        against = {}
        for c in own:
            name = comparator(c["against"])
            if c["against"] == "real":
                name = "real transients alone" if c.get("against_n_real") == row.get("n_real") else AS_MANY
            against[name] = {
                "verdict": str(c["verdict"]),
                "mark": MARKS.get(c["verdict"], "unsure"),
                "ratio": short(c.get("rmse_ratio"), 2),
                "value": None if missing(c.get("rmse_ratio")) else float(c["rmse_ratio"]),
                "interval": interval(c.get("rmse_ratio_ci_low"), c.get("rmse_ratio_ci_high"), 2),
                "p": short(c.get("p_holm"), 2),
            }
        worth = row.get("worth")
        known = worth in KINDS
        entry = {"row": row, "name": series_name(row["source"], row.get("decoder")), "against": against}
        entry["worth"] = worth if known else "open"
        entry["reason"] = _in_words(str(row.get("reason") or "no reason given")) if known else NOT_COMPARED
        found.append(entry)
    return found


def _in_words(reason: str) -> str:
    """Return a clause of the table `worth` with the controls' names in words."""
    for control in sorted(CONTROLS, key=len, reverse=True):
        reason = reason.replace(f"the control {control}", f"the {comparator(control)}")
    return reason


def verdict(
    rows: Sequence[dict], comparisons: Sequence[dict], n_real: float, others: Sequence[dict] = ()
) -> dict[str, Any]:
    """Judge the synthetic fillings of one metabolite ratio and n_real.

    Parameters
    ----------
    rows, comparisons
        As for `judged`.
    n_real
        Real transients of the cells.
    others
        Rows of `effective_transients` of the real transients alone and the controls, of which the best is named.

    Returns
    -------
    dict
        ``kind`` (yes, no, open), ``compared``, ``text`` (sentences) and ``rows`` (as `judged`).
    """
    entries = judged(rows, comparisons)
    compared = any(entry["reason"] != NOT_COMPARED for entry in entries)
    kind = next((kind for kind in KINDS if any(entry["worth"] == kind for entry in entries)), "open")
    if not entries:
        return {"kind": "open", "compared": False, "text": "no synthetic filling was evaluated.", "rows": []}
    if kind == "yes":
        good = [entry for entry in entries if entry["worth"] == "yes"]
        text = (
            f"{len(good)} of {len(entries)} synthetic fillings {'is' if len(good) == 1 else 'are'} worth more than the "
            f"{short(n_real)} real transients alone and than every null control, with a slope of at least "
            f"{SLOPE_LIMIT}: " + "; ".join(f"{entry['name']}: {numbers(entry['row'])}" for entry in good)
        )
    else:
        nearest = min((entry for entry in entries if entry["worth"] == kind), key=_farness)
        start = {
            "open": "no filling is shown to be worth it; the nearest",
            "no": "no filling is worth it; the one of the largest N_eff",
        }
        first = start[kind] if compared else "no filling was compared with the controls; the one of the largest N_eff"
        text = f"{first}, {nearest['name']} ({numbers(nearest['row'])})"
        text += f": {nearest['reason']}" if compared else ""
    known = [row for row in others if not missing(row.get("n_eff"))]
    if known:
        best = max(known, key=lambda row: row["n_eff"])
        text += f". For comparison, the {comparator(best['source'], best.get('n_real'))}: {numbers(best)}"
    return {"kind": kind, "compared": compared, "text": f"{text}.", "rows": entries}


def _farness(entry: dict[str, Any]) -> tuple[float, float]:
    """Return how far a filling is from being worth it: an open one by its p, else by its N_eff."""
    row = entry["row"]
    p = 1.0 if missing(row.get("p_worst")) or entry["worth"] != "open" else float(row["p_worst"])
    return p, 0.0 if missing(row.get("n_eff")) else -float(row["n_eff"])


def comparator(source: str, n_real: Any = None) -> str:
    """Return a comparator in words: so many real transients, or a control."""
    if source == "real":
        number = "" if missing(n_real) else f"{short(n_real)} "
        return f"{number}real transient{'s' * (n_real != 1)}"
    return f"{SOURCE_NAMES.get(source, source)} control"


def verdicts(
    worth: pd.DataFrame | None, comparisons: pd.DataFrame | None, effective: pd.DataFrame | None
) -> dict[str, dict[int, dict[str, Any]]]:
    """Judge every metabolite ratio and n_real; all tables have a column ``measure``.

    Returns
    -------
    dict
        By measure, then by n_real: as `verdict`.
    """
    table = effective if worth is None else worth
    if table is None:
        return {}
    found: dict[str, dict[int, dict[str, Any]]] = {}
    filled = table[table["source"].isin(SYNTHETIC)]
    for (measure, n_real), rows in filled.groupby(["measure", "n_real"], sort=False):

        def own(part: pd.DataFrame | None, among: Sequence[str], measure=measure, n_real=n_real) -> list[dict]:
            if part is None:
                return []
            part = part[(part["measure"] == measure) & (part["n_real"] == n_real) & part["source"].isin(among)]
            return part.to_dict("records")

        found.setdefault(measure, {})[int(n_real)] = verdict(
            rows.to_dict("records"), own(comparisons, SYNTHETIC), n_real, own(effective, ("real", *CONTROLS))
        )
    return {measure: dict(sorted(by_number.items())) for measure, by_number in found.items()}


def lead(found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Return the page's first sentences; `found` as of `verdicts`."""
    each = [(measure, n, v) for measure, by_number in found.items() for n, v in by_number.items()]
    if not each:
        return "This study holds no comparison of synthetic fillings with real transients."
    if not any(v["compared"] for _, _, v in each):
        return (
            "The synthetic fillings were not compared with the real transients alone and the null controls (the table "
            "worth is absent), so that nothing is said of their worth."
        )
    several = len({n for _, n, _ in each}) > 1
    things = "combinations of metabolite ratio and number of real transients" if several else "metabolite ratios"
    good = [(measure, n) for measure, n, v in each if v["kind"] == "yes"]
    ruled_out = sum(v["kind"] == "no" for _, _, v in each)
    rest = len(each) - len(good) - ruled_out
    if not good:
        text = (
            f"For none of the {len(each)} {things} was any synthetic filling shown to be worth more than both the real "
            "transients alone and every null control while keeping the differences between subjects"
        )
        return f"{text}: ruled out for {ruled_out}, not decided for {rest}."
    if several:
        by_measure: dict[str, list[int]] = {}
        for measure, n in good:
            by_measure.setdefault(measure, []).append(n)
        names = "; ".join(f"{m} from {', '.join(map(str, ns))} real" for m, ns in by_measure.items())
    else:
        names = ", ".join(measure for measure, _ in good)
    return (
        f"For {len(good)} of {len(each)} {things} ({names}) at least one synthetic filling was worth more than the "
        "real transients alone and than every null control, and kept the differences between subjects."
        + (f" For the others: ruled out for {ruled_out}, not decided for {rest}." if ruled_out + rest else "")
    )


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
        column, correction = tost_column(rows)
        if column in rows and margin is not None:
            shown = int((rows[column] < ALPHA).sum())
            text += (
                f"; bias shown to lie within ±{short(margin)} % (two one-sided tests, p < {ALPHA}, {correction}) "
                f"for {shown} of {len(rows)}"
            )
        sentences.append(text + ".")
    return sentences + _crlb_sentence(table)


def site_sentence(table: pd.DataFrame | None) -> list[str]:
    """Return how often the bias of fillings and reconstructions differs between vendors or sites (`mixed_model`)."""
    if table is None:
        return []
    own = table[table["source"].isin([*SYNTHETIC, "reconstruction"])]
    found = []
    for kind in ("vendor", "site"):
        rows = own[own["term"].astype(str).str.startswith(f"{kind} ")].dropna(subset=["p"])
        if len(rows):
            shown = int((rows["p"] < ALPHA).sum())
            found.append(f"between {kind}s, p < {ALPHA} for {shown} of {len(rows)} comparisons")
    if not found:
        return []
    return [f"Bias of fillings and reconstructions {'; '.join(found)} (table mixed_model; not corrected)."]


def tost_column(table: pd.DataFrame) -> tuple[str, str]:
    """Return the column of the equivalence test's p that decides, corrected if there is one, and words for it."""
    if "tost_p_holm" in table:
        return "tost_p_holm", "corrected for their number by Holm's method"
    return "tost_p", "not corrected for their number"


def interval(low: Any, high: Any, digits: int = 2) -> str:
    """Return an interval in words."""
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


def memorised(content: dict[str, Any]) -> list[dict[str, str]]:
    """Return the verdicts on memorisation (memorisation_verdicts.json): name of the source, sentence, mark."""
    found = []
    for one in content.get("verdicts", []):
        source = str(one.get("source"))
        name = metric_source(source, one.get("decoder"))
        if source.startswith("copier"):
            name = f"positive control, {name}"
        mark = "good" if one.get("verdict") == "not nearer" else "poor"
        found.append({"name": name, "text": str(one.get("sentence", one.get("verdict", ""))), "mark": mark})
    return found


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
        text = f"{len(failed)} of {len(study.units)} scans failed and are in no number on this page "
        text += f"({left_out(failures(study))}); see Failed subjects."
        found.append({"kind": "bad", "title": "Failed scans.", "text": text})
    checks = study.table("checks", "unit", "verdict")
    for verdict, kind in (("fail", "bad"), ("warn", "warn")) if checks is not None else ():
        names = checks[checks["verdict"] == verdict]["unit"].nunique()
        if names:
            text = (
                f"{names} of {checks['unit'].nunique()} scans: see the table of checks before believing their numbers."
            )
            found.append({"kind": kind, "title": f"Checks with verdict {verdict}.", "text": text})
    return found
