import pytest

from fettle.errors import ConfigError
from fettle.scoring.openai_grader import Attempt, MissingVariableError, Sample
from fettle.scoring.openai_graders.template import parse_template
from grading import attempt


def filled(template: str, given: Attempt) -> str:
    return parse_template(template, "input").fill(given)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("no variable", "no variable"),
        ("", ""),
        ("{{item.name}}", "Ann"),
        ("<{{ item.name }}>{{  item.name}}", "<Ann>Ann"),
        ("{{item.people[1].name}}", "Bob"),
        ("{{item.number}} {{item.truth}} {{item.nothing}}", "5 true null"),
        ("{{item.people}}", '[{"name": "Ann"}, {"name": "Bob"}]'),
        ("{{item.größe-2}}", "klein"),
        ("{{sample.output_text}}", '{"a": [1, 2]}'),
        ("{{sample.output_json.a[1]}}", "2"),
        ("{{sample.choices[0].message.content}}", '{"a": [1, 2]}'),
        ("{ {item.name} } {single}", "{ {item.name} } {single}"),
    ],
)
def test_variables_are_filled_in(template: str, wanted: str) -> None:
    people = [{"name": "Ann"}, {"name": "Bob"}]
    item = {"name": "Ann", "number": 5, "truth": True, "nothing": None, "people": people, "größe-2": "klein"}
    assert filled(template, Attempt(sample=Sample(output_text='{"a": [1, 2]}'), item=item)) == wanted


def test_what_comes_from_data_is_never_filled_in_again() -> None:
    given = attempt("{{item.secret}}", text="{{sample.output_text}}", secret="42")
    assert filled("{{sample.output_text}}|{{item.text}}", given) == "{{item.secret}}|{{sample.output_text}}"


def test_tool_calls_can_be_read() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "seats", "arguments": "{}"}}
    given = Attempt(sample=Sample(output_text="", tool_calls=(call,)), item={})
    assert filled("{{sample.output_tools[0].function.name}}", given) == "seats"


@pytest.mark.parametrize(
    "template",
    ["{{item.x", "item.x}}", "{{item.x}} }}", "{{ {{item.x}} }}", "}}{{", "{{}}", "{{ }}", "{{env.HOME}}", "{{sample}.x}",
     "{{item.}}", "{{item..x}}", "{{item[x]}}", "{{item.x y}}", "{{item.x|upper}}", "{{items.x}}", "{{item.__class__()}}"],
)  # fmt: skip
def test_what_is_no_template_is_refused_with_its_place(template: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_template(template, "grader.input")
    assert caught.value.where == "grader.input"
    assert caught.value.remedy


@pytest.mark.parametrize(
    "template",
    ["{{item.no}}", "{{item.text.length}}", "{{item.text[0]}}", "{{item.list[2]}}", "{{item.list.x}}", "{{item[0]}}",
     "{{item.text.__class__}}", "{{sample.output_json}}", "{{sample.output_audio}}", "{{item.list[999999999]}}"],
)  # fmt: skip
def test_a_missing_variable_is_an_error(template: str) -> None:
    with pytest.raises(MissingVariableError):
        filled(template, attempt("no json", text="abc", list=[1, 2]))
