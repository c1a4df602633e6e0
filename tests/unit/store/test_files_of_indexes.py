"""What the API shows of the documents of an index, those of a folder among them."""

from __future__ import annotations

from pathlib import Path

from databases import fresh_store
from fettle.progress import SilentListener
from fettle.retrieval.staging import stage_documents
from fettle.store.attached_files import count_files, find_file_of_index, list_files_of_index
from fettle.store.indexes import DocumentStatus
from fettle.store.pages import PageRequest
from indexed import WordEmbedder, document, indexed


def test_a_document_that_is_being_read_again_is_shown_once_as_it_can_be_found(tmp_path: Path) -> None:
    names = [f"part-{number}" for number in range(5)]
    with fresh_store(tmp_path / "home") as store:
        index = indexed(store, [document(name, "About roads.") for name in names]).index
        changed = [document(name, "About ice.") for name in names[:3]]
        new = document("new", "About storms.")
        stage_documents(store, index, [*changed, new], embedder=WordEmbedder(), listener=SilentListener(), file_id=None)
        with store.reading() as connection:
            seen, after = [], None
            while True:
                page = list_files_of_index(connection, index.id, PageRequest(limit=2, after=after))
                seen += [one.id for one in page.items]
                if not page.has_more:
                    break
                after = seen[-1]
            assert sorted(seen) == sorted([*names, "new"])
            assert count_files(connection, index.id)[0] == {DocumentStatus.COMPLETED: 5, DocumentStatus.IN_PROGRESS: 1}
            assert find_file_of_index(connection, index.id, names[0]).status is DocumentStatus.COMPLETED
            assert find_file_of_index(connection, index.id, "new").status is DocumentStatus.IN_PROGRESS
