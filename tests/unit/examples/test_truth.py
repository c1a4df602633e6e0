from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_builders import codes, dataset, save

from fettle.examples.column_names import ColumnMapping
from fettle.examples.fix import fix_examples
from fettle.examples.read import read_examples
from fettle.examples.row_formats.truth import truth_of
from fettle.examples.write import write_chat_jsonl
from fettle.records import Task, TaskKind

MESSAGES = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "1931"}]
ROWS: dict[str, dict[str, Any]] = {
    "chat": {"messages": MESSAGES},
    "prompt_completion": {"prompt": "When?", "completion": "1931"},
    "prompt_of_turns": {"prompt": MESSAGES[:1], "completion": "1931"},
    "alpaca": {"instruction": "When?", "output": "1931"},
    "alpaca_history": {"instruction": "When?", "output": "1931", "history": [["Hello", "Hello."]]},
    "share_gpt": {"conversations": [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "1931"}]},
    "columns": {"question": "When?", "answer": "1931"},
}


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("key", ["doc_ids", "document_ids"])
def test_every_form_of_a_row_says_which_documents_answer(tmp_path: Path, form: str, key: str) -> None:
    row = ROWS[form] | {key: ["bridge.md", "tower.md"], "answers": ["1931", "in 1931"]}
    read = read_examples(save(tmp_path, "a.jsonl", json.dumps(row)))
    [example] = read.examples
    assert example.document_ids == ("bridge.md", "tower.md")
    assert example.references == ("1931", "in 1931")
    assert "other-answers" in codes(read)
    [other] = read_examples(save(tmp_path, "b.jsonl", json.dumps(ROWS[form]))).examples
    assert (other.document_ids, other.references) == (None, ())
    assert other.messages == example.messages


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("a.md", ("a.md",)),
        ("a.md; b, c.md\nd.md;", ("a.md", "b, c.md", "d.md")),
        ('["a.md", "b;c.md"]', ("a.md", "b;c.md")),
        ("[draft] a.md", ("[draft] a.md",)),
        ("[]", ()),
        ([], ()),
        (["a.md", "a.md", " ", None], ("a.md",)),
        (7, ("7",)),
        ("", None),
        (" ", None),
        (None, None),
        (float("nan"), None),
    ],
)
def test_ids_are_a_list_or_text_and_an_empty_cell_says_nothing(value: Any, ids: tuple[str, ...] | None) -> None:
    assert truth_of({"doc_ids": value}).document_ids == ids


def test_tables_have_them_too(tmp_path: Path) -> None:
    table = "question,answer,doc_ids,answers\nWhen?,1931,a.md;b.md,in 1931;1931\nWhere?,Sydney,,\n"
    first, second = read_examples(save(tmp_path, "a.csv", table)).examples
    assert (first.document_ids, first.references) == (("a.md", "b.md"), ("in 1931", "1931"))
    assert (second.document_ids, second.references) == (None, ())


def test_the_answer_column_is_no_other_answer(tmp_path: Path) -> None:
    table = "question,answers\nWhen?,1931;32\n"
    columns = ColumnMapping(input="question", answer="answers")
    read = read_examples(save(tmp_path, "a.csv", table), columns=columns)
    assert read.examples[0].references == ()
    assert "other-answers" not in codes(read)


def test_they_are_kept_when_examples_are_mended_and_written(tmp_path: Path) -> None:
    rows = [ROWS["chat"] | {"id": name, "doc_ids": ids} for name, ids in (("a", ["x.md"]), ("b", []))]
    rows[1] = rows[1] | {"messages": [{"role": "user", "content": " Why?\x07"}, MESSAGES[1]], "references": ["32"]}
    read = read_examples(save(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))))
    fixed, findings = fix_examples(read, Task(kind=TaskKind.TEXT, reason=""))
    assert findings
    write_chat_jsonl(fixed.examples, tmp_path / "fixed.jsonl")
    again = read_examples(tmp_path / "fixed.jsonl").examples
    assert [example.document_ids for example in again] == [("x.md",), ()]
    assert [example.references for example in again] == [(), ("32",)]


def test_rows_without_them_are_written_without_them(tmp_path: Path) -> None:
    write_chat_jsonl(dataset(("a", "b")).examples, tmp_path / "a.jsonl")
    assert json.loads((tmp_path / "a.jsonl").read_text()).keys() == {"id", "messages"}
