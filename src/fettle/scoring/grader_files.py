"""Which grader `--grader` means: a built-in one by its name, or the JSON of a grader of OpenAI's API in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fettle.errors import ConfigError
from fettle.files import sha256_of_json
from fettle.scoring.graders.openai_json import ITEM_KEYS
from fettle.scoring.openai_grader import OpenAIGrader
from fettle.scoring.openai_graders.registry import missing_item_variables, read_grader
from fettle.scoring.registry import grader_names

_AT = "@"
_JSON = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraderFile:
    """A grader as a file describes it."""

    path: Path
    grader: OpenAIGrader
    sha256: str
    """Of the JSON value: spaces and line ends do not matter."""


def grader_reference(text: str | Path) -> str | Path:
    """What a user means: the name of a built-in grader stays a text, everything else is a file. The disk is not looked at.

    >>> grader_reference("chrf"), grader_reference("@chrf"), grader_reference("strict.json")
    ('chrf', PosixPath('chrf'), PosixPath('strict.json'))

    Raises:
        ConfigError: The text is empty.
    """
    if isinstance(text, Path) or text in grader_names():
        return text
    name = text.removeprefix(_AT).strip()
    if not name:
        raise ConfigError(
            "the name of the grader is empty",
            where=f"--grader {text!r}",
            remedy=f"name a JSON file, or one of {', '.join(grader_names())}",
        )
    return Path(name)


def read_grader_file(path: Path) -> GraderFile:
    """The grader that a file describes; nothing of it is run.

    Raises:
        ConfigError: There is no such file (nor a built-in grader of that name), or it describes no grader. The message names the
            file, and the line or the place in the JSON.
    """
    value = _json_of(path)
    return GraderFile(path=path, grader=read_grader(value, f"{path}: grader"), sha256=sha256_of_json(value))


def require_known_variables(grader: OpenAIGrader, items: Sequence[Mapping[str, Any]], *, where: str) -> None:
    """Refuse a grader whose templates read what not one example has.

    Raises:
        ConfigError: Names what is read and what there is.
    """
    lacking = [set(missing_item_variables(grader, item)) for item in items]
    if unknown := sorted(set.intersection(*lacking)) if lacking else ():
        raise ConfigError(
            f"it reads {', '.join(unknown)}, which no example of a study has",
            where=where,
            remedy=f"an example has {', '.join(f'item.{key}' for key in ITEM_KEYS)}; the answer is sample.output_text",
        )


def _json_of(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise _not_found(path) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"this grader cannot be read ({reason})", where=str(path), remedy="name a JSON file with a grader"
        ) from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"a grader is JSON, and this is not: {error.msg} (column {error.colno})",
            where=f"{path}:{error.lineno}",
            remedy='mend the JSON; a grader starts like {"type": "string_check", "name": ...',
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            "this JSON is nested too deeply, or holds a number too long to read",
            where=str(path),
            remedy="write a simpler grader",
        ) from error


def _not_found(path: Path) -> ConfigError:
    name = str(path)
    nearest = get_close_matches(name, grader_names(), n=1)
    if path.suffix.lower() == _JSON or path.name != name:
        return ConfigError("there is no such file", where=f"--grader {name}", remedy="check the path")
    choice = f"did you mean {nearest[0]!r}?" if nearest else f"choose one of {', '.join(grader_names())}"
    return ConfigError(
        f"there is no grader called {name!r}, and no file of that name",
        where="--grader",
        remedy=f"{choice} A grader of your own is a JSON file" if nearest else f"{choice}, or a JSON file",
    )
