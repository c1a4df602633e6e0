"""A new release: a contender of a finished study, held against all gates, signed and kept. It is in force once it is promoted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fettle.economics.assumptions import read_assumptions
from fettle.economics_records import Assumptions, CostBands
from fettle.errors import ConfigError, DataError, FettleError
from fettle.forgetting.must_still_work import MustStillWork, read_must_still_work
from fettle.models.strength import tuned_sha256
from fettle.records import Answer, Message, Severity
from fettle.releases.asking import ReleaseAsker
from fettle.releases.catalogue import ROUTER, require_release_name, weights_sha256
from fettle.releases.from_study import StudySource, contender_of, has_whole_prompts, read_study
from fettle.releases.gate_settings import GateSettings
from fettle.releases.gates.gate import AnsweredAgain, GateInputs, UnreadableRelease, row_key
from fettle.releases.gates.registry import gate_results
from fettle.releases.passages import index_sha256
from fettle.releases.records import Evidence, Release, ReleasedContender, Router
from fettle.releases.router_from_study import RouterChoices, router_of, with_routed_answers
from fettle.releases.signing import ChangedReleaseError, contender_as_json, content_sha256, evidence_as_json, verified
from fettle.report_records import StudyReport
from fettle.scoring.registry import grader_by_name
from fettle.settings import get_settings
from fettle.store.database import Store, now
from fettle.store.models import NoSuchModelError, TunedModel, find_model, folder_of
from fettle.store.releases import (
    NoSuchReleaseError,
    StoredRelease,
    add_release,
    find_release,
    hold_releases,
    next_number,
    number_in_force,
)
from fettle.study.economics_report import cost_bands, read_prices
from fettle.study.kept_personal import kept_personal
from fettle.study.kept_prompts import kept_prompts

_ASKS_LARGE = "a router would ask its large contender as well, which the gates do not"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRelease:
    """What is wanted."""

    name: str
    project_id: str
    study: Path
    """The folder of a finished study."""
    contender: str | None
    """Its key in the report, or `router`; None: the tuned one that the verdict is about."""
    gates: GateSettings
    who: str
    """Makes it."""
    routing: RouterChoices | None = None
    """Of a router; None: it is none."""
    economics: Path | None = None
    """The user's file of prices, traffic and wages, over what the study was told; None: what it was told."""


def create_release(store: Store, wanted: NewRelease, asker: ReleaseAsker) -> Release:
    """Hold a contender against the gates, and keep it with what they said.

    Raises:
        ConfigError: The name is a model's, or the contender cannot be released.
        DataError: The study is not finished, or the store does not hold its model.
        ChangedReleaseError: The base model, or what was tuned, is not that of the study.
    """
    require_release_name(wanted.name)
    source = read_study(wanted.study)
    with store.reading() as connection:
        _require_no_model(store, wanted)
        if wanted.contender == ROUTER:
            key, contender = ROUTER, router_of(connection, wanted.project_id, source, _choices(wanted))
            source = replace(source, report=with_routed_answers(source.report, ROUTER))
        else:
            key, contender = contender_of(connection, wanted.project_id, source, wanted.contender)
    answers_first = contender.small if isinstance(contender, Router) else contender
    tuned_now, base_sha256 = None, source.report.provenance.model_sha256
    if answers_first.url is None:
        tuned_now, base_sha256 = weights_sha256(store, wanted.project_id, answers_first.model)
    if base_sha256 != source.report.provenance.model_sha256:
        raise ChangedReleaseError(
            f"the base model of {answers_first.model} is not the one of the study any more: its weights have another hash",
            remedy="put the earlier base model back, or run the study again",
        )
    _require_tuned_of_study(store, wanted, source, contender)
    money, no_money = _money(wanted, source.report, key)
    inputs = replace(_inputs(store, wanted, source, key, contender, asker), money=money, no_money=no_money)
    evidence = replace(
        _evidence(inputs, source, base_sha256=base_sha256, tuned_sha256=tuned_now),
        index_sha256=index_sha256(store, contender, wanted.project_id),
    )
    said, shown = contender_as_json(contender), evidence_as_json(evidence)
    with store.writing() as connection:
        hold_releases(connection, wanted.project_id)
        number = next_number(connection, wanted.project_id, wanted.name)
        stored = StoredRelease(
            project_id=wanted.project_id,
            name=wanted.name,
            number=number,
            created_at=now(),
            contender=said,
            evidence=shown,
            content_sha256=content_sha256(wanted.name, number, said, shown),
        )
        add_release(connection, stored, who=wanted.who)
    return verified(stored)


def _require_tuned_of_study(
    store: Store, wanted: NewRelease, source: StudySource, contender: ReleasedContender | Router
) -> None:
    """What was forgotten and what was won was measured with the weights of the study, and is not measured again."""
    signed = source.report.tuned_sha256
    sides = (contender.small, contender.large) if isinstance(contender, Router) else (contender,)
    for side in sides if signed is not None else ():
        if not side.kind.is_tuned:
            continue
        with store.reading() as connection:
            model = find_model(connection, wanted.project_id, side.model)
        if isinstance(model, TunedModel) and tuned_sha256(folder_of(store, model)) != signed:
            raise ChangedReleaseError(
                f"the weights of {side.model} are not those that answered in the study",
                where=str(source.folder),
                remedy="put the weights of the study back, or run the study again",
            )


def _choices(wanted: NewRelease) -> RouterChoices:
    if wanted.routing is None:
        raise ConfigError(
            "a router has to be told what to do where the large contender is down, slow or too dear today",
            where="--when-large-fails",
            remedy="give --when-large-fails fail, or answer_small",
        )
    return wanted.routing


def _require_no_model(store: Store, wanted: NewRelease) -> None:
    with store.reading() as connection:
        try:
            find_model(connection, wanted.project_id, wanted.name, kind=None)
        except NoSuchModelError:
            return
    raise ConfigError(
        f"{wanted.name!r} is the name of a model, or an alias", where="NAME", remedy="name the release otherwise"
    )


def _inputs(
    store: Store,
    wanted: NewRelease,
    source: StudySource,
    key: str,
    contender: ReleasedContender | Router,
    asker: ReleaseAsker,
) -> GateInputs:
    again, must_pass, answers, why_not = _answers(wanted, source, key, contender, asker)
    return GateInputs(
        settings=wanted.gates,
        report=source.report,
        contender=key,
        released=contender.small if isinstance(contender, Router) else contender,
        current=_current(store, wanted),
        answered_again=again,
        not_answered=why_not,
        trained_personal=kept_personal(source.folder),
        prompts=_asked(source),
        must_pass=must_pass,
        must_pass_answers=answers,
    )


def _answers(
    wanted: NewRelease, source: StudySource, key: str, contender: ReleasedContender | Router, asker: ReleaseAsker
) -> tuple[tuple[AnsweredAgain, ...], MustStillWork | None, tuple[Answer, ...], str | None]:
    """What the serving engine answers; where it cannot, why."""
    gates, must_pass = wanted.gates, _must_pass(wanted.gates)
    router = contender if isinstance(contender, Router) else None
    contender = contender.small if isinstance(contender, Router) else contender
    if contender.url is not None:
        return (), must_pass, (), "an endpoint answers, and the gates do not ask it"
    try:
        again: tuple[AnsweredAgain, ...] = ()
        why_not = None
        prompts = kept_prompts(source.folder)
        if prompts is None and not has_whole_prompts(source.report):
            why_not = "neither the report nor the study's folder holds the whole conversations: the same `fettle study` keeps them"
        elif gates.parity.is_on or gates.latency.is_on:
            again = asker.again(
                contender,
                key if router is None else contender.kind.value,
                source.report.rows,
                project_id=wanted.project_id,
                count=gates.parity.num_answers,
                prompts=prompts,
            )
        if router is not None:  # the small one's answers are what was answered again
            return (
                tuple(_as_answer_of(key, contender.kind.value, one) for one in again),
                must_pass,
                (),
                why_not or _ASKS_LARGE,
            )
        answers = () if must_pass is None else asker.must_pass(contender, must_pass, project_id=wanted.project_id)
    except FettleError as error:
        return (), must_pass, (), error.problem
    return again, must_pass, answers, why_not


def _asked(source: StudySource) -> Mapping[str, tuple[Message, ...]] | None:
    """The conversations that the study has kept; None: none, or they are damaged, which the gates that ask again say."""
    try:
        return kept_prompts(source.folder)
    except DataError:
        return None


def _as_answer_of(key: str, answered: str, again: AnsweredAgain) -> AnsweredAgain:
    return replace(again, row=replace(again.row, answers={**again.row.answers, key: again.row.answers[answered]}))


def _money(wanted: NewRelease, report: StudyReport, key: str) -> tuple[CostBands | None, str | None]:
    """What the contender costs where a gate asks, as `fettle cost` would work it out now; where that cannot be told, why."""
    gates = wanted.gates
    if not any(
        gate.is_on and gate.most is not None for gate in (gates.cost_per_request, gates.cost_per_correct_answer)
    ):
        return None, None
    said = Assumptions() if report.economics is None else report.economics.assumptions
    if wanted.economics is not None:
        said = read_assumptions(wanted.economics, said)
    try:
        return cost_bands(report, said, read_prices(get_settings().home), key), None
    except DataError as error:
        return None, error.problem


def _must_pass(gates: GateSettings) -> MustStillWork | None:
    file, grader = gates.must_pass.file, gates.must_pass.grader
    if file is None or not gates.must_pass.is_on:
        return None
    read = read_must_still_work(file, fewest=1)
    _require_all_read(read)
    return read if grader is None else replace(read, grader=grader_by_name(grader, read.task, read.examples))


def _require_all_read(wanted: MustStillWork) -> None:
    """One that was left out could not fail."""
    wrong = [one for one in wanted.findings if one.severity is Severity.ERROR]
    if wrong:
        raise DataError(
            f"{len(wrong)} of the examples that must pass cannot be read, the first because {wrong[0].message}",
            where=wrong[0].file if wrong[0].line is None else f"{wrong[0].file}:{wrong[0].line}",
            remedy="mend them, or take them out",
        )
    with_tools = [one for one in wanted.examples if one.tools]
    if with_tools:
        raise DataError(
            "examples with functions to call are not asked, and so cannot pass",
            where=str(with_tools[0].source),
            remedy="take them out",
        )


def _current(store: Store, wanted: NewRelease) -> Release | UnreadableRelease | None:
    """The release in force; one that was changed is what a new release takes the place of, and stands in nobody's way."""
    with store.reading() as connection:
        number = number_in_force(connection, wanted.project_id, wanted.name)
        if number is None:
            return None
        try:
            return verified(find_release(connection, wanted.project_id, wanted.name, number))
        except (ChangedReleaseError, NoSuchReleaseError) as error:
            return UnreadableRelease(number=number, problem=error.problem)


def _evidence(inputs: GateInputs, source: StudySource, *, base_sha256: str, tuned_sha256: str | None) -> Evidence:
    report, origin = inputs.report, inputs.report.provenance
    return Evidence(
        study=report.name,
        report_sha256=source.report_sha256,
        study_created_at=origin.created_at,
        verdict=report.verdict.decision.value,
        primary_metric=report.primary_metric,
        data_sha256=dict(origin.data_sha256),
        split_sha256=dict(origin.split_sha256),
        base_sha256=base_sha256,
        tuned_sha256=tuned_sha256,
        template_sha256=origin.template_sha256,
        settings=dict(origin.settings),
        versions=dict(origin.versions),
        fettle_version=origin.fettle_version,
        gates_sha256=inputs.settings.sha256,
        gates=gate_results(inputs),
        scores={row_key(row): row.scores.get(inputs.contender) for row in report.rows},
        compared_with=None if inputs.current is None else inputs.current.number,
    )
