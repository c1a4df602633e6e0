"""Function calls in the model's own form: read off its template, and told apart from text while they are written."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chat_templates as templates
from fettle.chat.call_format import CallFormat, call_format, shown_token_ids
from fettle.chat.call_reader import ArgumentsPiece, CallBegin, CallEvent, CallReader, TextPiece
from fettle.chat.renderer import ChatRenderer
from fettle.records import Message, Tool, ToolCall
from tiny_models import tiny_tokenizer

FORMS = {
    "text for templates without tools": templates.CHATML,
    "hermes": templates.CHATML_WITH_TOOLS,
    "llama 3": templates.LLAMA3_WITH_TOOLS,
    "mistral": templates.MISTRAL_WITH_TOOLS,
    "named": templates.NAMED_CALLS,
}
CALLS = (("seats", '{"city": "Rome", "n": 2}'), ("seats_left", '{"note": "}]\\"</tool_call>", "deep": {"a": [1, {}]}}'))
NAMES = [name for name, _ in CALLS]


def renderer_of(template: str) -> ChatRenderer:
    return ChatRenderer(tiny_tokenizer(template))


def form_of(template: str) -> CallFormat:
    form = call_format(renderer_of(template))
    assert form is not None
    return form


def written(template: str, calls: Sequence[tuple[str, str]], content: str = "") -> str:
    """What a model that was trained with this template writes to make some calls."""
    made = tuple(
        ToolCall(id=f"call{number:05}", name=name, arguments=arguments)
        for number, (name, arguments) in enumerate(calls)
    )
    answer = Message(role="assistant", content=content, tool_calls=made)
    tools = [Tool(name=name) for name in NAMES]
    text = renderer_of(template).answer_text([Message(role="user", content="a"), answer], tools)
    assert text is not None
    return text.strip()


def read(reader: CallReader, pieces: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """The text and the calls, put together from events."""
    events: list[CallEvent] = []
    for place, piece in enumerate(pieces):
        events += reader.push(piece, is_last=place == len(pieces) - 1)
    text = "".join(event.text for event in events if isinstance(event, TextPiece))
    begun = [event for event in events if isinstance(event, CallBegin)]
    assert [event.index for event in begun] == list(range(len(begun)))
    assert len({event.id for event in begun}) == len(begun)
    arguments = [
        "".join(event.text for event in events if isinstance(event, ArgumentsPiece) and event.index == call.index)
        for call in begun
    ]
    return text, [(call.name, of_call) for call, of_call in zip(begun, arguments, strict=True)]


def parsed(calls: Sequence[tuple[str, str]]) -> list[tuple[str, object]]:
    return [(name, json.loads(arguments)) for name, arguments in calls]


@pytest.mark.parametrize("template", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("num_calls", [1, 2])
def test_what_the_template_writes_is_read_back_whatever_the_pieces(template: str, num_calls: int) -> None:
    form = form_of(template)
    if num_calls == 2 and form.between is None:
        assert template == templates.LLAMA3_WITH_TOOLS
        return
    text = written(template, CALLS[:num_calls])
    for length in (1, 2, 7, len(text)):
        pieces = [text[place : place + length] for place in range(0, len(text), length)]
        content, calls = read(CallReader(form, NAMES), pieces)
        assert content == ""
        assert parsed(calls) == parsed(CALLS[:num_calls])


@pytest.mark.parametrize("template", [t for name, t in FORMS.items() if name != "llama 3"])
def test_text_before_a_call_stays_text(template: str) -> None:
    text = "Let me look [1] <b>.\n\n" + written(template, CALLS[:1])
    content, calls = read(CallReader(form_of(template), NAMES), list(text))
    assert content == "Let me look [1] <b>."
    assert parsed(calls) == parsed(CALLS[:1])


@pytest.mark.parametrize("template", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "text", ["plain", '{"name": "x"}', "a < b <tool", "<tool_call>\nno", "[1, 2]", " <tool_call> {}"]
)
def test_what_is_no_call_stays_text(template: str, text: str) -> None:
    assert read(CallReader(form_of(template), NAMES), list(text)) == (text, [])


@pytest.mark.parametrize("template", FORMS.values(), ids=FORMS)
def test_a_function_that_was_not_offered_is_text(template: str) -> None:
    text = written(template, [("other", "{}")])
    assert read(CallReader(form_of(template), NAMES), list(text)) == (text, [])


def test_other_spaces_and_another_order_of_keys_are_read_too() -> None:
    form = form_of(templates.CHATML)
    for text in (
        '<tool_call>{"name":"seats","arguments":{"n":1}}</tool_call>',
        '<tool_call>\n\n{ "name" : "seats" , "arguments" : {"n":1} }\n</tool_call>\n',
        '<tool_call>\n{"arguments": {"n": 1}, "name": "seats"}\n</tool_call>',
        '<tool_call>\n{"name": "seats", "arguments": "{\\"n\\": 1}"}\n</tool_call>',
        '<tool_call>\n{"name": "seats", "arguments": {"n": 1}}',
    ):
        content, calls = read(CallReader(form, NAMES), list(text))
        assert (content, parsed(calls)) == ("", [("seats", {"n": 1})])


def test_nothing_is_read_after_the_one_call_that_may_be_made() -> None:
    reader = CallReader(form_of(templates.CHATML), NAMES, at_most_one=True)
    text = written(templates.CHATML, CALLS) + " and so on"
    content, calls = read(reader, list(text))
    assert (content, parsed(calls)) == ("", parsed(CALLS[:1]))
    assert reader.is_done


@pytest.mark.parametrize("template", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("must_call", [False, True])
@pytest.mark.parametrize("num_calls", [1, 2])
def test_a_call_that_is_cut_before_its_name_is_whole_leaves_no_text(
    template: str, must_call: bool, num_calls: int
) -> None:
    form = form_of(template)
    if num_calls == 2 and form.between is None:
        assert template == templates.LLAMA3_WITH_TOOLS
        return
    whole = written(template, CALLS[:num_calls])
    for length in range(whole.rindex(CALLS[num_calls - 1][0]) + len(CALLS[num_calls - 1][0])):
        if not must_call and not whole[:length].startswith(form.marker or "{"):
            continue
        reader = CallReader(form, NAMES, must_call=must_call)
        events = [event for character in whole[:length] for event in reader.push(character)] + reader.cut("")
        assert not any(isinstance(event, TextPiece) for event in events), (whole[:length], events)
        assert reader.num_calls < num_calls
        at_once = CallReader(form, NAMES, must_call=must_call)
        assert not any(isinstance(event, TextPiece) for event in at_once.cut(whole[:length]))
        assert at_once.is_cut_in_call or at_once.num_calls


def test_text_in_front_of_a_call_that_is_cut_stays() -> None:
    reader = CallReader(form_of(templates.CHATML), NAMES)
    assert reader.cut('Let me see.\n<tool_call>\n{"name": "se') == [TextPiece("Let me see.")]
    assert reader.is_cut_in_call


@pytest.mark.parametrize("text", ["plain", "a < b <tool", "a\n", "", " <"])
def test_text_that_is_cut_and_no_call_stays_whole(text: str) -> None:
    reader = CallReader(form_of(templates.CHATML), NAMES)
    assert "".join(event.text for event in reader.cut(text) if isinstance(event, TextPiece)) == text
    assert not reader.is_cut_in_call


def test_arguments_are_passed_on_while_they_are_written() -> None:
    reader = CallReader(form_of(templates.CHATML), NAMES)
    reader.push('<tool_call>\n{"name": "seats", "arguments": {')
    assert reader.push('"city": "Ro') == [ArgumentsPiece(0, '"city": "Ro')]
    assert reader.push("", is_last=True) == []


def test_marks_that_are_special_tokens_are_kept_in_the_text() -> None:
    renderer = renderer_of(templates.MISTRAL_WITH_TOOLS)
    form = form_of(templates.MISTRAL_WITH_TOOLS)
    shown = shown_token_ids(renderer, form)
    assert [renderer.tokenizer.convert_ids_to_tokens(token) for token in shown] == ["<|user|>"]
    text = written(templates.MISTRAL_WITH_TOOLS, CALLS)
    ids = renderer.encode("Grüße " + text + "</s>")
    assert renderer.decode(ids, shown_ids=shown) == "Grüße " + text
    assert form.marker not in renderer.decode(ids)


def test_ids_that_a_template_refuses_are_shortened_alike_in_call_and_result() -> None:
    renderer = renderer_of(templates.MISTRAL_WITH_TOOLS)
    call = ToolCall(id="call_" + "x" * 24, name="seats", arguments="{}")
    answer = Message(role="assistant", content="", tool_calls=(call,))
    result = Message(role="tool", content="3 left", tool_call_id=call.id, name="seats")
    text = renderer.template.render(
        [Message(role="user", content="a"), answer, result], [Tool(name="seats")], add_generation_prompt=True
    )
    assert call.id not in text
    assert "3 left" in text


def test_calls_that_are_no_json_are_not_understood() -> None:
    assert call_format(renderer_of(templates.PYTHON_CALLS)) is None


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["<tool_call>", "\n", " ", "{", "}", '"name"', ":", '"seats"', ",", '"arguments"', "[", "x", '"', "\\"]
        )
    )
)
def test_however_it_is_cut_the_same_is_read(parts: list[str]) -> None:
    form, text = form_of(templates.CHATML), "".join(parts)
    assert read(CallReader(form, NAMES), list(text) or [""]) == read(CallReader(form, NAMES), [text])
