"""A cross-encoder of sentence-transformers, which reads question and passage together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

from fettle.errors import ModelError
from fettle.models.device import chosen_device
from fettle.retrieval.embedder import encodable
from fettle.retrieval.embedders.sentence_transformers import Role, folder_of, revision_of
from fettle.retrieval.records import Found
from fettle.retrieval.rerankers.registry import LATE_INTERACTION

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_BATCH_SIZE = 16
_RERANKER = Role(
    name="reranker",
    kind="cross-encoder",
    marked_by="config.json",
    else_do=f"`--reranker {LATE_INTERACTION}` comes with Fettle",
)


class CrossEncoderReranker:
    """A model by its folder, or by its name in Hugging Face's cache. Loaded when it is first asked.

    Nothing is fetched, none of its own code is run, and weights are read from safetensors alone.

    Args:
        name: A folder, or `org/name`.

    Raises:
        ModelError: There is no such model on this machine, or its weights are pickles.
    """

    max_candidates = 50

    def __init__(self, name: str) -> None:
        self.name = name
        self._folder = folder_of(name, _RERANKER)
        self._lock = Lock()  # tokenizers cannot be shared by threads

    def identity(self) -> str:
        """Hash of weights, tokenizer and configuration."""
        return revision_of(self._folder)

    def scores(self, question: str, candidates: Sequence[Found]) -> list[float]:
        """One score a candidate, in their order, as the model's own configuration scales it.

        Raises:
            ModelError: It cannot be loaded, or gives more than one score a pair.
        """
        if not candidates:
            return []
        pairs = [(encodable(question), encodable(candidate.passage.embedded_text)) for candidate in candidates]
        with self._lock:
            found = self._model.predict(pairs, batch_size=_BATCH_SIZE, show_progress_bar=False)
        return [float(score) for score in found]

    @cached_property
    def _model(self) -> CrossEncoder:
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(
                str(self._folder),
                device=str(chosen_device()),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise self._refused(f"sentence-transformers cannot load this model ({said[:300]})") from error
        if model.num_labels != 1:
            raise self._refused(f"expected one score for a question and a passage, and it gives {model.num_labels}")
        return model.eval()

    def _refused(self, problem: str) -> ModelError:
        return ModelError(problem, where=self.name, remedy="name a cross-encoder that scores passages for questions")
