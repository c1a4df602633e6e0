"""Asking a judge so that a kill loses one batch at most, and nothing that was paid for is asked again.

Every reply is a line of a file, under a key that is the hash of all that decides it. One file serves every judge, rubric and pair,
and what nobody asks for any more does no harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fettle.answering.engine import Engine, GenerationOptions
from fettle.files import append_json_lines, read_json_lines, sha256_of_json
from fettle.judging.prompt import REPLY_FORM, comparison_prompt
from fettle.judging.records import Order, Pair
from fettle.progress import Listener, Stage
from fettle.records import Answer, Prompt

OPTIONS = GenerationOptions(max_new_tokens=256, form=REPLY_FORM)
_FORMAT = 1
"""Raised when replies of an older version must not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One pair in one order."""

    key: str
    """Hash of all that decides the reply."""
    order: Order
    repeat: int
    prompt: Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReply:
    """A reply as it came, one line of the file."""

    key: str
    judge: str
    example_id: str
    order: str
    repeat: int
    text: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of the questions."""

    replies: dict[str, KeptReply]
    """By the key of the question."""
    failures: Counter[str]
    """Reasons of requests without a reply. They are not kept, and asked again the next time."""


def questions_of(pair: Pair, *, rubric: str, judge_identity: str, repeats: int) -> tuple[Question, ...]:
    """Both orders of a pair, each `repeats` times."""
    shown = {
        Order.CHALLENGER_FIRST: (pair.challenger, pair.baseline),
        Order.BASELINE_FIRST: (pair.baseline, pair.challenger),
    }
    found = []
    for order, (first, second) in shown.items():
        prompt = comparison_prompt(pair.example_id, rubric=rubric, asked=pair.asked, first=first, second=second)
        texts = [[message.role, message.content] for message in prompt.messages]
        for repeat in range(repeats):
            key = sha256_of_json([_FORMAT, judge_identity, texts, REPLY_FORM.schema, OPTIONS.max_new_tokens, repeat])
            found.append(Question(key=key, order=order, repeat=repeat, prompt=prompt))
    return tuple(found)


def ask(engine: Engine, questions: Sequence[Question], *, file: Path, what: str, listener: Listener) -> Asked:
    """Every reply to the questions; what `file` holds already is not asked again.

    Args:
        engine: The judge.
        questions: In the order to ask them in.
        file: JSON lines; nobody else may write to it meanwhile.
        what: What is being done, for the progress display.
        listener: Is told after each batch.
    """
    wanted = {question.key: question for question in questions}  # the same texts in two rows are one question
    replies = {row["key"]: KeptReply(**row) for row in read_json_lines(file) if row["key"] in wanted}
    failures: Counter[str] = Counter()
    left = [question for key, question in wanted.items() if key not in replies]

    def tell() -> None:
        note = f"{failures.total()} failed" if failures else ""
        done = len(replies) + failures.total()
        listener.on_stage(Stage(name=what, num_done=done, num_total=len(wanted), note=note))

    tell()
    for batch in engine.batches([question.prompt for question in left]):
        asked = [left[place] for place in batch]
        answers = engine.generate([question.prompt for question in asked], OPTIONS)
        new = []
        for question, answer in zip(asked, answers, strict=True):
            if answer.has_failed:
                failures[answer.error or "no reason was given"] += 1
            else:
                new.append(_kept(question, answer, engine.name))
        append_json_lines(file, [asdict(reply) for reply in new])
        replies |= {reply.key: reply for reply in new}
        tell()
    return Asked(replies=replies, failures=failures)


def _kept(question: Question, answer: Answer, judge: str) -> KeptReply:
    return KeptReply(
        key=question.key,
        judge=judge,
        example_id=answer.example_id,
        order=question.order.value,
        repeat=question.repeat,
        text=answer.text.encode("utf-8", errors="replace").decode(),  # half of a surrogate pair, which no file can hold
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        seconds=answer.usage.seconds,
    )
