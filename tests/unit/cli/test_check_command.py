import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fettle.cli.check import check
from fettle.errors import ConfigError

app = typer.Typer()
app.command()(check)
HEADER = "id,text,label\n"
ROWS = "".join(
    f"T{n},{word} number {n * n} is {'late' if n % 2 else 'broken'},{'late' if n % 2 else 'broken'}\n"
    for n, word in enumerate(["parcel", "lamp", "chair", "table", "vase", "book", "shoe", "coat", "ring", "rug"] * 6)
)


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"})


def table(tmp_path: Path, more: str = "") -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text(HEADER + ROWS + more, encoding="utf-8")
    return path


def test_a_clean_file_ends_with_zero(tmp_path: Path):
    result = run(str(table(tmp_path)))
    assert result.exit_code == 0, result.output
    assert "60 usable examples" in result.output


def test_errors_end_with_two_and_are_shown_with_line_and_remedy(tmp_path: Path):
    result = run(str(table(tmp_path, "T60,,late\nT61,  ,late\n")))
    assert result.exit_code == 2
    assert "empty-input" in result.output
    assert "lines 62, 63: the input is empty" in result.output
    assert "fill it in, or remove the row" in result.output


def test_json_holds_every_finding(tmp_path: Path):
    result = run(str(table(tmp_path, "T60,,late\n")), "--json")
    (finding,) = [row for row in json.loads(result.output) if row["code"] == "empty-input"]
    assert (finding["line"], finding["severity"], finding["action"]) == (62, "error", "left out")


def test_fix_writes_a_file_that_has_nothing_left_to_fix(tmp_path: Path):
    source = table(tmp_path, "T60,  <b>spoon</b>  is lost ,LATE\nT61,parcel number 0 is broken!,broken\n")
    out = tmp_path / "fixed.jsonl"
    result = run(str(source), "--fix", str(out))
    assert "61 mended examples" in result.output
    again = run(str(out), "--json")
    assert not {"html", "white-space", "label-spelling", "exact-duplicate"} & {
        row["code"] for row in json.loads(again.output)
    }
    assert json.loads(out.read_text(encoding="utf-8").splitlines()[0])["id"] == "T0"


def test_the_users_three_files_are_checked_together(tmp_path: Path):
    source = table(tmp_path)
    test = tmp_path / "test.csv"
    test.write_text(HEADER + "X1,parcel number 0 is broken,broken\nX2,write to me at ann@example.org,lost\n")
    valid = tmp_path / "valid.csv"
    valid.write_text(HEADER + "V1,the clock is late by a week,late\n")
    result = run(str(source), "--valid", str(valid), "--test", str(test), "--json")
    assert result.exit_code == 2
    found = {(row["code"], Path(row["file"]).name, row["line"]) for row in json.loads(result.output)}
    assert {
        ("leak-exact", "test.csv", 2),
        ("personal-email", "test.csv", 3),
        ("untaught-label", "test.csv", 3),
    } <= found
    shown = run(str(source), "--valid", str(valid), "--test", str(test)).output
    assert "1 usable validation examples in valid" in shown
    assert "2 usable test examples in test" in shown


def test_a_group_in_two_files_is_a_leak(tmp_path: Path):
    rows = "".join(f"customer {number},message {number} about {number * number} kites,lost\n" for number in range(12))
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text(f"customer,text,label\n{rows}")
    test.write_text("customer,text,label\ncustomer 3,the price of salt in Rome,lost\nanother,who paid for it,lost\n")
    names = ("--input", "text", "--answer", "label")
    result = run(str(train), *names, "--group", "customer", "--test", str(test), "--json")
    [leak] = [row for row in json.loads(result.output) if row["code"].startswith("leak")]
    assert (leak["code"], Path(leak["file"]).name, leak["line"]) == ("leak-group", "test.csv", 2)
    assert "the group 'customer 3', of which training holds 1, the first at" in leak["message"]
    assert not [
        row
        for row in json.loads(run(str(train), *names, "--test", str(test), "--json").output)
        if "leak" in row["code"]
    ]


def test_no_source_is_overwritten_by_the_mended_file(tmp_path: Path):
    source, test = table(tmp_path), tmp_path / "test.csv"
    test.write_text(HEADER + ROWS)
    assert isinstance(run(str(source), "--test", str(test), "--fix", str(test)).exception, ConfigError)
    assert test.read_text() == HEADER + ROWS


def test_a_mended_file_must_be_readable_under_its_name(tmp_path: Path):
    source = table(tmp_path)
    for name in ("fixed.csv", "fixed.jsonl.gz"):
        error = run(str(source), "--fix", str(tmp_path / name)).exception
        assert isinstance(error, ConfigError)
        assert "written as JSON Lines" in error.problem
        assert not (tmp_path / name).exists()


def test_an_unwritable_place_for_the_mended_file_names_the_option(tmp_path: Path):
    (tmp_path / "file").write_text("")
    error = run(str(table(tmp_path)), "--fix", str(tmp_path / "file" / "fixed.jsonl")).exception
    assert isinstance(error, ConfigError)
    assert (error.where or "").startswith("--fix ")
    assert "--out" not in str(error)


def test_the_encoding_can_be_named(tmp_path: Path):
    source = tmp_path / "tickets.csv"
    source.write_bytes((HEADER + ROWS + "T60,где посылка,late\n").encode("mac_cyrillic"))
    codes = {row["code"] for row in json.loads(run(str(source), "--json", "--encoding", "mac_cyrillic").output)}
    assert "encoding" not in codes
    assert isinstance(run(str(source), "--encoding", "mac_cyrilic").exception, ConfigError)


def test_a_row_that_a_study_cannot_use_is_an_error_and_fixed_by_leaving_it_out(tmp_path: Path):
    rows = [
        {"messages": [{"role": "user", "content": row.split(",")[1]}, {"role": "assistant", "content": row[-4:]}]}
        for row in ROWS.splitlines()
    ]
    rows[3]["messages"][1]["weight"] = 0  # type: ignore[assignment]
    source, fixed = tmp_path / "chat.jsonl", tmp_path / "fixed.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(str(source), "--fix", str(fixed))
    assert result.exit_code == 2
    assert "nothing-trained" in result.output
    again = run(str(fixed), "--json")
    assert (again.exit_code, len(fixed.read_text().splitlines())) == (0, 59)


def test_the_source_is_never_overwritten(tmp_path: Path):
    source = table(tmp_path)
    before = source.read_bytes()
    result = run(str(source), "--fix", str(source))
    assert isinstance(result.exception, ConfigError)
    assert source.read_bytes() == before


@pytest.mark.parametrize("options", [("--input", "text"), ("--answer", "label"), ("--id-column", "id")])
def test_columns_come_in_pairs(tmp_path: Path, options: tuple[str, str]):
    assert isinstance(run(str(table(tmp_path)), *options).exception, ConfigError)


def test_fix_never_writes_over_a_file_of_the_folder_it_reads_nor_beside_it(tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    source = table(folder)
    before = source.read_bytes()
    (tmp_path / "same.csv").hardlink_to(source)
    for out in (source, folder / "new.jsonl", tmp_path / "same.csv"):
        with pytest.raises(ConfigError, match="a file of their own, outside what was read"):
            check(folder, fix=out)
    assert source.read_bytes() == before
    assert not (folder / "new.jsonl").exists()


def test_it_says_what_the_test_split_of_a_study_could_show(tmp_path: Path):
    said = run(str(table(tmp_path))).output
    assert "The test split: " in said
    assert "a win rate of" in said
    assert "To show 5 points: " in said
    assert "To show 3 points: " in said
    few = tmp_path / "few.csv"
    few.write_text(HEADER + "".join(ROWS.splitlines(keepends=True)[:10]), encoding="utf-8")
    assert "The test split" not in run(str(few)).output


GRADER = {
    "type": "string_check",
    "name": "late",
    "input": "{{sample.output_text}}",
    "reference": "late",
    "operation": "eq",
}


def test_a_grader_is_tried_on_the_wanted_answers(tmp_path: Path):
    file = tmp_path / "late.json"
    file.write_text(json.dumps(GRADER))
    result = run(str(table(tmp_path)), "--grader", str(file), "--grader", "exact_label")
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "Grader late (string_check of late.json): gives 60 wanted answers 50.0 % on average" in told
    assert "Grader exact_label (built-in): gives 60 wanted answers 100.0 % on average" in told
    assert "The grader late gives the wanted answers themselves only 50.0 % on average" in told
    found = json.loads(run(str(table(tmp_path)), "--grader", str(file), "--json").output)
    low = [row["line"] for row in found if row["code"] == "wanted-scored-low"]
    assert low == list(range(2, 62, 2)), "every other row is not late"


def test_a_grader_that_is_none_or_asks_a_model_without_an_endpoint_is_refused(tmp_path: Path):
    file = tmp_path / "asks.json"
    file.write_text(
        json.dumps({"type": "score_model", "name": "m", "model": "judge", "input": [{"role": "user", "content": ""}]})
    )
    for words, problem in [
        (("--grader", "exact"), "no grader called 'exact'"),
        (("--grader", str(file)), "no endpoint is named"),
        (("--grader", str(file), "--grader-url", "here"), "expected the address of an endpoint"),
    ]:
        with pytest.raises(ConfigError, match=problem):
            CliRunner().invoke(app, [str(table(tmp_path)), *words], catch_exceptions=False)
