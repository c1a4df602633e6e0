"""Forces answers into a JSON Schema or a grammar while they are written, by llguidance's token masks."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fettle.answering.engine import Form, JsonForm
from fettle.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher, LLTokenizer
    from transformers import PreTrainedTokenizerBase

_MOST_KEPT = 256
"""Forms whose grammars are kept."""


class Constrainer:
    """Makes one matcher per row for one form.

    Args:
        tokenizer: The model's tokenizer, as llguidance knows it.
        form: The schema and the separators to write, or the grammar.

    Raises:
        ConfigError: The schema or the grammar cannot be used, or is too complex.
    """

    def __init__(self, tokenizer: LLTokenizer, form: Form) -> None:
        import llguidance

        self._tokenizer = tokenizer
        self._grammar = _json_grammar(form) if isinstance(form, JsonForm) else form.lark
        problem = llguidance.LLMatcher.validate_grammar(self._grammar, tokenizer)
        if problem:
            raise _unusable(form, problem)

    def new_matcher(self) -> LLMatcher:
        """A matcher at the beginning of an answer."""
        import llguidance

        return llguidance.LLMatcher(self._tokenizer, self._grammar, log_level=0)


class Constrainers:
    """A constrainer for each form that is asked for, made once; those not asked for longest are forgotten.

    Args:
        tokenizer: The model's tokenizer.
        end_of_turn_id: The token that ends an answer.
        vocabulary_size: Width of the model's logits, which may exceed the tokenizer's vocabulary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, end_of_turn_id: int, vocabulary_size: int) -> None:
        self._hf_tokenizer, self._end_of_turn_id = tokenizer, end_of_turn_id
        self._vocabulary_size = vocabulary_size
        self._made: OrderedDict[Form, Constrainer] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def tokenizer(self) -> LLTokenizer:
        """The model's tokenizer, as llguidance knows it."""
        import llguidance.hf

        return llguidance.hf.from_tokenizer(
            self._hf_tokenizer,  # pyright: ignore[reportArgumentType] (any fast tokenizer)
            n_vocab=self._vocabulary_size,
            eos_token=self._end_of_turn_id,
        )

    def of(self, form: Form | None) -> Constrainer | None:
        """The constrainer of a form; None for none.

        Raises:
            ConfigError: The schema or the grammar cannot be used.
        """
        if form is None:
            return None
        with self._lock:  # requests come from many threads
            if form not in self._made:
                self._made[form] = Constrainer(self.tokenizer, form)
                if len(self._made) > _MOST_KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(form)
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


def require_no_error(matcher: LLMatcher) -> None:
    """Show that a matcher still knows what may come next.

    Raises:
        ConfigError: Its form turned out to be too complex.
    """
    if matcher.is_error():
        raise ConfigError(
            f"the answer's form is too complex to be kept: {_first_line(matcher.get_error())}",
            remedy="ask for a simpler JSON schema: fewer alternatives, shorter patterns, smaller bounds",
        )


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


def _json_grammar(form: JsonForm) -> str:
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
        raise _unusable(form, str(error)) from error


def _unusable(form: Form, problem: str) -> ConfigError:
    what = "JSON schema" if isinstance(form, JsonForm) else "grammar"
    return ConfigError(f"the {what} cannot be used to constrain answers: {_first_line(problem)}")


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")
