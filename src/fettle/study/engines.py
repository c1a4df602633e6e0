"""The engines that answer a study for the base model and for what was trained, as the user chose.

An engine other than the reference holds weights of its own: a file written for it, or a server's. Before any of its answers counts
it is held against the reference, first without what was trained, which shows how much the two differ by rounding, then with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fettle.answering.answer_with import EngineKind
from fettle.answering.engine import Engine
from fettle.answering.same_answers import (
    CheckRow,
    Expected,
    Reference,
    check_row,
    reference_of,
    require_same_answers,
)
from fettle.answering.start_up_check import difference
from fettle.contenders.prompt import bare_prompt
from fettle.errors import ConfigError, IntegrityError, ModelError, WrongModelError
from fettle.export.run import export_source
from fettle.export.settings import ExportFormat, ExportSettings, WeightType
from fettle.export.source import TunedSource
from fettle.files import sha256_of_json
from fettle.models.adapter import require_bare
from fettle.models.load import LoadedModel, converted_folder
from fettle.models.precision import BaseWeights, Precision
from fettle.models.resolve import ResolvedModel, WeightsKind
from fettle.progress import Listener
from fettle.records import Example
from fettle.study.settings import StudySettings
from fettle.training.settings import Method

if TYPE_CHECKING:
    from fettle.answering.engines.token_engine import TokenEngine

FOLDER = "engines"
"""Where the files of engines lie within a study's folder, for as long as it runs."""
_DTYPES = {
    (EngineKind.OPENVINO, Precision.EXACT): torch.float16,
    (EngineKind.LLAMACPP, Precision.EXACT): torch.float32,
}
"""The coarsest number format of an engine and its weights; bf16 where nothing is said."""
_UNCHANGED = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.05}
"""Nats. The same computation with the same weights gives the same again, but for what a GPU rounds otherwise."""


class StudyEngines:
    """Makes the engines of one study, and closes those that are not the reference.

    Args:
        settings: The study.
        loaded: The base model, as the contenders without fine-tuning have it.
        rows: What engines are held against the reference on.
        folder: The study's.
        listener: Is told what takes a while.
        key: The study's, by which a server knows its adapter.
    """

    def __init__(
        self,
        settings: StudySettings,
        loaded: LoadedModel,
        rows: Sequence[CheckRow],
        *,
        folder: Path,
        listener: Listener,
        key: str,
    ) -> None:
        self._choice, self._loaded, self._rows = settings.answer_with, loaded, rows
        self._folder, self._listener, self._key = folder / FOLDER, listener, key
        self._dtype = _DTYPES.get((self._choice.kind, loaded.precision), torch.bfloat16)
        self._opened: list[TokenEngine] = []
        self._noise = 0.0
        self._base: TokenEngine | None = None
        self._untuned: dict[tuple[int, ...], torch.Tensor] = {}
        """Logits of the first token after each prompt, by the reference, without what was trained."""

    @property
    def is_reference(self) -> bool:
        """Whether the reference itself answers."""
        return self._choice.kind is EngineKind.LOCAL

    def base(self) -> Engine:
        """The engine of the contenders without fine-tuning.

        Raises:
            IntegrityError: It does not answer as the reference does.
            ModelError: The model cannot be written for it.
            RemoteError: The server does not answer.
        """
        from fettle.answering.engines.plain import local_engine

        reference = reference_of(self._loaded)
        self._untuned = {row.prompt: reference(row.prompt)[-1:].clone() for row in self._rows}
        if self.is_reference:
            return local_engine(self._loaded)
        self._listener.on_message(f"Preparing {self._choice.kind} to answer, and holding it against the reference")
        self._base = engine = self._opened_engine(
            self._loaded, _whole(self._loaded.source), self._loaded.name, adapter=None
        )
        self._noise = require_same_answers(engine, self._expected(self._loaded, reference, untuned=None), self._rows)
        return engine

    def require_base(self) -> None:
        """Show, when everything has been trained and its engine is closed, that the base model says what it said before.

        Raises:
            WrongModelError: It does not: an adapter is on it, or was merged into it, or a server mixes the two up.
        """
        require_bare(self._loaded.model)
        reference = reference_of(self._loaded)
        changes = [difference(reference(prompt)[-1:], before_1V) for prompt, before_1V in self._untuned.items()]
        if (found := max(changes, default=0.0)) > _UNCHANGED[self._loaded.model.dtype]:
            raise WrongModelError(
                f"what should be the base model says something else than before the training, by {found:.3g} nats: an adapter was "
                "merged into its weights, or these were changed",
                remedy="report this; the same command goes on with the base model as its files hold it",
            )
        if self._base is None:
            return
        try:
            require_same_answers(self._base, self._expected(self._loaded, reference, untuned=None), self._rows)
        except IntegrityError as error:
            raise WrongModelError(
                f"{error.problem}, since it has the tuned model as well", remedy=error.remedy
            ) from error

    def tuned(self, tuned: LoadedModel, folder: Path, name: str, *, is_adapter: bool) -> Engine:
        """The engine of what was trained.

        Args:
            tuned: The model with what was trained in place: the adapter that is on it, or weights of its own.
            folder: What training left.
            name: What it is called in a report.
            is_adapter: Whether it is an adapter of the base model.

        Raises:
            IntegrityError: It does not answer as the reference does.
            ModelError: The model cannot be written for it.
            RemoteError: The server does not answer, or does not load the adapter.
        """
        source = TunedSource(folder=folder, is_adapter=is_adapter, base=self._loaded.source)
        engine = self._opened_engine(tuned, source, name, adapter=folder)
        expected = self._expected(tuned, reference_of(tuned), untuned=lambda row: self._untuned[tuple(row)])
        require_same_answers(engine, expected, self._rows)
        return engine

    def close(self) -> None:
        """Close what was opened, and remove its files."""
        while self._opened:
            self._opened.pop().close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _expected(self, loaded: LoadedModel, reference: Reference, *, untuned: Reference | None) -> Expected:
        return Expected(
            reference=reference,
            untuned=untuned,
            stop_token_ids=loaded.stop_token_ids,
            dtype=self._dtype,
            noise=self._noise,
        )

    def _opened_engine(
        self, loaded: LoadedModel, source: TunedSource, name: str, *, adapter: Path | None
    ) -> TokenEngine:
        engine = self._make(loaded, source, name, adapter)
        self._opened.append(engine)
        return engine

    def _make(self, loaded: LoadedModel, source: TunedSource, name: str, adapter: Path | None) -> TokenEngine:
        match self._choice.kind:
            case EngineKind.OPENVINO:
                from fettle.answering.engines.openvino import OpenVinoEngine

                return self._of_file(lambda file: OpenVinoEngine(loaded, file, name=name), source, WeightType.F16)
            case EngineKind.LLAMACPP:
                from fettle.answering.engines.llama_cpp import LlamaCppEngine

                is_exact = loaded.precision is Precision.EXACT
                weight_type = WeightType.F32 if is_exact else WeightType.BF16
                return self._of_file(lambda file: LlamaCppEngine(loaded, file, name=name), source, weight_type)
            case _:
                from fettle.answering.engines.vllm import VllmEngine
                from fettle.answering.engines.vllm_server import VllmServer

                assert self._choice.url is not None, "shown by AnswerWith"
                adapter_name = f"fettle-{sha256_of_json([self._key, str(adapter)])[:12]}"
                return VllmEngine(loaded, VllmServer(self._choice.url), adapter=adapter, adapter_name=adapter_name)

    def _of_file(
        self, make: Callable[[Path], TokenEngine], source: TunedSource, weight_type: WeightType
    ) -> TokenEngine:
        """An engine of a GGUF file, which is removed as soon as the engine has it."""
        name = "base" if source.base is None else "tuned"
        file = self._folder / f"{name}.gguf"
        settings = ExportSettings(
            source=source.folder, format=ExportFormat.GGUF, out=file, weight_type=weight_type, model=None
        )
        try:
            export_source(source, settings, self._listener)
        except ModelError as error:
            raise ModelError(
                f"the model cannot be written for {self._choice.kind}: {error.problem}",
                where="--answer-with",
                remedy="leave it out, and the reference answers",
            ) from error
        engine = make(file)
        file.unlink()
        return engine


def require_usable(settings: StudySettings) -> None:
    """Refuse, before anything is read, an engine that cannot answer this study.

    Raises:
        ConfigError: It is not installed, or cannot hold what the method trains.
    """
    kind, method = settings.answer_with.kind, settings.training.method
    if kind is EngineKind.LOCAL:
        return
    if method.base_weights is BaseWeights.NF4:
        raise _does_not_go_together(
            kind, method, "what is trained belongs to a base model in 4 bits, which it does not hold"
        )
    if kind is EngineKind.VLLM and method is Method.FULL:
        raise _does_not_go_together(kind, method, "a server loads adapters while it runs, and no whole models")
    if settings.training.shard and kind is not EngineKind.VLLM:
        raise ConfigError(
            f"{kind} holds the whole model in this process, and --shard is for models that do not fit one",
            where="--answer-with",
            remedy="leave it out, and the divided model answers; or answer with vllm=URL",
        )
    if kind is EngineKind.OPENVINO:
        from fettle.answering.engines.openvino import import_openvino

        import_openvino()
    if kind is EngineKind.LLAMACPP:
        from fettle.answering.engines.llama_cpp import import_llama_cpp

        import_llama_cpp()


def check_rows_of(loaded: LoadedModel, examples: Sequence[Example]) -> list[CheckRow]:
    """What engines are held against the reference on: prompts with their wanted answers."""
    return [check_row(loaded.renderer, bare_prompt(example), example.answer) for example in examples]


def _whole(source: ResolvedModel) -> TunedSource:
    """A base model as something that can be exported."""
    folder = source.path if source.kind is WeightsKind.FOLDER else converted_folder(source)
    return TunedSource(folder=folder, is_adapter=False, base=None)


def _does_not_go_together(kind: EngineKind, method: Method, why: str) -> ConfigError:
    return ConfigError(
        f"--answer-with {kind} and --method {method} do not go together: {why}",
        where="--answer-with",
        remedy="leave it out, and the reference answers; or train with --method lora",
    )
