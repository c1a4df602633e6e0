from __future__ import annotations

import json

import pytest

from fettle.examples.json_schema import infer_schema, with_bounds


def bounds_of(values: list[object]) -> dict[str, object]:
    return with_bounds({}, values)


@pytest.mark.parametrize(
    ("values", "bounds"),
    [
        ([3, 42], {"minimum": 0, "maximum": 999}),
        ([3, -42], {"minimum": -999, "maximum": 999}),
        ([0], {"minimum": 0, "maximum": 99}),
        ([19.99, 5], {"minimum": 0, "maximum": 999, "multipleOf": 0.01}),
        ([2.0, 3.0], {"minimum": 0, "maximum": 99, "multipleOf": 1}),
        ([0.125], {"minimum": 0, "maximum": 99, "multipleOf": 0.001}),
        ([1e-9], {}),
        ([1e30], {}),
        ([0.1234567891], {}),
        ([float("nan")], {}),
        ([True, False], {}),
        ([None], {}),
        (["late", "refund"], {"maxLength": 11}),
        ([[1, 2], []], {"maxItems": 6}),
    ],
)
def test_bounds_leave_room_around_what_was_seen(values: list[object], bounds: dict[str, object]) -> None:
    assert bounds_of(values) == bounds


def test_bounds_reach_into_objects_and_arrays_and_leave_the_schema_as_it_was() -> None:
    values = [
        {"lines": [{"sku": "AB1", "count": 2}, {"sku": "C", "count": 30}], "queue": "a"},
        {"lines": [], "queue": "b"},
    ]
    schema = infer_schema(values)
    before = json.dumps(schema)
    bounded = with_bounds(schema, values)
    assert json.dumps(schema) == before
    assert bounded["required"] == schema["required"]
    line = bounded["properties"]["lines"]["items"]["properties"]
    assert line["sku"] == {"type": "string", "maxLength": 7}
    assert line["count"] == {"type": "integer", "minimum": 0, "maximum": 999}
    assert bounded["properties"]["lines"]["maxItems"] == 6


def test_an_enum_needs_no_length() -> None:
    values = [{"queue": name} for name in ("a", "b") * 40]
    assert with_bounds(infer_schema(values), values) == infer_schema(values)


def test_free_keys_get_bounds_for_their_values() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    assert with_bounds(schema, [{"x": "abc"}, {"y": "d"}])["additionalProperties"] == {
        "type": "string",
        "maxLength": 7,
    }
