"""The `fettle` command: sub-commands are thin, and no user's mistake ends in a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from io import TextIOWrapper
from typing import Annotated, Never

import typer
from rich.console import Console
from rich.markup import escape

from fettle.cli.advise import advise
from fettle.cli.backup import backup, restore
from fettle.cli.challenge import challenge, challenges, end_challenge
from fettle.cli.check import check
from fettle.cli.compare import compare
from fettle.cli.cost import cost
from fettle.cli.examples import app as examples_app
from fettle.cli.export import export
from fettle.cli.index import index
from fettle.cli.indexes import app as indexes_app
from fettle.cli.jobs import app as jobs_app
from fettle.cli.judge import judge
from fettle.cli.keys import app as keys_app
from fettle.cli.models import app as models_app
from fettle.cli.prices import app as prices_app
from fettle.cli.release import app as release_app
from fettle.cli.search import search
from fettle.cli.serve import serve
from fettle.cli.study import study
from fettle.cli.traffic import app as traffic_app
from fettle.cli.vote import vote
from fettle.cli.worker import worker
from fettle.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_USER, ConfigError, FettleError, exit_code
from fettle.settings import keep_freed_memory, let_others_run

_USER_ERRORS = (errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_USER_ERRORS += (errno.ELOOP, errno.EIO, errno.EMFILE)
"""What the operating system says of the user's paths and disks."""

app = typer.Typer(
    name="fettle",
    help="Should we fine-tune? Tunes a small language model on your examples and says, with honest intervals, if it was worth it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="With --debug every command shows the traceback of an error.",
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from fettle.version import fettle_version

        typer.echo(f"fettle {fettle_version()}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """What comes before the sub-command."""


app.command()(study)
app.command()(advise)
app.command()(check)
app.command()(compare)
app.command()(cost)
app.command()(judge)
app.command()(vote)
app.command()(export)
app.command()(index)
app.command()(search)
app.command()(serve)
app.command()(worker)
app.command()(backup)
app.command()(restore)
app.add_typer(examples_app, name="examples")
app.add_typer(indexes_app, name="indexes")
app.add_typer(jobs_app, name="jobs")
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
release_app.command()(challenge)
release_app.command()(challenges)
release_app.command()(end_challenge)
app.add_typer(release_app, name="release")
app.add_typer(traffic_app, name="traffic")
app.add_typer(prices_app, name="prices")


def main() -> None:
    """Run the command line; `--debug` anywhere shows tracebacks."""
    let_others_run()
    keep_freed_memory()
    is_debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a character must not end a study
    console = Console(stderr=True)
    try:
        try:
            app(args=arguments)
        finally:
            if sys.stdout is not None:  # closed by who called us
                sys.stdout.flush()
    except SystemExit as leaving:
        if leaving.code == EXIT_INTERRUPTED:  # how typer passes on a KeyboardInterrupt
            _leave_interrupted(console)
        raise
    except FettleError as error:
        _print_traceback(console, is_wanted=is_debug)
        _print_error(console, error)
        sys.exit(exit_code(error))
    except OSError as error:
        if error.errno not in _USER_ERRORS:
            _leave_with_fault(console, error, is_debug=is_debug)
        _print_traceback(console, is_wanted=is_debug)
        _print_error(console, _explained(error))
        _give_up_output()
        sys.exit(EXIT_USER)
    except Exception as error:
        _leave_with_fault(console, error, is_debug=is_debug)


def _leave_with_fault(console: Console, error: Exception, *, is_debug: bool) -> Never:
    _print_traceback(console, is_wanted=is_debug)
    console.print(
        f"[bold red]This is a fault in Fettle[/bold red] ({type(error).__name__}: {escape(str(error)[:500])}).\n"
        "What was finished is kept. Please run the command again with --debug and report what it prints.",
        soft_wrap=True,
    )
    sys.exit(EXIT_INTERNAL)


def _explained(error: OSError) -> ConfigError:
    where = str(error.filename)[:200] if error.filename else "the command's output"
    remedy = "check the path" if error.filename else "write it to a place with space left; what was finished is kept"
    return ConfigError(error.strerror or str(error), where=where, remedy=remedy)


def _give_up_output() -> None:
    """Python must not try once more, as it ends, to write what could not be written."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_traceback(console: Console, *, is_wanted: bool) -> None:
    if is_wanted:
        console.print(traceback.format_exc(), markup=False, highlight=False, soft_wrap=True)


def _print_error(console: Console, error: FettleError) -> None:
    where = f"{escape(error.where)}: " if error.where else ""
    console.print(f"[bold red]Error:[/bold red] {where}{escape(error.problem.rstrip('.'))}.", soft_wrap=True)
    if error.remedy:
        console.print(f"[bold]What to do:[/bold] {escape(error.remedy)}", soft_wrap=True)


def _leave_interrupted(console: Console) -> Never:
    console.print("\n[yellow]Stopped.[/yellow] What was finished is kept; the same command goes on from there.")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_INTERRUPTED)  # threads of a stopped computation must not hold the process


if __name__ == "__main__":
    main()
