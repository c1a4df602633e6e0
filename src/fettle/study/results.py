"""Answers to figures: every contender's metrics with intervals, the comparisons, and the rows side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fettle.contenders.constant import CONSTANT
from fettle.contenders.readings import LabelReading, Reading
from fettle.economics.resources import resources_of
from fettle.errors import DataError
from fettle.records import Answer, Comparison, ContenderResult, Example, FinishReason, Metric, Split, Task, TaskKind
from fettle.report_records import AnswerRow, LossPoint, PartScores
from fettle.scoring.corpus import MacroF1, answered_texts, field_scores, label_scores
from fettle.scoring.grader import Grader, score_answers
from fettle.statistics.compare import ScoredArm, compare, with_holm
from fettle.statistics.intervals import mean_interval, statistic_interval
from fettle.study.figures import level_percent, points, signed
from fettle.study.ladder import Rung
from fettle.study.verdict import BetterContender

_SHARE_WORTH_A_WARNING = 0.02
_MAX_REASONS = 3
_WANTED_WORTH_A_WARNING = 5
_MOST_NAMED_PARTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedRung:
    """A rung with its answers to the test split."""

    rung: Rung
    answers: tuple[Answer, ...]
    """As read; in the order of the test examples."""
    latencies: tuple[float, ...]
    """Seconds of single requests."""

    @property
    def name(self) -> str:
        """The contender's key."""
        return self.rung.contender.name


def contender_result(
    tested: TestedRung, split: Split, task: Task, graders: Sequence[Grader], *, seed: int
) -> ContenderResult:
    """All figures of one contender, the primary metric first."""
    clusters = [split.cluster_by_id[example.id] for example in split.test]
    metrics = [_metric(grader, tested.answers, split.test, clusters) for grader in graders]
    if task.kind is TaskKind.LABELS:
        metrics += _label_metrics(tested, split, task, graders[0], seed=seed)
    contender = tested.rung.contender
    return ContenderResult(
        name=contender.name,
        title=contender.title,
        description=tested.rung.describe(),
        is_fine_tuned=contender.is_fine_tuned,
        metrics=tuple(metric for metric in metrics if metric is not None),
        resources=resources_of([answer for answer in tested.answers if not answer.has_failed], tested.latencies),
        validation_score=tested.rung.validation_score,
        told=contender.told(split.test[0]),
        num_failed=sum(answer.has_failed for answer in tested.answers),
        num_truncated=sum(answer.finish_reason is FinishReason.LENGTH for answer in tested.answers),
        num_shortened=sum(map(contender.is_shortened, split.test)),
        note=_failure_note(tested),
    )


def comparisons(
    tested: Sequence[TestedRung],
    split: Split,
    primary: Grader,
    *,
    challenger: str,
    baseline: str,
    seed: int,
    level: float = 0.95,
) -> tuple[Comparison, ...]:
    """The declared comparison first, then the challenger against every other contender, Holm-adjusted among themselves."""
    arms = {rung.name: scored_arm(rung, split.test, primary) for rung in tested}
    clusters = [split.cluster_by_id[example.id] for example in split.test]
    others = [name for name in arms if name not in (challenger, baseline)]
    found = [compare(arms[challenger], arms[baseline], clusters, is_primary=True, seed=seed, level=level)]
    for name in others:
        try:
            found.append(compare(arms[challenger], arms[name], clusters, is_primary=False, seed=seed, level=level))
        except DataError:
            continue  # not one pair could be scored: the contender's own row says so
    return with_holm(found)


def scored_arm(tested: TestedRung, test: Sequence[Example], grader: Grader) -> ScoredArm:
    """A contender's scores in the order of the test examples."""
    scores = tuple(score.value for score in score_answers(grader, test, tested.answers))
    return ScoredArm(name=tested.name, scores=scores, is_binary=grader.is_binary)


def answer_rows(tested: Sequence[TestedRung], split: Split, primary: Grader) -> tuple[AnswerRow, ...]:
    """One row per test example."""
    scores = {arm.name: score_answers(primary, split.test, arm.answers) for arm in tested}
    return tuple(
        AnswerRow(
            example_id=example.id,
            source=str(example.source),
            input_text=example.input_text,
            wanted=example.answer,
            answers={arm.name: arm.answers[place].text for arm in tested},
            scores={arm.name: scores[arm.name][place].value for arm in tested},
            passages={arm.name: shown for arm in tested if (shown := arm.answers[place].passages)},
            cited={arm.name: named for arm in tested if (named := arm.answers[place].cited)},
            errors={arm.name: _reason(arm.answers[place]) for arm in tested if arm.answers[place].has_failed},
            cluster=split.cluster_by_id[example.id],
        )
        for place, example in enumerate(split.test)
    )


def part_scores(tested: Sequence[TestedRung], test: Sequence[Example], task: Task) -> tuple[PartScores, ...]:
    """Every contender label by label, or field by field; free text has no such parts."""
    if task.kind is TaskKind.TEXT:
        return ()
    return tuple(
        PartScores(
            contender=arm.name,
            parts=field_scores(test, arm.answers)
            if task.kind is TaskKind.JSON
            else label_scores(*_columns(answered_texts(test, arm.answers)), task.labels),
        )
        for arm in tested
    )


def warnings_of(results: Sequence[ContenderResult], num_test: int) -> tuple[str, ...]:
    """What a reader must know before trusting the figures."""
    found = []
    for result in results:
        if result.num_failed:
            found.append(
                f"{result.title}: {result.num_failed} of {num_test} requests failed and are unscored; the same command asks "
                f"them again. {result.note or ''}".rstrip()
            )
        if result.num_truncated > _SHARE_WORTH_A_WARNING * num_test:
            found.append(
                f"{result.title}: {result.num_truncated} of {num_test} answers were cut at the token limit and are scored as "
                "they stand."
            )
        if result.num_shortened:
            found.append(
                f"{result.title}: {result.num_shortened} of {num_test} prompts were too long for the model and were shown less "
                "than described: fewer examples or passages, or no hint. A model with a longer context might do better here."
            )
    return tuple(found)


def warnings_of_empty(tested: Sequence[TestedRung], num_test: int) -> tuple[str, ...]:
    """Said of contenders that often answered, and with nothing."""
    found = []
    for arm in tested:
        num_empty = sum(not answer.text.strip() and not answer.has_failed for answer in arm.answers)
        if num_empty > _SHARE_WORTH_A_WARNING * num_test:
            found.append(
                f"Empty answers: {num_empty} of {num_test} of {arm.rung.contender.title} have no text, and are scored so."
            )
    return tuple(found)


def warnings_of_parts(scores: Sequence[PartScores], task: Task, *, challenger: str) -> tuple[str, ...]:
    """Said where the tuned model never finds what a good share of the test examples want."""
    found = next((one.parts for one in scores if one.contender == challenger), ())
    never = [part for part in found if part.num_right == 0 and part.num_wanted >= _WANTED_WORTH_A_WARNING]
    if not never:
        return ()
    what = "field" if task.kind is TaskKind.JSON else "label"
    named = [f"{part.name} (wanted {part.num_wanted} times)" for part in never[:_MOST_NAMED_PARTS]]
    more = f" and {len(never) - len(named)} more" if len(never) > len(named) else ""
    return (
        f"The tuned model is not once right about {', '.join(named)}{more} on the test examples, whatever its score. If that "
        f"{what} matters, try more examples or more epochs.",
    )


def beaten_by(results: Sequence[ContenderResult], compared: Sequence[Comparison]) -> tuple[BetterContender, ...]:
    """The contenders that did better than the challenger in a secondary comparison, by its interval and its adjusted p-value."""
    titles = {result.name: result.title for result in results}
    return tuple(
        BetterContender(
            title=titles[other.baseline], ahead_by=-other.difference.estimate, p_value_adjusted=other.p_value_adjusted
        )
        for other in compared
        if not other.is_primary and other.difference.high < 0 and other.p_value_adjusted <= 1 - other.difference.level
    )


def warnings_of_others(results: Sequence[ContenderResult], compared: Sequence[Comparison]) -> tuple[str, ...]:
    """Said of every contender that beat the declared baseline on the test split, and did as well as the tuned model there.

    The constant answer apart: the verdict itself looks at it.
    """
    if not compared:
        return ()
    to_baseline = compared[0].difference.estimate
    titles = {result.name: result.title for result in results}
    return tuple(
        f"{titles[other.baseline]} was not the declared baseline, and scored higher than it on the test examples; against the "
        f"tuned model: {points(-other.difference.estimate)} ({level_percent(other.difference.level)} interval "
        f"{signed(-100 * other.difference.high, 1)} to {points(-other.difference.low)}). The verdict does not rest on it; "
        "weigh it before you decide."
        for other in compared
        if not other.is_primary
        and other.baseline != CONSTANT
        and other.difference.estimate <= 0
        and other.difference.estimate < to_baseline
    )


def warnings_of_training(loss_points: Sequence[LossPoint], best_step: int) -> tuple[str, ...]:
    """Said where training did not lower the validation loss."""
    losses = {point.step: point.valid_loss for point in loss_points if point.valid_loss is not None}
    before, best = losses.get(0), losses.get(best_step)
    if before is None or best is None or best < before:
        return ()
    return (
        f"Training did not lower the validation loss: it was {before:.3g} before, and {best:.3g} at the best step. Try a lower "
        "--learning-rate, or more examples.",
    )


def _failure_note(tested: TestedRung) -> str | None:
    """How many requests failed, and why; None: none did."""
    reasons = Counter(_reason(answer) for answer in tested.answers if answer.has_failed)
    told = [f"{reason} ({count})" for reason, count in reasons.most_common(_MAX_REASONS)]
    if len(reasons) > _MAX_REASONS:
        told.append(f"and {len(reasons) - _MAX_REASONS} other reasons")
    sentences = [f"{_requests(reasons.total())} failed: {'; '.join(told)}."] if told else []
    if tested.rung.num_failed:
        sentences.append(f"On validation {_requests(tested.rung.num_failed)} failed.")
    return " ".join(sentences) or None


def _requests(number: int) -> str:
    return f"{number} request{'' if number == 1 else 's'}"


def _reason(answer: Answer) -> str:
    return answer.error or "no reason was given"


def _metric(
    grader: Grader, answers: Sequence[Answer], test: Sequence[Example], clusters: Sequence[int], name: str | None = None
) -> Metric | None:
    scores = score_answers(grader, test, answers)
    kept = [(s.value, cluster) for s, cluster in zip(scores, clusters, strict=True) if s.value is not None]
    if not kept:
        return None
    return Metric(
        grader=name or grader.name,
        interval=mean_interval([value for value, _ in kept], [cluster for _, cluster in kept]),
        num_scored=len(kept),
        num_unscored=len(scores) - len(kept),
    )


def _label_metrics(tested: TestedRung, split: Split, task: Task, primary: Grader, *, seed: int) -> list[Metric | None]:
    """Macro F1, and the accuracy of the readings that were not chosen, where the model has several."""
    cluster_of = {example.id: split.cluster_by_id[example.id] for example in split.test}
    judged = [e for e, a in zip(split.test, tested.answers, strict=True) if not a.has_failed]
    texts = answered_texts(split.test, tested.answers)
    macro = MacroF1(*_columns(texts), task.labels) if texts else None
    metrics: list[Metric | None] = []
    if macro is not None:
        clusters = [cluster_of[example.id] for example in judged]
        interval = statistic_interval(macro.value, len(texts), clusters, seed=seed)
        unscored = len(split.test) - len(texts)
        metrics.append(Metric(grader="macro_f1", interval=interval, num_scored=len(texts), num_unscored=unscored))
    if tested.rung.reading is not None and all(a.choice_log_likelihoods is not None for a in tested.answers):
        likelihood = LabelReading(kind=Reading.LIKELIHOOD, mean_log_likelihoods={})
        clusters = [cluster_of[example.id] for example in split.test]
        answers = likelihood.read(tested.answers)
        metrics.append(_metric(primary, answers, split.test, clusters, name="label_likelihood"))
    return metrics


def _columns(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Pairs as two lists."""
    return [first for first, _ in pairs], [second for _, second in pairs]


def by_name(tested: Sequence[TestedRung], name: str) -> TestedRung:
    """The rung of a contender."""
    return next(rung for rung in tested if rung.name == name)
