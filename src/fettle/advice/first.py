"""What to try before anything was run: the data are measured, the rules asked, and the next commands written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fettle.advice.again import without_options
from fettle.advice.deciding import advise_rungs
from fettle.advice.look import look_at
from fettle.advice.measured import Measured
from fettle.advice.mend import before_anything
from fettle.advice.money import Request, look_at_money
from fettle.advice.opinion import Case
from fettle.advice.questions import Answers, given_answers, with_money
from fettle.advice.timing import Timing, time_study
from fettle.advice_records import Advised, Command, FirstAdvice, Rung, RungAdvice
from fettle.contenders.prompt import bare_prompt
from fettle.economics.priced import Prices
from fettle.examples.split import describe_split
from fettle.models.device import chosen_device
from fettle.progress import Listener, Stage
from fettle.retrieval.embedder import Embedder
from fettle.study.economics_report import on_machine
from fettle.study.planning import StudyPlan

FEW_FOR_A_CURVE = 1_000
"""Training examples up to which a learning curve is worth its time: more of them are the usual next question."""
_NOT_OF_CHECK = ("--train-size", "--valid-size", "--test-size", "--instruction", "--task", "--documents", "--index")
_NOT_OF_CHECK += ("--model", "--seed", "--price-per-hour")
"""Options of a study that `fettle check` has not."""
_REMOTE_URL = "https://your-endpoint/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked for beside the data."""

    answers: Answers = field(default_factory=Answers)
    large_model: str | None = None
    """The name of the large model, for its price; None: none is named."""
    is_timed: bool = True
    data_words: tuple[str, ...] = ()
    """The examples and their options, as `fettle study` takes them."""
    economics: Path | None = None


def advise_first(
    plan: StudyPlan, wishes: Wishes, prices: Prices, listener: Listener, *, embedder: Embedder | None = None
) -> FirstAdvice:
    """Measure and advise. Nothing is trained, and the test split is not answered.

    Args:
        plan: Of the study that would be run: data, split, model, documents.
        wishes: Answers, and what else was asked for.
        prices: Where prices are looked up.
        listener: Is told how far it is.
        embedder: Of the probes; None: the packaged one.

    Raises:
        FettleError: Something cannot be measured; the message says why.
    """
    timing = _timed(plan, wishes, listener)
    said = on_machine(
        with_money(wishes.answers, plan.settings.economics),
        is_gpu=chosen_device().type == "cuda",
        price_per_hour=plan.settings.price_per_hour,
    )
    money = look_at_money(plan, timing, said, prices, _request(plan, wishes.large_model))
    look = look_at(plan, timing, money, listener, embedder=embedder)
    given = given_answers(wishes.answers, said)
    case = Case(measured=look.measured, answers=wishes.answers, given=given)
    rungs = advise_rungs(case)
    return FirstAdvice(
        name=plan.data.name,
        task=plan.data.task.kind,
        sizes=describe_split(plan.split),
        measurements=look.measured.all(),
        answers=tuple(given.values()),
        before=tuple(before_anything(look.measured)),
        rungs=rungs,
        commands=next_commands(look.measured, rungs, wishes, timing),
        notes=look.notes,
    )


def _timed(plan: StudyPlan, wishes: Wishes, listener: Listener) -> Timing | None:
    if not wishes.is_timed:
        return None
    listener.on_stage(Stage(name="Timing one training step and some answers", num_done=0, num_total=1))
    timing = time_study(plan)
    listener.on_stage(Stage(name="Timing one training step and some answers", num_done=1, num_total=1))
    return timing


def _request(plan: StudyPlan, model: str | None) -> Request | None:
    """What the large model would be sent: the same texts, counted in tokens of the model here."""
    if model is None:
        return None
    renderer, some = plan.loaded.renderer, plan.split.train[:200]
    prompts = [bare_prompt(example) for example in some]
    return Request(
        model=model,
        prompt_tokens=sum(len(renderer.prompt_tokens(one.messages, one.tools)) for one in prompts) / len(some),
        answer_tokens=sum(len(renderer.answer_tokens(example.answer)) for example in some) / len(some),
    )


def next_commands(
    measured: Measured, rungs: tuple[RungAdvice, ...], wishes: Wishes, timing: Timing | None
) -> tuple[Command, ...]:
    """What to type next."""
    advised, wanted = {one.rung: one.advised for one in rungs}, (Advised.TRY, Advised.TRY_FIRST)
    commands = []
    if any(True for _ in before_anything(measured)):
        check = without_options(wishes.data_words, _NOT_OF_CHECK)
        commands.append(
            Command(purpose="see every finding, with its line and its remedy", words=("fettle", "check", *check))
        )
    study = ["fettle", "study", *wishes.data_words]
    if wishes.economics is not None:
        study += ["--economics", str(wishes.economics)]
    if advised[Rung.LARGE] in wanted:
        study += ["--remote", _REMOTE_URL, "--remote-model", wishes.large_model or "NAME"]
    seconds = None if timing is None else timing.study_seconds
    if advised[Rung.TUNED] in wanted or advised[Rung.TUNED_RETRIEVAL] in wanted:
        purpose = "try all rungs at once, tuning included (the forgetting check comes on top)"
        commands.append(Command(purpose=purpose, words=tuple(study), seconds=seconds))
        if measured.num_train.number <= FEW_FOR_A_CURVE:
            purpose = "the same, and what more examples would bring"
            commands.append(Command(purpose=purpose, words=(*study, "--learning-curve")))
    else:
        purpose = (
            "try the cheaper rungs; a study trains too, here briefly, so that you see what tuning would have brought"
        )
        commands.append(Command(purpose=purpose, words=(*study, "--epochs", "1", "--no-forgetting")))
    return tuple(commands)
