"""The report's interactive figures as plain dictionaries that the page's script hands to plotly.js.

A figure has ``traces`` (plotly's, plus ``when``: in which views a trace is shown, and ``sd``: draw a band), ``layout``,
``layouts`` (each with a ``when``), ``controls`` (buttons or a list per key of ``when``), ``arrays`` (shared numbers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis.report_scans import Transients
from mrs_synthesis.report_style import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    PPM_AXIS,
    PURPLE,
    RED,
    SKY,
    Figure,
    by_default,
    conditions_in,
    control,
    missing,
    pack,
    plain,
    series_name,
    series_rank,
    toggles,
)

if TYPE_CHECKING:
    import pandas as pd


GABA_PPM = (2.6, 4.2)
REGIONS = (("whole", "whole"), ("gaba", "GABA region"))
NO_SD = {"xaxis": {"anchor": "y"}, "yaxis": {"domain": [0, 1]}, "yaxis2": {"visible": False}}


def spectra_figure(statistics: dict[str, Transients]) -> Figure | None:
    """Show mean and SD over transients per unit, condition and series; `statistics` as of `report_scans`, by unit.

    Over all units there are the SD of single transients and that between scans. The lower panel shows the SD, or each
    mean's difference from the real one. Views can be zoomed to the GABA region, and means broadened by the page's
    script, which needs a trace's ``mhz``.
    """
    if not statistics:
        return None
    single = all(found.single for found in statistics.values())
    everything = statistics
    if len(statistics) > 1:
        between = {} if single else {"scans": pooled(statistics, between=True)}
        everything = {"all": pooled(statistics), **between, **statistics}
    series = sorted(
        {name for unit in everything.values() for name, _ in unit.series},
        key=lambda name: (series_rank(name.split("|")[0]), name),
    )
    conditions = conditions_in(condition for unit in everything.values() for _, condition in unit.series)
    arrays, traces, apart = {}, [], "real" in series and len(series) > 1
    for number, (unit, (ppm, found, mhz)) in enumerate(everything.items()):
        arrays[f"ppm{number}"] = pack(ppm)
        for name in series:
            for condition in conditions:
                if (name, condition) not in found:
                    continue
                mean, sd, n = found[name, condition]
                key = f"{number}.{name}.{condition}"
                of_mean = f"0.{name}.{condition}.mean" if unit == "scans" else f"{key}.mean"
                arrays.setdefault(of_mean, pack(mean))
                source, _, decoder = name.partition("|")
                line = {
                    "color": COLOURS.get(source, GREY),
                    "width": 1.6,
                    "dash": "dot" if decoder == "mean" else "solid",
                }
                common = {
                    "when": {"unit": unit, "condition": condition, "series": name},
                    "x": {"ref": f"ppm{number}"},
                    "mode": "lines",
                    "line": line,
                    "name": f"{'real' if source == 'real' else series_name(source, decoder)}, n = {n}",
                }
                lower = {"yaxis": "y2", "xaxis": "x", "showlegend": False}
                traces.append(common | {"y": {"ref": of_mean}, "mhz": mhz})
                if n > 1:
                    arrays[f"{key}.sd"] = pack(sd)
                    traces[-1]["sd"] = {"ref": f"{key}.sd"}
                    when = common["when"] | ({"lower": "sd"} if apart else {})
                    traces.append(common | lower | {"when": when, "y": {"ref": f"{key}.sd"}})
                if source != "real" and ("real", condition) in found:
                    real = of_mean.replace(f".{name}.", ".real.")
                    rest = {"y": {"minus": [{"ref": of_mean}, {"ref": real}]}, "mhz": mhz}
                    traces.append(common | lower | rest | {"when": common["when"] | {"lower": "difference"}})
    shown = [s for s in series if s.endswith("|sampled")] or series
    height = f"real part / {'OFF ' if 'OFF' in conditions else ''}maximum"
    mean_of = f"mean of {len(statistics)} scans, SD"
    words = {"all": f"{mean_of} {'between scans' if single else 'of single transients'}"}
    words["scans"] = f"{mean_of} between scans"
    panels = [("sd", "SD"), ("difference", "difference from real")]
    chips = [
        {
            "value": name,
            "label": "real" if name == "real" else series_name(*name.split("|")),
            "on": name == "real" or name in shown[-1:],
            "colour": COLOURS.get(name.split("|")[0], GREY),
            "dash": name.endswith("|mean"),
        }
        for name in series
    ]
    lone = single and len(everything) == 1
    without = [
        {"unit": unit} | ({"lower": "sd"} if apart else {}) for unit, found in everything.items() if found.single
    ]
    layouts = [{"when": when, "layout": NO_SD} for when in without]
    layouts.append({"when": {"unit": "scans"}, "layout": {"yaxis2": {"title": {"text": "SD between scans"}}}})
    rest = {"title": {"text": "difference from real"}, "rangemode": "normal", "zeroline": True, "zerolinecolor": GREY}
    layouts.append({"when": {"lower": "difference"}, "layout": {"yaxis2": rest}})
    return {
        "id": "spectra",
        "arrays": arrays,
        "traces": traces,
        "controls": [
            control("unit", "Subject", [(u, words.get(u, u)) for u in everything], kind="select"),
            control("condition", "Condition", [(c, c) for c in by_default(conditions)]),
            toggles("series", "Show", chips),
            *([] if lone else [toggles("band", "Band", [{"value": "sd", "label": "SD", "on": True}])]),
            *([control("lower", "Lower panel", panels[::-1] if lone else panels)] if apart else []),
            *([control("region", "Region", REGIONS)] if "DIFF" in conditions else []),
            control("broadening", "Line broadening for display", [(hz, f"{hz} Hz") for hz in ("0", "3", "6")]),
        ],
        "zooms": {"gaba": GABA_PPM},
        "layouts": layouts if apart else layouts[:-1],
        "layout": {
            "height": 600,
            "hovermode": "x",
            "showlegend": True,
            "xaxis": PPM_AXIS | {"anchor": "y2", "hoverformat": ".3f"},
            "yaxis": {
                "domain": [0.38, 1],
                "title": {"text": height},
                "hoverformat": ".4g",
            },
            "yaxis2": {
                "domain": [0, 0.3],
                "title": {"text": "SD between scans" if single else "SD of transients"},
                "rangemode": "tozero",
                "hoverformat": ".4g",
            },
        },
    }


def pooled(statistics: dict[str, Transients], between: bool = False) -> Transients:
    """Return the mean of the units' means, and the root of the mean of their variances.

    `between`, and where every unit is a single average: the SD of the units' means, and the number of units.
    """
    axis = next(iter(statistics.values())).ppm
    gathered: dict = {}
    for ppm, found, _ in statistics.values():
        for key, (mean, sd, n) in found.items():
            gathered.setdefault(key, []).append((np.interp(axis, ppm, mean), np.interp(axis, ppm, sd), n))
    together = {}
    for key, parts in gathered.items():
        means, sds, counts = zip(*parts, strict=True)
        sd = np.sqrt(np.mean(np.square(sds), axis=0))
        n = int(np.sum(counts))
        if len(counts) > 1 and (between or n == len(counts)):
            sd, n = np.std(means, axis=0, ddof=1), len(counts)
        together[key] = (np.mean(means, axis=0), sd, n)
    return Transients(axis, together, float(np.mean([unit.mhz for unit in statistics.values()])))


def fits_figure(cells: dict[str, list[dict[str, Any]]]) -> Figure | None:
    """Show data, fit, baseline and residual of chosen cells by unit (as `report_data.fitted_cells`)."""
    cells = {unit: found for unit, found in cells.items() if found}
    if not cells:
        return None
    arrays, traces, names = {}, [], {}
    for number, (unit, found) in enumerate(cells.items()):
        for cell in found:
            name = series_name(cell["source"], cell.get("decoder"))
            if not missing(cell.get("n_total")) and cell["source"] not in ("reference", "reconstruction"):
                n_real, n_total = int(cell["n_real"]), int(cell["n_total"])
                name += f": {n_real}" if n_real == n_total else f": {n_real} + {n_total - n_real}"
            label = names.setdefault((cell["source"], str(cell.get("decoder"))), name)
            for condition, (ppm, data, fit, baseline) in cell["curves"].items():
                key = f"{number}.{cell['cell']}.{condition}"
                axis = arrays.setdefault(f"ppm{number}.{condition}", pack(ppm))
                scale = float(np.max(np.abs(data), initial=0.0)) or 1.0
                del axis
                offset = 1.08 * float(np.max(data) / scale) + float(np.max(np.abs(data - fit)) / scale)
                when = {"unit": unit, "condition": condition, "cell": label}
                parts = (
                    ("data", data / scale, {"color": BLACK, "width": 1.1}),
                    ("fit", fit / scale, {"color": RED, "width": 1.6}),
                    ("baseline", baseline / scale, {"color": BLUE, "width": 1.6, "dash": "dash"}),
                    ("residual (shifted up)", (data - fit) / scale + offset, {"color": GREY, "width": 1.0}),
                )
                for part, values, line in parts:
                    arrays[f"{key}.{part}"] = pack(values)
                    traces.append(
                        {
                            "when": when,
                            "x": {"ref": f"ppm{number}.{condition}"},
                            "y": {"ref": f"{key}.{part}"},
                            "mode": "lines",
                            "line": line,
                            "name": part,
                        }
                    )
    conditions = conditions_in(trace["when"]["condition"] for trace in traces)
    ordered = sorted(names.items(), key=lambda item: series_rank(item[0][0]))
    return {
        "id": "fits",
        "arrays": arrays,
        "traces": traces,
        "controls": [
            control("unit", "Subject", [(unit, unit) for unit in cells], kind="select"),
            control("condition", "Condition", [(c, c) for c in by_default(conditions)]),
            control("cell", "Spectrum", [(name, name) for _, name in ordered], kind="select"),
        ],
        "layout": {
            "height": 470,
            "showlegend": True,
            "xaxis": PPM_AXIS | {"hoverformat": ".3f"},
            "yaxis": {"title": {"text": "real part / largest value"}, "hoverformat": ".4g"},
        },
    }


def losses_figure(losses: pd.DataFrame | None) -> Figure | None:
    """Training curves: every numeric column against the first one (epoch or step); columns alike share a panel."""
    if losses is None or losses.shape[1] < 2 or not len(losses):
        return None
    axis, names = losses.columns[0], [c for c in losses.columns[1:] if losses[c].dtype.kind in "fi"]
    groups: dict[str, list[str]] = {}
    for name in names:
        short = name.lower()
        group = next((label for key, label in PANELS if key in short), "loss")
        groups.setdefault(group, []).append(name)
    traces = []
    for group, members in groups.items():
        for i, name in enumerate(members):
            held_out = any(word in name.lower() for word in ("val", "test"))
            colour = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK)[(i // 2 if len(members) > 3 else i) % 7]
            traces.append(
                {
                    "when": {"panel": group},
                    "x": losses[axis].tolist(),
                    "y": [None if v != v else float(f"{v:.5g}") for v in losses[name]],
                    "mode": "lines",
                    "name": name,
                    "line": {"color": colour, "width": 1.8, "dash": "dash" if held_out else "solid"},
                }
            )
    return {
        "id": "losses",
        "arrays": {},
        "traces": traces,
        "controls": [control("panel", "Quantity", [(g, g) for g in groups])] if len(groups) > 1 else [],
        "layout": {
            "height": 380,
            "showlegend": True,
            "xaxis": {"title": {"text": axis}},
            "yaxis": {"title": {"text": "value"}},
        },
    }


PANELS = (
    ("reconstruction", "reconstruction"),
    ("kl", "KL divergence"),
    ("rate", "learning rate"),
    ("lr", "learning rate"),
    ("beta", "weight of the KL divergence"),
    ("sigma", "noise SD of the decoder"),
    ("active", "active latent dimensions"),
)
SYMBOLS_OF = {"ON": ("diamond-open", "x-open")}  # kept, rejected
QC_PANELS = (
    ("shift_hz", "shift / Hz"),
    ("phase_deg", "phase / °"),
    ("snr", "SNR"),
    ("fwhm_hz", "FWHM / Hz"),
)


def qc_figure(tables: dict[str, pd.DataFrame]) -> Figure | None:
    """Shift, phase, SNR and line width of every transient by unit, of averages by scan; rejected ones are crosses."""
    panels = [(c, label) for c, label in QC_PANELS if any(c in t for t in tables.values())]
    if not panels:
        return None
    single = all(table["transient"].nunique() < 2 for table in tables.values())
    if single:  # averages: scans side by side say more than one point each
        import pandas as pd

        tables = {"all": pd.concat([table.assign(transient=unit) for unit, table in tables.items()])}
    traces = []
    colours = {"OFF": BLUE, "ON": RED, "UNEDITED": BLUE}
    for unit, table in tables.items():
        for condition in conditions_in(table["condition"]):
            rows = table[table["condition"] == condition]
            for kept in (1, 0):
                part = rows[rows["kept"].astype(int) == kept]
                if not len(part):
                    continue
                for i, (column, _) in enumerate(panels):
                    if column not in part:
                        continue
                    trace = {
                        "when": {"unit": unit},
                        "x": part["transient"].tolist(),
                        "y": pack(part[column].astype(float)),
                        "xaxis": "x",
                        "yaxis": f"y{i + 1}" if i else "y",
                        "mode": "markers",
                        "marker": {
                            "color": colours.get(condition, GREY),
                            "symbol": SYMBOLS_OF.get(condition, ("circle", "x"))[not kept],
                            "size": 5 if kept else 8,
                            "opacity": 0.75 if kept else 1,
                        },
                        "name": f"{condition}, {'kept' if kept else 'rejected'}",
                        "showlegend": i == 0,
                    }
                    if not kept and "reason" in part:
                        trace["text"] = [plain(str(reason)) for reason in part["reason"].fillna("no reason given")]
                    traces.append(trace)
    height = 1 / len(panels)
    axes = {
        f"yaxis{i + 1}" if i else "yaxis": {
            "domain": [1 - (i + 1) * height + 0.03 * (i < len(panels) - 1), 1 - i * height - 0.02],
            "title": {"text": label},
        }
        for i, (_, label) in enumerate(panels)
    }
    last = f"y{len(panels)}" if len(panels) > 1 else "y"
    return {
        "id": "transients",
        "arrays": {},
        "traces": traces,
        "controls": [control("unit", "Subject", [(unit, unit) for unit in tables], kind="select")],
        "layout": {
            "height": 150 * len(panels) + 90,
            "showlegend": True,
            "xaxis": {"title": {"text": "" if single else "transient (in order of acquisition)"}, "anchor": last},
            **axes,
        },
    }
