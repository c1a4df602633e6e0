"""What a run of an eval is asked for: where its rows come from, and who answers them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictInt, StrictStr

from fettle.answering.engine import GenerationOptions, JsonForm
from fettle.answering.sampling import Sampling
from fettle.jobs.item_schema import require_schema
from fettle.records import Message
from fettle.scoring.openai_grader import Attempt, InvalidGraderError, Sample, Variable
from fettle.scoring.openai_graders.model_query import MessageTemplate, read_messages, variables_of
from fettle.scoring.openai_graders.template import look_up, parse_template
from fettle.scoring.openai_graders.wire import MessageWire, Wire, WireNumber, join, read, shown

_MOST_CONTENT_BYTES = 4 << 20
_TOKENS_AN_ANSWER = 1024
_SEED = 42
_LEAST_TOP_P = 1e-6
_ROW_SOURCES = ("file_content", "file_id")
_RUN_SOURCES = ("jsonl", "completions")


class FileContentWire(Wire):
    """Rows in the request itself."""

    type: Literal["file_content"]
    content: list[dict[str, Any]] = Field(min_length=1)


class FileIdWire(Wire):
    """Rows in a file."""

    type: Literal["file_id"]
    id: StrictStr = Field(min_length=1, max_length=64)


class TemplateWire(Wire):
    """Messages with `{{ item.KEY }}` in them."""

    type: Literal["template"]
    template: list[MessageWire] = Field(min_length=1)


class ItemReferenceWire(Wire):
    """The place in an item where its messages are, such as `item.messages`."""

    type: Literal["item_reference"]
    item_reference: StrictStr


class JsonSchemaWire(Wire):
    """The schema of an answer."""

    name: StrictStr
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class ResponseFormatWire(Wire):
    """What answers are forced into."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaWire | None = None

    def form(self, where: str) -> JsonForm | None:
        """The same inside.

        Raises:
            InvalidGraderError: There is no schema, or it is none.
        """
        if self.type == "text":
            return None
        if self.type == "json_object":
            return JsonForm(schema='{"type": "object"}')
        if self.json_schema is None:
            raise InvalidGraderError("it is missing", where=join(where, "json_schema"), remedy="give this field")
        require_schema(self.json_schema.schema_, join(where, "json_schema", "schema"))
        return JsonForm(schema=json.dumps(self.json_schema.schema_))


class SamplingParamsWire(Wire):
    """How answers are drawn."""

    temperature: Annotated[WireNumber, Field(ge=0, le=2)] | None = None
    top_p: Annotated[WireNumber, Field(ge=0, le=1)] | None = None
    seed: StrictInt | None = Field(default=None, ge=-(2**63), lt=2**63)
    max_completion_tokens: StrictInt | None = Field(default=None, ge=1)
    max_completions_tokens: StrictInt | None = Field(default=None, ge=1)
    """As the guides spell it."""
    response_format: ResponseFormatWire | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    """Accepted; these models have no such control."""

    def options(self, where: str) -> GenerationOptions:
        """The same inside.

        Raises:
            InvalidGraderError: The form of the answers cannot be kept.
        """
        wanted = self.response_format
        return GenerationOptions(
            max_new_tokens=self.max_completion_tokens or self.max_completions_tokens or _TOKENS_AN_ANSWER,
            form=None if wanted is None else wanted.form(join(where, "response_format")),
            sampling=Sampling(
                temperature=1.0 if self.temperature is None else float(self.temperature),
                top_p=1.0 if self.top_p is None else max(_LEAST_TOP_P, float(self.top_p)),
                seed=_SEED if self.seed is None else self.seed,
            ),
        )


def _nothing_is_default(value: Any) -> Any:
    return {} if value is None else value


class RunSourceWire(Wire):
    """`data_source` of a run."""

    type: Literal["jsonl", "completions"]
    source: dict[str, Any]
    model: StrictStr | None = Field(default=None, min_length=1, max_length=255)
    input_messages: dict[str, Any] | None = None
    sampling_params: Annotated[SamplingParamsWire, BeforeValidator(_nothing_is_default)] = SamplingParamsWire()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Who answers the rows of a run, and what is asked."""

    model: str
    messages: tuple[MessageTemplate, ...]
    """Empty: the item holds them."""
    reference: Variable | None
    """Where in the item they are; None: `messages` are taken."""
    options: GenerationOptions

    def messages_of(self, item: Mapping[str, Any]) -> tuple[Message, ...]:
        """What is asked for one row.

        Raises:
            MissingVariableError: The row does not have what is read of it.
            InvalidGraderError: What it has there are no messages.
        """
        attempt = Attempt(sample=Sample(output_text=""), item=item)
        if self.reference is None:
            return tuple(Message(role=part.role, content=part.content.fill(attempt)) for part in self.messages)
        value, where = look_up(self.reference, attempt), str(self.reference)
        if not isinstance(value, list) or not value:
            raise InvalidGraderError(
                f"expected a list of messages, and it is {shown(value)}", where=where, remedy="change the row"
            )
        wires = [read(MessageWire, message, join(where, number)) for number, message in enumerate(value)]
        return tuple(Message(role=wire.role, content=wire.content) for wire in wires)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """Where the rows of a run come from, and who answers them."""

    content: tuple[Mapping[str, Any], ...]
    """The rows, where the request has them."""
    file_id: str | None
    """The file that has them otherwise."""
    completion: Completion | None
    """None: the rows have their answers already."""


def read_run_source(value: Any, where: str = "data_source") -> RunSource:
    """What a JSON object asks for.

    Raises:
        InvalidGraderError: It asks for nothing that can be done; `where` is the place.
    """
    _require_kind(value, _RUN_SOURCES, where)
    wire = read(RunSourceWire, value, where)
    content, file_id = _rows(wire.source, join(where, "source"))
    return RunSource(content=content, file_id=file_id, completion=_completion(wire, where))


def _rows(value: Any, where: str) -> tuple[tuple[Mapping[str, Any], ...], str | None]:
    _require_kind(value, _ROW_SOURCES, where)
    if value["type"] == "file_id":
        return (), read(FileIdWire, value, where).id
    content = read(FileContentWire, value, where).content
    if (num_bytes := len(json.dumps(content))) > _MOST_CONTENT_BYTES:
        raise InvalidGraderError(
            f"the rows have {num_bytes:,} bytes, and {_MOST_CONTENT_BYTES:,} are taken in a request",
            where=join(where, "content"),
            remedy="upload them as a file and give its id",
        )
    return tuple(content), None


def _completion(wire: RunSourceWire, where: str) -> Completion | None:
    asked = {"model": wire.model, "input_messages": wire.input_messages}
    for name, given in asked.items():
        if (given is None) == (wire.type == "completions"):
            problem = "it is missing" if given is None else "rows of type jsonl have their answers already"
            remedy = "give this field" if given is None else "leave it out, or choose the type completions"
            raise InvalidGraderError(problem, where=join(where, name), remedy=remedy)
    if wire.model is None or wire.input_messages is None:
        return None
    place = join(where, "input_messages")
    _require_kind(wire.input_messages, ("template", "item_reference"), place)
    messages, reference = _prompt(wire.input_messages, place)
    options = wire.sampling_params.options(join(where, "sampling_params"))
    return Completion(model=wire.model, messages=messages, reference=reference, options=options)


def _prompt(value: Mapping[str, Any], where: str) -> tuple[tuple[MessageTemplate, ...], Variable | None]:
    if value["type"] == "template":
        place = join(where, "template")
        messages = read_messages(read(TemplateWire, value, where).template, place)
        _require_items([variable.namespace for variable in variables_of(messages)], place)
        return messages, None
    place = join(where, "item_reference")
    text = read(ItemReferenceWire, value, where).item_reference
    variables = parse_template("{{" + text + "}}", place).variables
    if len(variables) != 1:
        raise InvalidGraderError(f"{shown(text)} is no place in an item", where=place, remedy="write item.KEY")
    _require_items([variables[0].namespace], place)
    return (), variables[0]


def _require_items(namespaces: list[str], where: str) -> None:
    if any(namespace != "item" for namespace in namespaces):
        raise InvalidGraderError(
            "there is no sample before the model has answered", where=where, remedy="read `item` alone"
        )


def _require_kind(value: Any, kinds: tuple[str, ...], where: str) -> None:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in kinds:
        raise InvalidGraderError(
            f"the type {shown(kind)} is not supported here",
            where=join(where, "type"),
            remedy=f"choose one of {', '.join(kinds)}",
        )
