"""The page's server: what it tells, what it keeps, and whom it lets in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from fettle.votes.app import create_app, new_token
from fettle.votes.booth import Booth
from voting import PAIR, answer_row, lines_of, poll_of, rows_that_differ, study_report

TOKEN = "a-token"
HOSTILE = "</script><script>alert(1)</script>{{7*7}}"


def client_of(path: Path, rows: list | None = None, name: str = "replies") -> TestClient:
    rows = rows_that_differ(5) if rows is None else rows
    booth = Booth(poll=poll_of(rows), path=path / "votes.jsonl")
    app = create_app(booth, study_report(rows, name=name), token=TOKEN)
    return TestClient(app, base_url="http://127.0.0.1")


def standing(client: TestClient, rater: str = "Ada") -> dict[str, Any]:
    answer = client.get(f"/{TOKEN}/standing", params={"rater": rater})
    assert answer.status_code == 200, answer.text
    return answer.json()


def cast(client: TestClient, choice: str = "left", rater: str = "Ada", **more: Any) -> dict[str, Any]:
    ballot = standing(client, rater)["ballot"]
    body = {"rater": rater, "example_id": ballot["example_id"], "choice": choice, "seconds": 2.34} | more
    answer = client.post(f"/{TOKEN}/votes", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_vote_is_in_the_file_before_it_is_answered(tmp_path: Path) -> None:
    client = client_of(tmp_path)
    ballot = standing(client)["ballot"]
    after = cast(client, "right", comment=" too long \n")
    (line,) = lines_of(tmp_path / "votes.jsonl")
    assert line["example_id"] == ballot["example_id"]
    assert (line["rater"], line["choice"], line["seconds"], line["comment"]) == ("Ada", "right", 2.3, "too long")
    number = ballot["example_id"].removeprefix("row-")
    assert f"{line['left']} {number}" == ballot["left"]
    assert f"{line['right']} {number}" == ballot["right"]
    assert after["num_done"] == 1
    assert after["ballot"]["example_id"] != ballot["example_id"]


def test_the_page_is_never_told_whose_answer_is_whose(tmp_path: Path) -> None:
    rows = [answer_row(i, f"one {i}", f"other {i}") for i in range(3)]
    client = client_of(tmp_path, rows)
    told = client.get(f"/{TOKEN}/").text + str([cast(client) for _ in range(3)])
    assert not any(name in told for name in (PAIR.challenger, PAIR.baseline, "Tuned", "Prompt"))


def test_undo_takes_back_one_vote_after_the_other_and_then_nothing(tmp_path: Path) -> None:
    client = client_of(tmp_path)
    first = standing(client)["ballot"]
    second = cast(client)["ballot"]
    cast(client)
    undone = [client.post(f"/{TOKEN}/undo", json={"rater": "Ada"}).json() for _ in range(3)]
    assert [one["num_done"] for one in undone] == [1, 0, 0]
    assert [one["ballot"] for one in undone] == [second, first, first]
    assert [line["kind"] for line in lines_of(tmp_path / "votes.jsonl")] == ["vote", "vote", "undo", "undo"]


def test_people_go_their_own_way_in_one_file(tmp_path: Path) -> None:
    client, another = client_of(tmp_path), client_of(tmp_path)  # as by two commands on one study
    for _ in range(3):
        cast(client)
    cast(another, rater="Bob")
    assert (standing(another)["num_done"], standing(client, "Bob")["num_done"]) == (3, 1)


def test_the_end(tmp_path: Path) -> None:
    client = client_of(tmp_path)
    for _ in range(5):
        last = cast(client, "skip")
    assert (last["num_done"], last["num_asked"], last["ballot"]) == (5, 5, None)


@pytest.mark.parametrize(
    "path", ["/", "/standing?rater=Ada", "/b-token/", "/b-token/standing?rater=Ada", "/b-token/vote.js"]
)
def test_without_the_token_there_is_nothing(path: str, tmp_path: Path) -> None:
    answer = client_of(tmp_path).get(path)
    assert answer.status_code == 404
    assert TOKEN not in answer.text


def test_a_name_that_another_site_has_pointed_here_is_refused(tmp_path: Path) -> None:
    answer = client_of(tmp_path).get(f"/{TOKEN}/", headers={"host": "evil.example"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "path", [f"/{TOKEN}/", f"/{TOKEN}/vote.js", f"/{TOKEN}/vote.css", f"/{TOKEN}/standing?rater=Ada", "/x"]
)
def test_everything_is_sent_with_the_strict_policy(path: str, tmp_path: Path) -> None:
    headers = client_of(tmp_path).get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_page_names_nothing_from_elsewhere_and_escapes_what_it_shows(tmp_path: Path) -> None:
    client = client_of(tmp_path, name=HOSTILE)
    page = client.get(f"/{TOKEN}/").text
    files = [client.get(f"/{TOKEN}/{name}").text for name in ("vote.css", "vote.js")]
    assert not any("//" in text.replace("http://www.w3.org", "") and "http" in text for text in (page, files[0]))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "innerHTML" not in files[1]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"example_id": "row-77"}, 400),
        ({"choice": "up"}, 422),
        ({"seconds": -1}, 422),
        ({"seconds": 1e9}, 422),
        ({"comment": "x" * 2001}, 422),
        ({"comment": "x" * 100_000}, 413),
        ({"rater": " "}, 400),
        ({"left": "tuned"}, 422),
    ],
)
def test_what_is_no_vote_is_refused_and_not_kept(body: dict[str, Any], status: int, tmp_path: Path) -> None:
    client = client_of(tmp_path)
    good = {"rater": "Ada", "example_id": "row-1", "choice": "tie", "seconds": 1}
    answer = client.post(f"/{TOKEN}/votes", json=good | body)
    assert answer.status_code == status, answer.text
    assert not (tmp_path / "votes.jsonl").exists()


def test_a_damaged_file_is_told_of_in_words(tmp_path: Path) -> None:
    (tmp_path / "votes.jsonl").write_text("{}\n")
    answer = client_of(tmp_path).get(f"/{TOKEN}/standing", params={"rater": "Ada"})
    assert answer.status_code == 400
    assert "no vote" in answer.json()["problem"]
    assert "remove it" in answer.json()["remedy"]


def test_tokens_are_long_and_new() -> None:
    assert len(new_token()) >= 32
    assert new_token() != new_token()
