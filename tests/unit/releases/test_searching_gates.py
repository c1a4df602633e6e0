"""Gates of contenders that search: the study's own arm answers first, then the engine that serves, over one index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from answered_study import answered_by, language_model
from fettle.cli.release_text import passages_fact
from fettle.contenders.retrieval import PassageReader, RememberedSearch, RetrievedPassages
from fettle.errors import ConfigError
from fettle.progress import SilentListener
from fettle.records import Example, Location, Message
from fettle.releases.asking import ReleaseAsker
from fettle.releases.gate_settings import GateSettings
from fettle.releases.making import NewRelease, create_release
from fettle.releases.passages import ContenderSearch, attached_to, index_sha256
from fettle.releases.records import ContenderKind, GateOutcome, GateResult, Release, ReleasedContender, Router
from fettle.report_records import AnswerRow, StudyReport
from fettle.retrieval.fence import Wording
from fettle.retrieval.records import SearchSettings
from fettle.retrieval.search import IndexSearch
from fettle.retrieval.vector_stores import open_searchable, remove_vector_store
from fettle.routing_records import RoutingRule
from fettle.store.database import Store
from fettle.store.model_indexes import AttachedIndex, attach_index, index_of_model
from found_passages import ListedRetriever
from indexed import WordEmbedder, document, indexed
from released_study import INSTRUCTION, ReleasableStudy, releasable_study

NUM_ROWS = 12
REMOTE = ReleasedContender(kind=ContenderKind.REMOTE, model="large", url="https://models.example/v1")
RULE = RoutingRule(measure="foreseen", threshold=0.0)
WORDING = Wording(abstention="Nobody knows.", asks_for_citations=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A study whose contender `retrieval` has answered from an index."""

    study: ReleasableStudy
    report: StudyReport
    asker: ReleaseAsker
    index_id: str


@pytest.fixture
def searched(store: Store, tmp_path: Path) -> Iterator[Searched]:
    study = releasable_study(store, tmp_path, num_rows=NUM_ROWS)
    embedder = WordEmbedder()
    pages = [
        document(f"{number}.md", f"Queue {number} is for parcels that {number} people miss.") for number in range(8)
    ]
    index = indexed(store, pages, embedder=embedder).index
    attached = AttachedIndex(
        model=study.model.id,
        project_id=study.model.project_id,
        index_id=index.id,
        num_passages=2,
        method="hybrid",
        abstention=WORDING.abstention,
        asks_for_citations=WORDING.asks_for_citations,
    )
    with store.writing() as connection:
        attach_index(connection, attached)
    opened = open_searchable(store, index)
    search = IndexSearch(opened, embedder, SearchSettings(num_passages=4))
    style = RetrievedPassages(RememberedSearch(search), 2, WORDING)
    arm = PassageReader(model=language_model("retrieval", style, tmp_path))
    report = answered_by(study, arm, [_example(row) for row in study.report.rows])
    asker = ReleaseAsker(store, study.pool, SilentListener(), load_embedder=lambda _: embedder)
    yield Searched(study=study, report=report, asker=asker, index_id=index.id)
    opened.close()
    study.pool.close()


def _example(row: AnswerRow) -> Example:
    turns = (("system", INSTRUCTION), ("user", row.input_text), ("assistant", row.wanted))
    messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
    return Example(id=row.example_id, messages=messages, source=Location(file="a", line=1))


def make(store: Store, searched: Searched, **gates: dict[str, Any]) -> Release:
    given = {"parity": {"num_answers": NUM_ROWS, "lowest_same_share": 0.7}} | gates
    wanted = NewRelease(
        name="answers",
        project_id=searched.study.model.project_id,
        study=searched.study.folder,
        contender="retrieval",
        gates=GateSettings.model_validate(given),
        who="ann",
    )
    return create_release(store, wanted, searched.asker)


def gate(release: Release, name: str) -> GateResult:
    return next(one for one in release.evidence.gates if one.name == name)


def test_the_serving_engine_answers_from_the_studys_passages_as_the_study_did(
    store: Store, searched: Searched, tmp_path: Path
) -> None:
    lines = [f'{{"input": "Where is queue {number}?", "output": "over there"}}\n' for number in (3, 4)]
    (tmp_path / "must.jsonl").write_text("".join(lines))
    release = make(store, searched, must_pass={"file": tmp_path / "must.jsonl", "lowest_share": 0.0})
    assert isinstance(release.contender, ReleasedContender)
    assert release.contender.instruction == INSTRUCTION
    parity = gate(release, "parity")
    assert parity.outcome is GateOutcome.PASSED
    assert parity.sentence.startswith(f"{NUM_ROWS} of {NUM_ROWS} answers")
    assert parity.sentence.endswith(f"{NUM_ROWS} of them were shown the study's passages")
    assert gate(release, "must_pass").outcome is GateOutcome.PASSED
    assert {len(row.passages["retrieval"]) for row in searched.report.rows} == {2}
    assert len({row.answers["retrieval"] for row in searched.report.rows}) > NUM_ROWS // 2


def test_a_release_searches_for_what_its_model_searches_for(store: Store, searched: Searched) -> None:
    model = searched.study.model
    with store.writing() as connection:
        before = index_of_model(connection, model.id, model.project_id)
        assert before is not None
        attached = replace(before, system_begin=INSTRUCTION, max_tokens=2000, reranker=None)
        attach_index(connection, attached)
    release = make(store, searched)
    assert isinstance(release.contender, ReleasedContender)
    assert attached_to(release.contender, model.project_id) == replace(attached, model=release.contender.model)
    assert gate(release, "parity").outcome is GateOutcome.PASSED


def test_an_index_that_was_changed_or_deleted_since_the_study_lets_nothing_through(
    store: Store, searched: Searched
) -> None:
    pages = [document(f"{number}.md", f"Desk {number} is for people whose parcels are late.") for number in range(8)]
    indexed(store, pages)
    changed = gate(make(store, searched), "parity")
    assert (changed.outcome, changed.lets_through) == (GateOutcome.FAILED, False)
    remove_vector_store(store, searched.study.model.project_id, searched.index_id)
    with pytest.raises(ConfigError, match="does not say which index"):
        make(store, searched)


def test_what_an_index_held_is_signed_and_a_change_since_is_told(store: Store, searched: Searched) -> None:
    release = make(store, searched)
    project_id = searched.study.model.project_id
    assert release.evidence.index_sha256 == index_sha256(store, release.contender, project_id)
    assert release.evidence.index_sha256 is not None
    router = Router(
        small=cast("ReleasedContender", release.contender), large=REMOTE, rule=RULE, policy_when_large_fails="fail"
    )
    assert index_sha256(store, router, project_id) == release.evidence.index_sha256
    indexed(store, [document("0.md", "Queue 0 was closed.")])
    now = index_sha256(store, release.contender, project_id)
    assert passages_fact(release.evidence.index_sha256, now).endswith("the index has changed since")
    remove_vector_store(store, project_id, searched.index_id)
    assert index_sha256(store, release.contender, project_id) is None


def test_answers_are_compared_without_the_numbers_of_passages_where_they_were_asked_for() -> None:
    nothing = ListedRetriever({})
    assert ContenderSearch(retriever=nothing, wording=WORDING).read("It is here. [1][2]") == "It is here."
    silent = replace(WORDING, asks_for_citations=False)
    assert ContenderSearch(retriever=nothing, wording=silent).read("It is here. [1]") == "It is here. [1]"
