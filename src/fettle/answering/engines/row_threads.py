"""Rows shared out to a few threads, which is faster on a processor than all threads together on every product.

Scoring choices is made of small products with other work between them, at which all threads but one would wait: 1.1 times as fast
on two cores. Writing answers is not: one token a row makes products that read all weights, and two shares read them twice (0.8
times as fast; LOG.md, 2026-11-26).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Row = TypeVar("Row")
Result = TypeVar("Result")
GoOn = Callable[[], None]
"""Is called between two steps of long work; raises when nobody waits for its result any more."""

_FEWEST_ROWS = 32
"""Of a share: a product of 16 rows reaches a quarter of what both threads reach with 32."""
_MOST_SHARES = 4
"""With more, the threads wait for one another between products: Python runs one of them at a time."""


class GivenUpError(Exception):
    """Raised inside a share's work when the caller was interrupted or another share failed."""


def in_shares(
    work: Callable[[Sequence[Row], GoOn], Sequence[Result]], rows: Sequence[Row], *, device: torch.device
) -> list[Result]:
    """What `work` gives for each row, in inference mode; on a processor with some of the rows in each of a few threads.

    Each thread gets its part of torch's threads. Neighbouring rows go to different threads, so that sorted rows are shared out
    evenly. An interrupt, or an error in one share, ends the others at their next step.
    """
    num_threads = torch.get_num_threads()
    most_shares = min(num_threads, _MOST_SHARES) if device.type == "cpu" else 1
    num_shares = max(1, min(most_shares, len(rows) // _FEWEST_ROWS))
    given_up = threading.Event()

    def go_on() -> None:
        if given_up.is_set():
            raise GivenUpError

    def run(share: Sequence[Row]) -> Sequence[Result]:
        torch.set_num_threads(num_threads // num_shares)  # of this thread, and of threads made later
        with torch.inference_mode():
            return work(share, go_on)

    if num_shares == 1:
        return list(run(rows))
    try:
        with ThreadPoolExecutor(num_shares) as pool:
            try:
                futures = [pool.submit(run, rows[first::num_shares]) for first in range(num_shares)]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for failed in (future for future in done if future.exception()):
                    failed.result()  # raises
            finally:
                given_up.set()  # either all are done, or nobody waits for them
        shares = [future.result() for future in futures]
    finally:
        torch.set_num_threads(num_threads)
    return [shares[row % num_shares][row // num_shares] for row in range(len(rows))]
