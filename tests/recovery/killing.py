"""A study's run that is killed at random moments and started again, as a program and for the tests.

    python tests/recovery/killing.py --kills 50 --folder killed --output results/recovery.tsv

runs a tiny study of the phantom from nothing, over and over, until so many kills (SIGKILL) have been dealt out: to
Snakemake alone, whose jobs then go on without it; to Snakemake and its jobs; to one job. After each kill it looks at
what lies there, and at the end of each run it compares with a run that nobody disturbed. It ends with an error if
anything differs.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow")]

from workflow.conftest import CONFIG, Study, sheet_rows  # noqa: E402

# Times and logs, and what holds them
UNEQUAL = (
    "logs",
    "benchmarks",
    "tables/run_times.tsv",
    "report.html",
    "provenance.json",
    "ro-crate-metadata.json",
    "manifest.sha256",
)
# What a job has not finished yet, under its own name; nobody takes it for a result
IN_WORK = ("status", "model/checkpoint")
OWN_HIDDEN = (".bidsignore", ".snakemake_timestamp")
VICTIMS = ("snakemake", "all", "worker")
# What a stage leaves when all of it is done, in the order of stages
LEAVES = {
    "basis_simulate": ["basis/mega123/.snakemake_timestamp", "basis/mega128/.snakemake_timestamp"],
    **{
        stage: [f"records/{stage}/{part}-000{number}.json" for part in ("seen", "heldout") for number in (1, 2)]
        for stage in ("phantom", "convert", "preprocess")
    },
    "assemble": ["training/grid.json", "heldout/grid.json"],
    "train": ["model/config.json"],
    "synthesise": ["records/synthesise/heldout-0001.json", "records/synthesise/heldout-0002.json"],
    "augment": ["records/augment/heldout-0001.json", "records/augment/heldout-0002.json"],
    "quantify": ["records/quantify_batched/heldout-0001.json", "records/quantify_batched/heldout-0002.json"],
    **{stage: [f"tables/{stage}.tsv"] for stage in ("fidelity", "memorisation")},
    "evaluate": ["tables/concentrations.tsv", "tables/bias.tsv"],
    **{stage: [f"tables/{stage}.tsv"] for stage in ("comparisons", "mixed_model", "minimum_reporting")},
    "report": ["report.html"],
}
ENOUGH = 2  # more kills than of the stage that was met least
AHEAD = 4  # of the stages that are not done, one of the first so many is waited for
NUMBERS = itertools.count(1)
EPOCHS = 400
LONGEST = 900  # seconds that a run may take until it counts as stuck


def processes() -> dict[int, tuple[int, list[str]]]:
    """Return process group and command line of every process of this machine, by process id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
            found[int(folder.name)] = group, (folder / "cmdline").read_bytes().decode().split("\0")[:-1]
        except (OSError, ValueError):
            continue
    return found


def stage_of(words: list[str]) -> str:
    """Return the stage that a command line runs; empty if it is no job's program."""
    named = [word for word in words if word.startswith("mrs_synthesis.")]
    if "-m" not in words or not named:
        return ""
    name = named[0].removeprefix("mrs_synthesis.")
    return Path(words[words.index("--record") + 1]).parent.name.partition("_")[0] if name == "shard" else name


class Run:
    """`snakemake` in a process group of its own, whose words go to a file, since a pipe would end with it.

    `where` says where its jobs run.
    """

    def __init__(self, study: Study, *arguments: str, where: Sequence[str] = ("--cores", "2")) -> None:
        self.log = study.folder / f"run-{next(NUMBERS)}.log"  # of its own: what outlives an earlier run still writes
        call = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *where]
        call += [*arguments, "--configfile", study.config]
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        with open(self.log, "w") as stream:
            self.process = subprocess.Popen(
                call, cwd=study.folder, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )

    def jobs(self) -> dict[int, str]:
        """Return the stages of this run's jobs, also of those that outlived it, by process id."""
        own = {pid: stage_of(words) for pid, (group, words) in processes().items() if group == self.process.pid}
        return {pid: stage for pid, stage in own.items() if stage}

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self, victim: str, rng: random.Random) -> str:
        """Kill (SIGKILL) and return the name of what was killed."""
        jobs = self.jobs()
        if victim == "worker" and jobs:
            pid = rng.choice(sorted(jobs))
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return "worker (it had just ended)"
            return f"worker ({jobs[pid]})"
        if victim == "all" or not jobs:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return "snakemake and its jobs"
        self.process.kill()
        self.process.wait()
        return f"snakemake ({len(jobs)} job{'s' if len(jobs) > 1 else ''} went on)"

    def end(self) -> None:
        """Kill whatever is left."""
        if any(group == self.process.pid for group, _ in processes().values()):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def contents(results: Path, leave_out: tuple[str, ...] = UNEQUAL) -> dict[str, bytes]:
    """Return the bytes of all files of a study, by path, but of those left out (files or folders)."""
    found = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if any(name == one or name.startswith(f"{one}/") for one in leave_out):
            continue
        with suppress(FileNotFoundError, IsADirectoryError):  # a temporary file of a job that goes on
            found[name] = path.read_bytes()
    return found


def hidden(results: Path) -> list[str]:
    """Return the names of files that no result has: what a writer leaves that was killed."""
    return [str(path) for path in results.rglob(".*") if path.name not in OWN_HIDDEN]


def finished(study: Study, of_jobs: bool = True) -> dict[str, int]:
    """Return the times of the files that are done: of scans that their status vouches for, and of ended jobs."""
    names = set()
    if of_jobs:
        metadata, incomplete = (study.folder / ".snakemake" / name for name in ("metadata", "incomplete"))
        ended = {path.name for path in metadata.glob("[!@]*")} - {path.name for path in incomplete.glob("*")}
        names = {urlsafe_b64decode(name).decode() for name in ended}
    for path in (study.results / "status").rglob("[!.]*.json"):
        with suppress(OSError, ValueError):
            status = json.loads(path.read_text())
            if status["status"] == "ok" and "key" in status:
                names |= {f"results/tiny/{name}" for name in status["files"]}
    paths = {name: study.folder / name for name in names}
    return {name: path.stat().st_mtime_ns for name, path in paths.items() if path.is_file()}


@dataclass
class Killing:
    """One study, run from nothing to its end through kills.

    Attributes
    ----------
    study
        Its folder.
    expected
        What an undisturbed run left.
    rng
        Draws victims and moments.
    rows
        What was done, one row per kill, for a table.
    faults
        What must not be.
    done
        Finished files and their times, when it last looked.
    met
        Kills while a stage ran, by stage.
    here
        Whether jobs are this Snakemake's own processes. On a cluster each has a Snakemake of its own, after which the
        first one touches the outputs again, so that their times do not tell whether they were made again.
    """

    study: Study
    expected: dict[str, bytes]
    rng: random.Random
    rows: list[dict] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    met: Counter = field(default_factory=Counter)
    here: bool = True

    def look(self, when: str) -> None:
        """Note every file that is not what the undisturbed run left, and every finished one that was made again."""
        for name, content in contents(self.study.results, UNEQUAL + IN_WORK).items():
            if not any(part.startswith(".") for part in Path(name).parts) and content != self.expected.get(name):
                self.faults.append(f"{when}: {name} is not the undisturbed run's")
        now = finished(self.study, self.here)
        for name, time_ in self.done.items():
            if now.get(name, time_) != time_ and not self.is_timed(name):
                self.faults.append(f"{when}: {name} was finished and is made again")
        self.done = now

    @staticmethod
    def is_timed(name: str) -> bool:
        return any(name.startswith(f"results/tiny/{one}") for one in UNEQUAL)

    def wait(self, run: Run) -> bool:
        """Wait for a random moment, or for one in the stage that was met least often; tell if to kill now."""
        if self.rng.random() < 0.2:
            moment = time.monotonic() + self.rng.uniform(0.2, 12)
            while time.monotonic() < moment and not run.ended():
                time.sleep(0.02)
            return not run.ended()
        stage, end = "", time.monotonic() + LONGEST
        while not run.ended() and stage not in run.jobs().values():
            left = [one for one, names in LEAVES.items() if not all((self.study.results / n).exists() for n in names)]
            if left and min(self.met[one] for one in left) > min(self.met[one] for one in LEAVES) + ENOUGH:
                return False  # the kills are better spent in another life
            if stage not in left:
                stage = min(left[:AHEAD], key=lambda one: (self.met[one], self.rng.random()), default="")
            if time.monotonic() > end:
                raise TimeoutError(f"no {stage} within {LONGEST} s; see {run.log}")
            time.sleep(0.05)
        time.sleep(self.rng.uniform(0, 2))
        return not run.ended()

    def unlock(self) -> None:
        """Take Snakemake's lock away, which a killed one leaves."""
        run = Run(self.study, "--unlock")
        if run.process.wait(LONGEST):
            raise RuntimeError(run.log.read_text())

    def life(self, kills: int) -> int:
        """Run the study to its end with at most so many kills on its way; return how many there were."""
        runs, dealt, hurt, begun = [Run(self.study)], 0, False, time.monotonic()
        try:
            while True:
                run = runs[-1]
                if dealt < kills and self.wait(run):
                    hurt = self.deal(run, begun)
                    dealt += 1
                    if hurt:
                        continue
                    self.unlock()
                elif run.process.wait(LONGEST) == 0:
                    break
                elif not hurt:
                    raise RuntimeError(f"a run without a kill failed: {run.log.read_text()[-3000:]}")
                runs.append(Run(self.study))
                hurt = False
            self.compare()
        finally:
            for run in runs:
                run.end()
        return dealt

    def deal(self, run: Run, begun: float) -> bool:
        """Kill something of a run, and look at what is left; tell if Snakemake goes on, with what does not need it."""
        number, before = len(self.rows) + 1, len(self.faults)
        self.met.update(stages := sorted(set(run.jobs().values())))
        seconds = time.monotonic() - begun
        victim = run.kill(self.rng.choice(VICTIMS), self.rng)
        self.look(f"after kill {number}")
        outcome = "; ".join(self.faults[before:]) or "nothing partial, nothing lost"
        row = {"kill": number, "stages": ",".join(stages) or "none", "killed": victim, "seconds": f"{seconds:.1f}"}
        self.rows.append(row | {"files_done": len(self.done), "outcome": outcome})
        print(*self.rows[-1].values(), sep="\t", flush=True)
        return victim.startswith("worker")

    def compare(self) -> None:
        """Note what is not as in the undisturbed run at the end."""
        self.look("at the end")
        found = contents(self.study.results)
        names = sorted(found.keys() | self.expected.keys())
        self.faults += [f"at the end: {name} differs" for name in names if found.get(name) != self.expected.get(name)]
        self.faults += [f"at the end: {name} was left" for name in hidden(self.study.results)]

    def clear(self) -> None:
        """Leave nothing of the study but its config and sheet."""
        for name in ("results", ".snakemake"):
            shutil.rmtree(self.study.folder / name, ignore_errors=True)
        self.done = {}


def config_of(model: str) -> dict:
    """Return the study's config. The VAE's training is long enough for kills between its checkpoints, 10 s apart."""
    train = {"model": "paper", "epochs": EPOCHS, "patience": EPOCHS} if model == "paper" else {}
    return CONFIG | {"train": CONFIG["train"] | train}


def undisturbed(folder: Path, config: dict) -> dict[str, bytes]:
    """Run the study once without a kill and return what it left."""
    study = Study(ROOT, folder)
    folder.mkdir(parents=True, exist_ok=True)
    study.write(config, sheet_rows())
    done = study.snakemake()
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-3000:])
    return contents(study.results)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--most", type=int, default=14, help="kills of one run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", choices=("subject", "paper"), default="paper", help="paper: with checkpoints")
    parser.add_argument("--folder", type=Path, required=True, help="where the study lies; emptied before each run")
    parser.add_argument("--output", type=Path, required=True, help="table (TSV), one row per kill")
    a = parser.parse_args()
    config = config_of(a.model)
    killed = Study(ROOT, a.folder.resolve() / "killed")
    killed.folder.mkdir(parents=True, exist_ok=True)
    killed.write(config, sheet_rows())
    expected = undisturbed(a.folder.resolve() / "undisturbed", config)
    killing = Killing(killed, expected, random.Random(a.seed))
    while len(killing.rows) < a.kills:
        killing.clear()
        killing.life(min(a.most, a.kills - len(killing.rows)))
        print("end of a run:", "; ".join(killing.faults) or f"{len(expected)} files equal, nothing left", flush=True)
        lines = ["\t".join(killing.rows[0]), *("\t".join(map(str, row.values())) for row in killing.rows)]
        a.output.parent.mkdir(parents=True, exist_ok=True)
        a.output.write_text("\n".join(lines) + "\n")
    if killing.faults:
        raise SystemExit("\n".join(killing.faults))


if __name__ == "__main__":
    main()
