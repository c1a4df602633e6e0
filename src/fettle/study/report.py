"""The report on disk: `report.json`, strict and complete, and beside it `report.html` for people.

Covers writing both and reading the JSON back. What the page looks like is `page.py`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fettle.errors import DataError, IntegrityError
from fettle.files import write_atomically
from fettle.report_records import StudyReport
from fettle.study.opinions import opinions_on
from fettle.study.page import render_page

FORMAT = "fettle-study-report"
FORMAT_VERSION = 3
"""Raised whenever a reader of one version could not read, or would misread, a file of the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """Where a report lies."""

    html: Path
    json: Path


def write_report(report: StudyReport, folder: Path) -> ReportPaths:
    """Write `report.json` and `report.html` into `folder`, each of them whole or not at all.

    The page also shows what judges and people say, as it lies in the folder.

    Raises:
        IntegrityError: A figure is NaN or infinite.
        DiskFullError: No space is left.
        ConfigError: The folder cannot be written.
    """
    paths = ReportPaths(html=folder / "report.html", json=folder / "report.json")
    json_text, page = print_report(report), render_page(report, opinions_on(report, folder))
    write_atomically(paths.json, _encode(json_text))
    write_atomically(paths.html, _encode(page))
    return paths


def rewrite_page(report: StudyReport, json_path: Path) -> Path:
    """Write the page of a finished study anew, with what judges and people say by now, and return where it lies.

    Args:
        report: What was read from `json_path`.
        json_path: The page lies beside it, under the same name.

    Raises:
        DiskFullError: No space is left.
        ConfigError: The page cannot be written.
    """
    path = json_path.with_suffix(".html")
    write_atomically(path, _encode(render_page(report, opinions_on(report, json_path.parent))))
    return path


def print_report(report: StudyReport) -> str:
    """The report as JSON text: its fields as in `records.StudyReport`, after the name and version of the format.

    Raises:
        IntegrityError: A figure is NaN or infinite.
    """
    fields = _adapter().dump_python(report, mode="json")
    where = _first_not_finite(fields, "report")
    if where:
        raise IntegrityError(
            "a figure of the report is not a finite number",
            where=where,
            remedy="this is a fault in Fettle, please report it; `fettle study` with another --seed may avoid it",
        )
    document = {"format": FORMAT, "format_version": FORMAT_VERSION} | fields
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_report(path: Path) -> StudyReport:
    """The report in a `report.json`.

    Raises:
        DataError: There is no such file, it is no study report, or it comes from another version of the format.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read a study report here ({error})", where=str(path), remedy="name the report.json of a study"
        ) from error
    return parse_report(text, where=str(path))


def parse_report(text: str, *, where: str) -> StudyReport:
    """The report that `print_report` printed; `where` names its origin in messages.

    Raises:
        DataError: The text is no study report, or of another version of the format.
    """
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise DataError(
            f"a study report is JSON, this is not: {error}", where=where, remedy="run the study again to write it anew"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError(
            f'a study report starts with "format": "{FORMAT}", this does not',
            where=where,
            remedy="name the report.json of a study",
        )
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise DataError(
            f"this report has format version {version!r}; this Fettle reads version {FORMAT_VERSION}",
            where=where,
            remedy="update Fettle, then read it again" if newer else "run the study again with this Fettle",
        )
    fields = {name: value for name, value in document.items() if name not in ("format", "format_version")}
    try:
        return _adapter().validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"the report is damaged at `{place}`: {first['msg']}",
            where=where,
            remedy="run the study again to write it anew",
        ) from error


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[StudyReport]:
    return TypeAdapter(StudyReport)


def _encode(text: str) -> bytes:
    """UTF-8; half of a surrogate pair, which no file can hold, becomes a question mark."""
    return text.encode("utf-8", errors="replace")


def _first_not_finite(value: Any, path: str) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    if isinstance(value, dict):
        return next(filter(None, (_first_not_finite(item, f"{path}.{key}") for key, item in value.items())), None)
    if isinstance(value, list):
        return next(filter(None, (_first_not_finite(item, f"{path}[{i}]") for i, item in enumerate(value))), None)
    return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
