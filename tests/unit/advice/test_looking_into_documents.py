"""What advice says of documents before a study: counted as the study's report counts it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from fettle.advice.in_documents import look_into_documents
from fettle.retrieval.records import SearchSettings
from found_passages import ListedLookup, ListedRetriever, asked, passage


def test_a_copy_of_the_right_passage_is_the_right_document_found() -> None:
    questions = [asked(f"What of {number}?", f"It is {number} metres.", documents=["b.md"]) for number in range(12)]
    copies = [passage(document, "All of it is here.", title="Bridges") for document in ("a.md", "b.md")]
    other = passage("c.md", "Nothing of it is here.")
    shown = {one.user_text: [copies[0]] if number % 3 else [other] for number, one in enumerate(questions)}
    documents = SimpleNamespace(
        settings=SimpleNamespace(search=SearchSettings()),
        lookup=ListedLookup(*copies, other),
        retriever=lambda *, method: ListedRetriever(shown, name=method.value),
    )
    plan = SimpleNamespace(
        split=SimpleNamespace(cluster_by_id={one.id: n for n, one in enumerate(questions)}), findings=()
    )
    look = look_into_documents(cast("Any", plan), cast("Any", documents), questions)
    assert look.found is not None
    assert round(cast("float", look.found.value), 3) == round(8 / 12, 3)
    assert look.answers is not None
    assert look.answers.value == 0
