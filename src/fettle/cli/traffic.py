"""`fettle traffic`: what is kept of users' requests, and whether they are still what the test split was."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fettle.errors import EXIT_ALARM, ConfigError

if TYPE_CHECKING:
    from fettle.store.database import Store
    from fettle.store.traffic import KeptRequest
    from fettle.traffic.drift import DriftReport

app = typer.Typer(no_args_is_help=True, help="Requests that are kept: how many, for how long, and how they change.")
ProjectOption = Annotated[str, typer.Option(help="Whose requests.")]


@app.command()
def show(project: ProjectOption = "default") -> None:
    """Say whose requests are kept, by which rules, and how many there are."""
    from fettle.cli.store import open_store
    from fettle.cli.tables import print_table
    from fettle.store.keys import list_keys
    from fettle.store.traffic import count_traffic, list_rules

    store = open_store()
    project_id = project_of(store, project)
    with store.reading() as connection:
        rules, counts = list_rules(connection), count_traffic(connection, project_id)
    lines = []
    for key in list_keys(store):
        if key.project_id == project_id and (rule := rules.get(key.id)) is not None:
            redacts = "replaced" if rule.redacts else "KEPT"
            lines.append((key.id, key.name, f"{rule.num_days} days", f"{rule.share:.3g}", redacts))
    print_table(("key", "name", "kept for", "share with texts", "personal data"), lines)
    since = "" if counts.oldest_at is None else f", the oldest of {_date(counts.oldest_at)}"
    typer.echo(
        f"{counts.num_requests} requests, {counts.num_with_texts} with texts, {counts.num_feedback} times feedback{since}"
    )


@app.command()
def forget(
    project: ProjectOption = "default",
    completion: Annotated[str | None, typer.Option(help="Only this completion's request.")] = None,
    key: Annotated[str | None, typer.Option(help="Only requests made with the key of this id.")] = None,
    before: Annotated[str | None, typer.Option(help="Only requests of before this day, YYYY-MM-DD.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the project.")] = False,
) -> None:
    """Delete kept requests and their feedback now. Backups that were made before still hold them."""
    from fettle.cli.store import open_store
    from fettle.store.traffic import forget as forget_requests

    if everything == any(one is not None for one in (completion, key, before)):
        raise ConfigError(
            "expected what to delete", where="forget", remedy="give --completion, --key, --before or --all"
        )
    store = open_store()
    before_at = None if before is None else seconds_of_day(before, "--before")
    number = forget_requests(store, project_of(store, project), completion_id=completion, key_id=key, before=before_at)
    typer.echo(f"Deleted: {number} requests")


@app.command()
def drift(
    train: Annotated[Path, typer.Option(help="Examples that the model was trained on.")],
    test: Annotated[Path, typer.Option(help="Examples that it was tested on.")],
    project: ProjectOption = "default",
    model: Annotated[str | None, typer.Option(help="Only requests to this model or release. Default: all.")] = None,
    test_key: Annotated[
        str | None,
        typer.Option(
            help="Id of a key with which the test examples were sent to the server (texts asking for log-probabilities): "
            "the confidence of answers is then watched too."
        ),
    ] = None,
    false_alarms: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Most probability of ever alarming while nothing changes.")
    ] = 0.01,
    state: Annotated[
        Path | None, typer.Option(help="File that remembers earlier looks. Default: one in FETTLE_HOME.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(help="What makes vectors, as for `fettle index`. Default: the packaged one.")
    ] = None,
) -> None:
    """Look at the requests that came since the last look: are they still what the test split was? Exit code 5 on an alarm."""
    from fettle.cli.store import open_store
    from fettle.examples.read import read_examples
    from fettle.retrieval.embedders.registry import DEFAULT_EMBEDDER, embedder_by_name
    from fettle.traffic.drift import begin_drift_watch
    from fettle.traffic.drift_state import DriftProgress, read_progress, reference_sha256, write_progress

    store = open_store()
    project_id = project_of(store, project)
    train_texts, test_texts = (
        [example.input_text for example in read_examples(file).examples] for file in (train, test)
    )
    vectors = embedder_by_name(embedder or DEFAULT_EMBEDDER)
    reference = reference_sha256(train_texts, test_texts, vectors.revision, model)
    wanted = DriftProgress(reference_sha256=reference, false_alarm_rate=false_alarms)
    every = kept_requests(store, project_id)
    sure = [one.confidence for one in every if one.key_id == test_key and one.confidence is not None]
    path = state or store.home / "drift" / f"{project_id}-{reference[:16]}.json"
    watch = begin_drift_watch(train_texts, test_texts, vectors, test_confidences=sure)
    progress = read_progress(path, watch, wanted)
    asked = [one for one in every if one.key_id != test_key and model in (None, one.model)]
    report = watch.look(progress.new_requests(asked), false_alarm_rate=false_alarms)
    write_progress(path, progress, watch)
    print_drift(report)
    raise typer.Exit(EXIT_ALARM if report.is_alarm else 0)


def print_drift(report: DriftReport) -> None:
    """Print what a look has shown."""
    from fettle.cli.tables import print_table

    typer.echo(
        f"{report.num_new} new requests, {report.num_requests} in {report.num_looks} looks, "
        f"against {report.num_known} test examples"
    )
    verdict = "ALARM: requests are not what the test split was" if report.is_alarm else "No alarm"
    typer.echo(
        f"{verdict}. Evidence {report.evidence:.3g}; an alarm is 1 / {report.false_alarm_rate:g} = "
        f"{1 / report.false_alarm_rate:.0f}. If nothing ever changes, the probability that there ever is one is "
        f"{100 * report.false_alarm_rate:g} % at most."
    )
    lines = [
        (one.name, f"{one.evidence:.3g}", f"{one.before:.3f}", "" if one.now is None else f"{one.now:.3f}")
        for one in report.moved
    ]
    print_table(("what", "evidence", "median, test split", "median, new requests"), lines)
    console = Console()
    for one in report.strangest:
        console.print(f"{one.id}, distance {one.distance:.2f}: {one.text[:200]!r}", highlight=False, markup=False)
        console.print(f"    nearest training example: {one.nearest[:200]!r}", highlight=False, markup=False)


def project_of(store: Store, name: str) -> str:
    """The id of a project that there is.

    Raises:
        ConfigError: There is none of that name.
    """
    from fettle.store.keys import list_projects

    with store.reading() as connection:
        found = {project.name: project.id for project in list_projects(connection).values()}
    if name not in found:
        remedy = f"name one of {', '.join(sorted(found))}" if found else "make a key for it with `fettle keys create`"
        raise ConfigError(f"there is no project {name!r}", where="--project", remedy=remedy)
    return found[name]


def kept_requests(store: Store, project_id: str, *, since: int = 0, model: str | None = None) -> list[KeptRequest]:
    """All kept requests of a project, in the order in which they came."""
    from fettle.store.traffic import read_kept

    found: list[KeptRequest] = []
    with store.reading() as connection:
        while some := read_kept(
            connection, project_id, after=found[-1].number if found else 0, since=since, model=model
        ):
            found += some
    return found


def seconds_of_day(day: str, where: str) -> int:
    """The beginning of a day, UTC, in Unix seconds.

    Raises:
        ConfigError: It is no day.

    >>> seconds_of_day("2026-01-02", "--since")
    1767312000
    """
    try:
        return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise ConfigError(f"expected a day, and it is {day!r}", where=where, remedy="write it YYYY-MM-DD") from error


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
