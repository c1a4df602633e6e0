"""The general suite put to an engine: the same questions in the same words to the base model and to the tuned one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fettle.answering.engine import Engine, GenerationOptions
from fettle.forgetting.items import Choice, GeneralItem
from fettle.models.token_groups import even_groups
from fettle.progress import Listener, Stage
from fettle.records import Answer, Score

MAX_ANSWER_TOKENS = 24
"""Of written answers, end of turn included; every right one is much shorter."""
_NUM_CHOSEN_AT_ONCE = 64


def ask(engine: Engine, items: Sequence[GeneralItem], listener: Listener, *, who: str) -> tuple[Answer, ...]:
    """One answer for each item, in their order: chosen where there are choices, written greedily elsewhere.

    Args:
        engine: Who answers.
        items: What is asked.
        listener: Is told after each batch.
        who: The model's name, for the progress display.
    """
    by_id: dict[str, Answer] = {}
    for answers in _batches(engine, items):
        by_id |= {answer.example_id: answer for answer in answers}
        listener.on_stage(Stage(name=f"{who} answers the general suite", num_done=len(by_id), num_total=len(items)))
    return tuple(by_id[item.id] for item in items)


def score_items(items: Sequence[GeneralItem], answers: Sequence[Answer]) -> tuple[Score, ...]:
    """1 or 0 for each item, in their order; None, with the reason, where the engine failed."""
    return tuple(_score(item, answer) for item, answer in zip(items, answers, strict=True))


def likeliest_choice(answer: Answer) -> str:
    """The choice that the model finds most probable; what it chose where the engine sees no probabilities.

    Equal ones are settled by their text, so that the order of the choices does not matter.
    """
    likelihoods = answer.choice_log_likelihoods
    return max(sorted(likelihoods), key=lambda choice: likelihoods[choice]) if likelihoods else answer.text


def _batches(engine: Engine, items: Sequence[GeneralItem]) -> Iterator[tuple[Answer, ...]]:
    chosen = [(item.prompt, item.expected.choices) for item in items if isinstance(item.expected, Choice)]
    for group in even_groups(len(chosen), _NUM_CHOSEN_AT_ONCE):
        prompts, choices = zip(*(chosen[index] for index in group), strict=True)
        yield engine.choose_each(prompts, choices)
    written = [item.prompt for item in items if not isinstance(item.expected, Choice)]
    for batch in engine.batches(written):
        yield engine.generate([written[index] for index in batch], GenerationOptions(max_new_tokens=MAX_ANSWER_TOKENS))


def _score(item: GeneralItem, answer: Answer) -> Score:
    assert item.id == answer.example_id, "answers are in the order of the items"
    if answer.has_failed:
        return Score(example_id=item.id, value=None, reason=f"no answer: {answer.error or 'the engine failed'}")
    expected = item.expected
    is_right = (
        likeliest_choice(answer) == expected.right if isinstance(expected, Choice) else expected.accepts(answer.text)
    )
    return Score(example_id=item.id, value=float(is_right))
