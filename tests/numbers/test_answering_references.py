"""The answering engine against the plain way: the model's own `generate`, and one forward call per choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from fettle.answering.engine import GenerationOptions
from fettle.answering.engines.local import BatchLimits, LocalEngine
from fettle.models.row_cache import key_value_bytes
from fettle.models.shared_prefix import common_prefix_length, shared_length
from fettle.records import FinishReason, Message, Prompt
from tiny_models import FAMILIES, ORDINARY_ADDED_TOKENS

LABELS = ("refund", "refund late", "lost card", "lost parcel", "x", "Ünïcode – label")
SHARED_INSTRUCTION = "Answer with the one label that fits the message, and nothing else whatever it says."
MESSAGES = (
    "Where is it?",
    "I was charged twice for the same order and want my money back, please.",
    "The parcel has not arrived yet, the driver left no note at the door. " * 2,
    "late",
    "ok",
    "My card is gone",
    "The parcel came, the parcel went. Where is my parcel now, and who has it?",
)


def prompts(*, instruction: str | None = None) -> list[Prompt]:
    return [
        Prompt(
            example_id=str(number),
            messages=(
                *((Message(role="system", content=instruction),) if instruction else ()),
                Message(role="user", content=text),
            ),
        )
        for number, text in enumerate(MESSAGES)
    ]


def plain_next_log_probs(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return (
            model(input_ids=torch.tensor([list(tokens)], device=model.device), use_cache=False)
            .logits[0, -1]
            .float()
            .log_softmax(-1)
        )


def plain_log_likelihood(model: Any, prompt: Sequence[int], spelling: Sequence[int]) -> float:
    with torch.no_grad():
        logits = (
            model(input_ids=torch.tensor([[*prompt, *spelling]], device=model.device), use_cache=False)
            .logits[0]
            .double()
        )
    log_probs = logits.log_softmax(-1)
    return sum(float(log_probs[len(prompt) - 1 + place, token]) for place, token in enumerate(spelling))


def plain_greedy_choice(model: Any, prompt: Sequence[int], spellings: Sequence[tuple[int, ...]]) -> int:
    """Token by token, only tokens that some remaining choice goes on with being allowed."""
    written: tuple[int, ...] = ()
    while written not in spellings:
        log_probs = plain_next_log_probs(model, [*prompt, *written])
        allowed = {s[len(written)] for s in spellings if s[: len(written)] == written and len(s) > len(written)}
        written = (*written, max(allowed, key=lambda token: float(log_probs[token])))
    return list(spellings).index(written)


def up_to_where_it_is_certain(spelling: tuple[int, ...], spellings: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shortest beginning that no other choice shares."""
    others = [other for other in spellings if other != spelling]
    lengths = range(1, len(spelling) + 1)
    return next(spelling[:n] for n in lengths if all(other[:n] != spelling[:n] for other in others))


@pytest.mark.parametrize("instruction", [None, SHARED_INSTRUCTION], ids=["separate", "shared-prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_choices_equal_one_forward_per_choice(
    family: str, instruction: str | None, tiny_model: Callable[[str], Any]
) -> None:
    loaded = tiny_model(family)
    asked = prompts(instruction=instruction)
    spellings = [loaded.renderer.answer_tokens(label) for label in LABELS]
    answers = LocalEngine(loaded).choose(asked, LABELS)
    for prompt, answer in zip(asked, answers, strict=True):
        tokens = loaded.renderer.prompt_tokens(prompt.messages)
        likelihoods = [
            plain_log_likelihood(loaded.model, tokens, up_to_where_it_is_certain(s, spellings)) for s in spellings
        ]
        assert answer.choice_log_likelihoods is not None
        assert tuple(answer.choice_log_likelihoods) == LABELS
        assert list(answer.choice_log_likelihoods.values()) == pytest.approx(likelihoods, abs=2e-4)
        chosen = plain_greedy_choice(loaded.model, tokens, spellings)
        assert answer.text == LABELS[chosen]
        assert answer.usage.completion_tokens == len(spellings[chosen])
        assert answer.usage.prompt_tokens == len(tokens)


@pytest.mark.parametrize("instruction", [None, SHARED_INSTRUCTION], ids=["separate", "shared-prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_choices_of_their_own_are_scored_as_if_each_prompt_were_alone(
    family: str, instruction: str | None, tiny_model: Callable[[str], Any]
) -> None:
    asked = prompts(instruction=instruction)
    choices = [LABELS[place % 2 :] if place % 3 else ("yes", "no") for place in range(len(asked))]
    engine = LocalEngine(tiny_model(family))
    for prompt, own, answer in zip(asked, choices, engine.choose_each(asked, choices), strict=True):
        [alone] = engine.choose([prompt], own)
        assert (answer.example_id, answer.text) == (prompt.example_id, alone.text)
        assert answer.choice_log_likelihoods == pytest.approx(alone.choice_log_likelihoods, abs=2e-4)
        assert answer.usage.prompt_tokens == alone.usage.prompt_tokens


def plain_generation(loaded: Any, prompt: Prompt, *, max_new_tokens: int) -> tuple[str, FinishReason, int]:
    tokens = loaded.renderer.prompt_tokens(prompt.messages)
    stop = loaded.stop_token_ids
    with torch.no_grad():
        output = loaded.model.generate(
            torch.tensor([tokens], device=loaded.model.device),
            attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(stop),
        )
    written = output[0, len(tokens) :].tolist()
    reason = FinishReason.STOP if written[-1] in stop else FinishReason.LENGTH
    text = loaded.renderer.decode([token for token in written if token not in stop]).strip()
    return text, reason, len(written)


@pytest.mark.parametrize("instruction", [None, SHARED_INSTRUCTION], ids=["separate", "shared-prefix"])
@pytest.mark.parametrize("family", FAMILIES)
def test_batched_answers_equal_generate_one_by_one(
    family: str, instruction: str | None, tiny_model: Callable[[str], Any]
) -> None:
    loaded = tiny_model(family)
    asked = prompts(instruction=instruction)
    answers = LocalEngine(loaded).generate(asked, GenerationOptions(max_new_tokens=24))
    for prompt, answer in zip(asked, answers, strict=True):
        text, reason, num_tokens = plain_generation(loaded, prompt, max_new_tokens=24)
        assert (answer.text, answer.finish_reason) == (text, reason)
        assert answer.usage.completion_tokens == num_tokens


def test_prompts_that_are_run_in_parts_get_the_same_answers(
    tiny_model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LocalEngine(tiny_model("qwen3"))
    asked, options = prompts(instruction=SHARED_INSTRUCTION), GenerationOptions(max_new_tokens=20)
    whole = [answer.text for answer in engine.generate(asked, options)]
    for most in (1, 40):  # each row alone, and some together
        monkeypatch.setattr("fettle.answering.engines.running_batch.PREFILL_TOKENS", most)
        assert [answer.text for answer in engine.generate(asked, options)] == whole


@pytest.fixture
def talkative_stopper(tiny_model: Callable[[str], Any]) -> Any:
    """A llama whose end of turn is likely enough that rows stop at different steps."""
    loaded = tiny_model("llama")
    head = loaded.model.get_output_embeddings().weight
    stop = loaded.renderer.end_of_turn_id
    before = head[stop].clone()
    with torch.no_grad():
        head[stop] *= 2.5
    yield loaded
    with torch.no_grad():
        head[stop] = before


def test_rows_that_stop_early_leave_the_batch_without_disturbing_the_others(talkative_stopper: Any) -> None:
    loaded = talkative_stopper
    asked = [
        Prompt(example_id=f"{n}", messages=(Message(role="user", content=f"{text} {n % 5}"),))
        for n, text in enumerate(MESSAGES * 4)
    ]
    answers = LocalEngine(loaded).generate(asked, GenerationOptions(max_new_tokens=30))
    lengths = {answer.usage.completion_tokens for answer in answers if answer.finish_reason is FinishReason.STOP}
    assert len(lengths) >= 4  # the batch really shrank in several steps
    for prompt, answer in zip(asked, answers, strict=True):
        assert (answer.text, answer.finish_reason, answer.usage.completion_tokens) == plain_generation(
            loaded, prompt, max_new_tokens=30
        )


def test_stop_and_length_are_told_apart(talkative_stopper: Any) -> None:
    engine = LocalEngine(talkative_stopper)
    asked = prompts()
    long = engine.generate(asked, GenerationOptions(max_new_tokens=30))
    stopped = next(index for index, answer in enumerate(long) if answer.finish_reason is FinishReason.STOP)
    needed = long[stopped].usage.completion_tokens
    exactly = engine.generate([asked[stopped]], GenerationOptions(max_new_tokens=needed))[0]
    assert exactly.finish_reason is FinishReason.STOP
    assert exactly.text == long[stopped].text
    if needed > 1:
        short = engine.generate([asked[stopped]], GenerationOptions(max_new_tokens=needed - 1))[0]
        assert short.finish_reason is FinishReason.LENGTH
        assert short.usage.completion_tokens == needed - 1


def test_an_end_of_text_token_stops_an_answer_too(tiny_model: Callable[[str], Any]) -> None:
    # Untuned models often end with the tokenizer's or the generation config's end of text instead of the end of turn.
    loaded = tiny_model("llama")
    end_of_text = loaded.renderer.tokenizer.eos_token_id
    assert loaded.renderer.end_of_turn_id != end_of_text
    head = loaded.model.get_output_embeddings().weight
    before = head[end_of_text].clone()
    try:
        with torch.no_grad():
            head[end_of_text] *= 4
        answers = LocalEngine(loaded).generate(prompts(), GenerationOptions(max_new_tokens=40))
    finally:
        with torch.no_grad():
            head[end_of_text] = before
    assert FinishReason.STOP in {answer.finish_reason for answer in answers}


@pytest.mark.parametrize("family", ["llama", "gemma3_narrow"])
def test_threads_that_share_the_rows_write_and_choose_what_one_thread_does(
    family: str, tiny_model: Callable[[str], Any]
) -> None:
    engine = LocalEngine(tiny_model(family))
    asked = [replace(prompt, example_id=f"{copy}/{prompt.example_id}") for copy in range(12) for prompt in prompts()]
    assert len(asked) >= 48
    options = GenerationOptions(max_new_tokens=12)
    before = torch.get_num_threads()
    texts, likelihoods = {}, {}
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            texts[num_threads] = [(answer.example_id, answer.text) for answer in engine.generate(asked, options)]
            chosen = engine.choose(asked, LABELS)
            likelihoods[num_threads] = [list((answer.choice_log_likelihoods or {}).values()) for answer in chosen]
    finally:
        torch.set_num_threads(before)
    assert texts[1] == texts[3]
    torch.testing.assert_close(torch.tensor(likelihoods[1]), torch.tensor(likelihoods[3]), rtol=1e-4, atol=1e-4)


def test_batches_take_every_prompt_once_and_stay_within_their_limits(tiny_model: Callable[[str], Any]) -> None:
    loaded = tiny_model("llama")
    limits = BatchLimits(max_rows=3, max_cache_bytes=120 * key_value_bytes(loaded.model))
    engine = LocalEngine(loaded, limits=limits)
    asked = prompts()
    batches = engine.batches(asked)
    rows = [tiny_model("llama").renderer.prompt_tokens(prompt.messages) for prompt in asked]
    lengths, shared = [len(row) for row in rows], shared_length(common_prefix_length(rows), len(rows))
    assert sorted(index for batch in batches for index in batch) == list(range(len(asked)))
    assert [lengths[index] for batch in batches for index in batch] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or (len(batch) <= 3 and sum(lengths[i] - shared for i in batch) <= 120)
    assert engine.batches([]) == ()


def test_the_same_prompt_is_answered_alike_in_any_batch(tiny_model: Callable[[str], Any]) -> None:
    engine = LocalEngine(tiny_model("qwen2"))
    asked = prompts(instruction=SHARED_INSTRUCTION)
    options = GenerationOptions(max_new_tokens=16)
    together = engine.generate(asked, options)
    alone = [engine.generate([prompt], options)[0] for prompt in asked]
    assert [answer.text for answer in together] == [answer.text for answer in alone]


def test_added_tokens_that_are_not_special_stay_in_the_text(tiny_model: Callable[[str], Any]) -> None:
    renderer = tiny_model("qwen2").renderer
    ids = renderer.tokenizer.convert_tokens_to_ids(list(ORDINARY_ADDED_TOKENS))
    assert renderer.decode(ids) == "".join(ORDINARY_ADDED_TOKENS)
