"""The primary comparison, written down before the test split is answered.

It is fixed by validation alone, so it cannot change with what the test split shows. It can change when failed requests about
validation are asked again with success; then it is declared again, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.errors import IntegrityError
from fettle.files import write_atomically
from fettle.study.figures import level_percent
from fettle.study.ladder import Rung
from fettle.study.looks import Looks

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan


def declare(comparison: str, *, num_failed: int, file: Path) -> str:
    """The declaration to print in the report. A study that goes on keeps what it declared.

    Args:
        comparison: What is compared, and why, by the validation answers of this run.
        num_failed: Requests about the validation split that have failed and brought no answer yet.
        file: Where the declaration is kept.

    Raises:
        IntegrityError: Another comparison would now be declared, and not because failed requests were asked again.
    """
    if not file.exists():
        text = f"Primary comparison, declared before the test split was answered: {comparison}"
        return _write(file, text, comparison, first=comparison, num_failed=num_failed)
    found = json.loads(file.read_text())
    if found["comparison"] == comparison:
        return found["declaration"]
    num_mended = found["num_failed"] - num_failed
    if num_mended <= 0:
        raise IntegrityError(
            "validation now gives another primary comparison than the one declared before the test split was opened",
            where=str(file),
            remedy="something the study stands on has changed, a library perhaps; start over with --fresh",
        )
    text = (
        f"Primary comparison, declared again after {num_mended} failed validation request(s) had been asked again with success. "
        f"The test split may have been answered in part by then; the choice looks at validation alone: {comparison} "
        f"Declared at first: {found['first']}"
    )
    return _write(file, text, comparison, first=found["first"], num_failed=num_failed)


def _write(file: Path, text: str, comparison: str, *, first: str, num_failed: int) -> str:
    kept = {"declaration": text, "comparison": comparison, "first": first, "num_failed": num_failed}
    write_atomically(file, json.dumps(kept))
    return text


def declared_comparison(plan: StudyPlan, baseline: Rung, tuned: Sequence[Rung], looks: Looks) -> str:
    """What the declaration says.

    Args:
        plan: The study.
        baseline: The best contender without fine-tuning.
        tuned: The tuned contenders, the best one first: it is compared with the baseline.
        looks: How often these test examples have been looked at.
    """
    named, best = baseline.contender.title, tuned[0]
    return (
        f"{best.contender.title} minus {named} in mean {plan.graders[0].title} on {len(plan.split.test)} test examples. "
        f"{_chosen_among(tuned)}{named} is the baseline because it was the best contender without fine-tuning, the constant answer "
        f"apart, on the {len(plan.split.valid)} validation examples ({_percent(baseline.validation_score)}; the tuned model "
        f"reached {_percent(best.validation_score)} there). {_looks_rule(looks)}"
        f"Shipping needs a {level_percent(looks.level)} interval above 0, a test that agrees, at least "
        f"{100 * plan.settings.worthwhile:g} point(s), and a tuned model that is surely better than the constant answer too"
        f"{_forgetting_rule(plan)}; all other comparisons are secondary."
    )


def _chosen_among(tuned: Sequence[Rung]) -> str:
    if len(tuned) == 1:
        return ""
    others = ", ".join(f"{one.contender.title} reached {_percent(one.validation_score)}" for one in tuned[1:])
    return f"{tuned[0].contender.title} is the tuned contender that did best on validation ({others}). "


def _looks_rule(looks: Looks) -> str:
    if looks.number == 1:
        return ""
    return (
        f"This is study {looks.number} that looks at these test examples, or some of them: the usual 5 % for error are divided by "
        f"{looks.number} (Holm), and the intervals of its comparisons are wider for it. "
    )


def _forgetting_rule(plan: StudyPlan) -> str:
    forgetting = plan.settings.forgetting
    if forgetting is None:
        return ""
    own = "" if plan.must_still_work is None else ", nor of the examples of what must still work"
    return (
        f"; it must not surely have lost more than {forgetting.budget.points:g} points of the general suite{own} (the whole 95 % "
        "interval beyond that)"
    )


def _percent(score: float | None) -> str:
    return "no scored answer" if score is None else f"{100 * score:.1f} %"
