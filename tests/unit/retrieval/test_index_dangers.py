"""What could cost an index its content, or put vectors into it that are not its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fettle.cli.index import _passages
from fettle.errors import BusyError, ConfigError, ResourceError
from fettle.retrieval import vectors
from fettle.retrieval.documents import read_documents
from fettle.retrieval.indexes.registry import open_index
from fettle.retrieval.indexing import index_for
from fettle.retrieval.records import PassageSettings
from fettle.server.open_indexes import OpenEmbedders
from fettle.store.attached_files import attach_file
from fettle.store.database import Store, now
from fettle.store.files import StoredFile
from fettle.store.indexes import (
    ChangedMeanwhileError,
    DocumentStatus,
    find_index,
    find_replacement,
    list_documents,
    remove_index,
    sizes_of,
)
from fettle.store.locks import alone_in_store
from indexed import PASSAGES, WordEmbedder, content_of, document, indexed, project_of, texts_of, unread

RETURNS = document("returns.md", "Refunds take fourteen days.", "Parcels come back free of charge.")
HOURS = document("hours.md", "The counter opens at nine.")
LARGER, LARGEST = PassageSettings(max_tokens=40), PassageSettings(max_tokens=50)


class EndpointAt(WordEmbedder):
    """An endpoint as far as names go; `salt` makes its model another one under the same name."""

    def __init__(self, address: str, salt: str = "") -> None:
        super().__init__(revision="bge")
        self.name, self._salt = f"openai:http://{address}/v1#bge", salt

    def embed(self, texts):
        self.asked.extend(texts)
        return WordEmbedder().embed([" ".join(self._salt + word for word in text.split()) for text in texts])


class TestTwoRebuilds:
    def test_of_other_sizes_do_not_take_the_passages_from_each_other(self, store: Store) -> None:
        index = indexed(store, [RETURNS, HOURS]).index
        wanted = {"embedder": WordEmbedder(), "is_rebuilt": True}
        begun = index_for(store, index.project_id, "handbook", passages=LARGER, **wanted)  # pyright: ignore[reportArgumentType]
        with alone_in_store(store, index.id, doing="changing this index", remedy="wait"), pytest.raises(BusyError):
            index_for(store, index.project_id, "handbook", passages=LARGEST, **wanted)  # pyright: ignore[reportArgumentType]
        with store.reading() as connection:
            assert find_replacement(connection, index.id) == begun

    def test_whose_passages_are_gone_publish_nothing(self, store: Store) -> None:
        index = indexed(store, [RETURNS, HOURS]).index

        class Removing(WordEmbedder):
            def embed(self, texts):
                with store.writing() as connection:
                    if (made := find_replacement(connection, index.id)) is not None:
                        remove_index(connection, made.id)
                return super().embed(texts)

        with pytest.raises(ChangedMeanwhileError, match="run the same command again"):
            indexed(store, [RETURNS, HOURS], embedder=Removing(), passages=LARGER, is_rebuilt=True)
        assert len(texts_of(store, index)) == 3


class TestARebuildOfWhatCannotBeRead:
    def test_is_refused_where_something_would_be_lost(self, store: Store) -> None:
        index = indexed(store, [RETURNS, HOURS]).index
        with pytest.raises(ConfigError, match=r"returns\.md cannot be read this time.*nothing was changed"):
            indexed(store, [HOURS, unread("returns.md")], passages=LARGER, is_rebuilt=True)
        assert len(texts_of(store, index)) == 3
        update = indexed(store, [HOURS, RETURNS, unread("never.pdf")], passages=LARGER, is_rebuilt=True)
        assert update.index.passage_tokens == 40

    def test_empties_no_index(self, store: Store) -> None:
        index = indexed(store, [RETURNS, HOURS]).index
        with pytest.raises(ConfigError, match="no document was found, and the index has 2"):
            indexed(store, [], passages=LARGER, is_rebuilt=True)
        assert len(texts_of(store, index)) == 3

    def test_leaves_out_what_is_gone(self, store: Store) -> None:
        indexed(store, [RETURNS, HOURS])
        update = indexed(store, [HOURS], passages=LARGER, is_rebuilt=True)
        assert texts_of(store, update.index) == ["The counter opens at nine."]


def test_a_file_that_was_attached_while_all_was_made_anew_still_waits(store: Store) -> None:
    index = indexed(store, [RETURNS]).index
    file = StoredFile(
        id="file-1", project_id=index.project_id, filename="a.md", purpose="assistants", num_bytes=1, sha256="0",
        created_at=now(), expires_at=None,
    )  # fmt: skip

    class Attaching(WordEmbedder):
        def embed(self, texts):
            with store.writing() as connection:
                attach_file(connection, index.id, file, {"lang": "en"})
            return super().embed(texts)

    update = indexed(store, [RETURNS], embedder=Attaching(), passages=LARGER, is_rebuilt=True)
    with store.reading() as connection:
        waiting = list_documents(connection, update.index.id, status=DocumentStatus.IN_PROGRESS)
    assert [(one.file_id, one.attributes) for one in waiting] == [("file-1", {"lang": "en"})]
    assert len(texts_of(store, update.index)) == len(texts_of(store, index))


def test_a_table_with_many_broken_rows_loses_none_of_them(store: Store, tmp_path: Path) -> None:
    table = tmp_path / "faq.jsonl"
    rows = [json.dumps({"id": f"k{number}", "text": f"Answer number {number}."}) for number in range(60)]
    table.write_text("\n".join(rows))
    indexed(store, read_documents(str(tmp_path)))
    table.write_text("\n".join(['{"id": broken'] * 40 + rows[40:]))
    update = indexed(store, read_documents(str(tmp_path)))
    assert (update.num_removed, update.num_unread, update.num_unchanged) == (0, 40, 20)
    assert [finding.line for finding in update.findings if finding.code == "not-json"] == [*range(1, 21), None]


class TestAnEndpoint:
    def test_with_another_model_under_the_same_name_is_refused(self, store: Store) -> None:
        index = indexed(store, [RETURNS], embedder=EndpointAt("a")).index
        with pytest.raises(ConfigError, match=r"another model under the same name.*--rebuild"):
            indexed(store, [RETURNS, HOURS], embedder=EndpointAt("a", salt="x"))
        with store.reading() as connection:
            assert sizes_of(connection, index.id).num_documents == 1
        update = indexed(store, [RETURNS, HOURS], embedder=EndpointAt("a"))
        assert update.num_texts_embedded == 1

    def test_that_is_unchanged_is_not_asked_for_documents_that_are(self, store: Store) -> None:
        indexed(store, [RETURNS], embedder=EndpointAt("a"))
        again = EndpointAt("a")
        indexed(store, [RETURNS], embedder=again)
        assert again.asked == []

    def test_at_another_address_is_remembered_where_its_vectors_are_the_same(self, store: Store) -> None:
        indexed(store, [RETURNS], embedder=EndpointAt("a"))
        with pytest.raises(ConfigError, match="another model under the same name"):
            indexed(store, [RETURNS], embedder=EndpointAt("b", salt="x"))
        index = indexed(store, [RETURNS], embedder=EndpointAt("b")).index
        with store.reading() as connection:
            assert find_index(connection, index.project_id, index.id).embedder == "openai:http://b/v1#bge"
        assert index.embedder == "openai:http://b/v1#bge"

    def test_is_asked_once_by_a_server_whether_it_has_the_same_model(self, store: Store) -> None:
        index = indexed(store, [RETURNS, HOURS], embedder=EndpointAt("a")).index
        with pytest.raises(ConfigError, match="another model under the same name"):
            OpenEmbedders(lambda _name: EndpointAt("a", salt="x")).of_index(store, index)
        same = EndpointAt("a")
        embedders = OpenEmbedders(lambda _name: same)
        for _ in range(3):
            assert embedders.of_index(store, index).revision == same.revision
        assert len(same.asked) == 1

    def test_that_makes_all_anew_may_have_another_model(self, store: Store) -> None:
        indexed(store, [RETURNS], embedder=EndpointAt("a"))
        update = indexed(store, [RETURNS, HOURS], embedder=EndpointAt("a", salt="x"), is_rebuilt=True)
        assert update.num_texts_embedded == 3

    def test_that_changes_while_all_is_made_anew_has_all_embedded_by_the_last_one(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Dying(EndpointAt):
            def embed(self, texts):
                if len(self.asked) == 2:
                    raise KeyboardInterrupt
                return super().embed(texts)

        monkeypatch.setattr(vectors, "_TEXTS_AT_ONCE", 2)
        indexed(store, [RETURNS, HOURS], embedder=EndpointAt("a"))
        with pytest.raises(KeyboardInterrupt):
            indexed(store, [RETURNS, HOURS], embedder=Dying("a", salt="x"), is_rebuilt=True)
        last = EndpointAt("a", salt="y")
        update = indexed(store, [RETURNS, HOURS], embedder=last, is_rebuilt=True)
        found = {text: np.frombuffer(vector or b"", "<f4") for *_, text, vector in content_of(store, update.index)}
        assert len(found) == 3
        assert np.allclose(np.stack(list(found.values())), last.embed(list(found)), atol=1e-6)


def test_one_size_that_is_chosen_leaves_the_other_as_it_is_in_the_index(store: Store) -> None:
    project_id = project_of(store)
    assert _passages(store, project_id, "handbook", None, 10) == PassageSettings(overlap_tokens=10)
    index_for(store, project_id, "handbook", embedder=WordEmbedder(), passages=PASSAGES)
    assert _passages(store, project_id, "handbook", None, 10) == PassageSettings(max_tokens=32, overlap_tokens=10)
    assert _passages(store, project_id, "handbook", 40, None) == PassageSettings(max_tokens=40)
    assert _passages(store, project_id, "handbook", None, None) is None


def test_search_files_that_a_killed_run_left_behind_are_removed_by_the_next(store: Store) -> None:
    if store.is_postgresql:
        pytest.skip("about files")
    index = indexed(store, [RETURNS]).index
    for generation in (0, 7):
        (store.indexes / index.id / str(generation)).mkdir()
    indexed(store, [RETURNS])
    assert [path.name for path in (store.indexes / index.id).iterdir()] == ["1"]


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damaged_search_files_are_made_anew_where_the_same_documents_are_indexed_again(
    store: Store, damage: str
) -> None:
    index = indexed(store, [RETURNS, HOURS]).index
    keys = next(store.indexes.glob("*/*/files-*/keys.npy"))
    keys.write_bytes(b"not what was written") if damage == "changed" else keys.unlink()
    with pytest.raises(ResourceError, match=r"damaged: .*index the same documents again"):
        open_index(store, index)
    update = indexed(store, [RETURNS, HOURS])
    assert (update.index.generation, update.num_unchanged, update.num_texts_embedded) == (index.generation, 2, 0)
    assert len(open_index(store, index).matching("counter", 5)) == 1
