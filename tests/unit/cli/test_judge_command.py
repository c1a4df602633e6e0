from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from build_report import text_report
from fettle.cli.judge import judge
from fettle.errors import ConfigError, DataError, RemoteError
from fettle.judging.document import read_judged
from fettle.study.report import read_report, write_report
from fettle.votes.poll import Contenders, make_poll
from fettle.votes.records import Choice
from fettle.votes.vote_file import append_record
from local_endpoint import Endpoint, Reply, completion, endpoint, failure
from tiny_models import save_tiny_model
from voting import vote_for

app = typer.Typer()
app.command()(judge)
FIRST = '{"verdict": "first", "reason": "It comes first."}'
SECOND = '{"verdict": "second", "reason": "It comes second."}'


def run(*arguments: object):
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_report(text_report(num_rows=40), tmp_path / "study")
    return tmp_path / "study"


def answers(body: dict[str, Any]) -> tuple[str, str]:
    """The two answers as they are shown."""
    parts = body["messages"][-1]["content"].split(" ANSWER ")
    return parts[1], parts[3]


def shorter(body: dict[str, Any]) -> str:
    """A judge with an opinion of its own: the shorter answer, mostly."""
    first, second = answers(body)
    is_first = len(first) < len(second)
    return FIRST if is_first != (random.Random(first + second).random() < 0.1) else SECOND


@contextmanager
def judging(says: Callable[[dict[str, Any]], str | Reply]) -> Iterator[Endpoint]:
    def answer(body: dict[str, Any], _number: int) -> Reply:
        if body["messages"][-1]["content"] == "Hi":
            return completion("hi")
        said = says(body)
        return said if isinstance(said, Reply) else completion(said)

    with endpoint(answer) as served:
        yield served


def test_a_judgement_is_told_and_kept_beside_the_report(study: Path) -> None:
    with judging(shorter) as served:
        arguments = (study, "--endpoint", served.url, "--model", "judge-1", "--repeats", 2, "--prices", 2, 10)
        found = run(*arguments)
        assert found.exit_code == 0, found.output
        num_asked = len(served.requests)
        again = run(*arguments)
    assert num_asked == 1 + 40 * 2 * 2
    assert len(served.requests) == num_asked, "nothing is asked twice"
    assert again.output == found.output
    [judged] = read_judged(study / "judged.json")
    assert judged.judge == f"judge-1 at {served.url}"
    assert (judged.challenger, judged.baseline, judged.repeats) == ("tuned", "few_shot", 2)
    assert judged.cost.price == pytest.approx((160 * 7 * 2 + 160 * 3 * 10) / 1e6)
    for part in ("Win rate: Tuned (LoRA) against Few-shot, nearest: ", "At equal length: ", "Order: ", "Flips: ",
                 "Replies: 160 readable, 0 unreadable, 0 failed", "1,120 tokens of prompts, 480 of replies", "0.007",
                 "The judge: prefers the shorter answer", f"Kept in {study / 'judged.json'}"):  # fmt: skip
        assert part in found.output
    request = served.requests[1]
    assert request["temperature"] == 0
    assert list(request["response_format"]["json_schema"]["schema"]["properties"]) == ["verdict", "reason"]


def test_a_judge_that_always_says_first_ends_with_its_name_and_exit_code_4(study: Path) -> None:
    with judging(lambda _body: FIRST) as served:
        found = run(study / "report.json", "--endpoint", served.url, "--model", "m", "--sample", 25)
    assert found.exit_code == 4
    assert "Unusable judge" in found.output
    assert "The judge: prefers whichever answer comes first" in found.output
    [judged] = read_judged(study / "judged.json")
    assert not judged.is_usable
    assert judged.num_pairs == 25


def test_json_is_the_judgement_alone_on_standard_output(study: Path, tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.txt"
    rubric.write_text("Shorter wins.")
    with judging(shorter) as served:
        found = run(
            study, "--endpoint", served.url, "--model", "m", "--rubric", rubric, "--between", "prompt", "tuned", "--json"
        )  # fmt: skip
    assert found.exit_code == 0
    document = json.loads(found.stdout)
    assert document == json.loads((study / "judged.json").read_text())
    [comparison] = document["comparisons"]
    assert (comparison["challenger"], comparison["baseline"]) == ("prompt", "tuned")
    assert comparison["rubric"] == "Shorter wins."
    assert "Shorter wins." in served.requests[1]["messages"][0]["content"]
    assert "prompt" in found.stderr, "progress goes elsewhere"


def test_a_rate_limited_judge_is_asked_again_until_it_answers(study: Path) -> None:
    seen: set[str] = set()
    lock = threading.Lock()

    def limited(body: dict[str, Any]) -> str | Reply:
        text = body["messages"][-1]["content"]
        with lock:
            is_new = text not in seen
            seen.add(text)
        return failure(429, "slow down") if is_new else shorter(body)

    with judging(limited) as served:
        found = run(study, "--endpoint", served.url, "--model", "m", "--sample", 10)
    assert found.exit_code == 0, found.output
    assert len(served.requests) == 1 + 40
    assert "20 readable, 0 unreadable, 0 failed" in found.output


def test_a_judge_that_dies_in_the_middle_keeps_its_replies_and_goes_on_later(study: Path) -> None:
    replied: list[str] = []
    is_dead = True

    def dying(body: dict[str, Any]) -> str | Reply:
        if is_dead and len(replied) >= 16:
            return failure(500, "out of memory")
        replied.append(shorter(body))
        return replied[-1]

    with judging(dying) as served:
        arguments = (study, "--endpoint", served.url, "--model", "m", "--sample", 30)
        with pytest.raises(
            RemoteError, match=r"did not answer \d+ of 60 questions .*the other replies are kept.*same command"
        ):
            run(*arguments)
        assert not (study / "judged.json").exists()
        kept = (study / "judging" / "replies.jsonl").read_text().count("\n")
        assert 16 <= kept < 30
        assert "not asked" not in (study / "judging" / "replies.jsonl").read_text()
        is_dead, num_before = False, len(replied)
        found = run(*arguments)
    assert found.exit_code == 0
    assert len(replied) - num_before == 60 - kept


def test_replies_that_no_one_can_read_are_no_verdicts(study: Path) -> None:
    with (
        judging(lambda _body: "Both have their merits.") as served,
        pytest.raises(RemoteError, match=r"on no pair can the judge's replies be read"),
    ):
        run(study, "--endpoint", served.url, "--model", "m", "--sample", 5)


def test_mistakes_are_told_with_what_to_do(study: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no report\.json here.*name the folder of a finished study"):
        run(tmp_path, "--endpoint", "http://127.0.0.1:1/v1", "--model", "m")
    with pytest.raises(ConfigError, match=r"--endpoint: expected the address of an endpoint"):
        run(study, "--endpoint", "127.0.0.1", "--model", "m")
    with pytest.raises(ConfigError, match=r"--model: the endpoint has to be told which model"):
        run(study, "--endpoint", "http://127.0.0.1:1/v1")
    with pytest.raises(ConfigError, match=r"no contender 'nobody'.*few_shot"):
        run(study, "--endpoint", "http://127.0.0.1:1/v1", "--model", "m", "--between", "tuned", "nobody")
    with pytest.raises(RemoteError, match=r"not asked: the endpoint does not answer for model 'm'.*check --endpoint"):
        run(study, "--endpoint", "http://127.0.0.1:1/v1", "--model", "m")


def test_votes_of_people_are_taken_from_the_study(study: Path) -> None:
    report = read_report(study / "report.json")
    pair = Contenders(challenger="tuned", baseline="few_shot")
    poll = make_poll(report, pair, num_sampled=None, where="")
    for matchup in poll.asked[:30]:
        is_shorter = len(matchup.challenger_answer) < len(matchup.baseline_answer)
        vote = vote_for(poll, "tuned" if is_shorter else "few_shot", matchup.example_id)
        append_record(study / "votes.jsonl", vote)
        append_record(study / "votes.jsonl", replace(vote, rater="Bo", choice=Choice.SKIP))
    append_record(study / "votes.jsonl", vote_for(poll, None, poll.asked[30].example_id))
    with judging(shorter) as served:
        found = run(study, "--endpoint", served.url, "--model", "m")
    assert found.exit_code == 0
    assert "People: it votes like them on" in found.output
    assert "better than chance" in found.output
    assert "from 40 votes of the judge corrected by 31 of people" in found.output
    [judged] = read_judged(study / "judged.json")
    assert judged.agreement is not None
    assert judged.agreement.num_examples == 31


def test_a_model_on_this_machine_is_known_by_its_weights_and_not_by_its_name(tmp_path: Path) -> None:
    report = text_report(num_rows=20)
    short = [
        replace(row, input_text="Where?", answers={"tuned": "Here.", "few_shot": "There."}) for row in report.rows[:1]
    ]
    write_report(replace(report, rows=tuple(short)), tmp_path)
    (tmp_path / "rubric.txt").write_text("Be right.")
    for number in (1, 2):
        model = save_tiny_model(tmp_path / str(number) / "judge", "llama", seed=number)
        found = run(tmp_path, "--model", model, "--rubric", tmp_path / "rubric.txt")
        assert "2 readable, 0 unreadable" in found.output, "its form leaves it no choice"
        assert (tmp_path / "judging" / "replies.jsonl").read_text().count("\n") == 2 * number


def test_the_reports_page_shows_the_judgement_and_the_command_says_so(study: Path) -> None:
    assert 'id="judges"' not in (study / "report.html").read_text()
    with judging(lambda _body: FIRST) as served:
        found = run(study, "--endpoint", served.url, "--model", "m", "--sample", 25)
    page = (study / "report.html").read_text()
    assert "It prefers whichever answer comes first" in page
    assert f"shown in {study / 'report.html'}" in found.output
