"""The report as one HTML page that needs nothing but itself.

The page carries its style, its script and its data. A content security policy names the hashes of that style and that script: no
other code runs and nothing is fetched, even if some text of the report should slip through as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fettle.records import Comparison, ContenderResult, TaskKind
from fettle.report_records import BudgetDecision, SkillChange, StudyReport
from fettle.study import figures
from fettle.study.charts import (
    IntervalMark,
    clamped,
    histogram_charts,
    interval_chart,
    loss_chart,
    outcome_bar,
    rate_bar,
)
from fettle.study.economics_views import EconomicsView, view_economics
from fettle.study.forgetting import changes_of, forgetting_chart
from fettle.study.opinion_views import JudgeView, PeopleView, judge_views, people_views
from fettle.study.opinions import NO_OPINIONS, Opinions
from fettle.study.retrieval_views import RetrievalView, view_retrieval
from fettle.study.routing_views import RoutingView, view_routing
from fettle.study.tried_views import TrialRow, curve_chart, strength_chart, trial_headings, trial_rows
from fettle.study.views import (
    ConfusionView,
    FindingGroup,
    PartsView,
    PrimaryPair,
    all_graders,
    best_first,
    group_findings,
    metric_of,
    primary_pair,
    side_by_side,
    validation_points,
    view_confusions,
    view_parts,
)

STYLES = ("page.css", "charts.css", "rows.css")
SCRIPTS = ("panels.js", "json_difference.js", "rows.js")
_FORGETTING_PHRASES = {
    BudgetDecision.WITHIN: "The tuned model keeps within its budget.",
    BudgetDecision.BROKEN: "The tuned model has forgotten more than its budget allows.",
    BudgetDecision.CANNOT_TELL: "Whether the tuned model keeps within its budget cannot be told: the interval lies on both sides.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the templates read beside the report itself."""

    style: Markup
    script: Markup
    content_security_policy: str
    pair: PrimaryPair | None
    contenders: tuple[ContenderResult, ...]
    titles: dict[str, str]
    graders: tuple[str, ...]
    is_primary_percentage: bool
    score_chart: Markup
    comparison_chart: Markup
    outcomes: Markup
    judges: tuple[JudgeView, ...]
    people: tuple[PeopleView, ...]
    opinion_problems: tuple[str, ...]
    loss_chart: Markup
    forgetting_chart: Markup
    forgetting_changes: tuple[SkillChange, ...]
    strength_chart: Markup
    curve_chart: Markup
    retrieval: RetrievalView | None
    routing: RoutingView | None
    economics: EconomicsView | None
    trial_headings: tuple[str, ...]
    trials: tuple[TrialRow, ...]
    histograms: Markup
    parts: PartsView | None
    part_noun: str
    confusions: tuple[ConfusionView, ...]
    finding_groups: tuple[FindingGroup, ...]
    resource_columns: tuple[tuple[str, ...], ...]
    """[contender][quantity]: prompt tokens, completion tokens, seconds, p50, p95."""
    rows_json: Markup


def render_page(report: StudyReport, opinions: Opinions = NO_OPINIONS) -> str:
    """The whole report as the text of one HTML file.

    Args:
        report: The study's.
        opinions: What judges and people say of its answers.
    """
    return _environment().get_template("report.html.j2").render(report=report, page=_page(report, opinions))


def _page(report: StudyReport, opinions: Opinions) -> Page:
    style, script = _inlined(STYLES), _inlined(SCRIPTS)
    pair = primary_pair(report)
    contenders = best_first(report.contenders)
    titles = {contender.name: contender.title for contender in contenders}
    training = report.training
    return Page(
        style=style,
        script=script,
        content_security_policy=_policy(style, script),
        pair=pair,
        contenders=contenders,
        titles=titles,
        graders=all_graders(contenders),
        is_primary_percentage=all(one.metrics[0].is_percentage for one in contenders if one.metrics),
        score_chart=_score_chart(contenders, pair),
        comparison_chart=_comparison_chart(report.comparisons, titles),
        outcomes=_outcomes(pair.comparison) if pair else Markup(""),
        judges=judge_views(opinions, report),
        people=people_views(opinions, report),
        opinion_problems=opinions.problems,
        loss_chart=loss_chart(training.loss_points, best_step=training.best_step, num_steps=training.num_steps)
        if training
        else Markup(""),
        forgetting_chart=forgetting_chart(report.forgetting) if report.forgetting else Markup(""),
        forgetting_changes=changes_of(report.forgetting) if report.forgetting else (),
        strength_chart=strength_chart(report.strength_sweep, report.forgetting)
        if report.strength_sweep and report.forgetting
        else Markup(""),
        curve_chart=curve_chart(report.learning_curve) if report.learning_curve else Markup(""),
        retrieval=view_retrieval(report.retrieval, titles) if report.retrieval else None,
        routing=view_routing(report.routing, titles) if report.routing else None,
        economics=view_economics(report.economics, titles) if report.economics else None,
        trial_headings=trial_headings(report.settings_search) if report.settings_search else (),
        trials=trial_rows(report.settings_search) if report.settings_search else (),
        histograms=histogram_charts(
            report.length_histogram, titles=titles, accented=pair.challenger.name if pair else None
        )
        if report.length_histogram
        else Markup(""),
        parts=view_parts(report),
        part_noun="field" if report.task.kind is TaskKind.JSON else "label",
        confusions=view_confusions(report.confusions),
        finding_groups=group_findings(report.findings),
        resource_columns=_resource_columns(contenders),
        rows_json=embedded_json(side_by_side(report)),
    )


def embedded_json(value: Any) -> Markup:
    r"""JSON that may stand inside a script element: no character of it can end the element or open another.

    >>> embedded_json({"text": "</script>"})
    Markup('{"text":"\\u003c/script\\u003e"}')
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _score_chart(contenders: Sequence[ContenderResult], pair: PrimaryPair | None) -> Markup:
    scored = [contender for contender in contenders if contender.metrics]
    if not scored:
        return Markup("")
    marks = []
    for contender in scored:
        metric = contender.metrics[0]
        factor = 100 if metric.is_percentage else 1
        marks.append(
            IntervalMark(
                title=contender.title,
                note=_part_played(contender.name, pair),
                low=factor * metric.interval.low,
                estimate=factor * metric.interval.estimate,
                high=factor * metric.interval.high,
                value=figures.metric_value(metric.interval.estimate, metric.is_percentage),
                bounds=figures.metric_range(metric),
                is_accented=contender.is_fine_tuned,
                is_solid=contender.is_fine_tuned,
            )
        )
    first = scored[0].metrics[0]
    unit = ", %" if first.is_percentage else ""
    return interval_chart(marks, label=f"{figures.heading(first.grader)}{unit}")


def _part_played(name: str, pair: PrimaryPair | None) -> str:
    if pair is None:
        return ""
    return {pair.challenger.name: "challenger", pair.baseline.name: "baseline"}.get(name, "")


def _comparison_chart(comparisons: Sequence[Comparison], titles: dict[str, str]) -> Markup:
    if not comparisons:
        return Markup("")
    marks = [
        IntervalMark(
            title=f"{titles.get(one.challenger, one.challenger)} \u2212 {titles.get(one.baseline, one.baseline)}",
            note="primary" if one.is_primary else "",
            low=100 * one.difference.low,
            estimate=100 * one.difference.estimate,
            high=100 * one.difference.high,
            value=figures.signed(100 * one.difference.estimate, 1),
            bounds=figures.points_range(one.difference),
            is_accented=one.is_primary,
            is_solid=one.is_primary,
        )
        for one in comparisons
    ]
    return interval_chart(marks, label="Difference, points", zero_line=True)


def _outcomes(comparison: Comparison) -> Markup:
    return outcome_bar(comparison.num_wins, comparison.num_ties, comparison.num_losses)


def _resource_columns(contenders: Sequence[ContenderResult]) -> tuple[tuple[str, ...], ...]:
    """The measured quantities as text, one row per contender, decimals alike within a column."""
    taken = [contender.resources for contender in contenders]
    columns = (
        tuple(_count(one.prompt_tokens_per_request) for one in taken),
        tuple(_count(one.completion_tokens_per_request) for one in taken),
        figures.column([one.seconds_per_request for one in taken]),
        figures.column([one.latency_seconds_p50 for one in taken]),
        figures.column([one.latency_seconds_p95 for one in taken]),
    )
    return tuple(zip(*columns, strict=True))


def _count(number: float | None) -> str:
    return figures.MISSING if number is None else figures.count(number)


def _signed_points(fraction: float) -> str:
    """A difference in points without the unit, which stands in the column's header."""
    return figures.signed(100 * fraction, 1)


def _unsigned_points(fraction: float) -> str:
    return f"{figures.fixed(100 * fraction, 1)}{figures.NO_BREAK}points"


def _breakable(text: str) -> Markup:
    """An identifier or a path that a narrow page may break after underscores and dots, and before brackets."""
    return Markup("<wbr>").join(re.split(r"(?<=[_.])|(?=\[)", text))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash_source(style)}'; script-src '{_hash_source(script)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash_source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@lru_cache(maxsize=2)
def _inlined(names: tuple[str, ...]) -> Markup:
    folder = files("fettle.study") / "templates"
    return Markup("\n".join((folder / name).read_text("utf-8") for name in names))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fettle.study"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": _breakable,
        "byte_size": figures.byte_size,
        "capital": _capital,
        "clamped": clamped,
        "count": figures.count,
        "counted": figures.counted,
        "decision_phrase": figures.DECISION_PHRASES.__getitem__,
        "duration": figures.duration,
        "grading_taken": figures.grading_taken,
        "heading": figures.heading,
        "level_percent": figures.level_percent,
        "metric_by": metric_of,
        "metric_range": figures.metric_range,
        "metric_value": figures.metric_value,
        "p_value": figures.p_value,
        "percent": figures.percent,
        "percent_range": figures.percent_range,
        "points": figures.points,
        "points_range": figures.points_range,
        "rate_bar": rate_bar,
        "setting": figures.setting,
        "signed_points": _signed_points,
        "significant": figures.significant,
        "spoken": figures.spoken,
        "unsigned_points": _unsigned_points,
    }
    environment.globals |= {"validation_points": validation_points, "forgetting_phrases": _FORGETTING_PHRASES}
    return environment
