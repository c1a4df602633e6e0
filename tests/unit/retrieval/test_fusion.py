"""What the fusion of two rankings is for: numbers are found by their digits, paraphrases by their meaning."""

from __future__ import annotations

import pytest

from fettle.retrieval.fusion import fuse
from fettle.retrieval.records import Ranked

NEAREST = [Ranked(1, 0.62), Ranked(2, 0.60), Ranked(3, 0.55), Ranked(4, 0.20)]


def keys(ranking: list[Ranked]) -> list[int]:
    return [ranked.key for ranked in ranking]


def test_the_one_passage_with_all_words_of_the_question_comes_first_however_far_its_meaning() -> None:
    assert keys(fuse(NEAREST, [Ranked(9, 14.0), Ranked(2, 3.0), Ranked(3, 2.9)], 1.0))[0] == 9


def test_a_passage_with_few_of_the_questions_words_comes_after_the_nearest() -> None:
    assert keys(fuse(NEAREST, [Ranked(9, 14.0), Ranked(2, 13.0), Ranked(1, 12.0)], 0.2))[:2] == [1, 2]


def test_where_all_are_equally_near_words_decide() -> None:
    equal = [Ranked(1, 0.8), Ranked(2, 0.7999), Ranked(3, 0.7998)]
    assert keys(fuse(equal, [Ranked(3, 9.0), Ranked(2, 2.0), Ranked(1, 1.0)], 0.4)) == [3, 2, 1]


def test_how_far_the_first_is_ahead_counts_beside_its_rank() -> None:
    by_words = [Ranked(2, 9.0), Ranked(1, 8.9)]
    assert keys(fuse([Ranked(1, 0.9), Ranked(2, 0.4), Ranked(3, 0.3)], by_words, 0.5))[0] == 1
    assert keys(fuse([Ranked(1, 0.9), Ranked(2, 0.89), Ranked(3, 0.3)], [Ranked(2, 9.0), Ranked(1, 2.0)], 0.5))[0] == 2


def test_scores_are_those_of_the_formula() -> None:
    fused = {
        one.key: one.score for one in fuse([Ranked(1, 0.8), Ranked(2, 0.3)], [Ranked(2, 4.0), Ranked(3, 1.0)], 0.5)
    }
    # weights of one half each; lowest similarity 0.3; ranks 11/11 and 11/12
    assert fused == {
        1: pytest.approx(0.5 * 1),
        2: pytest.approx(0.5 * 0.25 * 11 / 12 + 0.5 * 1),
        3: pytest.approx(0.5 * (0.75 * 0.25 + 0.25 * 11 / 12)),
    }


def test_nothing_is_made_of_nothing() -> None:
    assert fuse([], [], 0.0) == []
    assert keys(fuse(NEAREST, [], 0.0)) == [1, 2, 3, 4]
    assert keys(fuse([], [Ranked(9, 1.0)], 1.0)) == [9]
