import pytest

from fettle.statistics.learning_curve import learning_curve
from fettle.tuning_records import CurveOutcome


def right(num_right: int, num_rows: int = 200) -> list[float]:
    """Every model gets the easiest rows right."""
    return [1.0] * num_right + [0.0] * (num_rows - num_right)


def test_a_rising_curve_is_told_in_points() -> None:
    curve = learning_curve([(400, right(160)), (100, right(100)), (200, right(134))], range(200), seed=1)
    assert [point.num_examples for point in curve.points] == [100, 200, 400]
    assert curve.points[2].score.estimate == 0.8
    assert curve.outcome is CurveOutcome.MORE_HELPS
    assert curve.gain is not None
    assert 0.01 < curve.gain.low < curve.gain.estimate < curve.gain.high < 0.12
    assert curve.sentence == (
        f"Twice the examples would probably bring {100 * curve.gain.estimate:+.1f} points "
        f"({100 * curve.gain.low:.1f} to {100 * curve.gain.high:.1f})."
    )
    assert curve.reason == ""


def test_the_same_seed_gives_the_same_curve() -> None:
    given = [(100, right(100)), (200, right(134)), (400, right(160))]
    assert learning_curve(given, range(200), seed=3) == learning_curve(given, range(200), seed=3)


def test_few_rows_that_hardly_differ_cannot_say() -> None:
    curve = learning_curve([(50, right(20, 30)), (100, right(21, 30)), (200, right(21, 30))], range(30), seed=1)
    assert curve.outcome is CurveOutcome.CANNOT_SAY
    assert curve.gain is not None
    assert "anything from nothing to" in curve.sentence


def test_a_curve_at_its_end_brings_little() -> None:
    curve = learning_curve(
        [(100, right(1994, 2000)), (200, right(1996, 2000)), (400, right(1996, 2000))],
        range(2000),
        seed=1,
        run_sd=0.001,
    )
    assert curve.outcome is CurveOutcome.MORE_BRINGS_LITTLE
    assert curve.sentence.startswith("Twice the examples would bring at most 0.")


@pytest.mark.parametrize("num_right", [0, 500])
def test_nothing_is_said_where_all_rows_have_one_score(num_right: int) -> None:
    """All wrong with 100, 200 and 400 examples does not say that more would bring little."""
    curve = learning_curve([(size, right(num_right, 500)) for size in (100, 200, 400)], range(500), seed=1)
    assert curve.outcome is CurveOutcome.CANNOT_SAY
    assert "all test answers have one score" in curve.sentence


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [((100, 400), "it takes 3 training sizes"), ((300, 350, 400), "less than 2 times the smallest")],
)
def test_too_few_or_too_similar_sizes_cannot_say(sizes: tuple[int, ...], reason: str) -> None:
    curve = learning_curve([(size, right(100)) for size in sizes], range(200), seed=1)
    assert (curve.outcome, curve.gain) == (CurveOutcome.CANNOT_SAY, None)
    assert reason in curve.reason
    assert reason in curve.sentence


def test_a_model_that_got_worse_with_more_is_no_curve() -> None:
    curve = learning_curve([(100, right(150)), (200, right(160)), (400, right(110))], range(200), seed=1)
    assert curve.outcome is CurveOutcome.CANNOT_SAY
    assert curve.reason == "the model of 400 examples is surely worse than that of 100"


def test_one_group_of_rows_cannot_say() -> None:
    curve = learning_curve([(size, right(100)) for size in (100, 200, 400)], [7] * 200, seed=1)
    assert "1 independent test examples are too few" in curve.reason


def test_fewer_than_thirty_independent_rows_cannot_say() -> None:
    curve = learning_curve([(100, right(10, 58)), (200, right(20, 58)), (400, right(30, 58))], [*range(29)] * 2, seed=1)
    assert curve.outcome is CurveOutcome.CANNOT_SAY
    assert "29 independent test examples are too few for it; it takes 30" in curve.reason


def test_rows_that_could_not_be_scored_are_left_out_and_counted() -> None:
    full = [(100, right(100)), (200, right(134)), (400, right(160))]
    with_gap = [
        (size, [None if row == 199 and size == 200 else score for row, score in enumerate(scores)])
        for size, scores in full
    ]
    curve = learning_curve(with_gap, range(200), seed=1)
    assert curve.num_unscored == 1
    assert curve.points[2].score.estimate == pytest.approx(160 / 199)


def test_impossible_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="same examples"):
        learning_curve([(100, [1.0])], range(2), seed=1)
    with pytest.raises(ValueError, match="given once"):
        learning_curve([(100, [1.0]), (100, [1.0])], range(1), seed=1)
    with pytest.raises(ValueError, match="positive"):
        learning_curve([(0, [1.0])], range(1), seed=1)
    with pytest.raises(ValueError, match="no test example"):
        learning_curve([(100, [None])], range(1), seed=1)
    with pytest.raises(ValueError, match="outside"):
        learning_curve([(100, [2.0])], range(1), seed=1)
