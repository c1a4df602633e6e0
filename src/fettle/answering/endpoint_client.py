"""The client of an OpenAI-compatible endpoint, and what its errors say."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from pydantic import SecretStr, ValidationError

from fettle.answering.address import without_query

if TYPE_CHECKING:
    from openai import OpenAI

_TIMEOUT_SECONDS = 120.0
_CONNECT_TIMEOUT_SECONDS = 10.0
_MAX_RETRIES = 4  # with exponential back-off, by the SDK, on 408, 409, 429, 5xx and lost connections
_LONGEST_MESSAGE = 300


def endpoint_client(url: str, key: SecretStr | None) -> OpenAI:
    """A client that sends nothing before it is asked to; what the query of the URL holds goes with every request."""
    from openai import OpenAI, Timeout

    base, query = without_query(url)
    return OpenAI(
        base_url=base,
        default_query=dict(parse_qsl(query)),
        api_key=key.get_secret_value() if key else "none",
        timeout=Timeout(_TIMEOUT_SECONDS, connect=_CONNECT_TIMEOUT_SECONDS),
        max_retries=_MAX_RETRIES,
    )


def endpoint_error(error: Exception, *, wanted: str) -> str:
    """What went wrong, in a few words.

    Args:
        error: Of the SDK, or of reading what came.
        wanted: What should have come, such as: chat completion.
    """
    from openai import APIStatusError, APITimeoutError

    if isinstance(error, ValidationError):
        return f"what came is no {wanted}"
    if isinstance(error, APITimeoutError):
        return f"no connection within {_CONNECT_TIMEOUT_SECONDS:g} s, or no answer within {_TIMEOUT_SECONDS:g} s"
    if isinstance(error, APIStatusError):
        message = error.body.get("message") if isinstance(error.body, dict) else None
        return f"HTTP {error.status_code}: {str(message or error.message)[:_LONGEST_MESSAGE]}"
    return f"{type(error).__name__}: {str(error)[:_LONGEST_MESSAGE]}"
