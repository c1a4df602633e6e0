import random
from itertools import pairwise

import pytest
from traffic_data import EMBEDDER, asked, messages

from fettle.errors import DataError
from fettle.traffic.drift import CONFIDENCE, DISTANCE, LENGTH, DriftReport, Request, begin_drift_watch
from fettle.traffic.redact import redacted


def looks(seed: int, *, changed: bool = False, size: int = 20) -> list[DriftReport]:
    """Twelve looks at requests of the same kind, or at requests that are about other things from the fourth look on."""
    texts = messages()
    random.Random(seed).shuffle(texts)
    watch = begin_drift_watch(texts[:200], texts[200:400], EMBEDDER)
    reports = []
    for number in range(12):
        some = texts[400 + size * number : 400 + size * (number + 1)]
        if changed and number >= 3:
            some = [f"Please translate into French: {text[:40]}" for text in some]
        reports.append(watch.look(asked(some), false_alarm_rate=0.01))
    return reports


def test_requests_of_the_same_kind_raise_no_alarm() -> None:
    for seed in range(8):
        assert not any(report.is_alarm for report in looks(seed))


def test_requests_about_other_things_raise_one_within_two_looks() -> None:
    reports = looks(1, changed=True)
    assert [report.is_alarm for report in reports[:3]] == [False] * 3
    assert reports[4].is_alarm
    assert {reports[4].moved[0].name} != {CONFIDENCE}
    assert [one.evidence for one in reports[4].moved] == sorted(
        (one.evidence for one in reports[4].moved), reverse=True
    )


def test_what_is_far_from_all_training_examples_is_shown_with_the_nearest() -> None:
    texts = messages()
    watch = begin_drift_watch(texts[:200], texts[200:400], EMBEDDER)
    strange = "chromodynamics " * 30
    report = watch.look(asked([*texts[400:410], strange]))
    first = report.strangest[0]
    assert (first.id, first.text) == ("chatcmpl-10", strange)
    assert first.nearest in [redacted(text) for text in texts[:200]]
    assert all(one.distance >= other.distance for one, other in pairwise(report.strangest))
    assert (report.num_known, report.num_requests, report.num_new, report.num_looks) == (200, 11, 11, 1)


def test_requests_that_repeat_training_examples_are_nothing_strange() -> None:
    texts = messages()
    random.Random(0).shuffle(texts)
    watch = begin_drift_watch(texts[:200], texts[200:400], EMBEDDER)
    report = watch.look(asked(random.Random(1).sample(texts[:200], 60)))
    assert not report.is_alarm
    assert report.strangest == ()
    assert {one.name: one for one in report.moved}[DISTANCE].evidence < 20


def test_less_sure_answers_raise_an_alarm_though_the_same_is_asked() -> None:
    texts, rng = messages(), random.Random(3)
    rng.shuffle(texts)
    sure = [rng.gauss(-0.2, 0.05) for _ in range(200)]
    watch = begin_drift_watch(texts[:200], texts[200:400], EMBEDDER, test_confidences=sure)
    quiet = [Request(id=str(n), text=text, confidence=rng.gauss(-0.2, 0.05)) for n, text in enumerate(texts[400:460])]
    assert not watch.look(quiet).is_alarm
    unsure = [Request(id=str(n), text=text, confidence=rng.gauss(-0.4, 0.05)) for n, text in enumerate(texts[460:500])]
    report = watch.look(unsure)
    assert report.is_alarm
    assert report.moved[0].name == CONFIDENCE
    assert report.moved[0].before == pytest.approx(-0.2, abs=0.02)
    assert report.moved[0].now == pytest.approx(-0.4, abs=0.02)


def test_lengths_are_told_in_characters() -> None:
    texts = messages()
    watch = begin_drift_watch(texts[:200], texts[200:400], EMBEDDER)
    report = watch.look(asked([text * 8 for text in texts[400:420]]))
    length = next(one for one in report.moved if one.name == LENGTH)
    assert length.now is not None
    assert length.now > 4 * length.before
    assert length.evidence > 100


def test_a_look_at_nothing_changes_nothing() -> None:
    texts = messages()
    watch = begin_drift_watch(texts[:200], texts[200:400], EMBEDDER)
    report = watch.look([])
    assert (report.evidence, report.num_new, report.num_looks, report.strangest) == (pytest.approx(1), 0, 0, ())


def test_too_few_examples_are_refused_in_words() -> None:
    texts = messages()
    with pytest.raises(DataError, match="20 test examples"):
        begin_drift_watch(texts[:200], texts[200:210], EMBEDDER)
    with pytest.raises(DataError, match="10 training examples"):
        begin_drift_watch(texts[:5], texts[200:300], EMBEDDER)
    with pytest.raises(DataError, match="confidences"):
        begin_drift_watch(texts[:200], texts[200:300], EMBEDDER, test_confidences=[0.1])


def test_personal_data_that_are_taken_out_of_kept_requests_are_no_drift() -> None:
    rng = random.Random(1)

    def text() -> str:
        mail = f"{rng.choice('abcdefgh')}{rng.randrange(10**6)}@mail{rng.randrange(20)}.example.com"
        return f"{rng.choice(['hi', 'hello', 'dear all'])}, {rng.choice(['please write to', 'the bill is for'])} {mail}"

    watch = begin_drift_watch([text() for _ in range(100)], [text() for _ in range(100)], EMBEDDER)
    report = watch.look(asked([redacted(text()) for _ in range(40)]))
    assert not report.is_alarm
