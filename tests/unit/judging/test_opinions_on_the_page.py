"""What judges and people say, on the report's page: faults by name before any figure, and never older than votes and answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from judged_studies import StandIn, always_first, always_ties, fair, longer, quality, random_study

from chromium import CHROMIUM, Browser, Page, browser
from fettle.judging.compare import Judge, judge_study
from fettle.judging.document import keep_judged, read_judged
from fettle.judging.records import FaultKind, JudgedComparison
from fettle.judging.rubric import Rubric
from fettle.judging.settings import JudgeSettings, TokenPrices
from fettle.report_records import AnswerRow, StudyReport
from fettle.study.opinions import opinions_on
from fettle.study.page import render_page
from fettle.study.report import rewrite_page, write_report
from fettle.votes.poll import Contenders, make_poll
from fettle.votes.records import Choice
from fettle.votes.vote_file import append_record
from voting import vote_for

RUBRIC = Rubric(text="The better one is better.", origin="the test")
PAIR = Contenders(challenger="tuned", baseline="few_shot")


def judged_by(says, report: StudyReport, folder: Path, *, name: str = "stand-in", **settings) -> JudgedComparison:
    judge = Judge(engine=StandIn(says, name=name), rubric=RUBRIC)
    judged = judge_study(report, judge, JudgeSettings(**settings), folder=folder)
    keep_judged(judged, folder)
    return judged


def vote(report: StudyReport, folder: Path, number: int, *, rater: str = "Ada") -> None:
    """So many votes of a person who sees the quality."""
    poll = make_poll(report, PAIR, num_sampled=None, where="memory")
    for matchup in poll.asked[:number]:
        better = quality(matchup.challenger_answer) - quality(matchup.baseline_answer)
        name = "tuned" if better > 0 else "few_shot" if better < 0 else None
        append_record(
            folder / "votes.jsonl", vote_for(poll, name, matchup.example_id, rater=rater, choice=Choice.BOTH_BAD)
        )


def section(page: str, name: str) -> str:
    """The words of one section, charts' labels included; "" where the page has none."""
    found = re.search(rf'<section id="{name}".*?</section>', page, re.S)
    if found is None:
        return ""
    labels = " ".join(re.findall(r'aria-label="([^"]*)"', found[0]))
    text = re.sub(r"<[^>]*>", "", found[0]) + " " + labels
    for written, meant in (("&nbsp;", " "), ("\u00a0", " "), ("&#39;", "'"), ("&gt;", ">"), ("&lt;", "<")):
        text = text.replace(written, meant)
    return " ".join(text.split())


def page_of(report: StudyReport, folder: Path) -> str:
    return render_page(report, opinions_on(report, folder))


def test_without_judges_and_votes_there_are_no_such_sections(tmp_path: Path) -> None:
    page = page_of(random_study(20, seed=1), tmp_path)
    for name in ("judges", "people", "left-out"):
        assert f'id="{name}"' not in page
        assert f'href="#{name}"' not in page


def test_a_judge_is_shown_with_all_its_figures(tmp_path: Path) -> None:
    report = random_study(120, seed=1, gain=1)
    prices = TokenPrices(of_prompt=10, of_reply=100)
    judged = judged_by(fair(0.7), report, tmp_path, repeats=2, prices=prices)
    page = page_of(report, tmp_path)
    said = section(page, "judges")
    assert 'href="#judges"' in page
    for rate in (judged.win_rate, judged.length_controlled):
        assert rate is not None
        assert f"{100 * rate.estimate:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})" in said
    for part in ("chrF grader", "as it is", "at equal length", "Tuned (LoRA) against Few-shot, nearest",
                 "120, each shown in both orders 2 times", "The answer shown first is preferred in",
                 "judged otherwise in the other order, and count as ties", "The longer answer wins",
                 "Asked the same once more it says otherwise in", "480 readable, 0 unreadable, 0 failed",
                 "48,000 tokens of prompts, 9,600 of replies, 120 s, price 1.44", "The better one is better.",
                 "Nothing is decided by it: the verdict rests on the comparison that was declared beforehand",
                 "free text has many good ones"):  # fmt: skip
        assert part in said, part
    assert "unusable" not in said


def test_the_graders_interval_of_a_later_look_is_told_apart(tmp_path: Path) -> None:
    report = random_study(40, seed=1)
    rate = replace(report.comparisons[0].win_rate, level=0.975)
    later = replace(report, comparisons=(replace(report.comparisons[0], win_rate=rate), *report.comparisons[1:]))
    judged_by(fair(0.7), later, tmp_path)
    assert "chrF grader, 97.5 % interval" in section(page_of(later, tmp_path), "judges")


@pytest.mark.parametrize(
    ("says", "kind", "is_usable"),
    [
        (always_first, FaultKind.PREFERS_FIRST, False),
        (always_ties, FaultKind.NEVER_PREFERS, False),
        (longer, FaultKind.PREFERS_LONGER, True),
    ],
)
def test_a_planted_judge_is_named_before_any_figure_of_its_own(
    says, kind: FaultKind, tmp_path: Path, *, is_usable: bool
) -> None:
    report = random_study(80, seed=2, gain=1)
    judged = judged_by(says, report, tmp_path)
    said = section(page_of(report, tmp_path), "judges")
    assert f"It {kind.value}: " in said
    fault = next(fault for fault in judged.faults if fault.kind is kind)
    assert fault.evidence in said
    assert ("This judge is unusable: what it says of the answers must not be used." in said) is not is_usable
    assert said.index(kind.value) < said.index("The judge as it is")


def test_people_who_vote_later_correct_the_judge_without_asking_it_again(tmp_path: Path) -> None:
    report = random_study(150, seed=12, gain=1)
    judged_by(fair(0.5), report, tmp_path)
    paths = write_report(report, tmp_path)
    assert "corrected by people" not in paths.html.read_text()
    vote(report, tmp_path, 50)
    said = section(rewrite_page(report, paths.json).read_text(), "judges")
    assert rewrite_page(report, paths.json) == paths.html
    [kept] = read_judged(tmp_path / "judged.json")
    assert kept.corrected is None, "judged.json is what was known when the judge was asked"
    [now] = opinions_on(report, tmp_path).judged
    assert now.corrected is not None
    for rate in (now.corrected.corrected, now.corrected.human_only):
        assert f"{100 * rate.low:.1f} to {100 * rate.high:.1f}" in said
    assert "The judge corrected by people" in said
    assert "People voted on 50 pairs of the 150 that the judge compared." in said
    worth = round(now.corrected.num_human_worth)
    assert worth > 50
    assert f"that is worth about {worth} votes of people" in said
    assert "Cohen's kappa" in said


def test_a_judge_that_disagrees_with_people_becomes_unusable_by_their_votes(tmp_path: Path) -> None:
    report = random_study(200, seed=13)
    assert judged_by(longer, report, tmp_path).is_usable
    vote(report, tmp_path, 200)
    said = section(page_of(report, tmp_path), "judges")
    assert f"It {FaultKind.NOT_LIKE_PEOPLE.value}" in said
    assert "This judge is unusable" in said


def test_people_are_shown_with_their_agreement_and_ties(tmp_path: Path) -> None:
    report = random_study(40, seed=3, gain=1)
    same = (replace(row, answers=dict.fromkeys(row.answers, "quality 3")) for row in report.rows[:5])
    report = replace(report, rows=(*same, *report.rows[5:]))
    vote(report, tmp_path, 30)
    vote(report, tmp_path, 10, rater="Bob")
    [tally] = opinions_on(report, tmp_path).voted
    said = section(page_of(report, tmp_path), "people")
    rate, alpha = tally.win_rate, tally.agreement
    assert rate is not None
    assert alpha is not None
    assert f"People: {100 * rate.estimate:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})" in said
    assert "40 of 2 people, on 30 examples" in said
    assert f"{tally.counts.num_both_bad} votes, {tally.counts.num_both_bad} of them because both are bad" in said
    assert f"{tally.num_equal} more examples with equal answers" in said
    assert f"Krippendorff’s alpha {alpha.estimate:.2f} ({alpha.low:.2f} to {alpha.high:.2f}) on 10 examples" in said
    assert "Ada" in said
    assert "Bob" in said


def changed(row: AnswerRow) -> AnswerRow:
    return replace(row, answers={**row.answers, "tuned": row.answers["tuned"] + " now"})


def test_other_answers_leave_out_what_was_said_of_the_old_ones(tmp_path: Path) -> None:
    report = random_study(30, seed=4)
    judged_by(fair(0.5), report, tmp_path)
    vote(report, tmp_path, 8)
    page = page_of(replace(report, rows=tuple(map(changed, report.rows))), tmp_path)
    assert section(page, "judges") == ""
    assert "What stand-in said of tuned and few_shot is left out: it is about answers that have changed" in section(
        page, "left-out"
    )
    assert "No vote on the answers of this run." in section(page, "people")
    assert "8 votes on answers that another run of the study has changed" in section(page, "people")


def test_contenders_that_are_gone_are_told_of(tmp_path: Path) -> None:
    report = random_study(30, seed=4)
    judged_by(fair(0.5), report, tmp_path, between=("tuned", "few_shot"))
    vote(report, tmp_path, 8)
    left = tuple(one for one in report.contenders if one.name != "few_shot")
    told = section(page_of(replace(report, contenders=left, comparisons=()), tmp_path), "left-out")
    assert "Votes on few_shot and tuned are left out: this study has no such contenders." in told
    assert "What stand-in said of tuned and few_shot is left out" in told


def test_damaged_files_do_not_keep_a_study_from_its_report(tmp_path: Path) -> None:
    (tmp_path / "judged.json").write_text("{}")
    (tmp_path / "votes.jsonl").write_text("no vote\n")
    page = write_report(random_study(20, seed=5), tmp_path).html.read_text()
    told = section(page, "left-out")
    assert "judged.json is left out: no judgements can be read here" in told
    assert "People’s votes are left out: votes.jsonl:1: this line is no vote" in told
    assert str(tmp_path) not in told


def test_a_study_that_is_run_again_keeps_the_sections(tmp_path: Path) -> None:
    report = random_study(30, seed=6)
    judged_by(fair(0.5), report, tmp_path)
    vote(report, tmp_path, 8)
    page = write_report(report, tmp_path).html.read_text()
    assert section(page, "judges")
    assert section(page, "people")


def test_judges_that_can_be_used_and_the_declared_contenders_come_first(tmp_path: Path) -> None:
    report = random_study(60, seed=7, gain=2)
    rows = (replace(row, answers={**row.answers, "prompt": row.answers["few_shot"] + " please"}) for row in report.rows)
    report = replace(report, rows=tuple(rows))
    judged_by(fair(0.3), report, tmp_path, name="older")
    judged_by(always_first, report, tmp_path, name="bad")
    judged_by(fair(0.3), report, tmp_path, name="newer")
    judged_by(fair(0.3), report, tmp_path, name="other pair", between=("tuned", "prompt"))
    assert [one.judge for one in opinions_on(report, tmp_path).judged] == ["newer", "older", "bad", "other pair"]


def test_names_and_rubrics_never_become_markup(tmp_path: Path) -> None:
    planted = "<img src=x onerror=alert(1)>"
    report = random_study(30, seed=8)
    judge = Judge(engine=StandIn(fair(0.3), name=planted), rubric=Rubric(text=planted, origin=planted))
    keep_judged(judge_study(report, judge, JudgeSettings(), folder=tmp_path), tmp_path)
    vote(report, tmp_path, 5, rater=planted)
    assert "<img" not in page_of(report, tmp_path)


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path / "profile") as opened:
        yield opened


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(("width", "is_dark"), [(1280, False), (390, True)])
def test_a_real_browser_shows_both_sections(chromium: Browser, tmp_path: Path, width: int, *, is_dark: bool) -> None:
    report = random_study(60, seed=9, gain=1)
    judged_by(
        always_first, report, tmp_path, name="judge-with-a-long-name at https://models.example/with/a/long/path/v1"
    )
    vote(report, tmp_path, 20)
    page = Page(chromium)
    page.show_in(width=width, height=900, is_dark=is_dark)
    page.open(write_report(report, tmp_path).html.as_uri())
    for name in ("judges", "people"):
        page.ask(f"document.querySelector('.contents a[href=\"#{name}\"]').click()")
        assert page.ask(f"document.getElementById('{name}').getBoundingClientRect().top") < 100
    assert page.ask("document.querySelector('#judges .unusable').checkVisibility()")
    order = page.ask(
        "['.warnings', 'figure', '.facts'].map((one) => document.querySelector('#judges ' + one).getBoundingClientRect().top)"
    )
    assert order == sorted(order), "what is wrong with a judge stands above its figures"
    assert page.ask("document.querySelector('#judges .warnings').innerText.includes('whichever answer comes first')")
    assert page.ask("document.querySelectorAll('#people tbody tr').length") == 1
    assert page.ask("document.documentElement.scrollWidth") <= width
    assert page.complaints() == []
