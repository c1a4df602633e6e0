"""From opinions to advice on every rung.

The first rule that applies decides; others on its side (to try it, or not) are further reasons, those on the other side are told as
what speaks against it. The last rule of a rung is asked where no other applies.
"""

from __future__ import annotations

from dataclasses import replace

from fettle.advice.opinion import Case, Rule
from fettle.advice.rules import RULES
from fettle.advice_records import Advised, Rung, RungAdvice
from fettle.records import TaskKind

_WANTED = (Advised.TRY, Advised.TRY_FIRST)
_FIRST = (Rung.CLASSIFIER, Rung.RETRIEVAL, Rung.LARGE)
"""Where several would be tried first, the one that stands first here is."""


def advise_rungs(case: Case) -> tuple[RungAdvice, ...]:
    """Advice on every rung that fits the task, the cheapest first. At most one is to be tried first."""
    advice = {rung: _decide(rung, rules, case) for rung, rules in RULES.items() if _fits(rung, case)}
    first = next((rung for rung in _FIRST if rung in advice and advice[rung].advised is Advised.TRY_FIRST), None)
    if first is None and advice[Rung.PROMPT].advised is Advised.TRY:
        first = Rung.PROMPT
    for rung, one in advice.items():
        if rung is first:
            advice[rung] = replace(one, advised=Advised.TRY_FIRST)
        elif one.advised is Advised.TRY_FIRST:
            advice[rung] = replace(one, advised=Advised.TRY)
    return tuple(advice[rung] for rung in Rung if rung in advice)


def _decide(rung: Rung, rules: tuple[Rule, ...], case: Case) -> RungAdvice:
    *first_rules, last_rule = rules
    opinions = [opinion for rule in first_rules if (opinion := rule(case)) is not None]
    opinions = opinions or [opinion for opinion in (last_rule(case),) if opinion is not None]
    decided = opinions[0].advised
    is_wanted = decided in _WANTED
    return RungAdvice(
        rung=rung,
        advised=decided,
        reasons=tuple(opinion.reason for opinion in opinions if (opinion.advised in _WANTED) == is_wanted),
        against=tuple(opinion.reason for opinion in opinions if (opinion.advised in _WANTED) != is_wanted),
    )


def _fits(rung: Rung, case: Case) -> bool:
    """A classifier answers with labels alone."""
    return rung is not Rung.CLASSIFIER or case.measured.task is TaskKind.LABELS
