import json
from typing import Any

import pytest

from fettle.errors import ConfigError
from fettle.records import Answer, Example, FinishReason, Location, Message, Usage
from fettle.scoring.grader import score_answers
from fettle.scoring.graders.openai_json import OpenAIJson
from fettle.scoring.openai_grader import GraderErrors, GradingServices, Reply, TokenUsage
from fettle.scoring.openai_graders.registry import missing_item_variables, read_grader, require_services
from grading import SERVICES, NoRunner, ScriptedModel, attempt, grade, string_check

USAGE = TokenUsage(prompt_tokens=10, completion_tokens=3)
SCORE_MODEL = {
    "type": "score_model",
    "name": "judge it",
    "model": "judge",
    "input": [
        {"role": "system", "content": "Be strict."},
        {
            "role": "user",
            "type": "message",
            "content": [{"type": "input_text", "text": "{{item.q}}"}, "{{sample.output_text}}"],
        },
    ],
}
LABEL_MODEL = {
    "type": "label_model",
    "name": "label it",
    "model": "judge",
    "input": [{"role": "user", "content": {"type": "input_text", "text": "{{sample.output_text}}"}}],
    "labels": ["good", "fair", "bad"],
    "passing_labels": ["good", "fair"],
}


def said(result: Any) -> Reply:
    return Reply(text=json.dumps({"steps": [], "result": result}), usage=USAGE)


def services(*replies: Reply) -> GradingServices:
    return GradingServices(code_runner=NoRunner(), sampler=ScriptedModel(*replies))


class TestStringCheck:
    @pytest.mark.parametrize(
        ("operation", "text", "answer", "wanted"),
        [
            ("eq", "Rome", "Rome", 1),
            ("eq", "rome", "Rome", 0),
            ("eq", "Rome ", "Rome", 0),
            ("ne", "Rome", "Rome", 0),
            ("neq", "Rome", "Oslo", 1),
            ("like", "It is Rome.", "Rome", 1),
            ("like", "It is rome.", "Rome", 0),
            ("like", "Rome", "It is Rome.", 0),
            ("ilike", "It is rome.", "ROME", 1),
            ("ilike", "", "x", 0),
        ],
    )
    def test_operations(self, operation: str, text: str, answer: str, wanted: float) -> None:
        assert grade(string_check(operation=operation), text, answer=answer).reward == wanted

    def test_a_number_of_the_row_is_compared_as_json(self) -> None:
        assert grade(string_check(), "42", answer=42).reward == 1.0


def test_text_similarity_takes_the_measure_that_is_named() -> None:
    grader = {"type": "text_similarity", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
    assert (
        grade(grader | {"evaluation_metric": "rouge_l"}, "the cat sat down", answer="the cat lay down").reward == 0.75
    )
    with pytest.raises(ConfigError, match="'cosine' needs embeddings and is not supported yet"):
        grade(grader | {"evaluation_metric": "cosine"})


class TestMissingVariables:
    def test_a_missing_key_of_the_row_scores_0_with_its_flag(self) -> None:
        found = grade(string_check())
        assert (found.reward, found.problem) == (0.0, "item.answer is not there")
        assert found.errors == GraderErrors(invalid_variable_error=True)
        assert not found.is_fault_of_sample

    def test_output_json_of_what_is_no_json_is_the_samples_fault(self) -> None:
        found = grade(string_check(text="{{sample.output_json.a}}"), "no json", answer="1")
        assert found.errors == GraderErrors(invalid_variable_error=True, sample_parse_error=True)
        assert found.is_fault_of_sample

    def test_what_rows_lack_is_told_before_anything_is_graded(self) -> None:
        grader = read_grader(
            string_check(text="{{item.a}}{{sample.x}}", reference="{{item.b[0].c}}{{item.b}}{{item.a}}")
        )
        assert missing_item_variables(grader, {"b": [{"d": 1}]}) == ("item.a", "item.b[0].c")
        assert missing_item_variables(grader, {"a": None, "b": [{"c": 1}]}) == ()


MULTI = {
    "type": "multi",
    "graders": {
        "exact": string_check(),
        "near": {
            "type": "text_similarity", "input": "{{sample.output_text}}", "reference": "{{item.answer}}",
            "evaluation_metric": "fuzzy_match",
        },
    },
    "calculate_output": "0.75 * exact + 0.25 * near",
}  # fmt: skip


class TestMulti:
    def test_the_formula_of_the_rewards(self) -> None:
        found = grade(MULTI, "abcd", answer="abxd")
        assert found.sub_rewards == {"exact": 0.0, "near": 0.75}
        assert found.reward == 0.1875
        assert not found.errors.any

    def test_the_single_grader_of_the_official_document_goes_by_its_own_name(self) -> None:
        multi = {"type": "multi", "graders": string_check() | {"name": "same"}, "calculate_output": "2 * same"}
        assert grade(multi, "a", answer="a").reward == 2.0

    def test_a_grader_that_fails_counts_0_and_its_flag_stays(self) -> None:
        found = grade(MULTI | {"calculate_output": "exact + near + 0.5"}, "a")
        assert found.reward == 0.5
        assert found.errors == GraderErrors(invalid_variable_error=True)
        assert found.problem == "exact: item.answer is not there; near: item.answer is not there"

    def test_no_finite_value_scores_0_with_a_flag(self) -> None:
        found = grade(MULTI | {"calculate_output": "1 / exact"}, "a", answer="b")
        assert (found.reward, found.errors) == (0.0, GraderErrors(other_error=True))
        assert found.sub_rewards["exact"] == 0.0

    def test_tokens_of_models_are_added_up(self) -> None:
        multi = {"type": "multi", "graders": {"s": SCORE_MODEL, "l": LABEL_MODEL}, "calculate_output": "s + l"}
        found = grade(multi, "a", services=services(said(0.5), said("good")), q="?")
        assert found.reward == 1.5
        assert found.usage_by_model == {"judge": TokenUsage(prompt_tokens=20, completion_tokens=6)}


class TestScoreModel:
    def test_the_model_is_asked_with_filled_messages_and_a_schema(self) -> None:
        asked = services(said(0.25))
        params = {"seed": 3, "temperature": 0, "top_p": 0.5, "max_completions_tokens": 99, "reasoning_effort": "low"}
        found = grade(SCORE_MODEL | {"sampling_params": params}, "42", services=asked, q="6 * 7?")
        assert found.reward == 0.25
        assert (found.sampled_model_name, found.usage_by_model) == ("judge", {"judge": USAGE})
        assert isinstance(asked.sampler, ScriptedModel)
        (question,) = asked.sampler.questions
        assert [(message.role, message.content) for message in question.messages] == [
            ("system", "Be strict."),
            ("user", "6 * 7?\n42"),
        ]
        assert list(json.loads(question.json_schema)["properties"]) == ["steps", "result"]
        assert (question.params.seed, question.params.max_completion_tokens) == (3, 99)

    @pytest.mark.parametrize("key", ["max_completions_tokens", "max_completion_tokens"])
    def test_the_bound_of_tokens_has_two_spellings(self, key: str) -> None:
        asked = services(said(0.25))
        grade(SCORE_MODEL | {"sampling_params": {key: 99}}, "42", services=asked, q="6 * 7?")
        assert isinstance(asked.sampler, ScriptedModel)
        assert [question.params.max_completion_tokens for question in asked.sampler.questions] == [99]

    @pytest.mark.parametrize(("result", "wanted"), [(7, 5.0), (-7, 1.0), (2.5, 2.5), (10**400, 5.0), (-(10**400), 1.0)])
    def test_the_result_is_brought_into_the_range(self, result: float, wanted: float) -> None:
        assert grade(SCORE_MODEL | {"range": [1, 5]}, services=services(said(result)), q="").reward == wanted

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "0.5",
            "[]",
            "{}",
            '{"result": "0.5"}',
            '{"result": true}',
            '{"result": null}',
            '{"result": NaN}',
            '{"result": 1',
        ],
    )
    def test_what_is_no_number_scores_0_with_a_flag(self, text: str) -> None:
        found = grade(SCORE_MODEL, services=services(Reply(text=text)), q="")
        assert (found.reward, found.errors) == (0.0, GraderErrors(model_grader_parse_error=True))

    def test_a_model_that_does_not_answer_and_one_that_refuses_have_flags(self) -> None:
        silent = grade(SCORE_MODEL, services=services(Reply(text="", error="too long")), q="")
        details = GraderErrors(model_grader_server_error=True, model_grader_server_error_details="too long")
        assert silent.errors == details
        refused = grade(SCORE_MODEL, services=services(Reply(text="", is_refusal=True)), q="")
        assert refused.errors == GraderErrors(model_grader_refusal_error=True)

    def test_attempts_without_a_variable_are_not_asked_about_and_the_others_keep_their_places(self) -> None:
        grader = read_grader(SCORE_MODEL)
        asked = services(said(0.1), said(0.2))
        grades = grader.grade([attempt("a", q="1"), attempt("b"), attempt("c", q="3")], asked)
        assert [found.reward for found in grades] == [0.1, 0.0, 0.2]
        assert [found.errors.invalid_variable_error for found in grades] == [False, True, False]


class TestLabelModel:
    @pytest.mark.parametrize(("label", "wanted"), [("good", 1.0), ("fair", 1.0), ("bad", 0.0)])
    def test_some_labels_pass(self, label: str, wanted: float) -> None:
        found = grade(LABEL_MODEL, services=services(said(label)))
        assert (found.reward, found.errors.any) == (wanted, False)

    @pytest.mark.parametrize("result", ["Good", "", 1, None, ["good"], {"good": 1}])
    def test_another_label_is_a_parse_error(self, result: Any) -> None:
        assert grade(LABEL_MODEL, services=services(said(result))).errors == GraderErrors(model_grader_parse_error=True)


SIMILARITY = {"type": "text_similarity", "name": "t", "input": "", "reference": ""}
NESTED: Any = []
for _ in range(100_000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (None, "grader"),
        ([], "grader"),
        ({}, "grader.type"),
        ({"type": "strin_check"}, "grader.type"),
        ({"type": ["string_check"]}, "grader.type"),
        ({"type": {}}, "grader.type"),
        ({k: v for k, v in string_check().items() if k != "name"}, "grader.name"),
        (string_check() | {"operation": "regex"}, "grader.operation"),
        (string_check() | {"input": 5}, "grader.input"),
        (string_check() | {"inputs": "x"}, "grader.inputs"),
        (string_check() | {"pass_threshold": "1"}, "grader.pass_threshold"),
        (string_check() | {"pass_threshold": True}, "grader.pass_threshold"),
        (string_check() | {"pass_threshold": float("nan")}, "grader"),
        (string_check() | {"name": "\ud800"}, "grader"),
        (string_check() | {"name": NESTED}, "grader"),
        (string_check(reference="{{env.X}}"), "grader.reference"),
        (SIMILARITY | {"evaluation_metric": "bleurt"}, "grader.evaluation_metric"),
        ({"type": "python"}, "grader.source"),
        ({"type": "python", "source": "def grade(sample, item)\n  return 1"}, "grader.source"),
        ({"type": "python", "source": "def score(sample, item): return 1"}, "grader.source"),
        ({"type": "python", "source": "def grade(sample): return 1"}, "grader.source"),
        ({"type": "python", "source": "async def grade(sample, item): return 1"}, "grader.source"),
        ({"type": "python", "source": "def f():\n  def grade(s, i): return 1"}, "grader.source"),
        ({"type": "python", "source": "return 1"}, "grader.source"),
        ({"type": "python", "source": "def grade(s, i): return 1\n\x00"}, "grader.source"),
        ({"type": "python", "source": "def grade(s, i): return 1\n" + "#" * 256_000}, "grader.source"),
        ({"type": "python", "source": "-" * 200_000 + "1"}, "grader.source"),
        ({"type": "python", "source": "a" + ".b" * 80_000}, "grader.source"),
        (SCORE_MODEL | {"input": []}, "grader.input"),
        (SCORE_MODEL | {"input": "text"}, "grader.input"),
        (SCORE_MODEL | {"input": [{"role": "robot", "content": ""}]}, "grader.input[0].role"),
        (SCORE_MODEL | {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "grader.input[0].content"),
        (SCORE_MODEL | {"input": [{"role": "user", "content": "{{x}}"}]}, "grader.input[0].content"),
        (SCORE_MODEL | {"range": [1, 0]}, "grader.range"),
        (SCORE_MODEL | {"range": [1]}, "grader.range"),
        (SCORE_MODEL | {"sampling_params": {"temperature": 3}}, "grader.sampling_params.temperature"),
        (SCORE_MODEL | {"sampling_params": {"top_k": 3}}, "grader.sampling_params.top_k"),
        (SCORE_MODEL | {"model": ""}, "grader.model"),
        (LABEL_MODEL | {"passing_labels": ["great"]}, "grader.passing_labels"),
        (LABEL_MODEL | {"labels": []}, "grader.labels"),
        ({"type": "multi", "graders": {}, "calculate_output": "1"}, "grader.graders"),
        ({"type": "multi", "graders": {"a": string_check()}, "calculate_output": "b"}, "grader.calculate_output"),
        ({"type": "multi", "graders": {"a": string_check(operation="is")}, "calculate_output": "a"}, "grader.graders.a.operation"),
        ({"type": "multi", "graders": {"a": {"type": "multi"}}, "calculate_output": "a"}, "grader.graders.a.type"),
        ({"type": "multi", "graders": [string_check()], "calculate_output": "a"}, "grader.graders"),
        ({"type": "multi", "graders": {"a": 5}, "calculate_output": "a"}, "grader.graders.a"),
    ],
)  # fmt: skip
def test_what_is_no_grader_is_refused_with_its_place_in_the_json(value: Any, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_grader(value)
    assert caught.value.where == where
    assert caught.value.remedy


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\ndef grade(sample, item):\n    return 1",
        "def grade(sample, item, scale=2): return scale",
        "def grade(*args): return 1",
        "grade = lambda sample, item: 1",
        "if True:\n    def grade(sample, item): return 1",
        "try:\n    import x\nexcept ImportError:\n    def grade(sample, item): return 1",
        "from helpers import score as grade",
        "class grade:\n    def __new__(cls, sample, item): return 1",
    ],
)
def test_every_way_to_define_grade_is_seen(source: str) -> None:
    grader = read_grader({"type": "python", "source": source, "image_tag": "2025-05-08"})
    assert grader.name == "python"
    assert grader.runs_code


def test_names_may_be_left_out_where_published_examples_do() -> None:
    nameless = {key: value for key, value in string_check().items() if key != "name"}
    multi = read_grader({"type": "multi", "graders": {"a": nameless}, "calculate_output": "a", "pass_threshold": 0.5})
    assert (multi.name, multi.kind, multi.pass_threshold) == ("multi", "multi", 0.5)


class TestServices:
    def test_python_is_refused_without_a_sandbox_also_inside_a_multi(self) -> None:
        python = {"type": "python", "source": "def grade(s, i): return 1"}
        for grader in (python, {"type": "multi", "graders": {"p": python}, "calculate_output": "p"}):
            with pytest.raises(ConfigError, match="there is no bubblewrap in this test"):
                require_services(read_grader(grader), SERVICES)

    def test_where_it_is_not_refused_it_still_does_not_run(self) -> None:
        found = grade({"type": "python", "source": "def grade(s, i): return 1"})
        assert found.reward == 0.0
        assert found.errors.python_grader_server_error
        assert not found.errors.python_grader_runtime_error

    def test_an_unknown_model_is_refused_by_its_name(self) -> None:
        with pytest.raises(ConfigError, match="The model `other` does not exist"):
            require_services(read_grader(SCORE_MODEL | {"model": "other"}), services())
        require_services(read_grader(SCORE_MODEL), services())


class TestInAStudy:
    EXAMPLE = Example(
        id="e",
        messages=(Message(role="user", content="Capital of Italy?"), Message(role="assistant", content="Rome")),
        source=Location(file="a.jsonl", line=1),
    )

    def value(self, grader: dict, text: str) -> tuple[float | None, str | None]:
        usage = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
        answer = Answer(example_id="e", text=text, finish_reason=FinishReason.STOP, usage=usage)
        in_study = OpenAIJson(grader=read_grader(grader), services=SERVICES, name="check")
        (score,) = score_answers(in_study, [self.EXAMPLE], [answer])
        return score.value, score.reason

    def test_the_example_is_the_item(self) -> None:
        assert self.value(string_check(), "Rome") == (1.0, None)
        assert self.value(string_check(), "Oslo") == (0.0, None)
        everything = string_check(text="{{item.input}}{{item.messages[0].role}}", reference="Capital of Italy?user")
        assert self.value(everything, "") == (1.0, None)

    def test_what_cannot_be_graded_is_unscored(self) -> None:
        assert self.value(string_check(reference="{{item.other}}"), "Rome") == (None, "item.other is not there")

    def test_an_answer_without_what_the_grader_reads_is_wrong(self) -> None:
        assert self.value(string_check(text="{{sample.output_json.city}}"), "Rome") == (0.0, None)

    def test_a_reward_outside_0_to_1_is_unscored(self) -> None:
        multi = {"type": "multi", "graders": {"a": string_check()}, "calculate_output": "3 * a"}
        assert self.value(multi, "Rome") == (None, "the grader gave 3, and a study needs 0 to 1")
