"""The tuned model that a study is given: it is what it says, and all that it has learned from is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from databases import fresh_store
from fettle.chat.renderer import ChatRenderer
from fettle.errors import ConfigError, DataError, ModelError
from fettle.models.adapter import LoraSettings
from fettle.models.load import load_tokenizer
from fettle.store.database import Store, now
from fettle.store.jobs import Job, JobKind, JobStatus, add_job
from fettle.store.models import NoSuchModelError, TunedModel, add_tuned_model
from fettle.store.taught import TRAINING_COPY
from fettle.study import given_model as module
from fettle.study.given_model import as_trained, given_model
from fettle.study.settings import StudySettings
from fettle.training.settings import Method, TrainingSettings
from kept_models import keep_tuned
from tiny_models import save_tiny_model
from tuned_models import save_tuned_adapter

ROW = {"messages": [{"role": "user", "content": "where is it"}, {"role": "assistant", "content": "lost"}]}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with fresh_store(tmp_path / "home") as store:
        monkeypatch.setattr(module, "open_store", lambda: Unclosed(store))
        yield store


class Unclosed:
    """The test's store, which the code under test must not close."""

    def __init__(self, store: Store) -> None:
        self.reading, self.jobs, self.files, self.models = store.reading, store.jobs, store.files, store.models

    def close(self) -> None:
        """Nothing."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "tiny", "llama")


@pytest.fixture
def kept(store: Store, base: Path, tmp_path: Path) -> TunedModel:
    """A model of a job, whose training file holds one row."""
    model = keep_tuned(store, base, save_tuned_adapter(base, tmp_path / "adapter"))
    assert model.job_id is not None
    job = Job(
        id=model.job_id, project_id=model.project_id, kind=JobKind.FINE_TUNING, status=JobStatus.SUCCEEDED,
        created_at=now(), request={"base": model.base, "continues": None}, model=model.base, training_file="file-1",
    )  # fmt: skip
    with store.writing() as connection:
        add_job(connection, job)
    copy = store.jobs / model.job_id / TRAINING_COPY
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps(ROW) + "\n")
    return model


def settings(model: str, **other: object) -> StudySettings:
    return StudySettings(examples=Path("a.jsonl"), model=model, **other)  # type: ignore[arg-type]


def test_what_it_is_and_what_it_has_learned_from(store: Store, kept: TunedModel, base: Path) -> None:
    given = given_model(settings(kept.id, seed=4))
    assert given is not None
    assert (given.name, given.method, given.base.path.resolve()) == (kept.id, Method.LORA, base.resolve())
    assert [one.answer for one in given.taught] == ["lost"]
    assert as_trained(settings(kept.id), given).training == TrainingSettings()
    given.require_template(ChatRenderer(load_tokenizer(given.base)))
    told = given.describe(num_seen=3)
    assert (told.name, told.job, told.step, told.num_seen) == (kept.id, kept.job_id, None, 3)


def test_a_checkpoint_is_studied_too(store: Store, kept: TunedModel) -> None:
    checkpoint = replace(kept, id=f"{kept.id}:ckpt-step-5", step=5)
    with store.writing() as connection:
        add_tuned_model(connection, checkpoint)
    given = given_model(settings(checkpoint.id))
    assert given is not None
    assert (given.describe(num_seen=0).step, len(given.taught)) == (5, 1)


def test_a_whole_model_is_one(store: Store, kept: TunedModel) -> None:
    whole = replace(kept, id="ft:tiny:fettle::whole123", is_adapter=False)
    with store.writing() as connection:
        add_tuned_model(connection, whole)
    given = given_model(settings(whole.id))
    assert given is not None
    assert as_trained(settings(whole.id), given).training.method is Method.FULL


def test_other_names_are_those_of_models_to_tune() -> None:
    assert given_model(StudySettings(examples=Path("a.jsonl"))) is None
    assert given_model(settings("smollm2-135m-instruct")) is None


@pytest.mark.parametrize(
    ("training", "options"),
    [
        (TrainingSettings(epochs=2), "--epochs"),
        (TrainingSettings(lora=LoraSettings.of_rank(4)), "--rank and --lora-variant"),
        (TrainingSettings(method=Method.QLORA), "--method"),
    ],
)
def test_options_that_shape_a_training_are_refused(training: TrainingSettings, options: str) -> None:
    with pytest.raises(ConfigError, match=f"nothing is trained, so {options} would change nothing"):
        given_model(settings("ft:tiny:fettle::abcd1234", training=training))


def test_what_cannot_be_relied_on_is_refused(store: Store, kept: TunedModel, base: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSuchModelError):
        given_model(settings("ft:tiny:fettle::nothing1"))
    given = given_model(settings(kept.id))
    assert given is not None
    other = ChatRenderer(load_tokenizer(module.kept_model(store, kept.id).base))
    changed = replace(given, kept=replace(given.kept, model=replace(kept, template_sha256="0" * 64)))
    with pytest.raises(ModelError, match="chat template of the base model"):
        changed.require_template(other)
    (store.jobs / str(kept.job_id) / TRAINING_COPY).unlink()
    with pytest.raises(DataError, match="not there any more"):
        given_model(settings(kept.id))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}))
    with pytest.raises(ModelError, match="was tuned from another"):
        given_model(settings(kept.id))
