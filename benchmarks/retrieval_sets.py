"""Sets of questions with their documents, from data that was made for other tasks, for `retrieval_quality.py --data`.

    .venv/bin/python benchmarks/retrieval_sets.py --shared ../shared --into sets
    .venv/bin/python benchmarks/retrieval_quality.py --data sets/catalogue_asked --split all

Each folder has `docs.jsonl` (id, title, text) and `questions.jsonl` (question, doc_ids, split, answerable). Only `train` and
`valid` are taken, but for BoolQ, which has few. The catalogue is made up. Manual pages (German, Spanish, English) are read from
folders such as `usr/share/man/de` of Debian's `manpages-de`, where `--manual-pages` names one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Documents, and questions with the ids of those that answer them."""

    name: str
    titles_and_texts: Mapping[str, tuple[str, str]]
    questions: Sequence[tuple[str, frozenset[str]]]


def rows_of(folder: Path, *names: str) -> list[Row]:
    """The rows of some files of JSON Lines."""
    return [json.loads(line) for name in names for line in (folder / name).open()]


def drawn(items: Sequence[Any], number: int, seed: int) -> list[Any]:
    """So many at random."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:number]


def squad_keywords(data: Path) -> QuestionSet:
    """Answers of three to eight words as a query: short, and word for word in the paragraph."""
    folder = data / "rag_squad2"
    texts = {row["id"]: (row["title"], row["text"]) for row in rows_of(folder, "docs.jsonl")}
    asked = [row for row in rows_of(folder, "questions.jsonl") if row["split"] == "train" and row["answerable"]]
    short = [(row["answer"], frozenset(row["doc_ids"])) for row in asked if 3 <= len(row["answer"].split()) <= 8]
    return QuestionSet("squad_keywords", texts, drawn(short, 400, 0))


def banking(data: Path) -> Iterator[QuestionSet]:
    """Messages of one queue are paraphrases of each other: among single messages, and with five messages a document."""
    folder = data / "routing_banking77"
    by_label: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows_of(folder, "train.jsonl"):
        by_label[row["label"]].append(row["messages"][1]["content"])
    asked = [(row["messages"][1]["content"], row["label"]) for row in rows_of(folder, "valid.jsonl")]
    single = {f"{label}/{n}": ("", one) for label, some in by_label.items() for n, one in enumerate(drawn(some, 8, 1))}
    same = {label: frozenset(name for name in single if name.rpartition("/")[0] == label) for label in by_label}
    yield QuestionSet("banking_messages", single, [(text, same[label]) for text, label in drawn(asked, 500, 0)])
    joined = {label: (label.replace("_", " "), "\n".join(drawn(some, 5, 2))) for label, some in by_label.items()}
    yield QuestionSet("banking_faq", joined, [(text, frozenset({label})) for text, label in drawn(asked, 500, 3)])


def answered(name: str, rows: Sequence[tuple[str, str, str]], num_questions: int) -> QuestionSet:
    """Of (id, question, answer): each answer is a document."""
    texts = {name: ("", answer) for name, _, answer in rows}
    return QuestionSet(name, texts, [(question, frozenset({own})) for own, question, _ in rows[:num_questions]])


def dialogues(data: Path) -> Iterator[QuestionSet]:
    """Replies, solutions and answers by what was asked: short and long questions."""
    rows = drawn(rows_of(data / "support_replies_bitext", "train.jsonl"), 700, 4)
    chats = [(row["id"], row["messages"][-2]["content"], row["messages"][-1]["content"]) for row in rows]
    yield answered("bitext_replies", chats, 400)
    rows = rows_of(data / "general_math_gsm8k", "train.jsonl")[:600]
    yield answered("gsm8k", [(r["id"], r["messages"][1]["content"], r["messages"][2]["content"]) for r in rows], 300)
    for name, files in {
        "preferences_hh": ("train.jsonl",),
        "preferences_general": ("train.jsonl", "valid.jsonl"),
    }.items():
        pairs = [
            (r["id"], r["input"]["messages"][-1]["content"][:3000], r["preferred_output"][0]["content"][:1500])
            for r in rows_of(data / name, *files)
        ]
        yield answered(name, [one for one in pairs if name != "preferences_hh" or len(one[2]) > 150], len(pairs))


def boolq(data: Path) -> QuestionSet:
    """Questions that people typed into a search engine, and the passages that answer them."""
    texts: dict[str, tuple[str, str]] = {}
    asked: list[tuple[str, str]] = []
    for row in rows_of(data / "general_mcq", "valid.jsonl", "test.jsonl"):
        if row["subset"] == "boolq":
            passage, _, rest = row["messages"][1]["content"].partition("\n\n")
            texts[row["id"]] = ("", passage)
            asked.append((rest.partition("\nA.")[0].strip(), passage))
    same: defaultdict[str, set[str]] = defaultdict(set)
    for name, (_, passage) in texts.items():
        same[passage].add(name)
    return QuestionSet("boolq", texts, [(question, frozenset(same[passage])) for question, passage in asked])


def catalogue() -> Iterator[QuestionSet]:
    """Made-up articles that differ in their numbers: the number alone, and questions that name it."""
    chosen = random.Random(7)
    things = ["drill", "saw", "lamp", "chair", "desk", "pump", "valve", "filter", "motor", "hose", "cable", "battery"]
    kinds = ["compact", "heavy-duty", "cordless", "industrial", "portable", "silent", "waterproof", "ergonomic"]
    texts: dict[str, tuple[str, str]] = {}
    for _ in range(600):
        letters, digits = "".join(chosen.choices("ABCDEFGHKMLNPRST", k=2)), chosen.randint(1000, 9999)
        number = f"{letters}-{digits}{chosen.choice(['', '-X', '/2', 'B'])}"
        thing, maker = (
            chosen.choice(things),
            chosen.choice(["Akron", "Belmar", "Cortex", "Dynavolt", "Ecoline", "Ferrum"]),
        )
        text = (
            f"The {chosen.choice(kinds)} {thing} by {maker}, article {number}, draws {chosen.randint(5, 900)} W at "
            f"{chosen.choice([12, 24, 110, 230])} V. It comes with a warranty of {chosen.randint(1, 10)} years and ships in "
            f"{chosen.randint(1, 14)} days. Spare parts are listed under {number}."
        )
        texts[number] = (f"{maker} {thing}", text)
    numbers = chosen.sample(sorted(texts), 300)
    questions = [
        "What is the warranty of {}?",
        "how many watts does {} draw",
        "When will I get my {} if I order it today?",
        "is {} still available and what voltage does it need?",
    ]
    yield QuestionSet("catalogue_bare", texts, [(one, frozenset({one})) for one in numbers])
    asked = [(chosen.choice(questions).format(one), frozenset({one})) for one in numbers]
    yield QuestionSet("catalogue_asked", texts, asked)


def manual_pages(folder: Path) -> QuestionSet:
    """What a page says, by the line that sums it up, which the documents do not have."""
    texts: dict[str, tuple[str, str]] = {}
    asked: list[tuple[str, frozenset[str]]] = []
    for path in sorted(folder.glob("man[1-8]/*.gz")):
        page = re.sub(
            r'^\.\\".*$', "", gzip.decompress(path.read_bytes()).decode("utf-8", "replace"), flags=re.MULTILINE
        )
        page = re.sub(r"\\f.|\\,|\\/|\\&|\\c", "", page).replace("\\-", "-")
        heads: dict[str, str] = {}
        for section in re.split(r"^\.SH\s+", page, flags=re.MULTILINE):
            head, _, body = section.partition("\n")
            heads[head.strip('" ').upper()] = body
        name = next((heads[one] for one in ("BEZEICHNUNG", "NOMBRE", "NAME") if one in heads), "")
        body = next((heads[one] for one in ("BESCHREIBUNG", "DESCRIPCIÓN", "DESCRIPTION") if one in heads), "")
        summary = re.search(r"\S\s+-\s+(.{15,})", " ".join(name.split("\n")))
        body = re.sub(r"^\.(?:B|I|BR|IR|RB|RI|BI|IB)\s+", "", body, flags=re.MULTILINE)
        body = re.sub(r"\n\s*\n+", "\n\n", re.sub(r"^\.[A-Za-z]+.*$", "", body, flags=re.MULTILINE)).strip()[:900]
        if summary and len(body) >= 200:
            texts[path.stem] = ("", body)
            asked.append((summary[1].strip()[:200], frozenset({path.stem})))
    kept = set(drawn(sorted(texts), 500, 5))
    return QuestionSet(
        f"manual_{folder.name}", {name: texts[name] for name in sorted(kept)}, [one for one in asked if one[1] <= kept]
    )


def main() -> None:
    """Write all sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--into", type=Path, required=True, help="where a folder a set is written")
    parser.add_argument("--manual-pages", type=Path, nargs="*", default=[], help="folders with man1, man2, …")
    arguments = parser.parse_args()
    data = arguments.shared / "data"
    sets = [squad_keywords(data), *banking(data), *dialogues(data), boolq(data), *catalogue()]
    for one in [*sets, *map(manual_pages, arguments.manual_pages)]:
        folder = arguments.into / one.name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "docs.jsonl").open("w") as file:
            for name, (title, text) in one.titles_and_texts.items():
                file.write(json.dumps({"id": name, "title": title, "text": text}, ensure_ascii=False) + "\n")
        with (folder / "questions.jsonl").open("w") as file:
            for question, right in one.questions:
                row = {"question": question, "doc_ids": sorted(right), "split": "all", "answerable": True}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"{one.name}: {len(one.questions)} questions, {len(one.titles_and_texts)} documents")


if __name__ == "__main__":
    main()
