"""What a run cost, beside what was planned."""

from __future__ import annotations

from dataclasses import replace

from report_parts import training_summary

from fettle.cli.study import _as_planned
from fettle.report_records import TrainingCost
from fettle.study.plan import Estimate
from fettle.training.checkpoint import Progress
from fettle.training.events import EventStream, TrainingEvent
from fettle.training.result import cost_of

PLANNED = TrainingCost(seconds=3600, peak_memory_bytes=10**9, num_tokens=50, price_per_hour=1.5)


def test_the_price_of_an_hour_is_that_of_plan_and_actual() -> None:
    event = TrainingEvent(step=1, num_steps=1, epoch=1.0, seconds=1800.0, train_loss=1.0)
    actual = cost_of(
        EventStream(planned=PLANNED, events=(event,)),
        Progress(run_key="k"),
        num_processes=1,
        max_tokens=64,
        recomputes=False,
    )
    assert (PLANNED.price, actual.price) == (1.5, 0.75)
    assert Estimate(training=PLANNED, answer_seconds=1200, base_bytes=0, price_per_hour=1.5).price == 2.0
    assert Estimate(training=None, answer_seconds=1200, base_bytes=0, price_per_hour=1.5).price == 0.5
    unpriced = replace(PLANNED, price_per_hour=None)
    assert unpriced.price is None
    assert Estimate(training=unpriced, answer_seconds=1200, base_bytes=0).price is None


def test_the_end_of_a_study_tells_both() -> None:
    summary = replace(training_summary(), seconds=360.0)
    assert _as_planned(replace(summary, planned=PLANNED)).endswith("; it cost 0.15 (planned: 1.50)")
    assert "cost" not in _as_planned(replace(summary, planned=replace(PLANNED, price_per_hour=None)))
