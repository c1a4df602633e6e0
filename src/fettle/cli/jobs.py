"""`fettle jobs`: what the server works on, for who runs it. Users see their own through the API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.cli.job_estimate import estimate
from fettle.cli.tables import print_table
from fettle.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fettle.store.jobs import Job

app = typer.Typer(
    no_args_is_help=True,
    help="Jobs of the server, of all projects: what one would take, what runs, what waits, what has become of it.",
)
JobId = Annotated[str, typer.Argument(help="The job's id, as `fettle jobs list` shows it.")]


app.command()(estimate)


@app.command("list")
def list_(limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20) -> None:
    """Show the newest jobs."""
    from fettle.cli.store import open_store
    from fettle.store.jobs import newest_jobs

    with open_store().reading() as connection:
        found = newest_jobs(connection, limit)
    lines = []
    for job in found:
        ended = "" if job.finished_at is None else _when(job.finished_at)
        made = _when(job.created_at)
        lines.append((job.id, job.project_id, job.kind.value, job.status.value, job.model, made, ended))
    print_table(("id", "project", "kind", "status", "model", "made", "ended"), lines)


@app.command()
def show(
    job_id: JobId,
    events: Annotated[int, typer.Option(min=0, max=1000, help="So many of the newest events.")] = 10,
) -> None:
    """Show a job, and the last that it has told."""
    from fettle.cli.store import open_store
    from fettle.store.job_log import list_events
    from fettle.store.jobs import read_job
    from fettle.store.pages import PageRequest

    with open_store().reading() as connection:
        job = read_job(connection, job_id)
        told = list_events(connection, job_id, PageRequest(limit=events)).items if events else ()
    typer.echo(f"{job.id}: {job.status.value}, {job.kind.value} of {job.model}, project {job.project_id}")
    if job.tuned_model is not None:
        typer.echo(f"Tuned model: {job.tuned_model}")
    if job.error is not None:
        typer.echo(f"Failed ({job.error.code}): {job.error.message}")
    for event in reversed(told):
        typer.echo(f"{_when(event.created_at)} {event.level.value:5} {event.message}")


@app.command()
def pause(job_id: JobId) -> None:
    """Let a running job stop after its step, to go on later."""
    from fettle.jobs.control import pause_job

    _change(job_id, pause_job, "paused")


@app.command()
def resume(job_id: JobId) -> None:
    """Let a paused job go on."""
    from fettle.jobs.control import resume_job

    _change(job_id, resume_job, "resumed")


@app.command()
def cancel(job_id: JobId) -> None:
    """Stop a job for good."""
    from fettle.jobs.control import cancel_job

    _change(job_id, cancel_job, "cancelled")


def _change(job_id: str, change: Callable[[Connection, Job], bool], what: str) -> None:
    from fettle.cli.store import open_store
    from fettle.store.jobs import read_job

    with open_store().writing() as connection:
        job = read_job(connection, job_id)
        if not change(connection, job):
            raise ConfigError(
                f"the job is {job.status.value}, so it cannot be {what}",
                where=job_id,
                remedy="`fettle jobs list` shows how far jobs are",
            )
    typer.echo(f"{what.capitalize()}: {job_id}")


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
