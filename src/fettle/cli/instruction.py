"""`--instruction`, as `study` and `examples show` take it."""

from __future__ import annotations

from pathlib import Path

from fettle.errors import ConfigError


def instruction_text(text: str | None) -> str | None:
    """The text itself, or with `@FILE` what the file holds.

    Raises:
        ConfigError: The file cannot be read.
    """
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"this file cannot be read ({error.strerror if isinstance(error, OSError) else 'it is not UTF-8 text'})",
            where=f"--instruction {text}",
            remedy="give @FILE with a text file, or the text itself",
        ) from error
