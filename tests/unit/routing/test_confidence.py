"""How far an answer can be trusted, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fettle.records import Answer, FinishReason, TokenLogProb, Usage
from fettle.routing.confidence import Measure, confidence, confidences, self_consistency
from fettle.scoring.graders.text import chrf

USAGE = Usage(prompt_tokens=1, completion_tokens=1, seconds=0.1)
LABELLED = Answer(
    example_id="a",
    text="billing",
    finish_reason=FinishReason.STOP,
    usage=USAGE,
    choice_log_likelihoods={"billing": math.log(0.3), "delivery": math.log(0.1), "other": math.log(0.1)},
)
WRITTEN = Answer(
    example_id="b",
    text="On its way.",
    finish_reason=FinishReason.STOP,
    usage=USAGE,
    log_probs=(TokenLogProb(token_id=1, log_prob=-0.1), TokenLogProb(token_id=2, log_prob=-0.5)),
)
FAILED = Answer(example_id="c", text="", finish_reason=FinishReason.ERROR, usage=USAGE, error="refused")


def test_a_label_is_trusted_for_its_lead_and_for_its_share() -> None:
    assert confidence(Measure.LABEL_MARGIN, LABELLED) == pytest.approx(math.log(3))
    assert confidence(Measure.LABEL_PROBABILITY, LABELLED) == pytest.approx(0.6)


def test_a_label_that_was_read_in_another_way_than_the_likeliest_has_a_margin_below_zero() -> None:
    assert confidence(Measure.LABEL_MARGIN, replace(LABELLED, text="other")) == pytest.approx(-math.log(3))


def test_a_long_answer_is_not_distrusted_for_its_length() -> None:
    assert confidence(Measure.TOKEN_LOG_PROBABILITY, WRITTEN) == pytest.approx(-0.3)
    longer = replace(WRITTEN, log_probs=(WRITTEN.log_probs or ()) * 5)
    assert confidence(Measure.TOKEN_LOG_PROBABILITY, longer) == pytest.approx(-0.3)


def test_what_an_answer_does_not_carry_is_not_made_up() -> None:
    assert confidence(Measure.TOKEN_LOG_PROBABILITY, LABELLED) is None
    assert confidence(Measure.LABEL_MARGIN, WRITTEN) is None
    assert confidence(Measure.LABEL_MARGIN, replace(LABELLED, choice_log_likelihoods={"billing": -1.0})) is None
    assert confidence(Measure.LABEL_PROBABILITY, replace(LABELLED, text="no label")) is None
    with pytest.raises(ValueError, match="an answer alone"):
        confidence(Measure.FORESEEN, LABELLED)


def test_a_failed_request_is_never_trusted_and_does_not_rule_a_measure_out() -> None:
    assert confidence(Measure.LABEL_MARGIN, FAILED) == -math.inf
    found = confidences([LABELLED, FAILED])
    assert set(found) == {Measure.LABEL_MARGIN, Measure.LABEL_PROBABILITY}
    assert found[Measure.LABEL_PROBABILITY].tolist() == [pytest.approx(0.6), -math.inf]
    assert confidences([FAILED]) == {}


def test_a_measure_that_one_answer_lacks_is_left_out() -> None:
    assert confidences([LABELLED, WRITTEN]) == {}
    assert list(confidences([WRITTEN, WRITTEN])) == [Measure.TOKEN_LOG_PROBABILITY]


def test_sampled_answers_agree_in_what_they_say() -> None:
    answer = replace(WRITTEN, text='{"a": 1, "b": 2}')
    samples = [replace(WRITTEN, text=text) for text in ('{"b":2,"a":1}', '{"a": 1}', ' {"a": 1, "b": 2}')] + [FAILED]
    assert self_consistency(answer, samples, is_json=True) == 0.5
    assert self_consistency(answer, [], is_json=False) is None
    assert self_consistency(FAILED, samples, is_json=True) == -math.inf


def test_sampled_texts_agree_as_far_as_they_are_alike() -> None:
    answer = replace(WRITTEN, text="Your parcel comes tomorrow.")
    samples = [replace(WRITTEN, text=text) for text in ("Your parcel comes  tomorrow.", "No idea, ask Ann")]
    unlike = chrf(answer.text, samples[1].text)
    assert 0 < unlike < 0.2
    assert self_consistency(answer, [*samples, FAILED], is_json=False) == pytest.approx((1 + unlike) / 3)
