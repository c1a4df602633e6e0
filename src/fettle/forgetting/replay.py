"""Replay: a few general examples among the training examples, so that what the base model can do is not overwritten.

Their prompts come with Fettle and are none of the general suite's; their answers the base model writes itself before it is trained.
It is thus held to what it says anyway: nothing new is taught, and nobody else's style (rehearsal with the model's own output: Huang
et al. 2024, "Mitigating Catastrophic Forgetting in LLMs with Self-Synthesized Rehearsal").
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fettle.answering.engine import Engine, GenerationOptions
from fettle.errors import DataError, require_range
from fettle.examples.duplicates import find_leaks
from fettle.files import append_json_lines, read_json_lines, sha256_of_json
from fettle.models.load import LoadedModel
from fettle.records import Example, FinishReason, Location, Message, Prompt

MAX_ANSWER_TOKENS = 96
"""Longest answer of the base model, tokens. One that is cut there is not replayed: it would teach to stop in the middle."""
MOST_SHARE = 0.5
_NUM_ASKED_AT_ONCE = 32
_FILE = Path(__file__).parent / "general" / "replay_prompts.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """How much is replayed."""

    share: float = 0.03
    """General examples among all training examples, 0 to 0.5; 0: none. 0.01 to 0.05 is usual."""

    def __post_init__(self) -> None:
        """Refuse what is no share.

        Raises:
            ConfigError: It is out of its range.
        """
        require_range("replay share", self.share, low=0, high=MOST_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """General examples, ready to be trained on among the task's own."""

    examples: tuple[Example, ...]
    """Each a prompt with the base model's own answer."""
    num_wanted: int
    """As the share says; `examples` are fewer where the bundled prompts do not suffice."""
    num_passed_over: int
    """Prompts whose answer by the base model is empty, did not end in time, or cannot be learned with its template."""


def num_replayed(num_examples: int, settings: ReplaySettings) -> int:
    """How many general examples to put beside so many of the task's own: one at least, unless the share is 0.

    >>> [num_replayed(380, ReplaySettings(share=share)) for share in (0, 0.0001, 0.05)]
    [0, 1, 20]
    """
    share = settings.share
    return max(1, round(num_examples * share / (1 - share))) if share and num_examples else 0


@lru_cache(maxsize=1)
def replay_prompts() -> tuple[str, ...]:
    """The bundled prompts, one line each."""
    return tuple(line for line in _FILE.read_text("utf-8").splitlines() if line)


def replayed(
    loaded: LoadedModel,
    settings: ReplaySettings,
    *,
    num_examples: int,
    folder: Path,
    seed: int,
    held_out: Sequence[Example] = (),
    on_answers: Callable[[int, int], None] | None = None,
) -> Replay:
    """General examples with the base model's own answers.

    Only as many answers are written as are needed, and each is kept: the same model is asked every prompt once.

    Args:
        loaded: The base model, bare, as it will be trained.
        settings: How much is replayed.
        num_examples: The task's own training examples.
        folder: Where the answers of base models are kept.
        seed: Of the choice among the prompts.
        held_out: What is not to be learned: prompts that ask it, or nearly, are passed over.
        on_answers: Is told how many examples there are, of how many that are wanted.

    Raises:
        IntegrityError: An adapter is on the model.
        DiskFullError: The answers cannot be kept.
    """
    from fettle.answering.engines.plain import local_engine

    num_wanted = num_replayed(num_examples, settings)
    if not num_wanted:
        return Replay(examples=(), num_wanted=0, num_passed_over=0)
    shuffled = list(replay_prompts())
    random.Random(seed).shuffle(shuffled)
    leaks = {leak.first.id for leak in find_leaks([_example(text, "") for text in shuffled], held_out)}
    order = [text for text in shuffled if _example(text, "").id not in leaks]
    engine = local_engine(loaded)
    answers = _KeptAnswers(engine, folder / f"{_key(loaded)[:16]}.jsonl")
    kept: list[Example] = []
    place = 0
    while len(kept) < num_wanted and place < len(order):
        some = order[place : place + min(num_wanted - len(kept), _NUM_ASKED_AT_ONCE)]
        found = zip(some, answers.to(some), strict=True)
        examples = [_example(text, answer) for text, answer in found if answer is not None]
        kept += [example for example in examples if _is_learnable(example, loaded)]
        place += len(some)
        if on_answers is not None:
            on_answers(len(kept), num_wanted)
    return Replay(examples=tuple(kept), num_wanted=num_wanted, num_passed_over=place - len(kept))


class _KeptAnswers:
    """What a base model answers, asked once and kept in a file.

    Args:
        engine: The base model.
        file: JSON lines, a prompt and its answer each.
    """

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine, self._file = engine, file
        self._known: dict[str, str | None] = {row["prompt"]: row["answer"] for row in read_json_lines(file)}

    def to(self, texts: Sequence[str]) -> list[str | None]:
        """The answers to some prompts; None for one that is empty or does not end."""
        unknown = [text for text in texts if text not in self._known]
        prompts = [Prompt(example_id=text, messages=(Message(role="user", content=text),)) for text in unknown]
        for batch in self._engine.batches(prompts):
            answers = self._engine.generate(
                [prompts[index] for index in batch], GenerationOptions(max_new_tokens=MAX_ANSWER_TOKENS)
            )
            found = {
                answer.example_id: answer.text
                if answer.finish_reason is FinishReason.STOP and answer.text.strip()
                else None
                for answer in answers
            }
            append_json_lines(self._file, [{"prompt": text, "answer": answer} for text, answer in found.items()])
            self._known |= found
        return [self._known[text] for text in texts]


def _key(loaded: LoadedModel) -> str:
    """What the answers depend on."""
    source, template = loaded.source.sha256(), loaded.renderer.template.sha256
    return sha256_of_json([source, template, loaded.precision.value, loaded.base_weights.value, MAX_ANSWER_TOKENS])


def _example(text: str, answer: str) -> Example:
    line = replay_prompts().index(text) + 1
    return Example(
        id=f"replay-{line:03d}",
        messages=(Message(role="user", content=text), Message(role="assistant", content=answer)),
        source=Location(file=_FILE.name, line=line),
    )


def _is_learnable(example: Example, loaded: LoadedModel) -> bool:
    try:
        rows = loaded.renderer.example_rows(example)
    except DataError:
        return False
    return all(len(row.token_ids) <= loaded.max_tokens and not row.num_untrained_turns for row in rows)
