"""Routers and endpoints as releases: made of a study, held against the gates by the answers that would have been given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fettle.cli.release import app
from fettle.economics.assumptions import with_settings
from fettle.economics_records import Assumptions
from fettle.errors import ConfigError, DataError
from fettle.form_records import AnswerForm
from fettle.records import Interval
from fettle.releases.catalogue import ROUTER, ReleaseCatalogue
from fettle.releases.changing import promote
from fettle.releases.from_study import read_study
from fettle.releases.gate_settings import GateSettings
from fettle.releases.making import NewRelease, create_release
from fettle.releases.records import ContenderKind, GateOutcome, GateResult, Release, ReleasedContender, Router
from fettle.releases.router_from_study import RouterChoices
from fettle.report_records import StudyReport
from fettle.settings import get_settings
from fettle.store.database import Store
from fettle.study.economics_report import read_prices, with_money
from fettle.study.report import print_report, write_report
from kept_releases import keep_release
from released_study import INSTRUCTION, LABELS, ReleasableStudy, releasable_study

URL = "https://models.example/v1"
CHOICES = RouterChoices(
    when_large_fails="answer_small", budget_per_day=5.0, large_timeout_seconds=20, large_cost_per_request=0.01
)
NUM_ROWS = 20


@pytest.fixture
def study(store: Store, tmp_path: Path) -> Iterator[ReleasableStudy]:
    """Its small contender is right on the first fifteen rows, which are trusted, its large one on the others."""
    made = releasable_study(store, tmp_path, num_rows=NUM_ROWS)
    rewrite(made, lambda report: routed(report, trusted=range(15)))
    yield made
    made.pool.close()


def routed(report: StudyReport, *, trusted: range) -> StudyReport:
    rows = tuple(
        replace(
            row,
            answers={**row.answers, "remote": row.wanted if place >= 15 else "refund"},
            scores={**row.scores, "tuned": float(place < 15), "remote": float(place >= 15)},
            errors={},
        )
        for place, row in enumerate(report.rows)
    )
    told = next(one.told for one in report.contenders if one.name == "prompt")
    contenders = tuple(replace(one, told=told) if one.name == "remote" else one for one in report.contenders)
    assert report.routing is not None
    return replace(
        report,
        rows=rows,
        contenders=contenders,
        routing=replace(report.routing, trusted=tuple(rows[place].example_id for place in trusted)),
        provenance=replace(
            report.provenance,
            settings={**report.provenance.settings, "remote": {"url": URL, "model": "large-model"}},
        ),
    )


def rewrite(study: ReleasableStudy, change: Any) -> None:
    from fettle.study.report import read_report

    write_report(change(read_report(study.folder / "report.json")), study.folder)


def make(
    store: Store,
    study: ReleasableStudy,
    contender: str = ROUTER,
    choices: RouterChoices | None = CHOICES,
    **others: Any,
) -> Release:
    gates: dict[str, Any] = {"parity": {"num_answers": NUM_ROWS, "lowest_same_share": 0.8}, "latency": {"on": False}}
    wanted = NewRelease(
        name="triage",
        project_id=study.model.project_id,
        study=study.folder,
        contender=contender,
        gates=GateSettings.model_validate(gates | {"forgetting": {"most_points_lost": 10}} | others),
        who="ann",
        routing=choices,
    )
    return create_release(store, wanted, study.asker)


def test_a_router_is_held_against_the_gates_by_the_answers_that_it_gives(store: Store, study: ReleasableStudy) -> None:
    release = make(store, study)
    router = release.contender
    assert isinstance(router, Router)
    form = AnswerForm(labels=LABELS)
    assert router.small == ReleasedContender(
        kind=ContenderKind.TUNED, model=study.model.id, instruction=INSTRUCTION, form=form
    )
    hint = f"{INSTRUCTION}\n\nOne of billing, delivery, refund."
    assert router.large == ReleasedContender(
        kind=ContenderKind.REMOTE, model="large-model", instruction=hint, form=form, url=URL
    )
    assert study.report.routing is not None
    assert router.rule == study.report.routing.rule
    assert (router.target, router.level) == (study.report.routing.target, study.report.routing.level)
    assert (router.policy_when_large_fails, router.budget_per_day) == ("answer_small", 5.0)
    gates = {gate.name: gate for gate in release.evidence.gates}
    win = gates["win_rate_against_prompt"].measured
    assert win is not None
    assert win.estimate == 1.0  # the small one alone would have been wrong on five rows, the large one on fifteen
    assert gates["parity"].outcome is GateOutcome.PASSED  # of the small one, with its own answers in the study
    assert gates["forgetting"].outcome is GateOutcome.PASSED
    assert set(release.evidence.scores.values()) == {1.0}
    assert (release.evidence.base_sha256, release.evidence.tuned_sha256 is None) == (study.model.base_sha256, False)


def test_examples_that_must_pass_are_not_asked_of_an_endpoint(
    store: Store, study: ReleasableStudy, tmp_path: Path
) -> None:
    (tmp_path / "own.jsonl").write_text('{"input": "Where is it?", "output": "delivery"}\n' * 2)
    gates = {"must_pass": {"file": tmp_path / "own.jsonl", "grader": "exact_text"}}
    made = make(store, study, **gates)
    [found] = [gate for gate in made.evidence.gates if gate.name == "must_pass"]
    assert (found.outcome, found.lets_through) == (GateOutcome.NOT_MEASURED, False)
    assert "a router would ask its large contender as well" in found.sentence
    assert next(gate for gate in made.evidence.gates if gate.name == "parity").outcome is GateOutcome.PASSED


def test_a_routers_cost_is_held_against_its_bound_where_both_contenders_are_priced(
    store: Store, study: ReleasableStudy
) -> None:
    def found(most: float) -> GateResult:
        made = make(store, study, cost_per_request={"most": most})
        return next(gate for gate in made.evidence.gates if gate.name == "cost_per_request")

    assert found(1.0).outcome is GateOutcome.NOT_MEASURED, "what the large model costs is not known"
    said = with_settings(
        Assumptions(),
        ("remote.price_per_million_input_tokens=100", "remote.price_per_million_output_tokens=500"),
    )
    rewrite(study, lambda report: with_money(report, said, read_prices(get_settings().home)))
    dear = found(1e-6)
    assert (dear.outcome, dear.lets_through) == (GateOutcome.FAILED, False)
    assert "of the large one" in dear.sentence
    assert found(1e6).outcome is GateOutcome.PASSED
    assert isinstance(dear.measured, Interval)
    routing = read_study(study.folder).report.routing
    assert routing is not None
    assert routing.costs is not None
    assert dear.measured.estimate == pytest.approx(routing.costs.cost_per_request(5 / NUM_ROWS))
    assert dear.measured.low < dear.measured.estimate < dear.measured.high


def test_rows_that_one_of_the_two_was_not_scored_on_have_no_routed_answer(store: Store, study: ReleasableStudy) -> None:
    def unscored(report: StudyReport) -> StudyReport:
        last = report.rows[-1]
        return replace(report, rows=(*report.rows[:-1], replace(last, scores={**last.scores, "remote": None})))

    rewrite(study, unscored)
    assert list(make(store, study).evidence.scores.values()).count(None) == 1


def test_an_endpoint_alone_is_released_and_what_it_was_not_asked_is_not_measured(
    store: Store, study: ReleasableStudy
) -> None:
    release = make(store, study, "remote", None)
    contender = release.contender
    assert isinstance(contender, ReleasedContender)
    assert (contender.kind, contender.model, contender.url) == (ContenderKind.REMOTE, "large-model", URL)
    parity = next(gate for gate in release.evidence.gates if gate.name == "parity")
    assert parity.outcome is GateOutcome.NOT_MEASURED
    assert "the gates do not ask it" in parity.sentence
    assert not parity.lets_through


def test_routers_that_cannot_be_are_refused_with_what_to_do(store: Store, study: ReleasableStudy) -> None:
    with pytest.raises(ConfigError, match="--when-large-fails fail, or answer_small"):
        make(store, study, choices=None)
    with pytest.raises(ConfigError, match="--large-cost-per-request"):
        make(store, study, choices=RouterChoices(when_large_fails="fail", budget_per_day=1.0))
    with pytest.raises(ConfigError, match="--budget-per-day"):
        RouterChoices(when_large_fails="fail", budget_per_day=-1.0)

    def with_routing(**values: Any) -> None:
        def change(report: StudyReport) -> StudyReport:
            assert report.routing is not None
            return replace(report, routing=replace(report.routing, **values))

        rewrite(study, change)

    with_routing(trusted=None)
    with pytest.raises(DataError, match="an older version wrote it"):
        make(store, study)
    assert study.report.routing is not None
    with_routing(rule=replace(study.report.routing.rule, threshold=None))
    with pytest.raises(ConfigError, match="--contender remote"):
        make(store, study)
    rewrite(study, lambda report: replace(report, routing=None))
    with pytest.raises(DataError, match="the study has no router"):
        make(store, study)


def test_the_catalogue_says_that_a_router_or_an_endpoint_answers(store: Store, study: ReleasableStudy) -> None:
    release = make(store, study)
    promote(store, study.model.project_id, "triage", None, who="ann", forced_for="a test")
    keep_release(store, "large", ReleasedContender(kind=ContenderKind.REMOTE, model="m", url=URL))
    found = ReleaseCatalogue(store).find("triage", study.model.project_id)
    assert (found.model, found.contender, found.router) == (None, None, release)
    assert found.release is not None
    assert found.release.contender == "router"
    alone = ReleaseCatalogue(store).find("large@1", study.model.project_id)
    assert alone.model is None
    assert alone.router is not None
    assert alone.contender == alone.router.contender


def test_options_about_routers_are_refused_elsewhere() -> None:
    found = CliRunner().invoke(app, ["create", "a", "--study", "b", "--when-large-fails", "fail"])
    assert isinstance(found.exception, ConfigError)
    assert "--contender router" in found.exception.describe()


def test_a_report_without_rows_is_refused_in_words(store: Store, study: ReleasableStudy) -> None:
    path = study.folder / "report.json"
    path.write_text(print_report(replace(read_study(study.folder).report, rows=())), "utf-8")
    with pytest.raises(DataError, match="no test rows"):
        make(store, study, contender="tuned")
