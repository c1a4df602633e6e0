"""Which contenders of two studies are compared: said before any score is looked at."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.comparing.records import Arm, ArmPair, Side
from fettle.errors import ConfigError
from fettle.report_records import StudyReport
from fettle.study.views import primary_pair


def arm_pairs(
    first: StudyReport,
    second: StudyReport,
    *,
    contenders: Sequence[str] = (),
    between: tuple[str, str] | None = None,
) -> tuple[ArmPair, ...]:
    """What is to be compared, the primary pair first.

    As it comes: the contender that the second study's verdict is about, second study minus first, then every other that both have.

    Args:
        first: Study A.
        second: Study B.
        contenders: These alone, the first of them primary.
        between: Such as `("B:tuned", "A:prompt")`: this pair alone, the former minus the latter.

    Raises:
        ConfigError: There is no such contender, or none that both studies have.
    """
    if between is not None:
        if contenders:
            raise ConfigError("--contender and --between exclude each other", remedy="leave one of them out")
        return (_pair_between(between, first, second),)
    names = [name for name in _names(first) if name in _names(second)]
    if unknown := [name for name in contenders if name not in names]:
        raise ConfigError(
            f"not both studies have a contender {unknown[0]!r}",
            where="--contender",
            remedy=f"choose among {', '.join(names)}" if names else _between_remedy(first, second),
        )
    if not names:
        raise ConfigError(
            "the two studies have no contender in common", where="--between", remedy=_between_remedy(first, second)
        )
    declared = primary_pair(second)
    is_other = {name: declared is None or name != declared.challenger.name for name in names}
    chosen = list(dict.fromkeys(contenders)) or sorted(names, key=is_other.__getitem__)
    return tuple(
        ArmPair(challenger=Arm(side=Side.SECOND, contender=name), baseline=Arm(side=Side.FIRST, contender=name))
        for name in chosen
    )


def titled(arm: Arm, first: StudyReport, second: StudyReport) -> str:
    """An arm as people read it."""
    report = first if arm.side is Side.FIRST else second
    return f"{arm.side.value}'s {next(one.title for one in report.contenders if one.name == arm.contender)}"


def _pair_between(between: tuple[str, str], first: StudyReport, second: StudyReport) -> ArmPair:
    pair = ArmPair(challenger=_arm(between[0], first, second), baseline=_arm(between[1], first, second))
    if pair.challenger.side is pair.baseline.side:
        raise ConfigError(
            f"expected one contender of each study, and both are of {pair.baseline.side.value}",
            where="--between",
            remedy="two contenders of one study are compared in its own report",
        )
    return pair


def _arm(text: str, first: StudyReport, second: StudyReport) -> Arm:
    letter, colon, name = text.partition(":")
    if not colon or letter not in (Side.FIRST, Side.SECOND):
        raise ConfigError(
            f"expected a study and one of its contenders, such as B:tuned, and it is {text!r}",
            where="--between",
            remedy=_between_remedy(first, second),
        )
    side = Side(letter)
    if name not in _names(first if side is Side.FIRST else second):
        raise ConfigError(
            f"study {letter} has no contender {name!r}", where="--between", remedy=_between_remedy(first, second)
        )
    return Arm(side=side, contender=name)


def _names(report: StudyReport) -> tuple[str, ...]:
    return tuple(contender.name for contender in report.contenders)


def _between_remedy(first: StudyReport, second: StudyReport) -> str:
    named = [f"{side.value}:{name}" for side, one in zip(Side, (first, second), strict=True) for name in _names(one)]
    return f"--between with two of {', '.join(named)}"
