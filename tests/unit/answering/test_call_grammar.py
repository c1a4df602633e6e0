"""Answers that are kept in the model's own form of calls: even a random model calls what it is offered, as it is offered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import chat_templates as templates
from fettle.answering.call_grammar import CallRules, added_token_ids, call_grammar
from fettle.answering.constrain import Constrainers
from fettle.answering.engine import GenerationOptions, Grammar, JsonForm
from fettle.answering.engines.shared_engine import SharedEngine
from fettle.answering.sampling import Sampling
from fettle.chat.call_format import CallFormat, call_format, shown_token_ids
from fettle.chat.call_reader import ArgumentsPiece, CallBegin, CallReader, TextPiece
from fettle.chat.renderer import ChatRenderer
from fettle.errors import ConfigError
from fettle.records import FinishReason, Message, Prompt, Tool
from tiny_models import load_tiny_model, save_tiny_model, tiny_tokenizer

FORMS = {
    "text": templates.CHATML,
    "hermes": templates.CHATML_WITH_TOOLS,
    "llama 3": templates.LLAMA3_WITH_TOOLS,
    "mistral": templates.MISTRAL_WITH_TOOLS,
    "named": templates.NAMED_CALLS,
}
SEATS = {
    "type": "object",
    "properties": {"city": {"$ref": "#/$defs/city"}, "n": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "n"],
    "additionalProperties": False,
    "$defs": {"city": {"enum": ["Rome", "Oslo"]}},
}
TOOLS = (Tool(name="seats", parameters=json.dumps(SEATS)), Tool(name="seats_left"))
RULES = CallRules(tools=TOOLS, strict_names=frozenset({"seats"}))


def parts(template: str) -> tuple[ChatRenderer, CallFormat, dict[str, int]]:
    renderer = ChatRenderer(tiny_tokenizer(template))
    form = call_format(renderer)
    assert form is not None
    return renderer, form, added_token_ids(renderer.tokenizer.added_tokens_decoder)


def takes(template: str, rules: CallRules, text: str) -> bool:
    """Whether a whole answer is in the language."""
    renderer, form, token_ids = parts(template)
    constrainers = Constrainers(renderer.tokenizer, end_of_turn_id=renderer.end_of_turn_id, vocabulary_size=430)
    constrainer = constrainers.of(call_grammar(form, rules, token_ids))
    assert constrainer is not None
    matcher = constrainer.new_matcher()
    tokens = renderer.encode(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@pytest.mark.parametrize("template", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_a_random_model_that_must_call_does_so(template: str, seed: int, tmp_path: Path) -> None:
    loaded = load_tiny_model(save_tiny_model(tmp_path, "llama", seed=seed, template=template))
    _, form, token_ids = parts(template)
    rules = replace(RULES, must_call=True, strict_names=frozenset({"seats", "seats_left"}), at_most_one=seed % 2 == 0)
    options = GenerationOptions(
        max_new_tokens=300,
        form=call_grammar(form, rules, token_ids),
        shown_token_ids=shown_token_ids(loaded.renderer, form),
        sampling=Sampling(temperature=1.5, seed=seed),
    )
    prompt = Prompt(example_id="a", messages=(Message(role="user", content="Two for Rome"),), tools=TOOLS)
    with SharedEngine(loaded) as engine:
        pieces = list(engine.submit(prompt, options))
    reader = CallReader(form, [tool.name for tool in TOOLS])
    events = [event for piece in pieces for event in reader.push(piece.text)] + reader.push("", is_last=True)
    assert not [event for event in events if isinstance(event, TextPiece)]
    calls = [event for event in events if isinstance(event, CallBegin)]
    assert calls
    assert len(calls) == 1 or not rules.at_most_one
    if pieces[-1].finish_reason is FinishReason.STOP:
        for call in calls:
            said = "".join(e.text for e in events if isinstance(e, ArgumentsPiece) and e.index == call.index)
            jsonschema.validate(json.loads(said), SEATS if call.name == "seats" else {"maxProperties": 0})
    else:
        assert not rules.at_most_one  # a random model may call for ever


CALL = '{"city": "Rome", "n": 2}'


@pytest.mark.parametrize("template", [t for n, t in FORMS.items() if n not in ("llama 3", "mistral")])
def test_text_may_come_before_a_call_or_instead_of_it(template: str) -> None:
    _, form, _ = parts(template)
    call = f"{form.head}seats{form.middle}{CALL}"
    assert takes(template, RULES, "any text {} <b>, Grüße\n")
    assert takes(template, RULES, "")
    assert takes(template, RULES, "Let me see. " + call + form.tail)
    assert takes(template, RULES, f"{call}{form.between}seats_left{form.middle}{{}}{form.tail}")
    assert not takes(template, RULES, call.replace("Rome", "Bonn") + form.tail)
    assert not takes(template, RULES, call.replace("seats", "other") + form.tail)
    only_one = replace(RULES, at_most_one=True)
    assert not takes(template, only_one, f"{call}{form.between}seats_left{form.middle}{{}}{form.tail}")
    must = replace(RULES, must_call=True)
    assert takes(template, must, call + form.tail)
    assert not takes(template, must, "Let me see. " + call + form.tail)


def test_bare_calls_are_told_from_text_by_their_first_character() -> None:
    template = templates.LLAMA3_WITH_TOOLS
    assert takes(template, RULES, 'text with {"name": "x"}')
    assert takes(template, RULES, "")
    assert takes(template, RULES, f'{{"name": "seats", "parameters": {CALL}}}')
    assert not takes(template, RULES, '{"name": "other", "parameters": {}}')


@pytest.mark.parametrize("template", FORMS.values(), ids=FORMS)
def test_text_that_is_no_call_can_be_kept_in_a_form_too(template: str) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    rules = replace(RULES, text_form=JsonForm(schema=json.dumps(schema)))
    _, form, _ = parts(template)
    tail = form.tail.replace("\ufdd1", "abc456789")
    assert takes(template, rules, '{"ok": true}')
    assert takes(template, rules, f"{form.head}seats{form.middle}{CALL}{tail}") is bool(form.marker)
    assert not takes(template, rules, "text")


def test_arguments_of_functions_that_are_not_strict_are_any_object() -> None:
    rules = replace(RULES, strict_names=frozenset())
    _, form, _ = parts(templates.CHATML)
    assert takes(templates.CHATML, rules, f'{form.head}seats{form.middle}{{"else": [1]}}{form.tail}')


@pytest.mark.parametrize("parameters", ["[]", '{"type": "string"}'])
def test_parameters_that_are_no_object_are_refused(parameters: str) -> None:
    _, form, token_ids = parts(templates.CHATML)
    with pytest.raises(ConfigError, match="'seats'"):
        call_grammar(form, replace(RULES, tools=(Tool(name="seats", parameters=parameters),)), token_ids)


def test_a_grammar_is_refused_by_engines_that_know_none() -> None:
    with pytest.raises(ConfigError, match="grammars"):
        GenerationOptions(max_new_tokens=3, form=Grammar(lark="start: /a/")).require_plain("that engine")


def test_a_form_that_grows_too_complex_ends_its_own_answer_alone(
    tiny_model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fettle.answering import writing

    loaded = tiny_model("llama")
    prompt = Prompt(example_id="a", messages=(Message(role="user", content="hello"),))
    with SharedEngine(loaded) as engine:
        alone = engine.submit(prompt, GenerationOptions(max_new_tokens=12)).whole().text

        def too_complex(matcher: Any) -> None:
            raise ConfigError("too complex")

        monkeypatch.setattr(writing, "require_no_error", too_complex)
        failing = engine.submit(prompt, GenerationOptions(max_new_tokens=12, form=JsonForm(schema="{}")))
        beside = engine.submit(prompt, GenerationOptions(max_new_tokens=12))
        with pytest.raises(ConfigError, match="too complex"):
            failing.whole()
        assert beside.whole().text == alone
