"""Training on two processes ends where training on one does, up to rounding; an error ends all, in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

import processes_jobs  # noqa: E402
from test_train import make_training_set  # noqa: E402

from mrs_synthesis import processes, train  # noqa: E402
from mrs_synthesis.stage import InputError  # noqa: E402
from mrs_synthesis.vae import load_model  # noqa: E402

HERE = Path(__file__).resolve().parent
# The training set's noise as a FID's: row_sd multiplies by the root of the 128 points
STATED = 0.05 / np.sqrt(128)


def launch(folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(train.__file__).parents[1]), str(HERE)])}
    program = [sys.executable, "-m", "mrs_synthesis.processes", "--number", "2", "processes_jobs", str(folder)]
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders with the same trainings by one process and by two, and what the two printed."""
    folder = tmp_path_factory.mktemp("processes")
    for name in ("one", "two"):
        make_training_set(folder / name / "training", per_subject=50)
        make_training_set(folder / name / "incomplete", per_subject=4, drop=("validation",))
        path = folder / name / "training" / "index.tsv"
        table = pd.read_csv(path, sep="\t")
        table["noise_sd"] = STATED
        table.to_csv(path, sep="\t", index=False)
    for name in processes_jobs.JOBS:
        train.main(processes_jobs.command(folder / "one", name))
    return folder, launch(folder / "two")


@pytest.mark.parametrize("name", processes_jobs.JOBS)
def test_two_processes_end_where_one_does(runs, name):
    folder, _ = runs
    one, two = (load_model(folder / number / name) for number in ("one", "two"))
    assert (one[1]["training"]["processes"], two[1]["training"]["processes"]) == (1, 2)
    assert one[1]["training"]["best_epoch"] == two[1]["training"]["best_epoch"]
    losses = [pd.read_csv(folder / number / name / "losses.csv") for number in ("one", "two")]
    np.testing.assert_allclose(losses[1]["validation_loss"], losses[0]["validation_loss"], rtol=1e-5)
    for (key, first), second in zip(one[0].state_dict().items(), two[0].state_dict().values(), strict=True):
        np.testing.assert_allclose(second, first, atol=1e-4, err_msg=key)


def test_an_error_is_raised_once_and_ends_the_others_silently(runs):
    folder, _ = runs
    found = [json.loads((folder / "two" / f"found-{rank}.json").read_text()) for rank in (0, 1)]
    ends = sorted(each["all"] for each in found)
    assert ends[0].startswith("InputError: ") and "24 train and 0 validation rows" in ends[0]
    assert ends[1] == "OtherProcessError 1"
    assert found[0]["one"] == f"OtherProcessError {processes.LOST}"
    assert found[1]["one"] == "InputError: the second process cannot go on"


def test_killed_process_ends_all_in_one_line_and_training_goes_on(runs, capsys):
    folder, done = runs
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: process 2 of 2 was ended by SIGKILL (out of memory?), so all were ended; "
        "run again to go on from the checkpoint"
    ]
    assert done.stdout.count("epoch 1/4") == 2  # once for each training that ends it
    assert (folder / "two" / "written-0").exists() and not (folder / "two" / "written-1").exists()
    capsys.readouterr()
    train.main(
        [*processes_jobs.command(folder / "two", "analytic"), "--output", str(folder / "two" / "killed")]
    )  # by one process
    assert "resumed after epoch 2" in capsys.readouterr().out
    one, again = (load_model(folder / path)[0] for path in ("one/analytic", "two/killed"))
    for first, second in zip(one.parameters(), again.parameters(), strict=True):
        np.testing.assert_allclose(second.detach(), first.detach(), atol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_parts_are_a_partition(n, size):
    parts = [np.arange(n)[processes.Group(rank, size).part(n)] for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_gradient_of_a_function_of_global_means_is_the_mean_of_the_processes_gradients(monkeypatch):
    """d/dw of mean(w x)^2 + w for x = 1, 2, 6 is 2 mean(x)^2 w + 1; the parts have 1 and 2 of the three numbers."""
    x = torch.tensor([1.0, 2.0, 6.0])
    parameters = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.tensor(0.7))})
    gradients = []
    for rank in (0, 1):
        member = processes.Group(rank, 2)
        total = torch.tensor([0.7 * 9, 3.0], dtype=torch.float64)
        monkeypatch.setattr(processes.Group, "_sum", lambda self, values, total=total: total)
        w = parameters["w"]
        mean = member.mean(w * x[member.part(3)])
        assert mean.item() == pytest.approx(2.1)
        gradients.append(torch.autograd.grad(mean**2 + w, w)[0])
    assert float(sum(gradients)) / 2 == pytest.approx(2 * 9 * 0.7 + 1)


def test_incomplete_variables_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(InputError, match="start with torchrun"), processes.group("cpu"):
        pass
    with pytest.raises(InputError, match="at least 1"):
        processes.main(["--number", "0", "mrs_synthesis.train"])


@pytest.mark.parametrize(("cores", "number", "own"), [("6", 2, "3"), ("2", 4, "1"), ("", 2, "1")])
def test_processes_share_the_jobs_cores_as_threads(monkeypatch, cores, number, own):
    seen = []
    monkeypatch.setenv("OMP_NUM_THREADS", cores)
    monkeypatch.setattr("logging.disable", lambda level: None)
    monkeypatch.setattr("torch.distributed.run.main", lambda words: seen.append(os.environ["OMP_NUM_THREADS"]))
    processes.main(["--number", str(number), "mrs_synthesis.train"])
    assert seen == [own]
