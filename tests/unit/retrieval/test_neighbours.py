from collections.abc import Sequence

import numpy as np
import pytest

from fettle.records import Example, Location, Message
from fettle.retrieval.neighbours import NearestNeighbours

ANGLES = {"east": 0.0, "east too": 0.0, "north-east": 45.0, "north": 90.0, "west": 180.0, "a bit north of east": 10.0}


class Compass:
    """Directions in the plane."""

    name = "compass"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        radians = np.deg2rad([ANGLES[text] for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def example(text: str) -> Example:
    messages = (Message(role="user", content=text), Message(role="assistant", content="x"))
    return Example(id=text, messages=messages, source=Location(file="a", line=1))


PLACES = [example(text) for text in ("west", "east too", "north", "east", "north-east")]


def ids(found: list[Example]) -> list[str]:
    return [example.id for example in found]


def test_nearest_come_first_and_ties_keep_their_order() -> None:
    found = NearestNeighbours(Compass(), PLACES).search("a bit north of east", 4)
    assert ids(found) == ["east too", "east", "north-east", "north"]


def test_excluded_examples_are_not_found() -> None:
    assert ids(NearestNeighbours(Compass(), PLACES).search("east", 2, exclude_ids={"east"})) == [
        "east too",
        "north-east",
    ]


def test_asking_for_more_than_there_are_gives_all() -> None:
    assert len(NearestNeighbours(Compass(), PLACES).search("north", 99, exclude_ids={"west"})) == 4
    assert NearestNeighbours(Compass(), []).search("north", 3) == []


def test_asking_for_none_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NearestNeighbours(Compass(), PLACES).search("north", 0)


def test_agrees_with_all_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    class Table:
        name = "table"

        def embed(self, texts: Sequence[str]) -> np.ndarray:
            return vectors[[int(text) for text in texts]]

    found = NearestNeighbours(Table(), [example(str(i)) for i in range(50)]).search("55", 5)
    similarities = {
        str(i): sum(float(a) * float(b) for a, b in zip(vectors[i], vectors[55], strict=True)) for i in range(50)
    }
    assert ids(found) == sorted(similarities, key=lambda id_: -similarities[id_])[:5]
