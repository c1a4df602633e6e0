"""What a further process of a training run does: `python -m fettle.training.helper FOLDER RANK`, started by `helpers`.

It loads the model, takes its share of every batch, and ends when the run does, or when the process that started it ends. Of a
divided model it holds a part, until the first process has done with the model.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import FettleError, exit_code
from fettle.settings import keep_freed_memory, let_others_run
from fettle.training.lifeline import end_with_parent

if TYPE_CHECKING:
    from fettle.training.helpers import Job, Loan, MeetingPlace


def main() -> None:
    """Take part in the run that is described in a folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the first process, which ends this one
    end_with_parent()
    let_others_run()
    keep_freed_memory()
    try:
        _help(Path(sys.argv[1]), int(sys.argv[2]))
    except FettleError as error:
        sys.stderr.write(f"{error.describe()}\n")
        sys.exit(exit_code(error))


def _help(folder: Path, rank: int) -> None:
    import torch

    from fettle.training.helpers import MeetingPlace

    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    place = MeetingPlace(folder)
    loan = place.read_loan()
    if loan is None:
        _share_run(place, place.read_job(), rank)
    else:
        _lend(place, loan, rank)


def _share_run(place: MeetingPlace, job: Job, rank: int) -> None:
    """Take part in one run, with a model of its own."""
    import torch

    from fettle.models.load import load_model
    from fettle.training.loop import take_part
    from fettle.training.team import joined

    loaded = load_model(job.source, job.precision, job.base_weights)
    torch.set_num_threads(job.num_threads)
    place.ready(rank).touch()
    with joined(rank, job.settings.processes, meeting=place.meeting) as team:
        take_part(loaded, job, team)


def _lend(place: MeetingPlace, loan: Loan, rank: int) -> None:
    """Hold a part of a divided model: lend it to the first process, and take part in what is trained beside it."""
    import torch

    from fettle.models.division import TRAIN, Division
    from fettle.models.load_divided import load_divided
    from fettle.training.loop import take_part
    from fettle.training.team import joined

    torch.set_num_threads(loan.num_threads)
    place.ready(rank).touch()
    with joined(rank, loan.num_processes, meeting=place.meeting) as team:
        division = Division(rank, loan.num_processes)
        loaded = load_divided(loan.source, loan.precision, division)
        while division.lend() == TRAIN:
            take_part(loaded, place.read_job(), team)


if __name__ == "__main__":
    main()
