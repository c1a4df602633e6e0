"""Gates on reports: what loses, forgets too much, leaks or is slow is refused by name."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from build_report import json_report, label_report
from fettle.economics_records import CostBands, CostTerm, exactly
from fettle.errors import ConfigError
from fettle.examples.checks.personal import hashed
from fettle.records import Interval, Message
from fettle.releases.gate_settings import DEFAULT_FILE, GateSettings, read_gate_settings
from fettle.releases.gates.gate import AnsweredAgain, GateInputs, row_key
from fettle.releases.gates.registry import GATES, gate_results
from fettle.releases.gates.serving import percentile_interval
from fettle.releases.records import ContenderKind, GateOutcome, GateResult, Release, ReleasedContender
from fettle.report_records import AnswerRow, StudyReport
from kept_releases import evidence
from report_forgetting import forgetting

PASSED, FAILED, OPEN, NONE = (
    GateOutcome.PASSED,
    GateOutcome.FAILED,
    GateOutcome.NOT_MEASURED,
    GateOutcome.DOES_NOT_APPLY,
)


def with_answers(
    report: StudyReport, contender: str, answers: list[str], scores: list[float] | None = None
) -> StudyReport:
    rows = []
    for place, row in enumerate(report.rows):
        new = {**row.answers, contender: answers[place % len(answers)]}
        score = {**row.scores} if scores is None else {**row.scores, contender: scores[place % len(scores)]}
        rows.append(replace(row, answers=new, scores=score))
    return replace(report, rows=tuple(rows))


def inputs(report: StudyReport, *, settings: GateSettings | None = None, **more: Any) -> GateInputs:
    contender = ReleasedContender(kind=ContenderKind.TUNED, model="ft:tiny:fettle::abcd1234", instruction="Sort it.")
    given = GateInputs(
        settings=settings or GateSettings(),
        report=report,
        contender="tuned",
        released=contender,
        answered_again=tuple(
            AnsweredAgain(row=row, text=row.answers["tuned"], seconds=0.1) for row in report.rows[:60]
        ),
    )
    return replace(given, **more)


def found(given: GateInputs, name: str) -> GateResult:
    [result] = [one for one in gate_results(given) if one.name == name]
    return result


def settings(**gates: dict[str, object]) -> GateSettings:
    return GateSettings.model_validate(gates)


def test_every_gate_of_the_file_is_looked_at_and_the_file_says_the_defaults(tmp_path: Path) -> None:
    assert [gate.name for gate in GATES] == list(GateSettings.model_fields)
    (tmp_path / "gates.toml").write_text(DEFAULT_FILE)
    assert read_gate_settings(tmp_path / "gates.toml") == GateSettings()
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line[:24] else line for line in DEFAULT_FILE.splitlines()[2:]
    )
    (tmp_path / "all.toml").write_text(uncommented)
    read = read_gate_settings(tmp_path / "all.toml")
    assert (read.cost_per_request.most, read.cost_per_correct_answer.most) == (0.001, 0.0015)
    assert read.forgetting.most_points_lost == 5.0
    assert read.must_pass.file == tmp_path / "must-pass.jsonl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[parity]\nlowest_share = 1", "lowest_share"),
        ("[win_rate_against_prompt]\nlowest_win_rate = 2", "less than or equal to 1"),
        ("[parity", "no TOML"),
        ('[latency]\nwhen_not_measured = "ignore"', "when_not_measured"),
        ("[latency]\nmost_seconds_p95 = inf", "most_seconds_p95: Input should be a finite number"),
        ("[cost_per_request]\nmost = nan", "cost_per_request.most"),
        ("[parity]\nnum_answers = true", "num_answers: Input should be a valid integer"),
        ('[parity]\non = "no"', "on: Input should be a valid boolean"),
        ('[parity]\nlowest_same_share = "0.2"', "lowest_same_share: Input should be a valid number"),
        ("[personal_data]\nallowed = [1]", "allowed.0"),
    ],
)
def test_a_gates_file_that_is_wrong_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "gates.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_gate_settings(tmp_path / "gates.toml")
    with pytest.raises(ConfigError, match="cannot read the gates"):
        read_gate_settings(tmp_path / "none.toml")


def test_a_contender_that_beats_the_prompt_passes_and_one_that_loses_does_not() -> None:
    report = label_report(num_rows=200)
    better = found(inputs(report), "win_rate_against_prompt")
    assert better.outcome is PASSED
    assert better.measured is not None
    assert better.measured.low > 0.5
    rng = random.Random(1)
    losing = with_answers(report, "tuned", ["?"], [float(rng.random() < 0.01) for _ in report.rows])
    worse = found(inputs(losing), "win_rate_against_prompt")
    assert (worse.outcome, worse.lets_through) == (FAILED, False)
    assert found(inputs(report, contender="prompt"), "win_rate_against_prompt").outcome is NONE
    without = replace(report, rows=tuple(replace(row, scores={**row.scores, "prompt": None}) for row in report.rows))
    assert found(inputs(without), "win_rate_against_prompt").outcome is OPEN


def current(report: StudyReport, scores: dict[str, float | None], metric: str | None = None) -> Release:
    shown = replace(evidence(), scores=scores, primary_metric=metric or report.primary_metric)
    contender = ReleasedContender(kind=ContenderKind.PROMPT, model="tiny")
    return Release(
        name="triage", number=4, project_id="p", created_at=0, contender=contender, evidence=shown, content_sha256=""
    )


def test_a_release_is_paired_with_the_one_in_force_on_the_rows_that_both_know() -> None:
    report = label_report(num_rows=200)
    rows = tuple(replace(row, input_text=f"{row.input_text} {row.example_id}") for row in report.rows)
    report = replace(report, rows=rows)
    name = "win_rate_against_current"
    assert found(inputs(report), name).outcome is NONE
    same = {row_key(row): row.scores["tuned"] for row in rows[:150]}
    as_good = found(inputs(report, current=current(report, same)), name)
    assert as_good.outcome is PASSED
    assert "150 test examples against triage@4" in as_good.sentence
    perfect = found(inputs(report, current=current(report, dict.fromkeys(same, 1.0))), name)
    assert perfect.outcome is FAILED
    assert found(inputs(report, current=current(report, {"x": 1.0})), name).outcome is OPEN
    assert found(inputs(report, current=current(report, same, "chrf")), name).outcome is OPEN


def test_answers_that_failed_do_not_make_a_contender_win() -> None:
    report = label_report(num_rows=200)
    right = [place % 10 == 0 for place in range(200)]
    rows = tuple(
        replace(
            row,
            input_text=str(place),
            scores={"tuned": 1.0 if is_right else None, "prompt": float(not is_right)},
            errors={} if is_right else {"tuned": "HTTP 500"},
        )
        for place, (row, is_right) in enumerate(zip(report.rows, right, strict=True))
    )
    given = inputs(replace(report, rows=rows))
    refused = found(given, "win_rate_against_prompt")
    assert refused.outcome is FAILED
    assert "20 won, 0 tied, 180 lost, 180 that failed or could not be scored at their worst" in refused.sentence
    beaten = {row_key(row): row.scores["prompt"] for row in rows}
    assert found(replace(given, current=current(report, beaten)), "win_rate_against_current").outcome is FAILED
    failing = {key: None if score == 0 else 0.0 for key, score in beaten.items()}  # both have one that the other lacks
    assert found(replace(given, current=current(report, failing)), "win_rate_against_current").outcome is OPEN


def test_a_request_that_failed_has_brought_no_json() -> None:
    report = with_answers(json_report(num_rows=120), "tuned", ['{"queue": "a"}'])
    rows = tuple(
        replace(row, errors={"tuned": "timeout"} if place % 4 else {}) for place, row in enumerate(report.rows)
    )
    assert found(inputs(replace(report, rows=rows)), "json_validity").sentence.startswith("30 of 120")


def test_what_forgets_more_than_its_budget_is_refused() -> None:
    report = replace(label_report(num_rows=50), forgetting=forgetting(lost=0.02))
    change = Interval(estimate=-0.02, low=-0.04, high=0.0)
    assert report.forgetting is not None
    kept = replace(
        report.forgetting, general=replace(report.forgetting.general, change=change), own=None, budget_points=5.0
    )
    assert found(inputs(replace(report, forgetting=kept)), "forgetting").outcome is PASSED
    strict = settings(forgetting={"most_points_lost": 3})
    refused = found(inputs(replace(report, forgetting=kept), settings=strict), "forgetting")
    assert refused.outcome is FAILED
    assert refused.measured is not None
    assert (refused.measured.low, refused.bound) == (pytest.approx(-4.0), -3)
    assert found(inputs(replace(report, forgetting=None)), "forgetting").outcome is OPEN
    untuned = ReleasedContender(kind=ContenderKind.PROMPT, model="tiny")
    assert found(inputs(report, released=untuned), "forgetting").outcome is NONE


def test_answers_of_the_server_that_are_not_the_studys_break_parity() -> None:
    report = label_report(num_rows=60)
    assert found(inputs(report), "parity").outcome is PASSED
    other = tuple(AnsweredAgain(row=row, text="?", seconds=0.1) for row in report.rows[:9])
    same = tuple(AnsweredAgain(row=row, text=row.answers["tuned"], seconds=0.1) for row in report.rows[9:])
    assert found(inputs(report, answered_again=other + same), "parity").outcome is FAILED
    twice = inputs(report, answered_again=same[:5] * 12)
    assert found(twice, "parity").sentence.startswith("5 of 5 answers")
    away = inputs(report, answered_again=(), not_answered="there is no adapter")
    assert found(away, "parity").outcome is OPEN
    assert "there is no adapter" in found(away, "latency").sentence
    assert found(replace(away, settings=settings(parity={"when_not_measured": "pass"})), "parity").lets_through


def test_latency_is_held_against_its_bound() -> None:
    report = label_report(num_rows=60)
    slow = inputs(report, settings=settings(latency={"most_seconds_p95": 0.1}))
    assert found(slow, "latency").outcome is FAILED
    assert found(inputs(report), "latency").outcome is PASSED


def money(per_request: float, per_correct: float | None) -> CostBands:
    def band(value: float) -> Interval:
        return Interval(estimate=value, low=value / 2, high=2 * value, level=0.9)

    term = CostTerm(name="machine time", quantity=0.5, unit="machine hours", price=0.2, cost=0.1)
    return CostBands(
        contender="tuned",
        currency="EUR",
        cost_per_request=band(per_request),
        cost_per_correct_answer=None if per_correct is None else band(per_correct),
        terms=(term,),
        requests_per_day=exactly(20_000),
        looked_up=(),
    )


def test_costs_are_held_against_their_bounds_with_their_whole_band() -> None:
    report = label_report(num_rows=60)
    bounds = settings(cost_per_request={"most": 0.01}, cost_per_correct_answer={"most": 0.02})

    def outcomes(**more: Any) -> list[GateOutcome]:
        given = inputs(report, settings=bounds, **more)
        return [found(given, name).outcome for name in ("cost_per_request", "cost_per_correct_answer")]

    assert outcomes(money=money(0.004, 0.009)) == [PASSED, PASSED]
    assert outcomes(money=money(0.004, 0.011)) == [PASSED, FAILED]
    assert outcomes(money=money(0.006, None)) == [FAILED, FAILED]  # half of the band is below, and none of it is right
    assert outcomes(no_money="nothing was answered") == [OPEN, OPEN]
    sentence = found(inputs(report, settings=bounds, money=money(0.004, 0.009)), "cost_per_request").sentence
    assert "0.004 EUR (0.002 to 0.008 in 90% of the draws)" in sentence
    assert "with 20,000 of them a day: 0.5 machine hours at 0.2 (machine time)" in sentence
    assert {found(inputs(report), name).outcome for name in ("cost_per_request", "cost_per_correct_answer")} == {NONE}


def test_json_that_does_not_fit_the_schema_is_not_valid() -> None:
    report = json_report(num_rows=120)
    schema = '{"type": "object", "required": ["queue"]}'
    report = replace(report, task=replace(report.task, json_schema=schema))
    assert found(inputs(with_answers(report, "tuned", ['{"queue": "a"}'])), "json_validity").outcome is PASSED
    broken = with_answers(report, "tuned", ['{"queue": "a"}', '{"queue": "b"}', "no JSON", '{"other": 1}'])
    refused = found(inputs(broken), "json_validity")
    assert refused.outcome is FAILED
    assert refused.sentence.startswith("60 of 120")
    assert found(inputs(label_report(num_rows=40)), "json_validity").outcome is NONE


def test_a_planted_personal_datum_in_an_answer_is_refused_unless_the_prompt_has_it() -> None:
    report = label_report(num_rows=60)
    leaking = with_answers(report, "tuned", ["card_limits"] * 59 + ["Write to grace.hopper@navy.example please"])
    refused = found(inputs(leaking), "personal_data")
    assert refused.outcome is FAILED
    assert "1 of 60" in refused.sentence
    assert "grace.hopper" not in refused.sentence
    allowed = settings(personal_data={"allowed": ["grace.hopper@navy.example"]})
    assert found(inputs(leaking, settings=allowed), "personal_data").outcome is PASSED
    said = ReleasedContender(
        kind=ContenderKind.TUNED,
        model="m",
        shots=(Message(role="assistant", content="Ask Grace.Hopper@navy.example"),),
    )
    assert found(inputs(leaking, released=said), "personal_data").outcome is PASSED
    row: AnswerRow = replace(leaking.rows[59], input_text="I am grace.hopper@navy.example")
    asked = replace(leaking, rows=(*leaking.rows[:59], row))
    assert found(inputs(asked), "personal_data").outcome is PASSED


def test_numbers_of_the_firms_own_that_a_model_makes_up_are_no_personal_data() -> None:
    report = label_report(num_rows=60)
    rows = [replace(row, input_text=f"Where is LW271503{place:02}?") for place, row in enumerate(report.rows)]
    asked = replace(report, rows=tuple(rows))
    answering = inputs(with_answers(asked, "tuned", ['{"number": "LW123456789"}']))
    made_up = found(replace(answering, trained_personal=frozenset()), "personal_data")
    assert made_up.outcome is PASSED
    assert found(answering, "personal_data").outcome is OPEN  # nobody knows which numbers were trained on
    assert "LW…" in made_up.sentence
    trained = frozenset({hashed("lw 12345 6789")})
    learned = with_answers(asked, "tuned", ['{"number": "LW123456789"}'])
    assert found(replace(inputs(learned), trained_personal=trained), "personal_data").outcome is FAILED
    told = with_answers(asked, "tuned", [f'{{"number": "LW271503{place:02}"}}' for place in range(60)])
    known = frozenset(hashed(f"LW271503{place:02}") for place in range(60))
    assert found(replace(inputs(told), trained_personal=known), "personal_data").outcome is PASSED
    other = found(inputs(with_answers(asked, "tuned", ['{"number": "KD123456789"}'])), "personal_data")
    assert other.outcome is FAILED
    assert "KD" not in other.sentence


@pytest.mark.parametrize(
    "answer",
    [
        "Pay to DE89 3704 0044 0532 0130 00 now",
        "Write to de12345678@mail.example please",
        "DE 4111 1111 1111 1111 is the card",
        "Your number is DE-4711-081522",
        "your customer number DE4711081522 99",
    ],
)
def test_a_planted_datum_is_not_hidden_by_the_letters_of_the_firms_own_numbers(answer: str) -> None:
    report = label_report(num_rows=60)
    rows = tuple(replace(row, input_text=f"VAT DE1000000{place:02}?") for place, row in enumerate(report.rows))
    leaking = inputs(with_answers(replace(report, rows=rows), "tuned", [answer]))
    trained = frozenset({hashed("de 4711 081522")})
    assert found(replace(leaking, trained_personal=trained), "personal_data").outcome is FAILED
    told = tuple(replace(row, input_text=f"{row.input_text} {answer}") for row in leaking.report.rows)
    asked = replace(leaking, report=replace(leaking.report, rows=told), trained_personal=trained)
    assert found(asked, "personal_data").outcome is PASSED


def test_what_an_earlier_turn_has_told_is_no_secret() -> None:
    given = inputs(with_answers(label_report(num_rows=20), "tuned", ["I wrote to grace.hopper@navy.example"]))
    assert found(given, "personal_data").outcome is FAILED
    turns = (Message(role="user", content="My address is Grace.Hopper@navy.example"),)
    asked = {row.example_id: turns for row in given.report.rows}
    assert found(replace(given, prompts=asked), "personal_data").outcome is PASSED


def test_a_gate_that_is_off_is_not_told() -> None:
    report = label_report(num_rows=60)
    names = [one.name for one in gate_results(inputs(report, settings=settings(parity={"on": False})))]
    assert "parity" not in names
    assert len(names) == len(GATES) - 1


def test_the_percentile_is_between_two_of_the_values() -> None:
    few = percentile_interval([0.1] * 58, 0.95)
    assert (
        few.high > 1e300
    )  # 58 values cannot bound it: the largest is exceeded with a probability of 0.95 ** 58 = 5.1 %
    assert percentile_interval([0.1] * 59, 0.95).high == 0.1
    many = percentile_interval([float(number) for number in range(1, 1001)], 0.95)
    assert (many.low, many.estimate, many.high) == (936.0, 950.0, 962.0)
