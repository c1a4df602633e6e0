"""Forces answers into a JSON Schema while they are written, by llguidance's token masks."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from fettle.answering.engine import JsonForm
from fettle.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher, LLTokenizer
    from transformers import PreTrainedTokenizerBase


class JsonConstrainer:
    """Makes one matcher per row for one schema and one tokenizer.

    Args:
        tokenizer: The model's tokenizer.
        form: The schema, and the separators to write.
        end_of_turn_id: The token that ends an answer.
        vocabulary_size: Width of the model's logits, which may exceed the tokenizer's vocabulary.

    Raises:
        ConfigError: The schema cannot be used.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, form: JsonForm, *, end_of_turn_id: int, vocabulary_size: int
    ) -> None:
        import llguidance.hf

        self._tokenizer: LLTokenizer = llguidance.hf.from_tokenizer(
            tokenizer,  # pyright: ignore[reportArgumentType] (any fast tokenizer)
            n_vocab=vocabulary_size,
            eos_token=end_of_turn_id,
        )
        self._grammar = _grammar(form)
        problem = llguidance.LLMatcher.validate_grammar(self._grammar, self._tokenizer)
        if problem:
            raise ConfigError(f"the JSON schema cannot be used to constrain answers: {problem}")

    def new_matcher(self) -> LLMatcher:
        """A matcher at the beginning of an answer."""
        import llguidance

        return llguidance.LLMatcher(self._tokenizer, self._grammar)


class JsonConstrainers:
    """A constrainer for each form that is asked for, made once.

    Args:
        tokenizer: The model's tokenizer.
        end_of_turn_id: The token that ends an answer.
        vocabulary_size: Width of the model's logits.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, end_of_turn_id: int, vocabulary_size: int) -> None:
        self._tokenizer, self._end_of_turn_id = tokenizer, end_of_turn_id
        self._vocabulary_size = vocabulary_size
        self._made: dict[JsonForm, JsonConstrainer] = {}

    def of(self, form: JsonForm | None) -> JsonConstrainer | None:
        """The constrainer of a form; None for none.

        Raises:
            ConfigError: The schema cannot be used.
        """
        if form is None:
            return None
        if form not in self._made:
            self._made[form] = JsonConstrainer(
                self._tokenizer,
                form,
                end_of_turn_id=self._end_of_turn_id,
                vocabulary_size=self._vocabulary_size,
            )
        return self._made[form]


def mask_logits(matchers: list[LLMatcher], logits_BV: torch.Tensor) -> torch.Tensor:
    """Logits with -inf wherever a row's matcher forbids the token."""
    import torch
    from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

    bits = allocate_token_bitmask(len(matchers), logits_BV.shape[1])
    for index, matcher in enumerate(matchers):
        fill_next_token_bitmask(matcher, bits, index)
    allowed = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, : logits_BV.shape[1]]
    return logits_BV.masked_fill(torch.from_numpy(allowed == 0).to(logits_BV.device), float("-inf"))


def take_token(matcher: LLMatcher, token: int) -> None:
    """Tell the matcher what was written.

    Raises:
        IntegrityError: The matcher refuses the token, which `mask_logits` had let through.
    """
    if not matcher.consume_token(token):
        raise IntegrityError(f"the JSON constraint refuses token {token}, which it had allowed: {matcher.get_error()}")


def take_forced_tokens(matcher: LLMatcher) -> list[int]:
    """Let the matcher take the tokens that the grammar leaves no choice about (keys, punctuation), and return them.

    They need no pass of the model of their own.

    Raises:
        IntegrityError: The matcher refuses its own tokens.
    """
    forced = [] if matcher.is_stopped() else list(matcher.compute_ff_tokens())
    if forced and not matcher.consume_tokens(forced):
        raise IntegrityError(f"the JSON constraint refuses its own tokens: {matcher.get_error()}")
    return forced


def _grammar(form: JsonForm) -> str:
    from llguidance import LLMatcher

    options: Any = {
        key: value for key, value in asdict(form).items() if key.endswith("separator") and value is not None
    }
    if options:
        options["whitespace_flexible"] = False
    try:
        return LLMatcher.grammar_from_json_schema(
            json.loads(form.bounded_schema or form.schema), defaults=options or None
        )
    except ValueError as error:
        raise ConfigError(f"the JSON schema cannot be used to constrain answers: {error}") from error
