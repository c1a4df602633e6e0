"""How well measures of groundedness tell supported answers from unsupported ones: AUC, on questions about documents.

    .venv/bin/python benchmarks/groundedness.py DOCS.jsonl QUESTIONS.jsonl [--limit 600] [--minilm]

DOCS has `id`, `title` and `text` (a paragraph each); QUESTIONS has `question`, `answer` (a span of the paragraph), `doc_ids` and
`answerable`, as in SQuAD 2.0. Supported answers are the right span, the question said again with it, and the sentence that it
stands in. Unsupported ones have the span of another paragraph, a number with one digit changed, or a sentence of another paragraph.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fettle.records import Example, Location, Message
from fettle.scoring.graders.groundedness import Groundedness, groundedness, passages_of

_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

Measure = Callable[[str, str, str], float | None]
"""(answer, passage, question) to a score; None: it has nothing to say."""


@dataclass(frozen=True, slots=True)
class Question:
    """An answerable question with its paragraph and the sentence that answers it."""

    text: str
    answer: str
    passage: str
    title: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Case:
    """Answers of one kind: pairs of an answer and its question."""

    name: str
    supported: Sequence[tuple[str, Question]]
    unsupported: Sequence[tuple[str, Question]]


def main() -> None:
    """Print a table: a row for each kind of answer, a column for each measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("docs", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--limit", type=int, default=600)
    parser.add_argument("--minilm", action="store_true", help="also the embedded embedder, which takes minutes")
    arguments = parser.parse_args()
    docs = {row["id"]: row for row in rows_of(arguments.docs)}
    rows = rows_of(arguments.questions)
    measures: dict[str, Measure] = {"groundedness": shipped, "all words": plain_precision}
    if arguments.minilm:
        measures["MiniLM"] = minilm()
    print(f"{'AUC (mean of supported, of unsupported)':44}{'pairs':>6}" + "".join(f"{name:>22}" for name in measures))
    for case in cases(rows, docs, limit=arguments.limit):
        found = [told(case, measure) for measure in measures.values()]
        num = len(case.supported) + len(case.unsupported)
        print(f"{case.name:44}{num:6}" + "".join(f"{text:>22}" for text in found))
    report_abstentions(rows, docs)


def cases(rows: Sequence[Any], docs: dict[str, Any], *, limit: int) -> list[Case]:
    """All kinds of answers, drawn with one seed."""
    rng = random.Random(0)
    questions = [q for row in rows if row["answerable"] and (q := question_of(row, docs)) is not None]
    rng.shuffle(questions)
    by_title = defaultdict(list)
    for one in questions:
        by_title[one.title].append(one)
    some = questions[:limit]
    numbered = [one for one in questions if _NUMBER.search(one.answer)][:limit]

    def neighbour(of: Question) -> Question:
        """A question about another paragraph of the article, whose answer this paragraph has not."""
        absent = [one for one in by_title[of.title] if one.answer.casefold() not in of.passage.casefold()]
        return rng.choice(absent)

    def stranger(of: Question) -> Question:
        return rng.choice([one for one in questions if one.title != of.title])

    def wrong_number(text: str) -> str:
        return _NUMBER.sub(lambda found: changed_digit(found[0], rng), text, count=1)

    spans = [(one.answer, one) for one in some]
    sentences = [(one.sentence, one) for one in some]
    said = [(f"{one.text.rstrip('?')}: {one.answer}.", one) for one in some]
    said_numbers = [(f"{one.text.rstrip('?')}: {{}}.", one) for one in numbered]
    return [
        Case("span; of another article", spans, [(stranger(one).answer, one) for one in some]),
        Case("span; of another paragraph", spans, [(neighbour(one).answer, one) for one in some]),
        Case("span; number changed", [(n.answer, n) for n in numbered], [(wrong_number(n.answer), n) for n in numbered]),
        Case("question and span; of another paragraph", said,
             [(f"{one.text.rstrip('?')}: {neighbour(one).answer}.", one) for one in some]),
        Case("question and span; number changed", [(text.format(n.answer), n) for text, n in said_numbers],
             [(text.format(wrong_number(n.answer)), n) for text, n in said_numbers]),
        Case("sentence; of another paragraph", sentences, [(neighbour(one).sentence, one) for one in some]),
        Case("sentence; number changed", [(n.sentence, n) for n in numbered],
             [(n.sentence.replace(n.answer, wrong_number(n.answer)), n) for n in numbered]),
        Case("sentence; span of another paragraph in it", sentences,
             [(one.sentence.replace(one.answer, neighbour(one).answer), one) for one in some]),
        Case("two sentences; one of another paragraph", sentences,
             [(f"{one.sentence} {neighbour(one).sentence}", one) for one in some]),
    ]  # fmt: skip


def report_abstentions(rows: Sequence[Any], docs: dict[str, Any]) -> None:
    """How often "not in the documents" is known for what it is, and a right answer taken for it."""
    grader = Groundedness()
    wanted = [row["answer"] for row in rows if not row["answerable"]]
    answers = [q for row in rows if row["answerable"] and (q := question_of(row, docs)) is not None]
    print(f"said that there is no answer: known {sum(map(grader.abstentions.is_abstention, wanted))} of {len(wanted)}")
    wrongly = sum(grader.abstentions.is_abstention(one.answer) for one in answers)
    of_sentences = sum(grader.abstentions.is_abstention(one.sentence) for one in answers)
    print(f"taken for that: {wrongly} of {len(answers)} right spans, {of_sentences} of their sentences")


def shipped(answer: str, passage: str, question: str) -> float | None:
    """The grader's measure, with passages and question read from a prompt."""
    prompt = f"{passage}\n\nQuestion: {question}"
    messages = (Message(role="user", content=prompt), Message(role="assistant", content=answer))
    passages, asked = passages_of(Example(id="", messages=messages, source=Location(file="", line=1)))
    return groundedness(answer, passages=passages, question=asked)


def plain_precision(answer: str, passage: str, question: str) -> float | None:  # noqa: ARG001 (a measure)
    """Share of all words of the answer that the passage has."""
    words, known = _WORD.findall(answer.casefold()), set(_WORD.findall(passage.casefold()))
    return sum(word in known for word in words) / len(words) if words else None


def minilm() -> Measure:
    """Mean over the answer's sentences of the cosine with the nearest sentence of the passage."""
    from fettle.retrieval.embedder import CachedEmbedder, MiniLMEmbedder

    embedder = CachedEmbedder(MiniLMEmbedder())

    def measure(answer: str, passage: str, question: str) -> float:  # noqa: ARG001 (a measure)
        ours, theirs = (embedder.embed(_SENTENCE_END.split(text)) for text in (answer, passage))
        return float((ours @ theirs.T).max(axis=1).mean())

    return measure


def told(case: Case, measure: Measure) -> str:
    """AUC and the two means; what the measure has nothing to say about is left out."""
    pos, neg = (
        np.array([v for text, one in some if (v := measure(text, one.passage, one.text)) is not None])
        for some in (case.supported, case.unsupported)
    )
    sorted_neg = np.sort(neg)
    below = np.searchsorted(sorted_neg, pos, "left") + np.searchsorted(sorted_neg, pos, "right")
    return f"{below.sum() / (2 * len(pos) * len(neg)):.3f} ({pos.mean():.2f}, {neg.mean():.2f})"


def question_of(row: Any, docs: dict[str, Any]) -> Question | None:
    """A question whose answer stands in one sentence of its paragraph."""
    doc = docs[row["doc_ids"][0]]
    sentence = next((text for text in _SENTENCE_END.split(doc["text"]) if row["answer"] in text), None)
    if sentence is None:
        return None
    return Question(row["question"].strip(), row["answer"], doc["text"], doc["title"], sentence)


def changed_digit(number: str, rng: random.Random) -> str:
    """The number with one of its digits changed."""
    place = rng.choice([place for place, character in enumerate(number) if character.isdigit()])
    return number[:place] + rng.choice([d for d in "123456789" if d != number[place]]) + number[place + 1 :]


def rows_of(file: Path) -> list[Any]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


if __name__ == "__main__":
    main()
