"""The search files of a folder are replaced as a whole, and damaged ones are refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from fettle.errors import ResourceError, StudyConflictError
from fettle.retrieval.indexes import folder_files
from fettle.retrieval.indexes.folder import FolderIndex, build_folder
from fettle.retrieval.indexes.folder_files import holds_files
from searched import Batch, PassagesInMemory, description, passage, unit_vectors

VECTORS = unit_vectors(4, 8)


def build(folder: Path, word: str) -> None:
    build_folder(folder, [Batch([1, 2, 3, 4], [word] * 4, VECTORS)], num_dimensions=8)


def opened(folder: Path, num_dimensions: int = 8) -> FolderIndex:
    reader = PassagesInMemory({key: passage(key, "") for key in range(1, 5)})
    return FolderIndex(folder, description(4, num_dimensions), reader)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("files-*/**/*") if path.is_file())


def test_a_reader_goes_on_with_what_it_has_opened(tmp_path: Path) -> None:
    build(tmp_path, "old")
    before = opened(tmp_path)
    build(tmp_path, "new")
    assert len(before.matching("old", 4)) == 4
    assert len(before.nearest(VECTORS[0], 4)) == 4
    after = opened(tmp_path)
    assert (len(after.matching("old", 4)), len(after.matching("new", 4))) == (0, 4)
    assert len(list(tmp_path.glob("files-*"))) == 1


def test_whoever_opens_a_folder_while_it_is_replaced_gets_one_whole(tmp_path: Path) -> None:
    build(tmp_path, "word")
    builder = Thread(target=lambda: [build(tmp_path, "word") for _ in range(20)])
    builder.start()
    num_opened = 0
    while builder.is_alive():
        assert len(opened(tmp_path).matching("word", 4)) == 4
        num_opened += 1
    builder.join()
    assert num_opened > 0


@pytest.mark.parametrize("gone", ["words", "keys.npy", "words/vocab.index.json"])
def test_what_goes_while_it_is_opened_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    build(tmp_path, "word")
    compare = folder_files._compare_with_hashes

    def compare_and_remove(content: Path, manifest: folder_files.Manifest) -> None:
        compare(content, manifest)
        if (content / gone).is_dir():
            shutil.rmtree(content / gone)
        else:
            (content / gone).unlink()

    monkeypatch.setattr(folder_files, "_compare_with_hashes", compare_and_remove)
    with pytest.raises(ResourceError, match="the search files are damaged"):
        opened(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from searched import Batch, unit_vectors
from fettle.retrieval.indexes import folder, folder_files

place, moment = Path(sys.argv[1]), sys.argv[3]

def killed(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "words":
    folder.WordFilesBuilder.write = killed
elif moment == "manifest":
    folder_files.write_atomically = killed
else:
    folder_files.shutil.rmtree = killed
folder.build_folder(place, [Batch([1], ["new"], unit_vectors(1, 8))], num_dimensions=8)
"""


@pytest.mark.parametrize(("moment", "word"), [("words", "old"), ("manifest", "old"), ("removal", "new")])
def test_a_killed_build_leaves_the_old_files_or_the_new_ones(tmp_path: Path, moment: str, word: str) -> None:
    build(tmp_path, "old")
    tests = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), tests, moment], check=False)
    assert done.returncode == -9
    assert len(opened(tmp_path).matching(word, 4)) == (4 if word == "old" else 1)
    build(tmp_path, "newest")
    assert len(opened(tmp_path).matching("newest", 4)) == 4
    assert len(list(tmp_path.glob("files-*"))) == 1


def test_a_build_that_fails_leaves_the_old_files(tmp_path: Path) -> None:
    build(tmp_path, "old")

    def batches() -> Iterator[Batch]:
        yield Batch([1], ["new"], VECTORS[:1])
        raise RuntimeError("the store is gone")

    with pytest.raises(RuntimeError, match="the store is gone"):
        build_folder(tmp_path, batches(), num_dimensions=8)
    assert len(opened(tmp_path).matching("old", 4)) == 4
    assert len(list(tmp_path.glob("files-*"))) == 1


def test_two_builds_at_once_do_not_mix(tmp_path: Path) -> None:
    def batches() -> Iterator[Batch]:
        with pytest.raises(StudyConflictError, match="building this index"):
            build(tmp_path, "second")
        yield Batch([1], ["first"], VECTORS[:1])

    build_folder(tmp_path, batches(), num_dimensions=8)
    assert len(opened(tmp_path).matching("first", 4)) == 1


def test_a_folder_without_files_says_what_to_do(tmp_path: Path) -> None:
    assert not holds_files(tmp_path)
    with pytest.raises(ResourceError, match=r"no search files here.*index the same documents again"):
        opened(tmp_path)


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("damage", ["missing", "shorter", "changed"])
def test_damaged_files_are_refused_by_name(tmp_path: Path, number: int, damage: str) -> None:
    build(tmp_path, "word")
    assert holds_files(tmp_path)
    path = files_of(tmp_path)[number]
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "shorter" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ResourceError, match="damaged: .*" + path.name.replace(".", r"\.")):
        opened(tmp_path)
    build(tmp_path, "word")
    assert len(opened(tmp_path).matching("word", 4)) == 4


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "files": {}}'])
def test_a_manifest_that_cannot_be_read_is_refused_and_replaced(tmp_path: Path, content: str) -> None:
    build(tmp_path, "word")
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ResourceError, match="damaged: "):
        opened(tmp_path)
    build(tmp_path, "word")
    assert len(opened(tmp_path).matching("word", 4)) == 4


def test_vectors_of_another_length_are_refused(tmp_path: Path) -> None:
    build(tmp_path, "word")
    with pytest.raises(ResourceError, match="expected 4 vectors of 7 dimensions"):
        opened(tmp_path, num_dimensions=7)


def test_no_file_is_a_pickle(tmp_path: Path) -> None:
    build(tmp_path, "word")
    suffixes = {path.suffix for path in files_of(tmp_path)}
    assert suffixes == {".npy", ".json"}
    for path in files_of(tmp_path):
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        (Batch([1, 2], ["a", "b"], VECTORS[:1]), "2 vectors of 8 dimensions"),
        (Batch([1], ["a", "b"], VECTORS[:1]), "1 vectors of 8 dimensions and as many texts"),
        (Batch([2, 1], ["a", "b"], VECTORS[:2]), "have to rise"),
    ],
)
def test_batches_that_do_not_fit_together_are_a_mistake_of_the_caller(
    tmp_path: Path, batch: Batch, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        build_folder(tmp_path, [batch], num_dimensions=8)
    assert not holds_files(tmp_path)
