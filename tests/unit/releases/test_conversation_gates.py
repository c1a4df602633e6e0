"""Gates over studies whose examples are more than one message: what was asked is kept in the study's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from answered_study import answered_by, language_model
from fettle.contenders.prompt import OwnPrompt
from fettle.errors import DataError
from fettle.records import Example, Location, Message, Tool
from fettle.releases.from_study import has_whole_prompts
from fettle.releases.gate_settings import GateSettings
from fettle.releases.making import NewRelease, create_release
from fettle.releases.records import GateOutcome, GateResult
from fettle.store.database import Store
from fettle.study.kept_prompts import keep_prompts, kept_prompts
from released_study import INSTRUCTION, ReleasableStudy, releasable_study

NUM_ROWS = 12
KEY = "the key"
"""Of `releasable_study`."""


@pytest.fixture
def study(store: Store, tmp_path: Path) -> Iterator[ReleasableStudy]:
    made = releasable_study(store, tmp_path, num_rows=NUM_ROWS)
    yield made
    made.pool.close()


def example(id_: str, *turns: tuple[str, str], context: str = "") -> Example:
    messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
    return Example(id=id_, messages=messages, source=Location(file="a", line=1), context=context)


def several_turns(study: ReleasableStudy) -> list[Example]:
    return [
        example(
            row.example_id,
            ("system", INSTRUCTION),
            ("user", f"My parcel is number {number}."),
            ("assistant", "And what of it?"),
            ("user", row.input_text),
            ("assistant", "refund"),
        )
        for number, row in enumerate(study.report.rows)
    ]


def gate(store: Store, study: ReleasableStudy, name: str) -> GateResult:
    wanted = NewRelease(
        name="answers",
        project_id=study.model.project_id,
        study=study.folder,
        contender="prompt",
        gates=GateSettings.model_validate({"parity": {"num_answers": NUM_ROWS, "lowest_same_share": 0.7}}),
        who="ann",
    )
    release = create_release(store, wanted, study.asker)
    return next(one for one in release.evidence.gates if one.name == name)


def test_whole_conversations_are_asked_again(store: Store, study: ReleasableStudy, tmp_path: Path) -> None:
    examples = several_turns(study)
    report = answered_by(study, language_model("prompt", OwnPrompt(), tmp_path), examples)
    told = tuple(
        replace(one, told=examples[0].prompt if one.name == "tuned" else one.told) for one in report.contenders
    )
    assert not has_whole_prompts(replace(report, contenders=told))
    keep_prompts(examples, INSTRUCTION, study.folder, key=KEY)
    kept = kept_prompts(study.folder)
    assert kept == {one.id: one.prompt[1:] for one in examples}
    found = gate(store, study, "parity")
    assert found.outcome is GateOutcome.PASSED
    assert found.sentence.startswith(f"{NUM_ROWS} of {NUM_ROWS} answers")
    keep_prompts([replace(one, messages=one.messages[2:]) for one in examples], None, study.folder, key=KEY)
    assert gate(store, study, "parity").outcome is GateOutcome.FAILED  # the first turn matters


def test_a_system_message_of_each_examples_own_is_asked_with(
    store: Store, study: ReleasableStudy, tmp_path: Path
) -> None:
    examples = [
        example(row.example_id, ("system", f"Desk {number}."), ("user", row.input_text), ("assistant", "refund"))
        for number, row in enumerate(study.report.rows)
    ]
    arm = language_model("prompt", OwnPrompt(), tmp_path)
    origin = replace(study.report.provenance, instruction=None)
    contenders = tuple(replace(one, told=examples[0].prompt) for one in study.report.contenders)
    study = replace(study, report=replace(study.report, provenance=origin, contenders=contenders))
    answered_by(study, arm, examples)
    assert gate(store, study, "parity").outcome is GateOutcome.NOT_MEASURED
    keep_prompts(examples, None, study.folder, key=KEY)
    found = gate(store, study, "parity")
    assert (found.outcome, found.sentence[:8]) == (GateOutcome.PASSED, "12 of 12")


@pytest.mark.parametrize(
    ("examples", "is_kept"),
    [
        ([example("a", ("system", "Sort it."), ("user", "Hi"), ("assistant", "x"))], False),
        ([example("a", ("user", "Hi"), ("assistant", "x"))], False),
        ([example("a", ("system", "Be brief."), ("user", "Hi"), ("assistant", "x"))], True),
        ([example("a", ("user", "Hi"), ("assistant", "x"), ("user", "More"), ("assistant", "y"))], True),
        (
            [example("a", ("system", "Sort it.\n\nIn Bonn."), ("user", "Hi"), ("assistant", "x"), context="In Bonn.")],
            True,
        ),
        ([example("a", ("assistant", "Hello"), ("assistant", "x"))], True),
    ],
)
def test_prompts_are_kept_where_the_rows_do_not_tell_them(
    tmp_path: Path, examples: Sequence[Example], is_kept: bool
) -> None:
    (tmp_path / "study.json").write_text(json.dumps({"format": "fettle-study", "key": KEY}))
    keep_prompts(examples, "Sort it.", tmp_path, key=KEY)
    kept = kept_prompts(tmp_path)
    assert (kept is not None) == is_kept
    if kept is not None:
        assert set(kept) == {"a"}
        assert kept["a"][-1] == examples[0].prompt[-1]


def test_examples_with_functions_are_left_out_and_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps({"format": "fettle-study", "key": KEY}))
    one = example("a", ("user", "Hi"), ("assistant", "x"), ("user", "More"), ("assistant", "y"))
    keep_prompts([one, replace(one, id="b", tools=(Tool(name="look_up"),))], None, tmp_path, key=KEY)
    assert set(kept_prompts(tmp_path) or ()) == {"a"}
    (tmp_path / "study.json").write_text(json.dumps({"format": "fettle-study", "key": "another"}))
    with pytest.raises(DataError, match="not what the study has kept"):
        kept_prompts(tmp_path)
