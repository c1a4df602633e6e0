"""Sentences that sound like no answer, and stand in the documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

from small_studies import answer, split

from fettle.records import Example, Split
from fettle.retrieval.records import SearchMethod
from fettle.scoring.abstention import Abstentions, learn_abstentions, usual_abstention
from fettle.scoring.graders.answer_or_abstention import AnswerOrAbstention
from fettle.scoring.graders.text import ExactText
from fettle.study.told_answers import told_findings, with_told_answers
from found_passages import ListedLookup, ListedRetriever, asked, passage

PETS = passage("pets.md", "Animals. The handbook does not cover pets! Ask the desk.", title="Pets")
HOURS = passage("hours.md", "We open at nine.", title="Hours")
SENTENCE = "The handbook does not cover pets."
NOT_SAID = "The handbook does not say."


class Documents:
    """As much of a study's documents as is asked."""

    settings = SimpleNamespace(search=SimpleNamespace(method=SearchMethod.HYBRID))
    lookup = ListedLookup(PETS, HOURS)

    def retriever(self, **_more: object) -> ListedRetriever:
        return ListedRetriever({"May I bring my dog?": [HOURS, PETS], "Who was Fax?": [HOURS]})


def marked(*examples: Example) -> Split:
    return with_told_answers(split(train=examples, valid=(), test=()), Documents())  # pyright: ignore[reportArgumentType]


def told(examples: Sequence[Example]) -> list[bool]:
    return [example.is_told for example in examples]


def test_what_the_named_documents_say_themselves_is_an_answer() -> None:
    examples = marked(
        asked("Dogs?", SENTENCE, documents=["hours.md", "pets.md"]),
        asked("Cats?", SENTENCE, documents=["hours.md"]),
        asked("Cows?", SENTENCE, documents=[]),
        asked("Fax?", NOT_SAID, documents=["pets.md"]),
        asked("Hours?", "We open at nine.", documents=["hours.md"]),
    )
    assert told(examples.train) == [True, False, False, False, False]
    [finding] = told_findings(examples)
    assert "1 of 5 answers" in finding.message
    assert not told_findings(marked(asked("Hours?", "We open at nine.")))


def test_where_none_is_named_what_search_finds_is_looked_at() -> None:
    examples = marked(
        asked("May I bring my dog?", SENTENCE),
        asked("May I bring my dog?", NOT_SAID, id_="other"),
        asked("Who was Fax?", SENTENCE),
    )
    assert told(examples.train) == [True, False, False]


def test_it_is_scored_learned_and_said_as_an_answer() -> None:
    example = replace(asked("Dogs?", SENTENCE, id_="e1", documents=["pets.md"]), is_told=True)
    abstentions = Abstentions()
    assert not abstentions.is_wanted(example)
    assert abstentions.is_wanted(replace(example, is_told=False))
    grader = AnswerOrAbstention(inner=ExactText(), abstentions=abstentions)
    assert grader.score(example, answer("e1", SENTENCE)).value == 1
    assert grader.score(example, answer("e1", NOT_SAID)).value == 0
    train = [example] * 5 + [asked("Fax?", NOT_SAID, documents=[])] * 3
    assert usual_abstention(train, learn_abstentions(train), otherwise="-") == NOT_SAID
