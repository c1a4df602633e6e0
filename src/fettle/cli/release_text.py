"""Releases as `fettle release` prints them: tables, what the gates have found, JSON."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from fettle.cli.tables import one_line

if TYPE_CHECKING:
    from fettle.releases.records import Release
    from fettle.store.releases import StoredRelease

_FORMAT, _FORMAT_VERSION = "fettle-releases", 1
_LEAST_COLUMNS, _MOST_COLUMNS = 60, 120
"""Of what gates say: long lines are hard to read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A release as it is kept, and what it says where that is what was signed."""

    stored: StoredRelease
    release: Release | None
    problem: str | None
    """Why it is not believed; None: it is."""

    def __str__(self) -> str:
        return f"{self.stored.name}@{self.stored.number}"


def listed_releases(kept: Sequence[StoredRelease]) -> list[Listed]:
    """Releases with what they say, or why they are not believed."""
    from fettle.releases.signing import ChangedReleaseError, verified_or_why_not

    found = [(stored, verified_or_why_not(stored)) for stored in kept]
    return [
        Listed(stored=stored, release=None, problem=one.describe())
        if isinstance(one, ChangedReleaseError)
        else Listed(stored=stored, release=one, problem=None)
        for stored, one in found
    ]


def line_of(one: Listed, in_force: int | None) -> tuple[str, ...]:
    """A row of the table of releases."""
    answers = "in force" if one.stored.number == in_force else ""
    made = moment(one.stored.created_at)
    if one.release is None:
        return (str(one), answers, "changed since it was signed: not served", "", "", made)
    return (str(one), answers, model_of(one.release), _gates_in_short(one.release), one.release.evidence.study, made)


def listed_as_json(one: Listed, in_force: int | None) -> dict[str, Any]:
    """As `release_as_json`; what a changed one says is left out, as nobody knows what is true of it."""
    if one.release is not None:
        return {**release_as_json(one.release, in_force), "problem": None}
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


def end_where_changed(listed: Sequence[Listed]) -> None:
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


def print_release(release: Release) -> None:
    """What answers, and what each gate has found, wrapped; gates that were off are named."""
    from fettle.releases.gate_settings import GateSettings

    typer.echo(f"{release}: {model_of(release)}")
    gates = release.evidence.gates
    refused = ", ".join(gate.name for gate in release.evidence.refusals)
    typer.echo(
        f"{len(release.evidence.refusals)} of {len(gates)} gates refuse it: {refused}"
        if refused
        else f"{len(gates)} gates let it through"
        if release.evidence.lets_through
        else f"{len(gates)} gates have measured nothing, which is no pass"
    )
    width = min(max(shutil.get_terminal_size().columns, _LEAST_COLUMNS), _MOST_COLUMNS)
    column = max((len(gate.outcome.value) for gate in gates), default=0) + 2
    for gate in gates:
        told = f"{gate.name}: {gate.sentence}"
        lines = textwrap.wrap(one_line(told, len(told)), width - column, break_long_words=False, break_on_hyphens=False)
        typer.echo(gate.outcome.value.ljust(column) + f"\n{' ' * column}".join(lines))
    off = [name for name in GateSettings.model_fields if name not in {gate.name for gate in gates}]
    if off:
        told = textwrap.wrap(f"switched off: {', '.join(off)}", width, break_on_hyphens=False)
        typer.echo("\n".join(told))


def model_of(release: Release) -> str:
    """The kind of the contender, and its model."""
    from fettle.releases.records import Router

    contender = release.contender
    if isinstance(contender, Router):
        return f"router: {contender.small.model}, else {contender.large.model}"
    return f"{contender.kind.value}: {contender.model}"


def passages_fact(signed: str | None, now: str | None) -> str:
    """What is told of the index that a release answers from.

    >>> passages_fact(None, None), passages_fact("a1", "a1"), passages_fact("a1", "b2"), passages_fact("a1", None)
    ('none', 'a1', 'a1; the index has changed since', 'a1; the index is gone')
    """
    if signed is None:
        return "none" if now is None else "not signed; an older version made the release"
    return signed if signed == now else f"{signed}; the index {'is gone' if now is None else 'has changed since'}"


def router_facts(release: Release) -> dict[str, str]:
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
    if refused:
        return f"refused by {', '.join(refused)}"
    num_gates = len(release.evidence.gates)
    return f"{num_gates} let through" if release.evidence.lets_through else f"{num_gates}, nothing measured"


def moment(seconds: int) -> str:
    """Unix seconds as a local time."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def release_as_json(release: Release, in_force: int | None) -> dict[str, Any]:
    """All of it."""
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


def print_json(content: Any) -> None:
    """In the envelope of all JSON of `fettle release`."""
    document = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "content": content}
    typer.echo(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1))
