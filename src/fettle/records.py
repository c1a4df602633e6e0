"""What travels along the arrows of the pipeline: one frozen record type per stage, in the order in which data flows.

Plain data only: no torch, no pydantic, no files. Conversions to and from files and the wire live with the code that reads or writes
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]

# ---------------------------------------------------------------------------------------------------- examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a record came from. `line` counts from 1; in a table it is the row as an editor shows it, the header being line 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function call made by the assistant; `arguments` is a JSON text, as on the wire."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function the assistant may call; `parameters` is a JSON Schema as JSON text."""

    name: str
    description: str = ""
    parameters: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `weight` 0 switches the loss off on an assistant turn; None and 1 mean on."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    weight: int | None = None

    @property
    def is_system(self) -> bool:
        """Whether it is a system message, by either of its names."""
        return self.role in ("system", "developer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A conversation whose last message, always the assistant's, is the wanted answer."""

    id: str
    messages: tuple[Message, ...]
    source: Location
    tools: tuple[Tool, ...] = ()
    group: str | None = None
    """Examples with the same group (a customer, a thread) stay in one split; None: no group was given."""
    context: str = ""
    """What the system message asks, where that differs from example to example (`examples.contexts`); "": it is an instruction."""
    document_ids: tuple[str, ...] | None = None
    """The documents that answer it, for training and measuring: no contender may look; empty: none does; None: nobody has said."""
    references: tuple[str, ...] = ()
    """Other answers that would be as right, for graders alone."""
    is_told: bool = False
    """Its answer sounds as if there were none ("The handbook does not cover pets.") and stands so in the documents of a study:
    it is an answer like others."""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the wanted answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The text of the wanted answer."""
        return self.messages[-1].content

    @property
    def user_text(self) -> str:
        """What the user says, all turns of it; where there is none, the last turn."""
        said = [message.content for message in self.prompt if message.role == "user"]
        return "\n".join(said) if said else self.prompt[-1].content if self.prompt else ""

    @property
    def input_text(self) -> str:
        """What is asked, the user's turns and the context: what nearest neighbours, classifiers and people look at."""
        return f"{self.context}\n{self.user_text}" if self.context else self.user_text


def joined_text_parts(parts: Iterable[str]) -> str:
    """The text of a message whose content comes in parts: a line each, the same in training, chats, responses and evals.

    >>> joined_text_parts(["Hello.", "Where is it?"])
    'Hello.\\nWhere is it?'
    """
    return "\n".join(parts)


def num_text_bytes(messages: Sequence[Message], tools: Sequence[Tool]) -> int:
    """UTF-8 bytes of all that a chat template may write of a conversation: no tokenizer makes more tokens of it."""
    calls = [call for message in messages for call in message.tool_calls]
    texts = [message.content for message in messages]
    texts += [text for call in calls for text in (call.name, call.arguments)]
    texts += [text for tool in tools for text in (tool.name, tool.description, tool.parameters)]
    return sum(len(text.encode()) for text in texts)


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The row, or the whole file, cannot be used."""
    WARNING = "warning"
    """Usable, but the user should know."""
    INFO = "info"


class Action(StrEnum):
    """What was done about a finding."""

    KEPT = "kept"
    REPAIRED = "repaired"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing noticed in the data: where it is, what is wrong, what was done, and what the user can do."""

    code: str
    severity: Severity
    action: Action
    message: str
    remedy: str
    file: str
    line: int | None = None
    """None: the finding is about the whole file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Examples read from one or more files, with everything noticed on the way."""

    name: str
    examples: tuple[Example, ...]
    findings: tuple[Finding, ...]
    file_sha256: Mapping[str, str]
    """The hash of every file read, by its name."""


class TaskKind(StrEnum):
    """The kinds of answer a study knows how to grade."""

    LABELS = "labels"
    JSON = "json"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What kind of answer is wanted, recognised from the answers."""

    kind: TaskKind
    reason: str
    """Why it was taken for this kind, in words."""
    labels: tuple[str, ...] = ()
    """All labels, most frequent first; empty unless `kind` is LABELS."""
    json_schema: str | None = None
    """A JSON Schema that every training answer satisfies, as JSON text; None unless `kind` is JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Three disjoint parts; near-duplicates and groups never straddle two of them."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    test: tuple[Example, ...]
    cluster_by_id: Mapping[str, int]
    """The cluster of near-duplicates (and of the group) each example belongs to; a cluster of one is the normal case."""
    seed: int
    given_by_user: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenisedExample:
    """An example as the model sees it, written by the chat renderer alone; a few are several rows, with one `example_id`."""

    example_id: str
    token_ids: tuple[int, ...]
    is_trained: tuple[bool, ...]
    """One flag per token: True where the loss is taken. The first token is never trained."""
    num_untrained_turns: int = 0
    """Assistant turns that carry loss in the data but cannot with this template, or not as a whole: it writes them otherwise than
    the model would, or leaves out the text beside a function call."""

    @property
    def num_trained_tokens(self) -> int:
        """Number of tokens with loss."""
        return sum(self.is_trained)


# ---------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What an engine is asked: the conversation up to the answer."""

    example_id: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


class FinishReason(StrEnum):
    """Why an answer ends where it does."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an answer took. `seconds` is its share of the batch's wall time."""

    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogProb:
    """How probable a token of an answer was where it was written, by the model itself: before penalties, masks and temperature."""

    token_id: int
    log_prob: float
    """Natural logarithm."""
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens there, with theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a contender said to one example. Exactly one exists per contender and example, failures included."""

    example_id: str
    text: str
    finish_reason: FinishReason
    usage: Usage
    error: str | None = None
    """Why there is no answer; None unless `finish_reason` is ERROR."""
    choice_log_likelihoods: Mapping[str, float] | None = None
    """For a label task: natural-log likelihood of each label given the prompt, up to where its text is settled; None where the
    engine cannot tell."""
    log_probs: tuple[TokenLogProb, ...] | None = None
    """Of every token, the end of turn included, where they were asked for."""
    passages: tuple[str, ...] = ()
    """Ids of the passages that stood in its prompt, in rank order."""
    cited: tuple[str, ...] = ()
    """Those of them that it names; the names are no part of the text."""
    num_false_citations: int = 0
    """Numbers that it names and no passage had."""

    def taking(self, seconds: float) -> Answer:
        """The same answer with other seconds."""
        return replace(self, usage=replace(self.usage, seconds=seconds))

    @property
    def has_failed(self) -> bool:
        """The request failed: there is no answer, and nothing to score."""
        return self.finish_reason is FinishReason.ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a grader makes of one answer. `value` is in [0, 1], or None: could not be scored, for `reason`."""

    example_id: str
    value: float | None
    reason: str | None = None
    is_retried: bool = False
    """It could not be scored because something failed that the same command tries again: an endpoint, the sandbox."""


# ---------------------------------------------------------------------------------------------------- comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval, in the unit of the estimate."""

    estimate: float
    low: float
    high: float
    level: float = 0.95
    method: str = ""

    def __str__(self) -> str:
        return f"{self.estimate:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One contender's mean score by one grader over a split."""

    grader: str
    interval: Interval
    num_scored: int
    num_unscored: int
    is_percentage: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a contender took over a split, measured on the requests that were answered; None where none was."""

    prompt_tokens_per_request: float | None
    completion_tokens_per_request: float | None
    seconds_per_request: float | None
    """Wall time of the batch run divided by its requests."""
    latency_seconds_p50: float | None = None
    """One request at a time; None where it was not measured."""
    latency_seconds_p95: float | None = None
    latency_seconds_p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContenderResult:
    """One contender on the test split."""

    name: str
    title: str
    description: str
    """How it answers, with what was chosen for it on the validation split."""
    is_fine_tuned: bool
    metrics: tuple[Metric, ...]
    """The primary metric first."""
    resources: Resources
    validation_score: float | None
    """Mean primary score on the validation split, which all choices were made on."""
    told: tuple[Message, ...] = ()
    """All that it was sent to answer the first test example; empty for one that is not prompted."""
    num_failed: int = 0
    num_truncated: int = 0
    num_shortened: int = 0
    """Test examples whose prompt had to lose shots or the hint to fit into the model's context."""
    note: str | None = None
    """What else a reader must know: why requests failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two contenders on the same examples; differences are `challenger` minus `baseline` in mean primary score."""

    challenger: str
    baseline: str
    is_primary: bool
    num_pairs: int
    num_pairs_unscored: int
    difference: Interval
    bootstrap: Interval | None
    """`difference` with its paired cluster bootstrap interval, a cross-check that decides nothing; None: all resamples alike."""
    win_rate: Interval
    num_wins: int
    num_ties: int
    num_losses: int
    p_value: float
    p_value_method: str
    p_value_adjusted: float
    """Holm-adjusted over the secondary comparisons; equal to `p_value` for the primary one."""


class Decision(StrEnum):
    """What a study can conclude."""

    SHIP = "ship"
    STAY = "stay"
    CANNOT_TELL = "cannot tell yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do, and why."""

    decision: Decision
    headline: str
    """One sentence a founder can act on."""
    reasons: tuple[str, ...]
    num_more_test_examples: int | None = None
    """How many more test examples would probably decide it; None when it is decided, or cannot be."""
