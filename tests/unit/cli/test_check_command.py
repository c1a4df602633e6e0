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


def test_the_source_is_never_overwritten(tmp_path: Path):
    source = table(tmp_path)
    before = source.read_bytes()
    result = run(str(source), "--fix", str(source))
    assert isinstance(result.exception, ConfigError)
    assert source.read_bytes() == before


@pytest.mark.parametrize("options", [("--input", "text"), ("--answer", "label"), ("--id-column", "id")])
def test_columns_come_in_pairs(tmp_path: Path, options: tuple[str, str]):
    assert isinstance(run(str(table(tmp_path)), *options).exception, ConfigError)
