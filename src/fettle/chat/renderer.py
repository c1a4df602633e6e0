"""Conversations to tokens, with the loss written as it goes. Nothing else in Fettle turns text into tokens.

A conversation is cut where a model's own output begins and ends, and each piece is tokenised by itself. So a training row begins
with exactly the tokens that the model is prompted with, in training, in a study and in serving alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
        pieces = self._prompt_pieces(self.template.joined(messages), tools)
        return tuple(token for piece in pieces for token in self.encode(piece.text))

    def num_tokens(self, example: Example) -> int:
        """How many tokens an example has, up to the end of its last turn."""
        messages = self.template.joined(example.messages)
        text = self.template.render(messages, example.tools, add_generation_prompt=False)
        end = text.rfind(self._end_of_turn) + len(self._end_of_turn)
        return len(self.encode(text[:end]))

    def example_rows(self, example: Example) -> tuple[TokenisedExample, ...]:
        """The rows by which an example is learned, with loss on every assistant turn that is not switched off, its end included.

        One row, but for templates that write an earlier turn otherwise than the model would (Qwen 3 drops earlier thoughts): each
        turn that the whole conversation does not hold as it was written has a row of its own, up to its end.

        Raises:
            DataError: Nothing of it would be trained, or the template cannot separate the answer from its prompt.
        """
        parts, num_untrained = self._parts(example)
        rows = [self._row(example, pieces, learned) for pieces, learned in parts]
        return (*rows[:-1], replace(rows[-1], num_untrained_turns=num_untrained))

    def rows_of(self, examples: Iterable[Example]) -> tuple[TokenisedExample, ...]:
        """The rows of several examples, those of one next to each other; see `example_rows`."""
        return tuple(row for example in examples for row in self.example_rows(example))

    def require_learnable(self, example: Example) -> None:
        """See that the template takes an example, without the time that its tokens take.

        Raises:
            DataError: As `example_rows` would.
        """
        self._parts(example)

    def _parts(self, example: Example) -> tuple[list[tuple[list[_Piece], frozenset[int]]], int]:
        """For each row of an example its pieces and the turns that are learned; and how many turns cannot be, or not as a whole."""
        try:
            messages = self.template.joined(example.messages)
            learned = {turn for turn, one in enumerate(messages) if one.role == "assistant" and one.weight != 0}
            if not learned:
                raise DataError(
                    "0 % of the tokens would be trained: every assistant turn has weight 0",
                    remedy="give one turn weight 1, or leave the row out",
                )
            whole = self._answered_pieces(messages, example.tools)
            if whole is None:
                raise self._wrong_start()
            together = frozenset(learned & {piece.turn for piece in whole})
            alone = {turn: self._answered_pieces(messages[: turn + 1], example.tools) for turn in learned - together}
        except DataError as error:
            raise DataError(error.problem, where=str(example.source), remedy=error.remedy) from error
        parts = [(pieces, frozenset({turn})) for turn, pieces in sorted(alone.items()) if pieces is not None]
        if together:
            parts.append((whole, together))
        written = {piece.turn: piece.text for pieces, _ in parts for piece in pieces}
        num_lost = sum(_is_text_lost(messages[turn], written[turn]) for turn in learned if turn in written)
        return parts, len(alone) - len(parts) + bool(together) + num_lost

    def answer_tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of an answer followed by the end of turn: what a model that gives this answer would write.

        Raises:
            DataError: The template cannot separate the answer from its prompt.
        """
        asked = Message(role="user", content="a")
        output = self._output(self._opened([asked], ()), [asked, Message(role="assistant", content=text)], ())
        if output is None:
            raise self._wrong_start(where=f"answer {text[:40]!r}")
        return tuple(self.encode(output))

    def answer_text(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str | None:
        """What a model writes as the last of some messages, the end of its turn left out; None: the template cannot separate it.

        Raises:
            DataError: The template refuses the conversation.
        """
        output = self._output(self._opened(messages[:-1], tools), messages, tools)
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
        if not messages:
            return self.template.greeting_opening(tools)
        return self.template.render(messages, tools, add_generation_prompt=True) + self._opening

    def _prompt_pieces(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[_Piece]:
        """Pieces of a prompt; one piece where an earlier assistant turn cannot be told apart from its context."""
        whole = self._opened(messages, tools)
        pieces: list[_Piece] = []
        position = 0
        for turn, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._opened(messages[:turn], tools)
            output = self._output(before, messages[: turn + 1], tools)
            if output is None or not whole.startswith(before + output):
                return [_Piece(whole, None)]
            pieces += [_Piece(before[position:], None), _Piece(output, turn)]
            position = len(before) + len(output)
        pieces.append(_Piece(whole[position:], None))
        return pieces

    def _answered_pieces(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[_Piece] | None:
        """Pieces of a conversation that ends with an answer; None: the template cannot separate that from its prompt."""
        pieces = self._prompt_pieces(messages[:-1], tools)
        output = self._output("".join(piece.text for piece in pieces), messages, tools)
        return None if output is None else [*pieces, _Piece(output, len(messages) - 1)]

    def _row(self, example: Example, pieces: Sequence[_Piece], learned: frozenset[int]) -> TokenisedExample:
        token_ids: list[int] = []
        is_trained: list[bool] = []
        for piece in pieces:
            ids = self.encode(piece.text)
            token_ids += ids
            is_trained += [piece.turn in learned] * len(ids)
        if all(is_trained):
            raise DataError(
                "100 % of the tokens would be trained: there is no prompt",
                where=str(example.source),
                remedy="put a user message before the answer",
            )
        return TokenisedExample(example_id=example.id, token_ids=tuple(token_ids), is_trained=tuple(is_trained))

    def _output(self, before: str, messages: Sequence[Message], tools: Sequence[Tool]) -> str | None:
        """What the model writes as the last of some messages, its end of turn included, where `before` is what it is prompted with.

        None: the template does not continue `before`.
        """
        after = self.template.render(messages, tools, add_generation_prompt=False)
        if not after.startswith(before):
            return None
        output = after[len(before) :]
        end = output.rfind(self._end_of_turn)
        return output[: end + len(self._end_of_turn)] if end >= 0 else None

    def _wrong_start(self, where: str | None = None) -> DataError:
        remedy = "report this chat template; use another model meanwhile"
        if self._opening:
            remedy = f"take thoughts out of the answers: this model's template opens each answer with {self._opening!r}"
        return DataError(
            "the rendered conversation does not start with the prompt the model would be given, so the loss mask would be wrong",
            where=where,
            remedy=remedy,
        )


def _is_text_lost(message: Message, output: str) -> bool:
    """Whether a template writes the calls of an answer alone, and leaves out the text beside them (Llama 3.1, Mistral)."""
    return bool(message.tool_calls) and message.content.strip() not in output.replace(BREAK, "")
