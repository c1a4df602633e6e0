"""Graders for answers that are JSON: the fields, all fields at once, and the form.

Decisions:
- An answer that is no JSON, or another kind of JSON than wanted (a list for an object), is a wrong answer: 0, not unscored.
- `json_fields` and `json_exact` look into a code fence around the whole answer, because they ask what the answer says;
  `json_valid` does not, because a program that parses the answer would fail on it. Text before or after the JSON is
  wrong for all three.
- Where the wanted answer itself is no JSON, or breaks the schema, nothing can be judged: unscored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from fettle.records import Answer, Example, Score
from fettle.scoring.grader import scored, unscorable, unscored
from fettle.scoring.json_values import JsonKind, Leaves, kind_of, parse_json, read_leaves

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_NOT_JSON = "the wanted answer is not JSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFields:
    """F1 over the fields of one answer, in [0, 1]; 1 when neither side has any value."""

    name: str = "json_fields"
    title: str = "JSON field F1"
    is_binary: bool = False

    def score(self, example: Example, answer: Answer) -> Score:
        """2 x right / (wanted + answered), counting leaves; unscored when the wanted answer is no JSON."""
        if (result := unscorable(example, answer)) is not None:
            return result
        if (wanted := read_leaves(example.answer)) is None:
            return unscored(example, _NOT_JSON)
        return scored(example, _field_f1(wanted, read_leaves(answer.text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonExact:
    """1 when every field is right and none is invented: exactly where `json_fields` is 1."""

    name: str = "json_exact"
    title: str = "All fields right"
    is_binary: bool = True

    def score(self, example: Example, answer: Answer) -> Score:
        """1 or 0; unscored when the wanted answer is no JSON."""
        if (result := unscorable(example, answer)) is not None:
            return result
        if (wanted := read_leaves(example.answer)) is None:
            return unscored(example, _NOT_JSON)
        return scored(example, wanted == read_leaves(answer.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonValid:
    """1 when the answer parses as it stands and satisfies the schema.

    Args:
        json_schema: A JSON Schema as JSON text; None asks only for JSON of the wanted kind.
    """

    json_schema: str | None
    name: str = "json_valid"
    title: str = "Valid JSON"
    is_binary: bool = True

    def score(self, example: Example, answer: Answer) -> Score:
        """1 or 0; unscored when the wanted answer is no JSON or does not satisfy the schema itself."""
        if (result := unscorable(example, answer)) is not None:
            return result
        if (wanted := read_leaves(example.answer)) is None:
            return unscored(example, _NOT_JSON)
        if not self._is_valid(example.answer, wanted.kind):
            return unscored(example, "the wanted answer itself, as it stands, does not satisfy the schema")
        return scored(example, self._is_valid(answer.text, wanted.kind))

    def _is_valid(self, text: str, kind: JsonKind) -> bool:
        try:
            return kind_of(parse_json(text)) == kind and (self.json_schema is None or fits(text, self.json_schema))
        except (ValueError, RecursionError):
            return False


def fits(text: str, json_schema: str) -> bool:
    """Whether a text is JSON as it stands and satisfies a schema.

    >>> fits('{"amount": 12}', '{"type": "object"}'), fits("12 pounds", "true")
    (True, False)
    """
    try:
        return bool(_validator(json_schema).is_valid(parse_json(text)))
    except (ValueError, RecursionError):
        return False


def _field_f1(wanted: Leaves, answered: Leaves | None) -> float:
    if answered is None or answered.kind != wanted.kind:
        return 0.0
    total = wanted.counts.total() + answered.counts.total()
    return 2 * (wanted.counts & answered.counts).total() / total if total else 1.0


@lru_cache(maxsize=8)
def _validator(json_schema: str) -> Validator:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = json.loads(json_schema)
    # An empty registry: the default one fetches a remote "$ref" over the network.
    return validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())
