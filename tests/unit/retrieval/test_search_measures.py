"""Measures of search against their definitions."""

from __future__ import annotations

import math

import pytest

from fettle.retrieval.lookup import PassageSet
from fettle.retrieval.measures import documents_of, measure
from fettle.retrieval.records import Found
from searched import passage


def test_a_document_counts_once_at_its_best_passage() -> None:
    documents = ["a", "b", "a", "c", "b"]
    found = [
        Found(passage=passage(key, "text", document_id=document), rank=key, score=1.0)
        for key, document in enumerate(documents, start=1)
    ]
    assert documents_of(found) == ("a", "b", "c")


def test_a_passage_counts_for_every_right_document_that_has_a_copy_of_it() -> None:
    shown, copy, other = (passage(key, "text", document_id=document) for key, document in enumerate("abc", start=1))
    elsewhere = passage(4, "other text", document_id="d")
    found = [Found(passage=one, rank=rank, score=1.0) for rank, one in enumerate((elsewhere, shown), start=1)]
    assert documents_of(found, PassageSet([shown, copy])) == ("d", "a", "b")
    assert documents_of(found, PassageSet([copy, other])) == ("d", "b", "c")
    assert documents_of(found, PassageSet([])) == ("d", "a")


def test_measures_of_several_right_documents() -> None:
    measured = measure(["x", "a", "y", "b"], {"a", "b", "c"}, k=4)
    assert measured.recall == pytest.approx(2 / 3)
    assert measured.reciprocal_rank == 1 / 2
    gain = 1 / math.log2(3) + 1 / math.log2(5)
    assert measured.ndcg == pytest.approx(gain / (1 + 1 / math.log2(3) + 1 / math.log2(4)))


def test_ndcg_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import ndcg_score

    relevances, scores = [0, 1, 0, 1, 1, 0], [6, 5, 4, 3, 2, 1]
    ranked = ["a", "b", "c", "d", "e", "f"]
    for k in range(1, 7):
        expected = ndcg_score([relevances], [scores], k=k)
        assert measure(ranked, {"b", "d", "e"}, k=k).ndcg == pytest.approx(expected)


def test_nothing_found_is_worth_nothing() -> None:
    measured = measure([], ["a"], k=5)
    assert (measured.recall, measured.reciprocal_rank, measured.ndcg) == (0, 0, 0)


@pytest.mark.parametrize(("ranked", "right", "k"), [(["a"], [], 1), (["a"], ["a"], 0), (["a", "a"], ["a"], 2)])
def test_what_cannot_be_measured_is_refused(ranked: list[str], right: list[str], k: int) -> None:
    with pytest.raises(ValueError, match="expected a right document"):
        measure(ranked, right, k=k)
