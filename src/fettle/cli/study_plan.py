"""What `fettle study` says before it begins: what the study will take and can show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from fettle.records import Action

if TYPE_CHECKING:
    from fettle.report_records import TrainingCost
    from fettle.study.plan import Estimate
    from fettle.study.planning import StudyPlan


def print_plan(console: Console, plan: StudyPlan) -> Estimate:
    """Say what the study will take, and return it."""
    from fettle.examples.split import describe_split
    from fettle.study.figures import byte_size
    from fettle.study.planning import estimate_study
    from fettle.study.power import power_lines
    from fettle.study.retrieval_report import warnings_of_documents

    with console.status("Measuring one training step"):
        expected = estimate_study(plan)
    lines = [
        ("Task", f"{plan.data.task.kind.value}: {plan.data.task.reason}"),
        ("Instruction", plan.data.instruction.describe()),
        ("Split", describe_split(plan.split)),
        ("Findings", _findings_line(plan)),
        ("Model", f"{plan.loaded.name}, precision {plan.loaded.precision.value}{_plain_note(plan)}"),
        *([("4 bits", _nf4_note(plan, byte_size(expected.base_bytes)))] if _is_nf4(plan) else []),
        *[("Grader", line) for line in _grader_lines(plan)],
        *([("Divided", _divided_note(plan, byte_size(expected.base_bytes)))] if plan.settings.training.shard else []),
        *([("Documents", _documents_note(plan, expected.passages_seconds))] if plan.documents else []),
        *[("Documents, note", text) for text in warnings_of_documents(plan.findings)],
        *([("Engine", _engine_note(plan))] if not _is_local(plan) else []),
        ("Training", _training_note(plan, expected.training)),
        *([("Tried", _tried_note(plan, expected.tried_seconds))] if expected.tried_seconds else []),
        *([("Forgetting", _forgetting_note(plan, expected.forgetting_seconds))] if plan.settings.forgetting else []),
        ("Answering", f"{_duration(expected.answer_seconds)}; together {_duration(60 * expected.minutes)}"),
        *([("Memory", _memory_line(plan, expected.training))] if expected.training is not None else []),
        *([("Cost", _cost_note(expected))] if expected.price is not None else []),
        *power_lines(plan.detectable),
        ("Folder", str(plan.folder)),
    ]
    for name, text in lines:
        console.print(f"[bold]{name}[/bold]", end=": ")
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    return expected


def _documents_note(plan: StudyPlan, seconds: float) -> str:
    assert plan.documents is not None, "asked where there are documents"
    trains = ", one of them trained with them," if plan.documents.settings.trains and plan.given is None else ""
    return f"{plan.documents.retriever().describe()}; contenders with passages{trains} take {_duration(seconds)} more"


def _grader_lines(plan: StudyPlan) -> list[str]:
    """A line for each grader that the user named, and what is doubtful about it."""
    from fettle.study.grading import describe_graders

    return [*describe_graders(plan), *plan.wanted.doubts]


def _training_note(plan: StudyPlan, planned: TrainingCost | None) -> str:
    if planned is None or plan.given is not None:
        assert plan.given is not None, "a study trains a model or is given one"
        return f"none: {plan.given.name} is studied as it is{_seen_note(plan)}"
    return (
        f"{plan.tokens.num_train_tokens:,} tokens an epoch, at most {_counted_epochs(plan)}; "
        f"{_duration(planned.seconds)}{_processes_note(planned)}"
    )


def _tried_note(plan: StudyPlan, seconds: float) -> str:
    trials = plan.settings.num_trials
    search = [] if trials is None else [f"{trials} settings on validation"]
    curve = ["models of 25 and 50 % of the examples"] if plan.settings.learning_curve else []
    return f"{' and '.join((*search, *curve))}; {_duration(seconds)}"


def _forgetting_note(plan: StudyPlan, seconds: float) -> str:
    from fettle.forgetting.items import general_suite
    from fettle.study.figures import counted

    assert plan.settings.forgetting is not None, "it is looked for"
    own = plan.must_still_work
    asked = counted(len(general_suite()), "general question")
    asked += "" if own is None else f" and {counted(len(own.examples), 'example')} of yours"
    if plan.harness is not None:
        asked += f", and {', '.join(plan.harness.settings.tasks)} of lm-evaluation-harness"
        asked += f" ({fetched})" if (fetched := plan.harness.fetched_in_words) else ""
    return (
        f"{asked}, put to the base model and to the tuned one; {plan.settings.forgetting.budget.points:g} points may be lost; "
        f"{_duration(seconds)}"
    )


def _seen_note(plan: StudyPlan) -> str:
    from fettle.study.figures import counted

    if not plan.data.num_seen:
        return "; it has learned from none of these examples"
    return f"; {counted(plan.data.num_seen, 'example')} that it has learned from, or nearly, will not be tested on"


def _memory_line(plan: StudyPlan, planned: TrainingCost) -> str:
    from fettle.study.figures import byte_size

    return f"about {byte_size(planned.peak_memory_bytes)}{_memory_notes(plan, planned)}"


def _cost_note(expected: Estimate) -> str:
    from fettle.study.figures import amount

    assert expected.price_per_hour is not None, "an hour has a price"
    assert expected.price is not None, "and so has all of it"
    training = None if expected.training is None else expected.training.price
    part = "" if training is None else f", of which training {amount(training)}"
    return f"about {amount(expected.price)}{part}, at {amount(expected.price_per_hour)} an hour"


def _processes_note(planned: TrainingCost) -> str:
    return f" in {planned.num_processes} processes" if planned.num_processes > 1 else ""


def _divided_note(plan: StudyPlan, size: str) -> str:
    num_processes = plan.settings.training.processes
    return (
        f"each of {num_processes} processes holds {size} of the base model; whatever is answered puts all layers together for each "
        "token, which is slow"
    )


def _memory_notes(plan: StudyPlan, planned: TrainingCost) -> str:
    """What is done to hold no more than there is."""
    from fettle.training.settings import MOST_TOKENS_AT_ONCE

    notes = ""
    chosen = planned.max_tokens if plan.settings.training.micro_batch_tokens is None else None
    if chosen is not None and chosen < MOST_TOKENS_AT_ONCE:
        notes += f"; {chosen:,} tokens at once, for more do not fit"
    if planned.recomputes:
        notes += "; layers are computed again in the backward pass, which takes a third more time"
    return notes


def _duration(seconds: float) -> str:
    """Rounded to what an estimate can know."""
    if seconds < 60:
        return "less than a minute"
    return f"about {seconds / 60:.1f} minutes" if seconds < 600 else f"about {seconds / 60:.0f} minutes"


def _findings_line(plan: StudyPlan) -> str:
    from fettle.study.figures import counted
    from fettle.study.retrieval_report import warnings_of_documents

    if not plan.findings:
        return "none"
    kinds = {finding.code for finding in plan.findings}
    counts = f"{counted(len(plan.findings), 'finding')} of {counted(len(kinds), 'kind')}"
    check = "`fettle check`" if plan.settings.test is None else "`fettle check` with the same --valid and --test"
    leaked = sum(finding.code.startswith("leak") and finding.action is Action.LEFT_OUT for finding in plan.findings)
    left_out = f"; {counted(leaked, 'row')} left out, for a held-out part asks the same" if leaked else ""
    others = " (but for those of the documents)" if warnings_of_documents(plan.findings) else ""
    return f"{counts}{left_out}; {check} lists them{others}, and so does the report"


def _plain_note(plan: StudyPlan) -> str:
    reason = plan.loaded.plain_reason
    return f"; run in the plain way, which is several times slower, because {reason}" if reason else ""


def _is_local(plan: StudyPlan) -> bool:
    from fettle.answering.answer_with import EngineKind

    return plan.settings.answer_with.kind is EngineKind.LOCAL


def _engine_note(plan: StudyPlan) -> str:
    return (
        f"{plan.settings.answer_with.kind} answers for the base and the tuned model, once it has been shown to answer as the "
        "reference does; the minutes told here are the reference's"
    )


def _is_nf4(plan: StudyPlan) -> bool:
    from fettle.models.precision import BaseWeights

    return plan.settings.training.method.base_weights is BaseWeights.NF4


def _nf4_note(plan: StudyPlan, size: str) -> str:
    from fettle.models.precision import BaseWeights

    note = f"the base model is trained, and answers as the tuned contender, with its weights in NF4 ({size})"
    if plan.loaded.base_weights is BaseWeights.NF4:
        return f"{note}; so do the prompted contenders, because the model as given does not fit here, or is quantised already"
    return f"{note}; the prompted contenders have the model as given"


def _counted_epochs(plan: StudyPlan) -> str:
    epochs = plan.settings.training.epochs
    return f"{epochs} epoch{'s' if epochs != 1 else ''}"
