"""Small polls, and votes on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fettle.records import (
    Comparison,
    ContenderResult,
    Decision,
    Interval,
    Resources,
    Task,
    TaskKind,
    Verdict,
)
from fettle.report_records import AnswerRow, Detectable, Provenance, StudyReport
from fettle.votes.poll import Contenders, Poll, make_poll
from fettle.votes.records import Choice, Vote

PAIR = Contenders(challenger="tuned", baseline="prompt")


def study_report(rows: Sequence[AnswerRow], *, kind: TaskKind = TaskKind.TEXT, name: str = "replies") -> StudyReport:
    """A report that compares `tuned` with `prompt`; a third contender, `few_shot`, is there."""
    return StudyReport(
        name=name,
        task=Task(kind=kind, reason="a test"),
        verdict=Verdict(decision=Decision.CANNOT_TELL, headline="Nobody knows.", reasons=()),
        declaration="",
        primary_metric="chrf",
        detectable=Detectable(
            num_examples=1, num_clusters=1, design_effect=1.0, smallest_difference=0.5, num_examples_to_halve=4
        ),
        contenders=tuple(_contender(one) for one in ("tuned", "prompt", "few_shot")),
        comparisons=(_comparison(),),
        training=None,
        findings=(),
        num_examples={"train": 0, "valid": 0, "test": len(rows)},
        rows=tuple(rows),
        confusions=(),
        part_scores=(),
        length_histogram=None,
        provenance=_provenance(),
    )


def answer_row(
    number: int, tuned: str, prompt: str, *, cluster: int | None = -1, failed: str | None = None
) -> AnswerRow:
    """A test row; by default each is a cluster of its own."""
    return AnswerRow(
        example_id=f"row-{number}",
        source=f"mails.csv:{number}",
        input_text=f"question {number}",
        wanted="wanted",
        answers={"tuned": tuned, "prompt": prompt, "few_shot": "shot"},
        scores={},
        errors={} if failed is None else {failed: "HTTP 500"},
        cluster=number if cluster == -1 else cluster,
    )


def rows_that_differ(number: int) -> list[AnswerRow]:
    return [answer_row(i, f"tuned {i}", f"prompt {i}") for i in range(number)]


def poll_of(rows: Sequence[AnswerRow], *, num_sampled: int | None = None) -> Poll:
    return make_poll(study_report(rows), PAIR, num_sampled=num_sampled, where="report.json")


def vote_for(poll: Poll, name: str | None, example_id: str, *, rater: str = "Ada", choice: Choice = Choice.TIE) -> Vote:
    """A vote for a contender; for None, `choice`."""
    sides = poll.sides(example_id, rater)
    if name is not None:
        choice = Choice.LEFT if sides.left == name else Choice.RIGHT
    sha256 = next(one.answers_sha256 for one in poll.matchups if one.example_id == example_id)
    return Vote(
        rater=rater,
        example_id=example_id,
        sides=sides,
        choice=choice,
        seconds=4.0,
        at="2026-11-26T09:00:00+00:00",
        answers_sha256=sha256,
    )


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def _contender(name: str) -> ContenderResult:
    nothing = Resources(prompt_tokens_per_request=None, completion_tokens_per_request=None, seconds_per_request=None)
    return ContenderResult(
        name=name,
        title=name.replace("_", " ").title(),
        description="",
        is_fine_tuned=name == "tuned",
        metrics=(),
        resources=nothing,
        validation_score=None,
    )


def _comparison() -> Comparison:
    nothing = Interval(estimate=0.0, low=-1.0, high=1.0)
    return Comparison(
        challenger="tuned",
        baseline="prompt",
        is_primary=True,
        num_pairs=1,
        num_pairs_unscored=0,
        difference=nothing,
        bootstrap=None,
        win_rate=replace(nothing, estimate=0.5, low=0.0),
        num_wins=0,
        num_ties=1,
        num_losses=0,
        p_value=1.0,
        p_value_method="",
        p_value_adjusted=1.0,
    )


def _provenance() -> Provenance:
    return Provenance(
        command="fettle study",
        seed=7,
        created_at="2026-11-26",
        fettle_version="0",
        versions={},
        machine="",
        data_sha256={},
        split_sha256={},
        template_sha256="",
        model_sha256="",
        instruction="Reply in the house style.",
        instruction_origin="given",
        settings={},
        test_look_number=1,
        num_test_looks=1,
    )
