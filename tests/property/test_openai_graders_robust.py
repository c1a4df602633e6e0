import json
import math
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from fettle.errors import FettleError
from fettle.scoring.openai_graders.formula import FormulaResultError, parse_formula
from fettle.scoring.openai_graders.registry import read_grader
from fettle.scoring.openai_graders.template import parse_template
from fettle.scoring.openai_graders.text_metrics import METRICS
from fettle.scoring.sandbox.source import parse_source, why_no_grade
from grading import SERVICES, attempt, string_check

TEXTS = st.text(max_size=60) | st.text(alphabet="ab .,", max_size=40)
KINDS = ("string_check", "text_similarity", "python", "multi", "score_model", "label_model", "strin_check")
KEYS = (
    "type", "name", "input", "reference", "operation", "evaluation_metric", "source", "graders", "calculate_output", "model",
    "labels", "passing_labels", "range", "sampling_params", "pass_threshold", "image_tag", "role", "content", "text", "seed",
)  # fmt: skip
WORDS = (
    "eq", "like", "bleu", "rouge_l", "user", "input_text", "{{item.a}}", "{{sample.output_json.a}}", "{{", "a + b", "-a ^ 2 / 0",
    "def grade(sample, item): return 1", "message", "judge",
)  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(WORDS + KINDS)
    | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from((*KEYS, "a", "b")) | st.text(max_size=3), inner, max_size=8)
    ),
    max_leaves=25,
)
WHOLE = {
    "multi": {"graders": {"a": string_check(), "b": string_check()}, "calculate_output": "a + b"},
    "string_check": string_check(),
    "text_similarity": {"name": "t", "input": "{{item.a}}", "reference": "b", "evaluation_metric": "bleu"},
    "python": {"source": "def grade(sample, item): return 1"},
    "score_model": {"name": "s", "model": "judge", "input": [{"role": "user", "content": "{{item.a}}"}], "range": [0, 2]},
    "label_model": {"name": "l", "model": "judge", "input": [{"role": "user", "content": "x"}], "labels": ["a"],
                    "passing_labels": ["a"]},
}  # fmt: skip


@given(value=VALUES)
def test_any_json_is_a_grader_or_a_clean_refusal(value) -> None:
    accepts_or_refuses(value)


@given(kind=st.sampled_from(sorted(WHOLE)), changed=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=2))
def test_a_grader_with_anything_changed_is_a_grader_or_a_clean_refusal(kind: str, changed: dict) -> None:
    accepts_or_refuses({"type": kind} | WHOLE[kind] | changed)


def accepts_or_refuses(value) -> None:
    try:
        grader = read_grader(value)
    except FettleError as error:
        refusal = error
    else:
        for found in grader.grade([attempt("x"), attempt('{"a": 1}', a="1", b=[2])], SERVICES):
            assert math.isfinite(found.reward)
            assert found.problem is None or found.reward == 0.0 or grader.kind == "multi"
        return
    assert refusal.describe().encode()
    assert refusal.where
    assert refusal.remedy


@given(text=TEXTS, reference=TEXTS)
def test_every_measure_is_in_0_to_1(text: str, reference: str) -> None:
    for likeness in METRICS.values():
        assert 0.0 <= likeness(text, reference) <= 1.0
        assert likeness(text, text) == 1.0


@given(before=st.text(alphabet="ab c", max_size=5), value=VALUES, after=st.text(alphabet="ab c", max_size=5))
def test_what_is_filled_in_stands_there_as_it_is(before: str, value, after: str) -> None:
    filled = parse_template(before + "{{ item.x }}" + after, "input").fill(attempt("", x=value))
    assert filled == before + (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) + after


@given(text=st.text(max_size=40) | st.text(alphabet="ab.{}[]0 item", max_size=40))
def test_any_text_is_a_template_or_a_clean_refusal(text: str) -> None:
    has_braces = "{{" in text or "}}" in text
    try:
        template = parse_template(text, "input")
    except FettleError:
        assert has_braces
    else:
        assert bool(template.variables) == has_braces


@given(text=st.text(max_size=30) | st.text(alphabet="ab01.+-*/^(), minexp", max_size=60))
def test_any_text_is_a_formula_with_a_finite_value_or_a_clean_refusal(text: str) -> None:
    with suppress(FettleError, FormulaResultError):
        assert math.isfinite(parse_formula(text, ("a", "b"), "formula").value({"a": 0.5, "b": -2.0}))


@given(text=st.text(max_size=60) | st.text(alphabet="def grade(s, i):\n return1", max_size=80))
def test_any_text_is_a_source_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        why_no_grade(parse_source(text))
