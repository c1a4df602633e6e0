"""`judged.json` beside a study's report: what each judge said of each pair of contenders, the newest judgement of a kind alone."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fettle.errors import DataError
from fettle.files import write_atomically
from fettle.judging.records import JudgedComparison

FILE = "judged.json"
FORMAT = "fettle-judged"
FORMAT_VERSION = 1


def keep_judged(judged: JudgedComparison, folder: Path) -> Path:
    """Write a judgement into the study's `judged.json`, in place of an earlier one by this judge and rubric on these contenders.

    Raises:
        DataError: There is such a file, and it cannot be read.
        DiskFullError: No space is left.
        ConfigError: The folder cannot be written.
    """
    file = folder / FILE
    others = [other for other in read_judged(file) if _kind(other) != _kind(judged)] if file.exists() else []
    write_atomically(file, print_judged([*others, judged]).encode("utf-8", errors="replace"))
    return file


def print_judged(judged: list[JudgedComparison]) -> str:
    """Judgements as JSON text, after the name and version of the format."""
    fields = _adapter().dump_python(judged, mode="json")
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, "comparisons": fields}
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_judged(file: Path) -> list[JudgedComparison]:
    """The judgements in a `judged.json`, the newest last.

    Raises:
        DataError: It cannot be read, or is of another format.
    """
    remedy = f"delete {FILE}, then run `fettle judge` again: replies are kept, so nothing is asked twice"
    try:
        document = json.loads(file.read_bytes())
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f'it does not start with "format": "{FORMAT}"')
        if (version := document.get("format_version")) != FORMAT_VERSION:
            raise ValueError(f"it has format version {version!r}; this Fettle reads version {FORMAT_VERSION}")
        return _adapter().validate_python(document.get("comparisons"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"it is damaged at `{place}`: {first['msg']}", where=str(file), remedy=remedy) from error
    except (OSError, ValueError) as error:
        raise DataError(f"no judgements can be read here ({error})", where=str(file), remedy=remedy) from error


def _kind(judged: JudgedComparison) -> tuple[str, ...]:
    return judged.judge, judged.rubric, judged.challenger, judged.baseline


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[list[JudgedComparison]]:
    return TypeAdapter(list[JudgedComparison])
