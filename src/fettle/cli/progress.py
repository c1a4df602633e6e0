"""The live progress display of a study: one bar per stage, with what is left of it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fettle.cli.interrupt import Interruption
from fettle.progress import Stage


class ProgressBars:
    """Shows stages as bars in a terminal; one line per finished stage where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: dict[str, TaskID] = {}
        self._finished: set[str] = set()
        self._interruption = Interruption()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        """Start the display."""
        self._interruption.__enter__()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the display."""
        self._progress.stop()
        self._interruption.__exit__(kind, error, traceback)

    def on_stage(self, stage: Stage) -> None:
        """Move the stage's bar; raises KeyboardInterrupt where a Ctrl-C came to nothing."""
        self._interruption.raise_if_asked()
        if stage.name not in self._bars:
            self._bars[stage.name] = self._progress.add_task(stage.name, total=stage.num_total, note="")
        self._progress.update(self._bars[stage.name], completed=stage.num_done, total=stage.num_total, note=stage.note)
        if stage.num_done >= stage.num_total and stage.name not in self._finished:
            self._finished.add(stage.name)
            if not self._console.is_terminal:
                note = f" ({stage.note})" if stage.note else ""
                self._console.print(f"{stage.name}: {stage.num_done} of {stage.num_total}{note}", highlight=False)

    def on_message(self, text: str) -> None:
        """Print a message above the bars."""
        self._console.print(text, highlight=False, markup=False)
