"""Whether the arms of a comparison are what they claim: what a study asserts while it runs, each fault by its name.

What is wrong here would leave a report that looks right, so it ends the study. `docs/design/017-arms.md` lists all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from fettle.contenders.contender import Contender
from fettle.contenders.language_model import LanguageModel
from fettle.contenders.retrieval import PassageReader
from fettle.errors import IntegrityError, WrongModelError
from fettle.examples.duplicates import (
    NEAR_DUPLICATE_SIMILARITY,
    DuplicatePair,
    comparable_text,
    find_leaks,
    find_shared_groups,
    likeness,
    plain_words,
)
from fettle.models.strength import tuned_sha256
from fettle.records import Answer, Example, Message, Prompt, Split, TokenisedExample
from fettle.retrieval.fence import asks_after_passages

if TYPE_CHECKING:
    from fettle.chat.renderer import ChatRenderer
    from fettle.models.load import LoadedModel
    from fettle.study.tuning import TunedModel


class ArmFault(StrEnum):
    """What can be wrong with the arms of a comparison."""

    NOT_LOADED = "adapter not loaded"
    OTHER_THAN_TRAINED = "tuned arm other than trained"
    BASE_WITH_ADAPTER = "base arm with adapter"
    OTHER_BASE = "base arm other than the base model"
    TEST_IN_TRAINING = "test row in training"
    TEST_IN_VALIDATION = "test row in validation"
    VALIDATION_IN_TRAINING = "validation row in training"
    SHOWN_IN_PROMPT = "near-duplicate in few-shot"
    ASKED_OTHERWISE = "question other than the example's"
    OTHER_TEMPLATE = "template other than in training"
    NO_STOP = "template without the stop token"
    STOP_WITHIN = "stop token within an answer"
    UNANSWERED = "example without an answer"


@contextmanager
def told_as(fault: ArmFault, *, otherwise: ArmFault | None = None) -> Iterator[None]:
    """Within it a `WrongModelError` is told as `fault`, and any other integrity error as `otherwise`; None: as it is."""
    try:
        yield
    except WrongModelError as error:
        raise _told(fault, error) from error
    except IntegrityError as error:
        if otherwise is None or any(error.problem.startswith(known) for known in ArmFault):
            raise
        raise _told(otherwise, error) from error


@contextmanager
def answering_as(contender: Contender) -> Iterator[None]:
    """Within it a contender answers: with what was trained, or without, as it says of itself."""
    with told_as(ArmFault.NOT_LOADED if contender.is_fine_tuned else ArmFault.BASE_WITH_ADAPTER):
        yield


def require_nothing_leaked(split: Split, taught: Sequence[Example] = (), seen: Collection[str] = ()) -> None:
    """Show that no held-out example is among what is or was learned, nor one that asks nearly the same, nor one of its group.

    Args:
        split: The parts of a study.
        taught: What a model that is studied has learned from before.
        seen: Ids of the examples that ask what it has learned, or nearly.

    Raises:
        IntegrityError: There are such; the split should have prevented it.
    """
    tested = {example.id for example in split.test}
    of_training = find_leaks(split.train, (*split.test, *split.valid))  # together, since comparing takes a while
    for fault, held_out, learned, leaks in (
        (ArmFault.TEST_IN_TRAINING, split.test, split.train, [one for one in of_training if one.second.id in tested]),
        (ArmFault.VALIDATION_IN_TRAINING, split.valid, split.train, of_training),
        (ArmFault.TEST_IN_VALIDATION, split.test, split.valid, find_leaks(split.valid, split.test)),
    ):
        if leaks:
            raise _leaked(fault, len({leak.second.id for leak in leaks}), _how_alike(leaks[0]))
        if shared := find_shared_groups(held_out, learned):
            (example, other), *_ = shared
            raise _leaked(
                fault, len(shared), f"{example.source} is of the group {example.group!r}, as {other.source} is"
            )
    known = {comparable_text(example): example for example in taught}
    for fault, held_out in ((ArmFault.TEST_IN_TRAINING, split.test), (ArmFault.VALIDATION_IN_TRAINING, split.valid)):
        learned = [example for example in held_out if example.id in seen or comparable_text(example) in known]
        if learned:
            raise _leaked(fault, len(learned), f"{learned[0].source} asks what the model was trained on before")


def require_fair_rows(
    rows: Sequence[TokenisedExample], loaded: LoadedModel, split: Split, prompt: Callable[[Example], Prompt]
) -> None:
    """Show, before a training, that its rows teach to stop where answers end, and nothing that is tested.

    Args:
        rows: All that is trained on, in whatever way it was put together.
        loaded: What is trained.
        split: The parts of the study.
        prompt: What the model that is trained will be asked about an example.

    Raises:
        IntegrityError: They do not.
    """
    _require_untested(loaded.renderer, rows, split, prompt)
    require_stops_taught(rows, loaded.stop_token_ids)


def _require_untested(
    renderer: ChatRenderer,
    rows: Sequence[TokenisedExample],
    split: Split,
    prompt: Callable[[Example], Prompt],
) -> None:
    """Show that no row is a test example or has its prompt, and that none of no example of ours asks nearly what one asks."""
    fault = ArmFault.TEST_IN_TRAINING
    ids = {example.id: example for example in split.test}
    asked = {
        renderer.prompt_tokens(messages, example.tools): example
        for example in split.test
        for messages in (example.prompt, prompt(example).messages)
    }
    own = {example.id for example in (*split.train, *split.valid)}
    for row in rows:
        example = ids.get(row.example_id) or asked.get(_before_answer(row))
        if example is not None:
            raise _leaked(fault, 1, f"a row that is trained on holds the question at {example.source}")
    others = {_asked_words(renderer, row) for row in rows if row.example_id not in own}
    tested = [(comparable_text(example), example) for example in split.test] if others else []
    for text in sorted(others):
        for question, example in tested:
            if likeness(text, question) >= NEAR_DUPLICATE_SIMILARITY:
                raise _leaked(
                    ArmFault.TEST_IN_TRAINING,
                    1,
                    f"a general row that is learned asks nearly what {example.source} asks",
                )


def require_stops_taught(rows: Sequence[TokenisedExample], stop_token_ids: Collection[int]) -> None:
    """Show that each answer that is learned ends with a token that ends an answer when it is asked for, and holds none before.

    Raises:
        IntegrityError: A model trained so would not stop, or be cut off in the middle of what it has learned.
    """
    for row in rows:
        for answer in _answers(row):
            if answer[-1] not in stop_token_ids:
                problem = f"{ArmFault.NO_STOP}: an answer of {row.example_id} ends with token {answer[-1]}, which ends no answer"
                raise IntegrityError(
                    f"{problem} when it is asked for",
                    remedy="use a model whose template ends each turn with a stop token",
                )
            if inner := [token for token in answer[:-1] if token in stop_token_ids]:
                problem = f"{ArmFault.STOP_WITHIN}: an answer of {row.example_id} holds token {inner[0]}, at which answers are cut"
                raise IntegrityError(
                    problem, remedy="take it out of eos_token_id in the model's generation_config.json"
                )


def require_asked_as_trained(
    contender: LanguageModel,
    renderer: ChatRenderer,
    examples: Sequence[Example],
    rows: Sequence[TokenisedExample],
) -> None:
    """Show that the tuned contender is asked with the very tokens that come before an answer in training.

    Args:
        contender: The tuned one.
        renderer: Of the engine that answers.
        examples: Some that have rows.
        rows: As training has them; of one example the last holds its last answer.

    Raises:
        IntegrityError: It is asked otherwise: with another template, instruction or hint.
    """
    row_of = {row.example_id: row for row in rows}
    for example in examples:
        asked, row = contender.prompt(example), row_of[example.id]
        prompt = renderer.prompt_tokens(asked.messages, asked.tools)
        if row.is_trained[-1] and prompt != _before_answer(row):  # a last answer of weight 0 is not learned
            raise IntegrityError(
                f"{ArmFault.OTHER_TEMPLATE}: the tuned model is asked about {example.source} with other tokens than stand before "
                "the answer in training",
                remedy="run again with --fresh; if this repeats, report it",
            )


def require_same_wording(tuned: LoadedModel, base: LoadedModel) -> None:
    """Show that what was trained has the chat template and the stop tokens that it was trained with.

    Raises:
        IntegrityError: Its files say otherwise.
    """
    if tuned.renderer.template.sha256 != base.renderer.template.sha256:
        problem = f"{ArmFault.OTHER_TEMPLATE}: the files of the tuned model hold another chat template"
    elif tuned.stop_token_ids != base.stop_token_ids:
        found, wanted = sorted(tuned.stop_token_ids), sorted(base.stop_token_ids)
        problem = f"{ArmFault.OTHER_TEMPLATE}: the tuned model stops at the tokens {found}, and was trained to stop at {wanted}"
    else:
        return
    raise IntegrityError(problem, where=str(tuned.source.path), remedy="run again with --fresh to train again")


def require_trained_weights(model: TunedModel) -> None:
    """Show that the weights which are to answer are those that training has left, at the strength that was chosen.

    Raises:
        IntegrityError: They are others, such as those of another run.
    """
    folder = model.folder
    trained, sha256 = folder, None if model.plan.given is None else model.plan.given.sha256
    if model.trained is not None:
        trained, sha256 = model.trained.result.tuned, model.trained.result.sha256
    is_kept = tuned_sha256(trained) == sha256
    if not is_kept or tuned_sha256(folder) != tuned_sha256(trained, strength=model.strength):
        raise IntegrityError(
            f"{ArmFault.OTHER_THAN_TRAINED}: its weights are not those that the training left",
            where=str(folder),
            remedy="leave a study's folder alone while it runs, and run the same command again",
        )


def require_fairly_asked(contender: Contender, examples: Sequence[Example]) -> None:
    """Show that a contender is asked each example's own question, and was shown neither it nor nearly the same with an answer.

    Raises:
        IntegrityError: It is asked something else, or the answer may stand in its prompt.
    """
    for example in examples:
        told = contender.told(example)
        if not told:
            continue  # it is not prompted
        own = tuple(message for message in example.prompt if not message.is_system)
        shown = tuple(message for message in told if not message.is_system)
        if not _are_asked(shown[len(shown) - len(own) :], own, after_passages=isinstance(contender, PassageReader)):
            raise IntegrityError(
                f"{ArmFault.ASKED_OTHERWISE}: {contender.name} is not asked what {example.source} asks",
                remedy="report this",
            )
        for shot in contender.style.shown(example) if isinstance(contender, LanguageModel) else ():
            if likeness(comparable_text(shot), comparable_text(example)) >= NEAR_DUPLICATE_SIMILARITY:
                raise IntegrityError(
                    f"{ArmFault.SHOWN_IN_PROMPT}: {contender.name} is shown {shot.source} with its answer before it is asked "
                    f"{example.source}, which is the same or nearly",
                    remedy="report this: the split should have prevented it",
                )


def _are_asked(shown: Sequence[Message], own: Sequence[Message], *, after_passages: bool) -> bool:
    """Whether the turns are an example's own; passages may stand before what a user says."""

    def is_asked(turn: Message, wanted: Message) -> bool:
        if turn == wanted:
            return True
        return after_passages and wanted.role == "user" and asks_after_passages(turn, wanted)

    return len(shown) == len(own) and all(map(is_asked, shown, own))


def require_all_answered(contender: Contender, examples: Sequence[Example], answers: Sequence[Answer]) -> None:
    """Show that each example has its own answer, or a failure that is counted.

    Raises:
        IntegrityError: One has none, or another one's.
    """
    if [answer.example_id for answer in answers] != [example.id for example in examples]:
        raise IntegrityError(
            f"{ArmFault.UNANSWERED}: the answers of {contender.name} are not one for each of the {len(examples)} examples",
            remedy="run again with --fresh; if this repeats, report it",
        )


def _told(fault: ArmFault, error: IntegrityError) -> IntegrityError:
    return IntegrityError(f"{fault}: {error.problem}", where=error.where, remedy=error.remedy)


def _leaked(fault: ArmFault, number: int, how: str) -> IntegrityError:
    return IntegrityError(f"{fault}: {number} of them; {how}", remedy="report this: the split should have prevented it")


def _how_alike(leak: DuplicatePair) -> str:
    how = "repeats" if leak.is_exact else f"is nearly the same ({leak.similarity:.0%}) as"
    return f"{leak.first.source} {how} {leak.second.source}"


def _answers(row: TokenisedExample) -> Iterator[tuple[int, ...]]:
    """The stretches of a row that are learned."""
    stretch: list[int] = []
    for token, is_trained in zip(row.token_ids, row.is_trained, strict=True):
        if is_trained:
            stretch.append(token)
        elif stretch:
            yield tuple(stretch)
            stretch = []
    if stretch:
        yield tuple(stretch)


def _before_answer(row: TokenisedExample) -> tuple[int, ...]:
    """What stands before the last answer of a row that is learned."""
    *_, last = _answers(row)
    return row.token_ids[: len(row.token_ids) - len(last)]


def _asked_words(renderer: ChatRenderer, row: TokenisedExample) -> str:
    """The words of a row's question without those that the template puts around every question."""
    probe = "fettleprobe"
    around = plain_words(renderer.decode(renderer.prompt_tokens([Message(role="user", content=probe)])))
    before, _, after = around.partition(probe)
    return plain_words(renderer.decode(_before_answer(row))).removeprefix(before).removesuffix(after)
