"""`fettle examples`: looking at examples as the model will see them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from fettle.cli.columns import EncodingOption

if TYPE_CHECKING:
    from fettle.chat.renderer import ChatRenderer

app = typer.Typer(help="Look at examples as the model will see them.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `show` a sub-command while it is the only one."""


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
