"""`fettle release`: contenders that were let through the gates, promoted and rolled back."""

from __future__ import annotations

import dataclasses
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.cli.release_text import (
    end_where_changed,
    line_of,
    listed_as_json,
    listed_releases,
    model_of,
    moment,
    passages_fact,
    print_json,
    print_release,
    release_as_json,
    router_facts,
)
from fettle.cli.tables import print_table
from fettle.errors import EXIT_SHIP, EXIT_STAY, ConfigError

if TYPE_CHECKING:
    from fettle.store.database import Store

app = typer.Typer(no_args_is_help=True, help="Releases: what may answer users, why, and since when.")
Name = Annotated[str, typer.Argument(help="What the release answers to, such as triage; with a number: triage@3.")]
_DEFAULT_PROJECT = "default"
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
"""Of a release, as the server reads it."""
ProjectOption = Annotated[str, typer.Option(help="Whose releases they are: its keys ask them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]


class WhenLargeFails(StrEnum):
    """What a router does where its large contender should answer and cannot."""

    FAIL = "fail"
    ANSWER_SMALL = "answer_small"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the release shall answer to, such as triage.")],
    study: Annotated[Path, typer.Option(help="Folder of a finished study.")],
    contender: Annotated[
        str | None,
        typer.Option(help="As the report calls it, or router; at first the tuned one that the verdict is about."),
    ] = None,
    gates: Annotated[
        Path | None, typer.Option(help="TOML file of gates, as `fettle release gates` prints one.")
    ] = None,
    must_pass: Annotated[
        Path | None, typer.Option(help="Your own examples with wanted answers, each of which must be answered rightly.")
    ] = None,
    when_large_fails: Annotated[
        WhenLargeFails | None,
        typer.Option(help="Of a router: what to do where the large contender is down, slow or over its budget."),
    ] = None,
    budget_per_day: Annotated[
        float | None, typer.Option(help="Of a router: what its large contender may cost in a day (UTC), your currency.")
    ] = None,
    large_timeout: Annotated[float, typer.Option(help="Of a router: seconds that its large contender has.")] = 30.0,
    large_cost_per_request: Annotated[
        float | None,
        typer.Option(help="Of a router: what an answer of its large contender counts as; at first the study's figure."),
    ] = None,
    economics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Your prices, traffic and wages for the gates of costs, over what the study was told."
        ),
    ] = None,
    project: ProjectOption = _DEFAULT_PROJECT,
) -> None:
    """Hold a contender of a study against the gates, and keep it as a release. Exit code 0: they let it through; 3: not."""
    from rich.console import Console

    from fettle.answering.engine_pool import configured_pool
    from fettle.cli.progress import ProgressBars
    from fettle.cli.store import open_store, user_name
    from fettle.releases.asking import ReleaseAsker
    from fettle.releases.gate_settings import GateSettings, read_gate_settings, with_must_pass
    from fettle.releases.making import NewRelease, create_release
    from fettle.releases.router_from_study import RouterChoices

    if contender != "router" and (when_large_fails or budget_per_day is not None or large_cost_per_request is not None):
        raise ConfigError(
            "--when-large-fails, --budget-per-day and --large-cost-per-request are about a router",
            remedy="add --contender router, or leave them out",
        )
    settings = GateSettings() if gates is None else read_gate_settings(gates)
    if must_pass is not None and not settings.must_pass.is_on:
        raise ConfigError(
            "the gates file switches off must_pass", where="--must-pass", remedy="leave one of the two out"
        )
    settings = settings if must_pass is None else with_must_pass(settings, must_pass)
    store = open_store()
    wanted = NewRelease(
        name=name,
        project_id=_project_id(store, project),
        study=study.parent if study.is_file() else study,
        contender=contender,
        gates=settings,
        who=user_name(),
        economics=economics,
        routing=None
        if when_large_fails is None
        else RouterChoices(
            when_large_fails=when_large_fails.value,
            budget_per_day=budget_per_day,
            large_timeout_seconds=large_timeout,
            large_cost_per_request=large_cost_per_request,
        ),
    )
    pool = configured_pool(max_bases=1)
    try:
        with ProgressBars(Console(stderr=True)) as bars:
            release = create_release(store, wanted, ReleaseAsker(store, pool, bars))
    finally:
        pool.close()
    print_release(release)
    if not release.evidence.lets_through:
        typer.echo(f"{release} was kept, and the gates do not let it through.")
        raise typer.Exit(EXIT_STAY)
    typer.echo(f"{release} was kept. `fettle release promote {release}` lets it answer to {name}.")
    raise typer.Exit(EXIT_SHIP)


@app.command()
def gates() -> None:
    """Print a gates file with all defaults, and what each line means."""
    from fettle.releases.gate_settings import DEFAULT_FILE

    typer.echo(DEFAULT_FILE, nl=False)


@app.command("list")
def list_(project: ProjectOption = _DEFAULT_PROJECT, as_json: JsonOption = False) -> None:
    """Show all releases, and which are in force. Exit code 1: one was changed since it was signed, and is not served."""
    from fettle.cli.store import open_store
    from fettle.store.releases import list_releases, number_in_force

    store = open_store()
    project_id = _project_id(store, project)
    with store.reading() as connection:
        kept = list_releases(connection, project_id)
        in_force = {name: number_in_force(connection, project_id, name) for name in {one.name for one in kept}}
    listed = listed_releases(kept)
    if as_json:
        print_json([listed_as_json(one, in_force[one.stored.name]) for one in listed])
    else:
        titles = ("release", "", "model", "gates", "study", "made")
        print_table(titles, [line_of(one, in_force[one.stored.name]) for one in listed])
    end_where_changed(listed)


@app.command()
def show(name: Name, project: ProjectOption = _DEFAULT_PROJECT, as_json: JsonOption = False) -> None:
    """Show a release with its evidence; without a number the one in force, else the newest."""
    from fettle.cli.store import open_store
    from fettle.releases.passages import index_sha256
    from fettle.releases.signing import verified
    from fettle.store.releases import find_release, number_in_force

    store = open_store()
    project_id = _project_id(store, project)
    plain, number = _parts(name)
    with store.reading() as connection:
        in_force = number_in_force(connection, project_id, plain)
        wanted = number or in_force or _newest(store, project_id, plain)
        release = verified(find_release(connection, project_id, plain, wanted))
    passages = index_sha256(store, release.contender, project_id)
    if as_json:
        print_json(release_as_json(release, in_force) | {"index_sha256_now": passages})
        return
    print_release(release)
    evidence = release.evidence
    facts = {
        "in force": "yes" if in_force == release.number else "no",
        "made": moment(release.created_at),
        "study": f"{evidence.study}, {evidence.study_created_at}, verdict: {evidence.verdict}",
        "report": evidence.report_sha256,
        "base model": evidence.base_sha256,
        "tuned weights": evidence.tuned_sha256 or "none",
        "chat template": evidence.template_sha256,
        "data": ", ".join(f"{file} {sha}" for file, sha in evidence.data_sha256.items()),
        "compared with": "none was in force"
        if evidence.compared_with is None
        else f"{release.name}@{evidence.compared_with}",
        "passages": passages_fact(evidence.index_sha256, passages),
        "content": release.content_sha256,
    }
    for title, value in {**facts, **router_facts(release)}.items():
        typer.echo(f"{title + ':':<15} {value}")


@app.command()
def promote(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Against its gates; that and the reason are kept.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is forced.")] = None,
    project: ProjectOption = _DEFAULT_PROJECT,
) -> None:
    """Let a release answer to its name, in running servers as well; without a number the newest."""
    from fettle.cli.store import open_store, user_name
    from fettle.releases import changing

    if force and not (reason or "").strip():
        raise ConfigError("a release is forced for a reason", where="--force", remedy='add --reason "TEXT"')
    if reason is not None and not force:
        raise ConfigError("a reason is kept where a release is forced", where="--reason", remedy="leave it out")
    store = open_store()
    plain, number = _parts(name)
    release = changing.promote(
        store, _project_id(store, project), plain, number, who=user_name(), forced_for=reason if force else None
    )
    typer.echo(f"{release} answers to {plain} from now on ({model_of(release)})")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="What the releases answer to.")],
    to: Annotated[int | None, typer.Option(help="Number of the release; at first the one before.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the history.")] = None,
    project: ProjectOption = _DEFAULT_PROJECT,
) -> None:
    """Let the release before answer to a name again, in running servers as well."""
    from fettle.cli.store import open_store, user_name
    from fettle.releases import changing

    store = open_store()
    release = changing.roll_back(store, _project_id(store, project), name, to=to, who=user_name(), reason=reason)
    typer.echo(f"{release} answers to {name} again ({model_of(release)})")


@app.command()
def history(
    name: Annotated[str, typer.Argument(help="What the releases answer to.")],
    chart: Annotated[Path | None, typer.Option(help="Write the gates from release to release as an SVG file.")] = None,
    project: ProjectOption = _DEFAULT_PROJECT,
    as_json: JsonOption = False,
) -> None:
    """Show all that happened to the releases of a name. Exit code 1: one was changed since it was signed, and is not served."""
    from fettle.cli.store import open_store
    from fettle.files import write_atomically
    from fettle.releases.chart import history_chart
    from fettle.store.releases import list_releases, number_in_force, release_history

    store = open_store()
    project_id = _project_id(store, project)
    with store.reading() as connection:
        events = release_history(connection, project_id, name)
        listed = listed_releases(list_releases(connection, project_id, name))
        in_force = number_in_force(connection, project_id, name)
    if not events:
        raise ConfigError(f"there is no release of {name!r}", remedy="`fettle release list` shows all releases")
    if chart is not None:
        write_atomically(chart, history_chart(name, [one.release for one in listed if one.release], in_force))
    if as_json:
        shown = [dataclasses.asdict(event) for event in events]
        print_json({"events": shown, "releases": [listed_as_json(one, in_force) for one in listed]})
        end_where_changed(listed)
        return
    lines = [
        (moment(one.created_at), f"{one.name}@{one.number}", one.kind.value, one.who, one.reason or "")
        for one in events
    ]
    print_table(("when", "release", "what", "who", "why"), lines)
    if chart is not None:
        typer.echo(f"Chart: {chart}")
    end_where_changed(listed)


def _parts(name: str) -> tuple[str, int | None]:
    plain, at, number = name.partition("@")
    if at and not _NUMBER.fullmatch(number):
        raise ConfigError(
            f"expected a number after the @, and it is {number[:100]!r}", where="NAME", remedy="such as triage@3"
        )
    return plain, int(number) if at else None


def _newest(store: Store, project_id: str, name: str) -> int:
    from fettle.store.releases import list_releases

    with store.reading() as connection:
        known = list_releases(connection, project_id, name)
    if not known:
        raise ConfigError(f"there is no release of {name!r}", remedy="`fettle release list` shows all releases")
    return known[-1].number


def _project_id(store: Store, project: str) -> str:
    """The id of a project that there is; the default one is made where nothing was done yet."""
    from fettle.cli.traffic import project_of
    from fettle.store.keys import ensure_project

    if project != _DEFAULT_PROJECT:
        return project_of(store, project)
    with store.writing() as connection:
        return ensure_project(connection, project).id
