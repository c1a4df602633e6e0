"""Does a router keep what it promises? A study's small model, beside an oracle or the study's remote contender.

    .venv/bin/python benchmarks/router.py --study FOLDER --examples FILE... [--large oracle|remote] [--targets 0.85 0.9 0.95]

FOLDER is a study of labels, FILE... what it was made of: the wanted answers of its validation examples stand nowhere else. For
BANKING77 (about 40 minutes on one core, once):

    .venv/bin/fettle study train.jsonl --valid valid.jsonl --test test.jsonl --train-size 1500 --no-forgetting --out FOLDER
    .venv/bin/python benchmarks/router.py --study FOLDER --examples valid.jsonl test.jsonl

The test split is cut at random into a quarter that the threshold is calibrated on and three that the routed quality is looked at
on, 200 times. The measure of confidence and the thresholds to try are those of the validation split, as in a study. Printed for
each target, on average over the splits: the share sent to the large model, the quality, and in how many splits the target was kept

- on the examples held out, whose mean has noise of its own (with few of them a target that is kept exactly is missed now and then);
- over the whole test split, by thresholds from as many examples drawn from it with replacement: there the quality of a threshold is
  known exactly, so that this share can be held against the promise.

`--small-cost` and `--large-cost` (of one request, in one currency) turn shares into savings.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fettle.contenders.readings import LabelReading, readings
from fettle.examples.read import read_examples
from fettle.records import Answer
from fettle.routing.calibration import calibrated, routed, threshold_sequence
from fettle.routing.choice import Pairs, choose_measure
from fettle.routing.confidence import Measure, confidences
from fettle.routing_records import RoutingCosts
from fettle.statistics.risk_control import CalibratedThreshold, expected_threshold
from fettle.study.answers import read_answers
from fettle.study.report import read_report

LEVEL = 0.95
CALIBRATED_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Confidences and scores on validation and test, by the measure that validation chose."""

    measure: Measure
    valid_confidence: NDArray[np.float64]
    valid: Pairs
    test_confidence: NDArray[np.float64]
    test: Pairs


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one calibration came to."""

    is_promised: bool
    share_to_large: float
    quality: float
    is_kept: bool


def bench_of(folder: Path, examples: Sequence[Path], *, large: str) -> Bench:
    """The tuned contender of a finished study, beside an oracle or its remote contender."""
    wanted = {one.id: one.answer for file in examples for one in read_examples(file).examples}
    small, other = _answers(folder, "tuned"), None if large == "oracle" else _answers(folder, "remote")
    possible = readings(small["valid"])
    reading = max(possible, key=lambda one: _right(one.read(small["valid"]), wanted).mean())
    clusters = {
        row.example_id: row.cluster for row in read_report(folder / "report.json").rows if row.cluster is not None
    }
    parts = {
        part: _pairs(reading, small[part], None if other is None else other[part], wanted, clusters) for part in small
    }
    return chosen_bench(
        confidences(reading.read(small["valid"])),
        parts["valid"],
        confidences(reading.read(small["test"])),
        parts["test"],
    )


def chosen_bench(
    of_valid: Mapping[Measure, NDArray[np.float64]],
    valid: Pairs,
    of_test: Mapping[Measure, NDArray[np.float64]],
    test: Pairs,
) -> Bench:
    """With the measure that does best on validation, and how all of them did there."""
    measure, tried = choose_measure({one: of_valid[one] for one in of_valid if one in of_test}, valid)
    for one in tried:
        below = "used" if one.below_chosen is None else f"{100 * one.below_chosen.estimate:.2f} points below"
        print(f"  {one.measure}: mean quality over all shares {100 * one.area:.2f} % on validation ({below})")
    return Bench(
        measure=measure, valid_confidence=of_valid[measure], valid=valid, test_confidence=of_test[measure], test=test
    )


def split_outcomes(bench: Bench, target: float, *, num_splits: int, seed: int = 0) -> list[Outcome]:
    """Calibrated on some examples, looked at on the others."""
    rng, number = np.random.default_rng(seed), bench.test.number
    found = []
    for _ in range(num_splits):
        order = rng.permutation(number)
        some, others = np.split(order, [round(CALIBRATED_SHARE * number)])
        found.append(_outcome(bench, _certified(bench, some, target), others, target))
    return found


def drawn_outcomes(bench: Bench, target: float, *, num_splits: int, seed: int = 1) -> list[Outcome]:
    """Calibrated on as many examples drawn with replacement, looked at on all of them: the world that they were drawn from."""
    rng, number = np.random.default_rng(seed), bench.test.number
    size = round(CALIBRATED_SHARE * number)
    return [
        _outcome(bench, _certified(bench, rng.integers(number, size=size), target), np.arange(number), target)
        for _ in range(num_splits)
    ]


def expected_quality(bench: Bench, target: float, *, num_splits: int, seed: int = 0) -> tuple[float, float]:
    """Mean share to the large model and mean quality held out, of conformal risk control."""
    rng, number = np.random.default_rng(seed), bench.test.number
    found = []
    for _ in range(num_splits):
        some, others = np.split(rng.permutation(number), [round(CALIBRATED_SHARE * number)])
        pairs = _at(bench.test, some)
        threshold = expected_threshold(bench.test_confidence[some], pairs.small, pairs.large, target=target)
        found.append(_outcome(bench, threshold, others, target))
    return float(np.mean([one.share_to_large for one in found])), float(np.mean([one.quality for one in found]))


def _certified(bench: Bench, places: NDArray[np.intp], target: float) -> CalibratedThreshold:
    pairs = _at(bench.test, places)
    pairs = Pairs(small=pairs.small, large=pairs.large, clusters=tuple(range(len(places))))
    thresholds = threshold_sequence(bench.valid_confidence, bench.valid)
    return calibrated(bench.test_confidence[places], pairs, target=target, level=LEVEL, thresholds=thresholds)


def _outcome(bench: Bench, found: CalibratedThreshold, places: NDArray[np.intp], target: float) -> Outcome:
    confidence = bench.test_confidence[places]
    quality = float(routed(confidence, _at(bench.test, places), found.threshold).mean())
    return Outcome(
        is_promised=found.is_promised,
        share_to_large=float(np.mean(confidence < found.threshold)),
        quality=quality,
        is_kept=not found.is_promised or quality >= target,
    )


def _at(pairs: Pairs, places: NDArray[np.intp]) -> Pairs:
    clusters = np.asarray(pairs.clusters)[places]
    return Pairs(small=pairs.small[places], large=pairs.large[places], clusters=tuple(map(int, clusters)))


def _answers(folder: Path, name: str) -> dict[str, tuple[Answer, ...]]:
    return {part: read_answers(folder / "answers" / part / f"{name}.jsonl") for part in ("valid", "test")}


def _right(answers: Sequence[Answer], wanted: Mapping[str, str]) -> NDArray[np.float64]:
    return np.array([float(one.text == wanted[one.example_id]) for one in answers])


def _pairs(
    reading: LabelReading,
    small: Sequence[Answer],
    large: Sequence[Answer] | None,
    wanted: Mapping[str, str],
    clusters: Mapping[str, int],
) -> Pairs:
    by_id = {} if large is None else {one.example_id: one for one in large}
    return Pairs(
        small=_right(reading.read(small), wanted),
        large=np.ones(len(small)) if large is None else _right([by_id[one.example_id] for one in small], wanted),
        clusters=tuple(clusters.get(one.example_id, -place) for place, one in enumerate(small, start=1)),
    )


def show(bench: Bench, targets: Sequence[float], *, num_splits: int, costs: RoutingCosts | None) -> None:
    """Print what came of every target."""
    small, large = bench.test.small.mean(), bench.test.large.mean()
    print(
        f"{bench.test.number} test examples, by {bench.measure}: small {100 * small:.1f} %, large {100 * large:.1f} %"
    )
    print(f"promised with {LEVEL:.0%} confidence, {num_splits} splits:")
    for target in targets:
        held_out = split_outcomes(bench, target, num_splits=num_splits)
        drawn = drawn_outcomes(bench, target, num_splits=num_splits)
        share = float(np.mean([one.share_to_large for one in held_out]))
        saving = None if costs is None else costs.saving(share)
        told = "" if saving is None else f", saving {100 * saving:.1f} %"
        in_expectation = expected_quality(bench, target, num_splits=num_splits)
        print(
            f"  target {100 * target:.1f} %: promised in {np.mean([one.is_promised for one in held_out]):.1%}, "
            f"to the large model {share:.1%}{told}, quality {np.mean([one.quality for one in held_out]):.2%}, "
            f"kept held out {np.mean([one.is_kept for one in held_out]):.1%}, "
            f"over the world drawn from {np.mean([one.is_kept for one in drawn]):.1%}; "
            f"in expectation (conformal risk control): to the large model {in_expectation[0]:.1%}, quality {in_expectation[1]:.2%}"
        )


def main() -> None:
    """Read the study and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--examples", type=Path, nargs="+", required=True)
    parser.add_argument("--large", choices=("oracle", "remote"), default="oracle")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.85, 0.9, 0.95])
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--small-cost", type=float)
    parser.add_argument("--large-cost", type=float)
    given = parser.parse_args()
    costs = None
    if given.small_cost is not None and given.large_cost is not None:
        costs = RoutingCosts(small_per_request=given.small_cost, large_per_request=given.large_cost)
    bench = bench_of(given.study, given.examples, large=given.large)
    show(bench, given.targets, num_splits=given.splits, costs=costs)


if __name__ == "__main__":
    main()
