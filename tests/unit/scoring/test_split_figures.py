import pytest

from fettle.errors import DataError, IntegrityError
from fettle.records import Answer, Example, FinishReason, Location, Message, Usage
from fettle.scoring.confusion import confusion
from fettle.scoring.corpus import MacroF1, field_scores, label_scores
from fettle.scoring.lengths import length_histogram
from fettle.study.views import NUM_CONFUSED_LABELS, view_confusions

USAGE = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)


def examples_of(*wanted: str) -> list[Example]:
    return [
        Example(
            id=f"e{i}",
            messages=(Message(role="user", content="?"), Message(role="assistant", content=text)),
            source=Location(file="a.jsonl", line=i + 1),
        )
        for i, text in enumerate(wanted)
    ]


def answers_of(*texts: str | None) -> list[Answer]:
    """None: the engine failed."""
    return [
        Answer(
            example_id=f"e{i}",
            text=text or "",
            finish_reason=FinishReason.ERROR if text is None else FinishReason.STOP,
            usage=USAGE,
            error="refused" if text is None else None,
        )
        for i, text in enumerate(texts)
    ]


class TestMacroF1:
    def test_by_hand(self) -> None:
        # a: 1 right of 2 wanted, 1 answered: 2/3. b: 1 right of 1 wanted, 2 answered: 2/3. c: never wanted nor answered: left out.
        assert MacroF1(["a", "a", "b"], ["a", "b", "b"], ["a", "b", "c"]).value() == pytest.approx(2 / 3)

    def test_an_answer_that_is_no_label_is_a_miss(self) -> None:
        assert MacroF1(["a", "a"], ["a", "no idea"], ["a", "b"]).value() == pytest.approx(2 / 3)

    def test_a_wanted_label_outside_the_set_counts_as_missed(self) -> None:
        assert MacroF1(["a", "new"], ["a", "a"], ["a"]).value() == pytest.approx((2 / 3 + 0) / 2)

    def test_nothing_to_count_is_an_error(self) -> None:
        with pytest.raises(DataError):
            MacroF1([], [], ["a"]).value()

    def test_unequal_lengths_are_refused(self) -> None:
        with pytest.raises(ValueError, match="2 wanted"):
            MacroF1(["a", "b"], ["a"], ["a", "b"]).value()


def test_a_rate_over_nothing_is_none() -> None:
    wanted_only, answered_only, neither = label_scores(["a"], ["b"], ["a", "b", "c"])
    assert (wanted_only.precision, wanted_only.recall, wanted_only.f1) == (None, 0.0, 0.0)
    assert (answered_only.precision, answered_only.recall, answered_only.f1) == (0.0, None, 0.0)
    assert (neither.precision, neither.recall, neither.f1) == (None, None, None)


def test_field_scores_by_hand() -> None:
    wanted = examples_of(
        '{"day": "Monday", "n": 2}', '{"day": null, "n": 4}', '{"day": "Friday"}', "not json", '{"n": 1}'
    )
    answers = answers_of('{"day": "monday", "n": 3}', '{"day": "Sunday", "n": 4}', "sorry", "{}", None)
    day, n = field_scores(wanted, answers)
    assert (day.name, day.num_wanted, day.num_answered, day.num_right) == ("day", 2, 2, 1)
    assert (n.name, n.num_wanted, n.num_answered, n.num_right) == ("n", 2, 2, 1)


class TestConfusion:
    def test_counts_with_others_and_without_failures(self) -> None:
        table = confusion("tuned", examples_of("a", "a", "b", "b"), answers_of("A", "b", "dunno", None), ["a", "b"])
        assert (table.contender, table.labels) == ("tuned", ("a", "b"))
        assert table.counts == ((1, 1, 0), (0, 0, 1))

    def test_every_label_has_a_row_however_many_there_are_so_that_no_error_hides(self) -> None:
        labels = [f"l{number}" for number in range(77)]
        wanted = labels * 2
        answered = [*labels, *labels[1:], "l0"]  # all right, then all wrong
        table = confusion("p", examples_of(*wanted), answers_of(*answered), labels)
        assert table.labels == tuple(labels)
        assert sum(row[place] for place, row in enumerate(table.counts)) == 77
        [view] = view_confusions([table])
        assert (view.num_answers, view.num_wrong) == (154, 77)
        assert view.num_labels_not_shown == 77 - NUM_CONFUSED_LABELS

    def test_a_wanted_label_outside_the_set_gets_a_row(self) -> None:
        table = confusion("p", examples_of("new"), answers_of("a"), ["a"])
        assert table.labels == ("a", "new")
        assert table.counts == ((0, 0, 0), (1, 0, 0))


class TestLengthHistogram:
    def test_every_answer_is_in_a_bin(self) -> None:
        wanted = [" ".join(["w"] * n) for n in range(200)]
        histogram = length_histogram(
            examples_of(*wanted), {"tuned": answers_of(*["one"] * 199, " ".join(["w"] * 5000))}
        )
        assert sum(histogram.counts_by_series["wanted"]) == 200
        assert sum(histogram.counts_by_series["tuned"]) == 200
        assert histogram.counts_by_series["tuned"][-1] == 1
        assert histogram.bin_edges[-1] > 5000
        assert all(len(counts) == len(histogram.bin_edges) - 1 for counts in histogram.counts_by_series.values())
        assert len(histogram.bin_edges) <= 25

    def test_failed_answers_are_left_out(self) -> None:
        histogram = length_histogram(examples_of("a b", "c"), {"p": answers_of("x", None)})
        assert sum(histogram.counts_by_series["p"]) == 1

    def test_an_unanswered_example_is_refused(self) -> None:
        with pytest.raises(IntegrityError):
            length_histogram(examples_of("a", "b"), {"p": answers_of("x")})
