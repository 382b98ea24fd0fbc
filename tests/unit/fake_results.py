"""A fake results folder in the formats that the stages write, for tests of the report."""

import numpy as np
import pandas as pd

from mrs_synthesis import (
    report,
    run_times,
    scans,
)
from mrs_synthesis.files import write_json, write_table

EVIL = "<img src=x onerror=1>"
FREQUENCY, DWELL, POINTS = 127.7, 5e-4, 256
MODES = ("random", "interpolation", "hybrid")
KINDS = [(mode, decoder) for mode in MODES for decoder in ("mean", "sampled")]
N_REAL, N_TOTAL, REPLICATES = 2, 8, 2


def fake_fids(random, n, noise, edited=True, gaba=0.1):
    """Made-up FIDs (conditions, n, 1, points): NAA, creatine, choline; in ON no NAA, and a peak at 3 ppm."""
    t = np.arange(POINTS) * DWELL
    conditions = [{2.008: 1.0, 3.027: 0.6, 3.2: 0.4}, {3.027: 0.6, 3.2: 0.4, 3.0: gaba}][: 2 if edited else 1]
    fids = []
    for peaks in conditions:
        clean = sum(a * np.exp((2j * np.pi * (p - 4.65) * FREQUENCY - 25) * t) for p, a in peaks.items())
        parts = random.standard_normal((2, n, POINTS))
        fids.append(clean + noise * (parts[0] + 1j * parts[1]))
    return np.array(fids)[:, :, None]


def fake_scan(fids):
    conditions = ("OFF", "ON") if len(fids) == 2 else ("UNEDITED",)
    return scans.Scan(fids, FREQUENCY, DWELL, {"EchoTime": 0.068}, conditions)


def cells_index(edited_design=True):
    """The rows of ``desc-cells_index.tsv``."""
    rows = [("reference", None, 10, 10, 0)]
    if edited_design:
        rows += [("real", None, n, n, r) for n in (1, N_REAL, N_TOTAL) for r in range(REPLICATES)]
        rows += [(mode, decoder, N_REAL, N_TOTAL, r) for mode, decoder in KINDS for r in range(REPLICATES)]
        rows += [(c, None, N_REAL, N_TOTAL, r) for c in ("population_mean", "shrinkage") for r in range(REPLICATES)]
    rows += [("reconstruction", None, 10, 10, 0)]
    columns = ["source", "decoder", "n_real", "n_total", "replicate"]
    return pd.DataFrame(rows, columns=columns).rename_axis("cell").reset_index()


class FakeResults:
    """A made-up results folder of some subjects; the last one failed in preprocessing, if asked for."""

    def __init__(self, root, subjects=3, edited=True, split_unit="subject", failed=False, phantom=False, site="site1"):
        self.root, self.edited = root, edited
        self.random = np.random.default_rng(1)
        self.conditions = ["OFF", "ON"] if edited else ["UNEDITED"]
        self.measured = [("GABA+", "DIFF"), ("tNAA", "OFF")] if edited else [("tNAA", "UNEDITED")]
        self.units = [f"sub-{i:02d}_acq-{'mega' if edited else 'press'}" for i in range(1, subjects + 1)]
        rows = [
            {
                "unit": unit,
                "folder": unit[:6],
                "subject": unit[4:6],
                "session": "n/a",
                "site": site,
                "vendor": "siemens",
            }
            | {"format": "siemens_twix", "split": "test" if split_unit == "subject" else "n/a", "te_ms": 68}
            for unit in self.units
        ]
        write_table(root / "units.tsv", pd.DataFrame(rows))
        augment = {"design": "augmentation" if edited else "reconstruction", "n_real": N_REAL, "n_total": N_TOTAL}
        self.config = {"study": "fake", "seed": 1234567, "augment": augment, "evaluate": {"tost_margin_percent": 10}}
        if phantom:
            self.config["phantom"] = {"transients": 20}
        write_json(root / "config.json", self.config)
        grid = {"ppm": [0.0, 0.1], "conditions": self.conditions, "split_unit": split_unit}
        write_json(root / "training" / "grid.json", grid)
        write_json(root / "basis" / "fakeset" / "basis.json", {"frequency_mhz": FREQUENCY})
        write_json(root / "model" / "config.json", {"architecture": {}})
        (root / "model" / "model.safetensors").write_bytes(b"fake weights")
        names = "epoch,train_loss,train_reconstruction,train_kl,validation_loss,validation_reconstruction,validation_kl"
        lines = [f"{names},sigma"] + [
            ",".join(f"{v / (e + 1):.4g}" for v in (1, 9, 8, 1, 9, 8, 1, 2)) for e in range(5)
        ]
        (root / "model" / "losses.csv").write_text("\n".join(lines) + "\n")
        for i, unit in enumerate(self.units):
            bad = failed and i == len(self.units) - 1
            record = {"unit": unit, "stage": "preprocess", "status": "failed" if bad else "ok"}
            write_json(
                root / "status" / "preprocess" / f"{unit}.json", record | {"reason": f"{EVIL} no signal" if bad else ""}
            )
            self.unit_files(unit, empty=bad)
        self.tables()

    def unit_files(self, unit, empty):
        folder = self.root / "derivatives" / unit[:6] / "mrs"
        folder.mkdir(parents=True, exist_ok=True)
        real = fake_scan(fake_fids(self.random, 6, 0.3, self.edited))
        files = {"desc-preproc_svs": real, "desc-recon_svs": fake_scan(fake_fids(self.random, 6, 0.02, self.edited))}
        if self.edited:
            for mode, decoder in KINDS:
                noise = {"mean": 0.02, "sampled": 0.3}[decoder]
                name = f"desc-synth{mode.title()}{decoder.title()}_svs"
                files[name] = fake_scan(fake_fids(self.random, 6, noise))
        for name, scan in files.items():
            path = folder / f"{unit}_{name}.nii.gz"
            path.touch() if empty else scans.write_scan(path, scan)
        if empty:
            for name in ("desc-preproc_qc.tsv", "desc-cells_index.tsv", "desc-batched_fit.npz"):
                (folder / f"{unit}_{name}").touch()
            return
        raw = self.root / "rawdata" / unit[:6] / "mrs" / f"{unit}_svs.json"
        write_json(raw, {"GeneratedBy": [{"Name": "spec2nii", "Version": "9.8.7"}]})
        qc = pd.DataFrame({"condition": np.repeat(self.conditions, 7), "transient": [*range(7)] * len(self.conditions)})
        qc["kept"] = [int(i != 3) for i in qc["transient"]]
        qc["reason"] = [None if kept else f"outlier {EVIL}" for kept in qc["kept"]]
        for column in ("shift_hz", "phase_deg", "noise_sd", "snr", "fwhm_hz", "water_residual"):
            qc[column] = self.random.standard_normal(len(qc))
        write_table(folder / f"{unit}_desc-preproc_qc.tsv", qc)
        index = cells_index(self.edited)
        write_table(folder / f"{unit}_desc-cells_index.tsv", index)
        curves = {}
        for condition in ("OFF", "DIFF") if self.edited else ("UNEDITED",):
            ppm = np.linspace(0.2, 4.2, 60)
            fit = np.exp(-(((ppm - 2.0) / 0.1) ** 2)) * np.ones((len(index), 1))
            curves[f"{condition}_ppm"], curves[f"{condition}_fit"] = ppm, fit.astype(np.complex64)
            curves[f"{condition}_baseline"] = (0.1 * fit).astype(np.complex64)
            curves[f"{condition}_data"] = (fit + 0.05 * self.random.standard_normal(fit.shape)).astype(np.complex64)
        np.savez(folder / f"{unit}_desc-batched_fit.npz", **curves)

    def tables(self):
        index = cells_index(self.edited)
        subjects = pd.read_csv(self.root / "units.tsv", sep="\t", dtype=str)[["unit", "subject", "session", "site"]]
        cells = subjects.merge(index, how="cross")
        quality = cells.assign(tcr_snr=self.random.uniform(5, 20, len(cells)), noise_ratio=1.0, challenge_snr=np.nan)
        write_table(self.root / "tables" / "quality.tsv", quality)
        fits = cells.merge(pd.DataFrame(self.measured, columns=["metabolite", "condition"]), how="cross")
        fits["per_tcr"] = self.random.uniform(0.5, 1.5, len(fits))
        write_table(self.root / "tables" / "concentrations.tsv", fits)
        series = index[index["source"] != "reference"].drop(columns=["cell", "replicate"]).drop_duplicates()
        series = pd.DataFrame(self.measured, columns=["metabolite", "condition"]).merge(series, how="cross")
        n = len(series)
        bias = series.assign(bias_percent=np.linspace(-7.25, 4, n), bias_ci_low=-9.0, bias_ci_high=6.0, loa_low=-20.0)
        bias = bias.assign(loa_high=18.0, slope=0.5, sd_ratio=0.6, ccc=0.5, icc_a1=0.5, cv_percent=4.0, tost_p=0.2, n=3)
        bias.loc[0, "tost_p"] = 0.01
        bias["error_to_crlb"] = bias["source"].map({"real": 1.04}).fillna(3.456)
        bias["rmse_percent"] = 30 / np.sqrt(bias["n_total"])
        dictionary = {"TableDescription": "Bias", "slope": {"Description": "Slope on the reference"}}
        write_table(self.root / "tables" / "bias.tsv", bias)
        write_json(self.root / "tables" / "bias.json", dictionary)
        by_site = pd.concat([bias.assign(site=site) for site in (subjects["site"].iloc[0], "site2")])
        write_table(self.root / "tables" / "bias_by_site.tsv", by_site)
        if self.edited:
            eff = series[(series["source"] != "reconstruction") & (series["n_real"] != 1)].copy()
            eff["n_eff"] = eff["source"].map({"real": 2.0, "population_mean": 9.5}).fillna(4.127)
            eff.loc[(eff["source"] == "real") & (eff["n_real"] == N_TOTAL), "n_eff"] = float(N_TOTAL)
            eff = eff.assign(n_eff_ci_low=eff["n_eff"] * 0.8, n_eff_ci_high=eff["n_eff"] * 1.2, n_eff_clipped="no")
            eff = eff.assign(slope=0.95, rmse_percent=30 / np.sqrt(eff["n_eff"]), n=3)
            write_table(self.root / "tables" / "effective_transients.tsv", eff)
            self.judgements(eff[eff["source"].isin(MODES)])
        self.metrics()

    def judgements(self, filled):
        """Tables of worth and comparisons: nothing is decided, and the control `population_mean` has more N_eff."""
        worth = filled.assign(worth="open", p_worst=0.4, p_holm=1.0, hardest="population_mean", n_comparisons=3)
        worth["reason"] = "not shown to be better than the control population_mean"
        write_table(self.root / "tables" / "worth.tsv", worth)
        parts = [
            filled.assign(against=name, against_n_real=n, verdict=verdict, rmse_ratio=ratio)
            for name, n, verdict, ratio in (
                ("real", N_REAL, "better", 0.7),
                ("real", N_TOTAL, "worse", 1.6),
                ("population_mean", N_REAL, "no difference shown", 1.1),
                ("shrinkage", N_REAL, "no difference shown", 0.9),
            )
        ]
        table = pd.concat(parts).assign(rmse_ratio_ci_low=0.5, rmse_ratio_ci_high=1.9, p=0.03, p_holm=0.2)
        write_table(self.root / "tables" / "comparisons.tsv", table)

    def metrics(self):
        """Tables of fidelity, embedding, noise, water and minimum reporting."""
        kinds = KINDS if self.edited else [("reconstruction", "mean")]
        sources = pd.DataFrame([("real", None), *kinds, ("noise", None)], columns=["source", "decoder"])
        values = sources.assign(
            value=np.linspace(0.5, 1.5, len(sources)), ci_low=0.2, ci_high=1.9, ceiling=0.4, floor=2.0
        )
        conditions = pd.DataFrame({"condition": self.conditions})
        metrics = pd.DataFrame({"metric": ["nmse_transients", "mmd_transients"], "region_ppm": "0.2-4.2"})
        fidelity = metrics.merge(conditions, how="cross").merge(values, how="cross")
        write_table(self.root / "tables" / "fidelity.tsv", fidelity)
        points = [("training", "real", None), ("held-out", "real", None), ("noise", "noise", None)]
        points += [("synthetic", *kind) for kind in kinds]
        cloud = pd.DataFrame(points * 5, columns=["split", "source", "decoder"]).assign(
            unit=self.units[0], site="site1"
        )
        cloud = pd.concat([cloud.assign(method=method) for method in ("pca", "tsne")], ignore_index=True)
        cloud["x"], cloud["y"] = self.random.standard_normal((2, len(cloud)))
        write_table(self.root / "tables" / "embedding.tsv", cloud)
        items = [("1. Hardware", "a. Field strength", "3 T", "header"), ("2. Acquisition", "b. Place", None, None)]
        reporting = pd.DataFrame(items, columns=["section", "item", "value", "from"]).assign(site="site1")
        write_table(self.root / "tables" / "minimum_reporting.tsv", reporting)
        times = [("convert", 2, 4, 0, 90.0, 80.0, 72.0, 8.0, 9.0, 200.0, 50.0), ("train", 1, *[None] * 2, 30.0, 20.0)]
        times = [(*row, *[None] * 5)[:11] for row in times]
        times.append(("total", 3, None, None, 120.0, 100.0, 72.0, 8.0, 9.0, 200.0, 50.0))
        write_table(self.root / "tables" / "run_times.tsv", pd.DataFrame(times, columns=list(run_times.COLUMNS)))
        if not self.edited:
            return
        ppm = pd.DataFrame({"ppm": np.linspace(-2.9, 11.9, 20)})
        spectrum = sources.iloc[:-1].merge(conditions, how="cross").merge(ppm, how="cross")
        spectrum = spectrum.assign(ratio=1.0, ratio_ci_low=0.95, ratio_ci_high=1.05, n=3)
        write_table(self.root / "tables" / "noise_spectrum.tsv", spectrum)
        bins = pd.DataFrame({"x": np.arange(6.0), "width": 1.0, "density": [0, 0.1, 0.4, 0.3, 0.2, 0], "n": 3})
        waters = pd.DataFrame({"source": ["real", "training", "drawn", "none"]})
        measures = pd.DataFrame({"metric": ["amplitude", "phase_deg"]})
        lines = waters.merge(measures, how="cross").merge(bins, how="cross")
        write_table(self.root / "tables" / "water_lines.tsv", lines)

    def edit(self, name, change):
        """Change a table in place."""
        path = self.root / "tables" / f"{name}.tsv"
        table = pd.read_csv(path, sep="\t", keep_default_na=False, na_values=["n/a"])
        write_table(path, change(table))

    def page(self):
        output = self.root / "report.html"
        report.main(["--study", "fake", "--results", str(self.root), "--engine", "batched", "--output", str(output)])
        return output.read_text(encoding="utf-8")
