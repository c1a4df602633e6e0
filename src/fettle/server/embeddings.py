"""Embeddings: texts to vectors, by the packaged sentence embedder."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from fettle.errors import ConfigError, ContextLengthError
from fettle.server.context import Context, ContextOf, OwnerOf
from fettle.server.errors import invalid
from fettle.server.wire import RequestBody, Text
from fettle.store.keys import Owner
from fettle.store.models import ModelKind, find_model

router = APIRouter(prefix="/embeddings", tags=["embeddings"])
_MOST_INPUTS = 2048
_MOST_CHARACTERS = 2_000_000
"""Of all inputs of a request together, so that one request cannot keep all others waiting for minutes."""

_Tokens = Annotated[list[StrictInt], Field(min_length=1, max_length=_MOST_INPUTS)]
_Inputs = (
    StrictStr
    | Annotated[list[StrictStr], Field(min_length=1, max_length=_MOST_INPUTS)]
    | _Tokens
    | Annotated[list[_Tokens], Field(min_length=1, max_length=_MOST_INPUTS)]
)


def _as_one_mistake(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        raise ValueError(
            f"expected a text, a list of 1 to {_MOST_INPUTS:,} texts, a list of tokens, or a list of lists of tokens"
        ) from None


class CreateEmbeddings(RequestBody):
    """The body of `POST /embeddings`."""

    model: Annotated[Text, Field(min_length=1, max_length=255)]
    input: Annotated[_Inputs, WrapValidator(_as_one_mistake)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[StrictInt, Field(ge=1)] | None = None
    user: Text | None = None

    def inputs(self) -> list[str | list[int]]:
        """Each input: a text, or tokens.

        Raises:
            ApiError: One is empty, all are too long together, or another number of dimensions is asked for.
        """
        if self.dimensions is not None:
            message = "`dimensions` is not supported: the vectors of this model cannot be shortened. Leave it out."
            raise invalid(message, "dimensions", "unsupported_value")
        given = self.input if isinstance(self.input, list) else [self.input]
        inputs: list[str | list[int]] = []
        tokens = [part for part in given if isinstance(part, int)]
        inputs += [tokens] if tokens else [part for part in given if not isinstance(part, int)]
        for number, part in enumerate(inputs):
            if not part:
                raise invalid(f"Input {number} is empty, and an empty text has no embedding.", "input")
        if (length := sum(map(len, inputs))) > _MOST_CHARACTERS:
            message = f"The inputs have {length:,} characters together, and at most {_MOST_CHARACTERS:,} are taken."
            raise invalid(message, "input")
        return inputs


class EmbeddingBody(BaseModel):
    """The vector of one input."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Numbers, or little-endian float32 in base64."""


class EmbeddingUsage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The vectors of all inputs, in their order."""

    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingBody]
    usage: EmbeddingUsage


@router.post("")
async def create(body: CreateEmbeddings, context: ContextOf, owner: OwnerOf) -> EmbeddingList:
    """Vectors of unit length, whose dot product is the cosine similarity of the texts."""
    inputs = body.inputs()
    model = await run_in_threadpool(_embedding_model, body.model, context, owner)
    try:
        embedded = await context.embedder.embed(inputs)
    except ContextLengthError as error:
        raise invalid(error.describe(), "input", "context_length_exceeded") from error
    except ConfigError as error:
        raise invalid(error.describe(), "input") from error
    in_base64 = body.encoding_format == "base64"
    data = [
        EmbeddingBody(index=number, embedding=_base64(vector_D) if in_base64 else vector_D.tolist())
        for number, vector_D in enumerate(embedded.vectors_ND)
    ]
    usage = EmbeddingUsage(prompt_tokens=embedded.num_tokens, total_tokens=embedded.num_tokens)
    return EmbeddingList(model=model, data=data, usage=usage)


def _embedding_model(name: str, context: Context, owner: Owner) -> str:
    with context.store.reading() as connection:
        return find_model(connection, owner.project_id, name, kind=ModelKind.EMBEDDING).id


def _base64(vector_D: NDArray[np.float32]) -> str:
    return base64.b64encode(vector_D.astype("<f4").tobytes()).decode("ascii")
