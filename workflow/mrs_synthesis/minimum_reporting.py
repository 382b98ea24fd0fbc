"""Fill in the minimum-reporting table of MR spectroscopy (MRSinMRS) from headers, tables and the config, site by site.

The items are those of the experts' consensus checklist: Lin et al., Minimum Reporting Standards for in vivo Magnetic
Resonance Spectroscopy (MRSinMRS), NMR Biomed 34:e4484 (2021). What no file holds (shimming, the place of the voxel,
...) is taken from the config's `minimum_reporting`, and else missing: the table says so, and guesses nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

GAMMA_1H = 42.577478518  # MHz/T, CODATA 2018
MISSING = "n/a"
COLUMNS = {
    "section": {"Description": "Section of the checklist MRSinMRS (doi 10.1002/nbm.4484)"},
    "item": {"Description": "Item of the checklist"},
    "site": {"Description": "Site whose scans the value is of"},
    "value": {"Description": "What is known; several values are separated by semicolons; missing where no file says"},
    "from": {"Description": "Where the value was read: header (NIfTI-MRS), sheet, config, table"},
}


@dataclass(frozen=True)
class Site:
    """What is known of one site's scans.

    Attributes
    ----------
    name
        The site.
    headers
        NIfTI-MRS header extension of each raw scan, with ``VoxelMm`` added.
    conversion, preprocessing, concentrations
        Rows of these tables.
    config
        The whole config, defaults included.
    """

    name: str
    headers: Sequence[Mapping[str, Any]]
    conversion: pd.DataFrame
    preprocessing: pd.DataFrame
    concentrations: pd.DataFrame
    config: Mapping[str, Any]

    def header(self, key: str, text: Callable[[Any], str] = str) -> str:
        """Return the different values of a header key over the site's scans."""
        return several(text(header[key]) for header in self.headers if header.get(key) not in (None, "", []))

    def column(self, name: str, text: Callable[[Any], str] = str) -> str:
        """Return the different values of a column of the table of conversions."""
        return several(text(value) for value in self.conversion[name].dropna())

    def stated(self, key: str) -> str:
        """Return what the config states of an item, for all sites or for this one."""
        value = self.config.get("minimum_reporting", {}).get(key, MISSING)
        return str(value.get(self.name, MISSING)) if isinstance(value, Mapping) else str(value)


def several(values: Any) -> str:
    """Return different values in the order of their first appearance, separated by semicolons; ``n/a`` if none."""
    found = list(dict.fromkeys(value for value in values if value and value != MISSING))
    return "; ".join(found) or MISSING


def joined(*parts: str) -> str:
    """Return the parts that are known, separated by commas."""
    return ", ".join(part for part in parts if part and MISSING not in part) or MISSING


def number(value: float, digits: int = 4) -> str:
    """Return a number with so many significant digits, without an exponent."""
    return f"{float(f'{float(value):.{digits}g}'):g}"


def quartiles(values: pd.Series, unit: str = "") -> str:
    """Return median and quartiles of the finite values."""
    known = values[values.abs() < float("inf")].dropna()
    if known.empty:
        return MISSING
    low, middle, high = (number(known.quantile(q), 3) for q in (0.25, 0.5, 0.75))
    return f"{middle}{unit} ({low} to {high}, quartiles)"


def field_strength(header: Mapping[str, Any]) -> str:
    """Return the field in T that the proton frequency means; empty for another nucleus."""
    nucleus = "".join(header.get("ResonantNucleus", [""])[:1])
    frequency = (header.get("SpectrometerFrequency") or [0.0])[0]
    return f"{frequency / GAMMA_1H:.2f} T ({frequency:.2f} MHz)" if nucleus == "1H" and frequency > 0 else ""


def edit_pulses(pulses: Mapping[str, Any]) -> str:
    """Return offset and duration of each edit condition's pulse."""
    parts = []
    for condition, pulse in pulses.items():
        offset, duration = pulse.get("PulseOffset"), pulse.get("PulseDuration")
        if isinstance(offset, (int, float)):
            length = f" ({1000 * duration:g} ms)" if isinstance(duration, (int, float)) else ""
            parts.append(f"{condition} {offset:g} ppm{length}")
    return f"editing pulses {', '.join(parts)}" if parts else ""


def hardware(site: Site) -> list[tuple[str, str, str]]:
    """Return the items of section 1."""
    coils = site.column("n_coils", lambda n: f"{int(n)} coil{'s' * (int(n) > 1)} in the data")
    received = joined(site.header("ResonantNucleus", "/".join), site.header("RxCoil", "receive {}".format))
    stated = site.stated("rf_coils")
    return [
        ("a. Field strength", several(map(field_strength, site.headers)), "header"),
        ("b. Manufacturer", site.header("Manufacturer"), "header"),
        (
            "c. Model, software",
            joined(site.header("ManufacturersModelName"), site.header("SoftwareVersions")),
            "header",
        ),
        ("d. RF coils", joined(stated, received, coils), "header" if stated == MISSING else "config"),
        ("e. Additional hardware", site.stated("additional_hardware"), "config"),
    ]


def acquisition(site: Site) -> list[tuple[str, str, str]]:
    """Return the items of section 2."""
    per_scan = site.conversion.dropna(subset=["n_transients", "n_conditions"])
    counts = several(
        f"{int(n)} in each of {int(k)} edit conditions" if k > 1 else f"{int(n)}"
        for n, k in zip(per_scan["n_transients"], per_scan["n_conditions"], strict=True)
    )
    widths = several(f"{1 / float(dwell):.0f} Hz" for dwell in site.conversion["dwell_s"].dropna())
    flip = site.header("ExcitationFlipAngle", lambda angle: f"flip angle {angle:g}°")
    suppression = joined(
        site.header("WaterSuppressed", lambda on: "water suppressed" if on else "water not suppressed"),
        site.header("WaterSuppressionType"),
    )
    stated = site.stated("water_suppression")
    points = site.column("n_points", lambda n: f"{int(n)} points")
    further = joined(widths, points, site.header("EditPulse", edit_pulses), flip)
    repetition = site.column("tr_ms", lambda tr: f"TR {number(tr)} ms")
    return [
        (
            "a. Pulse sequence",
            joined(site.header("SequenceName"), several(site.conversion["sequence"])),
            "header, sheet",
        ),
        ("b. Place of the volume of interest", site.stated("voi_location"), "config"),
        ("c. Nominal size of the volume", site.header("VoxelMm"), "header"),
        ("d. TR, TE", joined(repetition, site.column("te_ms", lambda te: f"TE {number(te)} ms")), "header, sheet"),
        ("e. Transients acquired", counts, "header"),
        ("f. Further sequence parameters", further, "header"),
        (
            "g. Water suppression",
            joined(stated, suppression),
            "header" if stated == MISSING else "config",
        ),
        ("h. Shimming", site.stated("shimming"), "config"),
        ("i. Triggering, motion correction", site.stated("triggering"), "config"),
    ]


def analysis(site: Site, version: str) -> list[tuple[str, str, str]]:
    """Return the items of section 3."""
    preprocess, fit = site.config["preprocess"], site.config["quantify"]
    steps = [f"alignment in {'-'.join(map(str, preprocess['align_ppm']))} ppm"]
    steps.append(f"rejection of transients beyond {preprocess['reject_sd']} SD")
    steps += ["eddy-current correction"] * bool(preprocess["ecc"])
    steps += ["residual water removed (HLSVD)"] * bool(preprocess["remove_water"])
    steps.append(f"shifted and phased to {preprocess['reference']}")
    model = [
        f"linear combination, {fit['line_shape']} lines, baseline {fit['baseline']}",
        f"{'-'.join(map(str, fit['ppm_range']))} ppm",
        *([f"difference: baseline {fit['diff_baseline']}"] if "DIFF" in set(site.concentrations["condition"]) else []),
        "basis sets " + ", ".join(basis_text(one) for one in site.config["basis"]["sets"]),
    ]
    ratios = [text.partition(":") for text in site.config["evaluate"].get("ratios") or []]
    measures = "ratio to tCr" + (": " if ratios else "") + ", ".join(f"{name} ({where})" for where, _, name in ratios)
    software = [f"mrs-synthesis {version}", f"preprocessing engine {preprocess['engine']}", f"fit {fit['engine']}"]
    return [
        ("a. Analysis software", joined(*software, site.header("ConversionMethod")), "config, header"),
        ("b. Processing steps", "; ".join(steps), "config"),
        ("c. Output measure", measures, "config"),
        ("d. Quantification, fitting model", "; ".join(model), "config"),
    ]


def basis_text(entry: Mapping[str, Any]) -> str:
    """Return a basis set in words: its name, and whether it is simulated here."""
    simulated = entry.get("simulate")
    if not simulated:
        return f"{entry['name']} (given)"
    return (
        f"{entry['name']} ({simulated['sequence']}, TE {simulated['te_ms']:g} ms, {simulated['frequency_mhz']:g} MHz, "
        "simulated)"
    )


def quality(site: Site) -> list[tuple[str, str, str]]:
    """Return the items of section 4."""
    kept = site.preprocessing[site.preprocessing["kept"] == 1]
    single = joined(
        f"SNR {quartiles(kept['snr'])}",
        f"FWHM {quartiles(kept['fwhm_hz'], ' Hz')} of {site.config['preprocess']['reference']}",
    )
    n, rejected = len(site.preprocessing), int((site.preprocessing["kept"] == 0).sum())
    own = site.concentrations[site.concentrations["source"] == "reference"]
    bounds = []
    for (condition, name), rows in own.groupby(["condition", "metabolite"], sort=False):
        if f"{condition}:{name}" in (site.config["evaluate"].get("ratios") or []):
            bounds.append(f"{name} ({condition}) {quartiles(rows['crlb_percent'], ' %')}")
    return [
        ("a. SNR, line width", f"kept single transients: {single}" if single != MISSING else MISSING, "table"),
        (
            "b. Exclusion criteria",
            f"scans that failed; transients beyond {site.config['preprocess']['reject_sd']} SD: {rejected} of {n}",
            "config, table",
        ),
        ("c. Quality of the fit", f"CRLB of the reference: {'; '.join(bounds)}" if bounds else MISSING, "table"),
        ("d. Sample spectrum", "see Spectra and Fits", "table"),
    ]


def site_rows(site: Site, version: str) -> list[dict[str, str]]:
    """Return the table's rows of one site."""
    sections = {
        "1. Hardware": hardware(site),
        "2. Acquisition": acquisition(site),
        "3. Data analysis": analysis(site, version),
        "4. Data quality": quality(site),
    }
    return [
        {
            "section": section,
            "item": item,
            "site": site.name,
            "value": value,
            "from": MISSING if value == MISSING else origin,
        }
        for section, items in sections.items()
        for item, value, origin in items
    ]


def read_header(path: Path) -> dict[str, Any]:
    """Return a NIfTI-MRS file's header extension, with ``VoxelMm``; nothing if the scan failed (an empty file).

    Raises
    ------
    InputError
        If the file has no NIfTI-MRS header.
    """
    import nibabel

    try:
        image = nibabel.load(require(path))
    except SkippedError:
        return {}
    extension = next((e for e in image.header.extensions if e.get_code() == 44), None)
    if extension is None:
        raise InputError(f"{path}: no NIfTI-MRS header extension (code 44); convert again")
    size = [float(edge) for edge in image.header.get_zooms()[:3]]
    # Vendors' files without geometry come out with edges of 10 m, which is no voxel
    voxel = " x ".join(number(edge) for edge in size) + " mm" if max(size) < 1000 else ""
    return json.loads(extension.get_content()) | {"VoxelMm": voxel}


def table(units: Path, rawdata: Path, tables: Path, config: Path) -> pd.DataFrame:
    """Return the table, sites in order of their names.

    Raises
    ------
    InputError
        If a file is absent or lacks a column.
    """
    import pandas as pd

    from mrs_synthesis import __version__
    from mrs_synthesis.estimates import read_concentrations
    from mrs_synthesis.files import read_table

    settings = json.loads(require(config).read_text())
    try:
        scans = read_table(require(units), ("unit", "folder", "site", "sequence"))
        columns = ("unit", "n_transients", "n_conditions", "n_coils", "n_points", "dwell_s", "te_ms", "tr_ms")
        conversion = read_table(require(tables / "conversion.tsv"), columns).merge(
            scans[["unit", "sequence"]], on="unit"
        )
        preprocessing = read_table(require(tables / "preprocessing.tsv"), ("unit", "kept", "snr", "fwhm_hz"))
    except ValueError as error:
        raise InputError(str(error)) from None
    wanted = ("unit", "source", "condition", "metabolite", "crlb_percent")
    concentrations = read_concentrations(
        tables / "concentrations.tsv", wanted, lambda part: part[part["source"] == "reference"]
    )
    rows = []
    for name, own in scans.assign(site=scans["site"].fillna(MISSING).astype(str)).groupby("site"):
        headers = [
            read_header(rawdata / str(row.folder) / "mrs" / f"{row.unit}_svs.nii.gz")
            for row in own.itertuples(index=False)
        ]
        members = set(own["unit"])
        parts = [part[part["unit"].isin(members)] for part in (conversion, preprocessing, concentrations)]
        rows += site_rows(Site(str(name), [header for header in headers if header], *parts, settings), __version__)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.minimum_reporting", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--rawdata", type=Path, required=True, help="folder of the converted scans")
    parser.add_argument(
        "--tables", type=Path, required=True, help="folder with conversion, preprocessing, concentrations"
    )
    parser.add_argument("--config", type=Path, required=True, help="the study's whole config, JSON")
    parser.add_argument("--output", type=Path, required=True, help="the table, TSV; its data dictionary goes beside it")
    a = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table

    about = "An item of the minimum-reporting checklist MRSinMRS, for the scans of one site"
    write_described_table(a.output, table(a.units, a.rawdata, a.tables, a.config), about, COLUMNS)


if __name__ == "__main__":
    run(main)
