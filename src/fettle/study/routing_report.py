"""What a study says of sending hard requests from its tuned contender to the remote one.

The measure of confidence and the thresholds to try come from the validation split; the threshold is calibrated on the test split,
which no choice has been made on: the tuned contender has been chosen on validation, and looks better there than it is. Nothing is
asked for it that the two contenders have not answered already, but for samples, where they were asked for (`router_samples.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fettle.contenders.readings import Reading
from fettle.records import Answer, Example, TaskKind
from fettle.retrieval.embedder import CachedEmbedder, Embedder, MiniLMEmbedder
from fettle.routing.calibration import calibrated, curve_point, num_needed, quality_curve, routed, threshold_sequence
from fettle.routing.choice import Pairs, choose_measure
from fettle.routing.confidence import NEVER, Measure, confidences
from fettle.routing.foreseen import Foresight, fit_foresight, foreseen_out_of_fold
from fettle.routing.small import TEMPERATURE
from fettle.routing_records import RoutingReport, RoutingRule
from fettle.scoring.grader import Grader, score_answers
from fettle.statistics.intervals import mean_interval
from fettle.study.results import TestedRung
from fettle.study.router_samples import Samples, agreement

if TYPE_CHECKING:
    from fettle.study.looks import Looks
    from fettle.study.planning import StudyPlan

DERIVED_SHARE = 0.95
"""Of what the large contender reached on validation: the target where nobody has named one."""
_FEWEST_FORESEEN = 50
"""Validation examples below which a regression on embeddings is not worth its trial."""
_CEILING = 0.99
"""No derived target is higher: from a sample, perfection cannot be promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredTwice:
    """The examples of a split that both contenders have answered and were scored on."""

    examples: tuple[Example, ...]
    answers: tuple[Answer, ...]
    """The small contender's."""
    places: tuple[int, ...]
    """Of the examples in their split."""
    pairs: Pairs
    num_unscored: int
    """Examples that are left out."""

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Where the small contender's request failed, [N]."""
        return np.array([answer.has_failed for answer in self.answers], dtype=np.bool_)


def routing_report(
    plan: StudyPlan,
    small: TestedRung,
    large: TestedRung,
    looks: Looks,
    *,
    samples: Samples | None = None,
    embedder: Embedder | None = None,
) -> RoutingReport | None:
    """The router made of two contenders; None where no measure of confidence is to be had, or nothing was scored.

    Args:
        plan: The study.
        small: The tuned contender with its answers.
        large: The remote one.
        looks: How often the test examples have been looked at: the error that is allowed is divided by it.
        samples: What the tuned contender has drawn besides; None: nothing.
        embedder: Makes the vectors that confidence is foreseen from; None: the packaged one.
    """
    split, grader = plan.split, plan.graders[0]
    valid = answered_twice(
        split.valid, small.rung.validation_answers, large.rung.validation_answers, grader, split.cluster_by_id
    )
    test = answered_twice(split.test, small.answers, large.answers, grader, split.cluster_by_id)
    if valid is None or test is None:
        return None
    of_valid, of_test, foresight = _measured(valid, test, CachedEmbedder(embedder or MiniLMEmbedder()))
    if samples is not None:
        is_json = plan.data.task.kind is TaskKind.JSON
        of_valid[Measure.SELF_CONSISTENCY] = _agreement(valid, samples.valid, is_json=is_json)
        of_test[Measure.SELF_CONSISTENCY] = _agreement(test, samples.test, is_json=is_json)
    if not of_valid:
        return None
    measure, tried = choose_measure(of_valid, valid.pairs)
    settings = plan.settings.routing
    target = settings.target
    if target is None:
        target = min(DERIVED_SHARE * float(valid.pairs.large.mean()), _CEILING)
    if target <= 0:
        return None
    level = 1 - (1 - settings.level) / looks.number
    found = calibrated(
        of_test[measure],
        test.pairs,
        target=target,
        level=level,
        thresholds=threshold_sequence(of_valid[measure], valid.pairs),
    )
    to_large = (of_test[measure] < found.threshold).astype(np.float64)
    clusters = test.pairs.clusters
    return RoutingReport(
        small=small.name,
        large=large.name,
        target=target,
        is_target_derived=settings.target is None,
        level=level,
        is_promised=found.is_promised,
        rule=_rule(plan, small, measure, found.threshold, foresight, samples),
        share_to_large=mean_interval(to_large.tolist(), clusters),
        quality=curve_point(of_test[measure], test.pairs, found.threshold).quality,
        small_quality=mean_interval(test.pairs.small.tolist(), clusters),
        large_quality=mean_interval(routed(of_test[measure], test.pairs, math.inf).tolist(), clusters),
        num_calibrated=found.num_independent,
        num_needed=num_needed(target, level),
        num_unscored=test.num_unscored,
        num_validation=valid.pairs.number,
        measures=tried,
        curve=quality_curve(of_test[measure], test.pairs),
        trusted=tuple(example.id for example, goes in zip(test.examples, to_large, strict=True) if not goes),
    )


def answered_twice(
    examples: Sequence[Example],
    small: Sequence[Answer],
    large: Sequence[Answer],
    grader: Grader,
    cluster_by_id: Mapping[str, int],
) -> AnsweredTwice | None:
    """The examples that both were scored on; None: there are none.

    A failed request of the small contender counts as wrong: it goes to the large one at every threshold. One of the large
    contender leaves the example out, as an answer that could not be scored does.

    Args:
        examples: A split.
        small: The small contender's answers, in the order of the examples.
        large: The large one's.
        grader: The primary one.
        cluster_by_id: Of near-duplicates and groups.
    """
    if not len(examples) == len(small) == len(large):
        return None
    scores = zip(score_answers(grader, examples, small), score_answers(grader, examples, large), strict=True)
    kept: list[tuple[int, float, float]] = []
    for place, (of_small, of_large) in enumerate(scores):
        value = 0.0 if small[place].has_failed else of_small.value
        if value is not None and of_large.value is not None:
            kept.append((place, value, of_large.value))
    if not kept:
        return None
    return AnsweredTwice(
        examples=tuple(examples[place] for place, _, _ in kept),
        answers=tuple(small[place] for place, _, _ in kept),
        places=tuple(place for place, _, _ in kept),
        pairs=Pairs(
            small=np.array([value for _, value, _ in kept]),
            large=np.array([value for _, _, value in kept]),
            clusters=tuple(cluster_by_id[examples[place].id] for place, _, _ in kept),
        ),
        num_unscored=len(examples) - len(kept),
    )


def warnings_of_routing(plan: StudyPlan, routing: RoutingReport | None) -> tuple[str, ...]:
    """What a reader must know who has asked for a router."""
    if plan.settings.routing.target is None or routing is not None:
        return ()
    return (
        "No router could be made: the tuned model's answers carry no probabilities with this engine, and the validation split is "
        "too small to foresee from the input which answers are right, or nothing was scored.",
    )


def _agreement(twice: AnsweredTwice, samples: Sequence[Sequence[Answer]], *, is_json: bool) -> NDArray[np.float64]:
    """How far the samples of a split agree with the answers that both contenders were scored on, [N]."""
    return agreement(twice.answers, [[drawn[place] for place in twice.places] for drawn in samples], is_json=is_json)


def _rule(
    plan: StudyPlan,
    small: TestedRung,
    measure: Measure,
    threshold: float,
    foresight: Foresight | None,
    samples: Samples | None,
) -> RoutingRule:
    """The rule, with what its measure takes, and how the small contender's label was read."""
    foresight = foresight if measure is Measure.FORESEEN else None
    samples = samples if measure is Measure.SELF_CONSISTENCY else None
    reading = small.rung.reading
    is_calibrated = reading is not None and reading.kind is Reading.CALIBRATED
    return RoutingRule(
        measure=measure.value,
        threshold=threshold if math.isfinite(threshold) else None,
        coefficients=() if foresight is None else foresight.coefficients,
        intercept=0.0 if foresight is None else foresight.intercept,
        labels=() if reading is None else plan.data.task.labels,
        reading=None if reading is None else reading.kind.value,
        label_offsets=dict(reading.mean_log_likelihoods) if reading is not None and is_calibrated else {},
        num_samples=0 if samples is None else samples.number,
        temperature=0.0 if samples is None else TEMPERATURE,
        max_sample_tokens=None if samples is None else plan.options.max_new_tokens,
    )


def _measured(
    valid: AnsweredTwice, test: AnsweredTwice, embedder: Embedder
) -> tuple[dict[Measure, NDArray[np.float64]], dict[Measure, NDArray[np.float64]], Foresight | None]:
    """Every measure that both splits have, on each of them; what is foreseen of the validation split is so out of fold."""
    of_valid, of_test = confidences(valid.answers), confidences(test.answers)
    shared = [measure for measure in Measure if measure in of_valid and measure in of_test]
    of_valid = {measure: of_valid[measure] for measure in shared}
    of_test = {measure: of_test[measure] for measure in shared}
    has_contexts = any(example.context for example in (*valid.examples, *test.examples))  # no request has it apart
    if valid.pairs.number < _FEWEST_FORESEEN or has_contexts:
        return of_valid, of_test, None
    vectors_ND = embedder.embed([example.input_text for example in valid.examples])
    foreseen = foreseen_out_of_fold(vectors_ND, valid.pairs.small, valid.pairs.clusters)
    foresight = fit_foresight(vectors_ND, valid.pairs.small)
    if foreseen is None or foresight is None:
        return of_valid, of_test, None
    of_valid[Measure.FORESEEN] = np.where(valid.failed, NEVER, foreseen)
    test_vectors_ND = embedder.embed([example.input_text for example in test.examples])
    of_test[Measure.FORESEEN] = np.where(test.failed, NEVER, foresight.of(test_vectors_ND))
    return of_valid, of_test, foresight
