"""What releases are held against: every gate's bound, in one TOML file of which each line may be left out."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fettle.errors import ConfigError
from fettle.files import sha256_of_json


class _Gate(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    is_on: bool = Field(default=True, alias="on")
    when_not_measured: Literal["refuse", "pass"] = "refuse"
    """What becomes of a release for which the gate cannot be measured."""


class PromptGate(_Gate):
    """Paired with the prompt-only contender on the same test examples, ties as half."""

    lowest_win_rate: float = Field(default=0.5, ge=0, le=1)
    """The whole interval must lie above it."""


class CurrentGate(_Gate):
    """Paired with the release in force on the test examples that both know, ties as half."""

    lowest_win_rate: float = Field(default=0.45, ge=0, le=1)
    """The whole interval must lie above it: a release may be as good, and not clearly worse."""


class ForgettingGate(_Gate):
    """What the tuned model has forgotten."""

    most_points_lost: float | None = Field(default=None, ge=0, le=100)
    """Of the mean score of the general questions; the whole interval must lose less. None: the study's budget."""


class ParityGate(_Gate):
    """The server answers as the study did."""

    lowest_same_share: float = Field(default=0.85, ge=0, le=1)
    """Of answers that are the study's word for word; the whole interval must lie above it."""
    num_answers: int = Field(default=60, ge=1, le=10_000)
    """Test examples that are answered again. With 60, the slowest one bounds the 95th percentile at 95 %."""


class LatencyGate(_Gate):
    """One request at a time, through the engine that serves."""

    most_seconds_p95: float = Field(default=5.0, gt=0)
    """The whole interval of the 95th percentile must lie below it."""


class CostPerRequestGate(_Gate):
    """Of answering one request, with the study's money (`fettle cost`)."""

    most: float | None = Field(default=None, ge=0)
    """In the currency of the assumptions; the whole band must lie below it. None: the gate does not apply."""


class CostPerCorrectAnswerGate(_Gate):
    """Of one right answer, failed and wrong ones paid as well."""

    most: float | None = Field(default=None, ge=0)
    """In the currency of the assumptions; the whole band must lie below it. None: the gate does not apply."""


class JsonGate(_Gate):
    """For a study whose answers are JSON."""

    lowest_valid_share: float = Field(default=0.9, ge=0, le=1)
    """Of answers that are JSON and fit the schema of the training answers; the whole interval must lie above it."""


class PersonalDataGate(_Gate):
    """Personal data in answers that the prompt does not hold."""

    most_answers: int = Field(default=0, ge=0)
    """Answers of the test split with such data, at most."""
    allowed: tuple[str, ...] = Field(default=(), strict=False)
    """Values that answers may name: your own address, say."""


class MustPassGate(_Gate):
    """Your own examples, each of which must be answered rightly."""

    file: Path | None = Field(default=None, strict=False)
    """Examples as a study reads them. None: the gate does not apply."""
    lowest_share: float = Field(default=1.0, ge=0, le=1)
    """Of examples that pass, at least."""
    lowest_score: float = Field(default=1.0, ge=0, le=1)
    """With which an example passes."""
    grader: str | None = None
    """By name. None: exact for labels and short texts, field by field for JSON, chrF for long texts."""


class GateSettings(BaseModel):
    """All gates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    win_rate_against_prompt: PromptGate = PromptGate()
    win_rate_against_current: CurrentGate = CurrentGate()
    forgetting: ForgettingGate = ForgettingGate()
    parity: ParityGate = ParityGate()
    latency: LatencyGate = LatencyGate()
    cost_per_request: CostPerRequestGate = CostPerRequestGate()
    cost_per_correct_answer: CostPerCorrectAnswerGate = CostPerCorrectAnswerGate()
    json_validity: JsonGate = JsonGate()
    personal_data: PersonalDataGate = PersonalDataGate()
    must_pass: MustPassGate = MustPassGate()

    @property
    def sha256(self) -> str:
        """Of all that is set."""
        return sha256_of_json(self.model_dump(mode="json"))


def read_gate_settings(path: Path) -> GateSettings:
    """The gates of a file; paths in it are from its folder.

    Raises:
        ConfigError: There is no such file, or it is not as it should be.
    """
    try:
        read = GateSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(
            f"cannot read the gates ({error.strerror})", where=str(path), remedy="check the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"this is no TOML: {error}", where=str(path), remedy=_REMEDY) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{place}: {first['msg']}", where=str(path), remedy=_REMEDY) from error
    file = read.must_pass.file
    if file is None:
        return read
    return with_must_pass(read, path.parent / file)


def with_must_pass(settings: GateSettings, file: Path) -> GateSettings:
    """The same gates with another file of examples that must pass."""
    return settings.model_copy(update={"must_pass": settings.must_pass.model_copy(update={"file": file})})


_REMEDY = "`fettle release gates` prints a file that is right, with a comment for each line"

DEFAULT_FILE = """\
# Gates of a release. Every line may be left out; what stands here is the default.
# Each gate takes `on = false`, and `when_not_measured = "pass"`, which lets a release through that cannot be measured.

[win_rate_against_prompt]    # paired with the prompt-only contender on the same test examples, ties as half
lowest_win_rate = 0.5        # the whole interval must lie above it

[win_rate_against_current]   # paired with the release in force on the test examples that both know
lowest_win_rate = 0.45       # the whole interval must lie above it: a release may be as good, not clearly worse

[forgetting]                 # for tuned contenders
# most_points_lost = 5.0     # of the mean score of the general questions, whole interval; left out: the study's budget

[parity]                     # the serving engine answers test examples of the study again
lowest_same_share = 0.85     # of answers that are the same, word for word; the whole interval must lie above it
num_answers = 60

[latency]                    # of these same answers, one at a time
most_seconds_p95 = 5.0       # the whole interval of the 95th percentile must lie below it

[cost_per_request]           # of answering, as `fettle cost` works it out; applies where a bound is given
# most = 0.001               # in the currency of the study's money or of --economics; the whole band must lie below it

[cost_per_correct_answer]    # the same for each right answer
# most = 0.0015

[json_validity]              # for JSON answers
lowest_valid_share = 0.9     # JSON that fits the schema of the training answers; the whole interval must lie above it

[personal_data]              # in answers to the test split, where the prompt does not hold it
most_answers = 0
allowed = []                 # values that answers may name, such as your own address

[must_pass]                  # applies where a file is given (or --must-pass)
# file = "must-pass.jsonl"   # your own examples with wanted answers, from this file's folder
lowest_share = 1.0           # of examples that pass
lowest_score = 1.0           # with which an example passes
# grader = "exact_label"     # by name; left out: the one that fits the answers
"""
