"""What is not promoted, though every gate that was looked at let it through when the release was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from adapters import write_adapter
from fettle.errors import DataError
from fettle.models.strength import tuned_sha256
from fettle.releases.changing import NotComparedError, ReleaseRefusedError, promote
from fettle.releases.gate_settings import GateSettings
from fettle.releases.making import NewRelease, create_release
from fettle.releases.records import GateOutcome, Release
from fettle.releases.signing import ChangedReleaseError
from fettle.store.database import Store
from fettle.store.models import folder_of
from fettle.store.release_tables import releases
from fettle.store.releases import ReleaseEventKind, release_history
from fettle.study.report import write_report
from released_study import ReleasableStudy, releasable_study
from tiny_models import load_tiny_model

OFF = {"on": False}
SMALL = {
    "forgetting": {"most_points_lost": 10},
    "parity": {"num_answers": 20, "lowest_same_share": 0.8},
    "latency": OFF,
}


@pytest.fixture
def study(store: Store, tmp_path: Path) -> Iterator[ReleasableStudy]:
    made = releasable_study(store, tmp_path)
    yield made
    made.pool.close()


def make(store: Store, study: ReleasableStudy, contender: str | None = None, **gates: dict[str, Any]) -> Release:
    wanted = NewRelease(
        name="triage",
        project_id=study.model.project_id,
        study=study.folder,
        contender=contender,
        gates=GateSettings.model_validate(SMALL | gates),
        who="ann",
    )
    return create_release(store, wanted, study.asker)


def outcomes(release: Release) -> dict[str, GateOutcome]:
    return {gate.name: gate.outcome for gate in release.evidence.gates}


def test_a_release_that_was_never_compared_with_the_one_in_force_is_not_promoted(
    store: Store, study: ReleasableStudy
) -> None:
    project_id = study.model.project_id
    make(store, study)
    worse = [
        replace(row, scores={**row.scores, "tuned": float(place % 3 > 0)})
        for place, row in enumerate(study.report.rows)
    ]
    write_report(replace(study.report, rows=tuple(worse)), study.folder)
    assert outcomes(make(store, study))["win_rate_against_current"] is GateOutcome.DOES_NOT_APPLY
    promote(store, project_id, "triage", 1, who="ann")
    with pytest.raises(NotComparedError, match="triage@2 was held when none was in force, and not against triage@1"):
        promote(store, project_id, "triage", 2, who="ann")
    compared = make(store, study)
    assert compared.evidence.compared_with == 1
    assert outcomes(compared)["win_rate_against_current"] is GateOutcome.FAILED
    unasked = make(store, study, win_rate_against_current=OFF)
    promote(store, project_id, "triage", unasked.number, who="ann")
    promote(store, project_id, "triage", 2, who="ann", forced_for="the new one is down")
    with store.reading() as connection:
        kinds = [event.kind for event in release_history(connection, project_id, "triage")][-2:]
    assert kinds == [ReleaseEventKind.PROMOTED, ReleaseEventKind.FORCED]


@pytest.mark.parametrize(
    "gates",
    [
        {},
        {"json_validity": {}},
        {"latency": {"when_not_measured": "pass"}, "parity": {"on": False, "num_answers": 20}},
    ],
    ids=["no gate", "one that does not apply", "one that was not measured"],
)
def test_gates_that_have_measured_nothing_let_nothing_through(
    store: Store, study: ReleasableStudy, gates: dict[str, Any]
) -> None:
    off = dict.fromkeys(GateSettings.model_fields, OFF)
    release = make(store, study, None, **(off | gates))
    assert not release.evidence.refusals
    with pytest.raises(ReleaseRefusedError, match=r"none of the [01] gates"):
        promote(store, study.model.project_id, "triage", None, who="ann")


def test_a_changed_release_in_force_can_be_replaced_by_a_new_one(store: Store, study: ReleasableStudy) -> None:
    project_id = study.model.project_id
    make(store, study)
    promote(store, project_id, "triage", 1, who="ann")
    with store.writing() as connection:
        connection.execute(update(releases).values(evidence={"gates": []}))
    new = make(store, study)
    assert outcomes(new)["win_rate_against_current"] is GateOutcome.NOT_MEASURED
    with pytest.raises(ReleaseRefusedError, match="triage@1 was changed after it was made"):
        promote(store, project_id, "triage", 2, who="ann")
    promote(store, project_id, "triage", 2, who="ann", forced_for="the first one was changed")
    with store.writing() as connection:
        connection.execute(delete(releases).where(releases.c.release_number == 2))
    assert outcomes(make(store, study))["win_rate_against_current"] is GateOutcome.NOT_MEASURED


def test_an_adapter_that_was_exchanged_since_the_study_is_not_released(
    store: Store, study: ReleasableStudy, tmp_path: Path
) -> None:
    folder = folder_of(store, study.model)
    write_report(replace(study.report, tuned_sha256=tuned_sha256(folder)), study.folder)
    assert make(store, study).evidence.lets_through
    other = write_adapter(load_tiny_model(tmp_path / "tiny-llama"), tmp_path / "other", seed=2)
    shutil.copy(other / "adapter_model.safetensors", folder)
    with pytest.raises(ChangedReleaseError, match="not those that answered in the study"):
        make(store, study)
    assert outcomes(make(store, study, "prompt"))["parity"] is not GateOutcome.NOT_MEASURED


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", r"must.jsonl:2: 1 of the examples that must pass cannot be read.*not valid JSON"),
        (json.dumps({"input": "Where is it?", "output": ""}), "must.jsonl:2.*the answer is empty"),
    ],
)
def test_examples_that_must_pass_and_cannot_be_read_are_not_left_out(
    store: Store, study: ReleasableStudy, tmp_path: Path, line: str, message: str
) -> None:
    row = study.report.rows[0]
    right = json.dumps({"input": row.input_text, "output": row.wanted})
    (tmp_path / "must.jsonl").write_text(f"{right}\n")
    alone = make(store, study, must_pass={"file": tmp_path / "must.jsonl", "grader": "exact_text"})
    assert outcomes(alone)["must_pass"] is GateOutcome.PASSED
    (tmp_path / "must.jsonl").write_text(f"{right}\n{line}\n")
    with pytest.raises(DataError, match=message):
        make(store, study, must_pass={"file": tmp_path / "must.jsonl"})


def test_examples_with_functions_to_call_are_not_asked_without_them(
    store: Store, study: ReleasableStudy, tmp_path: Path
) -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    turns = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On its way."}]
    (tmp_path / "must.jsonl").write_text(json.dumps({"messages": turns, "tools": [tool]}) + "\n")
    with pytest.raises(DataError, match="functions to call are not asked"):
        make(store, study, must_pass={"file": tmp_path / "must.jsonl"})
