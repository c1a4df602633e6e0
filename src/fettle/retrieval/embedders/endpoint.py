"""Any OpenAI-compatible embeddings endpoint. A connection is opened only when it is named, and at the first text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from fettle.answering.address import public_address, require_http_address, without_query
from fettle.answering.endpoint_client import endpoint_client, endpoint_error
from fettle.errors import ConfigError, RemoteError
from fettle.retrieval.embedder import encodable
from fettle.settings import get_settings

_TEXTS_AT_ONCE = 32  # what the smallest of the usual servers take
_PARALLEL_REQUESTS = 4
_MAX_TOKENS = 512
"""What nearly every embedding model reads; endpoints do not say how much it is."""
_PARTS = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z0-9]")
_LETTERS_A_TOKEN = 3  # English has four and a half, other languages and program text fewer
_REMEDY = "check --embedder-url, --embedder and FETTLE_EMBEDDER_API_KEY"


class EndpointEmbedder:
    """Embeds through `POST /embeddings` of an endpoint.

    Args:
        url: Base URL, usually ending in /v1. It is kept with the index, and so must not hold a password.
        model: The endpoint's name for the model; what tells its vectors apart from those of others.

    Raises:
        ConfigError: It is no http or https URL, or has a user name or a password in it.
    """

    max_tokens = _MAX_TOKENS

    def __init__(self, url: str, model: str) -> None:
        require_http_address(url, where="--embedder-url")
        self._address, self._model = public_address(url), model
        if without_query(url)[0] != self._address:
            raise ConfigError(
                "the URL holds a user name or a password, and it would be kept with the index",
                where="--embedder-url",
                remedy="give the key with FETTLE_EMBEDDER_API_KEY",
            )
        self.name = f"openai:{url}#{model}"
        self.revision = model
        self._key = get_settings().embedder_api_key
        self._client = endpoint_client(url, self._key)

    @property
    def num_dimensions(self) -> int:
        """Length of a vector, found out by asking for one.

        Raises:
            RemoteError: The endpoint does not answer, or not with vectors.
        """
        return self._num_dimensions

    @cached_property
    def _num_dimensions(self) -> int:
        return self._ask(["dimensions"]).shape[1]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row of unit length per text: [N, D], float32.

        Raises:
            RemoteError: The endpoint does not answer, or not with as many vectors of the right length.
        """
        if not texts:
            return np.zeros((0, self.num_dimensions), dtype=np.float32)
        size = self.num_dimensions
        batches = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
        with ThreadPoolExecutor(max_workers=_PARALLEL_REQUESTS) as pool:
            vectors_ND = np.concatenate(list(pool.map(self._ask, batches)))
        if vectors_ND.shape[1] != size:
            raise self._broken(f"vectors had {size} numbers, and now have {vectors_ND.shape[1]}")
        return vectors_ND

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `embed`: the API does not tell the two apart."""
        return self.embed(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How long each text is at most, as far as can be told without the model's tokenizer: rather too many than too few."""
        return [_estimated_tokens(text) for text in texts]

    def _ask(self, texts: Sequence[str]) -> NDArray[np.float32]:
        from openai import OpenAIError

        try:
            # The SDK's own parsing lets any JSON through; and it would ask for base64, which not every endpoint has.
            raw = self._client.embeddings.with_raw_response.create(
                model=self._model, input=[encodable(text) for text in texts], encoding_format="float"
            )
            answer = _Embeddings.model_validate_json(raw.http_response.content)
        except (OpenAIError, ValidationError) as error:
            told = endpoint_error(error, wanted="list of embeddings", key=self._key)
            raise RemoteError(
                f"the endpoint does not embed with model {self._model!r} ({told})",
                where=self._address,
                remedy=_REMEDY,
            ) from error
        rows = {row.index: row.embedding for row in answer.data}
        if sorted(rows) != list(range(len(texts))) or len(answer.data) != len(texts):
            raise self._broken(f"{len(texts)} texts were sent, and {len(answer.data)} vectors came")
        if len({len(row) for row in rows.values()}) != 1:
            raise self._broken("vectors of several lengths came")
        vectors_ND = np.array([rows[number] for number in range(len(texts))], dtype=np.float32)
        lengths_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        if not np.isfinite(lengths_N).all() or not (lengths_N > 0).all():
            raise self._broken("a vector has no direction: all zeros, or numbers that are not finite")
        return vectors_ND / lengths_N

    def _broken(self, problem: str) -> RemoteError:
        return RemoteError(
            f"model {self._model!r} gives no usable vectors: {problem}",
            where=self._address,
            remedy="name a model for embeddings, or mend the endpoint",
        )


class _Embedding(BaseModel):
    index: int
    embedding: list[float]


class _Embeddings(BaseModel):
    """As much of an answer as is read here."""

    data: list[_Embedding]


def _estimated_tokens(text: str) -> int:
    """A token for each three letters of a word, each digit, each mark and each two bytes of other letters; and two around.

    >>> _estimated_tokens("Refunds take 14 days."), _estimated_tokens("返金")
    (12, 6)
    """
    return 2 + sum(_tokens_of(part) for part in _PARTS.findall(text))


def _tokens_of(part: str) -> int:
    size = _LETTERS_A_TOKEN if part.isascii() else 2
    return -(-len(part.encode(errors="replace")) // size)
