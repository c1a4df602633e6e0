"""Releases made of a study, signed, promoted, rolled back and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from fettle.economics.assumptions import with_settings
from fettle.economics_records import Assumptions
from fettle.errors import ConfigError, DataError
from fettle.records import Message
from fettle.releases import signing
from fettle.releases.catalogue import ReleaseCatalogue, require_release_name
from fettle.releases.changing import ReleaseRefusedError, promote, roll_back
from fettle.releases.chart import history_chart
from fettle.releases.gate_settings import GateSettings
from fettle.releases.making import NewRelease, create_release
from fettle.releases.prompting import with_instruction
from fettle.releases.records import (
    AnswerForm,
    ContenderKind,
    GateOutcome,
    Release,
    ReleasedContender,
    Router,
)
from fettle.releases.signing import (
    ChangedReleaseError,
    VerifiedReleases,
    contender_as_json,
    content_sha256,
    evidence_as_json,
    verified,
)
from fettle.routing_records import RoutingRule
from fettle.store.database import Store
from fettle.store.models import folder_of, remove_tuned_model
from fettle.store.release_tables import releases
from fettle.store.releases import (
    NoSuchReleaseError,
    RawRelease,
    ReleaseEventKind,
    StoredRelease,
    find_release,
    number_in_force,
    release_history,
)
from fettle.study.economics_report import read_prices, with_money
from fettle.study.report import write_report
from kept_releases import FAILED, evidence, keep_release
from released_study import INSTRUCTION, LABELS, SHOTS, ReleasableStudy, releasable_study


@pytest.fixture
def study(store: Store, tmp_path: Path) -> Iterator[ReleasableStudy]:
    made = releasable_study(store, tmp_path)
    yield made
    made.pool.close()


def make(
    store: Store,
    study: ReleasableStudy,
    contender: str | None = None,
    economics: Path | None = None,
    **gates: dict[str, Any],
) -> Release:
    wanted = NewRelease(
        name="triage",
        project_id=study.model.project_id,
        study=study.folder,
        contender=contender,
        gates=GateSettings.model_validate(
            {"forgetting": {"most_points_lost": 10}, "parity": {"num_answers": 20, "lowest_same_share": 0.8}} | gates
        ),
        who="ann",
        economics=economics,
    )
    return create_release(store, wanted, study.asker)


def outcomes(release: Release) -> dict[str, GateOutcome]:
    return {gate.name: gate.outcome for gate in release.evidence.gates}


def test_a_tuned_contender_becomes_a_release_with_its_evidence(store: Store, study: ReleasableStudy) -> None:
    release = make(store, study, latency={"on": False})
    assert str(release) == "triage@1"
    assert release.contender == ReleasedContender(
        kind=ContenderKind.TUNED, model=study.model.id, instruction=INSTRUCTION, form=AnswerForm(labels=LABELS)
    )
    found = outcomes(release)
    assert set(found.values()) == {GateOutcome.PASSED, GateOutcome.DOES_NOT_APPLY}
    assert [name for name, outcome in found.items() if outcome is GateOutcome.PASSED] == [
        "win_rate_against_prompt", "forgetting", "parity", "personal_data",
    ]  # fmt: skip
    shown = release.evidence
    assert (shown.base_sha256, shown.template_sha256) == (study.model.base_sha256, study.model.template_sha256)
    assert len(shown.scores) == len(study.report.rows)
    assert not shown.refusals
    with store.reading() as connection:
        assert verified(find_release(connection, study.model.project_id, "triage", 1)) == release
    again = make(store, study, latency={"on": False})
    assert again.number == 2


def test_other_contenders_are_released_with_what_they_are_told(store: Store, study: ReleasableStudy) -> None:
    few_shot = make(store, study, "few_shot").contender
    assert isinstance(few_shot, ReleasedContender)
    assert (few_shot.model, few_shot.shots, few_shot.instruction) == (study.model.base, SHOTS, INSTRUCTION)
    prompt = make(store, study, "prompt")
    assert isinstance(prompt.contender, ReleasedContender)
    assert prompt.contender.instruction == f"{INSTRUCTION}\n\nOne of billing, delivery, refund."
    assert outcomes(prompt)["win_rate_against_prompt"] is GateOutcome.DOES_NOT_APPLY
    for name, message in (("classifier", "no language model"), ("none", "no contender")):
        with pytest.raises(ConfigError, match=message):
            make(store, study, name)


def test_examples_that_must_pass_are_answered_by_the_serving_engine(
    store: Store, study: ReleasableStudy, tmp_path: Path
) -> None:
    rows = study.report.rows[:4]
    lines = [{"input": row.input_text, "output": row.wanted} for row in rows]
    (tmp_path / "right.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    right = make(store, study, must_pass={"file": tmp_path / "right.jsonl", "grader": "exact_text"})
    assert outcomes(right)["must_pass"] is GateOutcome.PASSED
    lines[1]["output"] = "something else"
    (tmp_path / "wrong.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    wrong = make(store, study, must_pass={"file": tmp_path / "wrong.jsonl", "grader": "exact_text"})
    assert outcomes(wrong)["must_pass"] is GateOutcome.FAILED
    [gate] = [one for one in wrong.evidence.gates if one.name == "must_pass"]
    assert "3 of 4 examples" in gate.sentence
    assert "wrong.jsonl:2" in gate.sentence


def test_costs_are_those_of_the_study_or_of_the_users_file(
    store: Store, study: ReleasableStudy, tmp_path: Path
) -> None:
    said = with_settings(
        Assumptions(), ["currency=EUR", "usd=0.9", "machine.price_per_serving_hour=2", "traffic.requests_per_day=1000"]
    )
    report = with_money(study.report, said, read_prices(tmp_path))
    write_report(report, study.folder)
    bounds: dict[str, Any] = {"cost_per_request": {"most": 0.05}, "cost_per_correct_answer": {"most": 0.05}}
    cheap = make(store, study, **bounds)
    found = outcomes(cheap)
    assert found["cost_per_request"] is GateOutcome.PASSED
    [gate] = [one for one in cheap.evidence.gates if one.name == "cost_per_request"]
    assert gate.measured is not None
    assert gate.measured.estimate == pytest.approx(2 * 24 / 1000)
    assert "0.048 EUR" in gate.sentence
    (tmp_path / "dear.toml").write_text("[machine]\nprice_per_serving_hour = 3\n")
    dear = make(store, study, economics=tmp_path / "dear.toml", **bounds)
    assert outcomes(dear)["cost_per_request"] is GateOutcome.FAILED
    assert "cost_per_request" in {one.name for one in dear.evidence.refusals}
    (tmp_path / "wrong.toml").write_text("[machine]\nprice = 3\n")
    with pytest.raises(ConfigError, match=r"machine\.price"):
        make(store, study, economics=tmp_path / "wrong.toml", **bounds)


def test_a_release_that_its_gates_refuse_is_promoted_by_force_alone_which_is_kept(
    store: Store, study: ReleasableStudy
) -> None:
    project_id = study.model.project_id
    make(store, study, forgetting={"most_points_lost": 0.001})
    with pytest.raises(ReleaseRefusedError, match=r"forgetting \(failed\).*latency \(not measured\)"):
        promote(store, project_id, "triage", 1, who="ann")
    promote(store, project_id, "triage", 1, who="ann", forced_for="the old one is down")
    with store.reading() as connection:
        assert number_in_force(connection, project_id, "triage") == 1
        last = release_history(connection, project_id, "triage")[-1]
    assert (last.kind, last.who, last.reason) == (ReleaseEventKind.FORCED, "ann", "the old one is down")


def test_without_gates_nothing_is_let_through(store: Store, study: ReleasableStudy) -> None:
    off: dict[str, Any] = {name: {"on": False} for name in GateSettings.model_fields}
    make(store, study, None, **off)
    with pytest.raises(ReleaseRefusedError, match="none of the 0 gates"):
        promote(store, study.model.project_id, "triage", None, who="ann")


def test_a_broken_serving_path_breaks_parity_and_is_no_pass(store: Store, study: ReleasableStudy) -> None:
    config = folder_of(store, study.model) / "adapter_model.safetensors"
    config.write_bytes(b"damaged")
    study.pool.forget(ReleaseCatalogue(store).find(study.model.id, study.model.project_id).model)
    release = make(store, study)
    assert outcomes(release)["parity"] is GateOutcome.NOT_MEASURED
    assert "parity" in {gate.name for gate in release.evidence.refusals}


def test_answers_other_than_the_studys_break_parity(store: Store, study: ReleasableStudy) -> None:
    rows = [replace(row, answers={**row.answers, "tuned": "other"}) for row in study.report.rows]
    write_report(replace(study.report, rows=tuple(rows)), study.folder)
    assert outcomes(make(store, study))["parity"] is GateOutcome.FAILED


def test_rolling_back_returns_to_what_was_in_force(store: Store, study: ReleasableStudy) -> None:
    project_id = study.model.project_id
    contender = ReleasedContender(kind=ContenderKind.TUNED, model=study.model.id)
    for number in (1, 2, 3):
        keep_release(store, "replies", contender)
        promote(store, project_id, "replies", number, who="ann")
    with pytest.raises(ConfigError, match="replies@3 is in force already"):
        promote(store, project_id, "replies", 3, who="ann")
    assert roll_back(store, project_id, "replies", to=None, who="ann").number == 2
    assert roll_back(store, project_id, "replies", to=None, who="ann", reason="it lost orders").number == 1
    with pytest.raises(ConfigError, match="no release of 'replies' was in force before"):
        roll_back(store, project_id, "replies", to=None, who="ann")
    assert roll_back(store, project_id, "replies", to=3, who="ann").number == 3
    keep_release(store, "replies", contender)
    with pytest.raises(ConfigError, match="never was"):
        roll_back(store, project_id, "replies", to=4, who="ann")


def test_a_changed_row_and_changed_weights_are_refused_whatever_forces_them(
    store: Store, study: ReleasableStudy
) -> None:
    project_id = study.model.project_id
    contender = ReleasedContender(kind=ContenderKind.TUNED, model=study.model.id)
    keep_release(store, "triage", contender, FAILED)
    with store.reading() as connection:
        stored = find_release(connection, project_id, "triage", 1)
    better = dict(stored.evidence) | {"gates": []}
    with store.writing() as connection:
        connection.execute(update(releases).values(evidence=better))
    with pytest.raises(ChangedReleaseError, match="triage@1 was changed"):
        promote(store, project_id, "triage", 1, who="ann", forced_for="I want it")
    with store.writing() as connection:
        connection.execute(update(releases).values(evidence=dict(stored.evidence)))
    weights = folder_of(store, study.model) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(ChangedReleaseError, match="tuned weights of the release triage@1"):
        promote(store, project_id, "triage", 1, who="ann", forced_for="I want it")
    remove_tuned_model(store, project_id, study.model.id)
    with pytest.raises(ChangedReleaseError, match="is not here any more"):
        ReleaseCatalogue(store).find("triage@1", project_id)


def test_a_row_that_was_verified_once_is_refused_at_the_next_request_after_any_letter_of_it_has_changed(
    store: Store, study: ReleasableStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    project_id, catalogue = study.model.project_id, ReleaseCatalogue(store)
    keep_release(store, "triage", ReleasedContender(kind=ContenderKind.TUNED, model=study.model.id))
    promote(store, project_id, "triage", 1, who="ann")
    hashed: list[StoredRelease] = []

    def counted(stored: StoredRelease) -> Release:
        hashed.append(stored)
        return verified(stored)

    monkeypatch.setattr(signing, "verified", counted)
    before = catalogue.find("triage", project_id)
    assert catalogue.find("triage", project_id) == catalogue.find("triage@1", project_id) == before
    assert len(hashed) == 1
    with store.reading() as connection:
        stored = find_release(connection, project_id, "triage", 1)
    one_score = dict(stored.evidence) | {"scores": dict(stored.evidence["scores"]) | {"a": 0.0}}
    another = dict(stored.contender["contender"]) | {"instruction": "Say yes."}
    changes: list[dict[str, Any]] = [
        {"evidence": one_score},
        {"contender": dict(stored.contender) | {"contender": another}},
        {"content_sha256": "0" * 64},
    ]
    for change in changes:
        with store.writing() as connection:
            connection.execute(update(releases).values(change))
        for name in ("triage", "triage@1"):
            with pytest.raises(ChangedReleaseError, match="triage@1 was changed"):
                catalogue.find(name, project_id)
        with store.writing() as connection:
            whole = {name: getattr(stored, name) for name in ("evidence", "contender", "content_sha256")}
            connection.execute(update(releases).values(whole))
        assert catalogue.find("triage", project_id) == before


def test_few_releases_are_remembered_and_no_json_is_refused() -> None:
    said = contender_as_json(ReleasedContender(kind=ContenderKind.PROMPT, model="tiny"))
    shown = evidence_as_json(evidence())

    def raw(number: int) -> RawRelease:
        signed = content_sha256("a", number, said, shown)
        return RawRelease(
            project_id="p",
            name="a",
            number=number,
            created_at=0,
            contender=json.dumps(said),
            evidence=json.dumps(shown),
            content_sha256=signed,
        )

    remembered = VerifiedReleases(most=2)
    first = remembered.release(raw(1))
    assert remembered.release(raw(1)) is first
    assert [remembered.release(raw(number)).number for number in (2, 3)] == [2, 3]
    again = remembered.release(raw(1))
    assert again == first
    assert again is not first
    with pytest.raises(ChangedReleaseError, match="is no JSON"):
        remembered.release(replace(raw(1), evidence="{"))


def test_a_study_whose_model_is_not_in_the_store_or_whose_base_has_changed_is_refused(
    store: Store, study: ReleasableStudy, tmp_path: Path
) -> None:
    origin = replace(study.report.provenance, model_sha256="another")
    write_report(replace(study.report, provenance=origin), study.folder)
    with pytest.raises(ChangedReleaseError, match="not the one of the study any more"):
        make(store, study)
    write_report(study.report, tmp_path / "elsewhere")
    with pytest.raises(DataError, match="does not hold the model of this study"):
        make(store, replace(study, folder=tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match="the name of a model"):
        create_release(
            store,
            NewRelease(
                name="tiny-llama",
                project_id=study.model.project_id,
                study=study.folder,
                contender=None,
                gates=GateSettings(),
                who="ann",
            ),
            study.asker,
        )
    with pytest.raises(NoSuchReleaseError):
        promote(store, study.model.project_id, "triage", None, who="ann")


@pytest.mark.parametrize("name", ["", "a b", "a@1", "ft:a", "a/b", "-a", "x" * 101])
def test_names_that_are_no_names_of_releases_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected a name of letters"):
        require_release_name(name)


def test_a_router_is_stored_and_read_back() -> None:
    small = ReleasedContender(kind=ContenderKind.TUNED, model="ft:a", shots=SHOTS)
    large = ReleasedContender(kind=ContenderKind.REMOTE, model="large", url="http://localhost:1")
    rule = RoutingRule(
        measure="label_margin", threshold=-0.1, labels=("a", "b"), reading="label likelihood", label_offsets={"a": -1.5}
    )
    router = Router(
        small=small,
        large=large,
        rule=rule,
        policy_when_large_fails="fail",
        target=0.9,
        level=0.95,
        budget_per_day=2.5,
        large_timeout_seconds=20,
        large_cost_per_request=0.01,
    )
    said, shown = contender_as_json(router), evidence_as_json(evidence(FAILED))
    signed = content_sha256("a", 1, said, shown)
    stored = StoredRelease(
        project_id="p", name="a", number=1, created_at=0, contender=json.loads(json.dumps(said)),
        evidence=json.loads(json.dumps(shown)), content_sha256=signed,
    )  # fmt: skip
    read = verified(stored)
    assert read.contender == router
    assert read.evidence == evidence(FAILED)
    with pytest.raises(ChangedReleaseError):
        verified(replace(stored, number=2))
    newer = said | {"format_version": 9}
    stored = replace(stored, contender=newer, content_sha256=content_sha256("a", 1, newer, shown))
    with pytest.raises(ChangedReleaseError, match="format version 9"):
        verified(stored)


def test_what_an_earlier_version_has_stored_is_read() -> None:
    shown = evidence_as_json(evidence(FAILED))

    def read(said: dict[str, Any]) -> Any:
        signed = content_sha256("a", 1, said, shown)
        stored = StoredRelease(
            project_id="p", name="a", number=1, created_at=0, contender=said, evidence=shown, content_sha256=signed
        )
        return verified(stored).contender

    small = ReleasedContender(kind=ContenderKind.TUNED, model="ft:a", form=AnswerForm(labels=LABELS))
    said = contender_as_json(small) | {"format_version": 1}
    assert read(said) == small
    [contender] = [value for key, value in said.items() if key != "format_version"]
    router = {"small": contender, "large": contender, "measure": "label_margin", "threshold": 0.5}
    router |= {"policy_when_large_fails": "fail", "budget_per_day": 3.0}
    assert read({"format_version": 1, "router": router}) == Router(
        small=small,
        large=small,
        rule=RoutingRule(measure="label_margin", threshold=0.5),
        policy_when_large_fails="fail",
        budget_per_day=3.0,
    )


def test_an_instruction_stands_before_what_is_asked_and_is_not_said_twice() -> None:
    contender = ReleasedContender(
        kind=ContenderKind.FEW_SHOT, model="m", instruction="Sort it.\n\nBe brief.", shots=SHOTS
    )
    user = Message(role="user", content="Hi")
    system = Message(role="system", content="Sort it.\n\nBe brief.")
    assert with_instruction((user,), contender) == (system, *SHOTS, user)
    own = Message(role="system", content="Sort it.")
    assert with_instruction((own, user), contender) == (system, *SHOTS, user)
    other = Message(role="developer", content="Today is Friday.")
    lead = replace(other, content="Sort it.\n\nBe brief.\n\nToday is Friday.")
    assert with_instruction((other, user), contender) == (lead, *SHOTS, user)
    bare = replace(contender, instruction=None)
    assert with_instruction((other, user), bare) == (other, *SHOTS, user)


def test_the_chart_shows_every_release_and_escapes_what_it_says(store: Store, study: ReleasableStudy) -> None:
    from xml.etree import ElementTree

    contender = ReleasedContender(kind=ContenderKind.TUNED, model=study.model.id)
    first = keep_release(store, "replies", contender)
    bad = replace(FAILED, sentence='<script> & "more"')
    second = keep_release(store, "replies", contender, replace(FAILED, name="parity"), bad)
    drawn = history_chart("replies", [first, second], 1)
    root = ElementTree.fromstring(drawn)
    assert len([one for one in root.iter() if one.tag.endswith("}g")]) == 3
    words = ["".join(one.itertext()) for one in root.iter() if one.tag.endswith("text")]
    assert words.count("@1") == words.count("@2") == 2
    assert "parity %, the whole interval above the bound" in words
    many = history_chart("replies", [replace(first, number=number) for number in range(1, 60)], 30)
    named = [one for one in many.splitlines() if ">@" in one]
    assert 8 < len(named) < 16
    assert sum("bold" in one for one in named) == 1
    assert "in force: replies@1" in drawn
    assert "<script>" not in drawn
