"""Measure a study's data before anything is run: its split, its labels, its lengths, and what is done without a language model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from fettle.advice.in_documents import DocumentLook, look_into_documents
from fettle.advice.measured import Measured, counted, share
from fettle.advice.money import MoneyLook
from fettle.advice.probes import Known, classifier_score, consistency, constant_score, nearest_answer_score
from fettle.advice.timing import Timing
from fettle.advice_records import Measurement, Unit
from fettle.contenders.prompt import bare_prompt
from fettle.examples.checks.personal_kinds import KINDS
from fettle.examples.json_schema import parse_object
from fettle.progress import Listener, Stage
from fettle.records import Example, Finding, Split, TaskKind
from fettle.retrieval.embedder import CachedEmbedder, Embedder, MiniLMEmbedder
from fettle.scoring.abstention import plain
from fettle.scoring.containment import is_short
from fettle.statistics.intervals import mean_interval, wilson
from fettle.study.figures import spoken
from fettle.study.planning import StudyPlan

MOST_LEARNED, MOST_VALIDATED = 800, 200
"""Training and validation examples that probes look at: more would take minutes, and the intervals are narrow by then."""
_FEWEST_PAIRS = 10
"""Near-duplicate pairs below which consistency has no interval worth telling."""
_MOST_TOKENISED = 400
_PERSONAL_CODES = frozenset(kind.code for kind in KINDS)
_HELD_IN = "in training and validation examples"
_PROBING = "Trying what needs no language model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was measured, and what could not be."""

    measured: Measured
    notes: tuple[str, ...]


def look_at(
    plan: StudyPlan,
    timing: Timing | None,
    money: MoneyLook,
    listener: Listener,
    *,
    embedder: Embedder | None = None,
) -> Look:
    """Measure all of it.

    Args:
        plan: Of the study that would be run.
        timing: What this machine takes; None: it was not measured.
        money: What follows from it, and from prices.
        listener: Is told how far it is.
        embedder: Of sentence embeddings; None: the packaged one.

    Raises:
        ModelError: The packaged embedder cannot be loaded.
    """
    known = (*plan.split.train, *plan.split.valid)
    probed = Known(
        train=plan.split.train[:MOST_LEARNED],
        valid=plan.split.valid[:MOST_VALIDATED],
        cluster_by_id=plan.split.cluster_by_id,
    )
    probes = _Probes(plan, probed, CachedEmbedder(embedder or MiniLMEmbedder()), listener)
    documents = None if plan.documents is None else look_into_documents(plan, plan.documents, known)
    if documents is not None:
        listener.on_stage(Stage(name="Looking for answers in the documents", num_done=1, num_total=1))
    measured = _measured(plan, known, probes, documents or DocumentLook(), timing, money)
    notes = [*money.notes, *(documents.notes if documents else ())]
    if len(known) > len(probed.examples):
        notes.append(
            f"What needs no language model has learned from {len(probed.train):,} of {len(plan.split.train):,} training examples."
        )
    return Look(measured=measured, notes=tuple(notes))


@dataclass(frozen=True, slots=True)
class _Probes:
    """The scores that are reached without a language model."""

    plan: StudyPlan
    known: Known
    embedder: Embedder
    listener: Listener

    def run(self) -> Iterator[tuple[str, Measurement]]:
        """Each by the name of its field, with progress."""
        task, grader, seed = self.plan.data.task, self.plan.graders[0], self.plan.settings.seed
        folds = self.known.folds(task, seed)
        self.embedder.embed([example.input_text for example in self.known.examples])
        by = f"{spoken(grader.name)}, as the study scores it"
        learned = f"{by}; learned from training examples: cross-validated on them, near-duplicates kept together, and validation"
        kinds = ["constant", "nearest", *(["classifier"] if task.kind is TaskKind.LABELS else []), "consistency"]
        for number, kind in enumerate(kinds, start=1):
            match kind:
                case "constant":
                    found = constant_score(self.known, task, grader, folds)
                    title, how = "the same answer to every message", learned
                case "nearest":
                    found = nearest_answer_score(self.known, grader, embedder=self.embedder)
                    title = "the answer of the nearest other message"
                    how = f"{by}; nearest training message by sentence embeddings, near-duplicates left out"
                case "classifier":
                    found = classifier_score(self.known, task, grader, folds, embedder=self.embedder, seed=seed)
                    title, how = "a plain classifier", f"{learned}; logistic regression over embeddings and TF-IDF"
                case _:
                    pairs = consistency(self.known, grader, fewest=_FEWEST_PAIRS)
                    found = None if pairs is None else pairs[0]
                    title = "the answers of near-duplicates to each other"
                    how = "" if pairs is None else f"{by}; {pairs[1]:,} pairs {_HELD_IN}"
            if found is not None:
                yield kind, share(kind, title, found, how)
            self.listener.on_stage(Stage(name=_PROBING, num_done=number, num_total=len(kinds)))


def _measured(
    plan: StudyPlan,
    known: Sequence[Example],
    probes: _Probes,
    documents: DocumentLook,
    timing: Timing | None,
    money: MoneyLook,
) -> Measured:
    scores = dict(probes.run())
    power, rows = plan.detectable, _Rows.of(plan)
    needed = power.rows_needed[0]
    return Measured(
        task=plan.data.task.kind,
        has_documents=plan.documents is not None,
        num_train=counted("num_train", "training examples", len(plan.split.train), "example", "of the study's split"),
        num_test=counted("num_test", "test examples", len(plan.split.test), "example", "of the study's split"),
        detectable=Measurement(
            name="detectable",
            title="smallest difference that the test split can show",
            value=power.of_scores.smallest_difference,
            unit=Unit.DIFFERENCE,
            how="80 % power, 5 % two-sided, near-duplicates allowed for (Connor 1987), before any answer is known",
        ),
        rows_for_five_points=counted(
            "rows_for_five_points", "needed to show 5 points", needed.num_for_scores, "test example", "the same formula"
        ),
        num_labels=_num_labels(plan),
        examples_per_label=_examples_per_label(plan),
        repeated_answers=_repeated(known),
        near_duplicates=rows.repeating(plan.split),
        leaks=_leaks(plan.findings),
        probable_wrong_labels=rows.flagged(
            "probable_wrong_labels", "labels that a model of the others contradicts", "probable-wrong-label"
        ),
        conflicts=rows.flagged(
            "conflicts", "examples answered otherwise than the same input elsewhere", "conflicting-answers"
        ),
        not_json=rows.flagged("not_json", "answers that are no JSON object", "answer-not-json"),
        personal_data=rows.personal(),
        consistency=scores.get("consistency"),
        constant=scores.get("constant"),
        nearest=scores.get("nearest"),
        classifier=scores.get("classifier"),
        values_in_input=_values_in_input(plan, known),
        **_lengths(plan),
        answers_in_documents=documents.answers,
        documents_found=documents.found,
        absent_in_documents=documents.absent,
        told_in_documents=documents.told,
        answer_seconds=None if timing is None else timing.answer,
        training_seconds=None if timing is None else timing.training,
        traffic_for_hosting=money.traffic_for_hosting,
        traffic_for_hosting_is_reached=money.traffic_for_hosting_is_reached,
        points_to_pay=money.points_to_pay,
    )


def _num_labels(plan: StudyPlan) -> Measurement | None:
    if plan.data.task.kind is not TaskKind.LABELS:
        return None
    return counted(
        "num_labels", "answers to choose from", len(plan.data.task.labels), "label", "of the training examples"
    )


def _examples_per_label(plan: StudyPlan) -> Measurement | None:
    if plan.data.task.kind is not TaskKind.LABELS:
        return None
    counts = Counter(example.answer.strip() for example in plan.split.train)
    how = f"median over labels; the rarest has {min(counts.values()):,}"
    return counted("examples_per_label", "training examples of a label", median(counts.values()), "example", how)


def _repeated(known: Sequence[Example]) -> Measurement:
    counts = Counter(plain(example.answer) for example in known)
    repeated = sum(count for count in counts.values() if count > 1)
    interval = wilson(repeated, len(known))
    return share("repeated_answers", "answers that another message has too", interval, f"word for word, {_HELD_IN}")


def _leaks(findings: Sequence[Finding]) -> Measurement | None:
    number = len({(one.file, one.line) for one in findings if one.code.startswith("leak")})
    if not number:
        return None
    how = "as `fettle check --valid --test` finds them; of the files as they are"
    return counted("leaks", "rows of one of your files that another one has too, or nearly", number, "row", how)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The examples of the split with the codes of what was found about each: findings are about whole files."""

    codes: tuple[frozenset[str], ...]

    @staticmethod
    def of(plan: StudyPlan) -> _Rows:
        """Those of a study."""
        found: dict[tuple[str, int | None], set[str]] = defaultdict(set)
        for one in plan.findings:
            found[one.file, one.line].add(one.code)
        split = plan.split
        places = [(one.source.file, one.source.line) for one in (*split.train, *split.valid, *split.test)]
        return _Rows(tuple(frozenset(found.get(place, ())) for place in places))

    def flagged(self, name: str, title: str, code: str) -> Measurement | None:
        """The share that has a finding; None: none has."""
        number = sum(code in codes for codes in self.codes)
        return self._share(name, title, number, f"`fettle check` lists them as {code}") if number else None

    def personal(self) -> Measurement:
        """The share that holds personal data."""
        number = sum(not codes.isdisjoint(_PERSONAL_CODES) for codes in self.codes)
        how = "told by its form, as `fettle check` does; names alone are not found"
        return self._share("personal_data", "examples that hold personal data", number, how)

    def repeating(self, split: Split) -> Measurement:
        """The share that goes with an earlier one."""
        number = len(self.codes) - len(set(split.cluster_by_id.values()))
        how = "by the clusters of the split, which stay in one part: near-duplicates, and the groups of --group"
        return self._share("near_duplicates", "examples that go with an earlier one", number, how)

    def _share(self, name: str, title: str, number: int, how: str) -> Measurement:
        num_all = len(self.codes)
        return share(name, title, wilson(number, num_all), f"{number:,} of {num_all:,} examples; {how}")


def _values_in_input(plan: StudyPlan, known: Sequence[Example]) -> Measurement | None:
    """Of JSON: scalar values; of free text: short answers. Labels are not looked for."""
    kind = plan.data.task.kind
    if kind is TaskKind.LABELS:
        return None
    shares, clusters = [], []
    for example in known:
        values = _scalars(parse_object(example.answer)) if kind is TaskKind.JSON else [example.answer]
        values = [plain(value) for value in values]
        values = [value for value in values if is_short(value)]
        if values:
            text = f" {plain(example.input_text)} "
            shares.append(sum(f" {value} " in text for value in values) / len(values))
            clusters.append(plan.split.cluster_by_id[example.id])
    if len(shares) < _FEWEST_PAIRS or 2 * len(shares) < len(known):
        return None
    what = "values of the wanted records" if kind is TaskKind.JSON else "wanted answers"
    how = f"mean over {len(shares):,} examples {_HELD_IN} with short ones"
    return share(
        "values_in_input", f"{what} that stand in the message word for word", mean_interval(shares, clusters), how
    )


def _scalars(value: object) -> list[str]:
    """All texts and numbers in a JSON value; nothing else can stand in a message."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _scalars(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _scalars(inner)]
    if isinstance(value, bool) or value is None:
        return []
    return [f"{value:g}" if isinstance(value, float) else str(value)]


def _lengths(plan: StudyPlan) -> dict[str, Measurement]:
    renderer, model = plan.loaded.renderer, plan.loaded.name
    some = plan.split.train[:_MOST_TOKENISED]
    prompts, wholes, answers = [], [], []
    for example in some:
        prompt = bare_prompt(example)
        prompts.append(len(renderer.prompt_tokens(prompt.messages, prompt.tools)))
        answers.append(len(renderer.answer_tokens(example.answer)))
        instruction = sum(len(renderer.encode(one.content)) for one in example.prompt if one.is_system)
        wholes.append(prompts[-1] + answers[-1] - instruction)
    how = f"median over {len(some):,} training examples, tokens of {model}; the longest has"
    long = [one for one in plan.findings if one.code == "longer-than-the-model"]
    return {
        "prompt_tokens": counted("prompt_tokens", "prompt", median(prompts), "token", f"{how} {max(prompts):,}"),
        "answer_tokens": counted("answer_tokens", "wanted answer", median(answers), "token", f"{how} {max(answers):,}"),
        "shot_tokens": counted(
            "shot_tokens", "added by one example in the prompt", median(wholes), "token", f"{how} {max(wholes):,}"
        ),
        "context": counted(
            "context",
            "tokens that the model takes",
            plan.loaded.max_tokens,
            "token",
            f"by the configuration of {model}",
        ),
        "too_long": counted("too_long", "examples longer than that", len(long), "example", "left out of this look"),
    }
