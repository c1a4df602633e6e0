"""The router of a finished study as one that can be released, and its answers to the test split: those of its contenders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection

from fettle.errors import ConfigError, DataError, require_range
from fettle.releases.from_study import StudySource, contender_of
from fettle.releases.records import Router
from fettle.report_records import AnswerRow, StudyReport
from fettle.routing_records import RoutingReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterChoices:
    """What a router needs and no study says."""

    when_large_fails: Literal["fail", "answer_small"]
    budget_per_day: float | None = None
    """Of the large contender, in the user's currency; None: no bound."""
    large_timeout_seconds: float = 30.0
    large_cost_per_request: float | None = None
    """What an answer of it counts as; None: what the study's section on money says."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ConfigError: A value is out of its range.
        """
        require_range("--large-timeout", self.large_timeout_seconds, low=0.001)
        for name, value in (
            ("--budget-per-day", self.budget_per_day),
            ("--large-cost-per-request", self.large_cost_per_request),
        ):
            if value is not None:
                require_range(name, value, low=0)


def router_of(connection: Connection, project_id: str, source: StudySource, choices: RouterChoices) -> Router:
    """The router of a study.

    Args:
        connection: To the store that the study has kept its model in.
        project_id: Whose study it is.
        source: The study.
        choices: What it does not say.

    Raises:
        ConfigError: It leaves nothing to the small contender, or a budget has nothing to count.
        DataError: The study has none, or the store does not hold its model.
    """
    routing = _routing(source.report)
    if routing.rule.threshold is None:
        raise ConfigError(
            f"the study leaves nothing to {routing.small}: only where {routing.large} answers everything can "
            f"{routing.target:.1%} be promised, or not even there",
            where="--contender router",
            remedy=f"release the large one alone with --contender {routing.large}, or name a lower --route-to-target",
        )
    cost = choices.large_cost_per_request
    if cost is None:
        cost = _cost_of_large(source.report, routing)
    if choices.budget_per_day is not None and not cost:
        raise ConfigError(
            "a budget per day counts what answers of the large contender cost, and what one costs is not known",
            where="--budget-per-day",
            remedy="say it with --large-cost-per-request",
        )
    _, small = contender_of(connection, project_id, source, routing.small)
    _, large = contender_of(connection, project_id, source, routing.large)
    return Router(
        small=small,
        large=large,
        rule=routing.rule,
        policy_when_large_fails=choices.when_large_fails,
        target=routing.target,
        level=routing.level,
        budget_per_day=choices.budget_per_day,
        large_timeout_seconds=choices.large_timeout_seconds,
        large_cost_per_request=cost or 0.0,
    )


def with_routed_answers(report: StudyReport, name: str) -> StudyReport:
    """The report with the router's answers beside those of its contenders, under a name of its own.

    A row that one of the two was not scored on has no routed answer, as it had no part in the calibration.

    Raises:
        DataError: The study has no router, or does not say who answers which row.
    """
    routing = _routing(report)
    if routing.trusted is None:
        raise DataError(
            "the report does not say which test examples the router leaves to the small contender: an older version wrote it",
            where="routing",
            remedy="run the same `fettle study` command again: it reads the answers that are there",
        )
    trusted = set(routing.trusted)
    return replace(report, rows=tuple(_routed(row, routing, row.example_id in trusted, name) for row in report.rows))


def _routed(row: AnswerRow, routing: RoutingReport, is_trusted: bool, name: str) -> AnswerRow:
    small, large = routing.small, routing.large
    is_scored = row.scores.get(large) is not None and (row.scores.get(small) is not None or small in row.errors)
    if not is_trusted and not is_scored:
        return row
    who = small if is_trusted else large
    return replace(
        row,
        answers={**row.answers, name: row.answers[who]},
        scores={**row.scores, name: row.scores[who]},
        passages={**row.passages, name: row.passages[who]} if who in row.passages else row.passages,
    )


def _routing(report: StudyReport) -> RoutingReport:
    if report.routing is None:
        raise DataError(
            "the study has no router: it had no remote contender, or how far answers can be trusted could not be told",
            where="--contender router",
            remedy="give the study --remote and --remote-model",
        )
    return report.routing


def _cost_of_large(report: StudyReport, routing: RoutingReport) -> float | None:
    """Of one of its answers, as the study's section on money has it; None: it does not."""
    if routing.costs is not None:
        return routing.costs.large_per_request
    costs = () if report.economics is None else report.economics.contenders
    return next((one.cost_per_request for one in costs if one.contender == routing.large), None)
