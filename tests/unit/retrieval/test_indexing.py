"""An index is brought up to date: what changed is embedded, what is gone is removed, and nothing half done is ever found."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import fresh_store
from fettle.errors import BusyError, ConfigError, IntegrityError
from fettle.progress import Stage
from fettle.records import Finding
from fettle.retrieval import vectors
from fettle.retrieval.indexes.registry import backend_named, open_index
from fettle.retrieval.indexing import index_for, make_searchable, update_index
from fettle.retrieval.records import Document, PassageSettings, SearchMethod, SearchSettings
from fettle.retrieval.search import IndexSearch
from fettle.retrieval.staging import stage_documents
from fettle.store.backup import back_up
from fettle.store.database import Store
from fettle.store.indexes import (
    ChangedMeanwhileError,
    StoredIndex,
    list_all_indexes,
    list_documents,
    remove_documents,
    remove_index,
    sizes_of,
)
from fettle.store.locks import alone_in_store
from fettle.store.passages import list_unembedded
from fettle.store.restore import restore
from indexed import PASSAGES, SILENT, WordEmbedder, content_of, document, indexed, project_of, texts_of, unread

RETURNS = document("returns.md", "Refunds take fourteen days.", "Parcels come back free of charge.")
HOURS = document("hours.md", "The counter opens at nine.", attributes={"lang": "en"})
FILES = Path(__file__).parent / "indexed_until_killed.py"


def found(store: Store, index: StoredIndex, question: str, embedder: WordEmbedder | None = None) -> list[str]:
    opened = open_index(store, index)
    settings = SearchSettings(method=SearchMethod.FULL_TEXT)
    return [one.passage.text for one in IndexSearch(opened, embedder or WordEmbedder(), settings).search(question)]


class TestAnUpdate:
    def test_makes_documents_found(self, store: Store) -> None:
        update = indexed(store, [RETURNS, HOURS])
        assert (update.num_added, update.num_texts_embedded, update.index.generation) == (2, 3, 1)
        assert found(store, update.index, "refunds") == ["Refunds take fourteen days."]
        opened = open_index(store, update.index)
        assert opened.description.num_passages == 3
        assert opened.description.num_documents == 2

    def test_of_nothing_new_embeds_nothing_and_stays_in_its_generation(self, store: Store) -> None:
        indexed(store, [RETURNS, HOURS])
        embedder = WordEmbedder()
        update = indexed(store, [HOURS, RETURNS], embedder=embedder)
        assert (update.num_unchanged, update.index.generation, embedder.asked) == (2, 1, [])

    def test_embeds_only_the_passages_that_changed(self, store: Store) -> None:
        indexed(store, [RETURNS, HOURS])
        embedder = WordEmbedder()
        changed = document("returns.md", "Refunds take thirty days.", "Parcels come back free of charge.")
        update = indexed(store, [changed, HOURS], embedder=embedder)
        assert embedder.asked == ["Refunds take thirty days."]
        assert (update.num_changed, update.num_unchanged, update.index.generation) == (1, 1, 2)
        assert found(store, update.index, "refunds") == ["Refunds take thirty days."]

    def test_removes_what_is_gone(self, store: Store) -> None:
        indexed(store, [RETURNS, HOURS])
        update = indexed(store, [HOURS])
        assert (update.num_removed, texts_of(store, update.index)) == (1, ["The counter opens at nine."])
        assert found(store, update.index, "refunds") == []

    def test_embeds_equal_texts_once(self, store: Store) -> None:
        embedder = WordEmbedder()
        copies = [document(f"{number}.md", "All rights reserved.", f"Page {number}.") for number in range(5)]
        update = indexed(store, copies, embedder=embedder)
        assert sorted(embedder.asked) == ["All rights reserved.", *(f"Page {number}." for number in range(5))]
        assert len(texts_of(store, update.index)) == 10
        assert all(vector is not None for *_, vector in content_of(store, update.index))

    def test_tells_passages_and_their_pace(self, store: Store) -> None:
        stages: list[Stage] = []

        class Listener:
            def on_stage(self, stage: Stage) -> None:
                stages.append(stage)

            def on_message(self, text: str) -> None:
                pass

        indexed(store, [RETURNS], listener=Listener())  # pyright: ignore[reportArgumentType]
        embedding = next(stage for stage in stages if stage.name == "embed passages")
        assert (embedding.num_done, embedding.num_total) == (2, 2)
        assert embedding.note.endswith(" passages/s")
        ends = {stage.name: stage.num_done == stage.num_total for stage in stages}
        assert ends == {"read documents": True, "embed passages": True, "make search files": True}

    def test_keeps_text_that_no_database_takes(self, store: Store) -> None:
        update = indexed(store, [document("odd.md", "a zero \0 and half a \udcff pair")])
        assert texts_of(store, update.index) == ["a zero \ufffd and half a ? pair"]
        assert indexed(store, [document("odd.md", "a zero \0 and half a \udcff pair")]).num_unchanged == 1

    def test_has_the_same_hash_for_the_same_content_only(self, store: Store) -> None:
        first = open_index(store, indexed(store, [RETURNS, HOURS]).index).description.sha256
        other = open_index(store, indexed(store, [HOURS, RETURNS], name="other").index).description.sha256
        third = open_index(store, indexed(store, [HOURS], name="third").index).description.sha256
        assert first == other != third


class TestWhatCannotBeRead:
    def test_stays_as_it_was(self, store: Store) -> None:
        indexed(store, [RETURNS, HOURS])
        update = indexed(store, [HOURS, unread("returns.md")])
        assert (update.num_unread, update.num_removed, update.index.generation) == (1, 0, 1)
        assert found(store, update.index, "refunds") == ["Refunds take fourteen days."]
        assert [finding.code for finding in update.findings] == ["encrypted", "kept-as-it-was"]

    def test_of_a_table_keeps_its_rows(self, store: Store) -> None:
        rows = [document(f"faq.csv:{row}", f"Answer number {row}.") for row in (2, 3)]
        indexed(store, [*rows, HOURS])
        assert indexed(store, [HOURS, unread("faq.csv")]).num_unread == 2
        update = indexed(store, [HOURS, rows[0], unread("faq.csv", 3)])
        assert (update.num_unread, update.num_removed) == (1, 0)

    def test_empties_no_index(self, store: Store) -> None:
        index = indexed(store, [RETURNS, HOURS]).index
        with pytest.raises(ConfigError, match="nothing was removed"):
            indexed(store, [])
        assert len(texts_of(store, index)) == 3

    def test_removes_nothing_where_reading_breaks_off(self, store: Store) -> None:
        index = indexed(store, [RETURNS, HOURS]).index

        def broken() -> Iterator[Document | Finding]:
            yield HOURS
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            indexed(store, broken())
        assert found(store, index, "refunds") == ["Refunds take fourteen days."]


class TestDocumentsFromSeveralPlaces:
    def test_do_not_remove_each_other(self, store: Store) -> None:
        index = indexed(store, [RETURNS]).index
        embedder = WordEmbedder()
        attached = [document("file-1", "An attached price list.")]
        update = update_index(store, index, attached, embedder=embedder, listener=SILENT, file_id="file-1")
        assert update.num_added == 1
        update = indexed(store, [HOURS, RETURNS])
        assert len(texts_of(store, update.index)) == 4
        assert found(store, update.index, "price") == ["An attached price list."]
        update = update_index(store, update.index, [], embedder=embedder, listener=SILENT, file_id="file-1")
        assert (update.num_removed, len(texts_of(store, update.index))) == (1, 3)

    def test_cannot_share_an_id(self, store: Store) -> None:
        index = indexed(store, [RETURNS]).index
        update = update_index(store, index, [RETURNS], embedder=WordEmbedder(), listener=SILENT, file_id="file-1")
        assert [finding.code for finding in update.findings] == ["same-id"]
        assert len(texts_of(store, index)) == 2

    def test_nor_can_two_of_one_place(self, store: Store) -> None:
        update = indexed(store, [RETURNS, document("returns.md", "Another one."), HOURS])
        assert [finding.code for finding in update.findings] == ["same-id"]
        assert update.num_added == 2


class TestAMismatch:
    def test_of_the_embedder_is_refused_with_what_came_and_the_remedy(self, store: Store) -> None:
        indexed(store, [RETURNS])
        with pytest.raises(ConfigError, match=r"first.*second.*--rebuild"):
            indexed(store, [RETURNS], embedder=WordEmbedder(revision="second"))
        with pytest.raises(ConfigError, match=r"dimensions 16.*dimensions 8"):
            indexed(store, [RETURNS], embedder=WordEmbedder(num_dimensions=8))

    def test_of_the_passages_is_refused_unless_nothing_is_said_of_them(self, store: Store) -> None:
        indexed(store, [RETURNS])
        with pytest.raises(ConfigError, match=r"passage tokens 32.*passage tokens 40"):
            indexed(store, [RETURNS], passages=PassageSettings(max_tokens=40))
        assert indexed(store, [RETURNS], passages=None).num_unchanged == 1

    @pytest.mark.parametrize(("passages", "flag"), [
        (PassageSettings(max_tokens=65), "--passage-tokens"),
        (PassageSettings(max_tokens=31), "--passage-tokens"),
        (PassageSettings(max_tokens=40, overlap_tokens=21), "--overlap-tokens"),
    ])  # fmt: skip
    def test_of_passages_and_embedder_is_refused(self, store: Store, passages: PassageSettings, flag: str) -> None:
        with pytest.raises(ConfigError) as caught:
            indexed(store, [RETURNS], passages=passages)
        assert caught.value.where == flag

    def test_of_vectors_stops_the_update(self, store: Store) -> None:
        class Broken(WordEmbedder):
            def embed(self, texts):
                return super().embed(texts) * float("nan")

        with pytest.raises(IntegrityError, match="finite"):
            indexed(store, [RETURNS], embedder=Broken())


class TestARebuild:
    def test_takes_the_place_of_the_index_under_its_id(self, store: Store) -> None:
        old = indexed(store, [RETURNS, HOURS]).index
        second = WordEmbedder(num_dimensions=8, revision="second")
        new = indexed(store, [HOURS], embedder=second, passages=PassageSettings(max_tokens=33), is_rebuilt=True).index
        assert (new.id, new.name, new.generation) == (old.id, "handbook", old.generation + 1)
        assert (new.embedder_revision, new.num_dimensions, new.passage_tokens) == ("second", 8, 33)
        assert found(store, new, "opens", second) == ["The counter opens at nine."]
        with store.reading() as connection:
            assert [index.id for index in list_all_indexes(connection)] == [old.id]
            assert sizes_of(connection, old.id).num_documents == 1

    def test_leaves_the_index_as_it_is_until_then_and_is_gone_on_with(self, store: Store) -> None:
        index = indexed(store, [RETURNS, HOURS]).index
        second = WordEmbedder(revision="second")
        wanted = {"embedder": second, "passages": PASSAGES, "is_rebuilt": True}

        def broken() -> Iterator[Document]:
            yield from [
                document(f"{number}.md", *(f"Line {number} {line}." for line in range(500))) for number in range(5)
            ]
            raise KeyboardInterrupt

        made = index_for(store, index.project_id, "handbook", **wanted)  # pyright: ignore[reportArgumentType]
        with pytest.raises(KeyboardInterrupt):
            update_index(store, made, broken(), embedder=second, listener=SILENT)
        assert found(store, index, "refunds") == ["Refunds take fourteen days."]
        assert index_for(store, index.project_id, "handbook", **wanted) == made  # pyright: ignore[reportArgumentType]
        update = indexed(store, [HOURS], **wanted)  # pyright: ignore[reportArgumentType]
        assert texts_of(store, update.index) == ["The counter opens at nine."]

    def test_is_refused_where_files_were_attached(self, store: Store) -> None:
        index = indexed(store, [RETURNS]).index
        attached = [document("file-1", "An attached price list.")]
        update_index(store, index, attached, embedder=WordEmbedder(), listener=SILENT, file_id="file-1")
        with pytest.raises(ConfigError, match="attached over the API"):
            indexed(store, [RETURNS], is_rebuilt=True)


class TestTwoAtOnce:
    def test_the_second_is_refused(self, store: Store) -> None:
        index = indexed(store, [RETURNS]).index
        with (
            alone_in_store(store, index.id, doing="changing this index", remedy="wait"),
            pytest.raises(BusyError, match=r"another process.*is changing this index"),
        ):
            indexed(store, [RETURNS])
        assert indexed(store, [RETURNS]).num_unchanged == 1

    def test_a_text_whose_passage_is_removed_meanwhile_is_embedded_for_the_other(self, store: Store) -> None:
        twice = [document("one.md", "All rights reserved."), document("two.md", "All rights reserved.")]

        embedder = WordEmbedder()
        index = index_for(store, project_of(store), "handbook", embedder=embedder, passages=PASSAGES)
        staged = stage_documents(store, index, twice, embedder=embedder, listener=SILENT, file_id=None)
        with store.writing() as connection:
            missing = list_unembedded(connection, index.id)
            remove_documents(connection, [min(staged.added)])
        assert vectors._embed(store, index, embedder, missing) == 0
        assert vectors.embed_missing(store, index, embedder, SILENT) == 1

    def test_an_index_that_is_removed_meanwhile_does_not_come_back(self, store: Store) -> None:
        index = indexed(store, [RETURNS]).index

        class Removing(WordEmbedder):
            def embed(self, texts):
                with store.writing() as connection:
                    remove_index(connection, index.id)
                return super().embed(texts)

        with pytest.raises(ChangedMeanwhileError):
            indexed(store, [HOURS, RETURNS], embedder=Removing())
        with store.reading() as connection:
            assert list_documents(connection, index.id) == ()


class TestSearchFiles:
    def test_are_made_anew_where_they_are_gone(self, store: Store) -> None:
        index = indexed(store, [RETURNS, HOURS]).index
        backend = backend_named(index.backend)
        backend.discard(store, index.id, keep=None)
        assert not backend.is_prepared(store, index)
        make_searchable(store, index, SILENT)
        assert found(store, index, "refunds") == ["Refunds take fourteen days."]
        backend.discard(store, index.id, keep=None)
        assert indexed(store, [RETURNS, HOURS]).index.generation == 1
        assert found(store, index, "refunds") == ["Refunds take fourteen days."]

    def test_are_made_anew_after_a_restore(self, store: Store, tmp_path: Path) -> None:
        index = indexed(store, [RETURNS, HOURS]).index
        back_up(store, tmp_path / "kept.tar.gz", SILENT)
        with fresh_store(tmp_path / "restored") as restored:
            restore(restored, tmp_path / "kept.tar.gz", SILENT)
            make_searchable(restored, index, SILENT)
            assert found(restored, index, "refunds") == ["Refunds take fourteen days."]
            assert content_of(restored, index) == content_of(store, index)
            assert indexed(restored, [RETURNS, HOURS]).num_texts_embedded == 0

    def test_of_older_generations_are_deleted_and_can_be_read_on(self, store: Store) -> None:
        if store.is_postgresql:
            pytest.skip("about files")
        opened = open_index(store, indexed(store, [RETURNS, HOURS]).index)
        index = indexed(store, [HOURS]).index
        assert [path.name for path in (store.indexes / index.id).iterdir()] == ["2"]
        keys = [one.key for one in opened.matching("refunds counter", 5)]
        assert len(keys) == 2
        assert [passage.text for passage in opened.passages(keys)] == ["The counter opens at nine."]


@pytest.mark.skipif(os.environ.get("FETTLE_TEST_DATABASE_URL") is not None, reason="about SQLite")
@pytest.mark.parametrize("seed", range(2))
def test_an_index_that_was_killed_again_and_again_equals_one_that_was_not(tmp_path: Path, seed: int) -> None:
    """A process of its own ends by SIGKILL after so many words to its listener; another one goes on, until one is done."""
    chance = random.Random(seed)
    asked = tmp_path / "asked"
    kills = 0
    for _ in range(30):
        num_left = chance.randint(2, 22)
        command = [sys.executable, str(FILES), str(tmp_path / "killed"), str(asked), str(num_left)]
        code = subprocess.run(command, check=False, env={"PYTHONPATH": ":".join(sys.path)}).returncode
        if code == 0:
            break
        assert code == -9
        kills += 1
    assert kills >= 2, "it was killed while it worked"
    from indexed_until_killed import DOCUMENTS, OLD_DOCUMENTS

    whole = Store(tmp_path / "whole")
    indexed(whole, OLD_DOCUMENTS)
    expected = indexed(whole, DOCUMENTS).index
    killed = Store(tmp_path / "killed")
    with killed.reading() as connection:
        (index,) = list_all_indexes(connection)
    assert content_of(killed, index) == content_of(whole, expected)
    assert found(killed, index, "counter 6") == found(whole, expected, "counter 6")
    times = asked.read_text().splitlines()
    assert len(times) - len(set(times)) <= kills * 8, "at most the batch of the kill was embedded again"
    assert project_of(killed) == index.project_id
