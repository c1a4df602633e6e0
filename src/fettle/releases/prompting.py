"""What a contender's model is asked when somebody asks the release: the same code for the server and for the gates."""

from __future__ import annotations

import json
from dataclasses import replace

from fettle.answering.chat import ChatRequest
from fettle.answering.engine import Form, Grammar, JsonForm
from fettle.records import Message
from fettle.releases.records import AnswerForm, ReleasedContender


def as_asked(request: ChatRequest, contender: ReleasedContender, *, chooses_temperature: bool) -> ChatRequest:
    """A request as the contender is asked: with its instruction, its shots and the form of its answers.

    Args:
        request: As it came.
        contender: Who answers.
        chooses_temperature: Whether who asks has named a temperature; else the likeliest answer is written, as in the study.
    """
    sampling = request.sampling if chooses_temperature else replace(request.sampling, temperature=0.0)
    is_free = request.text_form is None and request.rules is None
    return replace(
        request,
        messages=with_instruction(request.messages, contender),
        text_form=_form(contender.form) if is_free and contender.form is not None else request.text_form,
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
        return Grammar(lark=f"start: {' | '.join(json.dumps(label) for label in form.labels)}\n")
    if form.json_schema is None:
        return None
    return JsonForm(schema=form.json_schema, item_separator=form.item_separator, key_separator=form.key_separator)
