"""What two models scored on the same questions, as a change with its interval: in all, and by category."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.errors import DataError
from fettle.forgetting.items import Category, GeneralItem
from fettle.records import Score
from fettle.report_records import SkillChange
from fettle.statistics.intervals import TIE, paired_difference

GENERAL = "general"


def skill_change(
    base: Sequence[Score], tuned: Sequence[Score], clusters: Sequence[int], *, name: str, title: str
) -> SkillChange:
    """The change of the mean score from base to tuned, over the questions that both were scored on; others are counted.

    Args:
        base: Of the base model.
        tuned: Of the tuned one, on the same questions in the same order.
        clusters: Which questions belong together (one text, near-duplicates), an id for each.
        name: The key of the change.
        title: The name people read.

    Raises:
        ValueError: Lengths differ, or the scores are not about the same questions.
        DataError: No question was scored for both.
    """
    pairs = []
    for of_base, of_tuned, cluster in zip(base, tuned, clusters, strict=True):
        if of_base.example_id != of_tuned.example_id:
            raise ValueError(f"{of_base.example_id} and {of_tuned.example_id} are not the same question")
        if of_base.value is not None and of_tuned.value is not None:
            pairs.append((of_base.value, of_tuned.value, cluster))
    if not pairs:
        raise DataError(
            f"no question of {title!r} could be scored for both the base model and the tuned one",
            remedy="see why the engine failed, and run the same command again",
        )
    before, after, kept = zip(*pairs, strict=True)
    return SkillChange(
        name=name,
        title=title,
        base=sum(before) / len(pairs),
        tuned=sum(after) / len(pairs),
        change=paired_difference(after, before, kept),
        num_items=len(pairs),
        num_unscored=len(base) - len(pairs),
        num_worse=sum(new < old - TIE for old, new in zip(before, after, strict=True)),
        num_better=sum(new > old + TIE for old, new in zip(before, after, strict=True)),
    )


def general_change(items: Sequence[GeneralItem], base: Sequence[Score], tuned: Sequence[Score]) -> SkillChange:
    """The change over the whole suite, every item counting the same."""
    return skill_change(base, tuned, _clusters(items), name=GENERAL, title="All of the general suite")


def category_changes(
    items: Sequence[GeneralItem], base: Sequence[Score], tuned: Sequence[Score]
) -> tuple[SkillChange, ...]:
    """The same for each category by itself. They show where something was lost; nothing is decided on them, for they are many."""
    clusters = _clusters(items)
    changes = []
    for category in Category:
        places = [place for place, item in enumerate(items) if item.category is category]
        if places:
            change = skill_change(
                [base[place] for place in places],
                [tuned[place] for place in places],
                [clusters[place] for place in places],
                name=category.value,
                title=category.heading,
            )
            changes.append(change)
    return tuple(changes)


def _clusters(items: Sequence[GeneralItem]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(item.group, len(numbers)) for item in items]
