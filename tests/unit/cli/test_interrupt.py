from __future__ import annotations

import contextlib
import signal
import time

import pytest
from rich.console import Console

from fettle.cli.interrupt import Interruption
from fettle.cli.progress import ProgressBars
from fettle.progress import Stage


def press_ctrl_c() -> None:
    signal.raise_signal(
        signal.SIGINT
    )  # to this thread: libraries have threads of their own that would do something else with it
    for _ in range(100):  # the handler runs between two of these
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def usual_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_that_was_thrown_away_is_raised_at_the_next_progress() -> None:
    stage = Stage(name="answers", num_done=1, num_total=2)
    with ProgressBars(Console(quiet=True)) as bars:
        bars.on_stage(stage)
        with contextlib.suppress(KeyboardInterrupt):  # what a library does
            press_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            bars.on_stage(stage)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        press_ctrl_c()
        interruption.raise_if_asked()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
