from __future__ import annotations

from pathlib import Path

import pytest

from fettle.records import TokenisedExample
from fettle.training.epochs import keep_epoch
from fettle.training.evaluations import Evaluations
from fettle.training.settings import TrainingSettings

ROWS = tuple(
    TokenisedExample(example_id=str(number), token_ids=(1, 2), is_trained=(False, True)) for number in range(10)
)


def evaluations(*, num_rows: int = 10, **settings: int | bool | None) -> Evaluations:
    return Evaluations(
        valid_rows=ROWS[:num_rows],
        steps_per_epoch=4,
        settings=TrainingSettings(**settings),  # pyright: ignore[reportArgumentType]
    )


def due(of: Evaluations) -> list[int]:
    return [step for step in range(9) if of.is_due(step)]


def test_they_are_spread_over_each_epoch_and_come_before_the_first_step_if_wanted() -> None:
    assert due(evaluations(evals_per_epoch=2)) == [0, 2, 4, 6, 8]
    assert due(evaluations(evals_per_epoch=2, evaluates_untrained=False)) == [2, 4, 6, 8]
    assert due(evaluations(num_rows=0)) == []


def test_small_ones_have_the_same_rows_each_time_and_full_ones_all() -> None:
    small = evaluations(evals_per_epoch=4, quick_valid_rows=3)
    assert [small.is_full(step) for step in range(9)] == [True, False, False, False] * 2 + [True]
    assert len(small.rows(1)) == 3
    assert small.rows(1) == small.rows(2) == small.rows(7)
    assert set(small.rows(1)) < set(small.rows(4)) == set(ROWS)
    assert len({evaluations(quick_valid_rows=3, seed=seed).rows(1) for seed in range(20)}) > 10


@pytest.mark.parametrize("wanted", [None, 10, 11])
def test_where_all_rows_take_part_each_is_full(wanted: int | None) -> None:
    assert all(evaluations(quick_valid_rows=wanted).is_full(step) for step in range(9))
    assert evaluations(quick_valid_rows=wanted).rows(1) == ROWS


def write(place: Path) -> None:
    (place / "weights").write_text("new")


def test_epochs_written_again_leave_later_ones_until_it_is_their_turn(tmp_path: Path) -> None:
    names = [keep_epoch(tmp_path, step, write, num_kept=2) for step in (4, 8, 12)]
    assert names == [f"epochs/step-{step:07d}" for step in (4, 8, 12)]
    (tmp_path / names[1] / "weights").write_text("old")
    assert keep_epoch(tmp_path, 8, write, num_kept=2) == names[1]  # the run went on from an earlier checkpoint
    assert (tmp_path / names[1] / "weights").read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "epochs").iterdir()) == ["step-0000008", "step-0000012"]


def test_an_error_while_an_epoch_is_written_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(place: Path) -> None:
        (place / "weights").write_text("half")
        raise RuntimeError

    keep_epoch(tmp_path, 4, write, num_kept=2)
    with pytest.raises(RuntimeError):
        keep_epoch(tmp_path, 4, fail, num_kept=2)
    assert [path.name for path in (tmp_path / "epochs").iterdir()] == ["step-0000004"]
    assert (tmp_path / "epochs" / "step-0000004" / "weights").read_text() == "new"
