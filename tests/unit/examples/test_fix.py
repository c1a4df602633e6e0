import pytest
from example_builders import dataset, labelled

from fettle.errors import DataError
from fettle.examples.check import check_examples
from fettle.examples.fix import fix_examples
from fettle.examples.mend import mend_html
from fettle.records import Action, Dataset, Task, TaskKind

TEXT = Task(kind=TaskKind.TEXT, reason="")


def test_inputs_are_mended_and_every_change_is_named():
    data = dataset(("  <p>I can&#39;t  pay Â£20\x07</p> ", " keep  <b>this</b> "), ("'=1+1 fine", "b"))
    fixed, findings = fix_examples(data, TEXT)
    assert [(item.input_text, item.answer) for item in fixed.examples] == [
        ("I can't pay £20", "keep  <b>this</b>"),
        ("=1+1 fine", "b"),
    ]
    assert {finding.code for finding in findings} == {"control-characters", "html", "white-space", "formula-escape"}
    assert all(finding.action is Action.REPAIRED for finding in findings)
    assert fixed.findings == findings


def test_json_answers_are_left_alone():
    answer = '{"html":  "<p>x</p>"} '
    fixed, _ = fix_examples(dataset(("a", answer)), Task(kind=TaskKind.JSON, reason=""))
    assert fixed.examples[0].answer == answer


def test_repeats_with_the_same_answer_go_and_others_stay():
    data = dataset(("Where is it?", "Here."), ("where is it", "here"), ("Where is it?", "There."))
    fixed, findings = fix_examples(data, TEXT)
    assert [item.answer for item in fixed.examples] == ["Here.", "There."]
    assert [(finding.code, finding.line, finding.action) for finding in findings] == [
        ("exact-duplicate", 2, Action.LEFT_OUT)
    ]


def test_spellings_of_a_label_become_one():
    rows = [(item.input_text, item.answer) for item in labelled(10)]
    rows[3] = (rows[3][0], "Lost Parcel")
    fixed, findings = fix_examples(dataset(*rows), Task(kind=TaskKind.LABELS, reason=""))
    assert {item.answer for item in fixed.examples} == {"lost_parcel", "refund", "address"}
    assert [finding.code for finding in findings] == ["label-spelling"]


def test_nothing_is_left_to_mend_after_mending():
    data = dataset(*((f" <b>number  {n * n * n}</b>\u00a0 {n} ", f" answer {n}") for n in range(60)))
    fixed, _ = fix_examples(data, TEXT)
    again, changes = fix_examples(fixed, TEXT)
    assert changes == ()
    assert again.examples == fixed.examples
    left = check_examples(Dataset(name="t", examples=fixed.examples, findings=(), file_sha256={}), TEXT)
    assert not {"html", "white-space"} & {finding.code for finding in left}


def test_inputs_of_markup_only_are_left_out():
    fixed, findings = fix_examples(dataset(("<br/>", "a"), ("x y", "b")), TEXT)
    assert [item.answer for item in fixed.examples] == ["b"]
    assert findings[0].action is Action.LEFT_OUT
    with pytest.raises(DataError):
        fix_examples(dataset(("<br/>", "a")), TEXT)


@pytest.mark.parametrize(
    "labels",
    [("-1", "+1"), ("-1", "0", "1"), ("C", "C++", "C#", "Java"), ("A+", "A", "A-"), (">50", "<50"), ("paid", "unpaid")],
)
def test_labels_that_differ_in_a_sign_or_a_prefix_are_never_made_one(labels: tuple[str, ...]):
    often = [labels[0]] * 40  # the first is so frequent that the others could be taken for slips
    rows = dataset(*((f"message {n} about {n * n}", label) for n, label in enumerate([*often, *labels[1:] * 3])))
    fixed, repairs = fix_examples(rows)
    assert [item.answer for item in fixed.examples] == [item.answer for item in rows.examples]
    assert not [finding for finding in repairs if finding.code == "label-spelling"]
    assert "one-label" not in {finding.code for finding in check_examples(rows)}


@pytest.mark.parametrize("text", ["if a<b then c>d", "x <i think> y", "a < b > c"])
def test_signs_of_less_and_more_are_no_markup(text: str) -> None:
    assert mend_html(text) == text


def test_markup_with_attributes_is_removed() -> None:
    assert mend_html('<p class="x">Hi <a href=u>there</a></p>').strip() == "Hi there"
