"""People's votes as they are cast: the real command, a real Chromium, real keys. Skipped where there is no Chromium."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chromium import CHROMIUM, Browser, Page, browser
from fettle.study.report import print_report
from voting import answer_row, lines_of, rows_that_differ, study_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
KEYS = "12301s23102312s01321"
CHOICES = {"1": "left", "2": "right", "3": "tie", "0": "both bad", "s": "skip"}
HEADING = "document.getElementById('heading').textContent"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A finished study: 20 pairs that differ, 4 that do not."""
    rows = [*rows_that_differ(20), *(answer_row(20 + i, "same", "same") for i in range(4))]
    return written(tmp_path / "study", rows)


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path / "profile") as opened:
        yield opened


def written(folder: Path, rows: list) -> Path:
    folder.mkdir()
    (folder / "report.json").write_text(print_report(study_report(rows)), encoding="utf-8")
    return folder


@contextmanager
def voting_at(study: Path, *words: str) -> Iterator[tuple[str, Callable[[int], int]]]:
    """The address that `fettle vote` prints, and a function that sends it a signal and waits for its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fettle", "vote", str(study), *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None

    def end(number: int) -> int:
        process.send_signal(number)
        return process.wait(60)

    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address
        yield address, end
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def press(page: Page, key: str) -> None:
    """Press a key once the page waits for one, and come back when the next pair, or the end, is there."""
    before = page.ask(HEADING)
    page.press(key)
    page.wait_until(f"{HEADING} !== {before!r} || !document.getElementById('end').hidden")


def first_pair(page: Page) -> None:
    page.wait_until("!document.getElementById('booth').hidden")


def shown(page: Page) -> list[str]:
    return page.ask("['input', 'left', 'right'].map((id) => document.getElementById(id).textContent)")


def test_twenty_votes_by_keyboard_through_a_reload_and_a_kill(study: Path, chromium: Browser) -> None:
    seen: list[list[str]] = []
    page = Page(chromium)

    def cast(keys: str) -> None:
        for key in keys:
            seen.append(shown(page))
            press(page, key)

    with voting_at(study, "--rater", "Ada Lovelace") as (address, end):
        page.open(address)
        first_pair(page)
        cast(KEYS[:7])
        before = shown(page)
        page.reload()
        first_pair(page)
        assert shown(page) == before
        cast(KEYS[7:13])
        assert end(signal.SIGKILL) == -signal.SIGKILL
        page.press("1")
        page.wait_until(
            "document.getElementById('fault').textContent.startsWith('Not saved. The server does not answer')"
        )
        assert len(lines_of(study / "votes.jsonl")) == 13
    with voting_at(study, "--rater", "Ada Lovelace") as (address, end):
        page.open(address)
        first_pair(page)
        cast(KEYS[13:])
        assert page.ask("document.getElementById('end-text').textContent").startswith("20 of 20 pairs are done.")
        assert not (study / "report.html").exists()
        assert end(signal.SIGINT) == 0
    assert "18 of 1\u00a0person" in (study / "report.html").read_text(encoding="utf-8"), "the report's page shows them"
    lines = lines_of(study / "votes.jsonl")
    assert [line["choice"] for line in lines] == [CHOICES[key] for key in KEYS]
    for line, (asked, left, right) in zip(lines, seen, strict=True):
        number = str(line["example_id"]).removeprefix("row-")
        assert (asked, left, right) == (f"question {number}", f"{line['left']} {number}", f"{line['right']} {number}")
    assert len({str(line["example_id"]) for line in lines}) == 20
    assert {line["rater"] for line in lines} == {"Ada Lovelace"}


def test_two_people_in_two_windows_each_in_their_own_place(study: Path, chromium: Browser) -> None:
    ada, bob = Page(chromium), Page(chromium)
    with voting_at(study) as (address, _):
        ada.open(address)
        ada.type("Ada")
        ada.press("Enter")
        ada.wait_for_load()
        first_pair(ada)
        assert ada.ask("document.getElementById('rater').textContent") == "Ada"
        bob.open(f"{address}?rater=Bob")
        first_pair(bob)
        for key in "12":
            press(ada, key)
            press(bob, key)
        press(bob, "u")
        assert (ada.ask(HEADING), bob.ask(HEADING)) == ("Pair 3 of 20", "Pair 2 of 20")
    lines = lines_of(study / "votes.jsonl")
    assert [(line["rater"], line["kind"]) for line in lines] == [
        ("Ada", "vote"), ("Bob", "vote"), ("Ada", "vote"), ("Bob", "vote"), ("Bob", "undo")
    ]  # fmt: skip


def test_a_comment_goes_with_its_vote_and_its_letters_are_no_votes(study: Path, chromium: Browser) -> None:
    page = Page(chromium)
    with voting_at(study, "--rater", "Ada") as (address, _):
        page.open(address)
        first_pair(page)
        page.press("c")
        for key in "1 su":
            page.press(key)
        page.reload()
        first_pair(page)
        assert page.ask("document.getElementById('comment').value") == "1 su"
        page.press("c")
        page.press("Escape")
        press(page, "2")
        assert page.ask("document.getElementById('comment').value") == ""
        press(page, "u")
        assert page.ask("document.getElementById('comment').value") == "1 su"
    assert [(line["kind"], line.get("comment")) for line in lines_of(study / "votes.jsonl")] == [
        ("vote", "1 su"), ("undo", None)
    ]  # fmt: skip


def test_a_key_that_is_held_down_votes_once(study: Path, chromium: Browser) -> None:
    page = Page(chromium)
    with voting_at(study, "--rater", "Ada") as (address, _):
        page.open(address)
        first_pair(page)
        page.press("1", holds=True)
        page.wait_until(f"{HEADING} === 'Pair 2 of 20'")
        press(page, "2")
        assert page.ask(HEADING) == "Pair 3 of 20"
    assert [line["choice"] for line in lines_of(study / "votes.jsonl")] == ["left", "right"]


def test_buttons_do_what_they_say_and_those_of_no_use_do_nothing(study: Path, chromium: Browser) -> None:
    page = Page(chromium)
    with voting_at(study, "--rater", "Ada") as (address, _):
        page.open(address)
        first_pair(page)
        assert page.ask("document.getElementById('undo').getAttribute('aria-disabled')") == "true"
        page.ask("document.getElementById('undo').click()")
        for number, choice in enumerate(("both bad", "right", "skip"), start=2):
            page.ask(f"document.querySelector('[data-choice=\"{choice}\"]').click()")
            page.wait_until(f"{HEADING} === 'Pair {number} of 20'")
        page.ask("document.getElementById('undo').click()")
        page.wait_until(f"{HEADING} === 'Pair 3 of 20'")
    lines = lines_of(study / "votes.jsonl")
    assert [line.get("choice", line["kind"]) for line in lines] == ["both bad", "right", "skip", "undo"]


def test_planted_markup_is_shown_as_text_and_the_policy_forbids_nothing_that_the_page_does(
    tmp_path: Path, chromium: Browser
) -> None:
    study = written(tmp_path / "study", [answer_row(0, HOSTILE, HOSTILE + "!"), answer_row(1, "a", "b")])
    page = Page(chromium)
    with voting_at(study, "--rater", "<b>Ada</b>") as (address, _):
        page.open(address)
        first_pair(page)
        if HOSTILE not in shown(page):
            press(page, "1")
        assert HOSTILE in shown(page)
        page.press("c")
        page.type(HOSTILE)
        page.press("Escape")
        page.press("1")
        page.wait_until("document.getElementById('status').textContent.startsWith('Saved')")
        counts = page.ask("['img', 'script', '#rater b'].map((name) => document.querySelectorAll(name).length)")
        assert counts == [0, 1, 0]
        assert page.ask("document.title").startswith("Which answer is better?")
        assert page.ask("document.getElementById('rater').textContent") == "<b>Ada</b>"
    assert page.complaints() == []
