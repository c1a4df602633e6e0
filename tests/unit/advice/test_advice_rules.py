from __future__ import annotations

import pytest

from advised import advised, count, measured, points, rate, texts
from fettle.advice.first import Wishes, next_commands
from fettle.advice.measured import Measured
from fettle.advice.mend import before_anything
from fettle.advice.questions import Answers, Said
from fettle.advice_records import Advised, Measurement, NextStep, Reason, Rung, RungAdvice, Unit
from fettle.records import TaskKind

YES, NO = Said.YES, Said.NO
WANTED = (Advised.TRY, Advised.TRY_FIRST)


def test_a_reason_without_anything_that_it_rests_on_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="something measured or said"):
        Reason(text="Because.", rests_on=())
    with pytest.raises(ValueError, match="no reason"):
        RungAdvice(rung=Rung.TUNED, advised=Advised.TRY, reasons=())
    with pytest.raises(ValueError, match="no reason"):
        NextStep(title="Do it", reasons=())
    with pytest.raises(ValueError, match="no value in words"):
        Measurement(name="n", title="n", value=1.0, unit=Unit.WORDS, how="")


def test_a_classifier_that_tells_labels_apart_is_tried_first() -> None:
    found = advised(measured())
    assert found[Rung.CLASSIFIER].advised is Advised.TRY_FIRST
    assert found[Rung.PROMPT].advised is Advised.TRY
    assert [one.name for one in found[Rung.CLASSIFIER].reasons[0].rests_on if isinstance(one, Measurement)] == [
        "classifier",
        "constant",
    ]


def test_a_classifier_that_learns_nothing_is_skipped_and_the_prompt_comes_first() -> None:
    found = advised(measured(classifier=rate("classifier", 0.26)))
    assert found[Rung.CLASSIFIER].advised is Advised.SKIP
    assert found[Rung.PROMPT].advised is Advised.TRY_FIRST


def test_a_classifier_that_is_mostly_wrong_is_not_tried_first() -> None:
    found = advised(measured(classifier=rate("classifier", 0.4), examples_per_label=count("examples_per_label", 2)))
    assert found[Rung.CLASSIFIER].advised is Advised.TRY
    assert [reason.rests_on[0].name for reason in found[Rung.CLASSIFIER].against] == ["examples_per_label"]
    assert found[Rung.PROMPT].advised is Advised.TRY_FIRST
    assert found[Rung.TUNED].advised is Advised.NOT_YET


def test_only_labels_have_a_classifier() -> None:
    assert Rung.CLASSIFIER not in advised(texts())
    assert advised(texts())[Rung.PROMPT].advised is Advised.TRY_FIRST


def test_what_a_classifier_leaves_must_be_more_than_the_test_split_can_show() -> None:
    strong = measured(classifier=rate("classifier", 0.95))  # 8 points are left at most
    assert advised(strong)[Rung.TUNED].advised is Advised.SKIP
    many_tests = measured(classifier=rate("classifier", 0.95), detectable=points("detectable", 0.03))
    assert advised(many_tests)[Rung.TUNED].advised is Advised.TRY


@pytest.mark.parametrize(
    "changes",
    [
        {"num_train": count("num_train", 40)},
        {"examples_per_label": count("examples_per_label", 3)},
        {"conflicts": rate("conflicts", 0.2)},
        {"probable_wrong_labels": rate("probable_wrong_labels", 0.3)},
        {"consistency": rate("consistency", 0.5)},
        {"detectable": points("detectable", 0.3)},
    ],
)
def test_tuning_waits_for_data_that_can_be_learned_and_tested(changes: dict[str, Measurement]) -> None:
    found = advised(measured(**changes))[Rung.TUNED]
    assert found.advised is Advised.NOT_YET
    [name] = changes
    assert name in [one.name for one in found.reasons[0].rests_on]


def test_replies_that_differ_are_no_contradiction() -> None:
    assert advised(texts(consistency=rate("consistency", 0.5)))[Rung.TUNED].advised is Advised.TRY


def test_facts_that_change_belong_in_documents() -> None:
    documents = texts(has_documents=True, documents_found=rate("documents_found", 0.9))
    changing = Answers(knowledge_changes=YES)
    assert advised(texts())[Rung.TUNED].advised is Advised.TRY
    assert advised(texts(), changing)[Rung.TUNED].advised is Advised.SKIP
    assert advised(texts(), changing)[Rung.RETRIEVAL].advised is Advised.NOT_YET
    found = advised(documents, changing)
    assert found[Rung.RETRIEVAL].advised is Advised.TRY_FIRST
    assert found[Rung.TUNED].advised is Advised.SKIP
    both = Answers(knowledge_changes=YES, format_is_the_problem=YES)
    assert advised(documents, both)[Rung.TUNED].advised is Advised.TRY
    assert advised(documents, both)[Rung.TUNED_RETRIEVAL].advised is Advised.TRY


def test_documents_without_the_answers_are_not_searched() -> None:
    empty = texts(has_documents=True, answers_in_documents=rate("answers_in_documents", 0.05))
    found = advised(empty, Answers(knowledge_changes=YES))
    assert found[Rung.RETRIEVAL].advised is Advised.SKIP
    assert [reason.rests_on[0].name for reason in found[Rung.RETRIEVAL].against] == ["knowledge_changes"]
    assert found[Rung.TUNED_RETRIEVAL].advised is Advised.SKIP


def test_documents_that_were_made_of_the_examples_are_told() -> None:
    told = Measurement(name="told_in_documents", title="told", value="90 of 100", unit=Unit.WORDS, how="")
    found = advised(texts(has_documents=True, told_in_documents=told, documents_found=rate("documents_found", 0.99)))
    assert found[Rung.RETRIEVAL].advised is Advised.NOT_YET


def test_a_slow_machine_stops_language_models_alone() -> None:
    found = advised(measured(), Answers(latency_seconds=0.1))
    slow = {rung for rung, one in found.items() if one.advised is Advised.NOT_YET}
    assert slow == {Rung.PROMPT, Rung.FEW_SHOT, Rung.TUNED, Rung.LARGE}
    assert found[Rung.CLASSIFIER].advised is Advised.TRY_FIRST
    assert advised(measured(), Answers(latency_seconds=1))[Rung.TUNED].advised is Advised.TRY


def test_a_prompt_without_room_shows_no_examples() -> None:
    assert advised(measured(context=count("context", 300)))[Rung.FEW_SHOT].advised is Advised.SKIP


def test_tuning_that_cannot_pay_is_skipped() -> None:
    needed = points("points_to_pay", 0.4)  # at most 33 points are left above the classifier
    assert advised(measured(points_to_pay=needed))[Rung.TUNED].advised is Advised.SKIP
    assert advised(measured(points_to_pay=points("points_to_pay", 0.02)))[Rung.TUNED].advised is Advised.TRY


def test_the_large_model_depends_on_leave_and_on_traffic() -> None:
    def large(answers: Answers, **changes: object) -> Advised:
        return advised(texts(**changes), answers)[Rung.LARGE].advised

    needed = Measurement(name="traffic", title="traffic", value=5000.0, unit=Unit.REQUESTS_PER_DAY, how="")
    never = Measurement(name="traffic", title="traffic", value="no number of requests", unit=Unit.WORDS, how="")
    assert large(Answers()) is Advised.NOT_YET
    assert large(Answers(large_model=NO), traffic_for_hosting=needed) is Advised.SKIP
    assert large(Answers(large_model=YES)) is Advised.TRY
    assert large(Answers(large_model=YES), traffic_for_hosting=needed) is Advised.TRY_FIRST
    assert large(Answers(large_model=YES), traffic_for_hosting=never) is Advised.TRY_FIRST
    reached = {"traffic_for_hosting": needed, "traffic_for_hosting_is_reached": True}
    assert large(Answers(large_model=YES), **reached) is Advised.TRY


def test_at_most_one_rung_is_tried_first() -> None:
    needed = Measurement(name="traffic", title="traffic", value=5000.0, unit=Unit.REQUESTS_PER_DAY, how="")
    found = advised(
        measured(has_documents=True, documents_found=rate("documents_found", 0.9), traffic_for_hosting=needed),
        Answers(knowledge_changes=YES, large_model=YES),
    )
    assert [rung for rung, one in found.items() if one.advised is Advised.TRY_FIRST] == [Rung.CLASSIFIER]
    assert found[Rung.RETRIEVAL].advised is found[Rung.LARGE].advised is Advised.TRY


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (measured(), {"detectable"}),
        (measured(detectable=points("detectable", 0.02)), set()),
        (measured(leaks=count("leaks", 3)), {"leaks", "detectable"}),
        (measured(personal_data=rate("personal_data", 0.3)), {"personal_data", "detectable"}),
        (measured(near_duplicates=rate("near_duplicates", 0.4)), {"near_duplicates", "detectable"}),
        (measured(too_long=count("too_long", 2)), {"too_long", "detectable"}),
        (measured(consistency=rate("consistency", 0.8)), {"consistency", "detectable"}),
        (measured(task=TaskKind.JSON, not_json=rate("not_json", 0.02)), {"not_json", "detectable"}),
    ],
)
def test_what_is_to_be_mended_first(found: Measured, named: set[str]) -> None:
    assert {reason.rests_on[0].name for reason in before_anything(found)} == named


@pytest.mark.parametrize(
    ("is_said", "words"), [(True, "At your traffic a"), (False, "At the traffic that is assumed a")]
)
def test_traffic_that_nobody_has_told_is_not_called_yours(is_said: bool, words: str) -> None:
    needed = Measurement(name="traffic", title="traffic", value=5000.0, unit=Unit.REQUESTS_PER_DAY, how="")
    said = Answers(large_model=YES, **({"requests_per_day": 300.0} if is_said else {}))
    found = advised(texts(traffic_for_hosting=needed), said)[Rung.LARGE]
    assert any(one.text.startswith(words) for one in found.reasons)


def test_commands_bring_along_what_was_given_and_what_each_knows() -> None:
    given = ("tickets.csv", "--input", "text", "--price-per-hour", "0.4")
    contradictory = measured(conflicts=rate("conflicts", 0.2))
    commands = next_commands(contradictory, tuple(advised(contradictory).values()), Wishes(data_words=given), None)
    check, *studies = (one.words for one in commands)
    assert check == ("fettle", "check", "tickets.csv", "--input", "text")
    assert studies
    assert all(words[:7] == ("fettle", "study", *given) for words in studies)
