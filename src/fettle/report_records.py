"""The report of a study and its parts, which `report.json` holds: frozen, plain data like `fettle.records`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fettle.economics_records import EconomicsReport
from fettle.form_records import AnswerForm
from fettle.records import Comparison, ContenderResult, Finding, Interval, Task, Verdict
from fettle.retrieval_records import RetrievalReport
from fettle.routing_records import RoutingReport
from fettle.tuning_records import LearningCurve, SettingsSearch, StrengthSweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectable:
    """What a test split can show at all, before any result is known."""

    num_examples: int
    num_clusters: int
    design_effect: float
    smallest_difference: float
    """Smallest true difference of two arms' mean scores that is found with `power` at two-sided `alpha`, in [0, 1]."""
    num_examples_to_halve: int
    """Test examples needed to detect half of `smallest_difference`."""
    alpha: float = 0.05
    power: float = 0.80


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsNeeded:
    """Test examples that it takes, clusters included, to find a difference of so many points."""

    difference: float
    """Of mean scores, in [0, 1]; of a win rate, its distance from one half."""
    num_for_scores: int
    num_for_win_rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectableDifference:
    """What a test split can show, in scores and in win rates, and what it would take to show more."""

    of_scores: Detectable
    smallest_win_rate: float
    """Smallest true win rate, ties as half, that is found to lie above one half; in (0.5, 1]."""
    rows_needed: tuple[RowsNeeded, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """Losses at one optimiser step."""

    step: int
    epoch: float
    train_loss: float | None = None
    """Mean loss per trained token, nats."""
    valid_loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCost:
    """What a training run takes, as it was planned or as it was."""

    seconds: float
    """Of steps and evaluations, wall time; planned: those of all epochs."""
    peak_memory_bytes: int
    """The most that its processes held together, the base model included."""
    num_tokens: int
    """Tokens of the examples of all steps, shared prefixes counted in each."""
    num_processes: int = 1
    recomputes: bool = False
    """Whether layers were computed again in the backward pass, to hold less memory."""
    max_tokens: int | None = None
    """Bound on the tokens that are run at once; None: an older version wrote this."""
    price_per_hour: float | None = None
    """Of the machine, in the user's currency; None: it was not said."""

    @property
    def price(self) -> float | None:
        """Of these seconds, in the user's currency.

        >>> TrainingCost(seconds=1800, peak_memory_bytes=0, num_tokens=0, price_per_hour=1.2).price
        0.6
        """
        return self.price_of(self.seconds)

    def price_of(self, seconds: float) -> float | None:
        """Of so many seconds on the same machine."""
        return None if self.price_per_hour is None else seconds / 3600 * self.price_per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """How the tuned contender came to be."""

    base_model: str
    tuned_path: str
    settings: Mapping[str, str | int | float | bool | None]
    loss_points: tuple[LossPoint, ...]
    best_step: int
    num_steps: int
    stopped_early: bool
    num_train_examples: int
    """The task's own."""
    num_trained_tokens: int
    num_processed_tokens: int
    seconds: float
    peak_memory_bytes: int
    planned: TrainingCost | None = None
    """None: the run was not planned, or a version that did not keep the plan began it."""
    num_replayed_examples: int = 0
    """General examples with the base model's own answers that were learned beside the task's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudiedModel:
    """The tuned contender of a study that trained none."""

    name: str
    """As the server knows it, `ft:...`."""
    job: str | None
    """The job that trained it."""
    step: int | None
    """Of a checkpoint; None: what the job ended with."""
    base_model: str
    tuned_path: str
    is_adapter: bool
    num_seen: int
    """Examples of the study that it has learned from, or that go with one: they are training examples, and not tested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRow:
    """One test example with every contender's answer, for the side-by-side view."""

    example_id: str
    source: str
    input_text: str
    wanted: str
    answers: Mapping[str, str]
    scores: Mapping[str, float | None]
    """Primary score by contender; None: unscored."""
    errors: Mapping[str, str] = field(default_factory=dict)
    """Why the request failed, by contender; those that answered are not in it."""
    passages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of what each contender was shown, in rank order; those that are shown nothing are not in it."""
    cited: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of what each of these names."""
    cluster: int | None = None
    """As in `records.Split.cluster_by_id`; None: an older version, which did not keep it, wrote this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Counts of (wanted label, answered label) for one contender; `answered` outside the label set is under `other`."""

    contender: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """[wanted][answered], one more column than rows: the last is `other`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartScore:
    """How well one label, or one field of JSON answers, was found. Rates are in [0, 1]; one over nothing is None, never 0."""

    name: str
    num_wanted: int
    num_answered: int
    num_right: int
    precision: float | None
    """Share of what was answered that is right."""
    recall: float | None
    """Share of what was wanted that was found."""
    f1: float | None
    """Harmonic mean of the two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartScores:
    """Where one contender is good and bad: every label of a label task, every field that was wanted or answered of a JSON task."""

    contender: str
    parts: tuple[PartScore, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthHistogram:
    """Number of answers by length in words."""

    bin_edges: tuple[int, ...]
    counts_by_series: Mapping[str, tuple[int, ...]]
    """One series per contender, and `wanted`; each one shorter than `bin_edges`."""


class BudgetDecision(StrEnum):
    """Whether what was forgotten is within the budget."""

    WITHIN = "within"
    BROKEN = "broken"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillChange:
    """What a base model and the tuned one scored on the same questions."""

    name: str
    title: str
    base: float
    """Mean score in [0, 1], as that of `tuned`."""
    tuned: float
    change: Interval
    """`tuned` minus `base`."""
    num_items: int
    """Questions that both were scored on."""
    num_unscored: int
    num_worse: int
    """Questions on which the tuned model scores less than the base model."""
    num_better: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDivergence:
    """KL(base ‖ tuned) of the next token, along the base model's own answers to the task's inputs."""

    nats: float
    """Mean over all tokens."""
    interval: Interval | None
    """None: all inputs belong together, or have the same mean, so that nothing is known of the spread."""
    num_tokens: int
    num_inputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """What the tuned model has forgotten of what its base model could do."""

    budget_points: float
    """The most that may be lost, in percentage points of the mean score."""
    general: SkillChange
    """On the whole general suite."""
    general_decision: BudgetDecision
    categories: tuple[SkillChange, ...]
    suite_sha256: str
    """Of the general suite: only results with the same one can be compared."""
    own: SkillChange | None = None
    """On the user's own examples of what must still work; None: there are none."""
    own_decision: BudgetDecision | None = None
    divergence: TokenDivergence | None = None
    """None: it was not measured."""
    harness: tuple[SkillChange, ...] = ()
    """On tasks of lm-evaluation-harness, a change for each that was asked for; shown, and held against no budget."""

    @property
    def decision(self) -> BudgetDecision:
        """Broken where one of the two is, within where both are."""
        decisions = {self.general_decision, self.own_decision}
        worst_first = (BudgetDecision.BROKEN, BudgetDecision.CANNOT_TELL)
        return next((one for one in worst_first if one in decisions), BudgetDecision.WITHIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedBeside:
    """A tuned contender that the verdict is not about."""

    contender: str
    tuned_path: str
    training: TrainingSummary | None
    """None: it was there before."""
    strength_sweep: StrengthSweep | None
    """None: there was none."""
    forgetting: Forgetting | None
    """None: it was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradingModel:
    """What a model that grades took in one study, for all graders that ask it."""

    model: str
    address: str
    num_replies: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Wall time of waiting for them, several at a time."""
    price: float | None = None
    """In the user's currency; None: what tokens cost was not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedGrader:
    """A grader that the user has named for a study."""

    name: str
    """As its metrics call it."""
    kind: str
    """`built-in`, or the `type` of its JSON."""
    decides: bool
    """Whether the verdict stands on it."""
    wanted_mean: float | None
    """Mean score that it gives the wanted answers themselves; None: none of them could be scored."""
    num_wanted: int
    """Wanted answers that it scored."""
    file: str | None = None
    """None: it is built in."""
    sha256: str | None = None
    """Of its JSON."""
    models: tuple[GradingModel, ...] = ()
    """Models that it asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Everything needed to run the study again."""

    command: str
    seed: int
    created_at: str
    fettle_version: str
    versions: Mapping[str, str]
    machine: str
    data_sha256: Mapping[str, str]
    split_sha256: Mapping[str, str]
    template_sha256: str
    model_sha256: str
    instruction: str | None
    """The system message of every example; None: each has its own."""
    instruction_origin: str
    settings: Mapping[str, Any]
    """As JSON values."""
    test_look_number: int
    """The place of this study among those on this machine that have read answers to any of these test questions."""
    num_test_looks: int
    """How many have by now, this one included."""
    precision: str | None = None
    """In which the local engine has answered, a `models.precision.Precision`; None: another engine, or an older version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport:
    """One dataset, all contenders, one verdict."""

    name: str
    task: Task
    verdict: Verdict
    declaration: str
    """The primary comparison, as declared before the test split was answered."""
    primary_metric: str
    detectable: Detectable
    """In mean scores; in win rates: `smallest_win_rate`."""
    contenders: tuple[ContenderResult, ...]
    comparisons: tuple[Comparison, ...]
    """The primary one first."""
    training: TrainingSummary | None
    """None: the tuned contender was there before (`studied_model`)."""
    findings: tuple[Finding, ...]
    num_examples: Mapping[str, int]
    """By split: train, valid, test."""
    rows: tuple[AnswerRow, ...]
    confusions: tuple[Confusion, ...]
    part_scores: tuple[PartScores, ...]
    """By contender; empty where the answers are free text."""
    length_histogram: LengthHistogram | None
    provenance: Provenance
    studied_model: StudiedModel | None = None
    """None: the study trained its tuned contender (`training`)."""
    forgetting: Forgetting | None = None
    """None: it was not measured."""
    strength_sweep: StrengthSweep | None = None
    """None: there was none."""
    learning_curve: LearningCurve | None = None
    """None: it was not asked for."""
    settings_search: SettingsSearch | None = None
    """None: the settings were given or derived."""
    smallest_win_rate: float | None = None
    """Of `DetectableDifference`; None: an older version, which did not say it, wrote this."""
    rows_needed: tuple[RowsNeeded, ...] = ()
    """Of `DetectableDifference`; empty: an older version wrote this."""
    retrieval: RetrievalReport | None = None
    """None: there were no documents."""
    routing: RoutingReport | None = None
    """None: no large contender was measured beside the tuned one, or how far its answers can be trusted could not be told."""
    tuned_beside: tuple[TunedBeside, ...] = ()
    """Further tuned contenders, which did worse on validation."""
    graders: tuple[NamedGrader, ...] = ()
    """Those that the user named, the one that decides first."""
    economics: EconomicsReport | None = None
    """None: an older version, which did not say it, wrote this."""
    answer_forms: Mapping[str, AnswerForm] = field(default_factory=dict)
    """By contender; those whose answers are free, or that are not prompted, are not in it. An older version kept none."""
    tuned_sha256: str | None = None
    """Of the weights that answered as the tuned contender (`models.strength.tuned_sha256`); None: an older version wrote this."""
    warnings: tuple[str, ...] = field(default=())
    """What a reader must know before trusting the figures."""
