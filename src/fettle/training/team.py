"""The processes that take one training run together: what each adds, and that all of them stand at the same place.

Every process takes its share of every batch, gradients and losses are added up over all of them, and each makes the same update, so
no weights travel. A run alone is a team of one, for which every sum is what it was.
"""

from __future__ import annotations

import atexit
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import IntegrityError
from fettle.settings import Launch, meet_over_loopback

if TYPE_CHECKING:
    import torch

_PATIENCE = timedelta(days=30)
"""How long a process waits for the others. One that dies closes its connections, which ends the waiting at once."""


@dataclass(frozen=True, slots=True)
class Team:
    """One process of a run, and what it does together with the others."""

    rank: int = 0
    """Its number, from 0."""
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each value added up over all processes."""
        if self.size == 1:
            return values
        import torch
        from torch import distributed

        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        return tuple(total.tolist())

    def most(self, value: int) -> int:
        """The largest value of all processes."""
        if self.size == 1:
            return value
        import torch
        from torch import distributed

        largest = torch.tensor(value)
        distributed.all_reduce(largest, op=distributed.ReduceOp.MAX)
        return int(largest)

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Add up tensors over all processes, each in its place."""
        if self.size == 1:
            return
        from torch import distributed

        under_way = [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]
        for work in under_way:
            assert work is not None, "it runs in the background, and this process belongs to the group"
            work.wait()

    def wait(self) -> None:
        """Until all processes have come here."""
        self.sums(0.0)

    def require_same(self, what: str, value: object) -> None:
        """Show that all processes hold the same value.

        Args:
            what: What it is, for the message.
            value: Anything whose `repr` says it exactly.

        Raises:
            IntegrityError: They do not.
        """
        if self.size == 1:
            return
        import torch
        from torch import distributed

        number = int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:7])
        most = torch.tensor([number, -number])
        distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
        if int(most[0]) != -int(most[1]):
            raise IntegrityError(
                f"the {self.size} processes of this run do not agree on {what}; here it is {value!r}",
                remedy="give --precision exact or fast, so that none has to choose, or use one process; else report this",
            )


@contextmanager
def joined(rank: int, size: int, *, meeting: Path) -> Iterator[Team]:
    """Within it this process is one of a team, all of which must come here.

    Args:
        rank: The number of this process.
        size: How many there are.
        meeting: A file by which they find each other; it must not exist before.
    """
    from torch import distributed

    _join(rank, size, f"file://{meeting.absolute()}")
    try:
        yield Team(rank, size)
    finally:
        distributed.destroy_process_group()


def launched_team(launch: Launch) -> Team:
    """The processes that a launcher has started, of which this is one.

    They stay together until they end: the launcher remembers the addresses of their first meeting and would give them out again.
    """
    from torch import distributed

    if not distributed.is_initialized():
        _join(launch.rank, launch.num_processes, "env://")
        atexit.register(distributed.destroy_process_group)
    return Team(launch.rank, launch.num_processes)


def _join(rank: int, size: int, meeting: str) -> None:
    import torch
    from torch import distributed

    meet_over_loopback()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=size, timeout=_PATIENCE)
