import bz2
import gzip
import json
import lzma
import os
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
from example_builders import CHAT, codes, save

from fettle.errors import ConfigError, DataError
from fettle.examples.column_names import ColumnMapping
from fettle.examples.read import read_examples
from fettle.records import Action, Severity


def test_chat_rows_become_examples_named_by_file_and_line(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.jsonl", f"{CHAT % 1}\r\n\n{CHAT % 2}"))
    assert [(item.id, item.input_text, item.answer) for item in data.examples] == [
        ("a.jsonl:1", "Hi 1", "Hello"),
        ("a.jsonl:3", "Hi 2", "Hello"),
    ]
    assert data.findings == ()
    assert set(data.file_sha256) == {str(tmp_path / "a.jsonl")}


def test_lines_are_split_on_line_feeds_only(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.jsonl", CHAT % "one\u2028two\x85three"))
    assert data.examples[0].input_text == "Hi one\u2028two\x85three"


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "2+2", "completion": " 4\n"}, ("2+2", "4")),
        ({"instruction": "Add", "input": "2+2", "output": "4"}, ("2+2", "4")),
        ({"instruction": "Add 2 and 2", "input": "", "output": "4"}, ("Add 2 and 2", "4")),
        ({"conversations": [{"from": "human", "value": "2+2"}, {"from": "gpt", "value": "4"}]}, ("2+2", "4")),
        ({"question": "2+2", "answer": 4}, ("2+2", "4")),
        ({"message": "hi", "triage": {"b": None, "a": "é"}}, ("hi", '{"b": null, "a": "é"}')),
        (
            {"prompt": [{"role": "user", "content": "2+2"}], "completion": [{"role": "assistant", "content": "4"}]},
            ("2+2", "4"),
        ),
    ],
)
def test_other_forms_are_converted(tmp_path: Path, row: dict[str, object], wanted: tuple[str, str]):
    found = read_examples(save(tmp_path, "a.jsonl", json.dumps(row))).examples[0]
    assert (found.input_text, found.answer) == wanted


def test_forms_may_be_mixed_in_one_file(tmp_path: Path):
    rows = f'{CHAT % 1}\n{{"prompt": "a", "completion": "b"}}\n{{"message": []}}\n'
    data = read_examples(save(tmp_path, "a.jsonl", rows))
    assert len(data.examples) == 2
    assert codes(data) == {"unknown-form": 3}
    assert "'messages'" in data.findings[0].message


@pytest.mark.parametrize(
    "text",
    [
        '[\n {"text": "a", "label": "b"},\n {"text": "c", "label": "d"}\n]',
        '{"data": [\n\n{"text": "c", "label": "d"}]}',
    ],
)
def test_a_json_document_gives_the_line_of_each_object(tmp_path: Path, text: str):
    last = read_examples(save(tmp_path, "a.json", text)).examples[-1]
    assert (last.input_text, last.source.line) == ("c", 3)


def test_a_truncated_array_keeps_what_came_before(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.json", '[{"text": "a", "label": "b"},\n{"text": "c", "la'))
    assert len(data.examples) == 1
    assert codes(data)["not-json"] == 2


PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_files_are_read(tmp_path: Path, suffix: str):
    path = save(tmp_path, f"a.csv.{suffix}", PACKERS[suffix](b"text,label\nhi,greeting\n"))
    assert read_examples(path).examples[0].answer == "greeting"


def test_zstandard_is_read(tmp_path: Path):
    zstandard = pytest.importorskip("zstandard")
    path = save(tmp_path, "a.jsonl.zst", zstandard.ZstdCompressor().compress((CHAT % 1).encode()))
    assert read_examples(path).examples[0].answer == "Hello"


def test_every_member_of_a_zip_is_read(tmp_path: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.csv", "text,label\nhi,greeting\n")
        archive.writestr("two.jsonl", CHAT % 2)
        archive.writestr("__MACOSX/._one.csv", "junk")
    data = read_examples(path)
    assert [item.id for item in data.examples] == ["a.zip!one.csv:2", "a.zip!two.jsonl:1"]


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from fettle.examples import archives

    path = save(tmp_path, "a.csv.gz", gzip.compress(b"a" * 100_000))
    with pytest.raises(DataError, match="when unpacked"):
        list(archives.open_plain(path, max_bytes=10_000))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"\x1f\x8b\x08\x00garbage", "damaged"),
        (b"PK\x03\x04garbage", "binary|damaged|columns"),
        (b"\x89PNG\r\n\x1a\n", "picture"),
        (b"only one column\nhere\n", "two columns"),
        (b"text,label\n", "header and no row"),
        (b'{"preferred_output": [], "input": {}}', "preference"),
        (bytes(range(256)) * 4, "binary"),
    ],
)
def test_unusable_files_are_refused_with_a_reason(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(DataError, match=message) as caught:
        read_examples(save(tmp_path, "a.dat", content))
    assert caught.value.remedy


def test_an_encrypted_zip_is_refused(tmp_path: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.csv", "text,label\nhi,greeting\n")
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1  # the flag that says encrypted
    path.write_bytes(data)
    with pytest.raises(DataError, match="password"):
        read_examples(path)


def test_a_wrong_path_names_the_nearest(tmp_path: Path):
    save(tmp_path, "tickets.csv", "text,label\na,b\n")
    with pytest.raises(DataError, match="no such file") as caught:
        read_examples(tmp_path / "ticket.csv")
    assert "tickets.csv" in (caught.value.remedy or "")


def test_a_folder_is_read_in_order_with_other_files_named(tmp_path: Path):
    save(tmp_path, "b.csv", "text,label\nhi,greeting\n")
    save(tmp_path, "a.jsonl", CHAT % 1)
    save(tmp_path, "notes.md", "# hi")
    save(tmp_path, "c.csv", "nothing useful")
    data = read_examples(tmp_path)
    assert [item.id for item in data.examples] == ["a.jsonl:1", "b.csv:2"]
    assert {"other-files", "unreadable-file"} <= set(codes(data))


def test_relative_paths_stay_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path, "a.jsonl", CHAT % 1)
    monkeypatch.chdir(tmp_path)
    assert read_examples(Path("a.jsonl")).examples[0].source.file == "a.jsonl"


# ------------------------------------------------------------------------------------------------ tables


def test_text_behind_a_json_array_is_told_of(tmp_path: Path):
    rows = '[{"text": "one", "label": "a"},\n{"text": "two", "label": "b"}]'
    data = read_examples(save(tmp_path, "a.json", rows + '\n{"text": "three", "label": "c"}\n'))
    assert len(data.examples) == 2
    assert [(f.code, f.line) for f in data.findings if f.action is Action.LEFT_OUT] == [("not-json", 3)]
    assert len(read_examples(save(tmp_path, "b.json", f'{{"rows": {rows}, "version": 2}}')).examples) == 2
    assert not read_examples(save(tmp_path, "c.json", rows + "\n")).findings[1:]


ROWS = '{"text": "one", "label": "a"}, {"text": "two", "label": "b"}'


@pytest.mark.parametrize(
    ("text", "num_unread"),
    [
        (f'[{ROWS}]\n{{"total": 2}}\n', 1),
        (f"[{ROWS}]\n-- end --\n", 1),
        (f'{{"meta": "x", "data": [{ROWS}]}}', 0),
        (f'{{\n"data": [{ROWS}],\n"total": 2}}\nEND\n', 1),
        (f'{{\n"data": [{ROWS}],\n"total": 2}}\n', 0),
    ],
)
def test_rows_of_a_json_document_are_found_and_what_follows_is_told_of(tmp_path: Path, text: str, num_unread: int):
    data = read_examples(save(tmp_path, "a.json", text))
    assert [item.input_text for item in data.examples] == ["one", "two"]
    unread = [finding for finding in data.findings if finding.action is Action.LEFT_OUT]
    assert [(finding.code, finding.line) for finding in unread] == [("not-json", text.count("\n"))] * num_unread


def test_rows_that_hold_lists_of_objects_are_no_document(tmp_path: Path):
    passages = [{"title": "a", "text": "b"}, {"title": "c", "text": "d"}]
    rows = [{"question": f"what is {number}?", "answer": "x", "passages": passages} for number in range(3)]
    turns = [{"from": "human", "value": "what is 3?"}, {"from": "gpt", "value": "y"}]
    shared = {"conversations": turns, "functions": [{"name": "f"}, {"name": "g"}]}
    data = read_examples(save(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert [item.input_text for item in data.examples] == [f"what is {number}?" for number in range(3)]
    assert len(read_examples(save(tmp_path, "c.jsonl", "\n".join([json.dumps(shared)] * 3))).examples) == 3
    assert len(read_examples(save(tmp_path, "b.jsonl", json.dumps(shared))).examples) == 1


def test_a_key_given_twice_around_the_rows_is_refused(tmp_path: Path):
    for number, text in enumerate((f'{{"data": [{ROWS}], "data": [{ROWS}]}}', f'{{"x": 1, "x": 2, "data": [{ROWS}]}}')):
        with pytest.raises(DataError, match="is given twice in one object"):
            read_examples(save(tmp_path, f"{number}.json", text))


def test_rows_that_lie_deeper_in_a_document_are_told_of(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.json", f'{{"data": [{ROWS}],\n"next": {{"data": [{ROWS}]}}}}'))
    assert [item.input_text for item in data.examples] == ["one", "two"]
    [finding] = [finding for finding in data.findings if finding.action is Action.LEFT_OUT]
    assert (finding.code, finding.line) == ("not-read", 2)
    assert "'next'" in finding.message


def test_one_row_with_the_wanted_columns_is_the_row_whatever_lists_it_holds(tmp_path: Path):
    passages = [{"message": "a", "queue": "b"}, {"message": "c", "queue": "d"}]
    path = save(tmp_path, "a.jsonl", json.dumps({"message": "hello", "queue": "x", "passages": passages}) + "\n")
    data = read_examples(path, columns=ColumnMapping(input="message", answer="queue"))
    assert [(item.input_text, item.answer) for item in data.examples] == [("hello", "x")]


def test_a_dash_is_called_what_it_is(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "text,label\nhi,-\nho,y\n"))
    [finding] = [finding for finding in data.findings if finding.code == "empty-answer"]
    assert "the answer is '-', which is taken for none" in finding.message


def test_a_folder_that_holds_a_split_is_read_as_one_and_says_so(tmp_path: Path):
    save(tmp_path, "train.csv", "text,label\nhi,x\n")
    save(tmp_path, "test.csv", "text,label\nho,y\n")
    [finding] = [finding for finding in read_examples(tmp_path).findings if finding.code == "named-like-parts"]
    assert "train.csv, test.csv are read as one" in finding.message
    assert "--test" in finding.remedy


def test_ids_are_unique_and_spoiled_ones_are_named(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "id,text,label\nT1,a1,x\nT1,a2,y\n3E+05,a3,x\n"))
    assert [item.id for item in data.examples] == ["a.csv:2", "a.csv:3", "3E+05"]
    assert codes(data)["repeated-id"] == 3
    assert codes(data)["spoiled-id"] == 4


def test_excel_and_parquet_give_what_csv_gives(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"ticket_id": ["T1", "T2"], "text": ["one\ntwo", "3"], "queue": ["a", "7"]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    wanted = [item.messages for item in read_examples(tmp_path / "a.csv").examples]
    assert [item.messages for item in read_examples(tmp_path / "a.xlsx").examples] == wanted
    assert [item.messages for item in read_examples(tmp_path / "a.parquet").examples] == wanted
    assert [item.source.line for item in read_examples(tmp_path / "a.xlsx").examples] == [2, 3]


def test_chat_messages_in_a_parquet_column_are_read(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    row = [{"role": "user", "content": "hi", "name": None}, {"role": "assistant", "content": "ho", "name": None}]
    pandas.DataFrame({"messages": [row]}).to_parquet(tmp_path / "a.parquet")
    assert read_examples(tmp_path / "a.parquet").examples[0].answer == "ho"


# ------------------------------------------------------------------------------------------------ encodings


def test_missing_packages_say_how_to_install_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="pyarrow") as caught:
        read_examples(save(tmp_path, "a.parquet", b"PAR1"))
    assert caught.value.remedy == "pip install 'fettle-llm[tables]'"


def test_every_answer_with_weight_zero_is_refused(tmp_path: Path):
    row = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}'
    with pytest.raises(DataError, match="weight 0"):
        read_examples(save(tmp_path, "a.jsonl", row))


def test_a_row_in_which_nothing_is_learned_is_left_out(tmp_path: Path):
    off = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}'
    data = read_examples(save(tmp_path, "a.jsonl", f"{CHAT % 1}\n{off}"))
    [finding] = data.findings
    assert (finding.code, finding.line) == ("nothing-trained", 2)
    assert (finding.severity, finding.action) == (Severity.ERROR, Action.LEFT_OUT)
    assert len(data.examples) == 1


def test_a_weight_of_the_whole_row_is_named(tmp_path: Path):
    rows = [f'{{"weight": {weight}, {(CHAT % weight)[1:]}' for weight in ("0.5", "1", "null", "0")]
    data = read_examples(save(tmp_path, "a.jsonl", "\n".join(rows)))
    assert [(finding.code, finding.line) for finding in data.findings] == [("row-weight", 1), ("row-weight", 4)]
    table = read_examples(save(tmp_path, "a.csv", "text,label,weight\nhi,x,0.5\n"))
    assert "row-weight" not in codes(table), "a column may hold the weight of a parcel"


def test_errors_are_left_out_and_warnings_kept(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.jsonl", f"{CHAT % 1}\n{{'a': 1}}\n\ufeff{CHAT % 2}"))
    assert [(finding.severity, finding.action) for finding in data.findings] == [
        (Severity.ERROR, Action.LEFT_OUT),
        (Severity.WARNING, Action.REPAIRED),
    ]
    assert len(data.examples) == 2


def test_a_table_of_blank_cells_is_refused(tmp_path: Path):
    path = tmp_path / "blank.csv"
    path.write_text(",\n,\n")
    with pytest.raises(DataError, match="blank"):
        read_examples(path)


def test_what_is_no_data_file_in_a_zip_is_passed_over_as_in_a_folder(tmp_path: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.csv.gz", gzip.compress(b"question,answer\n2+2,4\n"))
        archive.writestr("README.md", "About this.")
        archive.writestr("logo.png", b"\x89PNG....")
    data = read_examples(path)
    assert [item.answer for item in data.examples] == ["4"]
    [finding] = [finding for finding in data.findings if finding.code == "other-files"]
    assert "README.md, logo.png" in finding.message


def test_a_row_that_is_nested_too_deeply_is_left_out(tmp_path: Path):
    deep = '{"meta": ' + "[" * 600 + "]" * 600 + ", " + (CHAT % 2)[1:]
    data = read_examples(save(tmp_path, "a.jsonl", f"{CHAT % 1}\n{deep}\n"))
    assert (len(data.examples), codes(data)) == (1, {"not-json": 2})


def test_bytes_and_exact_decimals_of_a_parquet_file_are_text(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"question": b"2+2", "answer": Decimal("4.50")}, {"question": b"\xff\xfe", "answer": Decimal("1.00")}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    data = read_examples(tmp_path / "a.parquet")
    assert [(item.input_text, item.answer) for item in data.examples] == [("2+2", "4.50")]
    assert codes(data)["not-utf8"] == 2


def test_tools_of_a_sharegpt_row_are_kept(tmp_path: Path):
    turns = [{"from": "human", "value": "2+2"}, {"from": "gpt", "value": "4"}]
    rows = [
        {"conversations": turns, "tools": tools} for tools in ('[{"name": "add"}]', [{"function": {"name": "add"}}])
    ]
    rows += [{"conversations": turns, "tools": "add"}, {"conversations": turns, "tools": ""}]
    data = read_examples(save(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))
    assert [[tool.name for tool in item.tools] for item in data.examples] == [["add"], ["add"], []]
    assert codes(data) == {"bad-tools": 3}


def test_the_delimiter_that_excel_names_in_the_first_line_is_taken(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "sep=;\r\nquestion;answer\r\n1,2+2,4;3,6\r\n"))
    assert [(item.input_text, item.answer, item.source.line) for item in data.examples] == [("1,2+2,4", "3,6", 3)]


def test_a_file_name_that_is_no_text_is_shown_with_marks(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"bad\xff.jsonl")
    path.write_text(CHAT % 1)
    [item] = read_examples(path).examples
    assert item.id == "bad\N{REPLACEMENT CHARACTER}.jsonl:1"
    assert str(item.source).encode()


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        (
            {
                "system": "Be kind.",
                "messages": [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}],
            },
            ["Be kind.", "2+2", "4"],
        ),
        (
            {"system": "Be kind.", "instruction": "Add", "input": "2+2", "output": "4", "history": [["1+1", "2"]]},
            ["Be kind.\n\nAdd", "1+1", "2", "2+2", "4"],
        ),
        ({"instruction": "2+2", "output": "4", "history": [["1+1", "2"]]}, ["1+1", "2", "2+2", "4"]),
        ({"prompt": [{"role": "user", "content": "2+2"}], "completion": " 4"}, ["2+2", "4"]),
        ({"prompt": "2+2", "completion": [{"role": "assistant", "content": "4"}]}, ["2+2", "4"]),
    ],
)
def test_nothing_that_stands_beside_the_turns_is_lost(tmp_path: Path, row: dict[str, object], turns: list[str]):
    [found] = read_examples(save(tmp_path, "a.jsonl", json.dumps(row))).examples
    assert [message.content for message in found.messages] == turns


def test_arrays_one_behind_the_other_are_read_to_the_end(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.json", f"[\n{CHAT % 1}\n]\n[\n{CHAT % 2}\n]"))
    assert [item.source.line for item in data.examples] == [2, 5]


def test_weights_that_a_table_made_decimals_are_weights(tmp_path: Path):
    turns = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": %s}]}'
    data = read_examples(
        save(tmp_path, "a.jsonl", "\n".join(turns % weight for weight in ("1.0", "0.5", '"1"', "true")))
    )
    assert (len(data.examples), data.examples[0].messages[-1].weight) == (1, 1)
    assert {finding.line for finding in data.findings if finding.code == "bad-weight"} == {2, 3, 4}


GROUPS = (25, 25.0, "25", "N/A", " - ", None, "ann")


def test_groups_are_compared_as_people_write_them(tmp_path: Path):
    rows = [{"prompt": f"message {number}", "completion": "x", "group": group} for number, group in enumerate(GROUPS)]
    save(tmp_path, "a.jsonl", "\n".join(json.dumps(row) for row in rows))
    assert [item.group for item in read_examples(tmp_path / "a.jsonl").examples] == [
        "25",
        "25",
        "25",
        None,
        None,
        None,
        "ann",
    ]


def test_a_table_written_column_by_column_is_not_taken_for_an_example(tmp_path: Path):
    path = save(tmp_path, "columns.json", json.dumps({"message": ["a b", "c d"], "queue": ["x", "y"]}))
    with pytest.raises(DataError, match="column by column"):
        read_examples(path)
