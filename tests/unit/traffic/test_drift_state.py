from __future__ import annotations

import random
from pathlib import Path

import pytest
from traffic_data import EMBEDDER, asked, asking, kept, messages

from fettle.errors import ConfigError
from fettle.traffic.drift import DriftWatch, begin_drift_watch
from fettle.traffic.drift_state import DriftProgress, read_progress, reference_sha256, write_progress

TEXTS = messages()
WANTED = DriftProgress(reference_sha256="r", false_alarm_rate=0.01)


def new_watch() -> DriftWatch:
    rng = random.Random(0)
    return begin_drift_watch(
        TEXTS[:100], TEXTS[100:200], EMBEDDER, test_confidences=[rng.gauss(-0.2, 0.1) for _ in range(30)]
    )


def test_a_watch_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "drift" / "state.json"
    without_break, with_break = new_watch(), new_watch()
    without_break.look(asked(TEXTS[200:230], confidence=-0.3))
    expected = without_break.look(asked(TEXTS[230:260], confidence=-0.3))
    with_break.look(asked(TEXTS[200:230], confidence=-0.3))
    write_progress(path, DriftProgress(reference_sha256="r", false_alarm_rate=0.01, last_number=7), with_break)
    goes_on = new_watch()
    progress = read_progress(path, goes_on, WANTED)
    assert progress.last_number == 7
    assert goes_on.look(asked(TEXTS[230:260], confidence=-0.3)) == expected


def test_none_of_the_texts_is_in_the_file(tmp_path: Path) -> None:
    watch = new_watch()
    progress = DriftProgress(reference_sha256="r", false_alarm_rate=0.01)
    watch.look(progress.new_requests([kept("a", asking(TEXTS[300]), number=1)]))
    write_progress(tmp_path / "state.json", progress, watch)
    written = (tmp_path / "state.json").read_text()
    assert not any(word in written for word in TEXTS[300].split() if len(word) > 5)


def test_each_request_counts_once_and_each_conversation_with_its_first() -> None:
    progress = DriftProgress(reference_sha256="r", false_alarm_rate=0.01)
    first = [kept("a", asking("One?"), number=1), kept("b", asking("Two?"), number=2, confidence=-0.5)]
    goes_on = [*asking("One?"), {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Really?"}]
    later = [*first, kept("c", goes_on, number=3), kept("d", asking("Three?"), number=4)]
    assert [(one.id, one.text, one.confidence) for one in progress.new_requests(first)] == [
        ("a", "One?", None),
        ("b", "Two?", -0.5),
    ]
    assert [one.id for one in progress.new_requests(later)] == ["d"]
    assert progress.new_requests(later) == []
    without = kept("e", request=None, answer=None, number=5)
    assert progress.new_requests([without]) == []


def test_what_is_asked_often_counts_as_often_and_shots_make_no_conversation() -> None:
    progress = DriftProgress(reference_sha256="r", false_alarm_rate=0.01)
    shot = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Yes?"}]
    asked = [asking("One?"), asking("One?"), [*shot, *asking("One?")], [*shot, *asking("Two?")]]
    requests = [kept(str(number), one, number=number) for number, one in enumerate(asked, start=1)]
    assert [one.id for one in progress.new_requests(requests)] == ["1", "2", "3", "4"]


def test_no_alarm_where_requests_repeat_themselves_as_the_test_split_does() -> None:
    shorter_first = sorted(TEXTS, key=len)
    weights = [1 / place for place in range(1, len(TEXTS) + 1)]
    alarms = 0
    for seed in range(4):
        rng = random.Random(seed)
        train, test = (rng.choices(shorter_first, weights, k=200) for _ in range(2))
        watch = begin_drift_watch(train, test, EMBEDDER)
        progress = DriftProgress(reference_sha256="r", false_alarm_rate=0.01)
        for day in range(15):
            texts = rng.choices(shorter_first, weights, k=20)
            requests = [kept(f"{day}-{i}", asking(text), number=20 * day + i) for i, text in enumerate(texts, start=1)]
            alarms += watch.look(progress.new_requests(requests)).is_alarm
    assert not alarms


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (DriftProgress(reference_sha256="other", false_alarm_rate=0.01), "other training"),
        (DriftProgress(reference_sha256="r", false_alarm_rate=0.05), "cannot be changed"),
    ],
)
def test_a_watch_of_something_else_is_refused(tmp_path: Path, wanted: DriftProgress, message: str) -> None:
    write_progress(tmp_path / "state.json", WANTED, new_watch())
    with pytest.raises(ConfigError, match=message):
        read_progress(tmp_path / "state.json", new_watch(), wanted)


def test_confidence_that_was_not_watched_from_the_beginning_is_refused_and_not_left_out_silently(
    tmp_path: Path,
) -> None:
    without = begin_drift_watch(TEXTS[:100], TEXTS[100:200], EMBEDDER)
    write_progress(tmp_path / "state.json", WANTED, without)
    with pytest.raises(ConfigError, match="without the confidence"):
        read_progress(tmp_path / "state.json", new_watch(), WANTED)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"format": "fettle-study"}')
    with pytest.raises(ConfigError, match="no record"):
        read_progress(tmp_path / "state.json", new_watch(), WANTED)


def test_another_reference_has_another_name() -> None:
    names = {reference_sha256([one], ["b"], "rev", model) for one in ("a", "c") for model in (None, "triage")}
    assert len(names) == 4
