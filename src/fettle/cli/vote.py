"""`fettle vote`: people's blind votes on the answers of two contenders of a finished study."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from fettle.cli.finished_study import report_path
from fettle.cli.tables import print_table
from fettle.errors import ConfigError, DataError, DiskFullError

if TYPE_CHECKING:
    from fettle.report_records import StudyReport
    from fettle.votes.poll import Poll
    from fettle.votes.tally import Tally, VoteCounts

_HOST = "127.0.0.1"


def vote(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study, or its report.")],
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two contenders by name. Default: the two that the study's verdict compares."),
    ] = None,
    rater: Annotated[
        str | None,
        typer.Option(
            help="Who votes. Default: the page asks. With --results: count this person's votes alone.",
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Ask about so many test examples, drawn at random. Default: all.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0: any free one.")] = 0,
    results: Annotated[
        bool, typer.Option("--results", help="Say what the votes amount to, and serve nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --results: as JSON.")] = False,
) -> None:
    """Have people vote on two contenders' answers, without knowing whose is whose. Each vote is kept as it is cast."""
    from fettle.study.report import read_report
    from fettle.votes.poll import chosen_contenders, make_poll
    from fettle.votes.records import rater_name
    from fettle.votes.vote_file import FILE_NAME, read_records

    if as_json and not results:
        raise ConfigError("only results are printed as JSON", where="--json", remedy="add --results")
    name = None if rater is None else rater_name(rater)
    path = report_path(study)
    report = read_report(path)
    poll = make_poll(report, chosen_contenders(report, between), num_sampled=sample, where=str(path))
    votes_path = path.parent / FILE_NAME
    if results:
        _print_results(report, poll, votes_path, rater=name, as_json=as_json)
    else:
        _serve(report, poll, votes_path, rater=name, port=port)
    if read_records(votes_path):
        _show_on_page(report, path)


# ---------------------------------------------------------------------------------------------------- voting


def _serve(report: StudyReport, poll: Poll, votes_path: Path, *, rater: str | None, port: int) -> None:
    from fettle.server.listening import serve_until_stopped
    from fettle.votes.app import create_app, new_token
    from fettle.votes.booth import Booth
    from fettle.votes.vote_file import require_writable

    if not poll.asked:
        raise DataError(
            f"both contenders gave the same answer to all {len(poll.matchups)} examples, so there is nothing to vote on",
            where=report.name,
            remedy="ask about more examples (--sample), or compare two others with --between A B",
        )
    require_writable(votes_path)
    booth = Booth(poll=poll, path=votes_path)
    if rater is not None:
        booth.standing(rater)  # a damaged file is told of before anybody votes
    token = new_token()

    def greet(url: str) -> None:
        address = f"{url}/{token}/" + ("" if rater is None else f"?rater={quote(rater)}")
        _greet(poll, address, votes_path)

    serve_until_stopped(create_app(booth, report, token=token), host=_HOST, port=port, on_listening=greet)
    _say("All votes are kept. The same command goes on from there; with --results it says what they amount to.")


def _greet(poll: Poll, address: str, votes_path: Path) -> None:
    num_equal = len(poll.matchups) - len(poll.asked)
    said = [
        f"{len(poll.asked)} pairs of answers to vote on, of {poll.contenders.challenger} and {poll.contenders.baseline}"
    ]
    if num_equal:
        said.append(f"{num_equal} more are equal, which makes them ties")
    if poll.num_failed:
        said.append(f"{poll.num_failed} are left out because a request had failed")
    _say("; ".join(said) + ".")
    _say(f"Votes go to {votes_path}. Open this address on this machine; Ctrl-C ends it:")
    typer.echo(address)


def _show_on_page(report: StudyReport, path: Path) -> None:
    """Have the report's page show the votes. They are kept either way, and so is what was printed of them."""
    from fettle.study.report import rewrite_page

    try:
        rewrite_page(report, path)
    except (ConfigError, DiskFullError) as error:
        _say(f"The report's page does not show these votes, for it could not be written anew: {error.describe()}")


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


# ---------------------------------------------------------------------------------------------------- results


def _print_results(report: StudyReport, poll: Poll, votes_path: Path, *, rater: str | None, as_json: bool) -> None:
    from fettle.votes.tally import tally
    from fettle.votes.vote_file import read_records

    found = tally(poll, read_records(votes_path), rater=rater)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=1))
        return
    titles = {contender.name: contender.title for contender in report.contenders}
    typer.echo(_headline(found, titles))
    if found.raters:
        typer.echo("")
        _print_raters(found)
    for note in _notes(found, poll):
        typer.echo(f"\n{note}")


def _headline(found: Tally, titles: dict[str, str]) -> str:
    challenger, baseline = (titles[name] for name in (found.contenders.challenger, found.contenders.baseline))
    if found.win_rate is None:
        return f"Nobody has voted on {challenger} and {baseline} yet."
    rate = found.win_rate
    told = f"{100 * rate.estimate:.1f} % (95 % interval {100 * rate.low:.1f} to {100 * rate.high:.1f})"
    num_examples = found.num_judged + found.num_equal
    equal = f", {found.num_equal} of them ties because both answers are equal" if found.num_equal else ""
    return f"{challenger} wins over {baseline} in {told} of {num_examples} examples{equal}. Ties count as half."


def _print_raters(found: Tally) -> None:
    titles = ("rater", "votes", found.contenders.challenger, found.contenders.baseline, "tie", "both bad", "skipped")
    titles += ("for answer 1", "seconds a vote")
    rows = [
        (
            *_count_cells(one.rater, one.counts),
            _share(one.num_left, one.num_left + one.num_right),
            f"{one.seconds_per_vote:.1f}",
        )
        for one in found.raters
    ]
    if len(rows) > 1:
        num_left = sum(one.num_left for one in found.raters)
        num_decided = num_left + sum(one.num_right for one in found.raters)
        rows.append(
            (*_count_cells("all", found.counts), _share(num_left, num_decided), f"{found.seconds_per_vote:.1f}")
        )
    print_table(titles, rows)


def _count_cells(rater: str, counts: VoteCounts) -> tuple[str, ...]:
    numbers = (counts.num_votes, counts.num_challenger, counts.num_baseline)
    numbers += (counts.num_ties, counts.num_both_bad, counts.num_skipped)
    return (rater, *map(str, numbers))


def _share(number: int, total: int) -> str:
    """Votes for the answer that was shown first, of those for either."""
    return f"{100 * number / total:.0f} %" if total else "-"


def _notes(found: Tally, poll: Poll) -> list[str]:
    notes = []
    if found.agreement is not None:
        alpha = found.agreement
        notes.append(
            f"Agreement on the {found.num_shared} examples with votes of two people or more: Krippendorff's alpha"
            f" {alpha.estimate:.2f} (95 % interval {alpha.low:.2f} to {alpha.high:.2f}; 1: always, 0: as chance would have it)."
        )
    elif len(found.raters) > 1:
        notes.append(
            "Nothing can be said of agreement: "
            + ("all votes say the same." if found.num_shared else "no example has votes of two people.")
        )
    if found.num_outdated:
        notes.append(
            f"{found.num_outdated} votes are not counted: they are about answers that have changed since, or examples that are not"
            " asked about."
        )
    if found.win_rate is not None and not poll.has_clusters:
        notes.append(
            "An older Fettle wrote this report and did not keep which examples belong together: the interval takes each for itself."
        )
    return notes
