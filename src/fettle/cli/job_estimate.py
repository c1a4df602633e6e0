"""`fettle jobs estimate`: what a fine-tuning job would take, before it is created."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fettle.errors import ConfigError, require_range

if TYPE_CHECKING:
    from fettle.jobs.job_estimate import JobEstimate
    from fettle.jobs.job_folder import RowCounts, TrainingJob


def estimate(
    file: Annotated[Path, typer.Argument(help="The training file: chat rows, JSON Lines, as the API takes them.")],
    valid: Annotated[Path | None, typer.Option(help="The validation file.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="What to train: a model as `fettle models list` shows it, a folder, a .gguf file, org/name. "
            "Default: the embedded one."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=50, help="Left out: chosen as a job does.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, max=256, help="Left out: chosen as a job does.")] = None,
    learning_rate_multiplier: Annotated[float | None, typer.Option(help="Left out: 1.")] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(min=0.0, help="What the machine costs an hour, in any currency.")
    ] = None,
) -> None:
    """Say what a job with FILE would take: rows, tokens, steps, minutes, memory, cost. Refuses what the job would refuse."""
    from fettle.jobs.estimate import estimate_job
    from fettle.jobs.job_folder import MAX_LEARNING_RATE_MULTIPLIER, MIN_LEARNING_RATE_MULTIPLIER, TrainingJob

    if learning_rate_multiplier is not None:
        require_range(
            "--learning-rate-multiplier",
            learning_rate_multiplier,
            low=MIN_LEARNING_RATE_MULTIPLIER,
            high=MAX_LEARNING_RATE_MULTIPLIER,
        )
    for path in (file, valid):
        if path is not None and not path.is_file():
            raise ConfigError("no such file", where=str(path), remedy="name a file of chat rows, JSON Lines")
    base, adapter = _named(model)
    job = TrainingJob(
        training_file=file,
        validation_file=valid,
        model=base,
        adapter=adapter,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate_multiplier=learning_rate_multiplier,
    )
    console = Console()
    with console.status("Reading the files, loading the model and measuring one training step"):
        expected = estimate_job(job)
    for title, text in _lines(job, expected, price_per_hour):
        console.print(f"[bold]{title}[/bold]", end=": ")
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _named(name: str | None) -> tuple[str | None, Path | None]:
    """What a name means to the server, as a base model and an adapter to go on from; else as files."""
    from fettle.cli.store import open_store
    from fettle.store.models import NoSuchModelError, TunedModel, base_of, find_model_of_any_project, folder_of

    if name is None:
        return None, None
    store = open_store()
    try:
        with store.reading() as connection:
            model = find_model_of_any_project(connection, name)
            base = base_of(connection, model)
    except NoSuchModelError:
        if name.startswith("ft:"):
            raise
        return name, None
    return base.source, folder_of(store, model) if isinstance(model, TunedModel) else None


def _lines(job: TrainingJob, expected: JobEstimate, price_per_hour: float | None) -> list[tuple[str, str]]:
    from fettle.study.figures import amount, byte_size, counted

    started = expected.started
    used = started.hyperparameters
    chosen = {
        counted(used.epochs, "epoch"): job.epochs,
        f"batches of {used.batch_size}": job.batch_size,
        f"learning rate {started.learning_rate:.2g}": job.learning_rate_multiplier,
    }
    lines = [
        ("Training file", _rows_line(started.train, started.max_tokens)),
        *([("Validation file", _rows_line(started.valid, started.max_tokens))] if started.valid else []),
        ("Hyperparameters", ", ".join(f"{text}{'' if given else ' (auto)'}" for text, given in chosen.items())),
        ("Steps", f"{started.num_steps:,}, {started.num_trained_tokens:,} trained tokens"),
        (
            "Time",
            f"about {expected.minutes:.1f} minutes, from one measured step in precision {started.precision.value}",
        ),
        ("Memory", f"about {byte_size(expected.peak_memory_bytes)}{_memory_note(expected)}"),
    ]
    if price_per_hour is not None:
        price = expected.price(price_per_hour)
        lines.append(("Cost", f"about {amount(price)} at {amount(price_per_hour)} an hour"))
    return lines + [("Note", warning) for warning in expected.warnings]


def _rows_line(counts: RowCounts, max_tokens: int) -> str:
    from fettle.study.figures import counted

    parts = [f"{counted(counts.num_rows, 'row')} take part, {counts.num_tokens:,} tokens an epoch"]
    if counts.num_truncated:
        parts.append(f"{counts.num_truncated:,} longer than {max_tokens:,} tokens, and cut there")
    if counts.num_skipped:
        parts.append(f"{counted(counts.num_skipped, 'row')} skipped, for nothing that could be learned is left of them")
    if counts.num_partly_trained:
        parts.append(f"{counts.num_partly_trained:,} with an answer that is not learned")
    return "; ".join(parts)


def _memory_note(expected: JobEstimate) -> str:
    if not expected.recomputes:
        return ""
    return "; layers are computed again in the backward pass, which takes a third more time"
