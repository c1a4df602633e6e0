"""The command of a finished study with something changed: its folder left out, for another study needs another one."""

from __future__ import annotations

import shlex

from fettle.advice_records import Command
from fettle.report_records import StudyReport

_LEFT_OUT = ("--out",)
_SWITCHES = ("--fresh", "--dry-run")


def study_again(report: StudyReport, purpose: str, option: str, value: str | None = None) -> Command:
    """The study once more, with an option set.

    Args:
        report: Of the study that is over.
        purpose: What that is for.
        option: Such as `--epochs`; replaces what the command had.
        value: None: it takes none.
    """
    words = without_options(_command_words(report), (*_LEFT_OUT, option))
    words = tuple(word for word in words if word not in (*_SWITCHES, option))
    return Command(purpose=purpose, words=(*words, option, *(() if value is None else (value,))))


def _command_words(report: StudyReport) -> tuple[str, ...]:
    """Without the interpreter; for a study that was no command, its bundled name or a place to be filled in."""
    words = shlex.split(report.provenance.command)
    if "study" in words[1:]:
        return ("fettle", *words[words.index("study", 1) :])
    bundled = report.name.startswith("example-")
    return ("fettle", "study", report.name.replace("-", ":", 1) if bundled else "EXAMPLES")


def without_options(words: tuple[str, ...], options: tuple[str, ...]) -> tuple[str, ...]:
    """Words without some options and the values behind them, in both spellings.

    >>> without_options(("study", "a", "--out", "b", "--epochs=3", "--fresh"), ("--out", "--epochs"))
    ('study', 'a', '--fresh')
    """
    kept: list[str] = []
    is_value = False
    for word in words:
        if is_value and not word.startswith("--"):
            is_value = False
            continue
        name, has_value, _ = word.partition("=")
        is_value = name in options and not has_value
        if name not in options:
            kept.append(word)
    return tuple(kept)
