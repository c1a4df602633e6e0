from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import torch

from fettle.answering.engines.row_threads import GivenUpError, GoOn, in_shares

CPU = torch.device("cpu")
ROWS = list(range(131))


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("num_rows", "num_threads", "num_shares"),
    [(0, 4, 1), (63, 4, 1), (64, 4, 2), (131, 4, 4), (131, 2, 2), (999, 9, 4)],
)
def test_results_come_in_the_order_of_the_rows(num_rows: int, num_threads: int, num_shares: int) -> None:
    torch.set_num_threads(num_threads)
    shares: list[tuple[int, int, bool]] = []

    def double(share: Sequence[int], go_on: GoOn) -> list[int]:
        go_on()
        shares.append((len(share), torch.get_num_threads(), torch.is_inference_mode_enabled()))
        return [2 * row for row in share]

    assert in_shares(double, range(num_rows), device=CPU) == [2 * row for row in range(num_rows)]
    assert len(shares) == num_shares
    assert max(length for length, _, _ in shares) - min(length for length, _, _ in shares) <= 1
    assert {(threads, is_inference) for _, threads, is_inference in shares} == {(num_threads // num_shares, True)}
    assert torch.get_num_threads() == num_threads


def test_another_device_than_a_processor_gets_all_rows_at_once() -> None:
    def lengths(share: Sequence[int], _: GoOn) -> list[int]:
        return [len(share)] * len(share)

    assert in_shares(lengths, ROWS, device=torch.device("meta")) == [len(ROWS)] * len(ROWS)


def test_an_error_in_one_share_ends_the_others_and_is_the_one_that_is_raised() -> None:
    ended: list[str] = []

    def work(share: Sequence[int], go_on: GoOn) -> list[int]:
        if 2 in share:
            raise MemoryError("no room")
        try:
            while True:
                go_on()
                time.sleep(0.001)
        except GivenUpError:
            ended.append(threading.current_thread().name)
            raise

    with pytest.raises(MemoryError, match="no room"):
        in_shares(work, ROWS, device=CPU)
    assert len(ended) == 3
    assert torch.get_num_threads() == 4
