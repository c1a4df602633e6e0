"""A contender of a finished study as one that can be released: what its model is asked, from the study's report and its job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from fettle.contenders.language_model import json_separators
from fettle.errors import ConfigError, DataError
from fettle.files import sha256_of_file
from fettle.form_records import AnswerForm
from fettle.jobs.study_job import finished_study_job
from fettle.records import ContenderResult, Message, TaskKind
from fettle.releases.records import ContenderKind, ReleasedContender, ReleasedIndex
from fettle.report_records import StudyReport
from fettle.retrieval.fence import Wording
from fettle.store.model_indexes import AttachedIndex, index_of_model
from fettle.store.models import NoSuchModelError, TunedModel, find_model, list_base_models
from fettle.study.report import read_report
from fettle.study.workspace import study_key

_REPORT = "report.json"
_RELEASED = {kind.value: kind for kind in ContenderKind}
_WHY_NOT = {
    "few_shot_nearest": "it looks up other examples for every request, which the server does not do",
    "classifier": "it is no language model, and the server asks language models alone",
    "constant": "it gives one answer to everything",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySource:
    """A finished study, and where it lies."""

    folder: Path
    report: StudyReport
    report_sha256: str


def read_study(folder: Path) -> StudySource:
    """The study in a folder.

    Raises:
        DataError: It is not finished, or there is none.
    """
    path = folder / _REPORT
    report = read_report(path)
    if not report.rows:
        raise DataError("the study's report has no test rows", where=str(path), remedy="run the study again")
    return StudySource(folder=folder, report=report, report_sha256=sha256_of_file(path))


def contender_of(
    connection: Connection, project_id: str, source: StudySource, wanted: str | None
) -> tuple[str, ReleasedContender]:
    """A contender's key in the report, and how the server asks it.

    Args:
        connection: To the store that the study has kept its model in.
        project_id: Whose study it is.
        source: The study.
        wanted: The contender's key; None: the tuned one that the verdict is about.

    Raises:
        ConfigError: There is no such contender, or it cannot be released.
        DataError: The store does not hold its model.
    """
    report = source.report
    verdict_about = report.comparisons[0].challenger
    name = wanted or verdict_about
    result = next((one for one in report.contenders if one.name == name), None)
    if result is None:
        raise ConfigError(
            f"the study has no contender {name!r}",
            where="--contender",
            remedy=f"name one of {', '.join(one.name for one in report.contenders)}",
        )
    if name not in _RELEASED:
        raise ConfigError(
            f"{result.title} cannot be released: {_WHY_NOT.get(name, 'the server does not know how to ask it')}",
            where="--contender",
            remedy=f"name one of {', '.join(one.name for one in report.contenders if one.name in _RELEASED)}",
        )
    kind = _RELEASED[name]
    if kind.is_tuned and name != verdict_about:
        raise ConfigError(
            f"the study kept the model of {verdict_about} alone, which the verdict is about, and not that of {name}",
            where="--contender",
            remedy=f"release {verdict_about}",
        )
    if kind is ContenderKind.REMOTE:
        return name, _remote(report, result)
    tuned, base = _kept_models(connection, project_id, source)
    model = tuned if kind.is_tuned else base
    if model is None:
        raise _not_kept(source)
    index = _index(connection, project_id, tuned) if kind.shows_passages else None
    own = _own_turns(report)
    instruction = _instruction(report, result, index)
    return name, ReleasedContender(
        kind=kind,
        model=model,
        instruction=instruction,
        shots=_shots(result, own) if kind is ContenderKind.FEW_SHOT else (),
        form=report.answer_forms.get(name, _form_of_task(report)),
        index=index,
        precision=report.provenance.precision,
    )


def _remote(report: StudyReport, result: ContenderResult) -> ReleasedContender:
    """The endpoint's model, asked as in the study; what may be secret in its address is in no report, and in no release."""
    told = report.provenance.settings.get("remote") or {}
    if not told.get("url") or not told.get("model"):
        raise DataError(
            "the report does not say which endpoint was asked",
            where="remote",
            remedy="run the study again with --remote",
        )
    return ReleasedContender(
        kind=ContenderKind.REMOTE,
        model=told["model"],
        instruction=_instruction(report, result, None),
        form=report.answer_forms.get(result.name, _form_of_task(report)),
        url=told["url"],
    )


def has_whole_prompts(report: StudyReport) -> bool:
    """Whether the report's rows say all that was asked: an instruction for all, and one turn of the user."""
    own = _own_turns(report)
    is_one_turn = len(own) == 1 and own[0].role == "user" and own[0].content == report.rows[0].input_text
    return is_one_turn and not _has_own_system_messages(report)


def _has_own_system_messages(report: StudyReport) -> bool:
    told = next(one.told for one in report.contenders if one.is_fine_tuned)
    return report.provenance.instruction is None and bool(told) and told[0].is_system


def _own_turns(report: StudyReport) -> tuple[Message, ...]:
    """The first test example's turns, without its instruction: what contenders without shots and passages are told."""
    plain = (ContenderKind.TUNED.value, ContenderKind.PROMPT.value)
    told = next((one.told for one in report.contenders if one.name in plain and one.told), ())
    return tuple(message for message in told if not message.is_system)


def _instruction(report: StudyReport, result: ContenderResult, index: ReleasedIndex | None) -> str | None:
    """The system message that its requests begin with; what is said about passages is put there when they are found."""
    told = result.told[0].content if result.told and result.told[0].is_system else None
    if told is not None and index is not None:
        rule = Wording(abstention=index.abstention, asks_for_citations=index.asks_for_citations).rule
        told = told.removesuffix(rule).rstrip() or None
    if not _has_own_system_messages(report):
        return told
    tuned = next(one.told for one in report.contenders if one.is_fine_tuned)
    if told == tuned[0].content:
        return None
    raise ConfigError(
        f"{result.title} cannot be released: every example has a system message of its own, and a hint derived from the training "
        "examples stands at the end of each",
        where="--contender",
        remedy="give the study an --instruction, or release the tuned contender",
    )


def _shots(result: ContenderResult, own: tuple[Message, ...]) -> tuple[Message, ...]:
    turns = tuple(message for message in result.told if not message.is_system)
    shots = turns[: len(turns) - len(own)]
    if not own or turns[len(shots) :] != own or not shots:
        raise DataError(
            "the report does not show which examples stand in the prompt: the first test example is too long for them",
            where="few_shot",
            remedy="leave long examples out of the study with --leave-out-long, or release another contender",
        )
    return shots


def _form_of_task(report: StudyReport) -> AnswerForm | None:
    """As far as a report of an older version tells it: its parity is measured with it like any other."""
    match report.task.kind:
        case TaskKind.LABELS:
            return AnswerForm(labels=report.task.labels)
        case TaskKind.JSON if report.task.json_schema is not None:
            item, key = json_separators([row.wanted for row in report.rows])
            return AnswerForm(json_schema=report.task.json_schema, item_separator=item, key_separator=key)
        case _:
            return None


def _kept_models(connection: Connection, project_id: str, source: StudySource) -> tuple[str | None, str | None]:
    """What the study has kept in the store: its tuned model, and its base model; None: it is not there."""
    studied = source.report.studied_model
    key = study_key(source.folder)
    job = None if key is None else finished_study_job(connection, project_id, key, source.folder)
    tuned = studied.name if studied is not None else None if job is None else job.tuned_model
    if tuned is not None:
        try:
            found = find_model(connection, project_id, tuned)
        except NoSuchModelError:
            return None, None
        return tuned, found.base if isinstance(found, TunedModel) else None
    bases = {model.id for model in list_base_models(connection)}
    return None, job.model if job is not None and job.model in bases else None


def _index(connection: Connection, project_id: str, tuned: str | None) -> ReleasedIndex:
    attached: AttachedIndex | None = None if tuned is None else index_of_model(connection, tuned, project_id)
    if attached is None:
        raise ConfigError(
            "the store does not say which index the study has searched: its tuned model answers without one",
            where="--contender",
            remedy="`fettle models attach MODEL --index NAME` says which",
        )
    return ReleasedIndex(
        index_id=attached.index_id,
        num_passages=attached.num_passages,
        method=attached.method,
        reranker=attached.reranker,
        max_tokens=attached.max_tokens,
        abstention=attached.abstention,
        asks_for_citations=attached.asks_for_citations,
        system_begin=attached.system_begin,
        system_end=attached.system_end,
    )


def _not_kept(source: StudySource) -> DataError:
    return DataError(
        "this store does not hold the model of this study",
        where=str(source.folder),
        remedy="run the same `fettle study` command again, with the FETTLE_HOME of the server: it keeps the model",
    )
