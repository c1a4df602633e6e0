"""Several processes that share a run: the steps of one process, however it ends, and nobody left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from training_runs import SETTINGS, TRAIN, VALID, KilledError, run

from fettle.errors import ResourceError
from fettle.training.events import TrainingEvent
from fettle.training.loop import TrainingResult, train
from fettle.training.settings import Method, TrainingSettings

pytestmark = pytest.mark.long

TOLERANCE = 1e-5
SECONDS = 240
TWO = replace(SETTINGS, processes=2)
STOPS_EARLY = replace(SETTINGS, learning_rate=0.03, patience=1, evals_per_epoch=9, epochs=8)


def losses(result: TrainingResult) -> list[float]:
    return [
        point.train_loss if point.train_loss is not None else point.valid_loss or 0.0 for point in result.loss_points
    ]


def helpers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "fettle.training.helper" in one.cmdline()]


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("qwen3", SETTINGS),
        ("qwen3", STOPS_EARLY),
        ("llama", replace(SETTINGS, method=Method.FULL, learning_rate=0.003, batch_size=1, epochs=1)),
    ],
    ids=["in-parts", "stops-early", "all-weights-and-one-has-nothing-to-do"],
)
def test_two_processes_take_the_steps_of_one(
    family: str, settings: TrainingSettings, tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model(family)
    alone = run(loaded, tmp_path / "alone", settings)
    together = run(loaded, tmp_path / "together", replace(settings, processes=2))
    assert losses(together) == pytest.approx(losses(alone), abs=TOLERANCE)
    assert [point.step for point in together.loss_points] == [point.step for point in alone.loss_points]
    assert (together.best_step, together.num_steps) == (alone.best_step, alone.num_steps)
    assert together.stopped_early == alone.stopped_early == (settings is STOPS_EARLY)
    assert together.num_trained_tokens == alone.num_trained_tokens
    assert helpers() == []
    assert list((tmp_path / "together").glob(".processes-*")) == []


def test_beside_a_base_in_four_bits_too(tiny_nf4_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded, settings = tiny_nf4_model("llama"), replace(SETTINGS, method=Method.QLORA, epochs=1)
    alone = run(loaded, tmp_path / "alone", settings)
    together = run(loaded, tmp_path / "together", replace(settings, processes=2))
    assert losses(together) == pytest.approx(losses(alone), abs=TOLERANCE)


def test_what_two_processes_began_one_finishes_and_the_other_way_round(
    tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model("qwen3")
    whole = run(loaded, tmp_path / "whole")
    for name, first, then in (("two-one", TWO, SETTINGS), ("one-two", SETTINGS, TWO)):
        with pytest.raises(KilledError):
            run(loaded, tmp_path / name, first, kill_at=9)
        assert helpers() == []
        result = run(loaded, tmp_path / name, then)
        assert losses(result) == pytest.approx(losses(whole), abs=TOLERANCE)
        assert result.best_step == whole.best_step


def test_a_run_whose_other_process_is_killed_ends_and_can_go_on(
    tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    loaded = tiny_model("qwen3")

    def kill_it(event: TrainingEvent) -> None:
        if event.step == 5:
            [other] = helpers()
            sockets = [one for process in (psutil.Process(), other) for one in process.net_connections("inet")]
            assert sockets
            assert {one.laddr.ip for one in sockets} <= {"127.0.0.1", "::1"}, "no other interface"
            assert {place.stat().st_mode & 0o777 for place in tmp_path.glob(".processes-*")} == {0o700}
            other.kill()

    with pytest.raises(
        ResourceError, match="process 2 of the 2 that share the training has ended: it was killed by SIGKILL"
    ):
        train(loaded, TRAIN, VALID, TWO, folder=tmp_path, run_key="key", on_event=kill_it)
    assert helpers() == []
    assert run(loaded, tmp_path).num_steps == 12


def test_a_process_that_cannot_begin_says_why(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = tiny_model("qwen3")
    elsewhere = replace(loaded, source=replace(loaded.source, path=tmp_path / "nothing"))
    with pytest.raises(ResourceError, match=r"process 2 of the 2 .* has ended: .*nothing"):
        run(elsewhere, tmp_path / "run", TWO)
    assert helpers() == []


PROGRAM = """
import json, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from tiny_models import load_tiny_model
from training_runs import SETTINGS, TRAIN, VALID
from dataclasses import replace
from fettle.errors import IntegrityError
from fettle.settings import get_launch
from fettle.training.loop import train

loaded, folder = load_tiny_model(Path(sys.argv[1])), Path(sys.argv[2])
launch = get_launch()
settings = replace(SETTINGS, processes=1 if launch else 2, checkpoint_steps=1)

def tell(event):
    print(event.step, flush=True)

result = train(loaded, TRAIN, VALID, settings, folder=folder, run_key="key", on_event=tell)
other = None
try:
    train(loaded, TRAIN, VALID, settings, folder=folder, run_key=str(launch.rank), on_event=tell)
except IntegrityError as error:
    other = error.problem
points = [point.train_loss if point.train_loss is not None else point.valid_loss for point in result.loss_points]
(folder.parent / f"{{launch.rank}}.json").write_text(json.dumps({{"losses": points, "other": other}}))
"""


def program(folder: Path) -> Path:
    file = folder / "program.py"
    tests = Path(__file__).parents[1]
    file.write_text(PROGRAM.format(paths=[str(tests), str(tests / "numbers")]))
    return file


def test_a_killed_first_process_leaves_nobody_behind(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    model = tiny_model("qwen3").source.path
    command = [sys.executable, str(program(tmp_path)), str(model), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline().strip() == "0"  # the first evaluation is done, which takes all processes
        others = psutil.Process(first.pid).children()
        assert len(others) == 1
        first.send_signal(signal.SIGKILL)
    gone, alive = psutil.wait_procs(others, timeout=SECONDS)
    assert (len(gone), alive) == (1, [])


def test_under_torchrun_all_take_part(tiny_model: Callable[[str], Any], tmp_path: Path) -> None:
    loaded = tiny_model("qwen3")
    whole = run(loaded, tmp_path / "whole")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(program(tmp_path)), str(loaded.source.path), str(tmp_path / "run"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        told = json.loads((tmp_path / f"{rank}.json").read_text())
        assert told["losses"] == pytest.approx(losses(whole), abs=TOLERANCE)
        assert "do not agree on what is trained" in told["other"]
