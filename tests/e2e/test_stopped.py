"""A study that is killed, or stopped with Ctrl-C, goes on where it was and ends with the report of an uninterrupted one."""

from __future__ import annotations

import os
import random
import signal
from itertools import pairwise
from pathlib import Path

import pytest
from command import Runner
from reports import comparable, load
from studies import LABEL_STUDY, Study

NUM_KILLS = 10


def progress(folder: Path) -> int:
    """How far a study is: every line of answers and training events counts one, and so does every other file."""
    done = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                done += (Path(parent) / name).read_bytes().count(b"\n") if name.endswith(".jsonl") else 1
            except FileNotFoundError:  # renamed since it was listed
                continue
    return done


def moments(total: int) -> list[int]:
    """The first while the study is being planned, the others one in each ninth of the way, drawn at random."""
    rng = random.Random(0)
    last = total - 6  # the report and its page are the last files; time must be left to kill it before
    edges = [round(last * number / (NUM_KILLS - 1)) for number in range(NUM_KILLS)]
    return [0, *(rng.randint(low + 1, high) for low, high in pairwise(edges))]


@pytest.mark.long
def test_killed_at_ten_random_moments(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    total = progress(label_study.folder)
    for moment in moments(total):
        command = fettle.start(*LABEL_STUDY, "--out", folder)
        assert command.wait_until(lambda moment=moment: progress(folder) >= moment), f"ended before {moment} of {total}"
        command.kill()
        assert command.process.exitcode == -signal.SIGKILL
        assert not (folder / "report.json").exists(), f"too late a kill, at {moment} of {total}"
    finished = fettle(*LABEL_STUDY, "--out", folder)
    assert finished.code == label_study.finished.code
    assert comparable(load(folder)) == comparable(load(label_study.folder))
    assert (folder / "report.html").is_file()
    adapter = Path("training") / "adapter" / "adapter_model.safetensors"
    assert (folder / adapter).read_bytes() == (label_study.folder / adapter).read_bytes()


def test_stopped_with_ctrl_c(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    command = fettle.start(*LABEL_STUDY, "--out", folder)
    assert command.wait_until((folder / "training" / "events.jsonl").exists)
    command.interrupt()
    stopped = command.wait()
    assert stopped.code == 130
    assert "Stopped. What was finished is kept; the same command goes on from there." in stopped.everything
    assert "Traceback" not in stopped.everything
    answered = (folder / "answers" / "choosing" / "prompt-0.jsonl").read_bytes()
    finished = fettle(*LABEL_STUDY, "--out", folder)
    assert finished.code == label_study.finished.code
    assert (folder / "answers" / "choosing" / "prompt-0.jsonl").read_bytes() == answered, "nothing was answered twice"
    assert comparable(load(folder)) == comparable(load(label_study.folder))


def test_two_processes_do_not_share_a_study(fettle: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    first = fettle.start(*LABEL_STUDY, "--out", folder)
    assert first.wait_until((folder / "study.json").exists)
    second = fettle(*LABEL_STUDY, "--out", folder)
    assert second.code == 2
    assert f"another process (process {first.process.pid}) is working on this study" in second.everything
    assert "--out" in second.everything
    first.kill()
