"""What `test_interrupt` runs in an interpreter of its own: `python interrupts.py NAME`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

import pytest
import torch
from rich.console import Console

from fettle.answering.engines.row_threads import GoOn, in_shares
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


def shares_end() -> None:
    """All threads that share rows end at their next step."""
    ended: list[str] = []
    begun = threading.Barrier(4, action=threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start)

    def work(_: Sequence[int], go_on: GoOn) -> list[int]:
        begun.wait()
        try:
            while True:
                go_on()
                time.sleep(0.001)
        finally:
            ended.append(threading.current_thread().name)

    torch.set_num_threads(4)
    with pytest.raises(KeyboardInterrupt):
        in_shares(work, range(131), device=torch.device("cpu"))
    assert len(ended) == 4
    assert torch.get_num_threads() == 4


if __name__ == "__main__":
    # What a shell starts in the background ignores interrupts; these must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    {"raised_at_once": raised_at_once, "thrown_away": thrown_away, "ignored": ignored, "shares_end": shares_end}[
        sys.argv[1]
    ]()
    sys.stdout.write("as it should be\n")
