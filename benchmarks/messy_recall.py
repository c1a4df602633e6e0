"""How much of what is wrong with the messy inputs reading and checking find, and how much they find that is not there.

    python benchmarks/messy_recall.py --shared ../shared

Recall: rows with the defect that have a finding of its kinds. Precision: rows with a finding of these kinds that have the defect,
by the truth files, which do not know what the original texts held already (double spaces, repeats, rewordings, wrong labels): the
precision is a lower bound. Rows that reading leaves out (no text, no label) count for those two defects only.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fettle.examples.check import check_examples
from fettle.examples.checks.personal import personal_spans
from fettle.examples.duplicates import find_leaks
from fettle.examples.read import read_examples
from fettle.examples.task import recognise_task
from fettle.records import Action, Dataset, Finding, Severity

CODES_BY_DEFECT: dict[str, tuple[str, ...]] = {
    "pii": tuple(
        f"personal-{kind}" for kind in ("email", "phone", "card", "iban", "address", "name", "birth-date", "number")
    ),
    "wrong_label": ("probable-wrong-label", "conflicting-answers"),
    "exact_duplicate": ("exact-duplicate", "near-duplicate"),
    "near_duplicate": ("exact-duplicate", "near-duplicate"),
    "missing_label": ("empty-answer",),
    "empty_text": ("empty-input",),
    "html": ("html",),
    "greeting_signature": ("greeting-or-signature",),
    "white_space": ("white-space",),
    "label_spelling": ("label-spelling",),
    "quoted_thread": ("quoted-thread",),
    "shouting": ("shouting",),
    "conflicting_label": ("conflicting-answers",),
    "very_long": ("very-long",),
    "formula_start": ("formula-start",),
    "mojibake": ("doubly-encoded",),
    "spoiled_id": ("spoiled-id",),
}
TICKET_FILES = {
    "tickets_export_cp1252.csv": "tickets_export_truth.jsonl",
    "tickets_utf16.tsv": "tickets_utf16_truth.jsonl",
    "tickets_utf8_bom.csv": "tickets_utf8_bom_truth.jsonl",
}
OUR_RULE = {
    40: "a weight beside the messages is meant to do something, and does nothing",
    49: "nothing is learned from a row whose only answer has weight 0, and a study has no use for it",
}
"""Why we differ from a proposed verdict, by line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Recall and precision of one kind of defect."""

    num_there: int
    num_found: int
    num_reported: int
    num_reported_right: int

    @property
    def recall(self) -> float | None:
        """Found among those there, in [0, 1]; None when there are none."""
        return self.num_found / self.num_there if self.num_there else None

    @property
    def precision(self) -> float | None:
        """Right among those reported, in [0, 1]; None when nothing is reported."""
        return self.num_reported_right / self.num_reported if self.num_reported else None


def measure_tickets(folder: Path, name: str) -> dict[str, Measured]:
    """Recall and precision by defect in one of the ticket exports."""
    dataset = read_examples(folder / name)
    findings = check_examples(dataset)
    lines_by_code: dict[str, set[int]] = defaultdict(set)
    for finding in findings:
        if finding.line is not None:
            lines_by_code[finding.code].add(finding.line)
    left_out = lines_by_code["empty-answer"] | lines_by_code["empty-input"]
    truth = {row["row"] + 1: row for row in json_lines(folder / TICKET_FILES[name])}
    lines_by_defect: dict[str, set[int]] = defaultdict(set)
    for line, row in truth.items():
        for defect in row["defects"]:
            lines_by_defect[defect].add(line)
    for example in dataset.examples:
        if example.id != truth[example.source.line]["ticket_id"]:
            lines_by_defect["spoiled_id"].add(example.source.line)
    measured: dict[str, Measured] = {}
    for defect, codes in CODES_BY_DEFECT.items():
        there = lines_by_defect[defect]
        reported = {line for code in codes for line in lines_by_code[code]}
        if defect not in ("missing_label", "empty_text"):
            there, reported = there - left_out, reported - left_out
        elif defect == "missing_label":
            reported, there = reported - lines_by_defect["empty_text"], there - lines_by_defect["empty_text"]
        if there or reported:
            measured[defect] = Measured(
                num_there=len(there),
                num_found=len(there & reported),
                num_reported=len(reported),
                num_reported_right=len(there & reported),
            )
    measured["typographic (read right)"] = _characters_read_right(dataset, lines_by_defect["typographic"] - left_out)
    return measured


def _characters_read_right(dataset: Dataset, there: set[int]) -> Measured:
    """Quotes, dots, signs and accents are no defect once they are decoded: found here means that the text has them as they were."""
    texts = {example.source.line: example.input_text for example in dataset.examples}
    right = {
        line for line in there if re.search("[’‘“”…–—€£ïé]", texts[line]) and not re.search("[\ufffdÂÃâ]", texts[line])
    }
    return Measured(num_there=len(there), num_found=len(right), num_reported=len(right), num_reported_right=len(right))


def measure_personal_turns(folder: Path) -> tuple[dict[str, Measured], Measured]:
    """Recall by the annotators' kinds (any overlap with what we found, of any kind), and of turns as a whole."""
    there: Counter[str] = Counter()
    found: Counter[str] = Counter()
    turns = Counter[str]()
    for row in json_lines(folder / "pii_turns.jsonl"):
        ours = personal_spans(row["text"])
        for span in row["spans"]:
            there[span["label"]] += 1
            found[span["label"]] += any(span["start"] < our.end and our.start < span["end"] for our in ours)
        turns.update(there=bool(row["spans"]), reported=bool(ours), right=bool(ours and row["spans"]))
    by_kind = {
        kind: Measured(num_there=count, num_found=found[kind], num_reported=0, num_reported_right=0)
        for kind, count in there.most_common()
    }
    whole = Measured(
        num_there=turns["there"],
        num_found=turns["right"],
        num_reported=turns["reported"],
        num_reported_right=turns["right"],
    )
    return by_kind, whole


def measure_leaks(folder: Path) -> dict[str, Measured]:
    """Leaks planted in `leaky_test.jsonl`, exact and near."""
    train = read_examples(folder / "leaky_train.jsonl").examples
    test = read_examples(folder / "leaky_test.jsonl").examples
    reported = {leak.second.source.line for leak in find_leaks(train, test)}
    truth = json.loads((folder / "leaky_truth.json").read_text())
    planted = {row["test_line"] for row in truth}
    measured = {}
    for kind in ("exact", "near"):
        there = {row["test_line"] for row in truth if row["kind"] == kind}
        others = reported - (planted - there)
        measured[f"leak, {kind}"] = Measured(
            num_there=len(there),
            num_found=len(there & reported),
            num_reported=len(others),
            num_reported_right=len(there & reported),
        )
    return measured


def measure_noisy_labels(folder: Path) -> Measured:
    """Wrong labels planted in `noisy_labels.jsonl`."""
    dataset = read_examples(folder / "noisy_labels.jsonl")
    findings = check_examples(dataset, recognise_task(dataset.examples))
    reported = {finding.line for finding in findings if finding.code == "probable-wrong-label"}
    there = {row["line"] for row in json.loads((folder / "noisy_labels_truth.json").read_text())}
    return Measured(
        num_there=len(there),
        num_found=len(there & reported),
        num_reported=len(reported),
        num_reported_right=len(there & reported),
    )


def compare_verdicts(folder: Path) -> list[tuple[int, str, str, str]]:
    """(line, proposed verdict and why, what we do, why we differ) of every line of `chat_broken.ndjson` on which we differ."""
    dataset = read_examples(folder / "chat_broken.ndjson")
    by_line: dict[int, list[Finding]] = defaultdict(list)
    for finding in check_examples(dataset):
        if finding.line is not None:
            by_line[finding.line].append(finding)
    used = {example.source.line for example in dataset.examples}
    differences = []
    for row in json.loads((folder / "chat_broken_verdicts.json").read_text()):
        line, proposed = row["line"], row["verdict"]
        findings = by_line[line]
        ours = _verdict(findings, is_used=line in used)
        is_same = ours == proposed or (proposed == "convertible" and line in used)
        if not is_same:
            said = "; ".join(finding.message for finding in findings) or "nothing"
            differences.append((line, f"{proposed} ({row['why']})", f"{ours}: {said}", OUR_RULE.get(line, "")))
    return differences


def _verdict(findings: list[Finding], *, is_used: bool) -> str:
    if any(finding.severity is Severity.ERROR and finding.action is Action.LEFT_OUT for finding in findings):
        return "error"
    if not is_used:
        return "skip"
    # Duplicates, personal data and the like concern the content; the verdicts are about the form.
    about_form = [finding for finding in findings if not finding.code.startswith(("personal-", "near-dup", "conflict"))]
    return "warning" if any(finding.severity is Severity.WARNING for finding in about_form) else "ok"


def json_lines(path: Path) -> list[Mapping[str, Any]]:
    """The rows of a truth file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def show(title: str, measured: Mapping[str, Measured]) -> None:
    """Print one table."""
    print(f"\n{title}\n{'defect':30} {'there':>6} {'found':>6} {'recall':>7} {'reported':>9} {'precision':>10}")
    for name, values in measured.items():
        recall = "" if values.recall is None else f"{values.recall:.0%}"
        precision = "" if values.precision is None else f"{values.precision:.0%}"
        print(
            f"{name:30} {values.num_there:6} {values.num_found:6} {recall:>7} {values.num_reported:9} {precision:>10}"
        )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="the folder that has data/messy_inputs")
    folder = parser.parse_args().shared / "data" / "messy_inputs"
    for name in TICKET_FILES:
        show(name, measure_tickets(folder, name))
    show("leaky_train.jsonl, leaky_test.jsonl", measure_leaks(folder))
    show("noisy_labels.jsonl", {"wrong label": measure_noisy_labels(folder)})
    by_kind, whole = measure_personal_turns(folder)
    show("pii_turns.jsonl (annotators' spans)", by_kind | {"turns with any": whole})
    sms = read_examples(folder / "sms_spam_cp1252.csv")
    codes = Counter(finding.code for finding in check_examples(sms))
    print(
        f"\nsms_spam_cp1252.csv: {len(sms.examples)} of 5565 rows read;"
        f" {codes['exact-duplicate']} exact repeats (402 byte for byte)"
    )
    print("   ", ", ".join(f"{code} {count}" for code, count in codes.most_common()))
    differences = compare_verdicts(folder)
    print(f"\nchat_broken.ndjson: {73 - len(differences)} of 73 verdicts as proposed")
    for line, proposed, ours, why in differences:
        print(f"  line {line}: proposed {proposed}; ours {ours}{f' [{why}]' if why else ''}")


if __name__ == "__main__":
    main()
