import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.records import Answer, Example, FinishReason, Location, Message, Task, TaskKind, Usage
from fettle.scoring.corpus import MacroF1
from fettle.scoring.graders.groundedness import groundedness
from fettle.scoring.graders.house_style import HouseStyle
from fettle.scoring.graders.json_answer import JsonExact, JsonFields, JsonValid
from fettle.scoring.graders.text import chrf, rouge_l
from fettle.scoring.label_reader import LabelReader
from fettle.scoring.lengths import length_histogram
from fettle.scoring.registry import grader_by_name, grader_names
from fettle.scoring.style_rules import Feature, HasBetween, Measure, OpensWith, Shows

TASK = Task(kind=TaskKind.LABELS, reason="test", labels=("refund", "Lost card?", "c", "C++"))
STYLE = HouseStyle(rules=(OpensWith(("hello",)), HasBetween(Measure.WORDS, 1, 9), Shows(Feature.EXCLAMATION, False)))
GRADERS = [STYLE if name == "house_style" else grader_by_name(name, TASK, []) for name in grader_names()]
TEXTS = st.text(max_size=80)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


def exchange(wanted: str, answered: str) -> tuple[Example, Answer]:
    messages = (Message(role="user", content="hi"), Message(role="assistant", content=wanted))
    example = Example(id="e", messages=messages, source=Location(file="a", line=1))
    usage = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
    return example, Answer(example_id="e", text=answered, finish_reason=FinishReason.STOP, usage=usage)


@given(wanted=TEXTS, answered=TEXTS)
def test_every_score_is_in_bounds_or_has_a_reason(wanted: str, answered: str) -> None:
    for grader in GRADERS:
        score = grader.score(*exchange(wanted, answered))
        assert score.reason if score.value is None else 0.0 <= score.value <= 1.0
        assert not grader.is_binary or score.value in (0.0, 1.0, None)


@given(text=TEXTS)
def test_the_wanted_text_scores_one_wherever_it_can_be_judged(text: str) -> None:
    for grader in GRADERS:
        if grader.name not in ("house_style", "groundedness"):  # which do not compare with the wanted text
            assert grader.score(*exchange(text, text)).value in (1.0, None)


@given(answer=TEXTS, passages=st.lists(TEXTS, max_size=3), question=TEXTS)
def test_groundedness_lies_in_bounds_and_what_is_copied_is_grounded(
    answer: str, passages: list[str], question: str
) -> None:
    value = groundedness(answer, passages=passages, question=question)
    assert value is None or 0.0 <= value <= 1.0
    assert groundedness(answer, passages=[*passages, answer], question=question) in (1.0, None)
    more = groundedness(answer, passages=[*passages, "x"])
    less = groundedness(answer, passages=passages)
    assert (more is None) == (less is None)
    assert more is None or less is None or more >= less, "another passage takes nothing away"


@given(wanted=OBJECTS, answered=OBJECTS)
def test_all_fields_are_right_exactly_where_field_f1_is_one(wanted: dict, answered: dict) -> None:
    pair = exchange(json.dumps(wanted), json.dumps(answered))
    assert (JsonFields().score(*pair).value == 1.0) == (JsonExact().score(*pair).value == 1.0)


@given(value=OBJECTS, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_keys_and_of_lists_does_not_matter(value: dict, shuffle) -> None:
    def shuffled(inner):
        if isinstance(inner, dict):
            keys = sorted(inner)
            shuffle.shuffle(keys)
            return {key: shuffled(inner[key]) for key in keys}
        if isinstance(inner, list):
            inner = [shuffled(element) for element in inner]
            shuffle.shuffle(inner)
        return inner

    pair = exchange(json.dumps(value), json.dumps(shuffled(value)))
    assert JsonFields().score(*pair).value == 1.0
    assert JsonValid(json_schema=None).score(*pair).value == 1.0


@given(wanted=OBJECTS, answered=OBJECTS)
def test_field_f1_is_symmetric(wanted: dict, answered: dict) -> None:
    one_way = JsonFields().score(*exchange(json.dumps(wanted), json.dumps(answered))).value
    other_way = JsonFields().score(*exchange(json.dumps(answered), json.dumps(wanted))).value
    assert one_way == pytest.approx(other_way)


@given(one=TEXTS, other=TEXTS)
def test_likeness_is_one_for_equal_texts_and_rouge_is_symmetric(one: str, other: str) -> None:
    assert chrf(one, one) == 1.0
    assert rouge_l(one, one) == 1.0
    assert rouge_l(one, other) == rouge_l(other, one)


@given(labels=st.lists(st.text(max_size=5), min_size=1, max_size=6, unique=True))
def test_every_label_reads_as_itself(labels: list[str]) -> None:
    reader = LabelReader(labels)
    for label in labels:
        # Labels that differ in white space alone are one label to any reader; they are refused when the task is recognised.
        assert reader.read(label) in (label, None)
        assert reader.matches(label, label)


@given(pairs=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1))
def test_macro_f1_is_in_bounds_and_one_only_when_all_is_right(pairs: list[tuple[str, str]]) -> None:
    wanted, answered = [w for w, _ in pairs], [a for _, a in pairs]
    value = MacroF1(wanted, answered, ["a", "b", "c"]).value()
    assert 0.0 <= value <= 1.0
    assert (value == 1.0) == (wanted == answered)


@given(lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=40))
def test_the_histogram_loses_no_answer(lengths: list[int]) -> None:
    pairs = [exchange("w " * length, "w") for length in lengths]
    examples = [
        Example(id=str(number), messages=example.messages, source=example.source)
        for number, (example, _) in enumerate(pairs)
    ]
    histogram = length_histogram(examples, {})
    edges = histogram.bin_edges
    assert list(edges) == sorted(set(edges))
    expected = [sum(low <= length < high for length in lengths) for low, high in itertools.pairwise(edges)]
    assert list(histogram.counts_by_series["wanted"]) == expected
    assert sum(expected) == len(lengths)
