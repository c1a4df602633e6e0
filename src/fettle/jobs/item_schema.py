"""JSON Schemas that users send: checked before they are used, and used in bounded time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fettle.scoring.openai_grader import InvalidGraderError
from fettle.scoring.openai_graders.wire import join

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_SLOW = ("pattern", "patternProperties")
"""A regular expression of a user can take for ever."""
_NAMES_TO_SCHEMAS = ("properties", "$defs", "definitions", "dependentSchemas")
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ItemSchema:
    """What every item of an eval has to look like."""

    validator: Validator

    def problem_with(self, item: Mapping[str, Any]) -> str | None:
        """What is wrong with an item, and where; None: nothing."""
        from jsonschema.exceptions import best_match
        from referencing.exceptions import Unresolvable

        try:
            error = best_match(self.validator.iter_errors(item))
        except (Unresolvable, RecursionError):
            return "the schema refers to something that is not in it, or to itself"
        if error is None:
            return None
        message = error.message if len(error.message) <= _SHOWN_CHARACTERS else f"{error.message[:_SHOWN_CHARACTERS]}…"
        return f"{error.json_path.replace('$', 'item', 1)}: {message}"


def require_schema(value: Mapping[str, Any], where: str) -> None:
    """Refuse what is no JSON Schema.

    Raises:
        InvalidGraderError: It is none.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(value)
    except (SchemaError, RecursionError) as error:
        reason = error.message if isinstance(error, SchemaError) else "it is nested too deeply"
        raise InvalidGraderError(
            f"this is no JSON Schema: {reason[:_SHOWN_CHARACTERS]}", where=where, remedy="mend it"
        ) from error


def read_item_schema(value: Mapping[str, Any], where: str) -> ItemSchema:
    """The schema of an eval's items.

    Raises:
        InvalidGraderError: It is no JSON Schema, or one that takes unbounded time.
    """
    from jsonschema import Draft202012Validator
    from referencing import Registry

    require_schema(value, where)
    for place, key in _keywords(value, where):
        if key in _SLOW:
            raise InvalidGraderError(
                f"`{key}` is not supported in the schema of items", where=place, remedy="leave it out"
            )
    return ItemSchema(Draft202012Validator(value, registry=Registry()))  # an empty registry: nothing is fetched


def _keywords(schema: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every keyword of a schema and of those inside it, with its place."""
    if isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from _keywords(part, join(where, number))
    if not isinstance(schema, dict):
        return
    for key, part in schema.items():
        yield where, key
        if key in _NAMES_TO_SCHEMAS and isinstance(part, dict):
            for name, inner in part.items():
                yield from _keywords(inner, join(where, key, name))
        elif key not in ("enum", "const", "default", "examples"):
            yield from _keywords(part, join(where, key))
