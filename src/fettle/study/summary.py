"""The verdict in the terminal: what was decided, how each contender did, and where the whole report lies."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fettle.records import ContenderResult, Decision, Interval
from fettle.report_records import StudyReport
from fettle.study import figures
from fettle.study.economics_words import money_lines
from fettle.study.report import ReportPaths
from fettle.study.routing_views import routing_sentence
from fettle.study.views import PrimaryPair, best_first, primary_pair

MAX_TITLE = 60
COLOURS = {Decision.SHIP: "green", Decision.STAY: "cyan", Decision.CANNOT_TELL: "yellow"}


def print_summary(report: StudyReport, console: Console, *, paths: ReportPaths | None = None) -> None:
    """Print the verdict, a table of the contenders and, if `paths` are given, where the report lies.

    Texts of the report are printed as they are, without markup and without control characters.
    """
    pair = primary_pair(report)
    console.print(_verdict_panel(report, pair))
    if report.contenders:
        console.print(_contender_table(report, pair))
    if report.learning_curve is not None:
        console.print(Text.assemble(("Learning curve: ", "bold"), _plain(report.learning_curve.sentence)))
    if report.routing is not None:
        sentence = routing_sentence(report.routing, {one.name: one.title for one in report.contenders})
        console.print(Text.assemble(("Router: ", "bold"), _plain(sentence)))
    if report.economics is not None:
        for title, text in money_lines(report.economics):
            console.print(Text.assemble((f"{title}: ", "bold"), _plain(text)))
    for warning in report.warnings:
        console.print(Text.assemble(("Note: ", "bold"), _plain(warning)))
    for model in dict.fromkeys(model for grader in report.graders for model in grader.models):
        console.print(Text.assemble(("Grading: ", "bold"), _plain(figures.grading_taken(model))))
    if paths is not None:
        console.print(Text.assemble(("Report: ", "bold"), _plain(str(paths.html))), soft_wrap=True)


def _verdict_panel(report: StudyReport, pair: PrimaryPair | None) -> Panel:
    verdict = report.verdict
    lines: list[RenderableType] = [Text(_plain(verdict.headline), style="bold")]
    if pair is not None:
        difference, win_rate = pair.comparison.difference, pair.comparison.win_rate
        challenger, baseline = _title(pair.challenger), _title(pair.baseline)
        lines += [
            Text(),
            Text(f"{challenger} against {baseline}, {figures.counted(pair.comparison.num_pairs, 'test example')}:"),
            Text(
                f"{figures.points(difference.estimate)} ({figures.points_range(difference)}), "
                f"win rate {figures.percent(win_rate.estimate)} ({figures.percent_range(win_rate)}), "
                f"p {'' if pair.comparison.p_value < 0.001 else '= '}{figures.p_value(pair.comparison.p_value)}"
            ),
        ]
    if verdict.reasons:
        lines.append(Text())
    lines += [Text(f"• {_plain(reason)}") for reason in verdict.reasons]
    return Panel(
        Group(*lines),
        title=Text(f" {figures.DECISION_PHRASES[verdict.decision]} ", style=f"bold {COLOURS[verdict.decision]}"),
        title_align="left",
        border_style=COLOURS[verdict.decision],
        padding=(1, 2),
    )


def _contender_table(report: StudyReport, pair: PrimaryPair | None) -> Table:
    """The contenders by score; the columns of figures never wrap, long titles do."""
    baseline = pair.baseline.name if pair else None
    is_percentage = all(one.metrics[0].is_percentage for one in report.contenders if one.metrics)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Contender", overflow="fold", ratio=1)
    heading = _plain(figures.heading(report.primary_metric)) + (", %" if is_percentage else "")
    table.add_column(Text(heading), justify="right")
    table.add_column(_interval_heading(report), justify="right", no_wrap=True)
    table.add_column("Win rate, %", justify="right", no_wrap=True)
    table.add_column("s/request", justify="right", no_wrap=True)
    contenders = best_first(report.contenders)
    seconds = figures.column([one.resources.seconds_per_request for one in contenders])
    for contender, time in zip(contenders, seconds, strict=True):
        metric = contender.metrics[0] if contender.metrics else None
        won = figures.win_rate_against(report.comparisons, contender.name, baseline) if baseline else None
        is_challenger = pair is not None and contender.name == pair.challenger.name
        table.add_row(
            Text(_title(contender), style="bold" if is_challenger else ""),
            figures.metric_value(metric.interval.estimate, metric.is_percentage) if metric else figures.MISSING,
            figures.metric_range(metric) if metric else figures.MISSING,
            "baseline" if contender.name == baseline else _rate(won),
            time,
        )
    return table


def _interval_heading(report: StudyReport) -> str:
    level = next((one.metrics[0].interval.level for one in report.contenders if one.metrics), 0.95)
    return f"{figures.level_percent(level)} interval"


def _rate(rate: Interval | None) -> str:
    return figures.MISSING if rate is None else figures.fixed(100 * rate.estimate, 1)


def _title(contender: ContenderResult) -> str:
    title = _plain(contender.title)
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…"


def _plain(text: str) -> str:
    """Text that can only be read: an escape sequence in a model's name must not steer the terminal."""
    spaced = text.replace("\N{NO-BREAK SPACE}", " ")
    return "".join(character if character.isprintable() else "\ufffd" for character in spaced)
