"""What was trained, as it is at the ends of epochs: folders that are used like a run's result, the last few of them kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from fettle.files import replaced_folder

_EPOCHS = "epochs"


def keep_epoch(run_folder: Path, step: int, write: Callable[[Path], None], *, num_kept: int) -> str:
    """Write the weights after `step` steps, and drop all but the last few up to there; the folder's name, as `epochs/step-0000012`.

    It is there whole or not at all. A run that goes on from an earlier step writes it again; later ones stay until then.

    Args:
        run_folder: Of the run.
        step: Steps done.
        write: Writes a usable folder at the place it is given.
        num_kept: How many to keep.

    Raises:
        DiskFullError: No space is left; earlier ones are untouched.
    """
    epochs = run_folder / _EPOCHS
    folder = epochs / f"step-{step:07d}"
    with replaced_folder(folder) as temporary:
        write(temporary)
    earlier = sorted(other for other in epochs.glob("step-*") if other.name <= folder.name)
    for old in earlier[:-num_kept]:
        shutil.rmtree(old, ignore_errors=True)
    return f"{_EPOCHS}/{folder.name}"
