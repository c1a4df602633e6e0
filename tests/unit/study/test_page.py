"""The page as text: it needs nothing but itself, nothing that people or models wrote becomes markup, and it can be read aloud."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from build_report import ALL, hostile_report, json_report, label_report, text_report

from fettle.records import Resources
from fettle.study.page import embedded_json, render_page
from fettle.study.views import side_by_side

PLANTED = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "{{7*7}}{% raw %}",
    "<!--<script>",
    "</style></title></textarea><b>",
)
EMPTY = {"meta", "wbr", "br", "img", "line", "circle", "rect", "polyline"}


class Outline(HTMLParser):
    """Every element with its attributes, and the text of the page's scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data
        else:
            self.texts.append(data)

    def attributes(self, name: str) -> list[str | None]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(params=ALL)
def outline(request):
    return Outline(render_page(ALL[request.param]()))


def test_every_element_is_closed_in_order(outline):
    assert outline.open == []


def test_the_page_needs_nothing_but_itself(outline):
    assert all(target.startswith("#") or target == "report.json" for target in outline.attributes("href"))
    for attribute in ("src", "srcset", "action", "data", "poster", "style"):
        assert outline.attributes(attribute) == []
    assert not outline.named("link")
    assert not any(name.startswith("on") for _, attributes in outline.elements for name in attributes)
    style = "".join(outline.raw["style"])
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(outline):
    policy = next(
        meta["content"] for meta in outline.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for text in (*outline.raw["style"], outline.raw["script"][1]):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_scripts_never_build_markup_from_text(outline):
    script = outline.raw["script"][1]
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|\bfetch\b", script
    )


@pytest.mark.parametrize("planted", PLANTED)
def test_no_text_of_the_report_becomes_markup(planted):
    honest = Outline(render_page(hostile_report("HONEST")))
    hostile = Outline(render_page(hostile_report(planted)))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in honest.elements]
    assert [sorted(attributes) for _, attributes in hostile.elements] == [
        sorted(attributes) for _, attributes in honest.elements
    ]
    assert "".join(hostile.texts).count(planted) == "".join(honest.texts).count("HONEST") > 30
    assert json.loads(hostile.raw["script"][0])["rows"][0]["input"] == planted


def test_texts_are_not_taken_for_templates():
    assert "54439" not in render_page(hostile_report("{{7777*7}}"))


def test_embedded_rows_are_the_reports_rows(outline):
    assert json.loads(outline.raw["script"][0])["rows"]


def test_embedded_json_means_the_same_as_plain_json():
    value = {"text": "</script>&<!-- \u2028\u2029 é 😀", "list": [1, None, 0.5]}
    assert json.loads(embedded_json(value)) == value
    assert not re.search("[<>&\u2028\u2029]", embedded_json(value))


def test_a_reader_can_find_their_way_by_ear_and_by_keyboard(outline):
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = outline.attributes("id")
    assert len(ids) == len(set(ids))
    targets = {
        *outline.attributes("aria-labelledby"),
        *outline.attributes("aria-describedby"),
        *outline.attributes("data-panel"),
    }
    targets |= {target[1:] for target in outline.attributes("href") if target.startswith("#")}
    assert targets <= set(ids)
    assert all("scope" in header for header in outline.named("th"))
    for region in (one for one in outline.named("div") if "scroll" in (one.get("class") or "").split()):
        assert region["tabindex"] == "0"
        assert region["aria-label"]
    for drawing in (
        *outline.named("svg"),
        *(one for one in outline.named("div") if "chart" in (one.get("class") or "")),
    ):
        assert drawing.get("aria-hidden") == "true" or drawing.get("aria-label") or "viewbox" in drawing


def test_no_programmers_words_reach_the_reader(outline):
    assert not re.search(r"\b(None|nan|inf|undefined|True|False)\b", " ".join(outline.texts))


def said_on(report):
    """The page's text, with plain spaces."""
    return " ".join(" ".join(Outline(render_page(report)).texts).split()).replace("\u00a0", " ")


def test_the_verdict_says_what_a_reader_needs_first():
    text = said_on(label_report())
    for wanted in (
        "Stay with the baseline",
        "−13.8 points",
        "−18.2 to −9.4, 95 % interval",
        "paired cluster bootstrap: −18.1 to −9.5",
        "a cross-check that decides nothing",
        "< 0.001",
        "the only study so far that looked at these test examples",
    ):
        assert wanted in text
    text = said_on(text_report())
    for wanted in (
        "Cannot tell yet",
        "About 640 more test examples",
        "Before you trust these figures",
        "study 2 of the 4 that have looked at these test examples",
    ):
        assert wanted in text


def test_a_bootstrap_that_knows_of_no_spread_is_a_dash_with_its_reason():
    report = label_report(num_rows=30)
    primary = replace(report.comparisons[0], bootstrap=None)
    text = said_on(replace(report, comparisons=(primary, *report.comparisons[1:])))
    assert "paired cluster bootstrap: all resamples alike" in text
    assert "A dash stands where all resamples are alike" in text
    assert "A dash stands" not in said_on(report)


def test_many_labels_are_folded_behind_those_with_most_mistakes():
    page = Outline(render_page(label_report()))
    text = said_on(label_report())
    assert "Label by label" in text
    assert "Most mistakes of Tuned (LoRA)" in text
    num_labels = len({row.wanted for row in label_report().rows})
    assert f"All {num_labels} labels" in text
    assert sum(svg.get("class") == "rate-bar" for svg in page.named("svg")) == 2 * (num_labels + 5)


def test_a_few_fields_are_seen_at_once_with_the_score_of_both():
    report = json_report()
    text = said_on(report)
    assert "Field by field" in text
    assert "Most mistakes of" not in text
    [tuned, few_shot] = [
        next(
            part for one in report.part_scores if one.contender == name for part in one.parts if part.name == "urgency"
        )
        for name in ("tuned", "few_shot")
    ]
    assert f"urgency {tuned.num_wanted} {100 * tuned.f1:.1f} {100 * few_shot.f1:.1f}" in text
    assert "2 more fields, answered but never wanted, stand in report.json" in text


def test_free_text_is_not_taken_apart():
    assert 'id="parts"' not in render_page(text_report())


def test_what_no_request_showed_is_a_dash():
    report = label_report(num_rows=30)
    dead = next(one for one in report.contenders if one.name == "remote")
    nothing = Resources(prompt_tokens_per_request=None, completion_tokens_per_request=None, seconds_per_request=None)
    note = "30 requests failed: HTTP 500: overloaded (30)."
    dead = replace(dead, metrics=(), num_failed=30, resources=nothing, note=note)
    page = render_page(replace(report, contenders=(*report.contenders[:1], dead)))
    assert note in page
    assert page.count('<td class="number">–</td>') >= 5, "tokens in and out, seconds in a batch and alone"


def test_side_by_side_puts_the_challenger_and_the_baseline_first():
    study = side_by_side(label_report(num_rows=30))
    assert [contender["title"] for contender in study["contenders"]][:2] == ["Tuned (LoRA)", "Classifier"]
    assert study["isMarked"]
    assert study["rows"][7]["scores"][2] is None
    assert study["rows"][7]["errors"][2] == "HTTP 500: overloaded"
