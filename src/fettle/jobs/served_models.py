"""The models of the store as the engine pool knows them, and a pool as graders know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engine_pool import EnginePool, ServedModel
from fettle.answering.engines.shared_engine import SharedEngine
from fettle.answering.sampling import Sampling
from fettle.answering.stream import AnswerStream, Piece
from fettle.errors import FettleError, ModelError
from fettle.models.resolve import resolve_model
from fettle.records import Message, Prompt
from fettle.scoring.openai_grader import Question, Reply, SamplingParams, TokenUsage
from fettle.store.database import Store
from fettle.store.models import BaseModel, base_of, find_model, folder_of

_TOKENS_A_REPLY = 1024
_LEAST_TOP_P = 1e-6


class StoreCatalogue:
    """Finds models in the store.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, name: str, project_id: str) -> ServedModel:
        """The model that a project means by a name, aliases followed.

        Raises:
            ModelError: There is none, or it is another project's, or its base model is not what it was trained on.
        """
        with self._store.reading() as connection:
            model = find_model(connection, project_id, name)
            base = resolve_model(base_of(connection, model).source)
        if isinstance(model, BaseModel):
            return ServedModel(name=model.id, base=base)
        if not model.is_adapter:
            return ServedModel(name=model.id, base=resolve_model(str(folder_of(self._store, model))))
        if base.sha256() != model.base_sha256:
            raise ModelError(
                f"the base model of {model.id!r} is not the one any more that it was trained on",
                where=base.public_id,
                remedy="put the base model's earlier files back, or train again",
            )
        return ServedModel(name=model.id, base=base, adapter=folder_of(self._store, model))


class AskedModel:
    """One model in a pool, asked several things at once.

    Args:
        engine: Holds it.
        model: Which it is.
        is_wanted: Whether somebody still waits; asked with every token. What it raises ends the asking.
    """

    def __init__(self, engine: SharedEngine, model: ServedModel, is_wanted: Callable[[], bool]) -> None:
        self._engine, self._is_wanted = engine, is_wanted
        self._adapter = None if model.adapter is None else model.name

    def ask(
        self, asked: Sequence[tuple[Sequence[Message], GenerationOptions]]
    ) -> list[tuple[Piece, int] | FettleError] | None:
        """For each question the whole answer with the tokens of its prompt, or why there is none; None: nobody waits any more."""
        streams = [self._submitted(messages, options) for messages, options in asked]
        try:
            answers = [stream if isinstance(stream, FettleError) else self._whole(stream) for stream in streams]
        finally:
            for stream in streams:
                if isinstance(stream, AnswerStream):
                    stream.give_up()
        whole = [answer for answer in answers if answer is not None]
        return whole if len(whole) == len(answers) else None

    def _submitted(self, messages: Sequence[Message], options: GenerationOptions) -> AnswerStream | FettleError:
        try:
            prompt = Prompt(example_id="", messages=tuple(messages))
            return self._engine.submit(prompt, options, adapter=self._adapter)
        except FettleError as error:
            return error

    def _whole(self, stream: AnswerStream) -> tuple[Piece, int] | FettleError | None:
        texts: list[str] = []
        try:
            for piece in stream:
                if not self._is_wanted():
                    return None
                texts.append(piece.text)
                if piece.finish_reason is not None:
                    whole = Piece(text="".join(texts), finish_reason=piece.finish_reason, num_tokens=piece.num_tokens)
                    return whole, stream.num_prompt_tokens
        except ModelError as error:
            return error
        raise AssertionError("a stream ends with a reason")


class PoolSampler:
    """Asks grading models, each in the name of one project.

    Args:
        pool: Holds them.
        catalogue: Knows them.
        project_id: Whose models.
        is_wanted: Whether somebody still waits.
    """

    def __init__(
        self,
        pool: EnginePool,
        catalogue: StoreCatalogue,
        project_id: str,
        *,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pool, self._catalogue, self._project_id, self._is_wanted = pool, catalogue, project_id, is_wanted

    def knows(self, model: str) -> bool:
        """Whether the project has a model of this name that writes."""
        try:
            self._catalogue.find(model, self._project_id)
        except FettleError:
            return False
        return True

    def ask(self, questions: Sequence[Question]) -> Sequence[Reply]:
        """One reply for each question, in order; questions to one model are asked at once."""
        replies: dict[int, Reply] = {}
        for name in dict.fromkeys(question.model for question in questions):
            numbers = [number for number, question in enumerate(questions) if question.model == name]
            replies |= zip(numbers, self._ask_one(name, [questions[number] for number in numbers]), strict=True)
        return [replies[number] for number in range(len(questions))]

    def _ask_one(self, name: str, questions: Sequence[Question]) -> list[Reply]:
        asked = [(question.messages, _options(question)) for question in questions]
        try:
            model = self._catalogue.find(name, self._project_id)
            with self._pool.engine_of(model) as engine:
                answers = AskedModel(engine, model, self._is_wanted).ask(asked)
        except FettleError as error:
            return [Reply(text="", error=error.describe()) for _ in questions]
        if answers is None:
            return [Reply(text="", error="nobody waits for the answer any more") for _ in questions]
        return [_reply(answer) for answer in answers]


def _options(question: Question) -> GenerationOptions:
    params: SamplingParams = question.params
    return GenerationOptions(
        max_new_tokens=params.max_completion_tokens or _TOKENS_A_REPLY,
        form=JsonForm(schema=question.json_schema),
        sampling=Sampling(
            temperature=1.0 if params.temperature is None else params.temperature,
            top_p=1.0 if params.top_p is None else max(_LEAST_TOP_P, params.top_p),
            seed=0 if params.seed is None else params.seed,
        ),
    )


def _reply(answer: tuple[Piece, int] | FettleError) -> Reply:
    if isinstance(answer, FettleError):
        return Reply(text="", error=answer.describe())
    piece, num_prompt_tokens = answer
    return Reply(
        text=piece.text, usage=TokenUsage(prompt_tokens=num_prompt_tokens, completion_tokens=piece.num_tokens)
    )
