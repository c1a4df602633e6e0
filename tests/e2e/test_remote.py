"""A remote contender whose endpoint fails: what is asked again, what is told, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import Finished, Runner
from endpoint import Endpoint
from reports import comparable, load, require_consistent
from studies import TASK_ALONE, require_refused


def remote_in(folder: Path) -> dict[str, object]:
    [remote] = [contender for contender in load(folder)["contenders"] if contender["name"] == "remote"]
    return remote


def test_failed_requests_are_asked_again_by_the_same_command(fettle: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    is_down = True

    def study(url: str) -> Finished:
        finished = fettle(
            "study", "labels.csv", "--model", "model", "--epochs", 1, *TASK_ALONE, "--out", folder,
            "--remote", url, "--remote-model", "large",
        )  # fmt: skip
        assert finished.code in (0, 3, 4), finished.everything
        return finished

    with Endpoint(answer="billing", failing=lambda message: is_down and message != "Hi") as endpoint:
        first = study(endpoint.url.replace("http://", "http://user:pw123@"))
        num_test = len(load(folder)["rows"])
        reason = "HTTP 422: refused by the content filter"
        assert remote_in(folder)["num_failed"] == num_test
        assert f"{num_test} requests failed: {reason} ({num_test})." in str(remote_in(folder)["note"])
        assert all(row["errors"] == {"remote": reason} for row in load(folder)["rows"])
        assert reason in (folder / "report.html").read_text()
        assert reason in " ".join(first.everything.split())
        for file in (folder / "report.json", folder / "report.html", folder / "declaration.json"):
            assert "pw123" not in file.read_text()
        is_down = False
        study(endpoint.url)
    report = load(folder)
    require_consistent(report)
    assert (remote_in(folder)["num_failed"], remote_in(folder)["note"]) == (0, None)
    assert not any(row["errors"] for row in report["rows"])
    assert not any("requests failed" in warning for warning in report["warnings"])
    (folder / "report.json").unlink()
    study(endpoint.url)
    assert comparable(load(folder)) == comparable(report), "an endpoint is not needed where nothing is left to ask"


@pytest.mark.parametrize("is_dry", [False, True])
@pytest.mark.parametrize(
    ("url", "model", "problem"),
    [
        ("ftp://x", "large", "--remote: expected the address of an endpoint, and it is 'ftp://x'"),
        ("", "", "--remote: expected the address of an endpoint, and it is ''"),
        ("http://127.0.0.1:9/v1", "", "--remote-model: the name of the remote model is empty"),
    ],
)
def test_remote_that_cannot_be_asked(
    fettle: Runner, tmp_path: Path, url: str, model: str, problem: str, is_dry: bool
) -> None:
    finished = fettle(
        "study", "nowhere.csv", "--remote", url, "--remote-model", model, "--out", tmp_path / "study",
        *(["--dry-run"] if is_dry else []),
    )  # fmt: skip
    require_refused(finished, problem, "What to do:")
