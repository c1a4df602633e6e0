import json

import pytest

from fettle.errors import ConfigError, IntegrityError
from fettle.records import Answer, Example, FinishReason, Location, Message, Score, Task, TaskKind, ToolCall, Usage
from fettle.scoring.grader import Grader, pair_answers, score_answers
from fettle.scoring.graders.label import ExactLabel, LikeliestLabel
from fettle.scoring.label_reader import LabelReader
from fettle.scoring.registry import default_graders, grader_by_name, grader_names

USAGE = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)


def example(
    wanted: str, id_: str = "e1", asked: str = "Where is it?", tool_calls: tuple[ToolCall, ...] = ()
) -> Example:
    messages = (Message(role="user", content=asked), Message(role="assistant", content=wanted, tool_calls=tool_calls))
    return Example(id=id_, messages=messages, source=Location(file="a.jsonl", line=1))


def answer(text: str, id_: str = "e1", likelihoods: dict[str, float] | None = None) -> Answer:
    return Answer(
        example_id=id_, text=text, finish_reason=FinishReason.STOP, usage=USAGE, choice_log_likelihoods=likelihoods
    )


def failed(id_: str = "e1") -> Answer:
    return Answer(example_id=id_, text="", finish_reason=FinishReason.ERROR, usage=USAGE, error="timed out")


TASKS = {kind: Task(kind=kind, reason="test", labels=("a", "b")) for kind in TaskKind}


@pytest.fixture(params=grader_names())
def grader(request: pytest.FixtureRequest) -> Grader:
    return grader_by_name(request.param, TASKS[TaskKind.LABELS], [example("a"), example("b", "e2")])


class TestEveryGrader:
    def test_a_failed_answer_is_unscored_with_the_reason(self, grader: Grader) -> None:
        score = grader.score(example("a"), failed())
        assert score.value is None
        assert "timed out" in (score.reason or "")

    def test_a_wanted_tool_call_is_unscored(self, grader: Grader) -> None:
        wanted = example("", tool_calls=(ToolCall(id="c", name="look_up", arguments="{}"),))
        assert grader.score(wanted, answer("")).value is None

    def test_goes_by_the_name_it_was_asked_for(self, grader: Grader) -> None:
        assert grader.name in grader_names()
        assert grader.title


def test_an_unknown_grader_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'json_fields'"):
        grader_by_name("json_field", TASKS[TaskKind.JSON], [])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (TaskKind.LABELS, ["exact_label"]),
        (TaskKind.JSON, ["json_fields", "json_exact", "json_valid"]),
        (TaskKind.TEXT, ["chrf", "rouge_l", "exact_text"]),
    ],
)
def test_default_graders_start_with_the_primary_one(kind: TaskKind, names: list[str]) -> None:
    assert [grader.name for grader in default_graders(TASKS[kind], [example("short answer")])] == names


def test_long_answers_get_no_exact_match() -> None:
    graders = default_graders(TASKS[TaskKind.TEXT], [example("six words are longer than five")])
    assert [grader.name for grader in graders] == ["chrf", "rouge_l"]


class TestScoreAnswers:
    grader = ExactLabel(reader=LabelReader(["a", "b"]))
    examples = (example("a", "e1"), example("b", "e2"))

    def test_follows_the_order_of_the_examples(self) -> None:
        scores = score_answers(self.grader, self.examples, [answer("x", "e2"), answer("a", "e1")])
        assert [(score.example_id, score.value) for score in scores] == [("e1", 1.0), ("e2", 0.0)]

    @pytest.mark.parametrize(
        ("ids", "problem"),
        [
            (["e1"], "1 of 2 examples have no answer, the first is 'e2'"),
            (["e1", "e2", "e2"], "used more than once"),
            (["e1", "e2", "e3"], "belong to no example"),
        ],
    )
    def test_refuses_other_than_one_answer_each(self, ids: list[str], problem: str) -> None:
        with pytest.raises(IntegrityError, match=problem):
            score_answers(self.grader, self.examples, [answer("a", id_) for id_ in ids])

    def test_refuses_examples_that_share_an_id(self) -> None:
        with pytest.raises(IntegrityError, match="of the examples have an id used more than once"):
            pair_answers([example("a"), example("b")], [answer("a")])

    @pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), None])
    def test_refuses_a_grader_that_breaks_its_promise(self, value: float | None) -> None:
        class Broken:
            name, title, is_binary = "broken", "Broken", False

            def score(self, example: Example, answer: Answer) -> Score:
                return Score(example_id=example.id, value=value)

        with pytest.raises(IntegrityError, match="grader broken"):
            score_answers(Broken(), self.examples[:1], [answer("a")])


class TestLabels:
    grader = ExactLabel(reader=LabelReader(["card_arrival", "Refund_not_showing_up", "reverted_card_payment?"]))

    @pytest.mark.parametrize(
        "text",
        ["card_arrival", " card_arrival\n", "Card_Arrival", '"card_arrival"', "**card_arrival**.", "`card_arrival`"],
    )
    def test_overlooks_the_dress(self, text: str) -> None:
        assert self.grader.score(example("card_arrival"), answer(text)).value == 1.0

    @pytest.mark.parametrize("text", ["", "Label: card_arrival", "card_arrival card_arrival", "card", "?"])
    def test_a_label_inside_something_else_is_wrong(self, text: str) -> None:
        assert self.grader.score(example("card_arrival"), answer(text)).value == 0.0

    def test_punctuation_that_belongs_to_the_label_may_be_missing(self) -> None:
        assert self.grader.score(example("reverted_card_payment?"), answer("reverted_card_payment")).value == 1.0

    def test_a_wanted_label_outside_the_set_can_still_be_met(self) -> None:
        assert self.grader.score(example("brand_new"), answer("Brand_new.")).value == 1.0
        assert self.grader.score(example("brand_new"), answer("card_arrival")).value == 0.0

    @pytest.mark.parametrize(
        ("wanted", "answered", "is_right"),
        [
            ("c", "C", True),
            ("c", "C++.", False),
            ("c++", "C++", True),
            ("c", "c++", False),
            ("+", "+", True),
            ("+", "-", False),
        ],
    )
    def test_labels_that_differ_in_punctuation_alone_stay_apart(
        self, wanted: str, answered: str, is_right: bool
    ) -> None:
        grader = ExactLabel(reader=LabelReader(["c", "c++", "+", "-"]))
        assert grader.score(example(wanted), answer(answered)).value == float(is_right)

    def test_labels_that_differ_in_case_alone_stay_apart(self) -> None:
        reader = LabelReader(["us", "Us"])
        assert (reader.read("us"), reader.read("Us"), reader.read("US")) == ("us", "Us", None)
        assert not reader.matches("us", "US")

    def test_the_likeliest_label_counts_whatever_was_written(self) -> None:
        grader = LikeliestLabel(reader=LabelReader(["a", "b"]))
        assert grader.score(example("a"), answer("nonsense", likelihoods={"a": -0.1, "b": -3.0})).value == 1.0
        assert grader.score(example("b"), answer("b", likelihoods={"a": -0.1, "b": -3.0})).value == 0.0

    def test_no_likelihoods_is_unscored(self) -> None:
        assert LikeliestLabel(reader=LabelReader(["a"])).score(example("a"), answer("a")).value is None


def json_score(name: str, wanted: str, answered: str, schema: dict[str, object] | None = None) -> float | None:
    task = Task(kind=TaskKind.JSON, reason="test", json_schema=json.dumps(schema) if schema else None)
    return grader_by_name(name, task, []).score(example(wanted), answer(answered)).value


class TestJson:
    @pytest.mark.parametrize(
        ("wanted", "answered", "f1"),
        [
            ('{"a": 1, "b": 2}', '{"b": 2.0, "a": 1}', 1.0),
            ('{"a": 1, "b": 2}', '{"a": 1, "b": 3}', 0.5),  # 1 right of 2 wanted and 2 answered
            ('{"a": 1, "b": 2}', '{"a": 1}', 2 / 3),
            ('{"a": 1, "b": null}', '{"a": 1}', 1.0),
            ('{"a": null}', "{}", 1.0),
            ('{"a": null}', '{"a": "made up"}', 0.0),
            ('{"a": " Bath  Spa "}', '{"a": "bath spa"}', 1.0),
            ('{"a": "1"}', '{"a": 1}', 0.0),
            ('{"a": 1}', '{"a": true}', 0.0),
            ('{"t": ["x", "y", "y"]}', '{"t": ["y", "x", "y"]}', 1.0),
            ('{"t": ["x", "y", "y"]}', '{"t": ["x", "y"]}', 0.8),  # 2 right of 3 wanted and 2 answered
            ('{"t": ["x"]}', '{"t": "x"}', 0.0),
            ('{"i": [{"n": "A", "p": 1}, {"n": "B", "p": 2}]}', '{"i": [{"n": "A", "p": 2}, {"n": "B", "p": 1}]}', 0.0),
            ('{"a": {"b": 1}}', '{"a.b": 1}', 0.0),
            ("[1, 2]", "[2, 1]", 1.0),
            ("[]", "{}", 0.0),
        ],
    )
    def test_field_f1_by_hand(self, wanted: str, answered: str, f1: float) -> None:
        assert json_score("json_fields", wanted, answered) == pytest.approx(f1)
        assert json_score("json_exact", wanted, answered) == float(f1 == 1.0)

    @pytest.mark.parametrize("answered", ["", "none", 'Sure: {"a": 1}', '{"a": 1', '{"a": NaN}', "[" * 100_000])
    def test_no_json_is_a_wrong_answer(self, answered: str) -> None:
        for name in ("json_fields", "json_exact", "json_valid"):
            assert json_score(name, '{"a": 1}', answered) == 0.0

    def test_a_fence_is_looked_into_but_not_valid(self) -> None:
        fenced = '```json\n{"a": 1}\n```'
        assert json_score("json_fields", '{"a": 1}', fenced) == 1.0
        assert json_score("json_exact", '{"a": 1}', fenced) == 1.0
        assert json_score("json_valid", '{"a": 1}', fenced) == 0.0

    @pytest.mark.parametrize("name", ["json_fields", "json_exact", "json_valid"])
    def test_a_wanted_answer_that_is_no_json_is_unscored(self, name: str) -> None:
        assert json_score(name, "lost parcel", '{"a": 1}') is None

    def test_valid_means_the_schema_too(self) -> None:
        schema: dict[str, object] = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
        assert json_score("json_valid", '{"a": 1}', '{"a": 2}', schema) == 1.0
        assert json_score("json_valid", '{"a": 1}', '{"a": "2"}', schema) == 0.0
        assert json_score("json_valid", '{"a": 1}', "{}", schema) == 0.0
        assert json_score("json_valid", '{"b": 1}', '{"a": 2}', schema) is None

    def test_deep_nesting_does_not_crash(self) -> None:
        deep = '{"a":' * 400 + "1" + "}" * 400
        assert json_score("json_fields", deep, deep) in (1.0, None)


class TestText:
    @pytest.mark.parametrize("name", ["chrf", "rouge_l", "exact_text"])
    def test_bounds_at_both_ends(self, name: str) -> None:
        grader = grader_by_name(name, TASKS[TaskKind.TEXT], [])
        assert grader.score(example("Hello Ann"), answer("Hello Ann")).value == 1.0
        assert grader.score(example("Hello Ann"), answer("")).value == 0.0
        assert grader.score(example(""), answer("")).value == 1.0
        assert grader.score(example("!!!"), answer("???")).value == 0.0

    def test_exact_text_overlooks_line_endings_and_the_ends(self) -> None:
        grader = grader_by_name("exact_text", TASKS[TaskKind.TEXT], [])
        assert grader.score(example("a\r\nb"), answer("a\nb \n")).value == 1.0
        assert grader.score(example("a b"), answer("A b")).value == 0.0
