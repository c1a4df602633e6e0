import json

import jsonschema
import pytest
from example_builders import examples, labelled

from fettle.errors import DataError
from fettle.examples.json_schema import infer_schema, parse_object
from fettle.examples.task import keep_labelled, recognise_task
from fettle.records import Dataset, TaskKind


def test_few_repeated_short_answers_are_labels_most_frequent_first():
    task = recognise_task(examples(*((f"m{n}", "b" if n % 4 else "a") for n in range(12))))
    assert (task.kind, task.labels) == (TaskKind.LABELS, ("b", "a"))
    assert "2 different" in task.reason


def test_answers_that_all_differ_are_text():
    task = recognise_task(examples(*((f"m{n}", f"The answer to {n} is long and differs.") for n in range(12))))
    assert task.kind is TaskKind.TEXT


def test_json_answers_give_a_schema_that_all_of_them_satisfy():
    answers = [
        {"queue": "ab"[n % 2], "amount": n / 2 if n % 3 else None, "items": [{"n": n}] * (n % 2)} for n in range(30)
    ]
    task = recognise_task(examples(*((f"m{n}", json.dumps(answer)) for n, answer in enumerate(answers))))
    assert task.kind is TaskKind.JSON
    schema = json.loads(task.json_schema or "")
    jsonschema.Draft202012Validator.check_schema(schema)
    for answer in answers:
        jsonschema.validate(answer, schema)
    assert schema["required"] == ["queue", "amount", "items"]
    assert schema["properties"]["queue"] == {"type": "string", "enum": ["a", "b"]}
    assert schema["properties"]["amount"] == {"type": ["number", "null"]}
    assert schema["properties"]["items"]["items"]["properties"]["n"] == {"type": "integer"}
    assert schema["additionalProperties"] is False


def test_an_enum_needs_values_that_come_back():
    assert "enum" not in infer_schema([f"name {n}" for n in range(25)] * 2)
    assert infer_schema(["low", "high", None] * 10)["enum"] == ["high", "low", None]
    assert "enum" not in infer_schema(["low", "high"])


def test_booleans_are_not_integers():
    assert infer_schema([True, 1]) == {"type": ["boolean", "integer"]}


def test_the_user_can_name_the_kind():
    task = recognise_task(labelled(4), TaskKind.TEXT)
    assert task.kind is TaskKind.TEXT
    assert "said by the user" in task.reason
    with pytest.raises(DataError, match="no answer is a JSON object"):
        recognise_task(labelled(4), TaskKind.JSON)


def test_no_examples_are_no_task():
    with pytest.raises(DataError):
        recognise_task(())


def with_others(*others: str) -> Dataset:
    """Forty labelled examples, and some with other answers."""
    pairs = [(f"m{n}", "ab"[n % 2]) for n in range(40)] + [(f"other {n}", text) for n, text in enumerate(others)]
    return Dataset(name="x", examples=tuple(examples(*pairs)), findings=(), file_sha256={})


def test_one_odd_answer_does_not_make_labels_a_text_and_is_left_out_with_a_finding():
    data = with_others("Please see the other ticket, which says it all at some length.")
    task = recognise_task(data.examples)
    assert (task.kind, task.labels) == (TaskKind.LABELS, ("a", "b"))
    kept = keep_labelled(data, task)
    assert kept.examples == data.examples[:40]
    [finding] = kept.findings
    assert (finding.code, finding.line) == ("answer-not-a-label", data.examples[40].source.line)


def test_answers_without_text_say_nothing_about_the_task_and_stay():
    data = with_others("", "", "", "")  # they call tools
    task = recognise_task(data.examples)
    assert task.labels == ("a", "b")
    assert keep_labelled(data, task) == data


def test_many_odd_answers_are_a_text_task():
    data = with_others(*(f"A reply of its own, number {n}, that is rather long for a label." for n in range(4)))
    task = recognise_task(data.examples)
    assert task.kind is TaskKind.TEXT
    assert keep_labelled(data, task) == data


def test_labels_that_the_user_says_are_all_kept():
    data = with_others("A label of many words that no one would take for a label by itself.")
    assert keep_labelled(data, recognise_task(data.examples, TaskKind.LABELS)) == data


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', '{"a":' * 150 + "1" + "}" * 150])
def test_what_json_does_not_know_is_no_object(text: str):
    assert parse_object(text) is None
    assert parse_object('{"a":' * 90 + "1e9" + "}" * 90) is not None
