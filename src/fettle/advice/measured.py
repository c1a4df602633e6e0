"""Everything that is measured before a run, by name: the rules read it, and it can be made by hand in a test."""

from __future__ import annotations

from dataclasses import dataclass, fields

from fettle.advice_records import Measurement, Unit
from fettle.records import Interval, TaskKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measurements of the data, of this machine and of money; None: it does not apply, or could not be measured."""

    task: TaskKind
    has_documents: bool
    num_train: Measurement
    num_test: Measurement
    detectable: Measurement
    """Smallest difference of mean scores that the test split finds."""
    rows_for_five_points: Measurement
    """Test examples that find a difference of five points."""
    num_labels: Measurement | None = None
    examples_per_label: Measurement | None = None
    """Median over labels."""
    repeated_answers: Measurement | None = None
    """Share of wanted answers that are given to another message too, word for word."""
    near_duplicates: Measurement
    """Share of examples that repeat another one, or nearly."""
    leaks: Measurement | None = None
    """Rows of the user's own parts that another part has too."""
    probable_wrong_labels: Measurement | None = None
    conflicts: Measurement | None = None
    """Share of examples answered otherwise than the same input elsewhere."""
    not_json: Measurement | None = None
    """Share of answers of a JSON task that are none."""
    personal_data: Measurement
    """Share of examples that hold personal data."""
    consistency: Measurement | None = None
    constant: Measurement | None = None
    nearest: Measurement | None = None
    classifier: Measurement | None = None
    values_in_input: Measurement | None = None
    """Share of the values of JSON answers, or of short answers, that stand word for word in the message."""
    prompt_tokens: Measurement
    answer_tokens: Measurement
    shot_tokens: Measurement
    """What one example in the prompt adds."""
    context: Measurement
    """Tokens that the model takes."""
    too_long: Measurement
    """Examples longer than that."""
    answers_in_documents: Measurement | None = None
    documents_found: Measurement | None = None
    """Share of questions that name their documents of which one is found."""
    absent_in_documents: Measurement | None = None
    """Share of questions that no document answers, by what the examples say."""
    told_in_documents: Measurement | None = None
    """Test questions that stand in the documents with their answers."""
    answer_seconds: Measurement | None = None
    """One answer of the model as it is, alone, on this machine."""
    training_seconds: Measurement | None = None
    traffic_for_hosting: Measurement | None = None
    """Requests a day from which a machine of one's own is cheaper than the large model."""
    traffic_for_hosting_is_reached: bool = False
    points_to_pay: Measurement | None = None
    """How many fewer wrong answers tuning must bring to pay for itself."""

    def all(self) -> tuple[Measurement, ...]:
        """All that was measured, in the order of the fields."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if isinstance(value, Measurement))

    @property
    def best_without_model(self) -> Measurement | None:
        """The best score that is reached without a language model; None: none was measured."""
        tried = [one for one in (self.constant, self.nearest, self.classifier) if one is not None]
        return max(tried, key=lambda one: one.number, default=None)


def share(name: str, title: str, interval: Interval, how: str) -> Measurement:
    """A share or mean score with its interval."""
    return Measurement(name=name, title=title, value=interval.estimate, unit=Unit.SHARE, how=how, interval=interval)


def counted(name: str, title: str, number: float, noun: str, how: str) -> Measurement:
    """A count."""
    return Measurement(name=name, title=title, value=float(number), unit=Unit.COUNT, how=how, noun=noun)


def seconds(name: str, title: str, number: float, how: str) -> Measurement:
    """A time."""
    return Measurement(name=name, title=title, value=number, unit=Unit.SECONDS, how=how)
