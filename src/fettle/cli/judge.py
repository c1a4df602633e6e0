"""`fettle judge`: a model compares the answers of two contenders of a finished study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fettle.cli.finished_study import report_path
from fettle.errors import EXIT_CANNOT_TELL, ConfigError
from fettle.judging.settings import MOST_REPEATS, JudgeSettings, token_prices

if TYPE_CHECKING:
    from fettle.answering.engine import Engine
    from fettle.judging.records import JudgedComparison
    from fettle.report_records import StudyReport


def judge(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study, or its report.")],
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="Base URL of an OpenAI-compatible endpoint, such as https://your-endpoint/v1 or that of `fettle serve`. Its key: "
            "FETTLE_REMOTE_API_KEY. Default: a model on this machine."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The endpoint's name for the judge; without one a folder, a .gguf file or org/name."),
    ] = None,
    rubric: Annotated[
        Path | None,
        typer.Option(help="Text file that says what makes an answer better. Default: derived from the wanted answers."),
    ] = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B", help="The contenders to compare. Default: those of the study's declared comparison."
        ),
    ] = None,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            "--judge-repeats",
            min=1,
            max=MOST_REPEATS,
            help="Ask so often about each pair in each order; from 2 on the judge's flip rate is measured.",
        ),
    ] = 1,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Compare so many pairs, drawn at random. Default: all.")
    ] = None,
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="PROMPT REPLY", help="What a million tokens cost, of prompts and of replies, in any currency."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the judgement as JSON.")] = False,
) -> None:
    """Have a model compare two contenders of STUDY, each pair of answers in both orders. Goes on where it was after a kill.

    Where people have voted (`fettle vote`) their votes say whether it can be used, and correct what it says.

    The judgement is kept in judged.json beside the report. Exit code 4 when the judge turns out to be unusable.
    """
    from fettle.judging.document import print_judged
    from fettle.study.report import read_report

    settings = JudgeSettings(
        between=between, repeats=repeats, sample=sample, prices=None if prices is None else token_prices(prices)
    )
    file = report_path(study)
    report = read_report(file)
    source = JudgeSource(endpoint=endpoint, model=model, rubric=rubric)
    console = Console(stderr=as_json)
    judged, places = judged_and_kept(console, report, file, source, settings)
    if as_json:
        typer.echo(print_judged([judged]), nl=False)
    else:
        print_judgement(console, judged, report, places)
    if not judged.is_usable:
        raise typer.Exit(EXIT_CANNOT_TELL)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSource:
    """Which judge is asked, and what it is told to look at."""

    endpoint: str | None
    """Base URL; None: the model lies on this machine."""
    model: str | None
    rubric: Path | None
    """None: derived from the wanted answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgementPlaces:
    """Where a judgement can be read."""

    kept: Path
    page: Path


def judged_and_kept(
    console: Console, report: StudyReport, file: Path, source: JudgeSource, settings: JudgeSettings
) -> tuple[JudgedComparison, JudgementPlaces]:
    """Ask the judge whatever it was not asked yet, and have the judgement kept and shown beside the report.

    Args:
        console: Shows how far it is.
        report: What was read from `file`.
        file: The study's `report.json`.
        source: The judge.
        settings: What is compared, and how often.

    Raises:
        FettleError: As `judge_study`, or the judge cannot be asked.
    """
    from fettle.cli.progress import ProgressBars
    from fettle.judging.compare import Judge, judge_study
    from fettle.judging.document import keep_judged
    from fettle.judging.rubric import derived_rubric, read_rubric
    from fettle.study.report import rewrite_page

    rubric = derived_rubric(report) if source.rubric is None else read_rubric(source.rubric)
    with _engine(source.endpoint, source.model) as (engine, weights_sha256), ProgressBars(console) as bars:
        judge = Judge(engine=engine, rubric=rubric, weights_sha256=weights_sha256)
        judged = judge_study(report, judge, settings, folder=file.parent, listener=bars)
    return judged, JudgementPlaces(kept=keep_judged(judged, file.parent), page=rewrite_page(report, file))


def print_judgement(console: Console, judged: JudgedComparison, report: StudyReport, places: JudgementPlaces) -> None:
    """Print a judgement, a line for each figure, and where it lies."""
    from fettle.study.judgement_words import all_lines

    for title, text in all_lines(judged, report):
        console.print(f"[bold]{title}[/bold]", end=": ")
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    where = f"Kept in {places.kept}, and shown in {places.page}"
    console.print(where, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _engine(endpoint: str | None, model: str | None) -> Iterator[tuple[Engine, str | None]]:
    """The judge, and the hash of its weights where they lie on this machine."""
    if endpoint is not None:
        from fettle.answering.address import require_http_address
        from fettle.answering.engines.openai_http import OpenAIEngine

        require_http_address(endpoint, where="--endpoint")
        if not (model or "").strip():
            raise ConfigError(
                "the endpoint has to be told which model to ask", where="--model", remedy="give its name for the model"
            )
        with closing(OpenAIEngine(endpoint, str(model))) as engine:
            yield engine, None
        return
    from fettle.answering.engines.plain import local_engine
    from fettle.models.load import load_model
    from fettle.models.resolve import resolve_model

    source = resolve_model(model)
    with closing(local_engine(load_model(source))) as engine:
        yield engine, source.sha256()
