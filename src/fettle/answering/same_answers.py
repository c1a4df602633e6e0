"""Whether an engine that holds the weights itself answers as the reference does: shown before any of its answers counts.

Such an engine may leave an adapter out with no more than a warning, read a file otherwise than it was meant, put another template
around a prompt, or stop at another token, and still writes fluent text. The reference is the model's own forward, an adapter's
layers being run as PEFT runs them.

Legend: T tokens of a row, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch

from fettle.answering.start_up_check import NUM_TOKENS, bound, shortfall
from fettle.chat.renderer import ChatRenderer
from fettle.errors import IntegrityError, WrongModelError
from fettle.models.load import LoadedModel
from fettle.models.lora_linear import as_peft_computes
from fettle.models.understood import own_logits
from fettle.records import Prompt

Reference = Callable[[Sequence[int]], torch.Tensor]
"""The logits [T, V] of a row, fp32."""
_TIMES_AT_ONCE = 4
"""So often each prompt is asked where two models are asked at the same time."""
_ENDING_TOKENS = 2
"""Written after a whole answer: its end, and one more by an engine that does not stop there."""


class TokenWriter(Protocol):
    """As much of an engine as is checked."""

    @property
    def name(self) -> str:
        """What it is called in a report."""
        ...

    def first_log_probs(self, rows: Sequence[Sequence[int]]) -> Sequence[Mapping[int, float]]:
        """After each row the likeliest next tokens with their natural-log probabilities."""
        ...

    def written(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> Sequence[Sequence[int]]:
        """Greedy tokens after each row, at most as many as its limit, the stop token included where it was reached."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRow:
    """A prompt, and an answer that the model was shown for it."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    """Its end of turn included."""


def check_row(renderer: ChatRenderer, prompt: Prompt, answer: str) -> CheckRow:
    """A prompt and its wanted answer as tokens."""
    return CheckRow(prompt=renderer.prompt_tokens(prompt.messages, prompt.tools), answer=renderer.answer_tokens(answer))


def reference_of(loaded: LoadedModel) -> Reference:
    """What a model says itself, with the adapter that is on it, or without one."""

    def logits(row: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode(), as_peft_computes(loaded.model):
            return own_logits(loaded.model, row).cpu()

    return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What an engine is held against."""

    reference: Reference
    untuned: Reference | None
    """The same without what was trained; None: the engine is to answer without it."""
    stop_token_ids: frozenset[int]
    dtype: torch.dtype
    """The coarser one of what the engine and the reference compute with."""
    noise: float = 0.0
    """What engine and reference were seen to differ by without what was trained, nats."""


def require_same_answers(engine: TokenWriter, expected: Expected, rows: Sequence[CheckRow]) -> float:
    """Show on some prompts that an engine says what the reference says, within rounding.

    Four things are looked at: the probabilities of the first token; that they are nearer to those of the tuned model than to those
    of the model without the tuning; the first greedy tokens; and that an answer ends where the reference ends it.

    Returns:
        The largest difference of a first token's log-probability, nats.

    Raises:
        IntegrityError: It does not.
    """
    most = bound(expected.noise, expected.dtype)
    prompts = [row.prompt for row in rows]
    said = engine.first_log_probs(prompts)
    wanted = [expected.reference(prompt)[-1].log_softmax(-1) for prompt in prompts]
    if expected.untuned is not None:
        untuned = [expected.untuned(prompt)[-1].log_softmax(-1) for prompt in prompts]
        _require_nearer(engine, said, wanted, untuned)
    found = max(_difference(ours, theirs_V) for ours, theirs_V in zip(said, wanted, strict=True))
    if not found <= most:
        raise _otherwise(engine, f"its first token's log-probabilities differ by {found:.3g} nats{_at_most(most)}")
    _require_same_tokens(engine, expected, prompts, NUM_TOKENS, most)
    endings = [row.prompt + row.answer[:-1] for row in rows]
    _require_same_tokens(engine, expected, endings, _ENDING_TOKENS, most)
    return found


def _difference(ours: Mapping[int, float], theirs_V: torch.Tensor) -> float:
    """The largest difference among the tokens that the engine tells of; the reference's likeliest one has to be among them."""
    is_complete = int(theirs_V.argmax()) in ours and max(ours) < len(theirs_V)
    if not is_complete or not all(map(math.isfinite, ours.values())):
        return math.inf
    return max(abs(log_prob - float(theirs_V[token])) for token, log_prob in ours.items())


def _require_nearer(
    engine: TokenWriter,
    said: Sequence[Mapping[int, float]],
    tuned: Sequence[torch.Tensor],
    untuned: Sequence[torch.Tensor],
) -> None:
    """Show that an engine is nearer to the tuned model than to the untuned one, however coarsely it computes.

    Raises:
        WrongModelError: It is not.
    """
    to_tuned, to_untuned = (
        sum(
            abs(log_prob - float(one_V[token]))
            for ours, one_V in zip(said, models, strict=True)
            for token, log_prob in ours.items()
            if token < len(one_V)
        )
        for models in (tuned, untuned)
    )
    if not to_tuned < to_untuned:
        raise _otherwise(
            engine,
            "its first token's probabilities are those of the model without the tuning: what was trained is left out",
            kind=WrongModelError,
        )


def _require_same_tokens(
    engine: TokenWriter, expected: Expected, rows: Sequence[Sequence[int]], limit: int, most: float
) -> None:
    """Show that each greedy token is as likely as the reference's likeliest one, and that only stop tokens end an answer.

    Raises:
        IntegrityError: They are not.
    """
    written = engine.written(rows, [limit] * len(rows))
    _require_likely(engine, expected, rows, written, limit, most)


def require_apart(
    first: tuple[TokenWriter, Expected], second: tuple[TokenWriter, Expected], rows: Sequence[CheckRow]
) -> None:
    """Show that two models of one server that are asked at the same time both say what they should, each with its own weights.

    Raises:
        IntegrityError: They do not.
    """
    prompts = [row.prompt for row in rows] * _TIMES_AT_ONCE
    limits = [NUM_TOKENS] * len(prompts)
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(engine.written, prompts, limits) for engine, _ in (first, second)]
        written = [tokens.result() for tokens in both]
    for (engine, expected), tokens in zip((first, second), written, strict=True):
        try:
            _require_likely(engine, expected, prompts, tokens, NUM_TOKENS, bound(expected.noise, expected.dtype))
        except IntegrityError as error:
            raise IntegrityError(
                f"{error.problem}; while the base model and an adapter are asked at the same time",
                remedy="use another version of the server, or one server for each of them",
            ) from error


def _require_likely(
    engine: TokenWriter,
    expected: Expected,
    rows: Sequence[Sequence[int]],
    written: Sequence[Sequence[int]],
    limit: int,
    most: float,
) -> None:
    stops = expected.stop_token_ids
    for row, tokens in zip(rows, written, strict=True):
        if not tokens or (len(tokens) < limit and tokens[-1] not in stops):
            raise _otherwise(engine, "it ends an answer where the model has not written an end of turn")
        if any(token in stops for token in tokens[:-1]):
            raise _otherwise(engine, "it goes on after the end of turn, or after a token that ends a text")
        reference_KV = expected.reference([*row, *tokens[:-1]])[-len(tokens) :]
        lost = shortfall(tokens, reference_KV) if max(tokens) < reference_KV.shape[-1] else math.inf
        if not lost <= most:
            raise _otherwise(
                engine, f"a token that it writes is {lost:.3g} nats less likely than the likeliest one{_at_most(most)}"
            )


def _at_most(most: float) -> str:
    return f", at most {most:.2g} can be rounding"


def _otherwise(engine: TokenWriter, problem: str, *, kind: type[IntegrityError] = IntegrityError) -> IntegrityError:
    return kind(
        f"{engine.name} does not answer as the reference does: {problem}",
        remedy="leave out what asks for it, and the reference answers; report this with the versions of both",
    )
