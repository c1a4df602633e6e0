"""Answering a split so that a kill loses one batch at most: each finished batch is on disk before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from fettle.contenders.contender import Contender
from fettle.economics.resources import MIN_REQUESTS_FOR_P95, MIN_REQUESTS_FOR_P99
from fettle.errors import IntegrityError
from fettle.files import append_json_lines, peek_json_lines, read_json_lines, sha256_of_json, write_json_lines
from fettle.progress import Listener, Stage
from fettle.records import Answer, Example, FinishReason, TokenLogProb, Usage

_LATENCY_SECONDS = 5.0
_SECONDS_FOR_P99 = 1.0
"""Only what answers a hundred requests within it is asked so many."""


def answer_split(
    contender: Contender, examples: Sequence[Example], *, file: Path, what: str, listener: Listener
) -> tuple[Answer, ...]:
    """Every answer of a contender to a split, in the order of the examples; what `file` holds already is not asked again.

    The batches are those of an uninterrupted run, so the answers are too. A failed request is no answer: it is asked again, alone.
    The newest line about an example counts. The seconds of every contender are measured here, in one way: an answer's share of
    the wall time of its batch, what it takes to put the prompts together included.

    Args:
        contender: Who answers.
        examples: The split.
        file: JSON lines; the first says whose answers they are, and answers of anything else are thrown away.
        what: The split's name, for the progress display.
        listener: Is told after each batch.

    Raises:
        IntegrityError: An example is left without an answer.
    """
    key = _key(contender, examples)
    rows = read_json_lines(file)
    if not rows or rows[0] != {"key": key}:
        rows = []
        write_json_lines(file, [{"key": key}])
    answers = {answer.example_id: answer for answer in map(_answer, rows[1:])}
    name = f"{contender.name} answers the {what} split"
    started = time.perf_counter()
    divided = contender.batches(examples)
    preparation = (time.perf_counter() - started) / len(examples)
    batches = [_left_to_ask([examples[index] for index in batch], answers) for batch in divided]
    num_done = len(examples) - sum(map(len, batches))
    listener.on_stage(Stage(name=name, num_done=num_done, num_total=len(examples)))
    for batch in filter(None, batches):
        started = time.perf_counter()
        new = contender.answer(batch)
        seconds = preparation + (time.perf_counter() - started) / len(batch)
        new = [answer.taking(seconds) for answer in new]
        append_json_lines(file, [asdict(answer) for answer in new])
        answers |= {answer.example_id: answer for answer in new}
        num_done += len(batch)
        listener.on_stage(Stage(name=name, num_done=num_done, num_total=len(examples)))
    missing = [example.id for example in examples if example.id not in answers]
    if missing:
        raise IntegrityError(
            f"{contender.name} left {len(missing)} examples without an answer, the first is {missing[0]}"
        )
    return tuple(answers[example.id] for example in examples)


def kept_answers(make: Callable[[], tuple[Answer, ...]], *, file: Path, key: str) -> tuple[Answer, ...]:
    """What `make` gives, made once and kept whole in `file`; made again where `key` is another, or a request had failed.

    Args:
        make: Asks.
        file: JSON lines; the first says whose answers they are.
        key: Everything that the answers depend on.
    """
    rows = read_json_lines(file)
    if rows and rows[0] == {"key": key}:
        answers = tuple(map(_answer, rows[1:]))
        if not any(answer.has_failed for answer in answers):
            return answers
    answers = make()
    write_json_lines(file, [{"key": key}, *map(asdict, answers)])
    return answers


def read_answers(file: Path) -> tuple[Answer, ...]:
    """The answers that a study has kept in a file, in the order in which they were first given; of each example the newest.

    The file is left as it is, and what they are answers to is not checked.
    """
    rows = peek_json_lines(file)
    return tuple({answer.example_id: answer for answer in map(_answer, rows[1:])}.values())


def was_asked(contender: Contender, examples: Sequence[Example], *, file: Path) -> bool:
    """Whether `file` tells of every example how its request ended, failures included. The file is left as it is."""
    rows = peek_json_lines(file)
    if not rows or rows[0] != {"key": _key(contender, examples)}:
        return False
    return {example.id for example in examples} <= {row["example_id"] for row in rows[1:]}


def measure_latency(
    contender: Contender, examples: Sequence[Example], *, warm_up: Example, file: Path
) -> tuple[float, ...]:
    """Seconds of single requests, one at a time, on the first examples: up to 20 requests or about 5 seconds, the warm-up
    included, at least 3; up to 100 as long as they take no more than a second.

    Failed requests are left out. Measured once per contender and kept in `file`, unless every request failed. Call it before the
    examples are answered otherwise: a contender may remember what it made of a text.

    Args:
        contender: Who answers.
        examples: What it is asked.
        warm_up: Another example, answered first and not measured.
        file: Where the seconds are kept.
    """
    key = _key(contender, examples)
    rows = read_json_lines(file)
    if rows and rows[0].get("key") == key:
        return tuple(rows[0]["seconds"])
    seconds: list[float] = []
    begin = time.perf_counter()
    contender.answer([warm_up])
    for number, example in enumerate(examples[:MIN_REQUESTS_FOR_P99], start=1):
        started = time.perf_counter()
        [answer] = contender.answer([example])
        ended = time.perf_counter()
        if not answer.has_failed:
            seconds.append(ended - started)
        if ended - begin > (_LATENCY_SECONDS if number < MIN_REQUESTS_FOR_P95 else _SECONDS_FOR_P99) and number >= 3:
            break
    if seconds:
        write_json_lines(file, [{"key": key, "seconds": seconds}])
    return tuple(seconds)


def _key(contender: Contender, examples: Sequence[Example]) -> str:
    return sha256_of_json([contender.identity(), [example.id for example in examples]])


def _left_to_ask(batch: Sequence[Example], answers: Mapping[str, Answer]) -> list[Example]:
    """A batch that was not written whole is asked again whole; otherwise what failed in it."""
    if any(example.id not in answers for example in batch):
        return list(batch)
    return [example for example in batch if answers[example.id].has_failed]


def _answer(row: dict[str, object]) -> Answer:
    fields = dict(row)
    usage = fields.pop("usage")
    reason = fields.pop("finish_reason")
    for key in ("passages", "cited"):
        if isinstance(ids := fields.get(key), list):  # answers kept by an earlier version have none
            fields[key] = tuple(ids)
    if isinstance(tokens := fields.get("log_probs"), list):
        fields["log_probs"] = tuple(TokenLogProb(**one | {"top": tuple(map(tuple, one["top"]))}) for one in tokens)
    assert isinstance(usage, dict), "written by append_json_lines above"
    return Answer(**fields, usage=Usage(**usage), finish_reason=FinishReason(str(reason)))  # pyright: ignore[reportArgumentType] (our own JSON)
