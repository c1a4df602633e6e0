"""What a contender's model is asked when somebody asks the release: the same code for the server and for the gates."""

from __future__ import annotations

from dataclasses import replace

from fettle.answering.chat import AmongTexts, ChatRequest, one_of
from fettle.answering.engine import Form, JsonForm
from fettle.contenders.readings import LabelReading, Reading
from fettle.errors import ConfigError
from fettle.form_records import AnswerForm
from fettle.records import Message
from fettle.releases.records import ReleasedContender


def as_asked(request: ChatRequest, contender: ReleasedContender, *, chooses_temperature: bool) -> ChatRequest:
    """A request as the contender is asked: with its instruction, its shots and the form of its answers.

    Args:
        request: As it came.
        contender: Who answers.
        chooses_temperature: Whether who asks has named a temperature; else the likeliest answer is written, as in the study.

    Raises:
        ConfigError: Its answers are read in a way that this Fettle does not know.
    """
    sampling = request.sampling if chooses_temperature else replace(request.sampling, temperature=0.0)
    is_free = request.text_form is None and request.rules is None
    form = contender.form if is_free else None
    return replace(
        request,
        messages=with_instruction(request.messages, contender),
        text_form=request.text_form if form is None else _form(form),
        among=None if form is None else _among(form),
        sampling=sampling,
    )


def with_instruction(messages: tuple[Message, ...], contender: ReleasedContender) -> tuple[Message, ...]:
    """A conversation behind the contender's instruction and shots.

    A system message that the conversation begins with is not repeated where the instruction begins with the same text; another one
    stands behind it.
    """
    own = messages[0] if messages and messages[0].is_system else None
    rest = messages if own is None else messages[1:]
    instruction = contender.instruction
    if instruction is None:
        lead = () if own is None else (own,)
    elif own is None or instruction.startswith(own.content.strip()):
        lead = (Message(role="system", content=instruction),)
    else:
        lead = (replace(own, content=f"{instruction}\n\n{own.content}"),)
    return (*lead, *contender.shots, *rest)


def _form(form: AnswerForm) -> Form | None:
    if form.labels:
        return one_of(form.labels)
    if form.json_schema is None:
        return None
    return JsonForm(
        schema=form.json_schema,
        bounded_schema=form.bounded_schema,
        item_separator=form.item_separator,
        key_separator=form.key_separator,
    )


def _among(form: AnswerForm) -> AmongTexts | None:
    """Labels that are read by their likelihood; None: there are none, or greedy decoding says the same."""
    if not form.labels or form.reading is None or form.reading == Reading.GREEDY:
        return None
    if form.reading not in set(Reading):
        raise ConfigError(
            f"labels cannot be read by {form.reading!r}", remedy="update Fettle, or make the release anew"
        )
    reading = LabelReading(kind=Reading(form.reading), mean_log_likelihoods=form.label_offsets)
    return AmongTexts(texts=form.labels, taken=lambda answer: reading.read([answer])[0])
