"""Models of a pool asked several things at once by who can wait: a run of an eval, and graders."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.engine_pool import EnginePool, ModelCatalogue, ServedModel
from fettle.answering.sampling import Sampling
from fettle.answering.serving_engine import ServingEngine
from fettle.answering.stream import AnswerStream, Piece, joined
from fettle.errors import FettleError
from fettle.records import Message, Prompt
from fettle.scoring.openai_grader import Question, Reply, SamplingParams, TokenUsage

_TOKENS_A_REPLY = 1024
_LEAST_TOP_P = 1e-6


class AskedModel:
    """One model in a pool, asked several things at once.

    Args:
        engine: Holds it.
        model: Which it is.
        is_wanted: Whether somebody still waits; asked with every token.
    """

    def __init__(self, engine: ServingEngine, model: ServedModel, is_wanted: Callable[[], bool]) -> None:
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
        pieces: list[Piece] = []
        try:
            for piece in stream:
                if not self._is_wanted():
                    return None
                pieces.append(piece)
        except FettleError as error:
            return error
        return joined(pieces), stream.num_prompt_tokens


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
        catalogue: ModelCatalogue,
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
    return Reply(text=piece.text, usage=TokenUsage(prompt_tokens=num_prompt_tokens, completion_tokens=piece.num_tokens))
