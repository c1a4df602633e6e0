"""A study opens no connection unless a remote model is named, and then to that one alone."""

from __future__ import annotations

from pathlib import Path

from command import Runner
from endpoint import Endpoint
from offline import LOOPBACK_ONLY, NO_SOCKETS
from reports import load, require_consistent


def test_the_guard_itself_works(fettle: Runner) -> None:
    finished = fettle.start(
        "study", "labels.csv", "--remote", "http://127.0.0.1:9/v1", "--remote-model", "large", "--model", "model",
        preamble=NO_SOCKETS,
    ).wait()  # fmt: skip
    assert finished.code != 2
    assert "ForbiddenError: socket." in finished.error


def test_a_whole_study_in_an_interpreter_of_its_own_opens_no_socket(fettle: Runner, tmp_path: Path) -> None:
    finished = fettle.real(
        "study", "labels.csv", "--model", "model", "--epochs", 1, "--out", tmp_path / "study",
        preamble=NO_SOCKETS,
    )  # fmt: skip
    assert finished.code in (0, 3, 4), finished.everything
    assert (tmp_path / "study" / "report.html").is_file()


def test_a_remote_contender_with_failing_requests(fettle: Runner, tmp_path: Path) -> None:
    with Endpoint(answer="billing", failing=lambda message: "refund" in message) as endpoint:
        finished = fettle.start(
            "study", "labels.csv", "--model", "model", "--epochs", 1, "--out", tmp_path / "study",
            "--remote", endpoint.url, "--remote-model", "large",
            preamble=LOOPBACK_ONLY,
        ).wait()  # fmt: skip
    assert finished.code in (0, 3, 4), finished.everything
    report = load(tmp_path / "study")
    require_consistent(report)
    [remote] = [contender for contender in report["contenders"] if contender["name"] == "remote"]
    failed = [row for row in report["rows"] if "refund" in row["input_text"]]
    assert 0 < len(failed) < len(report["rows"])
    assert all(row["scores"]["remote"] is None and row["answers"]["remote"] == "" for row in failed)
    assert remote["num_failed"] == remote["metrics"][0]["num_unscored"] == len(failed)
    right = [row["scores"]["remote"] == 1.0 for row in report["rows"] if row not in failed]
    assert right == [row["wanted"] == "billing" for row in report["rows"] if row not in failed]
    warning = f"Remote: large: {len(failed)} of {len(report['rows'])} requests failed and are unscored; the same command asks them"
    assert any(one.startswith(warning) for one in report["warnings"])
    assert warning in finished.everything
    [against] = [one for one in report["comparisons"] if one["baseline"] == "remote"]
    assert against["num_pairs_unscored"] == len(failed)
    assert endpoint.num_asked == 1 + 9 + len(report["rows"]) + 1 + min(20, len(report["rows"])), (
        "each example once, one to warm up, and once alone"
    )
