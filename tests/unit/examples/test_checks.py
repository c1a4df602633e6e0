import json
from dataclasses import replace

import pytest
from example_builders import dataset, example, examples, labelled

from fettle.examples.check import Part, check_examples, check_leaks, check_parts, summarise_findings
from fettle.examples.checks.labels import usual_spellings
from fettle.examples.checks.personal import mask, personal_spans
from fettle.examples.fix import fix_examples
from fettle.examples.split import MIN_EXAMPLES
from fettle.examples.task import recognise_task
from fettle.records import Action, Dataset, Example, Severity, Task, TaskKind, ToolCall

TEXT = Task(kind=TaskKind.TEXT, reason="")
LABELS = Task(kind=TaskKind.LABELS, reason="", labels=("a", "b"))


def found(*pairs: tuple[str, str], task: Task = TEXT) -> set[tuple[str, int | None]]:
    return {(finding.code, finding.line) for finding in check_examples(dataset(*pairs), task)} - {
        ("too-few-examples", None)
    }


def codes_of(text: str) -> set[str]:
    return {code for code, _ in found((text, "fine"))}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<p>Where is it?</p>", "html"),
        ("I can&#39;t pay", "html"),
        ("It is late\n\nOn Mon, 3 Jun 2024 at 09:12, Support wrote:\n> When?", "quoted-thread"),
        ("Hi team,\n\nwhere is it?", "greeting-or-signature"),
        ("Where is it?\n\nThanks\n--\nSent from my phone", "greeting-or-signature"),
        ("WHERE IS MY CARD?!!", "shouting"),
        ("  Where  is it? ", "white-space"),
        ("It’s late", "typographic"),
        ("It costs \ufffd20", "spoiled-characters"),
        ("it is\x07 late", "control-characters"),
        ('=HYPERLINK("http://example.com") hello', "formula-start"),
        ("-2 days late and counting", "formula-start"),
    ],
)
def test_each_kind_of_trace_in_a_text_is_named(text: str, code: str):
    assert codes_of(text) == {code}


@pytest.mark.parametrize(
    "text",
    [
        "Hi, where is my card?  It is 3 < 4 days late & I need it.",
        "- first point\n- second point",
        "The PIN of my VISA card",
        "Is 2 > 1?",
        "¿Dónde está? Größe 5, 20 % off",
        "a\n\nb",
    ],
)
def test_ordinary_texts_are_left_alone(text: str):
    assert codes_of(text) == set()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("mail grace.o+x@example.co.uk", "personal-email"),
        ("call (212) 555-0100 now", "personal-phone"),
        ("call +44 20 7946 0136 now", "personal-phone"),
        ("my card is 4111 1111 1111 1111.", "personal-card"),
        ("to DE89 3704 0044 0532 0130 00 please", "personal-iban"),
        ("I live at 238 King Street, Springfield", "personal-address"),
        ("wohnhaft Hauptstraße 12 in Ulm", "personal-address"),
        ("near SW1A 1AA", "personal-address"),
        ("My name is Fatima Schmidt", "personal-name"),
        ("Where is it? - Lars Tanaka", "personal-name"),
        ("born on 12/03/1984", "personal-birth-date"),
        ("my policy number is asd 673089752", "personal-number"),
        ("ssn 078-05-1120", "personal-number"),
        ("5420", "personal-number"),
    ],
)
def test_personal_data_are_found_by_their_form(text: str, code: str):
    assert [span.kind.code for span in personal_spans(text)] == [code]


@pytest.mark.parametrize(
    "text",
    [
        "table for 5 people on 09/02/2018 at 7.30pm",
        "I was charged 250000 instead of 2,500.00",
        "between 1973-1974 and 2010-2012",
        "15000-3000 = 12000",
        "I would like to change my name after marriage",
        "somebody took 500 from my account for 300",
        "this is not what I ordered",
        "2019",
        "the number 4111111111111112 is wrong in the 20 square feet",
    ],
)
def test_ordinary_numbers_and_names_are_no_personal_data(text: str):
    kinds = {span.kind.code for span in personal_spans(text)}
    assert kinds <= ({"personal-number"} if "41111" in text else set())  # a long number, but no card


def test_findings_mask_what_they_found():
    (finding,) = check_examples(
        Dataset(name="t", examples=(example("I am a@b.org", "x"),) * 50, findings=(), file_sha256={}), TEXT
    )[-1:]
    assert "a@b.org" not in finding.message
    assert mask("a@b.org") in finding.message


def test_numbers_with_a_prefix_that_many_share_are_the_firms_own():
    rows = [
        (f"parcel LW {n * 7919 + 10**7} is late, tell me", json.dumps({"n": f"LW{n * 7919 + 10**7}"}))
        for n in range(40)
    ]
    findings = check_examples(dataset(*rows, ("my policy is asd 673089752", "{}")), Task(kind=TaskKind.JSON, reason=""))
    personal = {(finding.code, finding.line) for finding in findings if finding.code.startswith(("personal", "house"))}
    assert personal == {("house-references", None), ("personal-number", 41)}


def test_conflicts_name_the_minority_and_ignore_spelling():
    rows = (("Where is it?", "a"), ("where is it", "A "), ("Where is it", "b"), ("else entirely different", "b"))
    assert ("conflicting-answers", 3) in found(*rows, task=LABELS)
    assert ("conflicting-answers", 2) not in found(*rows, task=LABELS)
    assert not any(code == "conflicting-answers" for code, _ in found(*rows))


def test_labels_are_unified_by_case_space_punctuation_and_typos():
    rows = examples(
        *[("m", "pin_blocked")] * 30,
        ("m", "PIN_BLOCKED"),
        ("m", " pin_blocked"),
        ("m", "pin blocked"),
        ("m", "pin_bloked"),
    )
    usual = usual_spellings(rows)
    assert usual == dict.fromkeys(("PIN_BLOCKED", " pin_blocked", "pin blocked", "pin_bloked"), "pin_blocked")


def test_different_labels_are_not_taken_for_typos():
    rows = examples(
        *[("m", "tier_1")] * 40, ("m", "tier_2"), *[("m", "card_lost")] * 40, ("m", "card_lent_out"), ("m", "ab")
    )
    assert usual_spellings(rows) == {}


def test_planted_wrong_labels_are_found():
    rows = list(labelled(40))
    wrong = {5: "refund", 50: "address", 90: "lost_parcel"}
    pairs = [(item.input_text, wrong.get(index, item.answer)) for index, item in enumerate(rows)]
    data = dataset(*pairs)
    findings = check_examples(data, recognise_task(data.examples))
    reported = {finding.line for finding in findings if finding.code == "probable-wrong-label"}
    assert {6, 51, 91} <= reported
    assert len(reported) <= 5


def test_a_few_texts_in_many_copies_do_not_stop_the_check_of_wrong_labels():
    rows = dataset(*[("where is it", "lost"), ("too much", "billing"), ("i moved", "address"), ("hello", "other")] * 20)
    task = recognise_task(rows.examples)
    assert task.kind is TaskKind.LABELS
    assert "probable-wrong-label" not in {finding.code for finding in check_examples(rows, task)}


def test_label_counts_and_row_counts():
    assert ("one-label", None) in found(("a b c", "x"), ("d e f", "x"), task=LABELS)
    few = check_examples(dataset(("a", "x")), TEXT)[0]
    assert (few.code, few.severity) == ("too-few-examples", Severity.ERROR)
    some = check_examples(Dataset(name="t", examples=labelled(8), findings=(), file_sha256={}), TEXT)
    assert ("too-few-examples", Severity.WARNING) in {(finding.code, finding.severity) for finding in some}


def test_answers_of_a_json_task_must_be_json():
    rows = [(f"question {n * n}", json.dumps({"n": n})) for n in range(40)] + [("last question", "{n: 1}")]
    data = dataset(*rows)
    assert ("answer-not-json", 41) in {(finding.code, finding.line) for finding in check_examples(data)}


def test_very_long_texts_say_what_they_repeat():
    long = "Where is my parcel please? " * 300
    (finding,) = [
        finding
        for finding in check_examples(dataset(("short one", "x"), ("short two", "x"), (long, "y")), TEXT)
        if finding.code == "very-long"
    ]
    assert "Where is my parcel" in finding.message
    assert "--leave-out-long" in finding.remedy


def test_a_question_quoted_in_training_is_an_error_on_the_held_out_row():
    asked = example("an utterly new question on whales and on what they sing at night", "yes", line=2)
    before = "Again, and this time with all that you have asked me for last week"
    quoting = example(f"{before}: {asked.user_text}. Ann", "no", line=7)
    (leak,) = check_leaks([quoting], [asked], Part.TRAINING, Part.TEST)
    assert (leak.code, leak.line, leak.action) == ("leak-quote", 2, Action.KEPT)
    assert "word for word in training, at t.jsonl:7" in leak.message


def test_a_turn_told_in_training_is_an_error_on_the_held_out_row():
    asked = example("an utterly new question on whales", "they sing at night", line=2)
    last = example("who paid for the bridge", "the town", line=7)
    teller = replace(last, messages=(*asked.messages, *last.messages))
    (leak,) = check_leaks([teller], [asked], Part.TRAINING, Part.TEST)
    assert (leak.code, leak.line, leak.action) == ("leak-turn", 2, Action.KEPT)
    assert "an earlier turn in training, at t.jsonl:7" in leak.message


def test_leaks_between_parts_are_errors_on_the_held_out_row():
    train, test = examples(("where is my parcel", "a")), examples(("new", "b"), ("Where is my parcel?", "a"))
    (leak,) = check_leaks(train, test, Part.TRAINING, Part.TEST)
    assert (leak.code, leak.line, leak.action) == ("leak-exact", 2, Action.KEPT)
    assert "this test example is also in training, at t.jsonl:1" in leak.message


def part_of(file: str, *pairs: tuple[str, str]) -> Dataset:
    rows = [replace(item, source=replace(item.source, file=file)) for item in examples(*pairs)]
    return Dataset(name=file, examples=tuple(rows), findings=(), file_sha256={})


def test_every_file_is_checked_and_held_against_the_others():
    train = part_of("train.csv", ("my parcel is lost", "a"), ("I want a refund of it", "b"))
    valid = part_of("valid.csv", ("My parcel is lost!", "a"))
    test = part_of("test.csv", ("I want a refund of it", "b"), ("my parcel is lost", "b"), ("mail me: a@b.org", "c"))
    parts = {Part.TRAINING: train, Part.VALIDATION: valid, Part.TEST: test}
    found = [(finding.code, finding.file, finding.line) for finding in check_parts(parts, LABELS)]
    assert sorted(item for item in found if item[0].startswith(("leak", "untaught", "personal"))) == [
        ("leak-exact", "test.csv", 1),
        ("leak-exact", "test.csv", 2),
        ("leak-exact", "test.csv", 2),  # of training, and of validation
        ("leak-exact", "valid.csv", 1),
        ("personal-email", "test.csv", 3),
        ("untaught-label", "test.csv", 3),
    ]


def test_a_held_out_file_may_be_small_and_of_one_label():
    (row,) = examples(("my parcel is lost", "a"))
    data = Dataset(name="t", examples=(row,), findings=(), file_sha256={})
    codes = {part: {finding.code for finding in check_examples(data, LABELS, part)} for part in Part}
    assert codes[Part.TEST] == codes[Part.VALIDATION] == set()
    assert codes[Part.WHOLE] == codes[Part.TRAINING] == {"too-few-examples", "one-label"}


def calling(item: Example) -> Example:
    call = ToolCall(id="c", name="look_up", arguments="{}")
    return replace(item, messages=(*item.prompt, replace(item.messages[-1], content="", tool_calls=(call,))))


@pytest.mark.parametrize(
    ("num_calls", "part", "is_error"),
    [(1, Part.WHOLE, False), (25, Part.WHOLE, True), (30, Part.TEST, True), (29, Part.TEST, False)],
)
def test_tool_calls_are_named_and_too_few_others_are_an_error(num_calls: int, part: Part, is_error: bool):
    rows = labelled(10)
    assert len(rows) - 25 < MIN_EXAMPLES < len(rows)
    rows = tuple(calling(row) for row in rows[:num_calls]) + rows[num_calls:]
    findings = check_examples(Dataset(name="t", examples=rows, findings=(), file_sha256={}), TEXT, part)
    codes = [finding.code for finding in findings]
    assert codes.count("tool-call-answer") == num_calls
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    assert [finding.code for finding in errors] == ["too-few-to-score"] * is_error


def test_the_summary_puts_errors_first_then_the_most_frequent():
    findings = check_examples(dataset(("A B <p>", "x"), ("c d <p>", "x"), ("=1+1 e", "x")), TEXT)
    groups = summarise_findings(findings)
    assert [(group.code, len(group.findings)) for group in groups] == [
        ("too-few-examples", 1),
        ("html", 2),
        ("formula-start", 1),
    ]


@pytest.mark.parametrize(
    "piece", ["a", "\n", " ", "1 ", "a-", "a.", "<p ", "account is ", "please ", ">\n", "Ab ", "â€", "&#"]
)
def test_no_pattern_takes_forever_on_a_very_long_text(piece: str):
    text = piece * (100_000 // len(piece))
    data = dataset((f"start {text} end", "fine"), ("other", "b"))
    check_examples(data, TEXT)
    fix_examples(data, TEXT)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (['```json\n{"a": 1}\n```', "```\n{}\n```"], "like-json"),
        (["{'a': 1}", "{'a': 2}"], "like-json"),
        (['["a"]', '["b"]'], "like-json"),
        (['{"a": 1}', '{"a": 2}', "late"], "partly-json"),
        (
            [
                "We are sorry that your parcel is late and will look.",
                "We are sorry that it is lost and will send another.",
            ],
            "few-answers",
        ),
    ],
)
def test_answers_of_another_kind_are_named(answers: list[str], code: str):
    pairs = [(f"question {number} of {'abcdefg'[number % 7]}", answers[number % len(answers)]) for number in range(60)]
    assert code in {one for one, _ in found(*pairs)}
    assert not {one for one, _ in found(*pairs, task=replace(TEXT, kind=TaskKind.JSON))} & {
        "like-json",
        "partly-json",
        "few-answers",
    }


def test_ordinary_answers_are_of_no_other_kind():
    pairs = [(f"question {number}", f"answer {number} [see below]") for number in range(60)]
    assert not {code for code, _ in found(*pairs)} & {"like-json", "partly-json", "few-answers"}
