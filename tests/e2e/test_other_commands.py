"""The commands beside `study`, its dry run, and the same study from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from command import Runner
from reports import comparable, load
from studies import TASK_ALONE, Study
from tiny import label_file

from fettle.version import fettle_version

README = Path(__file__).parents[2] / "README.md"
SETTINGS_OF_README = 'StudySettings(examples=Path("example:routing"))'


def code_of_readme() -> str:
    """The Python block of the README that runs a study."""
    blocks = [part.partition("```")[0] for part in README.read_text().split("```python\n")[1:]]
    return next(block for block in blocks if SETTINGS_OF_README in block)


def test_python_api_in_five_lines(fettle: Runner, tmp_path: Path) -> None:
    code = code_of_readme()
    smaller = (
        f'StudySettings(examples=Path("labels.csv"), model="model", forgetting=None, out={str(tmp_path / "study")!r})'
    )
    code = code.replace(SETTINGS_OF_README, smaller)
    finished = fettle.start("--help", preamble=code).wait()
    assert finished.code == 0, finished.everything
    report = load(tmp_path / "study")
    assert finished.out.startswith(f"{report['verdict']['headline']} {tmp_path / 'study' / 'report.html'}\n")
    assert finished.error == ""
    again = fettle("study", "labels.csv", "--model", "model", "--no-forgetting", "--out", tmp_path / "study")
    assert again.code in (0, 3, 4), "the command line goes on with the very same study"
    assert comparable(load(tmp_path / "study")) == comparable(report)


def test_dry_run_prints_the_plan_and_writes_nothing(fettle: Runner, tmp_path: Path) -> None:
    before = sorted(fettle.folder.rglob("*"))
    finished = fettle(
        "study", "labels.csv", "--model", "model", "--dry-run", "--price-per-hour", 36, "--out", tmp_path / "study"
    )
    assert finished.code == 0, finished.everything
    for text in (
        "Task: labels: 3 different short answers in 60 examples",
        "Split: 36 training, 9 validation, 15 test",
        "tokens an epoch, at most 3 epochs",
        "Memory: about",
        "Cost: about ",
        " at 36.00 an hour",
        "The test split: 15 examples can show a difference of",
        "and a win rate of",
        "To show 5 points: ",
        "To show 3 points: ",
        "would halve that",
        f"Folder: {tmp_path / 'study'}",
    ):
        assert text in finished.everything
    assert not (tmp_path / "study").exists()
    assert not fettle.home.exists()
    assert sorted(fettle.folder.rglob("*")) == before


def test_examples_show_takes_no_text_for_markup(fettle: Runner, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Where [/b] is it?"}, {"role": "assistant", "content": "[bold]lost[/bold]"}]
    file = tmp_path / "[x].jsonl"
    file.write_text(json.dumps({"id": "[/case-0]", "messages": turns}) + "\n")
    finished = fettle("examples", "show", file, "--model", "model", "--instruction", "Answer [/b] one of [billing]")
    assert finished.code == 0, finished.everything
    for text in ("[/case-0]", "[x].jsonl:1", "Answer [/b] one of [billing]", "[bold]lost[/bold]"):
        assert text in finished.everything


def test_examples_show_marks_what_is_trained(fettle: Runner) -> None:
    finished = fettle("examples", "show", "labels.csv", "--model", "model", "--limit", 2)
    assert finished.code == 0, finished.everything
    assert finished.out.count("⟦") == 2
    first = finished.out.split("⟦")[1].split("⟧")[0]
    assert first == "lost parcel<|im_end|>"
    instruction = "Answer with the one label that fits the message: "
    assert f"derived from the training examples: {instruction}" in finished.out
    assert finished.out.count(f"<|im_start|>system\n{instruction}") == 2
    assert "60 examples" in finished.everything
    assert "% of them trained" in finished.everything


BROKEN_CSV = (
    "message,queue\r\n"
    "Where is my parcel? It was due on Monday at our house,lost parcel\r\n"
    "Â£12 was charged twice to my card for one single order,billing\r\n"
    ",billing\r\n"
    "We moved to the new flat across the street last week,address change\r\n"
    "We moved to the new flat across the street last week,address change\r\n"
    "The invoice shows another price than your page does,\r\n"
) + "".join(
    f"Parcel number {number} went to depot {number * 7} and never left it,lost parcel\r\n" for number in range(20)
)


def test_check_names_what_is_wrong_and_fix_mends_it(fettle: Runner, tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text(BROKEN_CSV, encoding="utf-8")
    fixed = tmp_path / "fixed.jsonl"
    finished = fettle("check", tmp_path / "broken.csv", "--json", "--fix", fixed)
    assert finished.code == 2, "rows that cannot be used are errors"
    places = {finding["code"]: finding["line"] for finding in json.loads(finished.out)}
    assert places["doubly-encoded"] == 3
    assert {finding["line"] for finding in json.loads(finished.out)} >= {3, 4, 7}
    messages = [json.loads(line)["messages"] for line in fixed.read_text().splitlines()]
    assert "£12 was charged twice to my card for one single order" in [turns[-2]["content"] for turns in messages]
    assert all(turns[-1]["content"].strip() for turns in messages)
    again = fettle("check", fixed, "--json")
    assert [finding for finding in json.loads(again.out) if finding["severity"] == "error"] == []
    assert again.code == 0, again.everything


def test_a_terminal_without_the_characters_is_no_reason_to_fail(bench: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from fettle.cli.main import main; main()", "check", "labels.csv"],
        cwd=bench, env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "60 usable examples in labels" in done.stdout


def test_a_second_study_on_the_same_test_split_is_a_second_look(fettle: Runner, tmp_path: Path) -> None:
    train, test = label_file(tmp_path / "train.csv", 24, seed=21), label_file(tmp_path / "test.csv", 10, seed=22)
    command = ("study", train, "--test", test, "--task", "text", "--model", "model", "--epochs", 1, *TASK_ALONE)

    def looks(out: str, *more: object) -> tuple[int, int]:
        finished = fettle(*command, *more, "--out", tmp_path / out)
        assert finished.code in (0, 3, 4), finished.everything
        provenance = load(tmp_path / out)["provenance"]
        return provenance["test_look_number"], provenance["num_test_looks"]

    assert looks("first") == (1, 1)
    assert looks("first") == (1, 1), "the same study again is the same look"
    assert looks("second", "--seed", 7) == (2, 2), (
        "another seed cuts another validation split, but looks at the same test"
    )
    assert looks("first") == (1, 2), "it was the first, and another one has looked since"


def test_label_study_declares_its_comparison_before_the_test_is_answered(label_study: Study) -> None:
    declaration = json.loads((label_study.folder / "declaration.json").read_text())["declaration"]
    assert load(label_study.folder)["declaration"] == declaration
    written = (label_study.folder / "declaration.json").stat().st_mtime_ns
    answered = [file.stat().st_mtime_ns for file in (label_study.folder / "answers" / "test").iterdir()]
    assert written <= min(answered)


def test_the_version_is_that_of_the_package(fettle: Runner) -> None:
    finished = fettle("--version")
    assert (finished.code, finished.out.strip()) == (0, f"fettle {fettle_version()}")
