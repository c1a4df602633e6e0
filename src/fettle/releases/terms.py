"""What is agreed for a challenge beside its numbers: who says how good an answer is, and what a decision does. As JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from fettle.releases.challenge import Challenge, Look
from fettle.store.challenges import StoredChallenge


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeEndpoint:
    """A model that says which of two answers is better."""

    url: str
    """Of an OpenAI-compatible endpoint; the key is that of FETTLE_REMOTE_API_KEY."""
    model: str
    rubric: str
    """What counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grading:
    """Who says how good an answer is where users do not."""

    grader: str
    """A built-in one, by name: it compares with the corrected answer."""
    labels: tuple[str, ...] = ()
    """That answers are one of; empty: no labels are known."""
    json_schema: str | None = None
    """That answers satisfy, as JSON text."""
    judge: JudgeEndpoint | None = None
    """Of a shadow: compares both answers in place of the grader; None: nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """All that was agreed before the first outcome."""

    challenge: Challenge
    grading: Grading
    acts: bool
    """Whether a challenger that has won comes into force by itself. One that has lost is stopped in any case."""


def terms_as_json(terms: Terms) -> dict[str, Any]:
    """The terms as JSON values."""
    return _adapter(Terms).dump_python(terms, mode="json")


def terms_of(challenge: StoredChallenge) -> Terms:
    """What was agreed for a challenge."""
    return _adapter(Terms).validate_python(dict(challenge.terms))


def look_as_json(look: Look) -> dict[str, Any]:
    """A look as JSON values."""
    return _adapter(Look).dump_python(look, mode="json")


def look_of(said: Mapping[str, Any]) -> Look:
    """A look that was kept."""
    return _adapter(Look).validate_python(dict(said))


@lru_cache(maxsize=4)
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
