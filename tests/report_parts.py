"""The parts that the study reports in `build_report.py` are put together from."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from fettle.records import (
    Action,
    Answer,
    Comparison,
    ContenderResult,
    Example,
    Finding,
    FinishReason,
    Interval,
    Location,
    Message,
    Metric,
    Resources,
    Severity,
    Task,
    TaskKind,
    Usage,
    Verdict,
)
from fettle.report_records import (
    AnswerRow,
    Confusion,
    Detectable,
    Forgetting,
    LengthHistogram,
    LossPoint,
    PartScores,
    Provenance,
    RowsNeeded,
    StudyReport,
    TrainingSummary,
)
from fettle.scoring.corpus import answered_texts, field_scores, label_scores
from fettle.tuning_records import StrengthSweep

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


def assembled(
    *,
    name: str,
    task: Task,
    graders: tuple[str, ...],
    rows: list[AnswerRow],
    pair: tuple[str, str],
    verdict: Verdict,
    confusions: tuple[Confusion, ...] = (),
    histogram: LengthHistogram | None = None,
    forgotten: Forgetting | None = None,
    sweep: StrengthSweep | None = None,
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
        smallest_win_rate=0.5 + 1.2 / math.sqrt(len(rows)),
        rows_needed=(
            RowsNeeded(difference=0.05, num_for_scores=783, num_for_win_rate=587),
            RowsNeeded(difference=0.03, num_for_scores=2179, num_for_win_rate=1634),
        ),
        contenders=tuple(contender(one, graders, rows) for one in names),
        comparisons=tuple(comparison(*one, rows=rows, is_primary=i == 0) for i, one in enumerate([pair, *others])),
        training=training_summary(),
        findings=findings(),
        num_examples={"train": 1500, "valid": 300, "test": len(rows)},
        rows=tuple(rows),
        confusions=confusions,
        part_scores=part_scores(rows, task),
        length_histogram=histogram,
        provenance=provenance(),
        forgetting=forgotten,
        strength_sweep=sweep,
    )


def training_summary(*, num_steps: int = 282, seed: int = 6) -> TrainingSummary:
    """Losses that fall from 3 to 0.1, with validation every 20 steps and the best of them before the end."""
    rng = random.Random(seed)
    points = [
        LossPoint(
            step=step, epoch=step / 94, train_loss=(2.9 * math.exp(-step / 40) + 0.1) * math.exp(rng.gauss(0, 0.25))
        )
        for step in range(1, num_steps + 1)
    ]
    valid = {
        step: 2.4 * math.exp(-step / 45) + 0.24 + 0.0006 * max(0, step - 200) for step in range(20, num_steps + 1, 20)
    }
    points = [replace(point, valid_loss=valid.get(point.step)) for point in points]
    return TrainingSummary(
        base_model="SmolLM2-135M-Instruct",
        tuned_path="runs/routing/tuned/adapter",
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


def provenance() -> Provenance:
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
        instruction="Answer with the one queue that fits the message.", instruction_origin="given by the user",
        settings={"bootstrap_samples": 10_000, "worthwhile": 0.01, "constrained": True, "device": None},
        test_look_number=1,
        num_test_looks=1,
    )  # fmt: skip


def row(i: int, text: str, wanted: str, answers: dict[str, str], scores: Mapping[str, float | None]) -> AnswerRow:
    return AnswerRow(
        example_id=f"row-{i:05d}", source=f"tickets.csv:{3 * i + 2}", input_text=text, wanted=wanted, answers=answers, scores=scores
    )  # fmt: skip


def contender(name: str, graders: tuple[str, ...], rows: Sequence[AnswerRow]) -> ContenderResult:
    scores = [row.scores[name] for row in rows]
    scored = [score for score in scores if score is not None]
    mean = sum(scored) / len(scored)
    metrics = []
    for i, grader in enumerate(graders):
        centre = max(0.0, min(1.0, mean - 0.03 * i))
        half = 1.96 * math.sqrt(max(centre * (1 - centre), 0.01) / len(scored))
        bounds = Interval(
            estimate=centre, low=max(0.0, centre - half), high=min(1.0, centre + half), method="cluster bootstrap"
        )
        metrics.append(
            Metric(grader=grader, interval=bounds, num_scored=len(scored), num_unscored=len(scores) - len(scored))
        )
    is_model = name != "classifier"
    return ContenderResult(
        name=name,
        title=TITLES[name],
        description=DESCRIPTIONS[name],
        is_fine_tuned=name == "tuned",
        metrics=tuple(metrics),
        resources=Resources(
            prompt_tokens_per_request={"few_shot": 412.0, "prompt": 388.2, "remote": 395.0}.get(name, 42.3)
            if is_model
            else 0,
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


def comparison(challenger: str, baseline: str, *, rows: Sequence[AnswerRow], is_primary: bool) -> Comparison:
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
        bootstrap=Interval(estimate=mean, low=mean - 0.97 * half, high=mean + 0.98 * half) if wins + losses else None,
        win_rate=Interval(estimate=rate, low=max(0.0, rate - 0.04), high=min(1.0, rate + 0.04), method="Wilson"),
        num_wins=wins,
        num_ties=len(gains) - wins - losses,
        num_losses=losses,
        p_value=p_value,
        p_value_method="exact McNemar test" if is_primary else "exact sign test",
        p_value_adjusted=p_value if is_primary else min(1.0, 3 * p_value),
    )


def confused(wanted: str, labels: Sequence[str], rng: random.Random) -> str:
    """A neighbouring label most of the time, any label sometimes, and now and then no label."""
    if rng.random() < 0.08:
        return "I am sorry, which queue?"
    place = labels.index(wanted)
    return labels[(place + 1) % len(labels)] if rng.random() < 0.6 else rng.choice(labels)


def confusion(name: str, rows: Sequence[AnswerRow], labels: Sequence[str]) -> Confusion:
    place = {label: i for i, label in enumerate(labels)}
    counts = [[0] * (len(labels) + 1) for _ in labels]
    for row in rows:
        counts[place[row.wanted]][place.get(row.answers[name], len(labels))] += 1
    return Confusion(contender=name, labels=tuple(labels), counts=tuple(map(tuple, counts)))


def part_scores(rows: Sequence[AnswerRow], task: Task) -> tuple[PartScores, ...]:
    """As a study makes them; an empty answer is one that never came."""
    if task.kind is TaskKind.TEXT:
        return ()
    examples = [
        Example(
            id=row.example_id,
            messages=(Message(role="user", content=row.input_text), Message(role="assistant", content=row.wanted)),
            source=Location(file="tickets.csv", line=i),
        )
        for i, row in enumerate(rows)
    ]
    found = []
    for name in rows[0].answers:
        answers = [
            Answer(
                example_id=row.example_id,
                text=row.answers[name],
                finish_reason=FinishReason.STOP if row.answers[name] else FinishReason.ERROR,
                usage=Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0),
            )
            for row in rows
        ]
        if task.kind is TaskKind.JSON:
            parts = field_scores(examples, answers)
        else:
            wanted, answered = zip(*answered_texts(examples, answers), strict=True)
            parts = label_scores(wanted, answered, task.labels)
        found.append(PartScores(contender=name, parts=parts))
    return tuple(found)


def mutated(fields: dict, rng: random.Random, rate: float) -> dict:
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


def shared_fields(text: str, wanted: dict) -> float:
    try:
        said = json.loads(text)
    except ValueError:
        return 0.0
    return sum(said.get(name, ...) == value for name, value in wanted.items()) / len(wanted)


def reply(rng: random.Random, num_words: int) -> str:
    words = re.findall(
        r"\{\{.+?\}\}|\w+",
        "thank you for writing to us about your parcel we are sorry that it has not arrived yet and understand how annoying "
        "this is please check the tracking page with the number {{Order Number}} or tell us a safe place",
    )
    sentences, left = [], num_words
    while left > 0:
        size = min(left, rng.randrange(6, 16))
        sentences.append(" ".join(rng.choices(words, k=size)).capitalize() + ".")
        left -= size
    return (
        "Hello,\n\n"
        + "\n\n".join(" ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4))
        + "\n\nKind regards"
    )


def histogram(rows: Sequence[AnswerRow]) -> LengthHistogram:
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
