"""A study that is killed again and again ends like one that was left alone."""

import os
import random
import shutil
import signal
import time

import pytest
from workflow.conftest import CONFIG, Study, sheet_rows

from .killing import LONGEST, ROOT, Killing, Run, config_of, contents

pytestmark = [pytest.mark.slow]


@pytest.fixture
def study(tmp_path):
    study = Study(ROOT, tmp_path)
    study.write(config_of("subject"), sheet_rows())
    return study


def until(run, condition):
    end = time.monotonic() + LONGEST
    while not condition():
        assert not run.ended() and time.monotonic() < end, run.log.read_text()[-3000:]
        time.sleep(0.02)


def test_after_random_kills_everything_is_as_if_there_had_been_none(study, expected):
    killing = Killing(study, expected, random.Random(3))
    assert killing.life(6) > 2
    assert killing.faults == []
    assert study.rules_to_run() == set()


def test_a_killed_run_is_started_again_after_unlock(study):
    run = Run(study, "converted")
    until(run, lambda: "phantom" in run.jobs().values())
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    refused = Run(study, "converted")
    assert refused.process.wait(LONGEST) != 0
    assert "removed with the --unlock argument" in " ".join(refused.log.read_text().split())
    assert Run(study, "--unlock").process.wait(LONGEST) == 0
    again = Run(study, "converted")
    assert again.process.wait(LONGEST) == 0, again.log.read_text()


def test_training_goes_on_from_its_checkpoint(study):
    study.write(CONFIG | {"train": {"model": "paper", "epochs": 400, "patience": 400}}, sheet_rows())
    model = study.results / "model"
    target = "results/tiny/model/model.safetensors"
    run = Run(study, target)
    until(run, (model / "checkpoint" / "state.safetensors").exists)
    os.killpg(run.process.pid, signal.SIGKILL)
    run.process.wait()
    assert not (model / "model.safetensors").exists() and not (model / "config.json").exists()
    assert Run(study, "--unlock").process.wait(LONGEST) == 0
    again = Run(study, target)
    assert again.process.wait(LONGEST) == 0, again.log.read_text()
    assert "resumed after epoch" in (study.results / "logs" / "train.log").read_text()
    resumed = contents(model)
    shutil.rmtree(model)  # with its checkpoint, which would keep an equal training
    whole = Run(study, target)
    assert whole.process.wait(LONGEST) == 0, whole.log.read_text()
    assert "resumed" not in (study.results / "logs" / "train.log").read_text()
    assert resumed == contents(model)
