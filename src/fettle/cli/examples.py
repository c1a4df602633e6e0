"""`fettle examples`: looking at examples as the model will see them, and making some of kept requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from fettle.cli.columns import EncodingOption
from fettle.errors import ConfigError, DataError
from fettle.traffic.only import Only

if TYPE_CHECKING:
    from fettle.chat.renderer import ChatRenderer

app = typer.Typer(help="Look at examples as the model will see them, or make some of traffic.", no_args_is_help=True)


@app.command()
def show(
    examples: Annotated[Path, typer.Argument(help="File or folder of examples; or example:triage, ...")],
    input_column: Annotated[str | None, typer.Option("--input", help="Column or key with the message.")] = None,
    answer_column: Annotated[str | None, typer.Option("--answer", help="Column or key with the wanted answer.")] = None,
    encoding: EncodingOption = None,
    instruction: Annotated[
        str | None, typer.Option(help="The instruction, as for a study; @FILE reads it from a file.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Whose chat template. Default: the embedded model.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many examples.")] = 3,
) -> None:
    """Print examples as a study trains on them, the trained tokens marked: green is what the model learns to write."""
    from fettle.chat.renderer import ChatRenderer
    from fettle.cli.columns import mapping
    from fettle.cli.instruction import instruction_text
    from fettle.models.load import load_tokenizer
    from fettle.models.resolve import resolve_model
    from fettle.study.prepare import as_studied
    from fettle.study.settings import StudySettings

    columns = mapping(input_column, answer_column)
    settings = StudySettings(
        examples=examples, columns=columns, encoding=encoding, instruction=instruction_text(instruction)
    )
    studied, chosen = as_studied(settings)
    renderer = ChatRenderer(load_tokenizer(resolve_model(model)))
    console = Console()
    num_trained = num_tokens = 0
    console.print(f"Instruction: {chosen.describe()}\n", highlight=False, markup=False, soft_wrap=True)
    for number, example in enumerate(studied):
        for tokens in renderer.example_rows(example):
            num_trained += tokens.num_trained_tokens
            num_tokens += len(tokens.token_ids)
            if number >= limit:
                continue
            console.print(f"[bold]{escape(example.id)}[/bold] ({escape(str(example.source))}): ", end="")
            console.print(f"{tokens.num_trained_tokens} of {len(tokens.token_ids)} tokens trained")
            console.print(_marked(renderer, tokens.token_ids, tokens.is_trained), soft_wrap=True)
            console.print()
    share = 100 * num_trained / num_tokens
    console.print(f"{len(studied)} examples, {num_tokens:,} tokens, {share:.1f} % of them trained.", highlight=False)


@app.command("from-traffic")
def from_traffic(
    out: Annotated[Path, typer.Option(help="File to write, chat JSON Lines.")],
    project: Annotated[str, typer.Option(help="Whose requests.")] = "default",
    since: Annotated[str | None, typer.Option(help="Only requests from this day on, YYYY-MM-DD.")] = None,
    model: Annotated[str | None, typer.Option(help="Only requests to this model or release. Default: all.")] = None,
    only: Annotated[
        Only, typer.Option(help="Corrected answers, those and liked ones, or all that nobody has disliked.")
    ] = Only.LIKED,
    test: Annotated[
        Path | None, typer.Option(help="Your test file: what is in it, or nearly, is left out and listed.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Places shown per kind of finding.")] = 3,
) -> None:
    """Turn kept requests into examples: corrections are the wanted answers, disliked ones without a correction are left out."""
    from fettle.cli.findings import print_findings
    from fettle.cli.store import open_store
    from fettle.cli.traffic import kept_requests, project_of, seconds_of_day
    from fettle.examples.read import read_examples
    from fettle.examples.write import write_chat_jsonl
    from fettle.store.traffic import feedback_on
    from fettle.traffic.to_examples import examples_from_traffic

    if test is not None and out.resolve() == test.resolve():
        raise ConfigError(
            "the test file would be replaced by examples to learn from",
            where="--out",
            remedy="name a file of its own for them",
        )
    held_out = () if test is None else read_examples(test).examples
    store = open_store()
    since_at = 0 if since is None else seconds_of_day(since, "--since")
    kept = kept_requests(store, project_of(store, project), since=since_at, model=model)
    with store.reading() as connection:
        feedback = feedback_on(connection, [request.id for request in kept])
    made = examples_from_traffic(kept, feedback, only=only, test=held_out)
    print_findings(Console(stderr=True), made.findings, limit=limit, names_files=True)
    if not made.examples:
        raise DataError(
            f"none of {made.num_requests} kept requests becomes an example",
            where=project,
            remedy="see the findings; --only all takes answers that nobody has looked at",
        )
    write_chat_jsonl(made.examples, out)
    counts = ", ".join(f"{number} {standing.value}" for standing, number in made.num_by_standing.items() if number)
    typer.echo(f"{out}: {len(made.examples)} examples of {made.num_requests} requests ({counts})")


def _marked(renderer: ChatRenderer, token_ids: tuple[int, ...], is_trained: tuple[bool, ...]) -> Text:
    """The tokens as text, trained stretches in green between brackets, so that it can also be read without colour."""
    text, start = Text(), 0
    for end in range(1, len(token_ids) + 1):
        if end == len(token_ids) or is_trained[end] != is_trained[start]:
            stretch = renderer.decode_visibly(token_ids[start:end])
            text.append(
                f"⟦{stretch}⟧" if is_trained[start] else stretch, style="bold green" if is_trained[start] else "dim"
            )
            start = end
    return text
