import json

import jsonschema
import pytest
from example_builders import examples, labelled

from fettle.errors import DataError
from fettle.examples.json_schema import infer_schema
from fettle.examples.task import recognise_task
from fettle.records import TaskKind


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
