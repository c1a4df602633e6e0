"""A finished study with a tiny tuned model in a store: what releases are made of, without the minutes of a real study."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from adapters import write_adapter
from build_report import label_report
from fettle.answering.engine_pool import EnginePool
from fettle.files import sha256_of_json
from fettle.form_records import AnswerForm
from fettle.models.load import load_model
from fettle.models.precision import Precision
from fettle.progress import SilentListener
from fettle.records import Message
from fettle.releases.asking import ReleaseAsker
from fettle.releases.records import ContenderKind, ReleasedContender
from fettle.report_records import StudyReport
from fettle.store.database import Store, now
from fettle.store.jobs import Job, JobKind, JobStatus, add_job, change_status
from fettle.store.models import TunedModel
from fettle.study.report import write_report
from kept_models import keep_tuned
from report_forgetting import forgetting
from tiny_models import load_tiny_model, save_tiny_model

INSTRUCTION = "Answer with the one queue that fits the message."
LABELS = ("billing", "delivery", "refund")
SHOTS = (Message(role="user", content="It is late"), Message(role="assistant", content="delivery"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasableStudy:
    """Where it lies, and what it says."""

    folder: Path
    report: StudyReport
    model: TunedModel
    asker: ReleaseAsker
    pool: EnginePool


def releasable_study(store: Store, folder: Path, *, num_rows: int = 20) -> ReleasableStudy:
    """A study of labels whose tuned answers are those of the tuned model, all of them right."""
    base = save_tiny_model(folder / "tiny-llama", "llama")
    adapter = write_adapter(load_tiny_model(base), folder / "adapter", seed=1)
    model = keep_tuned(store, base, adapter)
    pool = EnginePool(load=lambda source, _: load_model(source, Precision.EXACT))
    asker = ReleaseAsker(store, pool, SilentListener())
    contender = ReleasedContender(
        kind=ContenderKind.TUNED, model=model.id, instruction=INSTRUCTION, form=AnswerForm(labels=LABELS)
    )
    report = _report(num_rows)
    again = asker.again(contender, "tuned", report.rows, project_id=model.project_id, count=num_rows)
    rows = tuple(
        replace(
            one.row,
            wanted=one.text,
            answers={**one.row.answers, "tuned": one.text, "prompt": "refund"},
            scores={**one.row.scores, "tuned": 1.0, "prompt": 0.0},
        )
        for one in again
    )
    origin = replace(report.provenance, model_sha256=model.base_sha256, template_sha256=model.template_sha256)
    report = replace(report, rows=rows, provenance=origin)
    study = folder / "study"
    write_report(report, study)
    (study / "study.json").write_text(json.dumps({"format": "fettle-study", "key": "the key"}))
    job = Job(
        id=model.job_id or "",
        project_id=model.project_id,
        kind=JobKind.STUDY,
        status=JobStatus.RUNNING,
        created_at=now(),
        request={},
        model=model.base,
        metadata={"fettle_study": sha256_of_json(["the key", str(study.resolve())])},
    )
    with store.writing() as connection:
        add_job(connection, job)
        change_status(
            connection,
            job.id,
            from_=[JobStatus.RUNNING],
            to=JobStatus.SUCCEEDED,
            tuned_model=model.id,
            finished_at=now(),
        )
    return ReleasableStudy(folder=study, report=report, model=model, asker=asker, pool=pool)


def _report(num_rows: int) -> StudyReport:
    report = label_report(num_rows=num_rows, labels=LABELS)
    rows = tuple(
        replace(row, input_text=f"{row.input_text} ({row.example_id})", cluster=place)
        for place, row in enumerate(report.rows)
    )
    rows = tuple(replace(row, answers={**row.answers, "tuned": "delivery"}) for row in rows)
    system = Message(role="system", content=INSTRUCTION)
    asked = Message(role="user", content=rows[0].input_text)
    told = {
        "tuned": (system, asked),
        "prompt": (replace(system, content=f"{INSTRUCTION}\n\nOne of billing, delivery, refund."), asked),
        "few_shot": (system, *SHOTS, asked),
    }
    contenders = tuple(
        replace(one, told=told.get(one.name, ()), is_fine_tuned=one.name == "tuned") for one in report.contenders
    )
    first = replace(report.comparisons[0], challenger="tuned")
    return replace(
        report,
        rows=rows,
        contenders=contenders,
        comparisons=(first, *report.comparisons[1:]),
        forgetting=forgetting(lost=0.0),
        provenance=replace(report.provenance, instruction=INSTRUCTION),
    )
