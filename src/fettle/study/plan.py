"""What a study is going to take, said before it starts: tokens, minutes and memory."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.chat.renderer import ChatRenderer
from fettle.contenders.language_model import json_separators
from fettle.contenders.prompt import bare_prompt
from fettle.errors import DataError
from fettle.examples.json_schema import parse_object, with_bounds
from fettle.forgetting.ask import ask
from fettle.forgetting.items import general_suite
from fettle.models.load import LoadedModel, fits_machine, stored_quantisation
from fettle.models.precision import BaseWeights
from fettle.models.resolve import ResolvedModel
from fettle.progress import SilentListener
from fettle.records import Example, Split, Task, TaskKind, TokenisedExample, num_text_bytes
from fettle.report_records import TrainingCost
from fettle.retrieval.citations import with_citations
from fettle.retrieval.fence import Wording
from fettle.study.settings import CURVE_PARTS, SEARCH_PARTS, SEARCHED_EPOCHS, STRENGTHS, StudySettings
from fettle.training.expected import expected_cost

_NUM_MEASURED_ANSWERS = 12
_MEASURED_TOKENS = 8
_NUM_MEASURED_QUESTIONS = 24
NUM_LOCAL_ANSWER_RUNS = 3.5
"""How often the validation and test splits are answered by local language models, the choosing of variants included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenisedSplit:
    """The training and validation examples as the model learns from them."""

    train: tuple[TokenisedExample, ...]
    valid: tuple[TokenisedExample, ...]

    @property
    def num_train_tokens(self) -> int:
        """Tokens of one pass over the training examples."""
        return sum(len(example.token_ids) for example in self.train)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is to be expected, from one measured training step and one measured batch of answers."""

    training: TrainingCost | None
    """For all epochs; None: nothing is trained."""
    answer_seconds: float
    base_bytes: int
    """The weights of the base model, as they are held while it is trained."""
    tried_seconds: float = 0.0
    """Of further trainings: those of a settings search and of a learning curve."""
    forgetting_seconds: float = 0.0
    """Of asking both models what is not the task."""
    passages_seconds: float = 0.0
    """Of the contenders that are shown passages: of asking them, and of training one."""
    price_per_hour: float | None = None
    """Of the machine, in the user's currency; None: it was not said."""

    @property
    def minutes(self) -> float:
        """Everything together."""
        training_seconds = 0.0 if self.training is None else self.training.seconds
        others = self.answer_seconds + self.tried_seconds + self.forgetting_seconds + self.passages_seconds
        return (training_seconds + others) / 60

    @property
    def price(self) -> float | None:
        """Of everything together, in the user's currency; None: what the machine costs was not said."""
        return None if self.price_per_hour is None else self.minutes / 60 * self.price_per_hour


def tokenise(renderer: ChatRenderer, split: Split) -> TokenisedSplit:
    """Training and validation examples as tokens with their loss.

    Raises:
        DataError: 0 % or 100 % of an example would be trained.
    """
    return TokenisedSplit(
        train=renderer.rows_of(split.train),
        valid=renderer.rows_of(split.valid),
    )


def fit_to_context(
    split: Split, renderer: ChatRenderer, *, max_tokens: int, leave_out: bool
) -> tuple[Split, tuple[Example, ...]]:
    """The split without examples that are longer than the model takes, and those examples.

    Raises:
        DataError: There are such examples and `leave_out` is false, or nothing would be left.
    """
    limit = max_tokens

    def is_long(example: Example) -> bool:
        # Cheap bound first: a token is at least one byte, so short texts need no tokenising.
        if num_text_bytes(example.messages, example.tools) < limit // 2:
            return False
        return max(len(row.token_ids) for row in renderer.example_rows(example)) > limit

    long = tuple(e for part in (split.train, split.valid, split.test) for e in part if is_long(e))
    if not long:
        return split, ()
    if not leave_out:
        places = ", ".join(str(example.source) for example in long[:5])
        raise DataError(
            f"{len(long)} example(s) are longer than the {limit} tokens the model takes: {places}{' ...' if len(long) > 5 else ''}",
            remedy="shorten them, name a model with a longer context, or give --leave-out-long to study the rest",
        )
    gone = {example.id for example in long}
    parts = {
        name: tuple(example for example in part if example.id not in gone)
        for name, part in (("train", split.train), ("valid", split.valid), ("test", split.test))
    }
    empty = [name for name, part in parts.items() if not part]
    if empty:
        raise DataError(
            f"without the long examples nothing is left in: {', '.join(empty)}", remedy="shorten the examples"
        )
    return replace(split, train=parts["train"], valid=parts["valid"], test=parts["test"]), long


def generation_options(
    settings: StudySettings, task: Task, split: Split, renderer: ChatRenderer, wording: Wording | None = None
) -> GenerationOptions:
    """How long an answer may be and which form it is kept in, from the training answers.

    Twice the longest training answer, so that what is cut runs on, and no answer of usual length is cut short (`cut_answers.py`).
    What is kept in a form ends by itself.

    Args:
        settings: The study.
        task: What kind of answer is wanted.
        split: Whose training answers are looked at.
        renderer: Turns them into tokens.
        wording: How contenders are shown passages, where some are: there is room to abstain, and to name each of the passages.
    """
    form = None
    longest = max(len(renderer.answer_tokens(example.answer)) for example in split.train)
    limit = 2 * longest + 8
    if wording is not None and settings.documents is not None:
        numbers = range(1, settings.documents.search.num_passages + 1) if wording.asks_for_citations else ()
        said = "" if wording.abstention is None else wording.abstention
        longest = max(longest, len(renderer.answer_tokens(said)))
        limit = max(limit, longest + len(renderer.encode(with_citations("", numbers))) + 8)
    if task.kind is TaskKind.JSON and task.json_schema is not None:
        limit = int(longest * 1.5) + 16
        item, key = json_separators([example.answer for example in split.train])
        bounded = with_bounds(json.loads(task.json_schema), [parse_object(example.answer) for example in split.train])
        form = JsonForm(
            schema=task.json_schema,
            bounded_schema=json.dumps(bounded, ensure_ascii=False),
            item_separator=item,
            key_separator=key,
        )
    return GenerationOptions(max_new_tokens=settings.max_new_tokens or limit, form=form)


def prompted_weights(source: ResolvedModel, settings: StudySettings) -> BaseWeights:
    """In which form the contenders without fine-tuning get the model.

    As given: the best of them is what a tuned model has to beat, and nobody has to quantise a model to put a prompt to it. Where
    the files hold 4 bits, or the machine could not hold the model as given, the quantised model is all that there is to be asked.
    """
    if settings.training.method.base_weights is BaseWeights.AS_GIVEN:
        return BaseWeights.AS_GIVEN
    as_given = stored_quantisation(source) is None and fits_machine(source, settings.precision)
    return BaseWeights.AS_GIVEN if as_given else BaseWeights.NF4


def estimate(
    loaded: LoadedModel,
    tokens: TokenisedSplit,
    data: Split,
    settings: StudySettings,
    options: GenerationOptions,
    *,
    trains: bool = True,
) -> Estimate:
    """Measure one training step, where one is trained, and one small batch of answers, and multiply. Nothing is kept of either.

    Raises:
        ResourceError: The machine has not the memory for the training.
    """
    from fettle.models.nf4 import num_weight_bytes
    from fettle.training.base import base_of

    with base_of(settings.training.method, loaded) as base:
        base_bytes = num_weight_bytes(base.model)
        training = None
        if trains:
            training = expected_cost(
                base, tokens.train, tokens.valid, settings.training, price_per_hour=settings.price_per_hour
            )
    num_answers = len(data.valid) + len(data.test)
    answer_seconds = _seconds_per_answer(loaded, data.valid, options)
    return Estimate(
        training=training,
        answer_seconds=_num_answer_runs(settings) * num_answers * answer_seconds,
        tried_seconds=0.0 if training is None else _num_further_trainings(settings) * training.seconds,
        forgetting_seconds=_forgetting_seconds(loaded, settings, trains=trains),
        base_bytes=base_bytes,
        price_per_hour=settings.price_per_hour,
    )


def _num_answer_runs(settings: StudySettings) -> float:
    """How often validation and test split are answered, about."""
    return NUM_LOCAL_ANSWER_RUNS + len(CURVE_PARTS) * settings.learning_curve + settings.routing.num_samples


def _num_further_trainings(settings: StudySettings) -> float:
    """Trainings beside the one of the study's own model, in units of that one, answers to validation left out."""
    curve = sum(CURVE_PARTS) if settings.learning_curve else 0.0
    if settings.num_trials is None:
        return curve
    left, search = settings.num_trials, 0.0
    for part in SEARCH_PARTS:
        search += part * left
        left = -(-left // 2)
    return curve + search * fmean(SEARCHED_EPOCHS) / settings.training.epochs


def _forgetting_seconds(loaded: LoadedModel, settings: StudySettings, *, trains: bool) -> float:
    """Of the general suite, put to the base model once and to the tuned one at every strength; measured on a part of it."""
    from fettle.answering.engines.plain import local_engine

    forgetting = settings.forgetting
    if forgetting is None:
        return 0.0
    suite = general_suite()
    some = suite[:: -(-len(suite) // _NUM_MEASURED_QUESTIONS)]
    started = time.perf_counter()
    ask(local_engine(loaded), some, SilentListener(), who="")
    seconds = (time.perf_counter() - started) * len(suite) / len(some)
    is_swept = trains and forgetting.sweeps_strength and settings.training.method.trains_adapter
    return seconds * (1 + (len(STRENGTHS) if is_swept else 1))


def _seconds_per_answer(loaded: LoadedModel, examples: Sequence[Example], options: GenerationOptions) -> float:
    from fettle.answering.engines.plain import local_engine

    engine = local_engine(loaded)
    chosen = examples[:_NUM_MEASURED_ANSWERS]
    prompts = [bare_prompt(example) for example in chosen]
    length = sum(len(loaded.renderer.answer_tokens(example.answer)) for example in chosen) / len(chosen)
    few, more = 1, min(1 + _MEASURED_TOKENS, options.max_new_tokens)
    seconds = {}
    for num_tokens in (few, few, more):  # the first call warms up
        started = time.perf_counter()
        engine.generate(prompts, GenerationOptions(max_new_tokens=num_tokens))
        seconds[num_tokens] = time.perf_counter() - started
    per_token = (seconds[more] - seconds[few]) / max(1, more - few)
    return (seconds[few] + max(0.0, per_token) * (length - few)) / len(chosen)
