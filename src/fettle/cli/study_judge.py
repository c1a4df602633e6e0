"""The judge that `fettle study` asks about the finished study, which stands whatever comes of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fettle.cli.judge import JudgeSource, judged_and_kept, print_judgement
from fettle.errors import ConfigError, FettleError
from fettle.judging.settings import JudgeSettings

if TYPE_CHECKING:
    from fettle.study.run import StudyResult


def judge_source(url: str | None, model: str | None, rubric: Path | None) -> JudgeSource | None:
    """The judge that the options ask for; None: they ask for none.

    Raises:
        ConfigError: One of them is missing, or cannot be used: now, rather than after hours of training.
    """
    from fettle.answering.address import require_http_address
    from fettle.judging.rubric import read_rubric

    if (url is None) != (model is None):
        raise ConfigError("--judge-url and --judge-model go together", remedy="give the URL and the model's name")
    if url is None:
        if rubric is not None:
            raise ConfigError(
                "there is no judge that could be told this", where="--rubric", remedy="name one with --judge-url"
            )
        return None
    require_http_address(url, where="--judge-url")
    if rubric is not None:
        read_rubric(rubric)
    return JudgeSource(endpoint=url, model=model, rubric=rubric)


def ask_judge(console: Console, result: StudyResult, source: JudgeSource) -> None:
    """Have the finished study judged. What a failure leaves is kept, and what goes on from there is told."""
    console.print()
    try:
        judged, places = judged_and_kept(console, result.report, result.paths.json, source, JudgeSettings())
    except FettleError as error:
        _say(console, f"The study is finished and stands as it is, but its judge is not done: {error.describe()}")
        _say(console, f"This goes on with the judge alone: {_command(result.paths.json.parent, source)}")
    else:
        print_judgement(console, judged, result.report, places)


def public_words(words: Sequence[str], source: JudgeSource | None) -> list[str]:
    """The words of a command line, without what may be secret in the address of the judge."""
    from fettle.answering.address import public_address

    if source is None or source.endpoint is None:
        return list(words)
    return [word.replace(source.endpoint, public_address(source.endpoint)) for word in words]


def _command(study: Path, source: JudgeSource) -> str:
    words = ["fettle", "judge", str(study), "--endpoint", str(source.endpoint), "--model", str(source.model)]
    words += [] if source.rubric is None else ["--rubric", str(source.rubric)]
    return shlex.join(public_words(words, source))


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
