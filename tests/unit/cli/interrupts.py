"""What `test_interrupt` runs in an interpreter of its own: `python interrupts.py NAME`."""

from __future__ import annotations

import contextlib
import signal
import sys
import time

import pytest
from rich.console import Console

from fettle.cli.interrupt import Interruption
from fettle.cli.progress import ProgressBars
from fettle.progress import Stage


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)
    for _ in range(100):  # the handler runs between two of these
        time.sleep(0.001)


def raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def thrown_away() -> None:
    stage = Stage(name="answers", num_done=1, num_total=2)
    with ProgressBars(Console(quiet=True)) as bars:
        bars.on_stage(stage)
        with contextlib.suppress(KeyboardInterrupt):  # what a library does
            press_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            bars.on_stage(stage)


def ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        press_ctrl_c()
        interruption.raise_if_asked()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


if __name__ == "__main__":
    # What a shell starts in the background ignores interrupts; these must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    {"raised_at_once": raised_at_once, "thrown_away": thrown_away, "ignored": ignored}[sys.argv[1]]()
    sys.stdout.write("as it should be\n")
