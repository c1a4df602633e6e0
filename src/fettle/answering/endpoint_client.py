"""The client of an OpenAI-compatible endpoint, and what its errors say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from pydantic import SecretStr, ValidationError

from fettle.answering.address import public_address, without_query

if TYPE_CHECKING:
    from httpx2 import Response
    from openai import OpenAI

_CONNECT_TIMEOUT_SECONDS = 10.0
_LONGEST_MESSAGE = 300
_SHORTEST_KEY = 6
"""Shorter ones are words that stand for no key, such as: x, none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an endpoint is waited for. As it comes: by a study, which has time."""

    timeout_seconds: float = 120.0
    """Of one try."""
    max_retries: int = 4
    """With exponential back-off, by the SDK, on 408, 409, 429, 5xx and lost connections."""
    max_failures: int = 8
    """Requests in a row, each with its retries, after which it is not asked for now: a study's first batch."""
    pause_seconds: float | None = None
    """After which it is asked again; None: never."""


STUDY = Patience()


def endpoint_client(url: str, key: SecretStr | None, patience: Patience = STUDY) -> OpenAI:
    """A client that sends nothing before it is asked to; what the query of the URL holds goes with every request.

    It follows no redirect: what is asked goes to nobody whom the user has not named. Where an endpoint says that it is to be asked
    again later than it is waited for, it is not: nobody would read the answer.
    """
    from openai import DefaultHttpxClient, OpenAI, Timeout

    base, query = without_query(url)
    timeout = Timeout(patience.timeout_seconds, connect=min(_CONNECT_TIMEOUT_SECONDS, patience.timeout_seconds))
    return OpenAI(
        base_url=base,
        default_query=dict(parse_qsl(query)),
        api_key=key.get_secret_value() if key else "none",
        timeout=timeout,
        max_retries=patience.max_retries,
        http_client=DefaultHttpxClient(
            timeout=timeout, follow_redirects=False, event_hooks={"response": [_not_too_late(patience)]}
        ),
    )


def _not_too_late(patience: Patience) -> Callable[[Response], None]:
    def hook(response: Response) -> None:
        try:
            wait_seconds = float(response.headers.get("retry-after", "0"))
        except ValueError:  # a date
            return
        if wait_seconds >= patience.timeout_seconds:
            response.headers["x-should-retry"] = "false"  # which the SDK obeys

    return hook


def endpoint_error(error: Exception, *, wanted: str, key: SecretStr | None, patience: Patience = STUDY) -> str:
    """What went wrong, in a few words.

    Args:
        error: Of the SDK, or of reading what came.
        wanted: What should have come, such as: chat completion.
        key: That was sent. Some endpoints repeat it where they refuse it, and what is told here is kept and shown.
        patience: That was had.
    """
    secret = key.get_secret_value().strip() if key else ""
    told = _told(error, wanted, patience)
    return (told.replace(secret, "(the key)") if len(secret) >= _SHORTEST_KEY else told)[:_LONGEST_MESSAGE]


def _told(error: Exception, wanted: str, patience: Patience) -> str:
    from openai import APIStatusError, APITimeoutError

    if isinstance(error, ValidationError):
        return f"what came is no {wanted}"
    if isinstance(error, APITimeoutError):
        connecting = min(_CONNECT_TIMEOUT_SECONDS, patience.timeout_seconds)
        return f"no connection within {connecting:g} s, or no answer within {patience.timeout_seconds:g} s"
    if isinstance(error, APIStatusError):
        if (elsewhere := error.response.headers.get("location")) and error.response.is_redirect:
            return f"HTTP {error.status_code}: it wants to be asked at {public_address(elsewhere)}, and nobody else is asked"
        message = error.body.get("message") if isinstance(error.body, dict) else None
        return f"HTTP {error.status_code}: {message or error.message}"
    return f"{type(error).__name__}: {error}"
