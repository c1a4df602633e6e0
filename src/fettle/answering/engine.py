"""The interface of everything that turns prompts into answers.

An engine answers one batch at a time, and says itself how prompts fall into batches. The batches depend on the list of prompts
alone, so that a study that was killed answers the rest exactly as it would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fettle.answering.sampling import MOST_TOP, Sampling
from fettle.errors import ConfigError, ContextLengthError, require_range
from fettle.records import Answer, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonForm:
    """A JSON answer is forced into this form while it is written."""

    schema: str
    """JSON Schema as JSON text."""
    bounded_schema: str | None = None
    """The same with bounds on lengths and digits, for engines that see to every token themselves; None: there are none."""
    item_separator: str | None = None
    """Text between two members, as the training answers have it; None: any white space."""
    key_separator: str | None = None
    """Text between a key and its value, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """An answer is forced into a language of its own while it is written, such as a model's form of calling functions."""

    lark: str
    """A grammar as llguidance reads it: Lark's syntax, with JSON schemas inside (`%json`)."""


Form = JsonForm | Grammar
"""What answers can be forced into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """How an answer is written. As it comes decoding is greedy: the same prompt gives the same answer."""

    max_new_tokens: int
    """Longest answer, tokens, end of turn included."""
    form: Form | None = None
    """What the answer is forced into; None: it is free."""
    shown_token_ids: frozenset[int] = frozenset()
    """Special tokens that are part of the text, since they have a meaning there; others are left out of it."""
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    """Texts before which an answer ends."""
    num_top_log_probs: int | None = None
    """How many of the likeliest tokens to give with each token's log-probability, 0 to 20; None: no log-probabilities."""

    def __post_init__(self) -> None:
        """Refuse what no engine can do.

        Raises:
            ConfigError: A value is out of its range.
        """
        if self.num_top_log_probs is not None:
            require_range("num_top_log_probs", self.num_top_log_probs, low=0, high=MOST_TOP)

    @property
    def is_plain(self) -> bool:
        """Greedy, to the end of turn, and nothing but the text is wanted."""
        return self.sampling.is_plain and not self.stop and self.num_top_log_probs is None

    @property
    def json_form(self) -> JsonForm | None:
        """The form, where it is a JSON form."""
        return self.form if isinstance(self.form, JsonForm) else None

    def require_plain(self, engine: str) -> None:
        """Refuse what an engine that only writes greedy texts would pass over.

        Raises:
            ConfigError: More is asked for.
        """
        if not self.is_plain or isinstance(self.form, Grammar) or self.shown_token_ids:
            raise ConfigError(
                f"{engine} gives greedy answers alone: no sampling, no stop texts, no log-probabilities, no grammars",
                remedy="let the local engine answer",
            )


def answer_limits(rows: Sequence[Sequence[int]], max_new_tokens: int, max_tokens: int | None) -> list[int]:
    """How many tokens each prompt may grow by.

    Args:
        rows: Prompts as tokens.
        max_new_tokens: Longest answer.
        max_tokens: Longest prompt and answer together; None: not known.

    Raises:
        ContextLengthError: A prompt leaves no room for an answer.
    """
    limits = [max_new_tokens if max_tokens is None else min(max_new_tokens, max_tokens - len(row)) for row in rows]
    if min(limits) < 1:
        raise ContextLengthError(
            f"a prompt of {max(map(len, rows)):,} tokens leaves no room for an answer: the model takes {max_tokens:,}",
            remedy="shorten the message, or name a model with a longer context",
        )
    return limits


def require_tokens(options: GenerationOptions, vocabulary_size: int) -> None:
    """Show that a model has the tokens that are biased.

    Raises:
        ConfigError: It has not.
    """
    if over := [token for token in options.sampling.logit_bias if not 0 <= token < vocabulary_size]:
        raise ConfigError(
            f"the model has no token {over[0]}: its tokens are 0 to {vocabulary_size - 1}",
            where="logit_bias",
            remedy="use token ids of this model's own tokenizer",
        )


class Engine(Protocol):
    """Answers prompts with one model, or with one adapter of it."""

    @property
    def name(self) -> str:
        """What the engine and its model are called in a report."""
        ...

    @property
    def max_tokens(self) -> int | None:
        """Longest prompt and answer together, tokens; None: the engine does not say."""
        ...

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt, with the chat template."""
        ...

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        """Indices into `prompts`, in the batches to answer them in; every index exactly once."""
        ...

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        """One answer for each prompt, in order. A prompt that fails gives an answer that says so."""
        ...

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        """One of `choices` for each prompt: what greedy decoding says when it may say nothing else.

        Where the engine sees probabilities, the answers carry the log-likelihood of every choice.
        """
        ...

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        """As `choose`, with choices of its own for each prompt."""
        ...

    def close(self) -> None:
        """Free what it holds; it answers no more. A second call does nothing."""
        ...
