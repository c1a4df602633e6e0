"""The interface of the graders of OpenAI's fine-tuning API: what they are given, what they need, and what they say.

They differ from Fettle's own graders (`grader.py`): a reward is any finite number, and whatever fails is a reward of 0 with a flag.
`graders/openai_json.py` makes the one into the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from fettle.errors import ConfigError
from fettle.records import Message
from fettle.scoring.json_values import parse_json
from fettle.scoring.sandbox.code_runner import CodeRunner


class InvalidGraderError(ConfigError):
    """A JSON value that describes no grader, or one that cannot be used here.

    Args:
        problem: What was expected and what came.
        where: The place in the JSON, such as `grader.graders.style.operation`.
        remedy: What to do about it.
        code: What programs know it by: the API's `code`.
    """

    def __init__(self, problem: str, *, where: str, remedy: str, code: str = "invalid_value") -> None:
        self.code = code
        super().__init__(problem, where=where, remedy=remedy)


# ---------------------------------------------------------------------------------------------------- what is graded


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a model said: the `sample` of templates and of `grade(sample, item)`."""

    output_text: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """As on the wire."""

    def variables(self) -> dict[str, Any]:
        """Its names and values; `output_json` is there only when the text is JSON."""
        message = {"role": "assistant", "content": self.output_text, "tool_calls": list(self.tool_calls)}
        reason = "tool_calls" if self.tool_calls else "stop"
        variables = {
            "output_text": self.output_text,
            "output_tools": list(self.tool_calls),
            "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        }
        try:
            return variables | {"output_json": parse_json(self.output_text)}
        except (ValueError, RecursionError):
            return variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One sample for one row of the data."""

    sample: Sample
    item: Mapping[str, Any]
    """All keys of the row but `messages` and `tools`: plain JSON values."""


# ---------------------------------------------------------------------------------------------------- what is said of it


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderErrors:
    """What went wrong: the fourteen keys of the API, in its order and by its names."""

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    """A template reads `sample.output_json`, and the text is no JSON."""
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    """A template names what is not there."""
    other_error: bool = False
    """The formula cannot be computed for these rewards: divided by zero, the root of a negative number."""
    python_grader_server_error: bool = False
    """The sandbox broke; not the grader's fault."""
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    """The end of the traceback, or what became of the process."""
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None

    @property
    def any(self) -> bool:
        """Whether something went wrong."""
        return self != GraderErrors()

    @property
    def is_of_service(self) -> bool:
        """Whether the sandbox or a model could not be asked, which may go well the next time."""
        return self.python_grader_server_error or self.model_grader_server_error

    def joined(self, other: GraderErrors) -> GraderErrors:
        """The flags of both; of two texts the first."""
        return GraderErrors(**{f.name: getattr(self, f.name) or getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens that a grading model took."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: TokenUsage) -> TokenUsage:
        """The tokens of both."""
        return TokenUsage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """What a grader makes of one attempt."""

    reward: float
    """Any finite number; 0 where grading failed."""
    errors: GraderErrors = GraderErrors()
    problem: str | None = None
    """What failed, in words; None when nothing did."""
    is_fault_of_sample: bool = False
    """The attempt failed because of what the model said: it is wrong, rather than ungraded."""
    sub_rewards: Mapping[str, float] = field(default_factory=dict)
    """The reward of each grader of a `multi`."""
    usage_by_model: Mapping[str, TokenUsage] = field(default_factory=dict)
    sampled_model_name: str | None = None

    @staticmethod
    def failed(problem: str, errors: GraderErrors) -> Grade:
        """A reward of 0, and why."""
        return Grade(reward=0.0, errors=errors, problem=problem)


# ---------------------------------------------------------------------------------------------------- what it takes


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a grading model answers; None: as the server does when nothing is said."""

    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_completion_tokens: int | None = None
    reasoning_effort: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a grading model is asked."""

    model: str
    messages: tuple[Message, ...]
    json_schema: str
    """JSON Schema of the answer, as JSON text."""
    params: SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a grading model said."""

    text: str
    usage: TokenUsage = TokenUsage()
    error: str | None = None
    """Why there is no text; None: there is."""
    is_refusal: bool = False


class Sampler(Protocol):
    """Asks models that are served here."""

    def knows(self, model: str) -> bool:
        """Whether a model of this name can be asked."""
        ...

    def ask(self, questions: Sequence[Question]) -> Sequence[Reply]:
        """One reply for each question, in order; one that fails says so in its `error` and raises nothing."""
        ...


class NoSampler:
    """Where no model can be asked."""

    def knows(self, model: str) -> bool:  # noqa: ARG002 (the interface)
        """No model is known."""
        return False

    def ask(self, questions: Sequence[Question]) -> Sequence[Reply]:
        """Every reply says that there is none."""
        return [Reply(text="", error=f"no model {question.model!r} can be asked here") for question in questions]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradingServices:
    """What graders need that they do not hold themselves."""

    code_runner: CodeRunner
    sampler: Sampler = field(default_factory=NoSampler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """What a template reads: `item.people[0].name` is ("item", "people", 0, "name")."""

    namespace: str
    path: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return self.namespace + "".join(steps)


class OpenAIGrader(Protocol):
    """Turns attempts into grades."""

    @property
    def name(self) -> str:
        """As the user called it; the kind where no name was given."""
        ...

    @property
    def kind(self) -> str:
        """The `type` of the API."""
        ...

    @property
    def pass_threshold(self) -> float | None:
        """The reward from which an eval calls an attempt passed; None: its own default."""
        ...

    @property
    def variables(self) -> tuple[Variable, ...]:
        """All that its templates read."""
        ...

    @property
    def models(self) -> tuple[str, ...]:
        """Models that it asks."""
        ...

    @property
    def runs_code(self) -> bool:
        """Whether it runs code of the user."""
        ...

    def grade(self, attempts: Sequence[Attempt], services: GradingServices) -> tuple[Grade, ...]:
        """One grade for each attempt, in order; what fails is a grade of 0 with its reason."""
        ...


class MissingVariableError(LookupError):
    """A template names what an attempt does not have. Caught by `grade_each`; never seen by a user."""

    def __init__(self, variable: Variable, attempt: Attempt) -> None:
        super().__init__(f"{variable} is not there")
        self.variable = variable
        reads_json = variable.namespace == "sample" and variable.path[:1] == ("output_json",)
        self.is_unparsed = reads_json and "output_json" not in attempt.sample.variables()

    @property
    def grade(self) -> Grade:
        """What becomes of the attempt."""
        problem = f"{self.variable} is not there" + (", for the answer is no JSON" if self.is_unparsed else "")
        errors = GraderErrors(invalid_variable_error=True, sample_parse_error=self.is_unparsed)
        return replace(Grade.failed(problem, errors), is_fault_of_sample=self.variable.namespace == "sample")


def grade_each(attempts: Iterable[Attempt], reward: Callable[[Attempt], float]) -> tuple[Grade, ...]:
    """Grades of a grader that looks at one attempt after the other; a missing variable is a grade of 0."""
    grades: list[Grade] = []
    for attempt in attempts:
        try:
            value = reward(attempt)
        except MissingVariableError as missing:
            grades.append(missing.grade)
            continue
        assert math.isfinite(value)
        grades.append(Grade(reward=value))
    return tuple(grades)
