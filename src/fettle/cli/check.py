"""`fettle check`: what is wrong with the examples, one file or the user's own three, and a repaired file where that is wanted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from fettle.cli.columns import EncodingOption, mapping
from fettle.cli.findings import print_findings
from fettle.errors import EXIT_USER, ConfigError, DiskFullError
from fettle.records import Dataset, Finding, Severity, Task

if TYPE_CHECKING:
    from fettle.examples.check import Part

_FIXED_SUFFIXES = ("", ".jsonl", ".ndjson", ".json")


def check(
    examples: Annotated[Path, typer.Argument(help="A file or folder of examples; or example:triage, ...")],
    input_column: Annotated[str | None, typer.Option("--input", help="Column or key that holds the input.")] = None,
    answer_column: Annotated[str | None, typer.Option("--answer", help="Column or key that holds the answer.")] = None,
    id_column: Annotated[
        str | None, typer.Option("--id-column", help="Column or key with each row's own name.")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option("--group", help="Column or key; rows with the same value belong in one file.")
    ] = None,
    encoding: EncodingOption = None,
    valid: Annotated[Path | None, typer.Option(help="Your own validation file, checked as well.")] = None,
    test: Annotated[
        Path | None, typer.Option(help="Your own test file, checked as well; leaks between the files are listed.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option("--fix", help="Write EXAMPLES mended to this file, as chat JSON Lines.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every finding as JSON instead of a table.")] = False,
    grader: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Also see what a grader, as `fettle study --grader` takes it, gives the wanted answers. May be given again.",
        ),
    ] = None,
    grader_url: Annotated[
        str | None, typer.Option(help="Base URL of the OpenAI-compatible endpoint that graders ask their models at.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Places shown per kind of finding.")] = 3,
) -> None:
    """Say what is wrong with EXAMPLES: where, and what to do about it. Exit code 2 when there are errors."""
    from fettle.examples.bundled import bundled_task
    from fettle.examples.check import Part, check_parts, together
    from fettle.examples.fix import fix_examples
    from fettle.examples.read import read_examples
    from fettle.examples.task import keep_labelled, recognise_task

    bundled = bundled_task(str(examples))
    given = mapping(input_column, answer_column, id_column=id_column, group_column=group_column)
    columns = given or (bundled.columns if bundled else None)
    dataset = read_examples(bundled.examples if bundled else examples, columns=columns, encoding=encoding)
    held_out = {Part.VALIDATION: valid, Part.TEST: test}
    parts = {Part.WHOLE if valid is None and test is None else Part.TRAINING: dataset}
    parts |= {
        part: read_examples(path, columns=columns, encoding=encoding)
        for part, path in held_out.items()
        if path is not None
    }
    task = recognise_task(dataset.examples)
    dataset = keep_labelled(dataset, task)
    parts = together({**parts, next(iter(parts)): dataset})
    dataset = next(iter(parts.values()))
    graded = _graded(grader or (), grader_url, dataset, task)
    findings = (*check_parts(parts, task), *graded.findings)
    fixed: Dataset | None = None
    repairs: tuple[Finding, ...] = ()
    if fix is not None:
        _refuse_overwriting(fix, parts.values(), folders=[path for path in (examples, valid, test) if path is not None])
        _require_json_lines_name(fix)
        fixed, repairs = fix_examples(dataset, task)
        _write(fixed, fix)
    if as_json:
        typer.echo(
            json.dumps([dataclasses.asdict(finding) for finding in (*findings, *repairs)], ensure_ascii=False, indent=1)
        )
    else:
        console = Console()
        _print_sizes(console, parts, task)
        for line in graded.lines:
            console.print(line, highlight=False, markup=False)
        print_findings(console, findings, limit=limit)
        _print_power(console, parts, task)
        if fix is not None and fixed is not None:
            _print_repairs(console, fix, fixed, repairs)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(EXIT_USER)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Graded:
    """What graders make of the wanted answers."""

    lines: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def _graded(named: Sequence[str], url: str | None, dataset: Dataset, task: Task) -> _Graded:
    if not named:
        return _Graded()
    from fettle.answering.address import require_http_address
    from fettle.scoring.grader_files import grader_reference
    from fettle.study.grading import described, study_graders, wanted_of

    if url is not None:
        require_http_address(url, where="--grader-url")
    graders = study_graders([grader_reference(one) for one in named], task, dataset.examples, url=url)[: len(named)]
    wanted = wanted_of(graders, dataset.examples)
    told = [f"Grader {described(one)}: {wanted.by_name[one.name].describe()}" for one in graders]
    return _Graded(lines=(*told, *wanted.doubts), findings=wanted.findings)


def _require_json_lines_name(out: Path) -> None:
    if out.suffix.lower() not in _FIXED_SUFFIXES:
        raise ConfigError(
            f"the mended examples are written as JSON Lines, and a file named {out.suffix} would not be read as such",
            where=f"--fix {out}",
            remedy=f"name it {out.name.partition('.')[0]}.jsonl",
        )


def _refuse_overwriting(out: Path, read: Iterable[Dataset], *, folders: Sequence[Path]) -> None:
    """Nothing that was read may be written over, nor may a folder that was read get a file that would be read the next time."""
    sources = [Path(file) for dataset in read for file in dataset.file_sha256]
    is_source = out.is_dir() or (out.exists() and any(out.samefile(source) for source in sources))
    is_inside = any(folder.is_dir() and folder.resolve() in out.resolve().parents for folder in folders)
    if is_source or is_inside:
        raise ConfigError(
            "the mended examples need a file of their own, outside what was read",
            where=f"--fix {out}",
            remedy="name a new file",
        )


def _write(fixed: Dataset, out: Path) -> None:
    from fettle.examples.write import write_chat_jsonl

    try:
        write_chat_jsonl(fixed.examples, out)
    except DiskFullError as error:
        remedy = "free some space and run the command again, or name a file on another disk"
        raise DiskFullError("the disk is full; nothing was written", where=f"--fix {out}", remedy=remedy) from error
    except ConfigError as error:
        raise ConfigError(
            error.problem, where=f"--fix {out}", remedy="name a file in a folder that you may write to"
        ) from error


def _print_sizes(console: Console, parts: Mapping[Part, Dataset], task: Task) -> None:
    whole, *held_out = parts.items()
    name = escape(whole[1].name)
    console.print(
        f"[bold]{len(whole[1].examples):,} usable examples[/] in {name}. Task: {task.kind} ({escape(task.reason)})"
    )
    for part, dataset in held_out:
        console.print(f"[bold]{len(dataset.examples):,} usable {part} examples[/] in {escape(dataset.name)}.")


def _print_power(console: Console, parts: Mapping[Part, Dataset], task: Task) -> None:
    """What the test split of a study of these files could show."""
    from fettle.study.power import expected_power, power_lines

    power = expected_power(parts, task)
    for title, text in () if power is None else power_lines(power):
        console.print(f"[bold]{title}[/]", end=": ")
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _print_repairs(console: Console, path: Path, fixed: Dataset, repairs: Sequence[Finding]) -> None:
    from fettle.examples.check import summarise_findings

    console.print(f"[green]{len(fixed.examples):,} mended examples are in {escape(str(path))}[/]")
    for group in summarise_findings(repairs):
        console.print(f"  {group.code}: {len(group.findings):,} {group.action}")
