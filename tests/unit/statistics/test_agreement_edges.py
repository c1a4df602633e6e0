import pytest

from fettle.statistics.agreement import JudgeAgreement, agreement_with_people, krippendorff_alpha


def test_votes_that_could_not_have_differed_have_no_alpha() -> None:
    assert krippendorff_alpha([["first", "first"], ["first", None]], range(2)) is None
    assert krippendorff_alpha([["first", None], ["second"]], range(2)) is None
    assert krippendorff_alpha([], []) is None


def test_agreement_in_all_of_a_few_votes_is_no_proof() -> None:
    votes = [["first", "first"], ["second", "second"], ["tie", "tie"]] * 5
    alpha = krippendorff_alpha(votes, range(15))
    assert alpha is not None
    assert (alpha.estimate, alpha.high) == (1.0, 1.0)
    assert 0.5 < alpha.low < 0.95


def test_examples_with_one_vote_change_nothing() -> None:
    votes = [["first", "second"], ["second", "second"], ["tie", "first"], ["first", "first"]] * 5
    alone = krippendorff_alpha(votes, range(20))
    assert krippendorff_alpha([*votes, ["tie", None], [None, None]], range(22)) == alone


def test_copies_know_no_more_than_one() -> None:
    votes = [["first", "second"], ["second", "second"], ["tie", "first"], ["first", "first"]] * 5
    single = krippendorff_alpha(votes, range(20))
    copied = krippendorff_alpha([row for row in votes for _ in range(4)], [row for row in range(20) for _ in range(4)])
    assert single is not None
    assert copied is not None
    assert copied.high - copied.low == pytest.approx(single.high - single.low, rel=0.1)


PEOPLE = [["first"], ["second"], ["tie"], ["first"], ["second"]] * 20


def test_a_judge_that_always_prefers_the_first_is_no_better_than_chance() -> None:
    result = agreement_with_people(["first"] * 100, PEOPLE, range(100))
    assert result is not None
    assert result.decision is JudgeAgreement.NO_BETTER_THAN_CHANCE
    assert result.kappa.estimate == pytest.approx(0)
    assert result.share_agreed == 0.4


def test_a_judge_that_agrees_is_better_than_chance() -> None:
    result = agreement_with_people([vote for (vote,) in PEOPLE], PEOPLE, range(100))
    assert result is not None
    assert result.decision is JudgeAgreement.BETTER_THAN_CHANCE
    assert result.num_more_examples is None
    assert (result.kappa.estimate, result.share_agreed) == (pytest.approx(1.0), 1.0)


def test_a_judge_that_says_the_opposite_is_no_better_than_chance() -> None:
    swapped = {"first": "second", "second": "first", "tie": "tie"}
    result = agreement_with_people([swapped[vote] for (vote,) in PEOPLE], PEOPLE, range(100))
    assert result is not None
    assert result.decision is JudgeAgreement.NO_BETTER_THAN_CHANCE


def test_few_votes_do_not_decide_and_say_how_many_would() -> None:
    result = agreement_with_people(["first", "second"] * 4, [["first"], ["second"]] * 4, range(8))
    assert result is not None
    assert result.decision is JudgeAgreement.CANNOT_TELL
    assert result.num_more_examples is not None
    assert result.num_more_examples >= 2
    one_group = agreement_with_people([vote for (vote,) in PEOPLE], PEOPLE, [0] * 100)
    assert one_group is not None
    assert (one_group.decision, one_group.num_more_examples) == (JudgeAgreement.CANNOT_TELL, None)


def test_votes_of_one_category_decide_nothing() -> None:
    result = agreement_with_people(["tie"] * 50, [["tie"]] * 50, range(50))
    assert result is not None
    assert result.decision is JudgeAgreement.CANNOT_TELL


def test_several_people_count_as_far_as_the_judge_votes_like_them() -> None:
    result = agreement_with_people(["first", "tie"], [["first", "second", None], ["tie"]], range(2))
    assert result is not None
    assert result.share_agreed == 0.75


def test_missing_votes_are_left_out() -> None:
    assert agreement_with_people([None, "first"], [["first"], [None]], range(2)) is None
    result = agreement_with_people([None, "first"], [["first"], ["first"]], range(2))
    assert result is not None
    assert result.num_examples == 1


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 judge votes"):
        agreement_with_people(["first", "tie"], [["first"]], range(2))
    with pytest.raises(ValueError, match="1 examples"):
        krippendorff_alpha([["first", "tie"]], range(2))
