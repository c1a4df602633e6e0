from __future__ import annotations

from pathlib import Path

import pytest
from example_builders import codes, save

from fettle.errors import ConfigError, DataError
from fettle.examples.read import ColumnMapping, read_examples
from fettle.records import Action, Severity

BY_NUMBER = ColumnMapping(input="1", answer="2")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_tables_with_any_delimiter_and_line_breaks_in_cells(tmp_path: Path, delimiter: str):
    rows = [["Ticket ID", " Text ", "Queue"], ["T1", '"one\ntwo"', "a"], ["T2", f'"x{delimiter}y"', "b"]]
    data = read_examples(save(tmp_path, "a.txt", "\r\n".join(delimiter.join(row) for row in rows)))
    assert [(item.id, item.input_text, item.answer, item.source.line) for item in data.examples] == [
        ("T1", "one\ntwo", "a", 2),
        ("T2", f"x{delimiter}y", "b", 3),
    ]


def test_named_columns_are_found_whatever_their_case(tmp_path: Path):
    path = save(tmp_path, "a.csv", "Nr,Customer Says,Goes-To\n1,hi,x\n")
    data = read_examples(path, columns=ColumnMapping(input="customer says", answer="goes_to", id="nr"))
    assert (data.examples[0].id, data.examples[0].answer) == ("1", "x")


def test_a_missing_column_lists_those_present_and_names_the_nearest(tmp_path: Path):
    path = save(tmp_path, "a.csv", "body,queue\nhi,x\n")
    with pytest.raises(DataError, match="columns present: body, queue") as caught:
        read_examples(path, columns=ColumnMapping(input="body", answer="queues"))
    assert "'queue'" in (caught.value.remedy or "")


@pytest.mark.parametrize("answer", ["body", "Body"])
def test_one_column_cannot_be_input_and_answer(tmp_path: Path, answer: str):
    path = save(tmp_path, "a.csv", "body,queue\nhi,x\n")
    with pytest.raises(ConfigError, match="the input and the answer are the same column, 'body'"):
        read_examples(path, columns=ColumnMapping(input="body", answer=answer))


def test_ambiguous_columns_are_not_guessed(tmp_path: Path):
    with pytest.raises(DataError, match=r"several could be \(label, intent\)"):
        read_examples(save(tmp_path, "a.csv", "text,label,intent\nhi,x,y\n"))


def test_a_table_without_header_is_recognised(tmp_path: Path):
    rows = "".join(f"{'ham' if n % 3 else 'spam'},message number {n} says something,,\n" for n in range(30))
    data = read_examples(save(tmp_path, "a.csv", rows))
    assert len(data.examples) == 30
    assert data.examples[0].answer == "spam"
    assert {"no-header", "columns-guessed"} <= set(codes(data))
    by_number = read_examples(tmp_path / "a.csv", columns=ColumnMapping(input="2", answer="1"))
    assert [item.messages for item in by_number.examples] == [item.messages for item in data.examples]


def test_rows_that_do_not_fit_are_left_out_with_their_line(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "text,label\nhi,x\nho, ho,y\n,x\nhe,\nn/a,x\n"))
    assert [(finding.code, finding.line) for finding in data.findings if finding.line] == [
        ("too-many-cells", 3),
        ("empty-input", 4),
        ("empty-answer", 5),
        ("empty-input", 6),
    ]
    assert all(finding.action is Action.LEFT_OUT for finding in data.findings if finding.line)


def test_a_quotation_mark_that_is_never_closed_swallows_nothing(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", 'text,label\n"broken,x\n' + "fine text,y\n" * 5))
    assert [item.input_text for item in data.examples] == ['"broken', *["fine text"] * 5]
    assert codes(data)["stray-quote"] == 2


def test_two_stray_quotation_marks_swallow_nothing_between_them(tmp_path: Path):
    content = 'text,label\n"broken,x\nfine,y\n"two, and\nlines",z\n"also broken,x\nlast,y\n'
    data = read_examples(save(tmp_path, "a.csv", content))
    assert [(item.input_text, item.answer) for item in data.examples] == [
        ('"broken', "x"),
        ("fine", "y"),
        ("two, and\nlines", "z"),
        ('"also broken', "x"),
        ("last", "y"),
    ]
    assert [(f.code, f.line, f.action) for f in data.findings if f.line] == [
        ("stray-quote", 2, Action.REPAIRED),
        ("stray-quote", 5, Action.REPAIRED),
    ]


@pytest.mark.parametrize(
    ("damaged", "num_left"),
    [
        (['"open and never closed,"a"', '"whole, really","b"'], 1),
        (['"open', 'and never closed,"a"', '"whole, really","b"'], 1),
        (['"open and never closed,"a"', '"whole', 'on two lines","b"'], 1),
    ],
)
def test_a_row_is_not_taken_for_a_part_of_a_damaged_one(tmp_path: Path, damaged: list[str], num_left: int):
    usual = [f'"message number {n}","{"ab"[n % 2]}"' for n in range(20)]
    content = "\n".join(["text,label", *usual[:10], *damaged, *usual[10:]]) + "\n"
    data = read_examples(save(tmp_path, "a.csv", content))
    texts = [item.input_text for item in data.examples]
    assert [text for text in texts if not text.startswith("message")] in (["whole, really"], ["whole\non two lines"])
    assert len(texts) == 20 + num_left
    [finding] = [finding for finding in data.findings if finding.code == "stray-quote"]
    assert (finding.line, finding.action) == (12, Action.LEFT_OUT)


def test_rows_above_the_header_are_told_of_one_by_one(tmp_path: Path):
    rows = [f"message number {n},{'ab'[n % 2]}" for n in range(30)]
    data = read_examples(save(tmp_path, "a.csv", "\n".join([*rows[:3], "text,label", *rows[3:]]) + "\n"))
    assert len(data.examples) == 27
    found = [(finding.line, finding.action) for finding in data.findings if finding.code == "row-above-header"]
    assert found == [(1, Action.LEFT_OUT), (2, Action.LEFT_OUT), (3, Action.LEFT_OUT)]


def test_quotation_marks_inside_a_quoted_cell_stay_as_they_are(tmp_path: Path):
    content = 'text;label\n"he said "hi" twice; really" ;x\n"it is ""so"" easy";y\n'
    data = read_examples(save(tmp_path, "a.csv", content))
    assert [item.input_text for item in data.examples] == ['he said "hi" twice; really', 'it is "so" easy']
    assert codes(data)["stray-quote"] == 2


def test_a_damaged_cell_of_several_lines_is_mended_as_one(tmp_path: Path):
    good = "".join(f"message {number},shipping\n" for number in range(5))
    damaged = '"She said "hello" to me\nand then left the shop","shipping"\n'
    data = read_examples(save(tmp_path, "a.csv", f"text,label\n{good}{damaged}{good}"))
    assert len(data.examples) == 11
    assert data.examples[5].input_text == 'She said "hello" to me\nand then left the shop'
    assert [(f.code, f.line, f.action) for f in data.findings if f.line] == [("stray-quote", 7, Action.REPAIRED)]


def test_what_cannot_be_mended_is_left_out_and_no_row_is_made_of_it(tmp_path: Path):
    good = "".join(f"message {number},shipping\n" for number in range(5))
    damaged = '"one "two\nthree "four\nfive\n'
    data = read_examples(save(tmp_path, "a.csv", f"text,label\n{good}{damaged}{good}"))
    assert {item.input_text for item in data.examples} == {f"message {number}" for number in range(5)}
    assert ("stray-quote", Action.LEFT_OUT) in {(f.code, f.action) for f in data.findings}


def test_marks_that_a_database_wrote_with_backslashes_are_understood(tmp_path: Path):
    rows = "".join(f'"Case {n}: it is \\"quoted, really\\" fine\nbye","billing"\n' for n in range(9))
    data = read_examples(save(tmp_path, "a.csv", f"text,label\n{rows}"))
    assert [item.input_text for item in data.examples] == [
        f'Case {n}: it is "quoted, really" fine\nbye' for n in range(9)
    ]


def test_many_doubled_marks_take_no_time(tmp_path: Path):
    cell = "<p" + ' a=""b""' * 5000 + ">"
    content = "text,label\n" + "".join(f'"{cell} {number}",x\n' for number in range(20))
    data = read_examples(save(tmp_path, "a.csv", content))
    assert len(data.examples) == 20
    assert data.examples[0].input_text.count('a="b"') == 5000
    broken = read_examples(save(tmp_path, "b.csv", content + f'"{cell},x\n'))
    assert len(broken.examples) == 21


def test_a_space_behind_each_delimiter_is_no_part_of_a_cell(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", '"text", "label"\n"well, ok", "billing"\n"no", "other"\n'))
    assert [(item.input_text, item.answer) for item in data.examples] == [("well, ok", "billing"), ("no", "other")]


def test_a_repeated_header_is_no_example(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "text,label\none,a\ntext,label\ntwo,b\n"))
    assert [item.input_text for item in data.examples] == ["one", "two"]
    assert codes(data)["repeated-header"] == 3


def test_rows_swallowed_in_a_table_of_two_columns_are_named(tmp_path: Path):
    rows = [f"message {number},{'ab'[number % 2]}" for number in range(20)]
    rows[5], rows[9] = f'"{rows[5]}', 'Thanks a lot",b'
    data = read_examples(save(tmp_path, "a.csv", "\n".join(["text,label", *rows])))
    assert codes(data)["rows-in-a-cell"] == 7
    letter = 'text,label\n"Dear all,\nthe vase, which was blue,\nis broken, alas","a"\nfine,b\nwell,a\n'
    assert "rows-in-a-cell" not in codes(read_examples(save(tmp_path, "b.csv", letter)))


def test_a_spreadsheet_error_is_no_label(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "text,label\none,a\ntwo,#N/A\n#REF!,b\n"))
    assert [(f.code, f.line) for f in data.findings if f.line] == [("spreadsheet-error", 3), ("spreadsheet-error", 4)]


def test_a_quoted_cell_that_holds_whole_rows_is_named(tmp_path: Path):
    content = 'id,text,label\n1,"broken,x\n2,fine,y\n3,fine again,y\n4,broken",x\n5,"one,\ntwo,\nthree",y\n'
    data = read_examples(save(tmp_path, "a.csv", content))
    [finding] = [finding for finding in data.findings if finding.code == "rows-in-a-cell"]
    assert (finding.line, finding.action) == (2, Action.KEPT)
    assert "holds what looks like 2 rows of its own" in finding.message


@pytest.mark.parametrize(
    ("title", "header"),
    [
        (["Report 2024"], ["text", "label"]),
        (["Report of tickets", "2024-05-01"], ["text", "label"]),
        (["Auswertung 2024"], ["Nachricht", "Kategorie"]),
    ],
)
def test_titles_of_all_kinds_are_told_from_the_header(tmp_path: Path, title: list[str], header: list[str]):
    rows = [
        title,
        [],
        ["Exported by", "Jane"][: len(title)],
        header,
        *([f"it is {n} days late", "ab"[n % 2]] for n in range(9)),
    ]
    content = "".join(",".join([*cells, "", ""][:2]) + "\n" for cells in rows)
    columns = None if header == ["text", "label"] else ColumnMapping(input=header[0], answer=header[1])
    data = read_examples(save(tmp_path, "a.csv", content), columns=columns)
    assert len(data.examples) == 9
    told = "row-above-header" if len(title) > 1 else "title-rows"
    assert told in codes(data)


def test_a_first_row_without_label_is_no_title(tmp_path: Path):
    rows = [f"Is parcel {number} on its way?,question\nParcel {number} is late,complaint\n" for number in range(9)]
    content = (
        "I would like to know whether my order has been sent out by now,\nWhere is my order?,question\n" + "".join(rows)
    )
    data = read_examples(save(tmp_path, "a.csv", content))
    assert len(data.examples) == 19
    assert codes(data)["empty-answer"] == 1


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
def test_rows_above_the_header_are_passed_over(tmp_path: Path, name: str):
    rows = [["Tickets of March", ""], ["", ""], ["message", "queue"], ["it is late", "x"], ["all is well", "y"]]
    if name == "a.csv":
        save(tmp_path, name, "\n".join(",".join(cells) for cells in rows))
    else:
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("openpyxl")
        pandas.DataFrame(rows).to_excel(tmp_path / name, index=False, header=False)
    data = read_examples(tmp_path / name)
    assert [(item.input_text, item.answer, item.source.line) for item in data.examples] == [
        ("it is late", "x", 4),
        ("all is well", "y", 5),
    ]
    [finding] = [finding for finding in data.findings if finding.code == "title-rows"]
    assert "'Tickets of March'" in finding.message
    one_answer_missing = read_examples(
        save(tmp_path, "b.csv", "it is late,7\nall is well,\nso it is,7\n"), columns=BY_NUMBER
    )
    assert codes(one_answer_missing)["empty-answer"] == 2


def test_a_number_in_the_first_row_is_no_header_because_columns_are_numbered(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "it is late,1\nall is well,0\nso it is,1\n"), columns=BY_NUMBER)
    assert [item.answer for item in data.examples] == ["1", "0", "1"]


def test_a_cover_sheet_is_not_taken_for_the_examples(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    with pandas.ExcelWriter(tmp_path / "a.xlsx") as writer:
        cover = [["Export of tickets", ""], ["made by", "Ann"], ["for the board", ""]]
        pandas.DataFrame(cover).to_excel(writer, sheet_name="Cover", index=False, header=False)
        rows = {"text": ["one", "two"], "queue": ["a", "b"]}
        pandas.DataFrame(rows).to_excel(writer, sheet_name="Tickets", index=False)
    data = read_examples(tmp_path / "a.xlsx")
    assert [item.input_text for item in data.examples] == ["one", "two"]
    [finding] = [finding for finding in data.findings if finding.code == "other-sheets"]
    assert "only sheet 'Tickets' is read; passed over: Cover" in finding.message


def test_a_cover_of_two_columns_and_a_hidden_sheet_are_not_taken_for_the_examples(tmp_path: Path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheets = {
        "Lists": [["label", "text"], ["a", "b"], ["c", "d"]],
        "Cover": [["Author", "Jane"], ["Date", "2024"], ["Version", "3"]],
        "Data": [["text", "label"], ["one", "a"], ["two", "b"]],
    }
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for cells in rows:
            sheet.append(cells)
    del book["Sheet"]
    book["Lists"].sheet_state = "hidden"
    book.save(tmp_path / "a.xlsx")
    assert [item.input_text for item in read_examples(tmp_path / "a.xlsx").examples] == ["one", "two"]


def test_formulas_that_were_never_computed_are_named(tmp_path: Path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for cells in (["text", "label"], ["one", '=IF(1,"a","")'], ["two", '=IF(1,"b","")']):
        book.active.append(cells)
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match="formulas whose values were never computed"):
        read_examples(tmp_path / "a.xlsx")


def test_a_parquet_column_that_is_there_twice_is_refused(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table([["one"], ["a"], ["two"]], names=["text", "label", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="'text' is there more than once"):
        read_examples(tmp_path / "a.parquet")


def test_columns_of_one_name_are_told_of(tmp_path: Path):
    path = tmp_path / "tickets.csv"
    path.write_text("message,queue,queue\n" + "".join(f"question {n},a,b\n" for n in range(5)))

    data = read_examples(path, columns=ColumnMapping(input="message", answer="queue"))

    [finding] = [finding for finding in data.findings if finding.code == "repeated-column"]
    assert "2 columns are called 'queue'" in finding.message
    assert "'queue (3)'" in finding.message
    assert {example.answer for example in data.examples} == {"a"}


def test_many_rows_without_an_answer_are_told_of_once(tmp_path: Path):
    path = tmp_path / "tickets.csv"
    path.write_text("message,queue\n" + "".join(f"question {n},{'' if n % 2 else 'a'}\n" for n in range(40)))

    data = read_examples(path)

    [finding] = [finding for finding in data.findings if finding.code in ("unlabelled", "empty-answer")]
    assert (finding.code, finding.severity, finding.line) == ("unlabelled", Severity.WARNING, 3)
    assert "20 of 40 rows" in finding.message
    assert len(data.examples) == 20


def test_few_rows_without_an_answer_are_errors_at_their_lines(tmp_path: Path):
    path = tmp_path / "tickets.csv"
    path.write_text("message,queue\n" + "".join(f"question {n},{'' if n in (3, 7) else 'a'}\n" for n in range(40)))

    data = read_examples(path)

    assert [finding.line for finding in data.findings if finding.code == "empty-answer"] == [5, 9]


def test_null_characters_are_told_of(tmp_path: Path):
    data = read_examples(save(tmp_path, "a.csv", "text,label\n" + "whe\0re is my card now,a\n" + "when,b\n" * 400))
    assert data.examples[0].input_text == "where is my card now"
    assert "null-characters" in codes(data)
