from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from fettle.errors import ConfigError, DiskFullError
from fettle.export.staging import is_our_folder, require_room, staged, write_manifest


def write(out: Path, text: str) -> None:
    with staged(out, is_ours=is_our_folder) as folder:
        (folder / "weights").write_text(text)
        write_manifest(folder, {"kind": "test"})


def test_a_folder_replaces_an_earlier_one_of_ours_and_nothing_else_is_left(tmp_path: Path) -> None:
    write(tmp_path / "out", "one")
    write(tmp_path / "out", "two")
    assert (tmp_path / "out" / "weights").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_fails_or_is_interrupted_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "out", "one")

    def fail(error: type[BaseException]) -> None:
        with staged(tmp_path / "out", is_ours=is_our_folder) as folder:
            (folder / "weights").write_text("half")
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
    assert (tmp_path / "out" / "weights").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / ".out.partial"
    (left / "deeper").mkdir(parents=True)
    (left / "weights").write_text("half")
    write(tmp_path / "out", "whole")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fettle_export.json", "weights"]
    assert not left.exists()


def test_two_processes_do_not_write_to_one_place(tmp_path: Path) -> None:
    with staged(tmp_path / "out", is_ours=is_our_folder) as folder:
        with pytest.raises(ConfigError, match="another process"):
            write(tmp_path / "out", "two")
        (folder / "weights").write_text("one")
    assert (tmp_path / "out" / "weights").read_text() == "one"


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out", "one")
    with pytest.raises(DiskFullError), staged(tmp_path / "out", is_ours=is_our_folder):
        raise OSError(28, "No space left on device")
    assert (tmp_path / "out" / "weights").read_text() == "one"
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10, 9, 1))
    with pytest.raises(DiskFullError, match="nothing was written"):
        require_room(tmp_path / "new" / "out", 1000)
