"""What jobs that are over leave on the disk: what an operator may want to read, neither weights nor anything of the user's data.

What was tuned lies among the store's models by then. Kills may leave more: folders of models that no row names.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from fettle.jobs.fine_tuning import folder_of_job
from fettle.jobs.job_folder import JobFolder
from fettle.store.database import Store
from fettle.store.jobs import NoSuchJobError, read_job
from fettle.store.models import list_tuned_models

_KEPT = {".lock", "process.log", "job.json", "started.json", "result.json", "error.json", "training"}
_KEPT_OF_TRAINING = {"events.jsonl"}


def tidy_jobs(store: Store) -> None:
    """Tidy up after all jobs that are over."""
    folders = [*_folders(store.jobs), *_folders(store.models)]
    for job_id in {folder.name for folder in folders}:
        tidy_job(store, job_id)


def tidy_job(store: Store, job_id: str) -> None:
    """Tidy up after a job that is over; nothing happens where it is not, or where a process still works in its folder."""
    if not _left_overs(folder_of_job(store.jobs, job_id)) and not _folders(store.models / job_id):
        return
    with store.reading() as connection:
        try:
            is_over = read_job(connection, job_id).status.is_final
        except NoSuchJobError:  # whoever put it there knows why
            return
        named = {model.folder for model in list_tuned_models(connection)}
    if not is_over:
        return
    for folder in _folders(store.models / job_id):
        if f"{job_id}/{folder.name}" not in named:
            shutil.rmtree(folder, ignore_errors=True)
    folder = JobFolder(folder_of_job(store.jobs, job_id))
    if not folder.path.is_dir():
        return
    with folder.locked() as is_ours:
        for path in _left_overs(folder.path) if is_ours else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _left_overs(folder: Path) -> list[Path]:
    found = [path for path in _entries(folder) if path.name not in _KEPT]
    return found + [path for path in _entries(folder / "training") if path.name not in _KEPT_OF_TRAINING]


def _folders(parent: Path) -> list[Path]:
    return [path for path in _entries(parent) if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
