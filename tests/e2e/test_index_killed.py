"""`fettle index` as users run it: killed again and again, beside another one, and searched."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from command import Runner

from fettle.store.database import Store
from fettle.store.indexes import list_all_indexes
from indexed import content_of

SMALL_BATCHES = "from fettle.retrieval import vectors; vectors._TEXTS_AT_ONCE = 8"
NUM_ROWS = 96


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of questions and answers, a page that says the same many times, and two files that cannot be read."""
    folder = tmp_path_factory.mktemp("documents")
    rows = [f"When does counter {number} open?,At {number % 12} o'clock.,en" for number in range(NUM_ROWS)]
    (folder / "faq.csv").write_text("\n".join(["question,answer,lang", *rows]) + "\n")
    sections = [
        f"## Rule {number}\n\nParcels of {number} kg cost {number * 3} euros, as the price list says.\n"
        for number in range(12)
    ]
    (folder / "prices.md").write_text("# Prices\n\n" + "\n".join(sections))
    (folder / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    (folder / "empty.md").write_text("")
    return folder


def num_embedded(home: Path) -> int:
    if not (home / "fettle.sqlite").exists():
        return 0
    with closing(sqlite3.connect(home / "fettle.sqlite")) as connection:
        try:
            return int(connection.execute("SELECT count(vector) FROM passages").fetchone()[0])
        except sqlite3.OperationalError:  # there are no tables yet
            return 0


def kept(home: Path) -> tuple[list[tuple[str, str, int, str]], np.ndarray]:
    """What the only index of a home holds: documents, places and texts, and the vectors of these."""
    store = Store(home)
    with store.reading() as connection:
        (index,) = list_all_indexes(connection)
    rows = content_of(store, index)
    store.close()
    return [row[:4] for row in rows], np.stack([np.frombuffer(row[4] or b"", dtype="<f4") for row in rows])


def test_an_index_that_is_killed_goes_on_and_is_the_same(bench: Path, documents: Path, tmp_path: Path) -> None:
    whole, killed = (Runner(bench, tmp_path / name) for name in ("whole", "killed"))
    finished = whole("index", documents, "--name", "handbook")
    assert finished.code == 0, finished.everything
    for text in (f"{NUM_ROWS + 1} documents", "picture.txt", "empty.md", "passages/s"):
        assert text in finished.everything
    arguments = ("index", documents, "--name", "handbook")
    chance, at_least, kills = random.Random(7), 0, 0
    while at_least < NUM_ROWS - 16:
        at_least = max(at_least, num_embedded(killed.home)) + chance.randint(8, 32)
        command = killed.start(*arguments, preamble=SMALL_BATCHES)
        if command.wait_until(lambda wanted=at_least: num_embedded(killed.home) >= wanted):
            command.kill()
            kills += 1
    assert kills >= 2
    before = num_embedded(killed.home)
    finished = killed(*arguments)
    assert finished.code == 0, finished.everything
    assert f"Embedded now: {num_embedded(killed.home) - before} texts" in finished.everything
    (texts, vectors), (killed_texts, killed_vectors) = kept(whole.home), kept(killed.home)
    assert killed_texts == texts
    assert len(set(texts)) == len(texts), "no passage is there twice"
    assert killed_vectors == pytest.approx(vectors, abs=1e-5)
    question = ("search", "handbook", "When does counter 17 open?", "-k", 3)
    assert killed(*question).out == whole(*question).out
    assert "At 5 o'clock." in killed(*question).out


def test_a_second_one_beside_it_is_refused(fettle: Runner, documents: Path) -> None:
    arguments = ("index", documents, "--name", "handbook")
    command = fettle.start(*arguments, preamble=SMALL_BATCHES)
    assert command.wait_until(lambda: num_embedded(fettle.home) > 0)
    assert command.process.pid is not None
    os.kill(command.process.pid, signal.SIGSTOP)
    refused = fettle(*arguments)
    assert refused.code == 2
    assert "is changing this index" in refused.everything
    assert "wait until it is done" in refused.everything
    command.kill()
    assert fettle(*arguments).code == 0
