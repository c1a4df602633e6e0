"""One answer while it is written: token by token, from the logits of whatever runs the model.

Legend: B answers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.answering.constrain import Constrainer, mask_logits, require_no_error, take_forced_tokens, take_token
from fettle.answering.engine import GenerationOptions
from fettle.answering.sampling import TokenChooser
from fettle.answering.text_stream import TextStream
from fettle.errors import FettleError
from fettle.records import FinishReason, TokenLogProb

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What ends an answer, and how its tokens are read."""

    stop_token_ids: Collection[int]
    decode: Callable[[Sequence[int]], str]
    space: str = ""
    """What the template puts in front of every answer, which is left out."""


class AnswerInWriting:
    """Takes tokens until the answer is whole.

    Args:
        limit: Tokens it may have, the end of turn included.
        options: How they are chosen; its own limit was looked at by who gives `limit`.
        ending: What ends it.
        constrainer: Of the form, where one is asked for.
        number: Tells answers apart that are drawn for one prompt with one seed.
    """

    def __init__(
        self,
        limit: int,
        options: GenerationOptions,
        ending: Ending,
        *,
        constrainer: Constrainer | None = None,
        number: int = 0,
    ) -> None:
        self.limit, self._options, self._ending = limit, options, ending
        self._chooser = TokenChooser(options.sampling, row=number)
        self.matcher = constrainer.new_matcher() if constrainer else None
        self._stream = TextStream(ending.decode, options.stop, space=ending.space)
        self._num_read, self._unasked = 0, ""
        self.tokens: list[int] = []
        """What was written, the end of turn included where it was reached."""
        self.log_probs: list[TokenLogProb] = []
        """Of each token, where they are asked for."""
        self.finish_reason: FinishReason | None = None
        """Why it is whole; None: it is not."""
        self.error: FettleError | None = None
        """Why it could not be written to its end."""

    @property
    def is_plain(self) -> bool:
        """The likeliest token that may be written is taken, and nothing else about the logits is wanted."""
        return self._options.is_plain

    @property
    def is_open(self) -> bool:
        """More tokens are to come."""
        return self.finish_reason is None

    @property
    def text(self) -> str:
        """The whole answer with the space around it, the end of turn and what comes after a stop text left out."""
        if self._options.stop or self._ending.space:
            self._read(is_last=not self.is_open)
            return self._stream.text
        return self._ending.decode(self._spoken)

    def next_piece(self) -> str:
        """The text that has become certain since this was last asked."""
        self._read(is_last=not self.is_open)
        piece, self._unasked = self._unasked, ""
        return piece

    @property
    def num_certain_tokens(self) -> int:
        """Tokens whose text `next_piece` has given: neither held back, nor of the end of turn or of a stop text."""
        return self._stream.num_certain_tokens

    def give_up(self) -> None:
        """Write no further: nobody waits for it any more."""
        if self.is_open:
            self.finish_reason = FinishReason.ERROR

    def fail(self, error: FettleError) -> None:
        """Write no further, and say why."""
        self.give_up()
        self.error = error

    def take_from(self, logits_V: torch.Tensor, raw_V: torch.Tensor) -> list[int]:
        """Choose the next token as the options say, and take it.

        Args:
            logits_V: Masked, where a JSON form is asked for.
            raw_V: As the model gave them.
        """
        token = self._chooser.chosen(self._chooser.moved(logits_V))
        if self._options.num_top_log_probs is not None:
            self.log_probs.append(_log_prob(raw_V, token, self._options.num_top_log_probs))
        return self.take(token)

    def take(self, token: int) -> list[int]:
        """Take a token that was chosen; it, and those that follow without a choice."""
        stops = self._ending.stop_token_ids
        new = [token]
        if self.matcher is not None and token not in stops:
            take_token(self.matcher, token)
            if self._options.num_top_log_probs is None:  # a probability wants a pass of the model for each
                new += take_forced_tokens(self.matcher)
        new = new[: self.limit - len(self.tokens)]
        self.tokens += new
        self._chooser.took(new)
        if token in stops or self._reaches_stop_text():
            self.finish_reason = FinishReason.STOP
        elif len(self.tokens) >= self.limit:
            self.finish_reason = FinishReason.LENGTH
        return new

    @property
    def _spoken(self) -> list[int]:
        ends = bool(self.tokens) and self.tokens[-1] in self._ending.stop_token_ids
        return self.tokens[:-1] if ends else self.tokens

    def _reaches_stop_text(self) -> bool:
        if self._options.stop:
            self._read(is_last=False)
        return self._stream.has_stopped

    def _read(self, *, is_last: bool) -> None:
        """Turn tokens into text that were not yet: each once, so that a long answer takes no longer a token than a short one."""
        spoken = self._spoken
        new, self._num_read = spoken[self._num_read :], len(spoken)
        self._unasked += self._stream.push(new, is_last=is_last)


def take_next(answers: Sequence[AnswerInWriting], logits_BV: torch.Tensor) -> list[list[int]]:
    """Choose what each answer goes on with, and take it; what is to be run for each.

    One that is whole already repeats a token, which nobody reads. One that cannot go on fails by itself: the others are other
    people's.
    """
    import torch

    masked_BV = logits_BV
    if constrained := [row for row, answer in enumerate(answers) if answer.is_open and answer.matcher]:
        rows_C = torch.tensor(constrained, device=logits_BV.device)
        matchers = [matcher for row in constrained if (matcher := answers[row].matcher)]
        masked_BV = logits_BV.index_copy(0, rows_C, mask_logits(matchers, logits_BV[rows_C]))
    new = []
    for row, token in enumerate(masked_BV.argmax(dim=-1).tolist()):
        answer = answers[row]
        taken = [token]
        try:
            if answer.is_open and answer.matcher:
                require_no_error(answer.matcher)
            if answer.is_open:
                taken = answer.take(token) if answer.is_plain else answer.take_from(masked_BV[row], logits_BV[row])
        except FettleError as error:
            answer.fail(error)
        new.append(taken)
    return new


def _log_prob(logits_V: torch.Tensor, token: int, num_top: int) -> TokenLogProb:
    log_probs_V = logits_V.float().log_softmax(-1)
    top = log_probs_V.topk(num_top) if num_top else None
    return TokenLogProb(
        token_id=token,
        log_prob=float(log_probs_V[token]),
        top=tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)) if top else (),
    )
