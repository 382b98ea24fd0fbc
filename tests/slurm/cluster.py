"""A Slurm cluster of one node on this machine: no systemd, no cgroups, no accounting, and a GPU that is none.

All of it lies in one folder, but for two links in /etc/slurm: Snakemake's executor drops SLURM_CONF on its way to a
job, so that slurm.conf must be where Slurm looks for it by itself. Only what was started here is stopped, by its
process id.
"""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ETC = Path("/etc/slurm")
COMMANDS = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol"]
LINKED = ["slurm.conf", "gres.conf"]
# A GPU of gres.conf is a character device; /dev/null passes for one, and Slurm sets CUDA_VISIBLE_DEVICES
GPU = "/dev/null"
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MpiDefault=none
MailProg=/bin/true
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout={node_timeout}
MinJobAge=600
MaxArraySize=1001
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory_mb} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """One node, started and stopped by `with` or by `start` and `stop`.

    Parameters
    ----------
    folder
        Where its files go; a path of its own, of less than about 80 characters (a socket lies in it).
    node_timeout
        Seconds after which a node that does not answer is taken for lost and its jobs for failed.
    """

    def __init__(self, folder: Path, node_timeout: int = 10) -> None:
        self.folder = Path(folder).resolve()
        self.node_timeout = node_timeout
        self.host = os.uname().nodename.partition(".")[0]

    @staticmethod
    def absent() -> str:
        """Return why no cluster can be started here, in a few words; empty if one can."""
        if missing := [name for name in COMMANDS if shutil.which(name) is None]:
            return f"needs Debian's slurm-wlm and munge; absent: {', '.join(missing)}"
        if os.geteuid() != 0:
            return "needs root, to start Slurm's daemons"
        if not os.access(ETC, os.W_OK):
            return f"needs a writable {ETC}"
        if taken := [name for name in LINKED if (ETC / name).exists()]:
            return f"{ETC / taken[0]} exists: this machine has a cluster of its own, or another test is running one"
        return ""

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start munge, the controller and the node; return when the node is idle."""
        for name in ("run", "log", "state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for path in (self.folder, self.folder / "run"):
            path.chmod(0o755)  # munged accepts no other
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        page = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        values = {"host": self.host, "folder": self.folder, "node_timeout": self.node_timeout}
        values |= {"cores": os.cpu_count(), "memory_mb": int(page * 0.9 / 2**20)}
        (self.folder / "slurm.conf").write_text(CONFIG.format(**values))
        (self.folder / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File={GPU}\n")
        for name in LINKED:
            (ETC / name).symlink_to(self.folder / name)
        run = self.folder / "run"
        self._call(
            *["munged", "--force", f"--socket={run}/munge.socket", f"--key-file={key}", "--num-threads=2"],
            *[f"--pid-file={run}/munged.pid", f"--log-file={self.folder}/log/munged.log"],
            f"--seed-file={run}/munged.seed",
        )
        self._call("slurmctld", "-c")
        self.start_node()

    def stop(self) -> None:
        """End its jobs and its daemons, and take the links away; nothing if it never started."""
        if self._process("slurmctld"):
            subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], capture_output=True, timeout=30)
            subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=30)
            self._wait(lambda: not self.jobs("RUNNING", "COMPLETING"), 20, required=False)
        for name in ("slurmd", "slurmctld", "munged"):
            self._end(name, signal.SIGTERM)
        for name in LINKED:
            link = ETC / name
            if link.is_symlink() and link.readlink() == self.folder / name:
                link.unlink()

    def start_node(self) -> None:
        """Start the node's daemon (again); return when the node takes jobs."""
        self._call("slurmd", "-N", self.host)
        self._wait(lambda: set(self._output("sinfo", "-h", "-o", "%T").split()) & {"idle", "mixed", "allocated"}, 30)

    def stop_node(self) -> None:
        """Lose the node: its daemon, and all processes of its jobs, end at once without a word to the controller."""
        pids = self.processes()
        self._end("slurmd", signal.SIGKILL)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._wait(lambda: not self.processes(), 20)

    def jobs(self, *states: str) -> list[str]:
        """Return the ids of the jobs that are in one of these states (none: in any), the oldest first."""
        chosen = ["-t", ",".join(states) if states else "all"]
        return self._output("squeue", "-h", "-r", "-S", "i", "-o", "%i", *chosen).split()

    def kill_job(self, job: str) -> None:
        """End a job as `kill -9` does: all its processes, which cannot tidy up."""
        self._output("scancel", "--signal=KILL", "--full", job)
        self._output("scancel", job)

    def processes(self) -> list[int]:
        """Return the ids of all processes of the node's jobs: those below a slurmstepd."""
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                name, fields = (folder / "stat").read_text().rpartition(")")[::2]
            except OSError:  # it has ended
                continue
            state, parent = fields.split()[:2]
            if state != "Z":  # ended, and nobody has asked how
                parents[int(folder.name)] = (int(parent), name.partition("(")[2])
        found = {pid for pid, (_, name) in parents.items() if name == "slurmstepd"}
        while more := {pid for pid, (parent, _) in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def _process(self, name: str) -> int | None:
        """Return the process id of a daemon that was started here and still runs."""
        try:
            pid = int((self.folder / "run" / f"{name}.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if words and Path(words[0].decode()).name == name else None

    def _end(self, name: str, sign: signal.Signals) -> None:
        if (pid := self._process(name)) is None:
            return
        os.kill(pid, sign)
        self._wait(lambda: self._process(name) is None, 20)

    def _wait(self, condition: Callable[[], object], seconds: float, required: bool = True) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                if not required:
                    return
                logs = "".join(path.read_text()[-3000:] for path in sorted((self.folder / "log").glob("*.log")))
                raise TimeoutError(f"the one-node Slurm did not get ready in {seconds} s\n{logs}")
            time.sleep(0.1)

    @staticmethod
    def _output(*words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, timeout=60).stdout

    @staticmethod
    def _call(*words: str) -> None:
        # A daemon keeps what it inherits: no pipe of the test, nor a number of threads meant for the test alone
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "OMP_", "OPENBLAS_", "MKL_"))}
        done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
