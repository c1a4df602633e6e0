"""Whatever the bytes, reading ends in examples with findings or in an error for the user; what is written is read back."""

import contextlib
import csv
import gzip
import io
import json
import lzma
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fettle.errors import FettleError
from fettle.examples.check import check_examples
from fettle.examples.contexts import with_contexts
from fettle.examples.fix import fix_examples
from fettle.examples.mojibake import undo_double_encoding
from fettle.examples.read import ColumnMapping, read_examples
from fettle.examples.row_formats.turns import group_name, is_blank
from fettle.examples.split import split_examples
from fettle.examples.task import recognise_task
from fettle.examples.write import write_chat_jsonl
from fettle.records import Example, Location, Message, Tool, ToolCall

SLOW_DISK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SUFFIXES = st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt", ".xlsx", ".parquet", ".gz", ".zip", ""])
MAGIC = st.sampled_from(
    [
        b"",
        b"\x1f\x8b\x08",
        b"PK\x03\x04",
        b"PAR1",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"BZh9",
        b"\xfd7zXZ\x00",
        b"(\xb5/\xfd",
    ]
)

KEY_NAMES = """
    messages conversations prompt completion instruction input output text label role content from value weight tools id group
    tool_calls tool_call_id function name arguments function_call functions parameters preferred_output
"""
KEYS = st.sampled_from(KEY_NAMES.split())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
WORDS = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "hello there", "{}", '{"a": 1}'])
VALUES = st.recursive(
    SCALARS | WORDS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
MESSAGES = st.lists(
    st.dictionaries(KEYS, VALUES, max_size=4) | st.fixed_dictionaries({"role": WORDS, "content": VALUES}), max_size=5
)
ROWS = st.dictionaries(KEYS, VALUES, max_size=5) | st.fixed_dictionaries({"messages": MESSAGES}) | VALUES


def read_bytes(content: bytes, suffix: str, columns: ColumnMapping | None = None) -> None:
    """Everything that is done to a file before a study; only a FettleError may end it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"data{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(FettleError):
            dataset = read_examples(path, columns=columns)
            assert dataset.examples
            assert len({example.id for example in dataset.examples}) == len(dataset.examples)
            task = recognise_task(dataset.examples)
            check_examples(dataset, task)
            fixed, _ = fix_examples(dataset, task)
            write_chat_jsonl(fixed.examples, Path(folder) / "fixed.jsonl")
            split_examples(dataset.examples, task, seed=0)


@SLOW_DISK
@given(MAGIC, st.binary(max_size=300), SUFFIXES)
def test_random_bytes(magic: bytes, content: bytes, suffix: str):
    read_bytes(magic + content, suffix)


@SLOW_DISK
@given(st.lists(ROWS, min_size=1, max_size=12), st.sampled_from([".jsonl", ".json", ".txt"]), st.booleans())
def test_random_json_lines(rows: list[object], suffix: str, is_array: bool):
    text = json.dumps(rows, indent=1) if is_array else "\n".join(map(json.dumps, rows))
    read_bytes(text.encode("utf-8", "surrogatepass"), suffix)


@SLOW_DISK
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3), min_size=1, max_size=15))
def test_random_records_with_named_columns(rows: list[object]):
    text = "\n".join(map(json.dumps, rows))
    read_bytes(text.encode(), ".jsonl", ColumnMapping(input="a", answer="b", id="c", group="c"))


@SLOW_DISK
@given(
    st.lists(st.lists(st.text(max_size=12), min_size=1, max_size=4), min_size=1, max_size=15), st.sampled_from(",;\t|")
)
def test_random_tables(rows: list[list[str]], delimiter: str):
    text = "text,label\n".replace(",", delimiter) + "\n".join(delimiter.join(row) for row in rows)
    read_bytes(text.encode("utf-8", "surrogatepass"), ".csv")


CSV = b"id,text,label\n" + b"".join(
    b'T%d,"question %d, again",%s\n' % (n, n * n, b"ab"[n % 2 : n % 2 + 1]) for n in range(12)
)


def packed_files() -> dict[str, bytes]:
    """One small file of every kind that holds others or has a structure of its own."""
    files = {
        ".csv.gz": gzip.compress(CSV),
        ".csv.xz": lzma.compress(CSV),
        ".csv": CSV,
        ".tsv": CSV.decode().encode("utf-16"),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.csv", CSV)
    files[".zip"] = archive.getvalue()
    with contextlib.suppress(ImportError):
        import openpyxl
        import pyarrow
        import pyarrow.parquet

        workbook, table = openpyxl.Workbook(), io.BytesIO()
        for row in csv.reader(io.StringIO(CSV.decode())):
            workbook.active.append(row)  # pyright: ignore[reportOptionalMemberAccess]
        workbook.save(table)
        files[".xlsx"] = table.getvalue()
        columns = {"text": [f"question {n}" for n in range(12)], "label": ["a", "b"] * 6}
        parquet = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(columns), parquet)
        files[".parquet"] = parquet.getvalue()
    return files


PACKED = packed_files()


@SLOW_DISK
@given(
    st.sampled_from(sorted(PACKED)),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    st.integers(0, 40),
)
def test_damaged_files(suffix: str, changes: list[tuple[int, int]], num_cut: int):
    content = bytearray(PACKED[suffix])
    for position, byte in changes:
        content[position % len(content)] = byte
    read_bytes(bytes(content[: len(content) - num_cut]), suffix)


# ------------------------------------------------------------------------------------------------ writing and reading back

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: not is_blank(text) and undo_double_encoding(text) == text
)
NAMES = st.text("abcdefgh_1", min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(NAMES, st.integers() | TEXTS, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)


@st.composite
def written_examples(draw: st.DrawFn) -> list[Example]:
    return [draw(_example(number)) for number in range(draw(st.integers(1, 4)))]


@st.composite
def _example(draw: st.DrawFn, number: int) -> Example:
    messages = [Message(role="system", content=draw(TEXTS))] if draw(st.booleans()) else []
    messages.append(Message(role="user", content=draw(TEXTS), name=draw(st.none() | NAMES)))
    if draw(st.booleans()):
        call = ToolCall(id="c1", name=draw(NAMES), arguments=draw(ARGUMENTS))
        messages.append(
            Message(role="assistant", content="", tool_calls=(call,), weight=draw(st.sampled_from([None, 0, 1])))
        )
        messages.append(Message(role="tool", content=draw(TEXTS), tool_call_id="c1"))
    messages.append(Message(role="assistant", content=draw(TEXTS), weight=draw(st.sampled_from([None, 1]))))
    tools = draw(
        st.lists(st.builds(Tool, name=NAMES, description=st.just("") | TEXTS, parameters=ARGUMENTS), max_size=2)
    )
    return Example(
        id=f"{draw(NAMES)}-{number}",
        messages=tuple(messages),
        source=Location(file="a", line=1),
        tools=tuple(tools),
        group=draw(st.none() | NAMES.filter(lambda name: group_name({"group": name}, "group") == name)),  # "_" is none
    )


@SLOW_DISK
@given(written_examples())
def test_reading_what_was_written_gives_equal_examples(examples: list[Example]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        write_chat_jsonl(examples, path)
        read = read_examples(path).examples
    assert [replace(example, source=examples[0].source) for example in read] == list(with_contexts(examples))


@given(st.text(max_size=60))
def test_text_that_is_right_stays_right_after_double_encoding_is_undone(text: str):
    once = undo_double_encoding(text)
    assert undo_double_encoding(once) == once


@given(st.text("£€é’“—üñ abc", min_size=1, max_size=30))
def test_double_encoding_is_undone(text: str):
    assume(undo_double_encoding(text) == text)  # "é££" is itself the double encoding of another character
    spoiled = text.encode().decode("cp1252", "surrogateescape")
    if not any("\udc80" <= char <= "\udcff" for char in spoiled):
        assert undo_double_encoding(spoiled) == text
