"""Out folders that cannot be used, and disks that cannot take a study."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Runner
from reports import comparable, load
from studies import LABEL_STUDY, Study, require_refused

FULL = "the disk is full; what was finished before is kept"


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_file(fettle: Runner, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    finished = fettle(*LABEL_STUDY, "--out", tmp_path / "out")
    require_refused(finished, f"{tmp_path / 'out'}: this is a file, not a folder", "--out")
    assert (tmp_path / "out").read_text() == "mine"


def test_below_a_file(fettle: Runner, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    require_refused(fettle(*LABEL_STUDY, "--out", tmp_path / "file" / "out"), "cannot write here (Not a directory)")


@pytest.mark.parametrize("name", ["notes.txt", "study.json"])
@pytest.mark.parametrize("more", [[], ["--fresh"]])
def test_a_folder_with_other_files_stays_untouched(fettle: Runner, tmp_path: Path, name: str, more: list[str]) -> None:
    (tmp_path / "out" / "thesis").mkdir(parents=True)
    (tmp_path / "out" / "thesis" / "chapter").write_text("mine")
    (tmp_path / "out" / name).write_text("{}")
    before = listing(tmp_path / "out")
    finished = fettle(*LABEL_STUDY, *more, "--out", tmp_path / "out")
    require_refused(finished, "the folder is not empty and holds no study", "choose another folder with --out")
    assert listing(tmp_path / "out") == before


def test_another_study_stays_and_fresh_replaces_it(fettle: Runner, label_study: Study, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(label_study.folder, folder)
    (folder / "my notes.txt").write_text("mine")
    before = listing(folder)
    other = ("study", "labels.csv", "--model", "model", "--epochs", 1, "--task", "text", "--out", folder)
    require_refused(fettle(*other), "the folder holds a study of other data or with other settings", "--fresh")
    assert {name: data for name, data in listing(folder).items() if name != ".lock"} == {
        name: data for name, data in before.items() if name != ".lock"
    }
    finished = fettle(*other, "--fresh")
    assert finished.code in (0, 3, 4), finished.everything
    assert load(folder)["task"]["kind"] == "text"
    assert not (folder / "answers" / "test" / "classifier.jsonl").exists()
    assert (folder / "my notes.txt").read_text() == "mine"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 256 KiB; only root can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting needs root; the unit tests bound the size of a file instead")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def test_a_full_disk_and_then_more_room(fettle: Runner, label_study: Study, small_disk: Path) -> None:
    finished = fettle(*LABEL_STUDY, "--out", small_disk / "study")
    require_refused(finished, FULL, "free some space and run the same command again")
    assert str(small_disk / "study") in finished.everything
    assert not (small_disk / "study" / "report.json").exists()
    remount(small_disk, "size=64m")
    finished = fettle(*LABEL_STUDY, "--out", small_disk / "study")
    assert finished.code == label_study.finished.code, finished.everything
    assert comparable(load(small_disk / "study")) == comparable(load(label_study.folder))


def test_a_read_only_disk(fettle: Runner, small_disk: Path) -> None:
    remount(small_disk, "ro")
    finished = fettle(*LABEL_STUDY, "--out", small_disk / "study")
    require_refused(finished, "cannot write here (Read-only file system)", "choose another folder with --out")
    finished = Runner(fettle.folder, fettle.home)("check", "labels.csv", "--fix", small_disk / "fixed.jsonl")
    require_refused(finished, "cannot write here (Read-only file system)")
