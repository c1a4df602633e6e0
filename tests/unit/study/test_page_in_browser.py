"""The page in a real browser: its own policy lets it work, its rows hold only text, and its buttons do what they say.

Needs Chromium on the path; skipped without it.
"""

import json
import re
import subprocess

import pytest

from build_report import hostile_report, json_report, label_report, text_report
from chromium import CHROMIUM, OPTIONS
from fettle.study.page import render_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def opened(page, folder):
    """The page's document as text after its script has run."""
    (folder / "report.html").write_text(page, encoding="utf-8")
    command = [
        CHROMIUM,
        *OPTIONS,
        "--dump-dom",
        f"--user-data-dir={folder / 'profile'}",
        (folder / "report.html").as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def asked(page, folder, question):
    """The JSON value of a JavaScript expression, in the page without its policy (which would forbid the question)."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    page = page.replace(
        "</body>",
        "<pre id='answer'></pre><script>document.getElementById('answer').textContent ="
        f" JSON.stringify((() => {{ {question} }})())</script></body>",
    )
    found = re.search(r"<pre id=\"answer\">(.*?)</pre>", opened(page, folder), re.S)
    assert found, "the page's script failed"
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


PRESS = """
const press = (start) => [...document.querySelectorAll("button")].find((one) => one.textContent.startsWith(start)).click();
const status = () => document.getElementById("rows-status").textContent.split(",")[0];
const heads = () => [...document.querySelectorAll(".row h3 b")].map((one) => Number(one.textContent));
"""


def test_rows_are_drawn_under_the_pages_own_policy(tmp_path):
    document = opened(render_page(label_report()), tmp_path)
    assert document.count('<article class="row short">') == 10
    assert "500 of 500 test rows, the first 10 shown" in document
    assert "Show 25 more of 490 left" in document


def test_planted_markup_is_shown_as_text_and_never_runs(tmp_path):
    planted = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">{{7777*7}}"
    question = (
        "return [document.title, document.querySelectorAll('img').length, document.querySelectorAll('script').length, "
    )
    question += "document.querySelector('.row .said').textContent]"
    title, num_images, num_scripts, text = asked(render_page(hostile_report(planted)), tmp_path, question)
    assert title.startswith("Ship the tuned model")
    assert (num_images, num_scripts) == (0, 3)
    assert text == planted


def test_filters_search_and_order_agree_with_the_report(tmp_path):
    report = label_report()
    scores = [(row.scores["tuned"], row.scores["classifier"]) for row in report.rows]
    wins = sum(one == 1 and other == 0 for one, other in scores)
    both_wrong = sum(one == other == 0 for one, other in scores)
    needle = report.rows[3].wanted
    matches = sum(
        needle in json.dumps([row.input_text, row.wanted, *row.answers.values()]).lower() for row in report.rows
    )
    answers = asked(
        render_page(report),
        tmp_path,
        PRESS
        + f"""
        const seen = [];
        press("Tuned wins"); seen.push(status());
        press("Both wrong"); seen.push(status());
        press("Not scored"); seen.push(heads());
        press("All");
        const search = document.querySelector("input[type=search]");
        search.value = {json.dumps(needle.upper())};
        search.dispatchEvent(new Event("input"));
        seen.push(status());
        search.value = "nothing says this";
        search.dispatchEvent(new Event("input"));
        seen.push([status(), document.getElementById("rows-more").hidden]);
        return seen;
        """,
    )
    assert answers == [
        f"{wins} of 500 test rows",
        f"{both_wrong} of 500 test rows",
        [8],
        f"{matches} of 500 test rows",
        ["0 of 500 test rows", True],
    ]


def test_a_failed_request_shows_its_reason_in_place_of_an_answer(tmp_path):
    question = (
        PRESS
        + 'press("Not scored"); return [...document.querySelectorAll(".said.nothing")].map((one) => one.textContent)'
    )
    assert asked(render_page(label_report()), tmp_path, question) == ["the request failed: HTTP 500: overloaded"]


def test_more_rows_come_on_demand_in_the_chosen_order(tmp_path):
    report = text_report()
    gains = [row.scores["tuned"] - row.scores["few_shot"] for row in report.rows]
    expected = sorted(range(1, len(gains) + 1), key=lambda number: -gains[number - 1])
    question = (
        PRESS
        + """
        const order = document.querySelector(".finders select");
        order.selectedIndex = 1;
        order.dispatchEvent(new Event("change"));
        press("Show 25 more of 80 left");
        return heads();
        """
    )
    assert asked(render_page(report), tmp_path, question) == expected[:35]


def test_json_lines_are_marked_where_they_differ_from_the_wanted_answer(tmp_path):
    wanted = {"a": 1, "b": {"c": "x", "d": [1, 2]}, "e": None, "f": 2}
    said = {"b": {"d": [1, 3], "c": "x"}, "a": 1, "e": {"g": 1}, "h": True}
    question = (
        f"return jsonLines({json.dumps(said)}, {json.dumps(wanted)}).map((line) => [line.state, line.text.trim()])"
    )
    assert asked(render_page(json_report()), tmp_path, question) == [
        ["same", "{"],
        ["same", '"b": {'],
        ["same", '"d": ['],
        ["same", "1,"],
        ["differs", "3"],
        ["same", "],"],
        ["same", '"c": "x"'],
        ["same", "},"],
        ["same", '"a": 1,'],
        ["differs", '"e": {'],
        ["differs", '"g": 1'],
        ["differs", "},"],
        ["extra", '"h": true'],
        ["missing", '"f": 2'],
        ["same", "}"],
    ]


def test_deeply_nested_json_is_shown_as_text(tmp_path):
    question = (
        "return ['[[1]]', '['.repeat(5000) + ']'.repeat(5000), '7', 'no'].map((text) => parseJson(text) !== undefined)"
    )
    assert asked(render_page(json_report(num_rows=3)), tmp_path, question) == [True, False, False, False]


def test_one_confusion_matrix_is_shown_at_a_time(tmp_path):
    question = (
        PRESS
        + """
        const shown = () => [...document.querySelectorAll(".panel")].map((one) => !one.hidden);
        const before = shown();
        document.querySelector("[data-panel='confusion-2']").click();
        return [before, shown()];
        """
    )
    assert asked(render_page(label_report(num_rows=50)), tmp_path, question) == [[True, False], [False, True]]
