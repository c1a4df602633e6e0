"""Realistic study reports for tests and for looking at: every task kind, and the odd cases. Seeded, no files, no models."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product

from fettle.records import Comparison, Decision, Task, TaskKind, Verdict
from fettle.report_records import AnswerRow, Confusion, LengthHistogram, PartScores, Provenance, StudyReport
from report_forgetting import forgetting, strength_sweep
from report_parts import (
    assembled,
    confused,
    confusion,
    histogram,
    mutated,
    reply,
    row,
    shared_fields,
)
from report_routing import routing
from report_tried import curve, search

TOPICS = ("card", "transfer", "top_up", "cash_withdrawal", "exchange_rate", "refund", "identity", "account")
TOPICS += ("direct_debit", "virtual_card", "passcode")
PROBLEMS = ("not_arrived", "pending", "declined", "wrong_amount_charged", "fee_explained", "limits", "not_recognised")
LABELS = tuple(f"{topic}_{problem}" for topic, problem in product(TOPICS, PROBLEMS))
QUESTIONS = (
    "I still have not received my {}, I ordered it over a week ago. What is going on?",
    "why was my {} declined twice today",
    "Hi there, there's a charge for {} on my statement that I do not recognise at all",
    "How much does {} cost abroad?",
    "my {} says pending since friday!! pls help, rent is due and I really cannot wait any longer for this to be sorted out",
    "Can someone explain the fee for {}?",
)


def label_report(*, num_rows: int = 500, labels: Sequence[str] = LABELS, seed: int = 1) -> StudyReport:
    """A label task with five contenders, where the classifier is the baseline and the tuned model loses to it."""
    rng = random.Random(seed)
    skills = {"tuned": 0.81, "few_shot": 0.66, "classifier": 0.89, "remote": 0.84, "prompt": 0.07}
    rows = []
    for i in range(num_rows):
        wanted = labels[min(len(labels) - 1, int(rng.triangular(0, len(labels), 12)))]
        answers = {
            name: wanted if rng.random() < skill else confused(wanted, labels, rng) for name, skill in skills.items()
        }
        text = rng.choice(QUESTIONS).format(wanted.replace("_", " "))
        rows.append(row(i, text, wanted, answers, {name: float(said == wanted) for name, said in answers.items()}))
    rows[7] = replace(
        rows[7],
        scores={**rows[7].scores, "remote": None},
        answers={**rows[7].answers, "remote": ""},
        errors={"remote": "HTTP 500: overloaded"},
    )
    confusions = tuple(confusion(name, rows, labels) for name in ("tuned", "classifier"))
    report = assembled(
        name="routing_banking77",
        task=Task(kind=TaskKind.LABELS, reason="77 different answers among 1,500, each short", labels=tuple(labels)),
        graders=("exact_label", "macro_f1", "label_likelihood"),
        rows=rows,
        pair=("tuned", "classifier"),
        verdict=Verdict(
            decision=Decision.STAY,
            headline="Ship the classifier, not a language model: it is right about 8 points more often and answers in "
            "2 milliseconds.",
            reasons=(
                "The tuned model is 7.8 points below the classifier (95 % interval −11.4 to −4.2).",
                "The classifier needs no GPU and no language model; training it took 16 seconds.",
                "Against the best prompted model the tuned one would have won: +15.4 points.",
            ),
        ),
        confusions=confusions,
    )
    return replace(report, learning_curve=curve(), settings_search=search(), routing=routing())


def json_report(*, num_rows: int = 120, seed: int = 2) -> StudyReport:
    """A JSON task that ships; some answers are nested, some are no JSON."""
    rng = random.Random(seed)
    rows = []
    for i in range(num_rows):
        wanted = {
            "queue": rng.choice(["lost_parcel", "damage", "address_change", "billing"]),
            "urgency": rng.choice(["low", "normal", "high"]),
            "tracking_number": rng.choice([None, f"PK{rng.randrange(10**9):09d}GB"]),
            "amount": rng.choice([None, 12.5, 40, 99.99]),
            "address": {
                "postcode": rng.choice([None, "LS1 4AP"]),
                "lines": ["12 Hill Rise", "Leeds"][: rng.randrange(3)],
            },
        }
        answers = {
            "tuned": json.dumps(mutated(wanted, rng, 0.15)),
            "few_shot": json.dumps(mutated(wanted, rng, 0.45)),
            "prompt": "Sure! Here is the JSON you asked for:\n" + json.dumps(wanted, indent=2)
            if rng.random() < 0.4
            else json.dumps(mutated(wanted, rng, 0.9)),
        }
        scores = {name: shared_fields(text, wanted) for name, text in answers.items()}
        message = f"Parcel {wanted['tracking_number'] or ''} still not here, third time I write!! " + rng.choice(
            QUESTIONS
        )
        message = message.format("parcel")
        rows.append(row(i, message, json.dumps(wanted), answers, scores))
    return assembled(
        name="parcel triage",
        task=Task(
            kind=TaskKind.JSON, reason="every answer is a JSON object with the same five fields", json_schema="{}"
        ),
        graders=("json_fields", "json_exact", "json_valid"),
        rows=rows,
        pair=("tuned", "few_shot"),
        verdict=Verdict(
            decision=Decision.SHIP,
            headline="Ship the tuned model: it fills in the fields correctly far more often than the best prompt.",
            reasons=("The whole interval lies above zero.", "Every answer was valid JSON."),
        ),
        forgotten=forgetting(lost=0.01, own_lost=0.0),
        sweep=strength_sweep(lost=0.08, chosen=0.75),
    )


def text_report(*, num_rows: int = 90, seed: int = 3) -> StudyReport:
    """A text task with long answers, a length histogram, and no decision."""
    rng = random.Random(seed)
    rows = []
    for i in range(num_rows):
        wanted = reply(rng, rng.randrange(40, 180))
        answers = {"tuned": reply(rng, rng.randrange(40, 190)), "few_shot": reply(rng, rng.randrange(20, 420))}
        answers["prompt"] = reply(rng, 900 if i == 3 else rng.randrange(10, 120))
        scores = {
            name: min(1.0, max(0.0, rng.gauss(mean, 0.09)))
            for name, mean in (("tuned", 0.47), ("few_shot", 0.455), ("prompt", 0.36))
        }
        question = rng.choice(QUESTIONS).format("parcel") + (" And another thing. " * 40 if i == 1 else "")
        rows.append(row(i, question, wanted, answers, scores))
    report = assembled(
        name="support replies in the house style",
        task=Task(kind=TaskKind.TEXT, reason="the answers are free text of 40 to 180 words"),
        graders=("chrf", "rouge_l", "house_style"),
        rows=rows,
        pair=("tuned", "few_shot"),
        verdict=Verdict(
            decision=Decision.CANNOT_TELL,
            headline="Nobody can tell yet whether fine-tuning helps here: the difference is smaller than this test split can show.",
            reasons=(
                "The interval reaches from clearly worse to clearly better.",
                "About 640 more test examples would probably decide it.",
            ),
            num_more_test_examples=640,
        ),
        histogram=histogram(rows),
        forgotten=forgetting(lost=0.14),
        sweep=strength_sweep(lost=1.4, chosen=1.0),
    )
    return replace(
        report,
        warnings=(
            "chrF compares characters with one wanted reply; a good reply in other words scores low.",
            "This test split has been looked at 4 times; figures that were chosen by looking are too good.",
        ),
        provenance=replace(report.provenance, test_look_number=2, num_test_looks=4),
    )


def untrained_report() -> StudyReport:
    """Nothing was trained and nothing was found: two contenders, no comparison with a tuned one."""
    report = label_report(num_rows=24, labels=LABELS[:6], seed=4)
    kept = ("prompt", "few_shot")
    return replace(
        report,
        name="tiny",
        training=None,
        findings=(),
        contenders=tuple(one for one in report.contenders if one.name in kept),
        comparisons=(),
        confusions=(),
        part_scores=tuple(one for one in report.part_scores if one.contender in kept),
        rows=tuple(
            replace(
                row,
                answers={name: row.answers[name] for name in kept},
                scores={name: row.scores[name] for name in kept},
            )
            for row in report.rows
        ),
        verdict=Verdict(
            decision=Decision.CANNOT_TELL, headline="Nothing was trained, so nothing can be said.", reasons=()
        ),
    )


def long_names_report() -> StudyReport:
    """Everything that can be long is long, with and without spaces."""
    report = label_report(num_rows=40, labels=tuple(f"{label}_" + "and_so_on_" * 5 for label in LABELS[:14]), seed=5)
    longest = "a_very_long_name_without_any_space_" * 3
    return replace(
        report,
        name=longest + "study",
        contenders=tuple(
            replace(
                one, title=f"{one.title}, which has been given a title that nobody would want to read twice, {longest}"
            )
            for one in report.contenders
        ),
        findings=tuple(replace(one, file=f"data/{longest}/{one.file}") for one in report.findings),
        warnings=(longest,),
    )


def hostile_report(planted: str) -> StudyReport:
    """A report in which every text that people, models or files can write is `planted`."""
    report = json_report(num_rows=6)
    name_of = {one.name: f"{planted}{i}" for i, one in enumerate(report.contenders)}

    def renamed(comparison: Comparison) -> Comparison:
        return replace(
            comparison,
            challenger=name_of[comparison.challenger],
            baseline=name_of[comparison.baseline],
            p_value_method=planted,
        )

    settings = {planted: planted}
    nested = json.dumps({planted: 1, "other": [planted]})
    assert report.training is not None
    return replace(
        report,
        name=planted,
        task=replace(report.task, reason=planted),
        verdict=replace(report.verdict, headline=planted, reasons=(planted,)),
        declaration=planted,
        contenders=tuple(
            replace(
                one,
                name=name_of[one.name],
                title=planted,
                description=planted,
                note=planted,
                metrics=tuple(replace(metric, grader=planted + metric.grader) for metric in one.metrics),
            )
            for one in report.contenders
        ),
        primary_metric=planted + report.primary_metric,
        comparisons=tuple(renamed(one) for one in report.comparisons),
        training=replace(report.training, base_model=planted, tuned_path=planted, settings=settings),
        findings=tuple(
            replace(one, code=planted, message=planted, remedy=planted, file=planted) for one in report.findings
        ),
        num_examples={planted: 3},
        rows=tuple(
            AnswerRow(
                example_id=planted,
                source=planted,
                input_text=planted,
                wanted=json.dumps({planted: planted}),
                answers={name: (planted, nested)[i % 2] for i, name in enumerate(name_of.values())},
                scores=dict.fromkeys(name_of.values(), 0.5),
                errors=dict.fromkeys(list(name_of.values())[-1:], planted),
            )
            for _ in report.rows
        ),
        part_scores=tuple(
            PartScores(
                contender=name_of[one.contender],
                parts=tuple(replace(part, name=f"{planted}{i}") for i, part in enumerate(one.parts)),
            )
            for one in report.part_scores
        ),
        confusions=(Confusion(contender=planted, labels=(planted, "b"), counts=((1, 2, 3), (4, 5, 6))),),
        length_histogram=LengthHistogram(bin_edges=(0, 10, 20), counts_by_series={planted: (1, 2), "wanted": (2, 1)}),
        provenance=Provenance(
            command=planted,
            seed=1,
            created_at=planted,
            fettle_version=planted,
            versions={planted: planted},
            machine=planted,
            data_sha256={planted: planted},
            split_sha256={planted: planted},
            template_sha256=planted,
            model_sha256=planted,
            instruction=planted,
            instruction_origin=planted,
            settings=settings,
            test_look_number=1,
            num_test_looks=1,
        ),
        warnings=(planted,),
    )


ALL: Mapping[str, Callable[[], StudyReport]] = {
    "labels": label_report,
    "json": json_report,
    "text": text_report,
    "untrained": untrained_report,
    "long_names": long_names_report,
}
