"""`fettle advise`: what to try, before anything is run; and what to do next, after a study."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from fettle.cli.advise_choices import (
    AnswersFileOption,
    CostPerWrongAnswerOption,
    FormatOption,
    KnowledgeOption,
    LargeModelOption,
    LatencyOption,
    RequestsPerDayOption,
    SaidOption,
    TimingOption,
)
from fettle.cli.columns import EncodingOption
from fettle.cli.data_choices import (
    AnswerColumnOption,
    GroupColumnOption,
    InputColumnOption,
    InstructionOption,
    TaskKindOption,
    TestFileOption,
    TestSizeOption,
    TrainSizeOption,
    ValidFileOption,
    ValidSizeOption,
)
from fettle.cli.document_choices import DocumentsOption, IndexOption
from fettle.cli.finished_study import report_path
from fettle.cli.model_choices import ModelOption
from fettle.cli.money_choices import EconomicsOption, assumptions_of
from fettle.cli.running_choices import PricePerHourOption, SeedOption
from fettle.errors import ConfigError

if TYPE_CHECKING:
    from fettle.advice.questions import Answers
    from fettle.advice_records import FirstAdvice, NextAdvice
    from fettle.study.settings import StudySettings

_FORMAT, _FORMAT_VERSION = "fettle-advice", 1
_STUDY_FILES = ("report.json", "study.json")


def advise(
    examples: Annotated[
        Path,
        typer.Argument(
            metavar="EXAMPLES|STUDY",
            help="Labelled examples, as `fettle study` takes them; or the folder of a finished study, or its report.",
        ),
    ],
    knowledge_changes: KnowledgeOption = None,
    format_is_the_problem: FormatOption = None,
    large_model: LargeModelOption = None,
    requests_per_day: RequestsPerDayOption = None,
    latency_seconds: LatencyOption = None,
    cost_per_wrong_answer: CostPerWrongAnswerOption = None,
    answers: AnswersFileOption = None,
    input_column: InputColumnOption = None,
    answer_column: AnswerColumnOption = None,
    group_column: GroupColumnOption = None,
    encoding: EncodingOption = None,
    valid: ValidFileOption = None,
    test: TestFileOption = None,
    train_size: TrainSizeOption = None,
    valid_size: ValidSizeOption = None,
    test_size: TestSizeOption = None,
    instruction: InstructionOption = None,
    task: TaskKindOption = None,
    documents: DocumentsOption = None,
    index: IndexOption = None,
    model: ModelOption = None,
    remote_model: Annotated[
        str | None,
        typer.Option(help="Name of a large model, for its price; nothing is asked of it.", rich_help_panel="Models"),
    ] = None,
    price_per_hour: PricePerHourOption = None,
    economics: EconomicsOption = None,
    timing: TimingOption = True,
    seed: SeedOption = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON, all measurements included.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as a page too, which needs nothing but itself.")
    ] = None,
) -> None:
    """Which ways of doing the task to try, and in which order, before anything is run; or what to do next, after a study.

    Every reason names what it rests on: something measured on your data, a figure of the report, or your own answer. Nothing is
    trained, and the test split stays unseen.
    """
    from fettle.cli.advice_text import print_first, print_next

    if is_study(examples):
        _refuse_beside_study(
            knowledge_changes, format_is_the_problem, large_model, requests_per_day, latency_seconds, cost_per_wrong_answer,
            answers, input_column, answer_column, group_column, encoding, valid, test, train_size, valid_size, test_size,
            instruction, task, documents, index, model, remote_model, price_per_hour, economics, seed or None,
            None if timing else timing,
        )  # fmt: skip
        found = _after(examples)
    else:
        said = _answers(
            answers,
            {
                "knowledge_changes": knowledge_changes,
                "format_is_the_problem": format_is_the_problem,
                "large_model": large_model,
                "requests_per_day": requests_per_day,
                "latency_seconds": latency_seconds,
                "cost_per_wrong_answer": cost_per_wrong_answer,
            },
        )
        from fettle.cli.columns import mapping
        from fettle.cli.document_choices import DEFAULT_RERANKER, SearchByOption, document_settings
        from fettle.cli.instruction import instruction_text
        from fettle.cli.sizes import split_size
        from fettle.examples.split import SplitSizes
        from fettle.study.settings import StudySettings

        settings = StudySettings(
            examples=examples,
            columns=mapping(input_column, answer_column, group_column=group_column),
            encoding=encoding,
            valid=valid,
            test=test,
            sizes=SplitSizes(valid=split_size(valid_size), test=split_size(test_size), train=train_size),
            instruction=instruction_text(instruction),
            task=task,
            model=model,
            documents=document_settings(
                documents, index, embedder=None, passage_tokens=None, overlap_tokens=None, num_passages=5,
                passage_budget=None, search_by=SearchByOption.HYBRID, reranker=DEFAULT_RERANKER,
            ),
            price_per_hour=price_per_hour,
            economics=assumptions_of(economics),
            leave_out_long=True,
            seed=seed,
        )  # fmt: skip
        words = _data_words(
            examples,
            {
                "--input": input_column, "--answer": answer_column, "--group": group_column, "--encoding": encoding,
                "--valid": valid, "--test": test, "--train-size": train_size, "--valid-size": valid_size,
                "--test-size": test_size, "--instruction": instruction, "--task": task, "--documents": documents,
                "--index": index, "--model": model, "--price-per-hour": price_per_hour, "--seed": seed or None,
            },
        )  # fmt: skip
        found = _before(settings, said, words, remote_model=remote_model, economics=economics, is_timed=timing)
    if html is not None:
        _write_page(found, html)
    if as_json:
        document = {"format": _FORMAT, "format_version": _FORMAT_VERSION} | dataclasses.asdict(found)
        typer.echo(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1))
        return
    console = Console()
    from fettle.advice_records import FirstAdvice

    if isinstance(found, FirstAdvice):
        print_first(console, found)
    else:
        print_next(console, found)
    if html is not None:
        console.print(f"Page: {html}", highlight=False, markup=False, soft_wrap=True)


def is_study(path: Path) -> bool:
    """Whether a path means a study and not examples: its folder, or a report in it."""
    if path.is_dir():
        return any((path / name).is_file() for name in _STUDY_FILES)
    if path.suffix == ".html":
        return path.with_suffix(".json").is_file()
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:  # a report says so in its first line
        return b'"fettle-study-report"' in file.read(200)


def _refuse_beside_study(*given: object) -> None:
    if any(one is not None for one in given):
        raise ConfigError(
            "a finished study is advised on from its report alone, and questions or data are given beside it",
            remedy="leave them out; `fettle cost` answers what other traffic and costs would change",
        )


def _answers(file: Path | None, options: dict[str, SaidOption | float | None]) -> Answers:
    """What options and file answer; what is still open is asked where somebody sits at a terminal."""
    from fettle.advice.questions import Answers, read_answers, with_answers
    from fettle.cli.ask_questions import ask_open_questions

    before = Answers() if file is None else read_answers(file)
    told = {name: value for name, value in options.items() if value is not None}
    answered = with_answers(before, {name: str(value) for name, value in told.items()}, where="options")
    if file is None and sys.stdin.isatty() and sys.stdout.isatty():
        return ask_open_questions(answered, told)
    return answered


def _before(
    settings: StudySettings,
    answers: Answers,
    words: tuple[str, ...],
    *,
    remote_model: str | None,
    economics: Path | None,
    is_timed: bool,
) -> FirstAdvice:
    from fettle.advice.first import Wishes, advise_first
    from fettle.cli.progress import ProgressBars
    from fettle.settings import get_settings
    from fettle.study.economics_report import read_prices
    from fettle.study.planning import plan_study

    prices = read_prices(get_settings().home)
    wishes = Wishes(answers=answers, large_model=remote_model, is_timed=is_timed, data_words=words, economics=economics)
    with ProgressBars(Console(stderr=True)) as bars:
        plan = plan_study(settings, bars)
        with plan.loaded.in_use():
            return advise_first(plan, wishes, prices, bars)


def _after(study: Path) -> NextAdvice:
    from fettle.advice.after import advise_next
    from fettle.study.report import read_report

    path = report_path(study)
    return advise_next(read_report(path), path.parent)


def _data_words(examples: Path, options: dict[str, object]) -> tuple[str, ...]:
    """The examples and their options, as they were given."""
    given = [word for name, value in options.items() if value is not None for word in (name, _word(value))]
    return str(examples), *given


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _write_page(found: FirstAdvice | NextAdvice, path: Path) -> None:
    from fettle.advice.page import render_advice
    from fettle.files import write_atomically

    write_atomically(path, render_advice(found).encode("utf-8", errors="replace"))
