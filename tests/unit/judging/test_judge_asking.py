from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from judged_studies import Shown, StandIn, always_first, fair, quality, random_study, study, verdict

from fettle.errors import ConfigError, DataError, RemoteError, StudyConflictError
from fettle.files import alone_with
from fettle.judging.compare import Judge, judge_study
from fettle.judging.records import JudgedComparison, Order
from fettle.judging.rubric import Rubric
from fettle.judging.settings import JudgeSettings, TokenPrices
from fettle.progress import Stage

RUBRIC = Rubric(text="The better one is better.", origin="the test")
REPORT = random_study(20, seed=1)


def run(engine: StandIn, folder: Path, report=REPORT, *, rubric=RUBRIC, listener=None, **settings) -> JudgedComparison:
    judge = Judge(engine=engine, rubric=rubric)
    return judge_study(report, judge, JudgeSettings(**settings), folder=folder, listener=listener)


def exact(pair: Shown, _rng) -> str:
    ours, theirs = quality(pair.first), quality(pair.second)
    return verdict("first" if ours > theirs else "second" if ours < theirs else "tie")


def test_every_pair_is_shown_in_both_orders_and_as_often_as_wanted(tmp_path: Path) -> None:
    engine = StandIn(exact)
    result = run(engine, tmp_path, repeats=3)
    assert len(engine.asked) == result.counts.num_questions == 120
    assert set(Counter(prompt.messages for prompt in engine.asked).values()) == {3}
    assert {reply.order for pair in result.pairs for reply in pair.replies} == set(Order)
    for pair in result.pairs:
        row = next(row for row in REPORT.rows if row.example_id == pair.example_id)
        ours, theirs = quality(row.answers["tuned"]), quality(row.answers["few_shot"])
        assert pair.preference == (1.0 if ours > theirs else 0.0 if ours < theirs else 0.5)
        assert {reply.reason for reply in pair.replies} == {"so it seems"}


def test_swapping_the_contenders_mirrors_everything_and_asks_nothing(tmp_path: Path) -> None:
    engine = StandIn(exact)
    one = run(engine, tmp_path, between=("tuned", "few_shot"))
    other = run(engine, tmp_path, between=("few_shot", "tuned"))
    assert len(engine.asked) == 40, "both orders of the same answers are there already"
    assert (one.num_wins, one.num_losses) == (other.num_losses, other.num_wins)
    assert one.win_rate.estimate == pytest.approx(1 - other.win_rate.estimate)


def test_a_killed_run_goes_on_where_it_was_and_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    def dying(number: int) -> None:
        if number == 21:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(StandIn(exact, fails=dying), tmp_path)
    file = tmp_path / "judging" / "replies.jsonl"
    assert len(file.read_text().splitlines()) == 16, "two whole batches"
    with file.open("a") as cut:
        cut.write('{"key": "0f3')
    again = StandIn(exact)
    resumed = run(again, tmp_path)
    assert len(again.asked) == 24
    assert resumed == run(StandIn(exact), tmp_path / "other")
    assert len(file.read_text().splitlines()) == 40


def test_what_decides_a_reply_is_its_key(tmp_path: Path) -> None:
    def asked_by(engine: StandIn, **changes) -> int:
        run(engine, tmp_path, **changes)
        return len(engine.asked)

    assert asked_by(StandIn(exact)) == 40
    assert asked_by(StandIn(exact)) == 0
    assert asked_by(StandIn(exact), repeats=2) == 40, "the first repeat is there"
    assert asked_by(StandIn(exact, name="another")) == 40
    assert asked_by(StandIn(exact), rubric=replace(RUBRIC, text="Otherwise.")) == 40
    changed = random_study(20, seed=1)
    changed.rows[3].answers["tuned"] = "t quality 3, again"
    assert asked_by(StandIn(exact), report=changed) == 2
    weights = Judge(engine=StandIn(exact), rubric=RUBRIC, weights_sha256="ab")
    judge_study(REPORT, weights, JudgeSettings(), folder=tmp_path)
    assert len(weights.engine.asked) == 40, "another model of the same name"  # type: ignore[attr-defined]


def test_the_same_pair_in_two_rows_is_asked_about_once(tmp_path: Path) -> None:
    report = study([(4, 2), (4, 2)])
    report = replace(report, rows=tuple(replace(row, input_text="the same") for row in report.rows))
    engine = StandIn(exact)
    result = run(engine, tmp_path, report)
    assert len(engine.asked) == 2
    assert (result.num_wins, result.counts.num_questions, result.counts.num_failed) == (2, 4, 0)


def test_a_larger_sample_contains_the_smaller_one(tmp_path: Path) -> None:
    engine = StandIn(exact)
    small = run(engine, tmp_path, sample=5)
    assert (small.num_pairs, len(engine.asked)) == (5, 10)
    large = run(engine, tmp_path, sample=12)
    assert len(engine.asked) == 24
    assert large.pairs[:5] == small.pairs
    assert run(engine, tmp_path, sample=1000).num_pairs == 20


def test_cost_counts_every_reply_once_whichever_run_brought_it(tmp_path: Path) -> None:
    prices = TokenPrices(of_prompt=2.0, of_reply=10.0)
    run(StandIn(exact), tmp_path, sample=10)
    cost = run(StandIn(exact), tmp_path, prices=prices).cost
    assert (cost.prompt_tokens, cost.reply_tokens, cost.seconds) == (4000, 800, 10.0)
    assert cost.price == pytest.approx((4000 * 2 + 800 * 10) / 1e6)
    assert run(StandIn(exact), tmp_path).cost.price is None


def test_failed_requests_are_told_not_kept_and_asked_again(tmp_path: Path) -> None:
    engine = StandIn(exact, fails=lambda number: "HTTP 422: filtered" if number == 7 else None)
    result = run(engine, tmp_path)
    assert (result.counts.num_failed, result.counts.failures) == (1, {"HTTP 422: filtered": 1})
    assert result.num_undecided == 1
    assert (tmp_path / "judging" / "replies.jsonl").read_text().count("\n") == 39
    again = StandIn(exact)
    assert run(again, tmp_path).counts.failures == {}
    assert len(again.asked) == 1


def test_an_endpoint_that_dies_in_the_middle_gives_no_figures_and_keeps_its_replies(tmp_path: Path) -> None:
    engine = StandIn(exact, fails=lambda number: "HTTP 500: gone" if number >= 16 else None)
    with pytest.raises(
        RemoteError, match=r"did not answer 24 of 40 questions \(HTTP 500: gone\); the other replies are kept"
    ):
        run(engine, tmp_path)
    again = StandIn(exact)
    assert run(again, tmp_path).counts.num_readable == 40
    assert len(again.asked) == 24


def test_progress_is_told_after_each_batch(tmp_path: Path) -> None:
    stages: list[Stage] = []

    class Listener:
        def on_stage(self, stage: Stage) -> None:
            stages.append(stage)

        def on_message(self, text: str) -> None:
            raise AssertionError(text)

    run(StandIn(exact, fails=lambda number: "late" if number == 39 else None), tmp_path, listener=Listener())
    assert [stage.num_done for stage in stages] == [0, 8, 16, 24, 32, 40]
    assert {stage.name for stage in stages} == {"stand-in compares tuned with few_shot"}
    assert stages[-1].note == "1 failed"


def hold(folder: Path, holds, done) -> None:
    with alone_with(folder / "judging" / ".lock", doing="asking a judge about this study", remedy="wait"):
        holds.set()
        done.wait(60)


def test_two_processes_do_not_ask_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    holds, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, holds, done))
    other.start()
    try:
        assert holds.wait(60)
        with pytest.raises(StudyConflictError, match=rf"another process \(process {other.pid}\) is asking a judge"):
            run(StandIn(exact), tmp_path)
    finally:
        done.set()
        other.join()


def test_half_of_a_surrogate_pair_in_a_reply_can_be_kept(tmp_path: Path) -> None:
    run(StandIn(lambda _pair, _rng: '{"verdict": "first", "reason": "cut \ud83d"}'), tmp_path, sample=1)
    rows = [json.loads(line) for line in (tmp_path / "judging" / "replies.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ['{"verdict": "first", "reason": "cut ?"}'] * 2


def test_examples_that_one_contender_did_not_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    report = random_study(10, seed=2)
    report = replace(report, rows=(replace(report.rows[0], errors={"few_shot": "HTTP 500"}), *report.rows[1:]))
    result = run(StandIn(exact), tmp_path, report)
    assert (result.num_pairs, result.num_unanswered) == (9, 1)
    assert "e0" not in {pair.example_id for pair in result.pairs}
    none = replace(report, rows=(report.rows[0],))
    with pytest.raises(DataError, match="no test example that both tuned and few_shot have answered"):
        run(StandIn(exact), tmp_path, none)


def test_rows_of_older_reports_are_clusters_of_their_own(tmp_path: Path) -> None:
    report = random_study(30, seed=9, gain=1)
    without = replace(report, rows=tuple(replace(row, cluster=None) for row in report.rows))
    assert run(StandIn(exact), tmp_path, without).win_rate == run(StandIn(exact), tmp_path, report).win_rate
    together = replace(report, rows=tuple(replace(row, cluster=number // 6) for number, row in enumerate(report.rows)))
    wide, narrow = (run(StandIn(exact), tmp_path, one).win_rate for one in (together, report))
    assert wide.high - wide.low != narrow.high - narrow.low


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"between": ("tuned", "nobody")}, "no contender 'nobody'.*choose two of tuned, few_shot, prompt"),
        ({"between": ("tuned", "tuned")}, "both are tuned"),
        ({"repeats": 0}, "between 1 and 10"),
        ({"sample": 0}, "at least 1"),
    ],
)
def test_wrong_settings_are_refused_with_a_remedy(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(StandIn(always_first), tmp_path, **settings)


def test_a_negative_price_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 0"):
        TokenPrices(of_prompt=-1.0, of_reply=0.0)


def test_noise_of_the_judge_shows_in_its_flip_rate(tmp_path: Path) -> None:
    steady, noisy = (
        run(StandIn(says, name=name), tmp_path, repeats=2) for name, says in (("s", exact), ("n", fair(3.0)))
    )
    assert steady.flips is not None
    assert noisy.flips is not None
    assert steady.flips.rate.estimate == 0.0
    assert noisy.flips.rate.low > 0.1
