"""The graders of a study: which the user named, what they make of the wanted answers, what they took, what they could not score.

Graders that ask a model do so while the study runs and never while it is planned, and keep what came of it in its folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fettle.answering.address import public_address
from fettle.errors import ConfigError
from fettle.judging.settings import TokenPrices
from fettle.progress import Listener
from fettle.records import Answer, Example, Finding, Split, Task
from fettle.report_records import GradingModel, NamedGrader
from fettle.retrieval.lookup import PassageLookup
from fettle.scoring.abstention import learn_abstentions
from fettle.scoring.endpoint_sampler import EndpointSampler
from fettle.scoring.gradable import WantedScores, require_gradable, wanted_scores
from fettle.scoring.grader import Grader, score_answers
from fettle.scoring.grader_files import read_grader_file, require_known_variables
from fettle.scoring.graders.openai_json import OpenAIJson, item_of, readable_name
from fettle.scoring.graders.shown_passages import passage_graders
from fettle.scoring.kept_services import REPLIES, KeptSampler, kept_services
from fettle.scoring.openai_grader import GradingServices, NoSampler
from fettle.scoring.openai_graders.registry import require_services
from fettle.scoring.registry import default_graders, grader_by_name, grader_names
from fettle.scoring.sandbox.bubblewrap import BubblewrapRunner
from fettle.scoring.sandbox.limits import SandboxLimits
from fettle.settings import get_settings

if TYPE_CHECKING:
    from fettle.study.planning import StudyPlan
    from fettle.study.results import TestedRung

FOLDER = "grading"
"""What graders keep, in the study's folder."""
_NUM_ASKED_WANTED = 16
"""Wanted answers that a grading model is asked about: each of them is a request."""
_LOW_MEAN = 0.75
"""A grader that gives wanted answers less than that on average is told of loudly."""
_NUM_ITEMS = 200
_MOST_REASONS = 3
_BUILT_IN = "built-in"
_OTHER_METRICS = ("macro_f1", "label_likelihood")
"""Names of metrics that are no grader's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the graders that the user named give the wanted answers, as far as it is known yet."""

    by_name: Mapping[str, WantedScores]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Wanted answers that a grader calls rather wrong, or cannot score."""
        return tuple(finding for scores in self.by_name.values() for finding in scores.findings())

    @property
    def doubts(self) -> tuple[str, ...]:
        """Said where a grader gives the wanted answers little."""
        return tuple(
            f"The grader {name} gives the wanted answers themselves only {100 * scores.mean:.1f} % on average (of "
            f"{len(scores.values)}): an answer as wanted would be called wrong. Look at the grader, or at the answers, first."
            for name, scores in self.by_name.items()
            if scores.mean is not None and scores.mean < _LOW_MEAN
        )


# ---------------------------------------------------------------------------------------------------- which there are


def study_graders(
    named: Sequence[str | Path],
    task: Task,
    train: Sequence[Example],
    *,
    url: str | None = None,
    lookup: PassageLookup | None = None,
) -> tuple[Grader, ...]:
    """The graders of a study: those that were named, the first of which decides, then those of its task.

    Args:
        named: Names of built-in graders, and files.
        task: What kind of answer is wanted.
        train: Training examples, which some graders learn from.
        url: The endpoint of grading models; None: none was named.
        lookup: The passages that some contenders are shown; None: there are no documents.

    Raises:
        ConfigError: One is not there, or cannot be used; two are the same.
    """
    services = GradingServices(
        code_runner=BubblewrapRunner(SandboxLimits(seconds=get_settings().grader_seconds)),
        sampler=NoSampler() if url is None else EndpointSampler(url),
    )
    chosen: list[Grader] = []
    for one in named:
        grader = grader_by_name(one, task, train) if isinstance(one, str) else _of_file(one, train, services)
        if any(grader.name == other.name for other in chosen):
            raise ConfigError(
                f"two graders are called {grader.name!r}", where="--grader", remedy="give each a `name` of its own"
            )
        chosen.append(grader)
    names = [grader.name for grader in chosen]
    others = default_graders(task, train, from_documents=lookup is not None)
    of_passages = () if lookup is None else passage_graders(lookup, learn_abstentions(train))
    return (*chosen, *(grader for grader in (*others, *of_passages) if grader.name not in names))


def _of_file(path: Path, train: Sequence[Example], services: GradingServices) -> OpenAIJson:
    found = read_grader_file(path)
    grader, where = found.grader, str(path)
    if grader.models and isinstance(services.sampler, NoSampler):
        raise ConfigError(
            f"this grader asks the model {grader.models[0]!r}, and no endpoint is named",
            where=where,
            remedy="give --grader-url with the base URL of an OpenAI-compatible endpoint, such as that of `fettle serve`",
        )
    require_services(grader, services, where)
    require_known_variables(grader, [item_of(example) for example in train[:_NUM_ITEMS]], where=where)
    name = readable_name(grader.name, path.stem)
    name = path.stem if name == grader.kind else name  # a nameless one goes by its kind
    name = f"{name} ({grader.kind})" if name in (*grader_names(), *_OTHER_METRICS) else name
    return OpenAIJson(grader=grader, services=services, name=name, file=path.name, sha256=found.sha256)


def grader_hashes(graders: Sequence[Grader]) -> list[str]:
    """What identifies the graders that come from files: a changed one makes another study."""
    return [grader.sha256 for grader in graders if isinstance(grader, OpenAIJson)]


# ---------------------------------------------------------------------------------------------------- wanted answers


def wanted_before(graders: Sequence[Grader], num_named: int, split: Split) -> Wanted:
    """What the named graders, and the one that decides, give the wanted answers, as far as no model has to be asked.

    Raises:
        DataError: The one that decides cannot be used on this data.
    """
    found: dict[str, WantedScores] = {}
    for number, grader in enumerate(graders[: max(1, num_named)]):
        if _asks_models(grader):
            continue
        if number == 0:
            valid = require_gradable(grader, split.valid, "validation")
            scores = valid.joined(require_gradable(grader, split.test, "test"))
        else:
            scores = wanted_scores(grader, (*split.valid, *split.test))
        if number < num_named:
            found[grader.name] = scores
    return Wanted(by_name=found)


def wanted_of(graders: Sequence[Grader], examples: Sequence[Example]) -> Wanted:
    """What graders give the wanted answers; those that ask a model, some of them. Nothing is refused."""
    return Wanted(
        by_name={
            grader.name: wanted_scores(grader, examples[:_NUM_ASKED_WANTED] if _asks_models(grader) else examples)
            for grader in graders
        }
    )


def with_wanted_asked(plan: StudyPlan, listener: Listener) -> StudyPlan:
    """The plan, with what all named graders give wanted answers, grading models included; before a contender has said a word.

    Raises:
        DataError: The one that decides cannot be used on this data.
    """
    first = plan.graders[0]
    if _asks_models(first):
        require_gradable(first, plan.split.valid[:_NUM_ASKED_WANTED], "validation")
    wanted = wanted_of(plan.named_graders, (*plan.split.valid, *plan.split.test))
    told = set(plan.wanted.doubts)
    for doubt in wanted.doubts:
        if doubt not in told:
            listener.on_message(doubt)
    earlier = set(plan.wanted.findings)  # code that rolls dice may say another thing now, which is kept
    others = (finding for finding in plan.findings if finding not in earlier)
    return replace(plan, wanted=wanted, findings=(*others, *wanted.findings))


# ---------------------------------------------------------------------------------------------------- while it runs


def keeping_grades(plan: StudyPlan, listener: Listener) -> StudyPlan:
    """The plan with graders that keep what a model or code of the user has said, in the study's folder.

    Nothing is written before something is graded. Where nothing was asked yet, the models must answer.

    Raises:
        RemoteError: The endpoint of the grading models does not answer.
    """
    folder = plan.folder / FOLDER
    own = [grader for grader in plan.graders if isinstance(grader, OpenAIJson)]
    if not own:
        return plan
    services, models = own[0].services, [model for grader in own for model in grader.grader.models]
    if isinstance(services.sampler, EndpointSampler) and (plan.settings.fresh or not (folder / REPLIES).exists()):
        services.sampler.require_reachable(tuple(dict.fromkeys(models)))
    kept = kept_services(services, folder, address=public_address(plan.settings.grader_url or ""), listener=listener)
    graders = (grader.using(kept) if isinstance(grader, OpenAIJson) else grader for grader in plan.graders)
    return replace(plan, graders=tuple(graders))


def describe_graders(plan: StudyPlan) -> list[str]:
    """A line for each grader that the user named: what it is, whether it decides, and what it makes of the wanted answers."""
    lines = []
    for number, grader in enumerate(plan.named_graders):
        part = "shown" if number else "decides"
        scores = plan.wanted.by_name.get(grader.name)
        if scores is not None:
            lines.append(f"{described(grader)}, {part}; {scores.describe()}")
        elif isinstance(grader, OpenAIJson):
            asked, address = ", ".join(grader.grader.models), public_address(plan.settings.grader_url or "")
            lines.append(
                f"{described(grader)}, {part}; asks {asked} at {address} about every answer, which is not in these minutes"
            )
    return lines


def described(grader: Grader) -> str:
    """A grader's name with what it is."""
    if isinstance(grader, OpenAIJson):
        return f"{grader.name} ({grader.grader.kind} of {grader.file})"
    return f"{grader.name} ({_BUILT_IN})"


def named_graders(plan: StudyPlan) -> tuple[NamedGrader, ...]:
    """What the report says of the graders that the user named."""
    return tuple(_described(grader, plan) for grader in plan.named_graders)


def warnings_of_grading(
    tested: Sequence[TestedRung], test: Sequence[Example], named: Sequence[Grader], wanted: Wanted
) -> tuple[str, ...]:
    """What a reader must know of the graders that the user named: which are doubtful, and whom they could not score and why."""
    found = list(wanted.doubts)
    for grader in named:
        if isinstance(grader, OpenAIJson):
            for arm in tested:
                found += _unscored_note(arm.rung.contender.title, grader, test, arm.answers)
    return tuple(found)


def _unscored_note(title: str, grader: Grader, test: Sequence[Example], answers: Sequence[Answer]) -> list[str]:
    scores = score_answers(grader, test, answers)
    missing = [s for s, a in zip(scores, answers, strict=True) if s.value is None and not a.has_failed]
    if not missing:
        return []
    reasons = Counter(score.reason for score in missing).most_common(_MOST_REASONS)
    told = "; ".join(f"{reason} ({count})" for reason, count in reasons)
    again = " The same command tries again where a service failed." if any(s.is_retried for s in missing) else ""
    return [f"{title}: {len(missing)} of {len(test)} answers could not be scored by {grader.name}: {told}.{again}"]


def _described(grader: Grader, plan: StudyPlan) -> NamedGrader:
    scores = plan.wanted.by_name.get(grader.name)
    own = grader if isinstance(grader, OpenAIJson) else None
    sampler = None if own is None else own.services.sampler
    took = sampler.took() if isinstance(sampler, KeptSampler) else ()
    prices = plan.settings.grader_prices
    return NamedGrader(
        name=grader.name,
        kind=_BUILT_IN if own is None else own.grader.kind,
        decides=grader.name == plan.graders[0].name,
        wanted_mean=None if scores is None else scores.mean,
        num_wanted=0 if scores is None else len(scores.values),
        file=None if own is None else own.file,
        sha256=None if own is None else own.sha256,
        models=() if own is None else tuple(_priced(one, prices) for one in took if one.model in own.grader.models),
    )


def _priced(model: GradingModel, prices: TokenPrices | None) -> GradingModel:
    return model if prices is None else replace(model, price=prices.of(model.prompt_tokens, model.completion_tokens))


def _asks_models(grader: Grader) -> bool:
    return isinstance(grader, OpenAIJson) and grader.asks_models
