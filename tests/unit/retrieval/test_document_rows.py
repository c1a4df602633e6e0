"""CSV, JSON and JSON Lines: rows that are documents, or questions with their answers."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from document_files import file_of, finding_of, sections_of
from fettle.records import Finding
from fettle.retrieval.document_reader import DocumentFile
from fettle.retrieval.documents import read_file
from fettle.retrieval.records import Document


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def documents_of(name: str, content: bytes) -> list[Document]:
    return [one for one in read_file(file_of(name, content)) if isinstance(one, Document)]


def findings_of(name: str, content: bytes) -> list[Finding]:
    return [one for one in read_file(file_of(name, content)) if isinstance(one, Finding)]


def test_a_row_with_a_text_is_a_document_and_its_other_plain_values_are_attributes() -> None:
    row = {
        "id": "Normans#00",
        "title": "Normans",
        "text": "From Norway.",
        "lang": "en",
        "year": 911,
        "old": True,
        "tags": ["a"],
        "x": None,
    }
    (document,) = documents_of("docs.jsonl", lines(row))
    assert (document.id, document.source, document.title) == ("Normans#00", "docs.jsonl:1", "Normans")
    assert document.attributes == {"lang": "en", "year": 911, "old": True}
    assert sections_of(document) == [((), "From Norway.")]


def test_a_row_without_an_id_is_named_after_its_place() -> None:
    assert [document.id for document in documents_of("a.jsonl", b'\n{"text": "x"}\n\n{"text": "y"}\n')] == [
        "a.jsonl:2",
        "a.jsonl:4",
    ]


def test_a_question_heads_its_answer() -> None:
    (document,) = documents_of("faq.csv", b"question,answer,topic\nHow long?,Ten days.,refunds\n")
    assert (document.id, document.title, sections_of(document)) == ("faq.csv:2", "How long?", [((), "Ten days.")])
    assert document.attributes == {"topic": "refunds"}


def test_a_question_too_long_for_a_heading_stands_in_the_text() -> None:
    question = "My parcel " + "really " * 40 + "is lost."
    (document,) = documents_of("faq.jsonl", lines({"question": question, "answer": "Write to us."}))
    assert (document.title, sections_of(document)) == ("", [((), f"{question}\n\nWrite to us.")])


def test_a_conversation_is_a_question_and_its_answer() -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Lost?"},
        {"role": "assistant", "content": "No."},
    ]
    (document,) = documents_of("chat.jsonl", lines({"messages": messages}))
    assert (document.title, sections_of(document)) == ("Lost?", [((), "No.")])


def test_columns_of_numbers_become_numbers_and_postcodes_do_not() -> None:
    content = b"id;text;year;postcode;fee\n7;a;2026;01067;4.90\n8;b;;10115;5\n"
    first, second = documents_of("a.csv", content)
    assert (first.id, second.id) == ("7", "8")
    assert first.attributes == {"year": 2026, "postcode": "01067", "fee": 4.9}
    assert second.attributes == {"postcode": "10115", "fee": 5}


def test_an_array_of_documents_is_read() -> None:
    content = json.dumps([{"title": "A", "content": "one"}, {"title": "B", "content": "two"}]).encode()
    assert [document.title for document in documents_of("a.json", content)] == ["A", "B"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{broken", "not-json"),
        (b"[1]", "not-an-object"),
        (b'{"name": "x"}', "unknown-form"),
        (b'{"question": "x?", "answer": " "}', "empty-answer"),
        (b'{"question": " ", "answer": "x"}', "empty-question"),
        (b'{"question": null, "answer": ""}', "empty-question"),
        (b'{"id": "x", "text": ""}', "no-text"),
        (b'{"title": "x", "text": null}', "no-text"),
        (b'{"id": "x", "question": ""}', "unknown-form"),
        (b'{"text": ["x"]}', "unknown-form"),
        (b'{"text": "\\u0000"}', "no-text"),
        (b'{"text": "\xff\xfe\xfd"}', "not-utf8"),
        (b'{"text": ' + b"[" * 100_000, "not-json"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_does_not_stop_the_others(line: bytes, code: str) -> None:
    content = '{"text": "Größe, Höhe, Länge"}\n'.encode() + line + b'\n{"text": "last"}\n'
    assert [(finding.code, finding.line) for finding in findings_of("a.jsonl", content)] == [(code, 2)]
    assert [document.id for document in documents_of("a.jsonl", content)] == ["a.jsonl:1", "a.jsonl:3"]


def test_an_empty_column_is_named() -> None:
    [text] = findings_of("a.jsonl", b'{"id": "x", "Text": " "}\n')
    assert text.message == "the column 'Text' is empty"
    [question] = findings_of("a.csv", b"q,a\n,At the counter\n")
    assert question.message == "the column 'q' is empty"


def test_half_characters_and_null_characters_never_arrive() -> None:
    content = b'{"id": "a\\u0000\\ud800", "title": "b\\u0000", "text": "c\\u0000\\udfff", "x\\u0000": "d\\u0000"}\n'
    (document,) = documents_of("a.jsonl", content)
    assert "\\x00" not in repr(document)
    document.id.encode()
    document.sections[0].text.encode()


def test_a_long_value_is_no_attribute_and_that_is_told_once() -> None:
    rows = [{"text": "x", "note": "n" * 600}, {"text": "y", "note": "n" * 600}, {"text": "z", "note": "short"}]
    assert [(finding.code, finding.line) for finding in findings_of("a.jsonl", lines(*rows))] == [
        ("long-attribute", None)
    ]
    assert documents_of("a.jsonl", lines(*rows))[2].attributes == {"note": "short"}


def test_a_line_longer_than_the_bound_is_told_of_and_the_next_one_read() -> None:
    content = b'{"text": "' + b"a" * (9 << 20) + b'"}\n{"text": "next"}\n'
    assert [(finding.code, finding.line) for finding in findings_of("a.jsonl", content)] == [("too-large", 1)]
    assert [document.id for document in documents_of("a.jsonl", content)] == ["a.jsonl:2"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_json_lines_are_read_in_other_encodings(encoding: str) -> None:
    rows = [{"text": "Größe für 20 Tage"}, {"text": "Prüfung der Höhe"}]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)
    assert [sections_of(document)[0][1] for document in documents_of("a.jsonl", content)] == [
        row["text"] for row in rows
    ]
    (finding,) = findings_of("a.jsonl", content)
    assert finding.code == "encoding"
    assert "--encoding" not in finding.remedy


def test_a_character_that_the_sample_cuts_does_not_change_the_encoding() -> None:
    content = b'{"text": "' + b"a" * ((1 << 16) - 11) + "ä".encode() + b'"}\n'
    (document,) = documents_of("a.jsonl", content)
    assert document.sections[0].text.endswith("aä")


class _ManyRows(io.RawIOBase):
    """200 MB of rows that are made when they are read."""

    _row = lines({"text": "word " * 2000})

    def __init__(self) -> None:
        self._left = (200 << 20) // len(self._row)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self._rest) < len(buffer) and self._left:
            self._rest += self._row
            self._left -= 1
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def test_a_large_file_of_rows_is_read_one_row_at_a_time() -> None:
    file = DocumentFile(name="a.jsonl", num_bytes=200 << 20, open=lambda: io.BufferedReader(_ManyRows()))
    tracemalloc.start()
    found: Iterator[Document | Finding] = read_file(file)
    ids = {one.id for _, one in zip(range(2000), found, strict=False) if isinstance(one, Document)}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == 2000
    assert peak < 16 << 20


def test_a_table_without_a_text_is_told_of() -> None:
    assert finding_of("a.csv", b"just one column\nof text\n").code == "no-table"
    assert {finding.code for finding in findings_of("a.csv", b"name,phone\nA,1\nB,2\n")} == {"unknown-form"}


def test_a_thousand_rows_with_one_fault_are_told_of_in_a_few_lines() -> None:
    content = lines(*[{"name": "x"}] * 1000, {"text": "y"})
    findings = findings_of("a.jsonl", content)
    assert [finding.line for finding in findings] == [*range(1, 21), None]
    assert "980 more" in findings[-1].message
    assert [document.id for document in documents_of("a.jsonl", content)] == ["a.jsonl:1001"]
