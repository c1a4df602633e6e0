from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from fettle.report_records import TrainingCost
from fettle.training.checkpoint import Progress, logged_before
from fettle.training.events import EventStream, EventWriter, TrainingEvent, read_events

PLANNED = TrainingCost(seconds=10.0, peak_memory_bytes=2_000, num_tokens=300, num_processes=2)
ACTUAL = TrainingCost(seconds=12.5, peak_memory_bytes=2_500, num_tokens=300, num_processes=2, recomputes=True)


def event(step: int, **values: float) -> TrainingEvent:
    return TrainingEvent(step=step, num_steps=3, epoch=step / 3, seconds=1.0, **values)  # pyright: ignore[reportArgumentType]


EVENTS = (event(0, valid_loss=2.0), event(1, train_loss=1.5), event(2, train_loss=1.0), event(2, valid_loss=0.9))


def test_the_plan_comes_first_and_what_was_taken_last(tmp_path: Path) -> None:
    file, told = tmp_path / "events.jsonl", []
    writer = EventWriter(file, told.append)
    writer.restart(EventStream(planned=PLANNED, events=EVENTS[:2]))
    for each in EVENTS[2:]:
        writer.log(each)
    writer.finish(ACTUAL)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows[0]["plan"]["peak_memory_bytes"] == 2_000
    assert rows[-1]["actual"]["seconds"] == 12.5
    assert read_events(file) == EventStream(planned=PLANNED, events=EVENTS, actual=ACTUAL)
    assert tuple(told) == EVENTS


def test_a_stream_of_an_older_version_has_neither(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    old = {
        "step": 1, "num_steps": 3, "epoch": 0.5, "seconds": 2.0, "num_tokens": 5, "num_trained_tokens": 2,
        "train_loss": 1.0, "valid_loss": None, "learning_rate": 0.1, "grad_norm": 0.2,
    }  # fmt: skip
    file.write_text(json.dumps(old) + "\n" + '{"step": 2, "num')  # and a kill has cut its last line
    stream = read_events(file)
    assert (stream.planned, stream.actual, [each.step for each in stream.events]) == (None, None, [1])


def test_no_file_is_an_empty_stream(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none.jsonl") == EventStream()
    assert EventStream().last_evaluation == -1


def test_what_came_after_a_checkpoint_is_left_out_with_the_end() -> None:
    stream = EventStream(planned=PLANNED, events=EVENTS, actual=ACTUAL)
    assert stream.up_to(1) == EventStream(planned=PLANNED, events=EVENTS[:2])
    assert (stream.last_evaluation, stream.up_to(1).last_evaluation) == (2, 0)


def test_a_checkpoint_remembers_how_much_was_logged_before_it() -> None:
    stream = EventStream(planned=PLANNED, events=EVENTS, actual=ACTUAL)
    paused = Progress(run_key="k", step=2, num_events=3)  # before the evaluation of its step
    assert logged_before(stream, paused) == EventStream(planned=PLANNED, events=EVENTS[:3])
    assert logged_before(stream, Progress(run_key="k", step=1)) == stream.up_to(1)  # of an older version
    assert logged_before(stream, Progress(run_key="k", step=2, num_events=4, is_finished=True)) == stream


def test_the_last_epoch_that_was_kept() -> None:
    kept = replace(event(2), epoch_folder="epochs/step-0000002")
    assert EventStream(events=EVENTS).last_kept_epoch == 0
    assert EventStream(events=(*EVENTS, kept)).last_kept_epoch == 2
