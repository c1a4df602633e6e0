"""The first process's side of a divided model: it starts the others, borrows what they hold, and has them take part in training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fettle.errors import ConfigError, IntegrityError
from fettle.models.division import END, TRAIN, Division
from fettle.models.load import LoadedModel, converted_folder
from fettle.models.load_divided import load_divided
from fettle.models.precision import Precision, choose_precision
from fettle.models.resolve import ResolvedModel, WeightsKind
from fettle.settings import get_launch
from fettle.training.helpers import (
    Job,
    Loan,
    MeetingPlace,
    helped,
    num_threads_of_each,
    team_of,
    with_threads,
)
from fettle.training.team import Team


class LedDivision(Division):
    """The first process's part of a divided model, and the processes that hold the others.

    Args:
        size: How many processes there are.
        place: Where they met.
        others: Ends them.
    """

    def __init__(self, size: int, place: MeetingPlace, others: ExitStack) -> None:
        super().__init__(0, size)
        self._place, self._others = place, others

    @contextmanager
    def training(self, job: Job) -> Iterator[Team]:
        """Within it all processes take part in a run. What breaks off there ends them: they stand in the middle of a step."""
        with self.explained():
            self._place.write(job)
            self.say(TRAIN)
            self._borrows = False
            yield Team(0, self.size)
            self._borrows = True

    def say(self, number: int) -> None:
        """See `Division`.

        Raises:
            ResourceError: One of the others has ended.
        """
        with self.explained():
            super().say(number)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it the model computes; at the end the other processes end, at once where it is an error."""
        with self.explained():
            yield
        self.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Within it an error ends the other processes; where one of them is the reason, this is said.

        Raises:
            ResourceError: One of them has ended.
        """
        try:
            yield
        except BaseException as error:
            self._borrows = False
            if not self._others.__exit__(type(error), error, error.__traceback__):
                raise

    def start_lending(self) -> None:
        """From now on this process computes alone, and the others lend."""
        self._borrows = True

    def close(self) -> None:
        """Let the other processes end. The model cannot compute any more."""
        if self._borrows:
            self.say(END)
        self._borrows = False
        self._others.close()


def load_led(source: ResolvedModel, precision: Precision, *, num_processes: int) -> LoadedModel:
    """Load a model divided among this process and others, which it starts. They live until its `release` is called.

    Raises:
        ConfigError: There are fewer GPUs than processes, or `torchrun` has started this one.
        ModelError: The model cannot be loaded, or not in parts.
        ResourceError: The parts do not fit into memory, or one of the others has ended.
    """
    if get_launch() is not None:
        raise ConfigError(
            "under torchrun a model is not divided: the processes that hold it have to live as long as the study",
            where="--shard",
            remedy="start the command itself, with --processes and --shard",
        )
    chosen = choose_precision(precision)
    if source.kind is WeightsKind.GGUF:
        converted_folder(source)  # once, before several want it
    loan = Loan(
        source=source,
        precision=chosen,
        num_processes=num_processes,
        num_threads=num_threads_of_each(num_processes),
    )
    with ExitStack() as starting:
        place = MeetingPlace(Path(starting.enter_context(tempfile.TemporaryDirectory(prefix="fettle-"))))
        starting.enter_context(helped(place, loan, num_processes))
        division = LedDivision(num_processes, place, starting.pop_all())
    with division.explained():
        loaded = load_divided(source, chosen, division)
    division.start_lending()
    return loaded


@contextmanager
def team_for(loaded: LoadedModel, job: Job) -> Iterator[Team]:
    """The processes that take part in a run: those that hold a divided model, else as `team_of`.

    Raises:
        IntegrityError: The model is not held as the settings say.
    """
    num_holders = 0 if loaded.division is None else loaded.division.size
    if num_holders != (job.settings.processes if job.settings.shard else 0):
        raise IntegrityError(
            f"the settings want the model divided among {job.settings.processes if job.settings.shard else 'no'} processes, and it "
            f"is divided among {num_holders or 'none'}",
            where=loaded.name,
            remedy="load it with `load_led` and as many processes as the settings say",
        )
    if loaded.division is None:
        with team_of(job) as team:
            yield team
        return
    assert isinstance(loaded.division, LedDivision), "what the others do, the first process says"
    with with_threads(job.num_threads), loaded.division.training(job) as team:
        yield team
