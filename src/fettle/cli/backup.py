"""`fettle backup` and `fettle restore`: everything that the store keeps, in one file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write, NAME.tar.zst or NAME.tar.gz.")],
) -> None:
    """Write files, jobs, models, keys and all else of the store into one FILE, while the server runs."""
    from fettle.cli.progress import ProgressBars
    from fettle.cli.store import open_store
    from fettle.store.backup import back_up

    console = Console()
    with ProgressBars(console) as bars:
        result = back_up(open_store(), file, bars)
    sizes = f"{result.num_rows} rows and {result.num_files} files ({result.num_bytes / 1e6:.1f} MB)"
    lines = [f"Written: {file} ({file.stat().st_size / 1e6:.1f} MB): {sizes}"]
    if result.base_models:
        lines.append("Not in it, and wanted where it is restored, the base models:")
        lines += [f"  {name} (from {source})" for name, source in result.base_models.items()]
    _print(console, lines)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `fettle backup` wrote.", exists=False)],
) -> None:
    """Put a backup into an empty store: SQLite or PostgreSQL, whichever it was made of."""
    from fettle.cli.progress import ProgressBars
    from fettle.cli.store import open_store
    from fettle.store.restore import restore as run_restore

    console = Console()
    store = open_store()
    with ProgressBars(console) as bars:
        result = run_restore(store, file, bars)
    made = datetime.fromtimestamp(result.created_at).astimezone().strftime("%Y-%m-%d %H:%M")
    _print(console, [f"Restored into {store.home}: {result.num_rows} rows and {result.num_files} files, as of {made}"])


def _print(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
