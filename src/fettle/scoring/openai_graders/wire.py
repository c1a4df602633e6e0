"""From JSON to checked pydantic models, with refusals that name the place in the JSON."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, FiniteFloat, StrictStr, ValidationError
from pydantic_core import PydanticCustomError

from fettle.records import joined_text_parts
from fettle.scoring.openai_grader import InvalidGraderError

_SHOWN_CHARACTERS = 80
_NO_NUMBER = "no_number"
_SPARE_LEVELS = 100
"""What later readers may nest deeper than this one."""
_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter", _NO_NUMBER: "invalid_type"}
_BOUNDS = {"greater_than_equal": "below_min_value", "less_than_equal": "above_max_value"}
_TEXT_PARTS = ("input_text", "output_text", "text")


class Wire(BaseModel):
    """A grader, or a part of one, as it is sent. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def _refuse_truth(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise PydanticCustomError(_NO_NUMBER, "a number is expected")
    return value


WireNumber = Annotated[FiniteFloat, BeforeValidator(_refuse_truth)]
"""A JSON number: no text, no truth value."""


class GraderWire(Wire):
    """What all graders have in common."""

    name: StrictStr
    pass_threshold: WireNumber | None = None


def _text_of(content: Any) -> str:
    """The text of a message's content, which may come in parts."""
    parts = content if isinstance(content, list) else [content]
    return joined_text_parts(part if isinstance(part, str) else _text_of_part(part) for part in parts)


def _text_of_part(part: Any) -> str:
    if not isinstance(part, dict):
        raise ValueError("a text is expected, or parts of type input_text or output_text")
    if part.get("type") not in _TEXT_PARTS:
        raise ValueError(f"parts of type {shown(part.get('type'))} are not supported: graders read text alone")
    if not isinstance(part.get("text"), str):
        raise ValueError("the `text` of a part is expected to be a text")
    return part["text"]


class MessageWire(Wire):
    """A message to a grading model."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[str, BeforeValidator(_text_of)]
    type: Literal["message"] = "message"


Model = TypeVar("Model", bound=Wire)


def read(model: type[Model], value: Any, where: str) -> Model:
    """A checked model of a JSON value.

    Raises:
        InvalidGraderError: Says of the first thing that is wrong where it is, and what would be right.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = join(where, *first["loc"])
        raise InvalidGraderError(
            _problem(first), where=place, remedy=_remedy(first, model), code=_code(first)
        ) from error
    except RecursionError as error:
        raise InvalidGraderError("it is nested too deeply", where=where, remedy="send a flatter one") from error


def require_plain_json(value: Any, where: str) -> None:
    """Refuse what JSON cannot say, so that no reader after this one has to think of it.

    Raises:
        InvalidGraderError: Numbers that are not finite, half of a surrogate pair, or nested without end.
    """
    wrapped = value
    for _ in range(_SPARE_LEVELS):
        wrapped = [wrapped]
    try:
        json.dumps(wrapped, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidGraderError(
            "it holds half of a surrogate pair", where=where, remedy="send whole characters"
        ) from error
    except RecursionError as error:
        raise InvalidGraderError("it is nested too deeply", where=where, remedy="send a flatter one") from error
    except (TypeError, ValueError) as error:
        raise InvalidGraderError(
            f"it is no JSON: {error}", where=where, remedy="send numbers that are finite"
        ) from error


def join(where: str, *steps: str | int) -> str:
    """A place in JSON: `join("grader", "input", 0)` is `grader.input[0]`."""
    return where + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def shown(value: Any) -> str:
    """A JSON value as text, cut where it is long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = repr(type(value).__name__)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _problem(first: Any) -> str:
    if first["type"] == "missing":
        return "it is missing"
    if first["type"] == "extra_forbidden":
        return "there is no such field"
    message = first["msg"].removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}, and it is {shown(first['input'])}"


def _code(first: Any) -> str:
    kind = first["type"]
    if kind in _BOUNDS:
        return f"{'integer' if isinstance(first['input'], int) else 'decimal'}_{_BOUNDS[kind]}"
    return _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")


def _remedy(first: Any, model: type[Wire]) -> str:
    if first["type"] == "extra_forbidden":
        nearest = get_close_matches(str(first["loc"][-1]), model.model_fields, n=1)
        return f"did you mean {nearest[0]!r}?" if nearest else "leave it out"
    return "give this field" if first["type"] == "missing" else "change this field"
