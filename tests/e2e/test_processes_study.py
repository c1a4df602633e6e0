"""A study whose training several processes share: stopped, it leaves none of them; one process can go on with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from command import Command, Finished, Runner
from reports import load
from studies import LABEL_STUDY, Study

TOLERANCE = 1e-4


def valid_losses(report: Any) -> list[float]:
    points = report["training"]["loss_points"]
    return [point["valid_loss"] for point in points if point["valid_loss"] is not None]


def helpers_of(pid: int | None) -> list[psutil.Process]:
    return [one for one in psutil.Process(pid).children() if "fettle.training.helper" in one.cmdline()]


def stopped_with_ctrl_c(command: Command) -> Finished:
    """How a study of two processes ended; none of them is left."""
    helpers = helpers_of(command.process.pid)
    assert len(helpers) == 1
    command.interrupt()
    stopped = command.wait()
    assert stopped.code == 130, stopped.everything
    assert "Traceback" not in stopped.everything
    _, alive = psutil.wait_procs(helpers, timeout=60)
    assert alive == []
    return stopped


def test_stopped_with_ctrl_c_and_finished_by_one(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    events = folder / "training" / "events.jsonl"
    command = fettle.start(*LABEL_STUDY, "--processes", "2", "--out", folder)
    assert command.wait_until(lambda: events.exists() and events.read_text().count("\n") > 4)
    assert "in 2 processes" in stopped_with_ctrl_c(command).everything
    assert list((folder / "training").glob(".processes-*")) == []
    finished = fettle(*LABEL_STUDY, "--out", folder)
    assert finished.code == label_study.finished.code, finished.everything
    ours, theirs = load(folder), load(label_study.folder)
    assert valid_losses(ours) == pytest.approx(valid_losses(theirs), abs=TOLERANCE)
    assert ours["training"]["planned"]["num_processes"] == 2, "the plan of the run's first life"


def test_under_torchrun_the_first_process_studies_and_all_train(
    bench: Path, label_study: Study, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "fettle", *LABEL_STUDY, "--out", str(folder)],
        cwd=bench,
        env=os.environ | {"FETTLE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode == 0) == (label_study.finished.code == 0), done.stderr
    assert "Traceback" not in done.stdout
    assert done.stdout.count("The test split") == 1, "one process speaks"
    report = load(folder)
    assert valid_losses(report) == pytest.approx(valid_losses(load(label_study.folder)), abs=TOLERANCE)
    assert report["training"]["planned"]["num_processes"] == 2
