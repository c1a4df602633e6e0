"""What people are asked of a finished study: which two contenders, which examples in which order, and who stands on which side."""

from __future__ import annotations

import json
from dataclasses import dataclass

from fettle.errors import ConfigError, DataError
from fettle.files import sha256_of_json
from fettle.records import TaskKind
from fettle.report_records import AnswerRow, StudyReport
from fettle.votes.records import Sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Contenders:
    """The two whose answers are compared, by name."""

    challenger: str
    baseline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Matchup:
    """One test example with the answers of both contenders."""

    example_id: str
    input_text: str
    challenger_answer: str
    baseline_answer: str
    is_equal: bool
    """Both say the same: nobody is asked, and it is a tie."""
    cluster: int
    answers_sha256: str
    """Of both answers as they were given: a vote on others is no vote on these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """The examples in the order in which everybody is asked, those with equal answers among them."""

    contenders: Contenders
    matchups: tuple[Matchup, ...]
    num_failed: int
    """Test examples left out because a contender's request had failed."""
    has_clusters: bool
    """False: an older version wrote the report, and each example counts as a cluster of its own."""
    seed: int

    @property
    def asked(self) -> tuple[Matchup, ...]:
        """The examples that people see."""
        return tuple(matchup for matchup in self.matchups if not matchup.is_equal)

    def sides(self, example_id: str, rater: str) -> Sides:
        """Who stands where for one person: as good as a coin, and the same whenever it is asked."""
        coin = int(sha256_of_json([self.seed, rater, example_id]), 16) % 2
        names = sorted((self.contenders.challenger, self.contenders.baseline))
        return Sides(left=names[coin], right=names[1 - coin])


def chosen_contenders(report: StudyReport, between: tuple[str, str] | None) -> Contenders:
    """The two that people and judges are asked about: those that were named, else those of the declared comparison.

    Args:
        report: Of the finished study.
        between: Names of the challenger and the baseline; None: nobody named any.

    Raises:
        ConfigError: Nobody named any, and the study compares no two contenders by itself.
    """
    if between is not None:
        return Contenders(challenger=between[0], baseline=between[1])
    declared = next((one for one in report.comparisons if one.is_primary), None)
    if declared is None:
        raise ConfigError(
            "this study compares no two contenders by itself",
            where="--between",
            remedy=f"name two of {', '.join(one.name for one in report.contenders)}",
        )
    return Contenders(challenger=declared.challenger, baseline=declared.baseline)


def make_poll(report: StudyReport, contenders: Contenders, *, num_sampled: int | None, where: str) -> Poll:
    """The poll about two contenders of a study.

    The order comes from the study's seed. A sample is its beginning, so that a larger one goes on where a smaller one ended.

    Args:
        report: Of the finished study.
        contenders: Two of its contenders.
        num_sampled: So many test examples at most, those with equal answers counted; None: all of them.
        where: Names the report in messages.

    Raises:
        ConfigError: The study has no such contender, or both are the same.
        DataError: The report holds no example that both have answered.
    """
    _require_contenders(report, contenders)
    names = (contenders.challenger, contenders.baseline)
    answered = [row for row in report.rows if all(name in row.answers and name not in row.errors for name in names)]
    if not answered:
        raise DataError(
            f"the report holds no test example that both {names[0]} and {names[1]} have answered",
            where=where,
            remedy="run the study again, or compare two other contenders with --between A B",
        )
    seed = report.provenance.seed
    answered.sort(key=lambda row: sha256_of_json([seed, row.example_id]))
    has_clusters = all(row.cluster is not None for row in answered)
    is_json = report.task.kind is TaskKind.JSON
    matchups = tuple(
        _matchup(
            row, contenders, is_json=is_json, cluster=row.cluster if row.cluster is not None and has_clusters else place
        )
        for place, row in enumerate(answered)
    )
    return Poll(
        contenders=contenders,
        matchups=matchups[:num_sampled],
        num_failed=len(report.rows) - len(answered),
        has_clusters=has_clusters,
        seed=seed,
    )


def _require_contenders(report: StudyReport, contenders: Contenders) -> None:
    known = [contender.name for contender in report.contenders]
    for name in (contenders.challenger, contenders.baseline):
        if name not in known:
            raise ConfigError(
                f"this study has no contender {name!r}",
                where="--between",
                remedy=f"choose two of {', '.join(known)}" if len(known) > 1 else "run a study with two contenders",
            )
    if contenders.challenger == contenders.baseline:
        raise ConfigError(
            f"expected two contenders, and both are {contenders.challenger}",
            where="--between",
            remedy=f"choose two of {', '.join(known)}",
        )


def _matchup(row: AnswerRow, contenders: Contenders, *, is_json: bool, cluster: int) -> Matchup:
    answers = {name: row.answers[name] for name in (contenders.challenger, contenders.baseline)}
    shown = {name: _readable_json(text) if is_json else text for name, text in answers.items()}
    return Matchup(
        example_id=row.example_id,
        input_text=row.input_text,
        challenger_answer=shown[contenders.challenger],
        baseline_answer=shown[contenders.baseline],
        is_equal=say_the_same(*answers.values(), is_json=is_json),
        cluster=cluster,
        answers_sha256=sha256_of_json(answers),
    )


def say_the_same(one: str, other: str, *, is_json: bool) -> bool:
    """Whether two answers are equal but for the space around them, or, as JSON, for the order of fields.

    >>> say_the_same('{"a": 1, "b": 2}', '{"b":2,"a":1}', is_json=True)
    True
    """
    if one.strip() == other.strip():
        return True
    canonical = [_rewritten_json(text, indent=None, sort_keys=True) if is_json else None for text in (one, other)]
    return canonical[0] is not None and canonical[0] == canonical[1]


def _readable_json(text: str) -> str:
    """A JSON object or list over several lines; any other text as it stands."""
    return _rewritten_json(text, indent=2, sort_keys=False) or text


def _rewritten_json(text: str, *, indent: int | None, sort_keys: bool) -> str | None:
    """A JSON object or list in another layout; None: the text is none, or nested beyond reading."""
    try:
        value = json.loads(text)
        is_nested = isinstance(value, dict | list)
        return json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=sort_keys) if is_nested else None
    except (ValueError, RecursionError):
        return None
