"""What grading takes, done once: replies of models and results of a user's code are kept in files, and found there again.

A study scores the same answers several times, and goes on after a kill. Code that rolls dice would say another thing each time, and
a model would be paid for again. What a service failed at (an endpoint that is away, a sandbox that does not start) is remembered
for this process alone: the same command tries it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from fettle.files import append_json_lines, read_json_lines, sha256_of_json
from fettle.progress import Listener, Stage
from fettle.report_records import GradingModel
from fettle.scoring.openai_grader import GradingServices, Question, Reply, Sampler, TokenUsage
from fettle.scoring.sandbox.code_runner import CodeCall, CodeFault, CodeOutcome, CodeRunner

_FORMAT = 1
"""Raised when what an older version kept must not be used."""
_REPLIES_AT_ONCE = 8
_CALLS_AT_ONCE = 64
REPLIES, OUTCOMES = "replies.jsonl", "outcomes.jsonl"


def kept_services(services: GradingServices, folder: Path, *, address: str, listener: Listener) -> GradingServices:
    """The same services, keeping what they do in `folder`; nothing is read or written before they are needed.

    Args:
        services: Which do it.
        folder: Belongs to one study.
        address: Where the models are, without what may be secret.
        listener: Is told how far a model is.
    """
    return GradingServices(
        code_runner=KeptRunner(services.code_runner, folder / OUTCOMES),
        sampler=KeptSampler(services.sampler, folder / REPLIES, address=address, listener=listener),
    )


# ---------------------------------------------------------------------------------------------------- models


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReply:
    """A reply, one line of the file."""

    key: str
    """Hash of all that decides it."""
    model: str
    text: str
    is_refusal: bool
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Its share of the wall time of those that were asked together."""

    def reply(self) -> Reply:
        """As it came."""
        usage = TokenUsage(prompt_tokens=self.prompt_tokens, completion_tokens=self.completion_tokens)
        return Reply(text=self.text, usage=usage, is_refusal=self.is_refusal)


class KeptSampler:
    """Asks nothing twice.

    Args:
        sampler: Asks.
        file: JSON lines; nobody else may write to it meanwhile.
        address: Where the models are, without what may be secret.
        listener: Is told after every few replies.
    """

    def __init__(self, sampler: Sampler, file: Path, *, address: str, listener: Listener) -> None:
        self._sampler, self._file, self._address, self._listener = sampler, file, address, listener
        self._kept: dict[str, KeptReply] | None = None
        self._failed: dict[str, Reply] = {}

    def knows(self, model: str) -> bool:
        """Whether a model of this name can be asked."""
        return self._sampler.knows(model)

    def ask(self, questions: Sequence[Question]) -> Sequence[Reply]:
        """One reply for each question, in order; what is there already is not asked."""
        kept = self._replies()
        keys = [self._key(question) for question in questions]
        known = kept.keys() | self._failed.keys()
        new = {key: one for key, one in zip(keys, questions, strict=True) if key not in known}
        num_done = 0
        for some in _chunks(list(new), _REPLIES_AT_ONCE):
            self._ask([(key, new[key]) for key in some])
            num_done += len(some)
            name = f"{new[some[0]].model} grades"
            self._listener.on_stage(Stage(name=name, num_done=num_done, num_total=len(new)))
        return [kept[key].reply() if key in kept else self._failed[key] for key in keys]

    def took(self) -> tuple[GradingModel, ...]:
        """What each model took in this study, earlier runs included."""
        kept = self._replies().values()
        return tuple(
            GradingModel(
                model=model,
                address=self._address,
                num_replies=sum(one.model == model for one in kept),
                prompt_tokens=sum(one.prompt_tokens for one in kept if one.model == model),
                completion_tokens=sum(one.completion_tokens for one in kept if one.model == model),
                seconds=sum(one.seconds for one in kept if one.model == model),
            )
            for model in dict.fromkeys(one.model for one in kept)
        )

    def _ask(self, some: Sequence[tuple[str, Question]]) -> None:
        started = perf_counter()
        replies = self._sampler.ask([question for _, question in some])
        seconds = (perf_counter() - started) / len(some)
        new: list[KeptReply] = []
        for (key, question), reply in zip(some, replies, strict=True):
            if reply.error is not None:
                self._failed[key] = reply
                continue
            new.append(
                KeptReply(
                    key=key,
                    model=question.model,
                    text=reply.text,
                    is_refusal=reply.is_refusal,
                    prompt_tokens=reply.usage.prompt_tokens,
                    completion_tokens=reply.usage.completion_tokens,
                    seconds=seconds,
                )
            )
        if new:
            append_json_lines(self._file, [asdict(one) for one in new])
        self._replies().update((one.key, one) for one in new)

    def _replies(self) -> dict[str, KeptReply]:
        if self._kept is None:
            self._kept = {row["key"]: KeptReply(**row) for row in read_json_lines(self._file)}
        return self._kept

    def _key(self, question: Question) -> str:
        messages = [[message.role, message.content] for message in question.messages]
        params = asdict(question.params)
        return sha256_of_json([_FORMAT, self._address, question.model, messages, question.json_schema, params])


# ---------------------------------------------------------------------------------------------------- code


class KeptRunner:
    """Runs nothing twice.

    Args:
        runner: Runs it.
        file: JSON lines; nobody else may write to it meanwhile.
    """

    def __init__(self, runner: CodeRunner, file: Path) -> None:
        self._runner, self._file = runner, file
        self._kept: dict[str, CodeOutcome] | None = None
        self._failed: dict[str, CodeOutcome] = {}

    def unavailable_because(self) -> str | None:
        """Why no code can be run here; None: it can."""
        return self._runner.unavailable_because()

    def run(self, source: str, calls: Sequence[CodeCall]) -> tuple[CodeOutcome, ...]:
        """One outcome for each call, in order. What the code itself failed at is kept too: it would fail again."""
        kept = self._outcomes()
        keys = [_key_of_call(source, call) for call in calls]
        known = kept.keys() | self._failed.keys()
        new = {key: call for key, call in zip(keys, calls, strict=True) if key not in known}
        for some in _chunks(list(new), _CALLS_AT_ONCE):
            outcomes = dict(zip(some, self._runner.run(source, [new[key] for key in some]), strict=True))
            self._failed |= {key: one for key, one in outcomes.items() if one.fault is CodeFault.SERVER}
            lasting = {key: one for key, one in outcomes.items() if one.fault is not CodeFault.SERVER}
            if lasting:
                rows = [{"key": key, "value": one.value, "details": one.details} for key, one in lasting.items()]
                append_json_lines(self._file, rows)
                kept |= lasting
        return tuple(kept.get(key) or self._failed[key] for key in keys)

    def _outcomes(self) -> dict[str, CodeOutcome]:
        if self._kept is None:
            self._kept = {row["key"]: _outcome(row["value"], row["details"]) for row in read_json_lines(self._file)}
        return self._kept


def _outcome(value: float | None, details: str) -> CodeOutcome:
    return CodeOutcome(value=value, fault=None if value is not None else CodeFault.CODE, details=details)


def _key_of_call(source: str, call: CodeCall) -> str:
    """Of all that decides a result. `output_json` is left out: the text says it already, and it may hold infinite numbers."""
    sample = {name: value for name, value in call.sample.items() if name != "output_json"}
    return sha256_of_json([_FORMAT, source, sample, call.item])


def _chunks(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
