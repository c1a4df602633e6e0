from dataclasses import replace

from fettle.records import Action, Example, Location, Message, TokenisedExample
from fettle.study.model_findings import long_findings, untrained_findings

EXAMPLE = Example(
    id="a",
    messages=(Message(role="user", content="hi"), Message(role="assistant", content="hello")),
    source=Location(file="a.jsonl", line=3),
)


def test_long_examples_are_named_one_by_one() -> None:
    (finding,) = long_findings([EXAMPLE])
    assert (finding.code, finding.action, finding.line) == ("longer-than-the-model", Action.LEFT_OUT, 3)


def test_answers_that_a_template_keeps_from_being_learned_are_counted() -> None:
    others = [replace(EXAMPLE, id=name) for name in "bcd"]
    rows = [
        TokenisedExample(example_id=name, token_ids=(1, 2), is_trained=(False, True), num_untrained_turns=number)
        for name, number in zip("abcd", (0, 1, 2, 0), strict=True)
    ]
    (finding,) = untrained_findings([EXAMPLE, *others], rows)
    assert finding.code == "untrained-turns"
    assert "in 2 training conversations" in finding.message
    assert finding.line is None
