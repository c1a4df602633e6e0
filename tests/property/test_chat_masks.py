"""Whatever people type, the mask covers exactly the answer, and nothing typed becomes a control token."""

from __future__ import annotations

import json
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from chat_templates import TEMPLATES
from fettle.chat.renderer import ChatRenderer
from fettle.records import Example, Location, Message, Tool, ToolCall
from tiny_models import ORDINARY_ADDED_TOKENS, SPECIAL_TOKENS, tiny_tokenizer

_SURROGATES = ("Cs",)
_MARKERS = (*SPECIAL_TOKENS, *ORDINARY_ADDED_TOKENS, "\ufdd0", "<|im_", "end|>", "<", "|>")
"""Whole markers, the character that breaks them, and parts that could grow together to one."""

anything = st.text(st.characters(exclude_categories=_SURROGATES), max_size=30)
hostile = st.lists(st.one_of(anything, st.sampled_from(_MARKERS)), max_size=6).map("".join)
templates = st.sampled_from(sorted(TEMPLATES))
thoughtless = hostile.filter(lambda text: "think>" not in text)


@cache
def renderer(template: str) -> ChatRenderer:
    return ChatRenderer(tiny_tokenizer(TEMPLATES[template]))


@cache
def added_ids(template: str, *, special_only: bool) -> frozenset[int]:
    added = renderer(template).tokenizer.added_tokens_decoder.items()
    return frozenset(token for token, text in added if text.special or not special_only)


def num_added(template: str, tokens: tuple[int, ...], *, special_only: bool = False) -> int:
    return sum(token in added_ids(template, special_only=special_only) for token in tokens)


def example(*messages: Message) -> Example:
    return Example(id="e", messages=messages, source=Location(file="a.jsonl", line=1))


@settings(max_examples=150, deadline=None)
@given(template=templates, system=hostile, asked=hostile, answer=thoughtless)
def test_the_mask_covers_the_answer_and_its_end_of_turn(template: str, system: str, asked: str, answer: str) -> None:
    chat = renderer(template)
    prompt = (Message(role="system", content=system), Message(role="user", content=asked))
    [row] = chat.example_rows(example(*prompt, Message(role="assistant", content=answer)))
    context = chat.prompt_tokens(prompt)
    written = row.token_ids[len(context) :]
    assert row.token_ids[: len(context)] == context
    assert row.is_trained == (False,) * len(context) + (True,) * len(written)
    assert written == chat.answer_tokens(answer)
    assert written[-1] == chat.end_of_turn_id
    assert num_added(template, written, special_only=True) == 1
    # Templates trim; nothing else of the answer is lost, and the character that breaks markers leaves no trace.
    assert chat.decode_visibly(written[:-1]).strip() == answer.replace("\ufdd0", "").strip()


@settings(max_examples=150, deadline=None)
@given(template=templates, contents=st.lists(hostile, min_size=1, max_size=3))
def test_nothing_typed_becomes_a_control_token(template: str, contents: list[str]) -> None:
    chat = renderer(template)

    def conversation(texts: list[str]) -> list[Message]:
        turns = [(Message(role="user", content=t), Message(role="assistant", content="ok")) for t in texts]
        return [message for pair in turns for message in pair][:-1]

    typed = chat.prompt_tokens(conversation(contents))
    plain = chat.prompt_tokens(conversation(["x"] * len(contents)))
    assert num_added(template, typed) == num_added(template, plain)
    assert "\ufdd0" not in chat.decode_visibly(typed)


@settings(max_examples=100, deadline=None)
@given(template=st.sampled_from(["chatml", "chatml_with_tools", "llama3"]), value=hostile, key=hostile, found=hostile)
def test_nothing_in_tools_calls_and_results_becomes_a_control_token(
    template: str, value: str, key: str, found: str
) -> None:
    chat = renderer(template)

    def conversation(value: str, key: str, found: str, *, ascii_: bool) -> tuple[int, ...]:
        arguments = json.dumps({key: [value, {"deep": value}]}, ensure_ascii=ascii_)
        call = ToolCall(id="c", name="f", arguments=arguments)
        tool = Tool(name="f", description=value, parameters=json.dumps({"title": value, "x": {key: 1}}))
        messages = [
            Message(role="user", content="a"),
            Message(role="assistant", content="", tool_calls=(call,)),
            Message(role="tool", content=found, tool_call_id="c", name="f"),
        ]
        return chat.prompt_tokens(messages, [tool])

    plain = num_added(template, conversation("x", "y", "z", ascii_=False))
    for ascii_ in (False, True):
        assert num_added(template, conversation(value, key, found, ascii_=ascii_)) == plain


@settings(max_examples=100, deadline=None)
@given(
    template=templates,
    turns=st.lists(st.tuples(thoughtless, thoughtless, st.sampled_from([None, 0, 1])), min_size=1, max_size=4),
)
def test_every_trained_token_belongs_to_a_turn_with_weight(
    template: str, turns: list[tuple[str, str, int | None]]
) -> None:
    chat = renderer(template)
    turns = [*turns[:-1], (*turns[-1][:2], 1)]
    messages = [
        message
        for asked, answer, weight in turns
        for message in (
            Message(role="user", content=asked),
            Message(role="assistant", content=answer, weight=weight),
        )
    ]
    rows = chat.example_rows(example(*messages))
    wanted = [answer for _, answer, weight in turns if weight != 0]
    expected = [token for answer in wanted for token in chat.answer_tokens(answer)]
    pairs = [pair for row in rows for pair in zip(row.token_ids, row.is_trained, strict=True)]
    assert [token for token, is_trained in pairs if is_trained] == expected
    assert rows[-1].token_ids == (*chat.prompt_tokens(messages[:-1]), *chat.answer_tokens(messages[-1].content))
