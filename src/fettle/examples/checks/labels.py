"""Labels that are spelled in several ways, too rare, or alone; answers of a JSON task that are not JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from fettle.examples.duplicates import plain_label
from fettle.examples.json_schema import parse_object
from fettle.examples.notes import Note, info, warning
from fettle.records import Action, Example, Finding, Severity, Task, TaskKind

_TYPO_SIMILARITY = 90
_TYPO_SHARE = 0.1
_MAX_TYPO_LETTERS = 2
_MIN_TYPO_CHARACTERS = 5
_RARE = 5


def usual_spellings(examples: Sequence[Example]) -> dict[str, str]:
    """The usual spelling of every answer that is an unusual spelling of another: other case, spaces or marks at its end, or a typo.

    A typo is a rare label that begins like one at least ten times as frequent and differs from it in two letters at most; what
    differs in a digit, or in its first letter as `unpaid` does from `paid`, is never a typo.
    """
    counts = Counter(example.answer for example in examples)
    by_words: dict[str, list[str]] = defaultdict(list)
    for answer in counts:
        by_words[plain_label(answer)].append(answer)
    usual: dict[str, str] = {}
    frequent: dict[str, str] = {}
    for words, spellings in by_words.items():
        # Among equally frequent spellings the one that most labels follow: no capitals, no stray spaces.
        best = max(
            spellings, key=lambda text: (counts[text], text == text.strip(), text == text.lower(), "_" in text, text)
        )
        frequent[words] = best
        usual |= {spelling: best for spelling in spellings if spelling != best}
    totals = {words: sum(counts[spelling] for spelling in by_words[words]) for words in by_words}
    for words, target in _typos(totals).items():
        usual |= dict.fromkeys(by_words[words], frequent[target])
    return usual


def _typos(totals: Mapping[str, int]) -> dict[str, str]:
    from rapidfuzz import fuzz, process
    from rapidfuzz.distance import Levenshtein

    found: dict[str, str] = {}
    for words, total in totals.items():
        candidates = [other for other, count in totals.items() if other != words and total <= _TYPO_SHARE * count]
        if len(words) < _MIN_TYPO_CHARACTERS or not candidates:
            continue
        best = process.extractOne(words, candidates, scorer=fuzz.ratio, score_cutoff=_TYPO_SIMILARITY)
        if (
            best
            and words[0] == best[0][0]
            and Levenshtein.distance(words, best[0]) <= _MAX_TYPO_LETTERS
            and (_digits(words) == _digits(best[0]) and len(words.split()) == len(best[0].split()))
        ):
            found[words] = best[0]
    return found


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def check_label_spelling(examples: Sequence[Example], task: Task) -> Iterator[Finding]:
    """Rows whose label is an unusual spelling of another."""
    if task.kind is not TaskKind.LABELS:
        return
    usual = usual_spellings(examples)
    for example in examples:
        if example.answer in usual:
            text = f"label {example.answer!r} is usually spelled {usual[example.answer]!r}"
            yield warning("label-spelling", text, "spell it the usual way; --fix does").at(example.source)


def check_label_counts(examples: Sequence[Example], task: Task) -> Iterator[Finding]:
    """An error when there is only one label, a note about labels with fewer than five examples."""
    if task.kind is not TaskKind.LABELS or not examples:
        return
    usual = usual_spellings(examples)
    counts = Counter(usual.get(example.answer, example.answer).strip() for example in examples)
    file = examples[0].source.file
    if len(counts) == 1:
        yield Note(
            code="one-label",
            severity=Severity.ERROR,
            action=Action.KEPT,
            message=f"every example has the label {next(iter(counts))!r}: there is nothing to learn",
            remedy="add examples of other labels, or name another answer column with --answer",
        ).about(file)
    elif rare := sorted(label for label, count in counts.items() if count < _RARE):
        shown = ", ".join(rare[:5]) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
        text = f"{len(rare)} of {len(counts)} labels have fewer than {_RARE} examples: {shown}"
        yield info("rare-labels", text, "collect more of them, or join them into one label").about(file)


def check_untaught_labels(train: Sequence[Example], held_out: Sequence[Example], task: Task) -> Iterator[Finding]:
    """Held-out rows with a label that no training row has; only parts of the user's own have any."""
    if task.kind is not TaskKind.LABELS:
        return
    taught = {example.answer.strip() for example in train}
    for example in held_out:
        if example.answer.strip() not in taught:
            text = f"the label {example.answer.strip()!r} is on no training example, so no contender can give it"
            yield warning("untaught-label", text, "correct the label, or add training examples of it").at(
                example.source
            )


def check_json_answers(examples: Sequence[Example], task: Task) -> Iterator[Finding]:
    """Answers that are no JSON object in a task whose answers are."""
    if task.kind is not TaskKind.JSON:
        return
    for example in examples:
        if parse_object(example.answer) is None and not example.messages[-1].tool_calls:
            yield warning(
                "answer-not-json", "the answer is not a JSON object", "write it as JSON, or remove the row"
            ).at(example.source)
