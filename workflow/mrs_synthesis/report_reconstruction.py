"""The report's sentences on a study of averaged spectra, where reconstructions are compared and nothing is filled up.

Written from the tables' numbers by fixed rules that never assume success, as in `report_words`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrs_synthesis.report_style import missing
from mrs_synthesis.report_words import ALPHA, SLOPE_LIMIT, interval, short, tost_column

if TYPE_CHECKING:
    import pandas as pd


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
    tost = "tost_p" if bias is None else tost_column(bias)[0]
    for row in [] if bias is None else bias[bias["source"] == "reconstruction"].to_dict("records"):
        low, high = row.get("bias_ci_low"), row.get("bias_ci_high")
        text = f"bias {short(row.get('bias_percent'), 2)} % ({interval(low, high)})"
        within = "open"
        if margin is not None and not missing(row.get(tost)):
            beyond = not missing(low) and not missing(high) and (low > margin or high < -margin)
            within = "no" if beyond else "yes" if row[tost] < ALPHA else "open"
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
            words = f"slope {short(slope, 2)} ({interval(row.get('slope_ci_low'), upper)}), "
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
