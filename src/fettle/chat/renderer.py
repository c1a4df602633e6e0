"""Conversations to tokens, with the loss written as it goes. Nothing else in Fettle turns text into tokens.

A conversation is cut where a model's own output begins and ends, and each piece is tokenised by itself. So a training row begins
with exactly the tokens that the model is prompted with, in training, in a study and in serving alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fettle.chat.template import BREAK, ChatTemplate
from fettle.errors import DataError
from fettle.records import Example, Message, TokenisedExample, Tool

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    turn: int | None
    """Index of the assistant message whose output this is; None: context."""


class ChatRenderer:
    """Turns examples and prompts into tokens of one model.

    Args:
        tokenizer: The model's tokenizer, with its chat template.

    Raises:
        ModelError: There is no chat template, or it never ends an assistant turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer)
        self._end_of_turn = self.template.end_of_turn()
        self._opening = self.template.answer_opening()
        self.end_of_turn_id = int(tokenizer.convert_tokens_to_ids(self._end_of_turn))  # type: ignore[arg-type]

    def prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> tuple[int, ...]:
        """The tokens a model is prompted with, generation prompt included. Shape [T]."""
        pieces, _ = self._prompt_pieces(messages, tools)
        return tuple(token for piece in pieces for token in self.encode(piece.text))

    def example_tokens(self, example: Example) -> TokenisedExample:
        """The tokens of an example, with loss on every assistant turn that is not switched off, its end of turn included.

        Raises:
            DataError: Nothing of it would be trained, or the template cannot separate the answer from its prompt.
        """
        final = len(example.messages) - 1
        pieces, num_untrained_turns = self._prompt_pieces(example.prompt, example.tools)
        answered = self._answer_text(example)
        if answered is None:
            raise self._wrong_start(where=str(example.source))
        pieces.append(_Piece(answered, final))
        token_ids: list[int] = []
        is_trained: list[bool] = []
        for piece in pieces:
            ids = self.encode(piece.text)
            token_ids += ids
            trained = piece.turn is not None and example.messages[piece.turn].weight != 0
            is_trained += [trained] * len(ids)
        if not any(is_trained):
            raise DataError(
                "0 % of the tokens would be trained: every assistant turn has weight 0",
                where=str(example.source),
                remedy="give one turn weight 1, or leave the row out",
            )
        if all(is_trained):
            raise DataError(
                "100 % of the tokens would be trained: there is no prompt",
                where=str(example.source),
                remedy="put a user message before the answer",
            )
        return TokenisedExample(
            example_id=example.id,
            token_ids=tuple(token_ids),
            is_trained=tuple(is_trained),
            num_untrained_turns=num_untrained_turns,
        )

    def answer_tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of an answer followed by the end of turn: what a model that gives this answer would write.

        Raises:
            DataError: The template cannot separate the answer from its prompt.
        """
        asked = Message(role="user", content="a")
        before = self._opened([asked], ())
        answered = self.template.render(
            [asked, Message(role="assistant", content=text)], (), add_generation_prompt=False
        )
        output = self._output_after(before, answered)
        if output is None:
            raise self._wrong_start(where=f"answer {text[:40]!r}")
        return tuple(self.encode(output))

    def answer_text(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str | None:
        """What a model writes as the last of some messages, the end of its turn left out; None: the template cannot separate it.

        Raises:
            DataError: The template refuses the conversation.
        """
        before = self._opened(messages[:-1], tools)
        output = self._output_after(before, self.template.render(messages, tools, add_generation_prompt=False))
        return None if output is None else output.removesuffix(self._end_of_turn).replace(BREAK, "")

    def encode(self, text: str) -> list[int]:
        """Tokens of rendered text, each stretch between two `BREAK`s by itself so that broken markers stay text."""
        stretches = [stretch for stretch in text.split(BREAK) if stretch]
        encoded = self.tokenizer(stretches, add_special_tokens=False)["input_ids"] if stretches else []
        return [int(token) for ids in encoded for token in ids]  # type: ignore[union-attr]

    def decode(self, token_ids: Sequence[int], *, shown_ids: frozenset[int] = frozenset()) -> str:
        """The text of generated tokens, special tokens left out but for those that are to be shown."""
        if not shown_ids or shown_ids.isdisjoint(token_ids):
            return self._decoded(token_ids)
        stretches: list[list[int]] = [[]]
        for token in token_ids:
            if token in shown_ids:
                stretches += [[token], []]
            else:
                stretches[-1].append(token)
        return "".join(
            self.decode_visibly(stretch) if place % 2 else self._decoded(stretch)
            for place, stretch in enumerate(stretches)
        )

    def _decoded(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def decode_visibly(self, token_ids: Sequence[int]) -> str:
        """The text of tokens with special tokens spelled out, for showing what a model sees."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def _opened(self, messages: Sequence[Message], tools: Sequence[Tool]) -> str:
        """What a model is prompted with, as text."""
        return self.template.render(messages, tools, add_generation_prompt=True) + self._opening

    def _prompt_pieces(self, messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[list[_Piece], int]:
        """Pieces of a prompt, and how many earlier assistant turns could not be told apart from their context."""
        whole = self._opened(messages, tools)
        pieces: list[_Piece] = []
        position = num_untrained = 0
        for turn, message in enumerate(messages):
            if message.role != "assistant":
                continue
            if turn == 0:  # a greeting that opens the conversation: there is no prompt that it answers
                num_untrained += message.weight != 0
                continue
            before = self._opened(messages[:turn], tools)
            output = self._output_after(
                before, self.template.render(messages[: turn + 1], tools, add_generation_prompt=False)
            )
            if output is None or not whole.startswith(before + output):
                # The template rewrites history (Qwen3 drops earlier thoughts): only the last turn can be trained exactly.
                turns = [m for m in messages if m.role == "assistant" and m.weight != 0]
                return [_Piece(whole, None)], len(turns)
            pieces += [_Piece(before[position:], None), _Piece(output, turn)]
            position = len(before) + len(output)
        pieces.append(_Piece(whole[position:], None))
        return pieces, num_untrained

    def _answer_text(self, example: Example) -> str | None:
        before = self._opened(example.prompt, example.tools)
        after = self.template.render(example.messages, example.tools, add_generation_prompt=False)
        return self._output_after(before, after)

    def _output_after(self, before: str, after: str) -> str | None:
        """What the model writes: from the generation prompt to the last end of turn. None: `after` does not continue `before`."""
        if not after.startswith(before):
            return None
        output = after[len(before) :]
        end = output.rfind(self._end_of_turn)
        return output[: end + len(self._end_of_turn)] if end >= 0 else None

    def _wrong_start(self, *, where: str) -> DataError:
        remedy = "report this chat template; use another model meanwhile"
        if self._opening:
            remedy = f"take thoughts out of the answers: this model's template opens each answer with {self._opening!r}"
        return DataError(
            "the rendered conversation does not start with the prompt the model would be given, so the loss mask would be wrong",
            where=where,
            remedy=remedy,
        )
