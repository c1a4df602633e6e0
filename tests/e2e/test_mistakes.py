"""What users get wrong: exit code 2, what is wrong, where and what to do, no traceback, and nothing left in the out folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import Finished, Runner
from studies import require_refused
from tiny import label_file, messages


def require_refused_by_option_parser(finished: Finished, option: str, text: str) -> None:
    """Refused before anything was read, in typer's own words."""
    assert finished.code == 2
    assert option in finished.error
    assert text in " ".join(finished.error.replace("│", " ").split())


def chat_file(path: Path, contents: list[tuple[str, str]]) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": message}, {"role": "assistant", "content": answer}]}
        for message, answer in contents
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "study"


# ------------------------------------------------------------------------------------------------------ the data


def test_missing_file(fettle: Runner, out: Path) -> None:
    finished = fettle("study", "label.csv", "--model", "model", "--out", out)
    require_refused(finished, "label.csv: no such file or folder", "What to do: did you mean labels.csv?")
    assert not out.exists()


def test_a_path_that_is_too_long(fettle: Runner) -> None:
    require_refused(fettle("check", "x" * 300), "xxx: File name too long", "check the path")
    require_refused(fettle("study", "labels.csv", "--model", "x" * 300), "too long", "check")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_an_output_that_cannot_be_written(bench: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fettle", "check", "labels.csv"],
            cwd=bench, env={"PYTHONPATH": ":".join(filter(None, sys.path))},
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "the command's output: No space left on device" in done.stderr
    assert "Exception ignored" not in done.stderr


def test_wrong_column(fettle: Runner, out: Path) -> None:
    finished = fettle("study", "labels.csv", "--input", "mesage", "--answer", "queue", "--model", "model", "--out", out)
    require_refused(finished, "labels.csv: there is no column 'mesage'", "did you mean --input 'message'?")
    finished = fettle(
        "study", "labels.csv", "--input", "message", "--answer", "queue", "--group", "customer", "--out", out
    )
    require_refused(finished, "there is no column 'customer'; columns present: message, queue", "--group")
    assert not out.exists()


def test_one_column_without_the_other(fettle: Runner) -> None:
    require_refused(
        fettle("study", "labels.csv", "--input", "message"), "--input and --answer go together", "give both"
    )


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        ("", "the file is empty", "give a file with examples"),
        ("\n \n", "the file is empty", "give a file with examples"),
        ("message,queue\n", "there is a header and no row below it", "add examples"),
    ],
)
def test_empty_file(fettle: Runner, tmp_path: Path, out: Path, content: str, problem: str, remedy: str) -> None:
    (tmp_path / "empty.csv").write_text(content)
    finished = fettle("study", tmp_path / "empty.csv", "--model", "model", "--out", out)
    require_refused(finished, f"empty.csv: {problem}", remedy)
    assert not out.exists()


def test_one_label_only(fettle: Runner, tmp_path: Path, out: Path) -> None:
    file = chat_file(tmp_path / "one.jsonl", [(message, "billing") for message, _ in messages(30, seed=5)])
    finished = fettle("study", file, "--model", "model", "--out", out)
    require_refused(finished, "every example has the label 'billing'", "add examples of other labels")
    assert not out.exists()


def test_twelve_rows(fettle: Runner, tmp_path: Path, out: Path) -> None:
    finished = fettle("study", label_file(tmp_path / "twelve.csv", 12), "--model", "model", "--out", out)
    require_refused(finished, "expected at least 20 examples, and there are 12", "add examples")
    assert not out.exists()


def test_twenty_rows_are_enough(fettle: Runner, tmp_path: Path, out: Path) -> None:
    finished = fettle("study", label_file(tmp_path / "twenty.csv", 20), "--model", "model", "--epochs", 1, "--out", out)
    assert finished.code in (3, 4), finished.everything
    assert (out / "report.html").is_file()


def test_an_example_of_100_000_tokens(fettle: Runner, tmp_path: Path, out: Path) -> None:
    rows = messages(30, seed=6)
    rows[16] = (" ".join(f"{number:05d}" for number in range(20_000)), rows[16][1])  # a digit or two is a token
    file = chat_file(tmp_path / "long.jsonl", rows)
    finished = fettle("study", file, "--model", "model", "--out", out)
    require_refused(finished, "longer than the 1024 tokens the model takes", "long.jsonl:17", "--leave-out-long")
    assert not out.exists()
    finished = fettle("study", file, "--model", "model", "--epochs", 1, "--leave-out-long", "--out", out)
    assert finished.code in (0, 3, 4), finished.everything
    report = json.loads((out / "report.json").read_text())
    assert sum(report["num_examples"].values()) == 29
    [left_out] = [finding for finding in report["findings"] if finding["code"] == "longer-than-the-model"]
    assert (left_out["line"], left_out["action"]) == (17, "left out")


def test_a_test_file_with_a_label_that_was_never_taught(fettle: Runner, tmp_path: Path, out: Path) -> None:
    test = chat_file(tmp_path / "test.jsonl", [*messages(8, seed=8), ("the van blocked my drive", "complaint")])
    train = chat_file(tmp_path / "train.jsonl", messages(30, seed=9))
    finished = fettle("study", train, "--test", test, "--model", "model", "--epochs", 1, "--out", out)
    assert finished.code in (3, 4), finished.everything
    report = json.loads((out / "report.json").read_text())
    assert any("complaint" in finding["message"] for finding in report["findings"])
    assert report["rows"][[row["wanted"] for row in report["rows"]].index("complaint")]["scores"]["tuned"] == 0


def test_the_same_file_for_training_and_test(fettle: Runner, out: Path) -> None:
    finished = fettle("study", "labels.csv", "--test", "labels.csv", "--model", "model", "--out", out)
    require_refused(
        finished,
        "only 0 training examples are left: 60 share a question or a group with the held-out files",
        "do not overlap",
    )
    assert not out.exists()


# ----------------------------------------------------------------------------------------------------- the model


def test_wrong_model_name(fettle: Runner, out: Path) -> None:
    finished = fettle("study", "labels.csv", "--model", "smollm-135m", "--out", out)
    require_refused(finished, "no model is called 'smollm-135m'", "did you mean 'smollm2-135m-instruct'")
    assert not out.exists()


def test_model_without_weights(fettle: Runner, tmp_path: Path, out: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text((fettle.folder / "model" / "config.json").read_text())
    finished = fettle("study", "labels.csv", "--model", tmp_path / "model", "--out", out)
    require_refused(finished, f"{tmp_path / 'model'}: this folder holds no *.safetensors", "safetensors")
    assert not out.exists()


def test_damaged_weights(fettle: Runner, tmp_path: Path, out: Path) -> None:
    copy_model(fettle.folder / "model", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      and no more")
    finished = fettle("study", "labels.csv", "--model", tmp_path / "model", "--out", out)
    require_refused(finished, "the model cannot be loaded", "undamaged *.safetensors")
    assert not out.exists()


def test_model_that_does_not_fit(fettle: Runner, tmp_path: Path, out: Path) -> None:
    copy_model(fettle.folder / "model", tmp_path / "model")
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    with (tmp_path / "model" / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**42)  # 4 TiB that take no room on disk
    finished = fettle("study", "labels.csv", "--model", tmp_path / "model", "--out", out)
    require_refused(finished, "this model needs about", "GiB are free", "use a smaller model")
    assert not out.exists()


def copy_model(model: Path, folder: Path) -> None:
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())


# ---------------------------------------------------------------------------------------------------- the options


def test_unknown_grader(fettle: Runner, out: Path) -> None:
    finished = fettle("study", "labels.csv", "--grader", "exact_labels", "--model", "model", "--out", out)
    require_refused(finished, "there is no grader called 'exact_labels'", "did you mean 'exact_label'?")
    assert not out.exists()


def test_a_grader_that_can_score_none_of_the_answers(fettle: Runner, out: Path) -> None:
    finished = fettle("study", "labels.csv", "--grader", "json_fields", "--model", "model", "--dry-run", "--out", out)
    require_refused(finished, "validation examples cannot be scored by json_fields", "name another --grader")
    assert not out.exists()


def test_unknown_precision(fettle: Runner) -> None:
    finished = fettle("study", "labels.csv", "--precision", "half")
    require_refused_by_option_parser(finished, "--precision", "'half' is not one of 'auto', 'exact', 'fast'")


@pytest.mark.parametrize("option", ["--learning-rate", "--worthwhile", "--test-size"])
def test_not_a_number(fettle: Runner, option: str) -> None:
    require_refused_by_option_parser(fettle("study", "labels.csv", option, "nan"), option, "Input should be")


def test_unknown_bundled_example(fettle: Runner) -> None:
    finished = fettle("study", "example:triaje")
    require_refused(finished, "there is no bundled example 'triaje'; did you mean example:triage?", "choose one of")


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--learning-rate", "0", "learning_rate: expected a number between 1e-12 and 1, and it is 0.0"),
        ("--seed", str(2**64), "seed: expected a number between 0 and"),
        ("--test-size", "2.5", "expected a whole number of examples or a share below 1, and it is 2.5"),
        ("--test-size", "inf", "expected a whole number of examples or a share below 1, and it is inf"),
        ("--test-size", "60", "leave -9 of 60 for training"),
        ("--instruction", "@nowhere.txt", "--instruction @nowhere.txt: this file cannot be read"),
        ("--remote", "http://127.0.0.1:9/v1", "--remote and --remote-model go together"),
    ],
)
def test_values_that_cannot_be(fettle: Runner, out: Path, option: str, value: str, problem: str) -> None:
    finished = fettle("study", "labels.csv", option, value, "--model", "model", "--out", out)
    require_refused(finished, problem)
    assert "What to do:" in finished.error
    assert not out.exists()


def test_remote_that_cannot_be_reached(fettle: Runner, out: Path) -> None:
    finished = fettle(
        "study", "labels.csv", "--remote", "http://127.0.0.1:9/v1", "--remote-model", "large", "--model", "model",
        "--out", out,
    )  # fmt: skip
    require_refused(finished, "http://127.0.0.1:9/v1: the endpoint does not answer for model 'large'", "check --remote")
    assert not out.exists()


# ------------------------------------------------------------------------------------------------ faults of our own


BROKEN = """
import fettle.study.planning

def plan_study(settings):
    raise RuntimeError("planted")

fettle.study.planning.plan_study = plan_study
"""


@pytest.mark.parametrize("is_debug", [False, True])
def test_an_unexpected_exception_invites_to_debug(fettle: Runner, is_debug: bool) -> None:
    finished = fettle.start("study", "labels.csv", *(["--debug"] if is_debug else []), preamble=BROKEN).wait()
    assert finished.code == 1
    assert "This is a fault in Fettle (RuntimeError: planted)" in finished.everything
    assert "--debug" in finished.everything
    assert ("Traceback" in finished.error) == is_debug


def test_debug_shows_where_a_mistake_was_noticed_and_keeps_the_exit_code(fettle: Runner) -> None:
    finished = fettle("--debug", "study", "nowhere.csv")
    assert finished.code == 2
    assert "Traceback" in finished.error
    assert "nowhere.csv: no such file or folder" in finished.everything
