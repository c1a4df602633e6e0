"""`fettle release challenge`, `challenges`, `end-challenge`: a release that answers a share of the traffic, seen or unseen."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fettle.cli.release import JsonOption, ProjectOption
from fettle.errors import ConfigError

if TYPE_CHECKING:
    from fettle.releases.challenging import BegunChallenge, ChallengeState
    from fettle.releases.terms import JudgeEndpoint

_FORMAT, _FORMAT_VERSION = "fettle-challenges", 1
Name = Annotated[str, typer.Argument(help="What the releases answer to, such as triage.")]


def challenge(
    name: Name,
    with_: Annotated[int, typer.Option("--with", min=1, help="Number of the release that challenges.")],
    kind: Annotated[
        str, typer.Option(help="canary: users see its answers; shadow: it answers beside the one in force, unseen.")
    ],
    share: Annotated[float, typer.Option(help="Of conversations, 0.01 to 0.99.")] = 0.1,
    better_by: Annotated[
        float, typer.Option(help="It wins once its mean score is surely higher by this; negative: as good is enough.")
    ] = 0.0,
    worse_by: Annotated[
        float, typer.Option(help="It is stopped once its mean score is surely lower by more than this.")
    ] = 0.0,
    level: Annotated[
        float, typer.Option(help="Over all looks together, so often no wrong decision is taken at all.")
    ] = 0.95,
    max_outcomes: Annotated[
        int | None, typer.Option(min=1, help="After so many outcomes it is given up; at first never.")
    ] = None,
    expected_score: Annotated[
        float, typer.Option(help="Of the release in force, about: a canary with one that is near needs fewer outcomes.")
    ] = 0.5,
    grader: Annotated[
        str | None,
        typer.Option(help="Grades answers by corrected ones; at first that of the study of the release in force."),
    ] = None,
    judge_url: Annotated[
        str | None, typer.Option(help="Endpoint of a model that compares the answers of a shadow.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="The endpoint's name for it.")] = None,
    rubric: Annotated[Path | None, typer.Option(help="Text file that says what makes an answer better.")] = None,
    act: Annotated[
        bool, typer.Option("--act", help="Promote it by itself once it has won; a losing one is stopped in any case.")
    ] = False,
    project: ProjectOption = "default",
) -> None:
    """Let a release answer a share of the conversations: it wins, loses, or is given up by what users or a judge say."""
    from fettle.cli.store import open_store, user_name
    from fettle.cli.traffic import project_of
    from fettle.releases.challenge import Challenge, ChallengeKind
    from fettle.releases.challenging import begin_challenge

    if kind not in list(ChallengeKind):
        raise ConfigError(f"there is no kind {kind!r}", where="--kind", remedy="choose canary or shadow")
    agreed = Challenge(
        name=name,
        challenger=with_,
        kind=ChallengeKind(kind),
        share=share,
        better_by=better_by,
        worse_by=worse_by,
        level=level,
        expected_score=expected_score,
        max_outcomes=max_outcomes,
    )
    judge = _judge(judge_url, judge_model, rubric)
    store = open_store()
    begun = begin_challenge(
        store, project_of(store, project), agreed, who=user_name(), grader=grader, judge=judge, acts=act
    )
    _print_begun(begun)


def challenges(
    name: Name,
    chart: Annotated[
        Path | None, typer.Option(help="Write the difference over the outcomes of the last one as an SVG file.")
    ] = None,
    project: ProjectOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Show the challenges of a name, and what their outcomes say."""
    from fettle.cli.store import open_store
    from fettle.cli.traffic import project_of
    from fettle.files import write_atomically
    from fettle.releases.challenge_chart import challenge_chart
    from fettle.releases.challenging import challenge_looks, challenge_states

    store = open_store()
    states = challenge_states(store, project_of(store, project), name)
    if not states:
        raise ConfigError(f"no release of {name!r} was challenged", remedy="`fettle release challenge` begins one")
    if chart is not None:
        last = states[-1]
        looks = [(one.num_outcomes, look) for one, look in challenge_looks(store, last.challenge.id)]
        write_atomically(chart, challenge_chart(last.terms.challenge, last.challenge.incumbent_number, looks))
    if as_json:
        document = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "content": [_as_json(state) for state in states],
        }
        typer.echo(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1))
        return
    for state in states:
        _print_state(state)
    if chart is not None:
        typer.echo(f"Chart: {chart}")


def end_challenge(
    name: Name,
    reason: Annotated[str | None, typer.Option(help="Why, for the history.")] = None,
    project: ProjectOption = "default",
) -> None:
    """End the challenge that runs, undecided; the release in force answers alone from the next request on."""
    from fettle.cli.store import open_store, user_name
    from fettle.cli.traffic import project_of
    from fettle.releases import challenging

    store = open_store()
    challenging.end_challenge(store, project_of(store, project), name, who=user_name(), reason=reason)
    typer.echo(f"The challenge of {name} is over; the release in force answers alone.")


def _judge(url: str | None, model: str | None, rubric: Path | None) -> JudgeEndpoint | None:
    from fettle.answering.address import require_http_address
    from fettle.judging.rubric import GENERAL, read_rubric
    from fettle.releases.terms import JudgeEndpoint

    if (url is None) != (model is None):
        raise ConfigError("--judge-url and --judge-model go together", remedy="give the URL and the model's name")
    if url is None or model is None:
        if rubric is not None:
            raise ConfigError("there is no judge to be told this", where="--rubric", remedy="name one with --judge-url")
        return None
    require_http_address(url, where="--judge-url")
    return JudgeEndpoint(url=url, model=model, rubric=GENERAL if rubric is None else read_rubric(rubric).text)


def _print_begun(begun: BegunChallenge) -> None:
    from fettle.releases.challenge import ChallengeKind
    from fettle.releases.outcome_graders import needs_the_right_answer

    one, agreed, grading = begun.challenge, begun.terms.challenge, begun.terms.grading
    who = f"{one.name}@{one.challenger_number}"
    is_shadow = agreed.kind is ChallengeKind.SHADOW
    seen = "beside" if is_shadow else "in place of"
    typer.echo(f"{who} answers {agreed.share:.3g} of the conversations {seen} {one.name}@{one.incumbent_number}.")
    if grading.judge is not None:
        typer.echo(f"Outcomes: {grading.judge.model} compares both answers, as they are kept, in both orders.")
    elif not needs_the_right_answer(grading):
        typer.echo(f"Outcomes: both answers, by {grading.grader}.")
    elif is_shadow:
        typer.echo(f"Outcomes: both answers to what is corrected by POST /v1/feedback, by {grading.grader}.")
        typer.echo(
            "Send the wanted answer (`corrected_answer`) for right answers as well as for wrong ones, for all requests or for "
            "some drawn at random: where only wrong ones are corrected, the release in force looks worse than it is."
        )
    else:
        typer.echo(
            f"Outcomes: scores and thumbs of POST /v1/feedback, else its corrected answers, by {grading.grader}."
        )
    won = f"{who} comes into force by itself" if begun.terms.acts else f"`fettle release promote {who}` is up to you"
    typer.echo(f"If it wins: {won}. If it loses, it is stopped.")
    if begun.num_keeping < begun.num_keys or not begun.num_keys:
        what = "are answered beside and have outcomes" if is_shadow else "have outcomes"
        typer.echo(
            f"Only kept requests {what}: {begun.num_keeping} of {begun.num_keys} keys keep theirs "
            "(`fettle keys keep-traffic KEY --days 30`)."
        )


def _print_state(state: ChallengeState) -> None:
    one, agreed, look = state.challenge, state.terms.challenge, state.look
    ended = "runs" if one.ended_at is None else f"ended {_moment(one.ended_at)} by {one.ended_by}: {one.reason or ''}"
    title = f"{one.name}@{one.challenger_number} against {one.name}@{one.incumbent_number}"
    typer.echo(f"{title}: {agreed.kind}, share {agreed.share:g}, since {_moment(one.created_at)} by {one.who}; {ended}")
    if look is None:
        typer.echo("  no outcome yet")
        return
    found = look.difference
    rows = [
        ("difference", f"{found.estimate:+.3f} ({found.low:+.3f} to {found.high:+.3f}, holds at every look)"),
        ("outcomes", f"{look.num_challenger} of the challenger, {look.num_incumbent} of the one in force"),
        ("not counted", f"{look.num_repeats} more of the same conversations"),
        (
            "evidence",
            f"better {look.evidence_better:.3g}, worse {look.evidence_worse:.3g}; {_bar(agreed.level):g} decides",
        ),
    ]
    if look.is_uneven:
        rows.append(("UNEVEN", "outcomes come from one side more often than its share: nothing is promoted by them"))
    for about, text in rows:
        typer.echo(f"  {about:<12} {text}")


def _bar(level: float) -> float:
    return round(2 / (1 - level), 6)


def _as_json(state: ChallengeState) -> dict[str, Any]:
    from fettle.answering.address import public_address
    from fettle.releases.terms import look_as_json, terms_as_json

    one, terms = state.challenge, terms_as_json(state.terms)
    if state.terms.grading.judge is not None:
        terms["grading"]["judge"]["url"] = public_address(state.terms.grading.judge.url)
    return {
        "id": one.id,
        "name": one.name,
        "challenger": one.challenger_number,
        "incumbent": one.incumbent_number,
        "terms": terms,
        "created_at": one.created_at,
        "who": one.who,
        "ended_at": one.ended_at,
        "ended_by": one.ended_by,
        "decision": one.decision,
        "reason": one.reason,
        "num_outcomes": state.num_outcomes,
        "look": None if state.look is None else look_as_json(state.look),
    }


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
