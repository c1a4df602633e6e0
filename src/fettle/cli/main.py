"""The `fettle` command: sub-commands are thin, and no user's mistake ends in a traceback."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console
from rich.markup import escape

from fettle.cli.check import check
from fettle.cli.examples import app as examples_app
from fettle.cli.study import study
from fettle.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, FettleError, exit_code

app = typer.Typer(
    name="fettle",
    help="Should we fine-tune? Tunes a small language model on your examples and says, with honest intervals, if it was worth it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(study)
app.command()(check)
app.add_typer(examples_app, name="examples")


def main() -> None:
    """Run the command line; `--debug` anywhere shows tracebacks."""
    is_debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    console = Console(stderr=True)
    try:
        app(args=arguments)
    except FettleError as error:
        if is_debug:
            raise
        _print_error(console, error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        console.print("\n[yellow]Stopped.[/yellow] What was finished is kept; the same command goes on from there.")
        _leave(EXIT_INTERRUPTED)
    except BrokenPipeError:
        _leave(EXIT_INTERRUPTED)
    except Exception as error:
        if is_debug:
            raise
        console.print(
            f"[bold red]This is a fault in Fettle[/bold red] ({type(error).__name__}: {escape(str(error)[:500])}).\n"
            "What was finished is kept. Please run the command again with --debug and report what it prints."
        )
        sys.exit(EXIT_INTERNAL)


def _print_error(console: Console, error: FettleError) -> None:
    where = f"{escape(error.where)}: " if error.where else ""
    console.print(f"[bold red]Error:[/bold red] {where}{escape(error.problem.rstrip('.'))}.", soft_wrap=True)
    if error.remedy:
        console.print(f"[bold]What to do:[/bold] {escape(error.remedy)}", soft_wrap=True)


def _leave(code: int) -> None:
    # Threads of a stopped computation must not hold the process, nor print into a closed pipe.
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
