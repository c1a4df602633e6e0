"""Answers kept inside a JSON Schema: they parse, they satisfy it, and the forced tokens are what single steps would give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from fettle.answering.constrain import Constrainer, Constrainers, mask_logits, take_forced_tokens, take_token
from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engines.local import LocalEngine
from fettle.errors import ConfigError
from fettle.examples.json_schema import infer_schema, with_bounds
from fettle.records import Example, FinishReason, Location, Message, Prompt
from fettle.training.loop import train
from fettle.training.settings import TrainingSettings

TRIAGE = {
    "type": "object",
    "properties": {
        "queue": {"type": "string", "enum": ["refund", "delivery", "lost card"]},
        "urgent": {"type": "boolean"},
        "amount": {"type": ["integer", "null"], "minimum": 0, "maximum": 500},
        "tracking": {"anyOf": [{"type": "string", "pattern": "^[A-Z]{2}[0-9]{4}$"}, {"type": "null"}]},
    },
    "required": ["queue", "urgent", "amount", "tracking"],
    "additionalProperties": False,
}
SCHEMAS = {
    "triage": TRIAGE,
    "nested": {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "minItems": 1,
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "properties": {"id": {"type": "integer", "minimum": 1, "maximum": 99}},
                    "required": ["id"],
                    "additionalProperties": False,
                },
            },
            "größe": {"type": "string", "enum": ["klein", "groß", "\u2013"]},
        },
        "required": ["items", "größe"],
        "additionalProperties": False,
    },
    "bounded text": {
        "type": "object",
        "properties": {"note": {"type": "string", "maxLength": 12}},
        "required": ["note"],
        "additionalProperties": False,
    },
    "one of three": {"enum": ["a", "b", 3]},
}
SEPARATORS = [(None, None), (", ", ": "), (",", ":")]
FAMILIES = ("llama", "gemma3", "mistral_narrow", "gemma2_narrow", "qwen3")


def prompts() -> list[Prompt]:
    texts = ("Where is it?", "I was charged twice, I want 12.50 back, please.", "The parcel is late. " * 4, "x")
    return [Prompt(example_id=text[:5], messages=(Message(role="user", content=text),)) for text in texts]


def form(name: str, separators: tuple[str | None, str | None]) -> JsonForm:
    return JsonForm(schema=json.dumps(SCHEMAS[name]), item_separator=separators[0], key_separator=separators[1])


def constrainer_of(loaded: Any, wanted: JsonForm) -> Constrainer:
    constrainers = Constrainers(
        loaded.renderer.tokenizer,
        end_of_turn_id=loaded.renderer.end_of_turn_id,
        vocabulary_size=loaded.model.config.vocab_size,
    )
    made = constrainers.of(wanted)
    assert made is not None
    assert constrainers.of(wanted) is made
    return made


def plain_answer(
    loaded: Any, prompt: Prompt, wanted: JsonForm, *, max_new_tokens: int, with_forcing: bool
) -> list[int]:
    """One row, one full forward a step, no cache: the masked argmax, followed by what is forced if that is asked for."""
    stop = loaded.renderer.end_of_turn_id
    matcher = constrainer_of(loaded, wanted).new_matcher()
    tokens = list(loaded.renderer.prompt_tokens(prompt.messages))
    written: list[int] = []
    while len(written) < max_new_tokens and (not written or written[-1] != stop):
        with torch.no_grad():
            logits_1V = (
                loaded.model(input_ids=torch.tensor([tokens + written], device=loaded.model.device), use_cache=False)
                .logits[:, -1]
                .float()
            )
        token = int(mask_logits([matcher], logits_1V).argmax())
        written.append(token)
        if token != stop:
            take_token(matcher, token)
            written += take_forced_tokens(matcher) if with_forcing else []
    return written[:max_new_tokens]


@pytest.mark.parametrize("separators", SEPARATORS, ids=["any space", "python", "compact"])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_random_model_always_answers_in_the_form(
    schema: str, separators: tuple[str | None, str | None], tiny_model: Callable[[str], Any]
) -> None:
    answers = LocalEngine(tiny_model("llama")).generate(
        prompts(), GenerationOptions(max_new_tokens=200, form=form(schema, separators))
    )
    finished = [answer for answer in answers if answer.finish_reason is FinishReason.STOP]
    if separators != (None, None):  # where any white space is allowed a random model may write it for ever
        assert len(finished) == len(answers)
    for answer in finished:
        value = json.loads(answer.text)
        jsonschema.validate(value, SCHEMAS[schema])
        if separators[0] is not None and separators[1] is not None:
            assert answer.text == json.dumps(value, separators=(separators[0], separators[1]), ensure_ascii=False)


OBJECTS = [
    {"amount": 19.99, "note": "lost", "parts": [1, 22], "weight": None},
    {"amount": 5, "note": 'say "ü"\n', "parts": [], "weight": -0.5},
    {"amount": 0.5, "note": "", "parts": [333], "weight": 12.25},
]


def test_bounds_let_every_training_answer_through_and_end_what_a_random_model_would_not(
    tiny_model: Callable[[str], Any],
) -> None:
    loaded = tiny_model("llama")
    schema = infer_schema(OBJECTS)
    wanted = JsonForm(
        schema=json.dumps(schema),
        bounded_schema=json.dumps(with_bounds(schema, OBJECTS)),
        item_separator=", ",
        key_separator=": ",
    )
    constrainer = constrainer_of(loaded, wanted)
    for value in OBJECTS:
        matcher = constrainer.new_matcher()
        for token in loaded.renderer.encode(json.dumps(value, ensure_ascii=False)):
            take_token(matcher, token)
        assert matcher.is_accepting()
    options = GenerationOptions(max_new_tokens=300, form=wanted)
    for answer in LocalEngine(loaded).generate(prompts(), options):
        assert answer.finish_reason is FinishReason.STOP
        jsonschema.validate(json.loads(answer.text), schema)


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_forcing_equals_one_row_at_a_time_without_cache(family: str, tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model(family)
    wanted = form("triage", (", ", ": "))
    answers = LocalEngine(loaded).generate(prompts(), GenerationOptions(max_new_tokens=60, form=wanted))
    for prompt, answer in zip(prompts(), answers, strict=True):
        expected = plain_answer(loaded, prompt, wanted, max_new_tokens=60, with_forcing=True)
        stops = loaded.stop_token_ids
        assert answer.text == loaded.renderer.decode([token for token in expected if token not in stops]).strip()
        assert answer.usage.completion_tokens == len(expected)


def test_forced_tokens_do_not_change_the_answer_of_a_trained_model(
    tiny_model: Callable[[str], Any], tmp_path: Path
) -> None:
    # A model that has learned the form spells it as the tokenizer does; then forcing is a matter of speed alone.
    loaded = tiny_model("llama")
    wanted = form("triage", (", ", ": "))
    triages = [
        {"queue": "refund", "urgent": True, "amount": 12, "tracking": None},
        {"queue": "delivery", "urgent": False, "amount": None, "tracking": "AB1234"},
        {"queue": "lost card", "urgent": True, "amount": 0, "tracking": None},
        {"queue": "refund", "urgent": False, "amount": 499, "tracking": "ZZ0001"},
    ]
    examples = [
        Example(
            id=prompt.example_id,
            messages=(*prompt.messages, Message(role="assistant", content=json.dumps(value))),
            source=Location(file="a", line=1),
        )
        for prompt, value in zip(prompts(), triages, strict=True)
    ]
    rows = loaded.renderer.rows_of(examples)
    settings = TrainingSettings(epochs=120, batch_size=4, learning_rate=0.02, evals_per_epoch=1, patience=200)
    result = train(loaded, rows, rows, settings, folder=tmp_path, run_key="k")
    engine = LocalEngine(loaded, adapter=result.tuned)
    try:
        answers = engine.generate(prompts(), GenerationOptions(max_new_tokens=80, form=wanted))
        free = engine.generate(prompts(), GenerationOptions(max_new_tokens=80))
        single = [plain_answer(loaded, prompt, wanted, max_new_tokens=80, with_forcing=False) for prompt in prompts()]
    finally:
        engine.close()
    assert [json.loads(answer.text) for answer in answers] == triages
    assert [answer.text for answer in free] == [answer.text for answer in answers]
    assert [answer.text for answer in answers] == [loaded.renderer.decode(tokens).strip() for tokens in single]
    assert [answer.usage.completion_tokens for answer in answers] == [len(tokens) for tokens in single]


def test_an_answer_cut_short_says_so(tiny_model: Callable[[str], Any]) -> None:
    engine = LocalEngine(tiny_model("llama"))
    wanted = form("triage", (", ", ": "))
    for limit in (1, 2, 7):
        for answer in engine.generate(prompts(), GenerationOptions(max_new_tokens=limit, form=wanted)):
            assert answer.finish_reason is FinishReason.LENGTH
            assert answer.usage.completion_tokens == limit


@pytest.mark.parametrize("schema", ['{"type": "no such type"}', '{"type": "object", "properties": 3}', "not json"])
def test_an_unusable_schema_is_refused(schema: str, tiny_model: Callable[[str], Any]) -> None:
    engine = LocalEngine(tiny_model("llama"))
    with pytest.raises(ConfigError, match="schema"):
        engine.generate(prompts(), GenerationOptions(max_new_tokens=5, form=JsonForm(schema=schema)))
