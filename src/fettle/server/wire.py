"""What the bodies of several resources share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from fettle.server.errors import ErrorBody

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 403, 404, 405, 413, 429, 500, 503)
}
"""The answers of every route that are no success, for its documentation."""


def storable(text: str) -> str:
    """Refuse what no database takes, or what is no text at all.

    Raises:
        ValueError: A NUL character, or half a surrogate pair.
    """
    if "\0" in text:
        raise ValueError("text with a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text that is not valid Unicode") from None
    return text


Text = Annotated[str, AfterValidator(storable)]
"""Text that can be kept."""
After = Annotated[Text | None, Query(description="The id of the last one that is known already.")]
Metadata = Annotated[
    dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=512)]], Field(max_length=16)
]
"""At most 16 pairs of text."""


_MOST_EXACT = 2**53
"""Beyond it, not every whole number can be told from its neighbours."""
_AttributeBody = (
    StrictBool
    | Annotated[StrictInt, Field(ge=-_MOST_EXACT, le=_MOST_EXACT)]
    | StrictFloat
    | Annotated[Text, Field(max_length=512)]
)


def _as_one_mistake(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        raise ValueError("expected a text of at most 512 characters, a number, true or false") from None


Attributes = Annotated[
    dict[Annotated[Text, Field(max_length=64)], Annotated[_AttributeBody, WrapValidator(_as_one_mistake)]],
    Field(max_length=16),
]
"""At most 16 facts of a document, which searches can look at."""


class RequestBody(BaseModel):
    """A JSON object that is sent to us; fields that we do not know are refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def ends(ids: Sequence[str]) -> tuple[str | None, str | None]:
    """The first and the last id of a page."""
    return (ids[0], ids[-1]) if ids else (None, None)


class Deleted(BaseModel):
    """Something is gone."""

    id: str
    object: str
    deleted: Literal[True] = True
