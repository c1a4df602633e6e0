"""Realistic study reports for tests and for looking at: every task kind, and the odd cases. Seeded, no files, no models."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product

from fettle.records import (
    Action,
    AnswerRow,
    Comparison,
    Confusion,
    ContenderResult,
    Decision,
    Detectable,
    Finding,
    Interval,
    LengthHistogram,
    LossPoint,
    Metric,
    Provenance,
    Resources,
    Severity,
    StudyReport,
    Task,
    TaskKind,
    TrainingSummary,
    Verdict,
)

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
TITLES = {
    "tuned": "Tuned (LoRA)",
    "few_shot": "Few-shot, nearest",
    "classifier": "Classifier",
    "remote": "Remote gpt-large",
    "prompt": "Prompt",
}
DESCRIPTIONS = {
    "tuned": "SmolLM2-135M-Instruct with a LoRA adapter of rank 16, trained on 1,500 examples; adapter strength 1.0 and the "
    "checkpoint of step 220 chosen on validation. Answers constrained to the label set.",
    "few_shot": "The same model without an adapter, with the 8 nearest training examples in the prompt; nearest neighbours beat "
    "the fixed set on validation (0.71 against 0.48).",
    "classifier": "Logistic regression over MiniLM embeddings and TF-IDF of words and characters, C = 10. No language model.",
    "remote": "gpt-large at an OpenAI-compatible endpoint, with the instruction and the label list in the prompt.",
    "prompt": "The same model without an adapter, with an instruction derived from the data and the label list.",
}


def label_report(*, num_rows: int = 500, labels: Sequence[str] = LABELS, seed: int = 1) -> StudyReport:
    """A label task with five contenders, where the classifier is the baseline and the tuned model loses to it."""
    rng = random.Random(seed)
    skills = {"tuned": 0.81, "few_shot": 0.66, "classifier": 0.89, "remote": 0.84, "prompt": 0.07}
    rows = []
    for i in range(num_rows):
        wanted = labels[min(len(labels) - 1, int(rng.triangular(0, len(labels), 12)))]
        answers = {name: wanted if rng.random() < skill else _confused(wanted, labels, rng) for name, skill in skills.items()}
        text = rng.choice(QUESTIONS).format(wanted.replace("_", " "))
        rows.append(_row(i, text, wanted, answers, {name: float(said == wanted) for name, said in answers.items()}))
    rows[7] = replace(rows[7], scores={**rows[7].scores, "remote": None}, answers={**rows[7].answers, "remote": ""})
    confusions = tuple(_confusion(name, rows, labels) for name in ("tuned", "classifier"))
    return _report(
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
            "address": {"postcode": rng.choice([None, "LS1 4AP"]), "lines": ["12 Hill Rise", "Leeds"][: rng.randrange(3)]},
        }
        answers = {
            "tuned": json.dumps(_mutated(wanted, rng, 0.15)),
            "few_shot": json.dumps(_mutated(wanted, rng, 0.45)),
            "prompt": "Sure! Here is the JSON you asked for:\n" + json.dumps(wanted, indent=2)
            if rng.random() < 0.4
            else json.dumps(_mutated(wanted, rng, 0.9)),
        }
        scores = {name: _shared_fields(text, wanted) for name, text in answers.items()}
        message = f"Parcel {wanted['tracking_number'] or ''} still not here, third time I write!! {rng.choice(QUESTIONS).format('parcel')}"
        rows.append(_row(i, message, json.dumps(wanted), answers, scores))
    return _report(
        name="parcel triage",
        task=Task(kind=TaskKind.JSON, reason="every answer is a JSON object with the same five fields", json_schema="{}"),
        graders=("json_fields", "json_exact", "json_valid"),
        rows=rows,
        pair=("tuned", "few_shot"),
        verdict=Verdict(
            decision=Decision.SHIP,
            headline="Ship the tuned model: it fills in the fields correctly far more often than the best prompt.",
            reasons=("The whole interval lies above zero.", "Every answer was valid JSON."),
        ),
    )


def text_report(*, num_rows: int = 90, seed: int = 3) -> StudyReport:
    """A text task with long answers, a length histogram, and no decision."""
    rng = random.Random(seed)
    rows = []
    for i in range(num_rows):
        wanted = _reply(rng, rng.randrange(40, 180))
        answers = {"tuned": _reply(rng, rng.randrange(40, 190)), "few_shot": _reply(rng, rng.randrange(20, 420))}
        answers["prompt"] = _reply(rng, 900 if i == 3 else rng.randrange(10, 120))
        scores = {name: min(1.0, max(0.0, rng.gauss(mean, 0.09))) for name, mean in
                  (("tuned", 0.47), ("few_shot", 0.455), ("prompt", 0.36))}  # fmt: skip
        question = rng.choice(QUESTIONS).format("parcel") + (" And another thing. " * 40 if i == 1 else "")
        rows.append(_row(i, question, wanted, answers, scores))
    report = _report(
        name="support replies in the house style",
        task=Task(kind=TaskKind.TEXT, reason="the answers are free text of 40 to 180 words"),
        graders=("chrf", "rouge_l", "house_style"),
        rows=rows,
        pair=("tuned", "few_shot"),
        verdict=Verdict(
            decision=Decision.CANNOT_TELL,
            headline="Nobody can tell yet whether fine-tuning helps here: the difference is smaller than this test split can show.",
            reasons=("The interval reaches from clearly worse to clearly better.",),
            num_more_test_examples=640,
        ),
        histogram=_histogram(rows),
    )
    return replace(
        report,
        warnings=(
            "chrF compares characters with one wanted reply; a good reply in other words scores low.",
            "This test split has been looked at 4 times; figures that were chosen by looking are too good.",
        ),
        provenance=replace(report.provenance, num_test_looks=4),
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
        rows=tuple(
            replace(row, answers={name: row.answers[name] for name in kept}, scores={name: row.scores[name] for name in kept})
            for row in report.rows
        ),
        verdict=Verdict(decision=Decision.CANNOT_TELL, headline="Nothing was trained, so nothing can be said.", reasons=()),
    )


def long_names_report() -> StudyReport:
    """Everything that can be long is long, with and without spaces."""
    report = label_report(num_rows=40, labels=tuple(f"{label}_" + "and_so_on_" * 5 for label in LABELS[:14]), seed=5)
    longest = "a_very_long_name_without_any_space_" * 3
    return replace(
        report,
        name=longest + "study",
        contenders=tuple(
            replace(one, title=f"{one.title}, which has been given a title that nobody would want to read twice, {longest}")
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
    assert report.training is not None
    return replace(
        report,
        name=planted,
        task=replace(report.task, reason=planted),
        verdict=replace(report.verdict, headline=planted, reasons=(planted,)),
        declaration=planted,
        contenders=tuple(
            replace(one, name=name_of[one.name], title=planted, description=planted, note=planted,
                    metrics=tuple(replace(metric, grader=planted + metric.grader) for metric in one.metrics))
            for one in report.contenders
        ),  # fmt: skip
        primary_metric=planted + report.primary_metric,
        comparisons=tuple(renamed(one) for one in report.comparisons),
        training=replace(report.training, base_model=planted, adapter_path=planted, settings=settings),
        findings=tuple(replace(one, code=planted, message=planted, remedy=planted, file=planted) for one in report.findings),
        num_examples={planted: 3},
        rows=tuple(
            AnswerRow(
                example_id=planted,
                source=planted,
                input_text=planted,
                wanted=json.dumps({planted: planted}),
                answers={name: [planted, json.dumps({planted: 1, "other": [planted]})][i % 2] for i, name in enumerate(name_of.values())},
                scores=dict.fromkeys(name_of.values(), 0.5),
            )
            for _ in report.rows
        ),  # fmt: skip
        confusions=(Confusion(contender=planted, labels=(planted, "b"), counts=((1, 2, 3), (4, 5, 6))),),
        length_histogram=LengthHistogram(bin_edges=(0, 10, 20), counts_by_series={planted: (1, 2), "wanted": (2, 1)}),
        provenance=Provenance(
            command=planted, seed=1, created_at=planted, fettle_version=planted, versions={planted: planted}, machine=planted,
            data_sha256={planted: planted}, split_sha256={planted: planted}, template_sha256=planted, model_sha256=planted,
            settings=settings, num_test_looks=1,
        ),
        warnings=(planted,),
    )  # fmt: skip


ALL: Mapping[str, Callable[[], StudyReport]] = {
    "labels": label_report,
    "json": json_report,
    "text": text_report,
    "untrained": untrained_report,
    "long_names": long_names_report,
}


# ---------------------------------------------------------------------------------------------------- parts


def _report(
    *,
    name: str,
    task: Task,
    graders: tuple[str, ...],
    rows: list[AnswerRow],
    pair: tuple[str, str],
    verdict: Verdict,
    confusions: tuple[Confusion, ...] = (),
    histogram: LengthHistogram | None = None,
) -> StudyReport:
    names = tuple(rows[0].answers)
    others = [(pair[0], other) for other in names if other not in pair]
    others += [(other, pair[1]) for other in names if other not in pair]
    return StudyReport(
        name=name,
        task=task,
        verdict=verdict,
        declaration=f"Best fine-tuned contender ({TITLES[pair[0]]}) against the best one that needs no training "
        f"({TITLES[pair[1]]}), both chosen on the validation split: difference in mean {graders[0].replace('_', ' ')}, paired by "
        "example, 95 % interval by bootstrap over clusters of near-duplicates, exact McNemar test at the two-sided 5 % level.",
        primary_metric=graders[0],
        detectable=Detectable(
            num_examples=len(rows),
            num_clusters=max(1, len(rows) - 13),
            design_effect=1.02,
            smallest_difference=1.25 / math.sqrt(len(rows)),
            num_examples_to_halve=4 * len(rows),
        ),
        contenders=tuple(_contender(one, graders, rows) for one in names),
        comparisons=tuple(_comparison(*one, rows=rows, is_primary=i == 0) for i, one in enumerate([pair, *others])),
        training=training_summary(),
        findings=findings(),
        num_examples={"train": 1500, "valid": 300, "test": len(rows)},
        rows=tuple(rows),
        confusions=confusions,
        length_histogram=histogram,
        provenance=_provenance(),
    )


def training_summary(*, num_steps: int = 282, seed: int = 6) -> TrainingSummary:
    """Losses that fall from 3 to 0.1, with validation every 20 steps and the best of them before the end."""
    rng = random.Random(seed)
    points = [
        LossPoint(step=step, epoch=step / 94, train_loss=(2.9 * math.exp(-step / 40) + 0.1) * math.exp(rng.gauss(0, 0.25)))
        for step in range(1, num_steps + 1)
    ]
    valid = {step: 2.4 * math.exp(-step / 45) + 0.24 + 0.0006 * max(0, step - 200) for step in range(20, num_steps + 1, 20)}
    points = [replace(point, valid_loss=valid.get(point.step)) for point in points]
    return TrainingSummary(
        base_model="SmolLM2-135M-Instruct",
        adapter_path="runs/routing/tuned/adapter",
        settings={
            "lora_rank": 16, "lora_alpha": 32, "learning_rate": 2e-4, "warmup_share": 0.03, "schedule": "cosine",
            "batch_examples": 16, "max_epochs": 3, "gradient_clip": 1.0, "compile": False, "max_length": None,
        },
        loss_points=tuple(points),
        best_step=min(valid, key=lambda step: valid[step]),
        num_steps=num_steps,
        stopped_early=True,
        num_train_examples=1500,
        num_trained_tokens=20_412,
        num_processed_tokens=311_020,
        seconds=252.4,
        peak_memory_bytes=1_930_000_000,
    )  # fmt: skip


def findings() -> tuple[Finding, ...]:
    """Errors, warnings and information, one kind with more places than the page shows."""
    return (
        Finding(code="near_duplicate", severity=Severity.WARNING, action=Action.KEPT, message="says nearly the same as line 12",
                remedy="nothing needed: near-duplicates stay in one split", file="tickets.csv", line=98),
        *(Finding(code="empty_answer", severity=Severity.ERROR, action=Action.LEFT_OUT, message="the answer is empty",
                  remedy="fill in the answer, or delete the row", file="tickets.csv", line=line) for line in range(100, 153)),
        Finding(code="encoding", severity=Severity.INFO, action=Action.REPAIRED, message="read as Windows-1252",
                remedy="save it as UTF-8", file="tickets.csv"),
        Finding(code="personal_data", severity=Severity.WARNING, action=Action.KEPT, message="looks like a telephone number",
                remedy="remove personal data before training on it", file="older/tickets-2023.xlsx", line=7),
    )  # fmt: skip


def _provenance() -> Provenance:
    return Provenance(
        command="fettle study tickets.csv --input message --answer queue --out runs/routing --remote https://models.example "
        "--remote-model gpt-large --seed 17",
        seed=17,
        created_at="2026-11-22 18:04 UTC",
        fettle_version="0.1.0",
        versions={"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.1", "scikit-learn": "1.8.0"},
        machine="2 cores, x86_64, 8 GB",
        data_sha256={"tickets.csv": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
        split_sha256={name: f"{i}c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" for i, name in
                      enumerate(("train", "valid", "test"))},
        template_sha256="fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9",
        model_sha256="baa5a0964d3320fbc0c6a922140453c8513ea24ab8fd0577034804a967248096",
        settings={"bootstrap_samples": 10_000, "worthwhile": 0.01, "constrained": True, "device": None},
        num_test_looks=1,
    )  # fmt: skip


def _row(i: int, text: str, wanted: str, answers: dict[str, str], scores: Mapping[str, float | None]) -> AnswerRow:
    return AnswerRow(
        example_id=f"row-{i:05d}", source=f"tickets.csv:{3 * i + 2}", input_text=text, wanted=wanted, answers=answers, scores=scores
    )  # fmt: skip


def _contender(name: str, graders: tuple[str, ...], rows: Sequence[AnswerRow]) -> ContenderResult:
    scores = [row.scores[name] for row in rows]
    scored = [score for score in scores if score is not None]
    mean = sum(scored) / len(scored)
    metrics = []
    for i, grader in enumerate(graders):
        centre = max(0.0, min(1.0, mean - 0.03 * i))
        half = 1.96 * math.sqrt(max(centre * (1 - centre), 0.01) / len(scored))
        bounds = Interval(estimate=centre, low=max(0.0, centre - half), high=min(1.0, centre + half), method="cluster bootstrap")
        metrics.append(Metric(grader=grader, interval=bounds, num_scored=len(scored), num_unscored=len(scores) - len(scored)))
    is_model = name != "classifier"
    return ContenderResult(
        name=name,
        title=TITLES[name],
        description=DESCRIPTIONS[name],
        is_fine_tuned=name == "tuned",
        metrics=tuple(metrics),
        resources=Resources(
            prompt_tokens_per_request={"few_shot": 412.0, "prompt": 388.2, "remote": 395.0}.get(name, 42.3) if is_model else 0,
            completion_tokens_per_request=6.2 if is_model else 0,
            seconds_per_request={"tuned": 0.061, "few_shot": 0.34, "remote": 0.82, "prompt": 0.29}.get(name, 0.002),
            latency_seconds_p50=None if name == "remote" else 0.21,
            latency_seconds_p95=None if name == "remote" else 1.4,
        ),
        validation_score=mean + 0.012,
        num_failed=1 if name == "remote" else 0,
        num_truncated=3 if name == "prompt" else 0,
        note="The endpoint refused one request." if name == "remote" else None,
    )


def _comparison(challenger: str, baseline: str, *, rows: Sequence[AnswerRow], is_primary: bool) -> Comparison:
    pairs = [(row.scores[challenger], row.scores[baseline]) for row in rows]
    gains = [one - other for one, other in pairs if one is not None and other is not None]
    wins, losses = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    mean = sum(gains) / len(gains)
    half = 1.96 * math.sqrt(sum((gain - mean) ** 2 for gain in gains)) / len(gains)
    rate = (wins + (len(gains) - wins - losses) / 2) / len(gains)
    p_value = min(1.0, math.exp(-((mean / max(half, 1e-9)) ** 2) * 2))
    return Comparison(
        challenger=challenger,
        baseline=baseline,
        is_primary=is_primary,
        num_pairs=len(gains),
        num_pairs_unscored=len(pairs) - len(gains),
        difference=Interval(estimate=mean, low=mean - half, high=mean + half, method="cluster bootstrap"),
        win_rate=Interval(estimate=rate, low=max(0.0, rate - 0.04), high=min(1.0, rate + 0.04), method="Wilson"),
        num_wins=wins,
        num_ties=len(gains) - wins - losses,
        num_losses=losses,
        p_value=p_value,
        p_value_method="exact McNemar test" if is_primary else "exact sign test",
        p_value_adjusted=p_value if is_primary else min(1.0, 3 * p_value),
    )


def _confused(wanted: str, labels: Sequence[str], rng: random.Random) -> str:
    """A neighbouring label most of the time, any label sometimes, and now and then no label."""
    if rng.random() < 0.08:
        return "I am sorry, which queue?"
    place = labels.index(wanted)
    return labels[(place + 1) % len(labels)] if rng.random() < 0.6 else rng.choice(labels)


def _confusion(name: str, rows: Sequence[AnswerRow], labels: Sequence[str]) -> Confusion:
    place = {label: i for i, label in enumerate(labels)}
    counts = [[0] * (len(labels) + 1) for _ in labels]
    for row in rows:
        counts[place[row.wanted]][place.get(row.answers[name], len(labels))] += 1
    return Confusion(contender=name, labels=tuple(labels), counts=tuple(map(tuple, counts)))


def _mutated(fields: dict, rng: random.Random, rate: float) -> dict:
    changed = json.loads(json.dumps(fields))
    if rng.random() < rate:
        changed["urgency"] = "normal" if fields["urgency"] != "normal" else "high"
    if rng.random() < rate:
        changed["address"]["postcode"] = "LS1 4AQ"
    if rng.random() < rate / 2:
        del changed["amount"]
    if rng.random() < rate / 2:
        changed["note"] = {"customer": "angry", "times": 3}
    return changed


def _shared_fields(text: str, wanted: dict) -> float:
    try:
        said = json.loads(text)
    except ValueError:
        return 0.0
    return sum(said.get(name, ...) == value for name, value in wanted.items()) / len(wanted)


def _reply(rng: random.Random, num_words: int) -> str:
    words = (
        "thank you for writing to us about your parcel we are sorry that it has not arrived yet and understand how annoying "
        "this is please check the tracking page with the number {{Order Number}} or tell us a safe place".split()
    )
    sentences, left = [], num_words
    while left > 0:
        size = min(left, rng.randrange(6, 16))
        sentences.append(" ".join(rng.choices(words, k=size)).capitalize() + ".")
        left -= size
    return "Hello,\n\n" + "\n\n".join(" ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4)) + "\n\nKind regards"


def _histogram(rows: Sequence[AnswerRow]) -> LengthHistogram:
    edges = tuple(range(0, 441, 20))
    texts = {"wanted": [row.wanted for row in rows]}
    texts |= {name: [row.answers[name] for row in rows] for name in rows[0].answers}
    lengths = {name: [min(len(text.split()), edges[-1] - 1) for text in said] for name, said in texts.items()}
    return LengthHistogram(
        bin_edges=edges,
        counts_by_series={
            name: tuple(sum(low <= length < high for length in said) for low, high in pairwise(edges))
            for name, said in lengths.items()
        },
    )
