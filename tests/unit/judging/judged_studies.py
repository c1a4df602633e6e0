"""A study of made-up replies whose quality and length are known, and stand-in judges that are made to see them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from build_report import text_report
from fettle.answering.engine import GenerationOptions
from fettle.records import Answer, FinishReason, Message, Prompt, Usage
from fettle.report_records import AnswerRow, StudyReport

QUALITY = re.compile(r"quality (\d+)")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a judge sees of a prompt, by the fences that its system message declares."""

    rubric: str
    asked: str
    first: str
    second: str
    outside: str
    """All of the user's message that is not between fences."""


def shown(messages: Sequence[Message]) -> Shown:
    system, user = (message.content for message in messages)
    [mark] = re.findall(r"carry the mark (\w+)", system)
    parts = {}
    outside = user
    for name in ("INPUT", "FIRST ANSWER", "SECOND ANSWER"):
        opening, closing = f"=== {name} {mark} ===\n", f"\n=== END OF {name} {mark} ==="
        assert outside.count(opening) == outside.count(closing) == 1
        before, _, rest = outside.partition(opening)
        parts[name], _, after = rest.partition(closing)
        outside = before + after
    return Shown(
        rubric=system, asked=parts["INPUT"], first=parts["FIRST ANSWER"], second=parts["SECOND ANSWER"], outside=outside
    )


def verdict(pick: str, reason: str = "so it seems") -> str:
    return json.dumps({"verdict": pick, "reason": reason})


def quality(text: str) -> int:
    return int(QUALITY.findall(text)[0])


def fair(noise: float) -> Callable[[Shown, random.Random], str]:
    """Sees quality through normal noise, and calls what is nearly equal a tie."""

    def judge(pair: Shown, rng: random.Random) -> str:
        difference = quality(pair.first) - quality(pair.second) + rng.gauss(0, noise)
        return verdict("tie" if abs(difference) < 0.5 else "first" if difference > 0 else "second")

    return judge


def always_first(_pair: Shown, _rng: random.Random) -> str:
    return verdict("first")


def always_ties(_pair: Shown, _rng: random.Random) -> str:
    return verdict("tie")


def longer(pair: Shown, _rng: random.Random) -> str:
    return verdict("first" if len(pair.first) > len(pair.second) else "second")


def rambling(_pair: Shown, _rng: random.Random) -> str:
    return "Both answers have their merits, and it depends."


@dataclass
class StandIn:
    """An engine whose every answer is what a function makes of what it is shown. Replies depend on the number of the question."""

    says: Callable[[Shown, random.Random], str]
    name: str = "stand-in"
    batch: int = 8
    fails: Callable[[int], str | None] = lambda _number: None
    max_tokens: int | None = None
    asked: list[Prompt] = field(default_factory=list)

    def count_prompt_tokens(self, prompt: Prompt) -> int:
        return 10

    def batches(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        places = range(len(prompts))
        return tuple(tuple(places[start : start + self.batch]) for start in range(0, len(prompts), self.batch))

    def generate(self, prompts: Sequence[Prompt], options: GenerationOptions) -> tuple[Answer, ...]:
        assert options.json_form is not None
        return tuple(self._answer(prompt) for prompt in prompts)

    def _answer(self, prompt: Prompt) -> Answer:
        number = len(self.asked)
        self.asked.append(prompt)
        error = self.fails(number)
        return Answer(
            example_id=prompt.example_id,
            text="" if error else self.says(shown(prompt.messages), random.Random(number)),
            finish_reason=FinishReason.ERROR if error else FinishReason.STOP,
            usage=Usage(prompt_tokens=100, completion_tokens=20, seconds=0.25),
            error=error,
        )

    def choose(self, prompts: Sequence[Prompt], choices: Sequence[str]) -> tuple[Answer, ...]:
        raise AssertionError("a judge is not asked to choose among labels")

    def choose_each(self, prompts: Sequence[Prompt], choices_of_each: Sequence[Sequence[str]]) -> tuple[Answer, ...]:
        raise AssertionError("a judge is not asked to choose among labels")

    def close(self) -> None:
        pass


def study(qualities: Sequence[tuple[int, int]], *, lengths: Sequence[tuple[int, int]] | None = None) -> StudyReport:
    """A study whose two contenders answered with these qualities, 0 to 10, in so many filler words; each example by itself."""
    report = text_report(num_rows=20)
    lengths = lengths or [(5, 5)] * len(qualities)
    rows = tuple(
        AnswerRow(
            example_id=f"e{number}",
            source=f"mail.csv:{number + 2}",
            input_text=f"question {number}",
            wanted="wanted",
            answers={
                "tuned": f"t quality {ours}" + " word" * long,
                "few_shot": f"f quality {theirs}" + " word" * short,
            },
            scores={"tuned": ours / 10, "few_shot": theirs / 10},
            cluster=number,
        )
        for number, ((ours, theirs), (long, short)) in enumerate(zip(qualities, lengths, strict=True))
    )
    return replace(report, rows=rows)


def random_study(num_rows: int, *, seed: int, gain: int = 0) -> StudyReport:
    """Qualities of 1 to 5 of both contenders, the tuned one's `gain` higher, in answers of any length."""
    rng = random.Random(seed)
    qualities = [(rng.randint(1, 5) + gain, rng.randint(1, 5)) for _ in range(num_rows)]
    return study(qualities, lengths=[(rng.randint(0, 60), rng.randint(0, 60)) for _ in range(num_rows)])
