"""Further processes that share a run's batches: started, told what the run is, watched, and never left over.

Each is an interpreter of its own that loads the base model itself, which costs little memory where the weights are used as they lie
in their files. Its standard input is its lifeline: when this process ends in whatever way, the pipe closes and the helper ends too.
They find each other by a file in the run's folder, in a folder that only this user can read, and talk over the loopback interface.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, TypeVar

from fettle.errors import ConfigError, ResourceError, disk_errors_explained
from fettle.models.precision import BaseWeights, Precision
from fettle.models.resolve import ResolvedModel
from fettle.records import TokenisedExample
from fettle.settings import get_launch
from fettle.training.settings import TrainingSettings
from fettle.training.team import Team, joined, launched_team

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_T = TypeVar("_T")

_PLACE_PREFIX = ".processes-"
_SECONDS_BETWEEN_LOOKS = 0.02
_SECONDS_TO_END = 10.0
"""A helper whose connections have closed has ended after a moment; one that is done ends by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that a helper needs to take part in a run."""

    source: ResolvedModel
    precision: Precision
    base_weights: BaseWeights
    train_rows: tuple[TokenisedExample, ...]
    valid_rows: tuple[TokenisedExample, ...]
    settings: TrainingSettings
    folder: Path
    """Of the run."""
    run_key: str
    max_tokens: int
    """Bound on the tokens that are run at once."""
    recomputes: bool
    """Layers are computed again in the backward pass."""
    num_threads: int
    """Of each process."""
    start_from: Path | None = None
    """The folder of the adapter that is trained further; None: a fresh one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """Everything that a helper needs to hold its part of a divided model, and to lend it."""

    source: ResolvedModel
    precision: Precision
    """EXACT or FAST."""
    num_processes: int
    num_threads: int
    """Of each process while it trains."""


@dataclass(frozen=True, slots=True)
class MeetingPlace:
    """The folder in which the processes of one run find each other."""

    folder: Path

    @property
    def meeting(self) -> Path:
        """The file by which they find each other."""
        return self.folder / "meeting"

    def log(self, rank: int) -> Path:
        """What a helper prints."""
        return self.folder / f"{rank}.log"

    def ready(self, rank: int) -> Path:
        """There once a helper has its model."""
        return self.folder / f"{rank}.ready"

    def write(self, what: Job | Loan) -> None:
        """Leave word of a job or a loan."""
        (self.folder / f"{type(what).__name__}.json").write_bytes(_adapter(type(what)).dump_json(what))

    def read_job(self) -> Job:
        """The job, as it was left."""
        return _adapter(Job).validate_json((self.folder / "Job.json").read_bytes())

    def read_loan(self) -> Loan | None:
        """The loan, as it was left; None: the helper is to hold the model whole."""
        file = self.folder / "Loan.json"
        return _adapter(Loan).validate_json(file.read_bytes()) if file.exists() else None


@contextmanager
def team_of(job: Job) -> Iterator[Team]:
    """The processes that take part: those that a launcher has started, or those that this one starts and ends.

    Raises:
        ResourceError: One of the others has ended.
        ConfigError: There are too few GPUs.
    """
    import torch

    launch = get_launch()
    if launch is not None:
        if torch.cuda.is_available():
            torch.cuda.set_device(launch.rank)
        yield launched_team(launch)
    elif job.settings.processes == 1:
        yield Team()
    else:
        with (
            with_threads(job.num_threads),
            _meeting_place(job.folder) as place,
            helped(place, job, job.settings.processes) as team,
        ):
            yield team


@contextmanager
def with_threads(num_threads: int) -> Iterator[None]:
    """Within it torch has so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def as_launched(settings: TrainingSettings) -> TrainingSettings:
    """The settings with the number of processes that a launcher has started; as they are where there is no launcher.

    Raises:
        ConfigError: They ask for another number.
    """
    launch = get_launch()
    if launch is None:
        return settings
    if settings.processes not in (1, launch.num_processes):
        raise ConfigError(
            f"torchrun has started {launch.num_processes} processes, and {settings.processes} are asked for",
            where="--processes",
            remedy="leave it out: the launcher says how many there are",
        )
    return replace(settings, processes=launch.num_processes)


def num_threads_of_each(num_processes: int) -> int:
    """Threads of each of several processes, so that together they have as many as this one has now."""
    import torch

    return max(1, torch.get_num_threads() // num_processes)


def _require_devices(num_processes: int) -> None:
    """Refuse more processes than there are GPUs, where there are any: each needs its own.

    Raises:
        ConfigError: There are fewer.
    """
    import torch

    if torch.cuda.is_available() and num_processes > torch.cuda.device_count():
        raise ConfigError(
            f"{num_processes} processes need a GPU each, and this machine has {torch.cuda.device_count()}",
            where="--processes",
            remedy="ask for as many processes as there are GPUs, at most",
        )


@contextmanager
def _meeting_place(folder: Path) -> Iterator[MeetingPlace]:
    """A place in a run's folder, for as long as the run goes on."""
    with disk_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(f"{_PLACE_PREFIX}*"):  # by a run that was killed
            rmtree(left_over, ignore_errors=True)
        place = MeetingPlace(Path(tempfile.mkdtemp(dir=folder, prefix=_PLACE_PREFIX)))
    try:
        yield place
    finally:
        rmtree(place.folder, ignore_errors=True)


@contextmanager
def helped(place: MeetingPlace, word: Job | Loan, num_processes: int) -> Iterator[Team]:
    """Within it so many processes are there, this one as the first.

    Args:
        place: In which they meet.
        word: What the others are to do.
        num_processes: How many there are.

    Raises:
        ResourceError: One of the others has ended.
        ConfigError: There are too few GPUs.
    """
    _require_devices(num_processes)
    with disk_errors_explained(place.folder):
        place.write(word)
    helpers = [_Helper(place, rank, num_processes) for rank in range(1, num_processes)]
    try:
        for helper in helpers:
            helper.start()
        while not all(helper.is_ready for helper in helpers):
            for helper in helpers:
                helper.require_running()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        with _losses_explained(helpers), joined(0, num_processes, meeting=place.meeting) as team:
            yield team
        for helper in helpers:
            helper.wait()
    finally:
        for helper in helpers:
            helper.stop()


@contextmanager
def _losses_explained(helpers: list[_Helper]) -> Iterator[None]:
    """Say which process is gone, where working with it has failed."""
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error).lower() and "nccl" not in str(error).lower():
            raise
        end = time.monotonic() + _SECONDS_TO_END
        while time.monotonic() < end:
            for helper in helpers:
                helper.require_running()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        raise


class _Helper:
    """One further process."""

    def __init__(self, place: MeetingPlace, rank: int, size: int) -> None:
        self._place, self._rank, self._size = place, rank, size
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it loads its model then."""
        with self._place.log(self._rank).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fettle.training.helper", str(self._place.folder), str(self._rank)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    @property
    def is_ready(self) -> bool:
        """Whether its model is loaded."""
        return self._place.ready(self._rank).exists()

    def require_running(self) -> None:
        """Raise an error that says why, if it has ended.

        Raises:
            ResourceError: It has.
        """
        assert self._process is not None, "it was started"
        code = self._process.poll()
        if code is None:
            return
        raise ResourceError(
            f"process {self._rank + 1} of the {self._size} that share the training has ended: {self._reason(code)}",
            remedy="run the same command again: it goes on from the last checkpoint; fewer --processes take less memory",
        )

    def _reason(self, code: int) -> str:
        if code < 0:
            return f"it was killed by {signal.Signals(-code).name}"
        lines = self._place.log(self._rank).read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else f"exit code {code}"

    def wait(self) -> None:
        """A while for it to end by itself, for it has nothing left to do."""
        assert self._process is not None, "it was started"
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)

    def stop(self) -> None:
        """End it, whatever it is doing."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None, "it was given a lifeline"
        self._process.stdin.close()


def _adapter(kind: type[_T]) -> TypeAdapter[_T]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
