"""`fettle release`: contenders that were let through the gates, promoted and rolled back."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fettle.cli.tables import one_line, print_table
from fettle.errors import EXIT_SHIP, EXIT_STAY, ConfigError

if TYPE_CHECKING:
    from fettle.releases.records import Release
    from fettle.store.database import Store
    from fettle.store.releases import StoredRelease

app = typer.Typer(no_args_is_help=True, help="Releases: what may answer users, why, and since when.")
Name = Annotated[str, typer.Argument(help="What the release answers to, such as triage; with a number: triage@3.")]
_DEFAULT_PROJECT = "default"
ProjectOption = Annotated[str, typer.Option(help="Whose releases they are: its keys ask them.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]
_FORMAT, _FORMAT_VERSION = "fettle-releases", 1
_LEAST_COLUMNS, _MOST_COLUMNS = 60, 120
"""Of what gates say: long lines are hard to read."""


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
    _print_release(release)
    if release.evidence.refusals or not release.evidence.gates:
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
    listed = _listed(kept)
    if as_json:
        _print_json([_listed_as_json(one, in_force[one.stored.name]) for one in listed])
    else:
        titles = ("release", "", "model", "gates", "study", "made")
        print_table(titles, [_line(one, in_force[one.stored.name]) for one in listed])
    _end_where_changed(listed)


@app.command()
def show(name: Name, project: ProjectOption = _DEFAULT_PROJECT, as_json: JsonOption = False) -> None:
    """Show a release with its evidence; without a number the one in force, else the newest."""
    from fettle.cli.store import open_store
    from fettle.releases.signing import verified
    from fettle.store.releases import find_release, number_in_force

    store = open_store()
    project_id = _project_id(store, project)
    plain, number = _parts(name)
    with store.reading() as connection:
        in_force = number_in_force(connection, project_id, plain)
        wanted = number or in_force or _newest(store, project_id, plain)
        release = verified(find_release(connection, project_id, plain, wanted))
    if as_json:
        _print_json(_as_json(release, in_force))
        return
    _print_release(release)
    evidence = release.evidence
    facts = {
        "in force": "yes" if in_force == release.number else "no",
        "made": _moment(release.created_at),
        "study": f"{evidence.study}, {evidence.study_created_at}, verdict: {evidence.verdict}",
        "report": evidence.report_sha256,
        "base model": evidence.base_sha256,
        "tuned weights": evidence.tuned_sha256 or "none",
        "chat template": evidence.template_sha256,
        "data": ", ".join(f"{file} {sha}" for file, sha in evidence.data_sha256.items()),
        "content": release.content_sha256,
    }
    for title, value in {**facts, **_router_facts(release)}.items():
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
    store = open_store()
    plain, number = _parts(name)
    release = changing.promote(
        store, _project_id(store, project), plain, number, who=user_name(), forced_for=reason if force else None
    )
    typer.echo(f"{release} answers to {plain} from now on ({_model(release)})")


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
    typer.echo(f"{release} answers to {name} again ({_model(release)})")


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
        listed = _listed(list_releases(connection, project_id, name))
        in_force = number_in_force(connection, project_id, name)
    if not events:
        raise ConfigError(f"there is no release of {name!r}", remedy="`fettle release list` shows all releases")
    if chart is not None:
        write_atomically(chart, history_chart(name, [one.release for one in listed if one.release], in_force))
    if as_json:
        shown = [dataclasses.asdict(event) for event in events]
        _print_json({"events": shown, "releases": [_listed_as_json(one, in_force) for one in listed]})
        _end_where_changed(listed)
        return
    lines = [
        (_moment(one.created_at), f"{one.name}@{one.number}", one.kind.value, one.who, one.reason or "")
        for one in events
    ]
    print_table(("when", "release", "what", "who", "why"), lines)
    if chart is not None:
        typer.echo(f"Chart: {chart}")
    _end_where_changed(listed)


def _parts(name: str) -> tuple[str, int | None]:
    plain, at, number = name.partition("@")
    if at and not (number.isascii() and number.isdecimal()):
        raise ConfigError(
            f"expected a number after the @, and it is {number!r}", where="NAME", remedy="such as triage@3"
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
    from fettle.store.keys import ensure_project

    with store.writing() as connection:
        return ensure_project(connection, project).id


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A release as it is kept, and what it says where that is what was signed."""

    stored: StoredRelease
    release: Release | None
    problem: str | None
    """Why it is not believed; None: it is."""

    def __str__(self) -> str:
        return f"{self.stored.name}@{self.stored.number}"


def _listed(kept: Sequence[StoredRelease]) -> list[_Listed]:
    from fettle.releases.signing import ChangedReleaseError, verified_or_why_not

    found = [(stored, verified_or_why_not(stored)) for stored in kept]
    return [
        _Listed(stored=stored, release=None, problem=one.describe())
        if isinstance(one, ChangedReleaseError)
        else _Listed(stored=stored, release=one, problem=None)
        for stored, one in found
    ]


def _line(one: _Listed, in_force: int | None) -> tuple[str, ...]:
    answers = "in force" if one.stored.number == in_force else ""
    made = _moment(one.stored.created_at)
    if one.release is None:
        return (str(one), answers, "changed since it was signed: not served", "", "", made)
    return (str(one), answers, _model(one.release), _gates_in_short(one.release), one.release.evidence.study, made)


def _listed_as_json(one: _Listed, in_force: int | None) -> dict[str, Any]:
    """As `_as_json`; what a changed one says is left out, as nobody knows what is true of it."""
    if one.release is not None:
        return {**_as_json(one.release, in_force), "problem": None}
    stored = one.stored
    return {
        "name": stored.name,
        "number": stored.number,
        "in_force": stored.number == in_force,
        "created_at": stored.created_at,
        "content_sha256": stored.content_sha256,
        "contender": None,
        "evidence": None,
        "problem": one.problem,
    }


def _end_where_changed(listed: Sequence[_Listed]) -> None:
    """Say what is wrong with each, and end with the exit code of it.

    Raises:
        typer.Exit: Something is.
    """
    from fettle.errors import exit_code
    from fettle.releases.signing import ChangedReleaseError

    problems = [one.problem for one in listed if one.problem is not None]
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(exit_code(ChangedReleaseError(problems[0])))


def _print_release(release: Release) -> None:
    typer.echo(f"{release}: {_model(release)}")
    gates = release.evidence.gates
    refused = ", ".join(gate.name for gate in release.evidence.refusals)
    typer.echo(
        f"{len(release.evidence.refusals)} of {len(gates)} gates refuse it: {refused}"
        if refused
        else f"{len(gates)} gates let it through"
    )
    width = min(max(shutil.get_terminal_size().columns, _LEAST_COLUMNS), _MOST_COLUMNS)
    column = max((len(gate.outcome.value) for gate in gates), default=0) + 2
    for gate in gates:
        told = f"{gate.name}: {gate.sentence}"
        lines = textwrap.wrap(one_line(told, len(told)), width - column, break_long_words=False, break_on_hyphens=False)
        typer.echo(gate.outcome.value.ljust(column) + f"\n{' ' * column}".join(lines))


def _model(release: Release) -> str:
    from fettle.releases.records import Router

    contender = release.contender
    if isinstance(contender, Router):
        return f"router: {contender.small.model}, else {contender.large.model}"
    return f"{contender.kind.value}: {contender.model}"


def _router_facts(release: Release) -> dict[str, str]:
    """What is told of a router beside the rest; of other releases nothing."""
    from fettle.releases.records import Router

    router = release.contender
    if not isinstance(router, Router):
        return {}
    promised = "not known"
    if router.target is not None and router.level is not None:
        promised = f"{router.target:.1%} with {router.level:.1%} confidence"
    budget = "none" if router.budget_per_day is None else f"{router.budget_per_day:g} a day"
    return {
        "promised": promised,
        "large model": f"{router.large.model} at {router.large.url or 'this server'}",
        "trusted from": f"{router.rule.threshold} ({router.rule.measure})",
        "without large": f"{router.policy_when_large_fails}, after {router.large_timeout_seconds:g} seconds",
        "budget": f"{budget}, {router.large_cost_per_request:g} for an answer",
    }


def _gates_in_short(release: Release) -> str:
    refused = [gate.name for gate in release.evidence.refusals]
    return f"refused by {', '.join(refused)}" if refused else f"{len(release.evidence.gates)} let through"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _as_json(release: Release, in_force: int | None) -> dict[str, Any]:
    from fettle.releases.signing import contender_as_json, evidence_as_json

    return {
        "name": release.name,
        "number": release.number,
        "in_force": release.number == in_force,
        "created_at": release.created_at,
        "content_sha256": release.content_sha256,
        "contender": contender_as_json(release.contender),
        "evidence": evidence_as_json(release.evidence),
    }


def _print_json(content: Any) -> None:
    document = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "content": content}
    typer.echo(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1))
