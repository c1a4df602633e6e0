"""Output that is there as a whole or not at all, and never in the place of what is not ours."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fettle.errors import ConfigError, DiskFullError, disk_errors_explained
from fettle.files import write_atomically

MANIFEST = "fettle_export.json"
_FORMAT = "fettle-export"
_ROOM_FACTOR = 1.02  # headers, tokenizer and the file system's own


@contextmanager
def staged(out: Path, *, is_ours: Callable[[Path], bool]) -> Iterator[Path]:
    """A hidden folder beside `out` to write to. It becomes `out` when the block ends well, and is removed when it does not.

    Where `out` is to be a file, the folder has to hold one of that name. What a killed process left is removed by the next one.

    Raises:
        ConfigError: Something that no export wrote is there, another process writes to it, or it cannot be written.
        DiskFullError: No space is left.
    """
    require_free(out, is_ours=is_ours)
    partial = out.parent / f".{out.name}.partial"
    with disk_errors_explained(out):
        partial.mkdir(parents=True, exist_ok=True)
        lock = os.open(partial, os.O_RDONLY)
    try:
        _take(lock, out)
        try:
            with disk_errors_explained(out):
                _clear(partial)
                yield partial
                require_free(out, is_ours=is_ours)
                _put_in_place(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(lock)


def require_free(out: Path, *, is_ours: Callable[[Path], bool]) -> None:
    """Show that nothing is at `out` but what an earlier export wrote.

    Raises:
        ConfigError: There is.
    """
    is_empty = out.is_dir() and not any(out.iterdir())
    if (out.exists() or out.is_symlink()) and not is_empty and not is_ours(out):
        raise ConfigError(
            "there is something here already that no `fettle export` wrote, or that was added to since; it is left as it is",
            where=f"--out {out}",
            remedy="name another place, or move it away",
        )


def require_room(out: Path, num_bytes: int) -> None:
    """Show that the disk has room for so many bytes more.

    Raises:
        DiskFullError: It has not.
    """
    above = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(above).free
    if free < num_bytes * _ROOM_FACTOR:
        raise DiskFullError(
            f"this takes {num_bytes / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free; nothing was written",
            where=str(out),
            remedy="free some space, choose a smaller --type, or name a place on another disk",
        )


def write_manifest(folder: Path, facts: dict[str, object]) -> None:
    """Note beside the files what they are, and that they are ours."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    content = {"format": _FORMAT, **facts, "files": [*files, MANIFEST]}
    write_atomically(folder / MANIFEST, json.dumps(content, indent=2) + "\n")


def is_our_folder(folder: Path) -> bool:
    """An earlier export wrote all that is in it."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return False
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return found <= set(content.get("files", ()))


def _take(lock: int, out: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigError(
            "another process is writing an export there",
            where=f"--out {out}",
            remedy="wait for it, or name another place",
        ) from error


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _put_in_place(partial: Path, out: Path) -> None:
    for file in (path for path in partial.rglob("*") if path.is_file()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    if (partial / out.name).is_file() and [path.name for path in partial.iterdir()] == [out.name]:
        if out.is_dir():
            out.rmdir()  # shown to be empty
        (partial / out.name).replace(out)
        return
    earlier = out.parent / f".{out.name}.earlier"
    shutil.rmtree(earlier, ignore_errors=True)
    with suppress(FileNotFoundError):
        out.rename(earlier)
    partial.rename(out)
    shutil.rmtree(earlier, ignore_errors=True)
