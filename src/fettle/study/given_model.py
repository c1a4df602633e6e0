"""A tuned model of the store that is studied instead of one that the study trains."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from fettle.chat.renderer import ChatRenderer
from fettle.errors import ConfigError, ModelError
from fettle.examples.seen import read_seen
from fettle.export.kept import KeptModel, kept_model
from fettle.forgetting.replay import ReplaySettings
from fettle.models.resolve import ResolvedModel
from fettle.models.strength import tuned_sha256
from fettle.records import Example
from fettle.report_records import StudiedModel
from fettle.store.opening import open_store
from fettle.store.taught import taught_files
from fettle.study.settings import StudySettings
from fettle.training.settings import Method, TrainingSettings

_PREFIX = "ft:"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenModel:
    """A tuned model, what it was tuned from, and what it has learned from."""

    kept: KeptModel
    taught: tuple[Example, ...]
    """Of its training and validation files, and of those of the models that it goes on from."""
    sha256: str
    """Of its weights."""

    @property
    def name(self) -> str:
        """As the server knows it."""
        return self.kept.model.id

    @property
    def base(self) -> ResolvedModel:
        """What it was tuned from."""
        return self.kept.base

    @property
    def folder(self) -> Path:
        """Its files."""
        return self.kept.folder

    @property
    def method(self) -> Method:
        """How it was trained."""
        return Method.LORA if self.kept.model.is_adapter else Method.FULL

    def require_template(self, renderer: ChatRenderer) -> None:
        """Show that the base model's chat template is the one that the model was trained with.

        Raises:
            ModelError: It is another one.
        """
        if renderer.template.sha256 != self.kept.model.template_sha256:
            raise ModelError(
                f"the chat template of the base model {self.base.public_id!r} has changed since {self.name} was trained",
                where=str(self.base.path),
                remedy="put the earlier base model back, or tune again",
            )

    def describe(self, *, num_seen: int) -> StudiedModel:
        """For the report."""
        model = self.kept.model
        return StudiedModel(
            name=model.id,
            job=model.job_id,
            step=model.step,
            base_model=self.base.public_id,
            tuned_path=str(self.folder),
            is_adapter=model.is_adapter,
            num_seen=num_seen,
        )

    def warnings(self, num_seen: int, num_all: int) -> tuple[str, ...]:
        """Said of what it has seen: its figures are those of the examples that it has not.

        Args:
            num_seen: Examples of the study that it has learned from.
            num_all: All examples of the study.
        """
        if not num_seen:
            return ()
        return (
            f"{num_seen:,} of {num_all:,} examples were in the data that {self.name} was trained or validated on, or nearly so, "
            "or go with one that was: they are training examples here, and nothing is tested on them.",
        )


def given_model(settings: StudySettings) -> GivenModel | None:
    """The tuned model that `--model ft:...` names; None: another name, and the study trains one.

    Raises:
        NoSuchModelError: There is none of this name.
        ConfigError: An option shapes a training, and there is none.
        ModelError: The base model's files have changed since, or are not there.
        DataError: What it was trained on is not there any more.
    """
    if settings.model is None or not settings.model.startswith(_PREFIX):
        return None
    _refuse_training_options(settings)
    store = open_store()
    try:
        kept = kept_model(store, settings.model)
        files = taught_files(store, kept.model)
    finally:
        store.close()
    return GivenModel(
        kept=kept,
        taught=tuple(example for file in files for example in read_seen(file.path, file.name)),
        sha256=tuned_sha256(kept.folder),
    )


def as_trained(settings: StudySettings, given: GivenModel) -> StudySettings:
    """The settings, with the method that the model was trained by."""
    return replace(settings, training=replace(settings.training, method=given.method))


def _refuse_training_options(settings: StudySettings) -> None:
    """Refuse what shapes a training.

    Raises:
        ConfigError: Something does.
    """
    usual = TrainingSettings(seed=settings.seed)
    changed = [one.name for one in fields(usual) if getattr(settings.training, one.name) != getattr(usual, one.name)]
    beside = {
        "search": settings.num_trials is not None,
        "learning_curve": settings.learning_curve,
        "replay": settings.replay != ReplaySettings(),
    }
    changed += [name for name, is_given in beside.items() if is_given]
    if changed:
        options = ", ".join("--rank and --lora-variant" if n == "lora" else f"--{n.replace('_', '-')}" for n in changed)
        raise ConfigError(
            f"{settings.model} is tuned already and nothing is trained, so {options} would change nothing",
            where="--model",
            remedy="leave that out, or name a base model to train one",
        )
