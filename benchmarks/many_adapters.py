"""One base model and four adapters under many streams at once: are answers mixed up, how fast do they come, and in how much memory?

A real `fettle serve` with its worker trains four adapters by the official SDK, each of which opens its answers with a phrase of its
own (`desks.py`). Then questions that none of them has seen are asked, one after the other and, in several rounds and each time in
another order, all at once. No answer may fail, none of an adapter may lack its phrase where it had it alone, and none of any model
may have the phrase of another. Beside that it says what each job was estimated to take, and took.

    .venv/bin/python benchmarks/many_adapters.py --json
    .venv/bin/python benchmarks/many_adapters.py --rounds 5 --threads 1

Exit code 1: an answer failed or was mixed up, or an adapter has not learned its phrase. Batches round otherwise than single rows
do, so that a greedy answer may differ from the one that came alone: those are counted, and are no mistake.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openai import OpenAI

from chats import Answer, PeakMemory, Question, Served, Server, ask, inbox, serving
from desks import NUM_LEFT_ROWS, PHRASES, Desk, Hyperparameters, train_desks
from fettle.models.precision import Precision, choose_precision
from fettle.models.resolve import EMBEDDED_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What is right and wrong with answers that came many at once, counted."""

    num_answers: int
    num_failed: int
    num_of_adapters: int
    """That came whole, of models with a phrase."""
    num_with_own_phrase: int
    num_that_lost_it: int
    """Of adapters, without the phrase that the same question had alone: perhaps the base model's."""
    num_with_phrase_of_another: int
    """Any phrase, where the base model answers."""
    num_of_base_with_phrase: int
    num_not_as_alone: int
    """Not the text that the same question had alone."""

    @property
    def is_right(self) -> bool:
        """Nothing failed, nothing was mixed up."""
        return not (self.num_failed or self.num_that_lost_it or self.num_with_phrase_of_another)


def main() -> None:
    """Train, ask, print, and say by the exit code whether all was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=64, help="in a round, over all models")
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rows", type=int, default=16, help="that each adapter is trained on")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one line")
    options = parser.parse_args()
    if options.requests > NUM_LEFT_ROWS:
        parser.error(f"--requests: at most {NUM_LEFT_ROWS}, for so many messages are not trained on")
    hyperparameters = Hyperparameters(num_rows=options.rows, n_epochs=options.epochs)
    command = [sys.executable, "-m", "fettle", "serve", "--without-keys", "--workers", "1"]
    with tempfile.TemporaryDirectory() as folder, serving(command, options.threads, home=Path(folder)) as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        desks = train_desks(client, Path(folder), list(PHRASES), hyperparameters)
        result, is_right = measured(server, desks, options)
    result = {
        "precision": choose_precision(Precision.AUTO).value,
        "threads": options.threads,
        **result,
        "jobs": [asdict(desk) for desk in desks],
    }
    print(json.dumps(result, indent=None if options.json else 2))
    sys.exit(0 if is_right else 1)


def measured(server: Server, desks: Sequence[Desk], options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Ask everything alone and then together; the figures, and whether all was right."""
    phrases = {EMBEDDED_ID: None} | {desk.model: PHRASES[desk.name] for desk in desks}
    questions = asked(list(phrases), options.requests)
    with PeakMemory(server.pid) as before:
        ask(server.url, questions[: len(phrases)], at_once=1)  # loads all of them
    with PeakMemory(server.pid) as one_by_one:
        answers, served_alone = ask(server.url, questions, at_once=1)
    print(f"alone: {served_alone}", file=sys.stderr, flush=True)
    alone = dict(zip(questions, answers, strict=True))
    require_learned(alone, phrases)
    rounds: list[Served] = []
    peaks: list[float] = []
    together: list[tuple[Question, Answer]] = []
    for number in range(options.rounds):
        mixed = random.Random(number).sample(questions, len(questions))
        with PeakMemory(server.pid) as memory:
            answers, served = ask(server.url, mixed, at_once=options.at_once)
        print(f"round {number + 1}: {served}", file=sys.stderr, flush=True)
        rounds.append(served)
        peaks.append(memory.peak_bytes / 2**20)
        together += zip(mixed, answers, strict=True)
    for failure in sorted({answer.failure for _, answer in [*alone.items(), *together] if answer.failure}):
        print(f"failed: {failure}", file=sys.stderr, flush=True)
    found = checked(together, alone, phrases)
    middle = sorted(rounds, key=lambda served: served.tokens_per_second)[len(rounds) // 2]
    result = {
        "answers": asdict(found),
        "num_failed_alone": served_alone.num_failed,
        "together": asdict(middle),
        "alone": asdict(served_alone),
        "tokens_per_second_by_round": [served.tokens_per_second for served in rounds],
        "peak_mib": {
            "models_loaded": before.peak_bytes / 2**20,
            "alone": one_by_one.peak_bytes / 2**20,
            "together_by_round": peaks,
        },
    }
    return result, found.is_right and not served_alone.num_failed


def asked(models: Sequence[str], count: int) -> list[Question]:
    """Messages of the inbox that no adapter was trained on, for the models in turn."""
    messages = [str(row["message"]) for row in inbox()[:count]]
    return [Question(models[number % len(models)], text) for number, text in enumerate(messages)]


def require_learned(alone: Mapping[Question, Answer], phrases: Mapping[str, str | None]) -> None:
    """Stop where an adapter opens fewer than half of its answers with its phrase: nothing mixed up would be seen."""
    for model, phrase in phrases.items():
        whole = [answer.text for question, answer in alone.items() if question.model == model and not answer.failure]
        if phrase is not None and 2 * sum(phrase in text for text in whole) < len(whole):
            raise SystemExit(f"{model} has not learned its phrase: give more --rows or --epochs")


def checked(
    together: Sequence[tuple[Question, Answer]],
    alone: Mapping[Question, Answer],
    phrases: Mapping[str, str | None],
) -> Checked:
    """Hold answers that came many at once against those that came alone, and against the phrases.

    Args:
        together: The answers, each with its question.
        alone: The answer that each question had alone.
        phrases: What each model opens its answers with; None: with no phrase.
    """
    whole = [(question, answer.text) for question, answer in together if answer.failure is None]
    of_adapters = [(question, text) for question, text in whole if phrases[question.model] is not None]
    lost = [
        question for question, text in of_adapters
        if not _has_own(phrases, question, text) and _has_own(phrases, question, alone[question].text)
    ]  # fmt: skip
    others = [question for question, text in whole if _has_of_another(phrases, question, text)]
    return Checked(
        num_answers=len(together),
        num_failed=len(together) - len(whole),
        num_of_adapters=len(of_adapters),
        num_with_own_phrase=sum(_has_own(phrases, question, text) for question, text in of_adapters),
        num_that_lost_it=len(lost),
        num_with_phrase_of_another=len(others),
        num_of_base_with_phrase=sum(phrases[question.model] is None for question in others),
        num_not_as_alone=sum(text != alone[question].text for question, text in whole),
    )


def _has_own(phrases: Mapping[str, str | None], question: Question, text: str) -> bool:
    own = phrases[question.model]
    return own is not None and own in text


def _has_of_another(phrases: Mapping[str, str | None], question: Question, text: str) -> bool:
    return any(phrase in text for model, phrase in phrases.items() if phrase is not None and model != question.model)


if __name__ == "__main__":
    main()
