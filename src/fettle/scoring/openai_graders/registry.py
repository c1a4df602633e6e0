"""All kinds of grader by their `type`, and the one way from JSON to a grader. A new kind adds its file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from fettle.scoring.openai_grader import (
    Attempt,
    GradingServices,
    InvalidGraderError,
    MissingVariableError,
    OpenAIGrader,
    Sample,
)
from fettle.scoring.openai_graders.label_model import read_label_model
from fettle.scoring.openai_graders.multi import ReadGrader, read_multi
from fettle.scoring.openai_graders.python_code import read_python
from fettle.scoring.openai_graders.score_model import read_score_model
from fettle.scoring.openai_graders.string_check import read_string_check
from fettle.scoring.openai_graders.template import look_up
from fettle.scoring.openai_graders.text_similarity import read_text_similarity
from fettle.scoring.openai_graders.wire import join, require_plain_json, shown

_PARTS: Mapping[str, ReadGrader] = {
    "string_check": read_string_check,
    "text_similarity": read_text_similarity,
    "python": read_python,
    "score_model": read_score_model,
    "label_model": read_label_model,
}
_MULTI = "multi"


def read_grader(value: Any, where: str = "grader") -> OpenAIGrader:
    """The grader that a JSON value describes; nothing of it is run.

    Args:
        value: A JSON value, as `json.loads` gives it.
        where: What errors call its place.

    Raises:
        InvalidGraderError: It describes none. `where` is the place in the JSON, such as `grader.graders.style.operation`.
    """
    require_plain_json(value, where)
    if _kind(value, where, (*_PARTS, _MULTI)) == _MULTI:
        return read_multi(value, where, _read_part)
    return _read_part(value, where)


def require_services(grader: OpenAIGrader, services: GradingServices, where: str = "grader") -> None:
    """Refuse a grader that needs what is not here.

    Raises:
        InvalidGraderError: It runs code and there is no sandbox, or it asks a model that is not known.
    """
    if grader.runs_code and (reason := services.code_runner.unavailable_because()) is not None:
        raise InvalidGraderError(
            f"python graders cannot be run safely on this machine, and are not run otherwise: {reason}",
            where=where,
            remedy="use another kind of grader, or ask the operator of this server",
        )
    for model in grader.models:
        if not services.sampler.knows(model):
            raise InvalidGraderError(
                f"The model `{model}` does not exist or you do not have access to it",
                where=where,
                remedy="name a model that is served here",
                code="model_not_found",
            )


def missing_item_variables(grader: OpenAIGrader, item: Mapping[str, Any]) -> tuple[str, ...]:
    """What the grader's templates read of a row and the row does not have, such as `item.answer`."""
    attempt = Attempt(sample=Sample(output_text=""), item=item)
    missing: dict[str, None] = {}
    for variable in grader.variables:
        if variable.namespace == "item":
            try:
                look_up(variable, attempt)
            except MissingVariableError:
                missing[str(variable)] = None
    return tuple(missing)


def _read_part(value: Any, where: str) -> OpenAIGrader:
    return _PARTS[_kind(value, where, tuple(_PARTS))](value, where)


def _kind(value: Any, where: str, kinds: tuple[str, ...]) -> str:
    """The `type` of a JSON value, one of `kinds`."""
    if not isinstance(value, dict):
        raise InvalidGraderError(
            f"expected a JSON object, and it is {shown(value)}", where=where, remedy="send a grader object"
        )
    kind = value.get("type")
    if kind in kinds and isinstance(kind, str):
        return kind
    place, choice = join(where, "type"), f"choose one of {', '.join(kinds)}"
    if kind is None:
        raise InvalidGraderError("it is missing", where=place, remedy=choice, code="missing_required_parameter")
    if kind == _MULTI:
        raise InvalidGraderError("a multi grader cannot stand inside another", where=place, remedy=choice)
    nearest = get_close_matches(kind, kinds, n=1) if isinstance(kind, str) else []
    problem = f"there is no grader of type {shown(kind)}"
    raise InvalidGraderError(problem, where=place, remedy=f"did you mean {nearest[0]!r}?" if nearest else choice)
