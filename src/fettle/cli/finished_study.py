"""STUDY, as `vote` and `judge` take it: the folder of a finished study, or its report."""

from __future__ import annotations

from pathlib import Path

from fettle.errors import DataError

_REPORT_FILE, _STUDY_FILE = "report.json", "study.json"


def report_path(study: Path) -> Path:
    """The report that is meant.

    Raises:
        DataError: There is no such study, or it is not finished.
    """
    path = study / _REPORT_FILE if study.is_dir() else study
    path = path.with_name(_REPORT_FILE) if path.suffix == ".html" else path  # the two lie side by side
    if path.is_file():
        return path
    if study.is_dir() and (study / _STUDY_FILE).is_file():
        problem, remedy = (
            "this study is not finished",
            "run the same `fettle study` command again: it goes on where it was",
        )
    elif study.is_dir():
        problem, remedy = (
            f"there is no {_REPORT_FILE} here",
            "name the folder of a finished study (--out of `fettle study`)",
        )
    else:
        problem, remedy = "there is no such study", "name the folder of a finished study (--out of `fettle study`)"
    raise DataError(problem, where=str(study if study.is_dir() else path), remedy=remedy)
