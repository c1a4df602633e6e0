"""A study whose base model is divided among processes: planned, answered, trained and judged as with a whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Runner
from reports import load
from studies import LABEL_STUDY, Study, require_refused
from test_processes_study import stopped_with_ctrl_c, valid_losses

TOLERANCE = 1e-4


def test_the_verdict_is_that_of_a_whole_model(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    finished = fettle(*LABEL_STUDY, "--processes", "2", "--shard", "--out", folder)
    assert finished.code == label_study.finished.code, finished.everything
    assert "each of 2 processes holds" in finished.everything
    ours, theirs = load(folder), load(label_study.folder)
    assert valid_losses(ours) == pytest.approx(valid_losses(theirs), abs=TOLERANCE)
    assert [row["answers"] for row in ours["rows"]] == [row["answers"] for row in theirs["rows"]]
    assert ours["verdict"]["decision"] == theirs["verdict"]["decision"]


def test_stopped_with_ctrl_c_it_leaves_nobody(fettle: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    command = fettle.start(*LABEL_STUDY, "--processes", "2", "--shard", "--out", folder)
    assert command.wait_until(lambda: (folder / "answers").is_dir())
    stopped_with_ctrl_c(command)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "there are no processes to divide the base model among"),
        (["--processes", "2", "--method", "full"], "all weights are trained"),
        (["--processes", "2", "--method", "qlora"], "they are held in 4 bits"),
        (["--processes", "2", "--lora-variant", "dora"], "DoRA needs the lengths of all weight columns"),
    ],
)
def test_what_does_not_go_with_a_divided_model_is_refused(fettle: Runner, options: list[str], reason: str) -> None:
    require_refused(fettle(*LABEL_STUDY, "--shard", *options), reason)
