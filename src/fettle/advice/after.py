"""What to do after a study: from its report alone, every figure with its place in `report.json`.

One function for each theme, in the order in which its advice matters. None of them changes the verdict, which was declared before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from fettle.advice.after_errors import errors_of_labels, errors_of_parts, errors_of_search
from fettle.advice.after_money import looks_step, money_step, router_step, watch_step
from fettle.advice.again import study_again
from fettle.advice.finished import Finished
from fettle.advice.quoted import step
from fettle.advice_records import Command, Measurement, NextAdvice, NextStep, Unit
from fettle.contenders.constant import CONSTANT
from fettle.records import Decision
from fettle.releases.gate_settings import GateSettings
from fettle.report_records import BudgetDecision, StudyReport
from fettle.study import figures
from fettle.tuning_records import CurveOutcome

FEW_FOR_A_CURVE = 2_000
"""Training examples up to which it is worth asking what more would bring."""
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_.-]+")
_HARDLY_BELOW = 0.999
"""A validation loss at the last evaluation this much below the one before is still falling."""


def advise_next(report: StudyReport, folder: Path) -> NextAdvice:
    """What to do next, the most important first.

    Args:
        report: Of the study.
        folder: Where it lies, for the commands.
    """
    study = Finished(report, folder)
    return NextAdvice(
        name=report.name,
        headline=report.verdict.headline,
        steps=tuple(step for theme in THEMES for step in theme(study)),
    )


# ---------------------------------------------------------------------------------------------------- the verdict


def verdict_step(study: Finished) -> Iterator[NextStep]:
    """What follows from the verdict itself."""
    quoted, primary, verdict = study.quoted, study.primary, study.report.verdict
    difference = [] if primary is None else [quoted.difference(primary)]
    match verdict.decision:
        case Decision.SHIP:
            yield step(
                "Make a release of the tuned model",
                ("The declared comparison is decided for it.", quoted.decision(), *difference),
                commands=(_release(study),),
            )
        case Decision.STAY:
            yield _stay(study, difference)
        case _:
            yield from _undecided(study, difference)


def _stay(study: Finished, difference: list[Measurement]) -> NextStep:
    """Whoever is to be used instead has to do better than one answer for every message."""
    quoted, primary = study.quoted, study.primary
    scores = {one.name: one.metrics[0].interval.estimate for one in study.report.contenders if one.metrics}
    if primary is None:
        return step("Ship no tuned model", ("The verdict is against it.", quoted.decision()))
    rests_on = (quoted.decision(), *difference, quoted.score(primary.baseline))
    if CONSTANT in scores and scores[CONSTANT] >= scores.get(primary.baseline, 0.0):
        text = "The verdict is against tuning, and the baseline does no better than one answer for every message."
        return step("Ship none of them yet", (text, *rests_on, quoted.score(CONSTANT)))
    title = f"Use the baseline, {study.title(primary.baseline)}, and ship no tuned model"
    return step(title, ("The verdict is against tuning.", *rests_on))


def _release(study: Finished) -> Command:
    name = _NOT_IN_NAMES.sub("-", study.report.name.removeprefix("example-").lower()).strip("-") or "NAME"
    return Command(
        purpose="hold it against the gates, and keep it with its evidence",
        words=("fettle", "release", "create", name, "--study", str(study.folder)),
    )


def _undecided(study: Finished, difference: list[Measurement]) -> Iterator[NextStep]:
    quoted, more = study.quoted, study.report.verdict.num_more_test_examples
    if more is None:
        yield step(
            "Do not collect more test examples for this comparison",
            (
                "More examples would probably not decide it, or nothing can be said of how many.",
                quoted.decision(),
                *difference,
            ),
        )
        return
    needed = quoted.counted(
        "verdict.num_more_test_examples", "more test examples that would probably decide it", more, "example"
    )
    yield step(
        "Collect more test examples, then ask once more",
        (
            "The interval holds both answers, and so many more would probably decide.",
            needed,
            quoted.detectable(),
            *difference,
        ),
    )


# ---------------------------------------------------------------------------------------------------- gates


def gates_step(study: Finished) -> Iterator[NextStep]:
    """Gates of a release that the report already shows to hold, or not, at their usual bounds."""
    if study.report.verdict.decision is not Decision.SHIP:
        return
    reasons = [reason for gate in (_win_rate_gate, _json_gate, _latency_gate) if (reason := gate(study)) is not None]
    if reasons:
        yield step("Expect the release to be refused as it is", *reasons)


def _win_rate_gate(study: Finished) -> tuple[str | Measurement, ...] | None:
    """That against the prompt-only contender."""
    primary = study.primary
    if primary is None:
        return None
    rate = figures.win_rate_against(study.report.comparisons, primary.challenger, "prompt")
    bound = GateSettings().win_rate_against_prompt.lowest_win_rate
    if rate is None or rate.low > bound:
        return None
    place = next(
        number
        for number, one in enumerate(study.report.comparisons)
        if {one.challenger, one.baseline} == {primary.challenger, "prompt"}
    )
    measured = Measurement(
        name="win_rate_against_prompt",
        title="win rate against the prompt alone",
        value=rate.estimate,
        unit=Unit.SHARE,
        how=rate.method,
        interval=rate,
        place=f"comparisons[{place}].win_rate",
    )
    return f"The gate on wins against the prompt wants an interval above {figures.percent(bound)}.", measured


def _json_gate(study: Finished) -> tuple[str | Measurement, ...] | None:
    primary = study.primary
    if primary is None:
        return None
    found = study.quoted.metric(primary.challenger, "json_valid", "answers that are JSON by the schema")
    bound = GateSettings().json_validity.lowest_valid_share
    if found is None or found.low > bound:
        return None
    return f"The gate on JSON wants an interval above {figures.percent(bound)}.", found


def _latency_gate(study: Finished) -> tuple[str | Measurement, ...] | None:
    primary = study.primary
    if primary is None:
        return None
    found = study.quoted.latency(primary.challenger)
    bound = GateSettings().latency.most_seconds_p95
    if found is None or found.number <= bound:
        return None
    return f"The gate on latency wants {figures.duration(bound)} or less.", found


def forgetting_step(study: Finished) -> Iterator[NextStep]:
    """What was forgotten, and how to lose less."""
    forgetting = study.report.forgetting
    if forgetting is None or forgetting.decision is BudgetDecision.WITHIN:
        return
    quoted = study.quoted
    change = quoted.change("forgetting.general.change", "change on general questions", forgetting.general.change)
    budget = quoted.words("forgetting.budget_points", "budget", f"{forgetting.budget_points:g} points")
    if forgetting.decision is BudgetDecision.BROKEN:
        yield step(
            "Lose less of what the base model could do",
            (
                "More was lost than may be: more general examples among the training examples, or a lower learning rate.",
                change,
                budget,
            ),
            commands=(study_again(study.report, "train again with more replay", "--replay", "10"),),
        )
        return
    lost = quoted.words("forgetting.general_decision", "within the budget", forgetting.decision.value)
    yield step(
        "Test what must still work with examples of your own",
        ("Whether too much was forgotten cannot be told from the general questions alone.", change, budget, lost),
        commands=(study_again(study.report, "ask both models your own examples too", "--must-still-work", "FILE"),),
    )


# ---------------------------------------------------------------------------------------------------- getting better


def better_contender_step(study: Finished) -> Iterator[NextStep]:
    """Somebody else is ahead of the challenger, or nearly: the constant answer, a contender that the verdict is not about."""
    primary = study.primary
    if primary is None:
        return
    for number, one in enumerate(study.report.comparisons):
        sign = 1 if one.challenger == primary.challenger else -1
        other = one.baseline if sign == 1 else one.challenger
        bound = one.difference.low if sign == 1 else -one.difference.high
        is_ours = primary.challenger in (one.challenger, one.baseline)
        if one.is_primary or not is_ours or other != CONSTANT or bound > 0:
            continue
        found = study.quoted.difference(one, number)
        yield step(
            "Look at what the tuned model has learned",
            ("It is not surely better than one answer for every message.", found, study.quoted.score(CONSTANT)),
        )


def examples_step(study: Finished) -> Iterator[NextStep]:
    """Whether more training examples would help, as far as anybody has looked."""
    report, quoted = study.report, study.quoted
    curve, num_train = report.learning_curve, report.num_examples.get("train", 0)
    trained = quoted.counted("num_examples.train", "training examples", num_train, "example")
    if curve is not None and curve.gain is not None and curve.outcome is not CurveOutcome.CANNOT_SAY:
        gain = quoted.change("learning_curve.gain", "gain from twice the examples", curve.gain)
        title = {
            CurveOutcome.MORE_HELPS: "Collect more training examples",
            CurveOutcome.MORE_BRINGS_LITTLE: "Do not collect more training examples",
        }[curve.outcome]
        yield step(title, (f"The learning curve says so: {curve.outcome.value}.", gain, trained))
    elif curve is None and report.training is not None and num_train <= FEW_FOR_A_CURVE and not _is_hopeless(study):
        yield step(
            "Ask what more training examples would bring",
            ("There are not many, and no learning curve was asked for.", trained),
            commands=(
                study_again(report, "train models on a quarter and on half of the examples too", "--learning-curve"),
            ),
        )


def _is_hopeless(study: Finished) -> bool:
    """A plain classifier is surely ahead: more examples help it too."""
    primary = study.primary
    return primary is not None and primary.baseline == "classifier" and primary.difference.high < 0


def training_step(study: Finished) -> Iterator[NextStep]:
    """Training that ended while it was still getting better."""
    training = study.report.training
    if training is None or training.stopped_early or not training.num_steps or training.best_step < training.num_steps:
        return
    losses = [point.valid_loss for point in training.loss_points if point.valid_loss is not None]
    if len(losses) < 2 or losses[-1] > _HARDLY_BELOW * losses[-2]:
        return
    epochs = training.settings.get("epochs")
    more = f"{2 * epochs:g}" if isinstance(epochs, int | float) else "6"
    quoted = study.quoted
    yield step(
        "Train for longer",
        (
            "The last step was the best one, and the validation loss was still falling.",
            quoted.words("training.best_step", "best step", f"{training.best_step:,} of {training.num_steps:,}"),
            quoted.words(
                "training.loss_points",
                "last validation losses",
                f"{losses[-2]:.3f}, then {losses[-1]:.3f} nats a token",
            ),
        ),
        commands=(study_again(study.report, "twice the epochs; it stops early by itself", "--epochs", more),),
    )


def data_step(study: Finished) -> Iterator[NextStep]:
    """Findings about the data that bear on the figures."""
    texts = {
        "probable-wrong-label": "A model of the other rows contradicts these labels.",
        "conflicting-answers": "Equal inputs have different answers.",
        "answer-not-json": "Answers are no JSON object.",
        "answer-in-documents": "Test questions stand in the documents with their answers.",
    }
    counts = Counter(finding.code for finding in study.report.findings)
    reasons = [
        (text, study.quoted.counted(f'findings[code="{code}"]', code, counts[code], "finding"))
        for code, text in texts.items()
        if counts[code]
    ]
    if reasons:
        yield step("Put the data right before the next study", *reasons)


THEMES: tuple[Callable[[Finished], Iterator[NextStep]], ...] = (
    verdict_step,
    gates_step,
    forgetting_step,
    better_contender_step,
    lambda study: errors_of_search(study.report),
    lambda study: errors_of_parts(study.report),
    lambda study: errors_of_labels(study.report),
    data_step,
    training_step,
    examples_step,
    money_step,
    router_step,
    looks_step,
    watch_step,
)
