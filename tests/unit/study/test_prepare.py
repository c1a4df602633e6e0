from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from fettle.errors import ConfigError, DataError, IntegrityError
from fettle.examples.column_names import ColumnMapping
from fettle.examples.split import SplitSizes
from fettle.records import Severity, TaskKind
from fettle.study.prepare import as_studied, prepare
from fettle.study.settings import StudySettings

QUEUES = ("billing", "delivery")
WORDS = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heath", "inlet", "jetty", "knoll", "maple")


def table(path: Path, content: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("message", "queue"), *content])
    return path


@pytest.fixture
def labels(tmp_path: Path) -> StudySettings:
    return StudySettings(examples=table(tmp_path / "labels.csv", varied(40)))


def varied(count: int, start: int = 0) -> list[tuple[str, str]]:
    """Rows that are no near-duplicates of each other, each queue as often as the other."""
    made = []
    for number in range(start, start + count):
        chosen = [WORDS[(number * step + step) % 12] + str((number * step) % 97) for step in (1, 3, 5, 7, 11, 13)]
        made.append((" ".join(chosen), QUEUES[number % 2]))
    return made


def test_every_example_gets_the_same_derived_instruction(labels: StudySettings) -> None:
    data = prepare(labels)
    assert data.name == "labels"
    assert data.task.kind is TaskKind.LABELS
    assert set(data.task.labels) == set(QUEUES)
    everything = [*data.split.train, *data.split.valid, *data.split.test]
    assert len(everything) == 40
    assert {one.messages[0].role for one in everything} == {"system"}
    assert len({one.messages[0].content for one in everything}) == 1
    assert data.instruction.origin == "derived from the training examples"
    assert data.instruction.text == everything[0].messages[0].content
    assert as_studied(labels) == (tuple(sorted(everything, key=lambda one: one.source.line)), data.instruction)


def test_a_look_needs_fewer_examples_than_a_study(tmp_path: Path) -> None:
    settings = StudySettings(examples=table(tmp_path / "few.csv", varied(6)), task=TaskKind.LABELS)
    with pytest.raises(DataError, match="at least 20"):
        prepare(settings)
    shown, instruction = as_studied(settings)
    assert len(shown) == 6
    assert {one.messages[0].content for one in shown} == {instruction.text}


def test_nothing_that_only_test_answers_show_reaches_the_schema(tmp_path: Path) -> None:
    def rows(count: int, start: int, queues: tuple[str, ...]) -> str:
        texts = [text for text, _ in varied(count, start)]
        answers = [{"queue": queues[number % len(queues)]} for number in range(count)]
        lines = [{"input": text, "answer": json.dumps(answer)} for text, answer in zip(texts, answers, strict=True)]
        return "".join(json.dumps(line) + "\n" for line in lines)

    (tmp_path / "train.jsonl").write_text(rows(60, 0, QUEUES))
    (tmp_path / "test.jsonl").write_text(rows(20, 100, (*QUEUES, "secret")))
    columns = ColumnMapping(input="input", answer="answer")
    given = StudySettings(examples=tmp_path / "train.jsonl", test=tmp_path / "test.jsonl", columns=columns)
    assert "billing" in (prepare(given).task.json_schema or "")
    (tmp_path / "all.jsonl").write_text(rows(60, 0, QUEUES) + rows(4, 100, ("secret",)))
    for seed in range(40):
        data = prepare(StudySettings(examples=tmp_path / "all.jsonl", columns=columns, seed=seed))
        if not any("secret" in one.answer for one in data.split.train):
            break
    else:
        pytest.fail("no seed keeps the rare answer out of training")
    assert "secret" not in (data.task.json_schema or "")


def test_the_users_instruction_takes_the_place_of_the_examples_own(tmp_path: Path) -> None:
    turns = [
        [
            {"role": "system", "content": "own"},
            {"role": "user", "content": text},
            {"role": "assistant", "content": label},
        ]
        for text, label in varied(30)
    ]
    file = tmp_path / "chat.jsonl"
    file.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    own = prepare(StudySettings(examples=file))
    assert own.instruction.describe() == "the examples' own system message: own"
    assert [m.content for m in own.split.test[0].messages if m.role == "system"] == ["own"]
    assert not {finding.code for finding in own.findings} & {"no-system-message", "system-message-replaced"}
    told = prepare(StudySettings(examples=file, instruction="Sort this."))
    assert told.instruction.describe() == "given by the user: Sort this."
    assert [m.content for m in told.split.test[0].messages if m.role == "system"] == ["Sort this."]
    assert own.split_sha256()["test"] != told.split_sha256()["test"]
    assert own.test_sha256() == told.test_sha256(), "the same test, whatever instruction it is put with"


def test_hashes_are_of_the_content_and_not_of_names_or_order(tmp_path: Path) -> None:
    first = prepare(StudySettings(examples=table(tmp_path / "a.csv", varied(40))))
    second = prepare(StudySettings(examples=table(tmp_path / "b.csv", varied(40)[::-1])))
    assert first.split_sha256() == second.split_sha256()
    assert first.test_sha256() == second.test_sha256()
    assert first.file_sha256 != second.file_sha256


def test_a_validation_file_needs_a_test_file(labels: StudySettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--valid: a validation file without a test file"):
        prepare(replace(labels, valid=table(tmp_path / "valid.csv", varied(4, 100))))


def test_given_files_stay_what_they_are_and_leaks_leave_training(labels: StudySettings, tmp_path: Path) -> None:
    held_out = [*varied(7, 200), varied(1)[0]]  # the last one is the first row of training
    data = prepare(replace(labels, test=table(tmp_path / "test.csv", held_out)))
    assert data.split.given_by_user
    assert len(data.split.test) == 8
    assert len(data.split.train) + len(data.split.valid) == 39
    [leak] = [finding for finding in data.findings if finding.code == "leak-exact"]
    assert (leak.severity, leak.line) == (Severity.ERROR, 2)
    assert len(data.file_sha256) == 2


def test_a_group_that_a_split_tears_apart_stops_the_study(
    labels: StudySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = prepare(labels).split
    torn = replace(
        torn,
        test=tuple(replace(e, group="g") for e in torn.test),
        train=(replace(torn.train[0], group="g"), *torn.train[1:]),
    )
    monkeypatch.setattr("fettle.study.prepare.split_examples", lambda *_args, **_more: torn)
    with pytest.raises(IntegrityError, match="is of the group 'g'"):
        prepare(labels)


def test_labels_that_were_never_taught_are_named(labels: StudySettings, tmp_path: Path) -> None:
    held_out = [*varied(7, 200), ("a wholly different matter of the seventh kind", "complaint")]
    data = prepare(replace(labels, test=table(tmp_path / "test.csv", held_out)))
    [finding] = [finding for finding in data.findings if finding.code == "untaught-label"]
    assert "'complaint'" in finding.message
    assert (finding.line, finding.severity) == (9, Severity.WARNING)
    assert not [finding for finding in prepare(labels).findings if finding.code == "untaught-label"]


def test_the_users_test_file_is_checked_and_nothing_of_it_is_dropped(labels: StudySettings, tmp_path: Path) -> None:
    repeated = varied(1, 300)[0][0]
    held_out = [*[(repeated, "billing")] * 6, (repeated, "delivery"), ("write to ann@example.org", "billing")]
    file = table(tmp_path / "test.csv", held_out)
    data = prepare(replace(labels, test=file))
    found = [(finding.code, finding.line) for finding in data.findings if finding.file == str(file)]
    assert [line for code, line in found if code == "exact-duplicate"] == [3, 4, 5, 6, 7, 8]
    assert {("conflicting-answers", 8), ("personal-email", 9)} <= set(found)
    assert len(found) == len(set(found))
    assert len(data.split.test) == 8


def test_answers_that_are_all_tool_calls_are_refused(labels: StudySettings, tmp_path: Path) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "route", "arguments": "{}"}}]
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": None, "tool_calls": calls}]}
        for text, _ in varied(40)
    ]
    file = tmp_path / "calls.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"40 of 40 examples call a tool.* not scored yet"):
        prepare(StudySettings(examples=file))
    with pytest.raises(DataError, match=r"40 of 40 examples call a tool.* not scored yet"):
        prepare(replace(labels, test=file))


def test_the_encoding_is_that_of_all_files(labels: StudySettings, tmp_path: Path) -> None:
    file = tmp_path / "test.csv"
    file.write_bytes("message,queue\nгде посылка,billing\n".encode("mac_cyrillic"))
    data = prepare(replace(labels, test=file, encoding="mac_cyrillic"))
    assert data.split.test[0].input_text == "где посылка"


def test_one_label_cannot_be_studied(tmp_path: Path) -> None:
    file = table(tmp_path / "one.csv", [(text, "billing") for text, _ in varied(30)])
    with pytest.raises(DataError, match="nothing to learn"):
        prepare(StudySettings(examples=file))
    assert prepare(StudySettings(examples=file, task=TaskKind.TEXT)).task.kind is TaskKind.TEXT


def test_sizes_are_kept(labels: StudySettings) -> None:
    data = prepare(replace(labels, sizes=SplitSizes(valid=5, test=0.25, train=10)))
    assert (len(data.split.train), len(data.split.valid), len(data.split.test)) == (10, 5, 10)


def chats(path: Path, systems: list[str | None]) -> StudySettings:
    """Chat rows with these system messages, None for none."""
    lines = []
    for (text, queue), system in zip(varied(len(systems)), systems, strict=True):
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": queue}]
        lines.append({"messages": [{"role": "system", "content": system}, *turns] if system else turns})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return StudySettings(examples=path)


def instructions(settings: StudySettings) -> tuple[set[str], list[tuple[str, int | None]]]:
    """The system messages that a study gives, and what it finds about them."""
    data = prepare(settings)
    everything = [*data.split.train, *data.split.valid, *data.split.test]
    assert all(len([m for m in one.messages if m.role == "system"]) == 1 for one in everything)
    found = [(finding.code, finding.line) for finding in data.findings if "system-message" in finding.code]
    return {one.messages[0].content for one in everything}, found


def test_rows_without_system_message_get_the_one_that_all_others_have(tmp_path: Path) -> None:
    settings = chats(tmp_path / "a.jsonl", ["Sort it."] * 7 + [None] * 2 + ["Sort it."] * 31)
    assert instructions(settings) == ({"Sort it."}, [("no-system-message", 8)])


def test_rows_keep_their_own_system_messages_and_bare_ones_get_a_derived_one(tmp_path: Path) -> None:
    settings = chats(tmp_path / "a.jsonl", ["Sort it.", "Sort this.", None, *["Sort it."] * 37])
    texts, found = instructions(settings)
    assert texts >= {"Sort it.", "Sort this."}
    assert [text for text in texts if text.startswith("Answer with the one label")]
    assert len(texts) == 3
    assert found == [("no-system-message", 3)]


def test_an_instruction_that_replaces_system_messages_is_reported(tmp_path: Path) -> None:
    settings = chats(tmp_path / "a.jsonl", [None, *["Sort it."] * 39])
    assert instructions(replace(settings, instruction="Mine.")) == ({"Mine."}, [("system-message-replaced", 2)])
    settings = chats(tmp_path / "b.jsonl", ["Sort it."] * 40)
    assert instructions(settings) == ({"Sort it."}, [])


def test_files_whose_answers_have_no_label_in_common_are_refused(labels: StudySettings, tmp_path: Path) -> None:
    rows = [(text, f"other {queue}") for text, queue in varied(10, start=60)]
    with pytest.raises(DataError, match="not one test answer is a label of the training examples"):
        prepare(replace(labels, test=table(tmp_path / "test.csv", rows)))


def tickets_in_system_messages(path: Path, numbers: range) -> Path:
    """Chat rows that all ask the same below a system message with a ticket of their own."""
    kinds = list(permutations(WORDS, 4))
    rows = [
        {
            "messages": [
                {"role": "system", "content": f"Ticket: {' '.join(kinds[number * 97 + number % 5])}"},
                {"role": "user", "content": "Route this ticket."},
                {"role": "assistant", "content": QUEUES[number % 2]},
            ]
        }
        for number in numbers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_questions_in_system_messages_are_split_told_apart_and_kept(tmp_path: Path) -> None:
    file = tickets_in_system_messages(tmp_path / "chat.jsonl", range(60))
    data = prepare(StudySettings(examples=file))
    assert len(set(data.test_sha256())) == len(data.split.test) > 5
    assert not [finding for finding in data.findings if finding.code in ("exact-duplicate", "conflicting-answers")]
    told = prepare(StudySettings(examples=file, instruction="Sort this."))
    assert told.test_sha256() == data.test_sha256()
    for example in told.split.train:
        assert example.messages[0].content == f"Sort this.\n\nTicket: {example.context}"
    assert not [finding for finding in told.findings if finding.code == "system-message-replaced"]


def test_files_of_ones_own_with_questions_in_system_messages_share_none(tmp_path: Path) -> None:
    train, test = range(50), range(45, 70)
    data = prepare(
        StudySettings(
            examples=tickets_in_system_messages(tmp_path / "train.jsonl", train),
            test=tickets_in_system_messages(tmp_path / "test.jsonl", test),
        )
    )
    assert len(data.split.test) == 25
    assert sum(finding.code.startswith("leak") for finding in data.findings) >= 5
    kept = [*data.split.train, *data.split.valid]
    assert len(kept) >= 30, "and not all 50, which share their user turn with the test"
    assert not {example.context for example in kept} & {example.context for example in data.split.test}
