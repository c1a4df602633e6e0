"""What a test split can show, said before anything is answered: at check time, in the plan, and in the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fettle.errors import DataError
from fettle.examples.check import Part
from fettle.examples.split import given_split, split_examples
from fettle.records import Dataset, Split, Task
from fettle.report_records import DetectableDifference
from fettle.scoring.registry import default_graders
from fettle.statistics.detectable import detectable_difference
from fettle.study import figures

DEFAULT_SEED = 0
"""That of `fettle study`, where nobody names another."""


def power_of(split: Split, *, is_binary: bool, level: float = 0.95) -> DetectableDifference:
    """The smallest differences that the test part finds, and the examples that 5 and 3 points would take.

    Args:
        split: Its test part counts, with the clusters in it.
        is_binary: Answers are right or wrong by the grader that decides.
        level: Confidence level of the comparison: from the second look on it is higher, and finds less.
    """
    clusters = [split.cluster_by_id[example.id] for example in split.test]
    return detectable_difference(len(split.test), clusters, is_binary=is_binary, alpha=1 - level)


def expected_power(parts: Mapping[Part, Dataset], task: Task) -> DetectableDifference | None:
    """The same for the split that a study of these files would make, with the options that it has when none is given.

    Args:
        parts: The whole, or the user's own training, validation and test examples.
        task: What `recognise_task` said.

    Returns:
        None where a study would refuse the files: there are too few examples, or no test part beside a validation part.
    """
    try:
        split = _split(parts, task)
    except DataError:
        return None
    return None if split is None else power_of(split, is_binary=default_graders(task, split.train)[0].is_binary)


def power_lines(power: DetectableDifference) -> Iterator[tuple[str, str]]:
    """What is printed of it: titles and sentences."""
    of_scores = power.of_scores
    more = of_scores.num_examples_to_halve - of_scores.num_examples
    halved = f"; {figures.counted(more, 'more test example')} would halve that" if more > 0 else ""
    yield (
        "The test split",
        f"{figures.counted(of_scores.num_examples, 'example')} can show a difference of {_amount(of_scores.smallest_difference)} "
        f"or more, and a win rate of {figures.percent(power.smallest_win_rate)} or more ({figures.level_percent(of_scores.power)} "
        f"power, {figures.level_percent(of_scores.alpha)} two-sided, near-duplicates allowed for){halved}",
    )
    for needed in power.rows_needed:
        yield (
            f"To show {100 * needed.difference:g} points",
            f"{figures.counted(needed.num_for_scores, 'test example')}; "
            f"{figures.count(needed.num_for_win_rate)} for a win rate of {100 * (0.5 + needed.difference):g} %",
        )


def _split(parts: Mapping[Part, Dataset], task: Task) -> Split | None:
    if (whole := parts.get(Part.WHOLE)) is not None:
        return split_examples(whole.examples, task, seed=DEFAULT_SEED)
    if Part.TEST not in parts:
        return None
    valid = parts[Part.VALIDATION].examples if Part.VALIDATION in parts else None
    split, _ = given_split(parts[Part.TRAINING].examples, valid, parts[Part.TEST].examples, task, seed=DEFAULT_SEED)
    return split


def _amount(difference: float) -> str:
    return figures.points(difference).removeprefix("+")
