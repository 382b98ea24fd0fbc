"""Time and memory of the stages that compare whole groups, by number of subjects.

    python tests/benchmarks/bench_scale_comparisons.py --subjects 12 48 192

writes made-up studies of so many subjects (of each 16 pairs of transients; 3 in 8 for testing; the files of eight
subjects under ever new names, with training spectra of their own) and runs each stage on them as its rule does, in a
process of its own with one thread. Prints CPU seconds and peak memory, and how the increase from size to size grows
with the sizes on logarithmic scales, so that what a process needs anyway does not count: 1 is a straight line, 2 a
square; less than 1 what levels off, 0 what no longer grows. Three sizes are needed for it, each so many times the one
before. Writes results/benchmarks/scale_comparisons.json. Not a test.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests" / "unit")]

import fake_water  # noqa: E402
import pandas as pd  # noqa: E402
from bench_engines import processor  # noqa: E402

from mrs_synthesis import (  # noqa: E402
    cells,
    fidelity_data,
    memorisation,
    noise_table,
    nuisance,
    spectra,
    two_sample,
    water_table,
)
from mrs_synthesis.files import write_json, write_table  # noqa: E402
from mrs_synthesis.scans import Scan, sidecar_path, write_scan  # noqa: E402

POINTS, DWELL, MHZ, TRANSIENTS, BASES, WIDTH = 1024, 5e-4, 123.25, 16, 8, 256
CONDITIONS, SITES, KIND = ("OFF", "ON"), "abcd", ("random", "sampled")
NOISE = 0.02  # SD of a FID's point; the lines' amplitudes are about 1
PPM = spectra.ppm_axis(POINTS, DWELL, MHZ)
PPM = PPM[np.searchsorted(PPM, 0.1) :][:WIDTH]
STAGES = ("memorisation", "fidelity", "noise_table", "noise_spectrum", "nuisance", "water_table", "two_sample")
# The peak of the process's own memory: that of getrusage counts the process that it was started from
PROCESS = """
import runpy, sys
stage = sys.argv.pop(1)
if stage == "two_sample":
    import numpy as np
    from mrs_synthesis import two_sample
    n, rng = int(sys.argv[1]), np.random.default_rng(1)
    groups = [[rng.standard_normal((32, 20)) for _ in range(n)] for _ in range(2)]
    strata = ([str(i % 4) for i in range(n)],) * 2
    two_sample.energy_test(*[[one[:, :1] for one in group] for group in groups], strata, rng, 1000)
    two_sample.classify(*groups, strata, rng)
else:
    runpy.run_module(f"mrs_synthesis.{stage}", run_name="__main__", alter_sys=True)
print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


def signal(rng: np.random.Generator) -> np.ndarray:
    """Return one subject's FIDs without noise, (conditions, points)."""
    t = spectra.time_axis(POINTS, DWELL)
    places = {2.008: 1.5, 2.3: 0.3, 3.027: 1.0, 3.2: 0.7, 3.75: 0.5}
    lines = [np.exp((2j * np.pi * (ppm - spectra.WATER_PPM) * MHZ - 25) * t) for ppm in places]
    size = np.array(list(places.values())) * (1 + 0.15 * rng.standard_normal(len(places)))
    on = size * [0.02, 1.2, 1, 1, 1]  # NAA's line is saturated in ON
    return np.stack([size @ lines, on @ lines])


def noise(rng: np.random.Generator, shape: tuple[int, ...], sd: float = NOISE) -> np.ndarray:
    return sd * (rng.standard_normal((*shape, 2)) @ [1, 1j])


def window(fids: np.ndarray) -> np.ndarray:
    """Return spectra in the model's window of FIDs (..., points)."""
    first = int(np.argmin(np.abs(spectra.ppm_axis(POINTS, DWELL, MHZ) - PPM[0])))
    return spectra.to_spectrum(fids)[..., first : first + WIDTH]


def write_base(folder: Path, number: int, test: bool) -> tuple[np.ndarray, float]:
    """Write one subject's files as ``base_...`` in its own folder; return its FIDs without noise and its scale."""
    rng = np.random.default_rng([int(test), number])
    clean = signal(rng)
    scale = float(np.abs(window(clean[0])).max())
    shape = (len(CONDITIONS), TRANSIENTS, POINTS)

    def write(path: Path | str, fids: np.ndarray, **facts) -> None:
        header = {"EchoTime": 0.068}
        write_scan(path, Scan(fids[:, :, None], MHZ, DWELL, header, CONDITIONS, dimensions=("DIM_DYN", "DIM_EDIT")))
        write_json(sidecar_path(path), {"SpectralWidth": 1 / DWELL, "SpectrometerFrequency": [MHZ]} | facts)

    own = folder / f"{'test' if test else 'train'}{number}" / "base"
    own.parent.mkdir(parents=True)
    write(Path(f"{own}_desc-preproc_svs.nii.gz"), clean[:, None] + noise(rng, shape))
    raster = {"dwell": DWELL, "points": POINTS}
    arrays = fake_water.draw_subject(rng, 1.0, n_transients=TRANSIENTS, **raster)
    np.savez(f"{own}_desc-preproc_nuisance.npz", **arrays)
    if test:
        plan = [
            {"NReal": 2, "DynRange": [8 * r, 8 * r + 8], "Scale": scale, "NoiseSD": [NOISE, NOISE]} for r in range(2)
        ]
        facts = {"Decoder": KIND[1], "Plan": {"Reference": list(range(4, TRANSIENTS)), "Replicates": plan}}
        write(cells.synthetic_path(own, *KIND), clean[:, None] + noise(rng, shape), **facts)
        write(cells.reconstruction_path(own), np.repeat(clean[:, None], TRANSIENTS, axis=1))
    return clean, scale


def write_study(folder: Path, n_subjects: int) -> None:
    """Write a study of made-up subjects: links to the files of a few, and training and held-out sets of their own."""
    rng = np.random.default_rng(1)
    tests = np.arange(n_subjects) % 8 < 3
    bases = {(test, k): write_base(folder / "bases", k, test) for test in (False, True) for k in range(BASES)}
    rows = []
    for i in range(n_subjects):
        unit = f"sub-{i:06d}_acq-x"
        source = folder / "bases" / f"{'test' if tests[i] else 'train'}{i // 8 % BASES}"
        place = folder / "derivatives" / unit[:10] / "mrs"
        place.mkdir(parents=True)
        for path in source.iterdir():
            (place / path.name.replace("base", unit, 1)).symlink_to(path)
        names = {"unit": unit, "folder": unit[:10], "subject": f"{i:06d}", "session": "n/a", "site": SITES[i // 8 % 4]}
        rows.append(names | {"vendor": "siemens", "split": "test" if tests[i] else "train"})
    units = pd.DataFrame(rows)
    write_table(folder / "units.tsv", units)
    for name, split in (("training", "train"), ("heldout", "test")):
        part = units[units["split"] == split]
        (folder / name).mkdir()
        each = len(CONDITIONS) * TRANSIENTS
        values = np.lib.format.open_memmap(folder / name / "spectra.npy", "w+", np.complex64, (len(part) * each, WIDTH))
        scales = np.empty(len(part))
        for k, i in enumerate(part.index):
            clean, scales[k] = bases[split == "test", i // 8 % BASES]
            own = window(clean * (1 + 0.1 * rng.standard_normal((len(CONDITIONS), 1))))[:, None]
            spectrum = own + noise(rng, (len(CONDITIONS), TRANSIENTS, WIDTH), NOISE * np.sqrt(POINTS))
            values[k * each : (k + 1) * each] = (spectrum / scales[k]).reshape(each, WIDTH)
        values.flush()
        table = part.loc[part.index.repeat(each), ["unit", "subject", "site", "split"]].assign(
            row=np.arange(len(part) * each),
            condition=np.tile(np.repeat(CONDITIONS, TRANSIENTS), len(part)),
            transient=np.tile(np.arange(TRANSIENTS), len(part) * len(CONDITIONS)),
            scale=np.repeat(scales, each),
            noise_sd=NOISE,
            n_points=POINTS,
        )
        write_table(folder / name / "index.tsv", table)
        grid = {"ppm": PPM.tolist(), "conditions": CONDITIONS, "split_unit": "subject", "n_points": POINTS}
        write_json(folder / name / "grid.json", grid | {"dwell_s": DWELL, "frequency_mhz": MHZ})


def words_of(stage: str, folder: Path, n_subjects: int) -> list[str]:
    """Return the command line of a stage."""
    if stage == "two_sample":
        return [stage, str(n_subjects)]
    flags = {"units": folder / "units.tsv", "training": folder / "training", "derivatives": folder / "derivatives"}
    flags["output"] = folder / f"{stage}.{'npz' if stage == 'nuisance' else 'tsv'}"
    if stage in ("memorisation", "fidelity", "water_table"):
        flags["heldout"] = folder / "heldout"
    if stage not in ("nuisance", "water_table"):
        flags |= {"modes": KIND[0], "decoders": KIND[1]}
    if stage != "nuisance":
        flags["seed"] = 1
    more = {
        "memorisation": {"verdicts": folder / "verdicts.json"},
        "fidelity": {"embedding": folder / "embedding.tsv"},
        "water_table": {"nuisance": folder / "nuisance.safetensors", "lines": folder / "lines.tsv"},
    }
    flags |= more.get(stage, {})
    return [stage, *(str(w) for key, value in flags.items() for w in (f"--{key}", value))]


def measure(words: list[str], log: Path) -> tuple[float, float]:
    """Return CPU seconds and peak resident memory in MiB of a stage."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(log, "w") as stream:
        call = [sys.executable, "-c", PROCESS, *words]
        done = subprocess.run(
            call, stdout=stream, stderr=stream, env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
        )
    if done.returncode:
        raise SystemExit(f"{words[0]}: exit status {done.returncode}: {log.read_text()}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return seconds, int(log.read_text().split()[-2]) / 1024


def slope(sizes: list[int], values: list[float]) -> float | None:
    """Return how the increase of the last three values grows with the sizes; 0 below 2 % of the value."""
    if len(values) < 3:
        return None
    first, second = np.diff(values[-3:])
    if second < 0.02 * values[-1]:
        return 0.0
    return round(float(np.log(second / max(first, 1e-3 * second)) / np.log(sizes[-1] / sizes[-2])), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[12, 48, 192])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "scale_comparisons.json")
    a = parser.parse_args()
    sizes = sorted(a.subjects)
    found: dict[str, dict] = {stage: {"cpu_s": [], "peak_mib": []} for stage in a.stages}
    with tempfile.TemporaryDirectory(dir=a.folder) as name:
        for size in sizes:
            folder = Path(name) / str(size)
            write_study(folder, size)
            for stage in a.stages:
                if stage == "water_table" and not (folder / "nuisance.safetensors").exists():
                    measure(words_of("nuisance", folder, size), folder / "nuisance.log")
                seconds, peak = measure(words_of(stage, folder, size), folder / f"{stage}.log")
                found[stage]["cpu_s"].append(round(seconds, 2))
                found[stage]["peak_mib"].append(round(peak, 1))
                print(f"{size} subjects, {stage}: {seconds:.1f} s CPU, {peak:.0f} MiB", flush=True)
    print(f"\n{'subjects':15}" + "".join(f"{size:>18}" for size in sizes) + f"{'slopes':>16}")
    for stage, one in found.items():
        one["slope_cpu"], one["slope_memory"] = slope(sizes, one["cpu_s"]), slope(sizes, one["peak_mib"])
        pairs = zip(one["cpu_s"], one["peak_mib"], strict=True)
        print(
            f"{stage:15}"
            + "".join(f"{s:8.1f} s {m:4.0f} MiB" for s, m in pairs)
            + f"{one['slope_cpu'] if one['slope_cpu'] is not None else 'n/a':>8}"
            + f"{one['slope_memory'] if one['slope_memory'] is not None else 'n/a':>8}"
        )
    limits = {
        "memorisation": [memorisation.MOST_SUBJECTS, memorisation.MOST_SPECTRA],
        "fidelity": [fidelity_data.MOST_SUBJECTS, fidelity_data.MOST_POINTS],
        "noise": [noise_table.MOST_SUBJECTS],
        "nuisance": [nuisance.MOST_SCANS],
        "water": [water_table.MOST_SCANS],
        "two_sample": [two_sample.MOST_SUBJECTS, two_sample.MOST_ROWS],
    }
    facts = {"processor": processor(), "transient_pairs": TRANSIENTS, "window_points": WIDTH, "subjects": sizes}
    facts |= {"limits": limits, "stages": found}
    write_json(a.output, facts)


if __name__ == "__main__":
    main()
