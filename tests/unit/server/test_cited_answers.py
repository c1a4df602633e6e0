"""Which numbers of an answer name passages, as the server tells it."""

from __future__ import annotations

from fettle.retrieval.fence import Wording
from fettle.retrieval.records import Found
from fettle.server.retrieving import Retrieval, citations, retrieval_body
from found_passages import passage

FOUND = tuple(
    Found(passage=passage(f"{number}.md", "Refunds take five days."), rank=number, score=0.5) for number in (1, 2)
)


def test_numbers_of_an_answer_name_passages_where_the_model_was_asked_to_name_them() -> None:
    retrieval = Retrieval(index_id="vs_1", question="How long?", found=FOUND)
    assert [(one.found.rank, one.index) for one in citations("Five days. [2][3]", retrieval)] == [(2, 11)]
    assert retrieval_body(retrieval, ["Five days. [2]"])["cited"] == [FOUND[1].passage.id]


def test_an_answers_own_numbers_name_no_passage() -> None:
    """Such as those of a study whose training answers end with numbers of their own."""
    retrieval = Retrieval(index_id="vs_1", question="How long?", found=FOUND, wording=Wording(asks_for_citations=False))
    assert citations("As of section 4. [2]", retrieval) == ()
    told = retrieval_body(retrieval, ["As of section 4. [2]"])
    assert (told["cited"], len(told["results"])) == ([], 2)
